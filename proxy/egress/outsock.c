/* SPDX-License-Identifier: ISC */
#include "egress/outsock.h"

#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "egress/hostclock.h"
#include "egress/strangers.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

/* Slots tried in one call. A wrong guess costs some 2 us. */
#define TRIES_PER_CALL 16

/* How long a port that a stranger holds is left alone. */
#define PORT_REST_MS 60000

/* One range connect in so many is checked against getsockname(): the kernel
 * ignores a port outside ip_local_port_range, which may change at any time. */
#define SAMPLE_EVERY 256

#define IGNORED_LOG_MS 60000

/* Between two looks at all sockets of the host for a stranger. */
#define LOOK_EVERY_MS 1000

void
outsock_init(struct outsock *o)
{
	*o = (struct outsock){ .fd = -1 };
	o->lease.record = UINT32_MAX;
	o->ticket.cell = UINT32_MAX;
}

/* Whatever gave a slot back may have granted it to somebody. */
static void
wake_granted(struct egress *e)
{
	uint64_t workers[LEDGER_WAKE_WORDS];

	if (!ledger_take_wakes(e->ledger, workers) || e->wake == NULL)
		return;
	for (unsigned i = 0; i < LEDGER_WAKE_WORDS; i++) {
		for (; workers[i] != 0; workers[i] &= workers[i] - 1)
			e->wake(e->wake_arg,
			    (uint8_t)(i * 64 +
				      (unsigned)__builtin_ctzll(workers[i])));
	}
}

static void
return_lease(struct outsock *o, struct egress *e, enum ledger_release how,
    uint64_t now_ms)
{
	ledger_return(e->ledger, &o->lease, how, now_ms);
	wake_granted(e);
}

static bool
has_lease(const struct outsock *o)
{
	return o->lease.record != UINT32_MAX;
}

void
outsock_set_abortive(int fd, bool abortive)
{
	struct linger l = { .l_onoff = abortive, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static bool
is_by_route(const struct addr *source)
{
	return addr_is_unspecified_ip(source);
}

static int
set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0
		   ? 0
		   : -errno;
}

static int
set_range(int fd, uint16_t port)
{
	uint32_t range = (uint32_t)port | (uint32_t)port << 16;

	return set_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (int)range);
}

static int
bind_to(int fd, const struct addr *source, uint16_t port)
{
	struct addr a = *source;
	struct sockaddr_storage ss;
	socklen_t len;

	a.port = port;
	len = addr_to_sockaddr(&a, &ss);
	if (a.family == ADDR_V6)
		(void)set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
	return bind(fd, (struct sockaddr *)&ss, len) == 0 ? 0 : -errno;
}

/* -ENOMEM also where the kernel says ENOBUFS or EAGAIN: those mean something
 * else here. */
static int
connect_to(int fd, const struct addr *target)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(target, &ss);

	if (connect(fd, (struct sockaddr *)&ss, len) == 0 ||
	    errno == EINPROGRESS)
		return 0;
	return errno == ENOBUFS || errno == EAGAIN ? -ENOMEM : -errno;
}

/* Everything of a bind but the range, which a retry on the same socket sets
 * anew. */
static int
bind_source(int fd, const struct ledger_lease *lease)
{
	const struct addr *source = &lease->source;
	int error;

	if (lease->bind == POOL_EXPLICIT) {
		error = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (error == 0)
			error = bind_to(fd, source, source->port);
		return error == -EADDRNOTAVAIL ? -ENXIO : error;
	}
	if (is_by_route(source))
		return 0;
	error = set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (error == 0)
		error = bind_to(fd, source, 0);
	/* No port is asked for, so it is the address that is not to be had;
	 * from connect() the same errno is about the port. */
	return error == -EADDRNOTAVAIL ? -ENXIO : error;
}

static int
open_socket(const struct addr *target, int *out)
{
	int fd = socket(addr_domain(target),
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fd < 0)
		return errno == ENFILE ? -EMFILE : -errno;
	outsock_set_abortive(fd, true);
	*out = fd;
	return 0;
}

/* Where probes go: nobody listens on these, and different workers begin with
 * different ones. */
#define PROBE_PORTS 6
#define PROBE_TRIES 3

/* A range connect from the leased port to `port` of the same address: it stays
 * on this host. */
static bool
probe_fails(
    const struct ledger_lease *lease, const struct addr *target, uint16_t port)
{
	struct addr probe = lease->source;
	bool fails = false;
	int fd;

	if (is_by_route(&probe))
		probe = target->family == ADDR_V6
			    ? addr_from_bytes(ADDR_V6, &in6addr_loopback, 0)
			    : addr_v4(INADDR_LOOPBACK, 0);
	if (open_socket(target, &fd) != 0)
		return false;
	probe.port = port;
	if (bind_source(fd, lease) == 0 &&
	    set_range(fd, lease->source.port) == 0)
		fails = connect_to(fd, &probe) == -EADDRNOTAVAIL;
	close(fd);
	return fails;
}

/*
 * Is the whole port of `source` blocked, or was only the tuple taken? A probe
 * fails with EADDRNOTAVAIL when somebody's bind or listen blocks the port, or
 * when another worker's probe has the same tuple at this moment: so it is
 * repeated with others.
 */
static bool
port_is_blocked(
    const struct ledger_lease *lease, const struct addr *target, uint8_t worker)
{
	for (unsigned i = 0; i < PROBE_TRIES; i++) {
		unsigned port =
		    1 + (worker + i * (1 + worker % 2)) % PROBE_PORTS;

		if (!probe_fails(lease, target, (uint16_t)port))
			return false;
	}
	return true;
}

/* Who it is, as far as it costs a worker little. */
static void
log_stranger(
    struct egress *e, const struct ledger_lease *lease, uint64_t now_ms)
{
	bool look = e->looked_ms == 0 || now_ms - e->looked_ms >= LOOK_EVERY_MS;
	struct stranger s;

	if (look)
		e->looked_ms = now_ms;
	if (strangers_find(&lease->source, lease->bind == POOL_RANGE,
		look ? STRANGERS_LOOK_MAX : 0, &s) != 0) {
		log_text(e->log, "stranger", "unknown");
		return;
	}
	log_addr(e->log, "stranger", &s.local);
	log_text(e->log, "stranger_state", stranger_state_name(s.state));
	log_number(e->log, "stranger_uid", s.uid);
}

static void
rest_port(struct egress *e, const struct ledger_lease *lease, uint64_t now_ms)
{
	uint16_t port = lease->source.port;

	e->ports_blocked++;
	if (!ledger_rest_port(e->ledger, port, now_ms, now_ms + PORT_REST_MS))
		return;
	log_begin(e->log, LOG_LEVEL_WARNING, "port_blocked");
	log_number(e->log, "port", port);
	log_number(e->log, "rest_s", PORT_REST_MS / 1000);
	log_stranger(e, lease, now_ms);
	log_text(e->log, "msg",
	    "another program has bound or listens on this port of the pool: "
	    "fourfold check names it");
	log_end(e->log);
}

/* The kernel refused the slot. Learns why and gives the lease back. */
static void
refused_slot(struct outsock *o, struct egress *e, const struct addr *target,
    uint8_t worker, int error, uint64_t now_ms)
{
	bool blocked = error == -EADDRINUSE;

	if (!blocked && o->lease.bind == POOL_RANGE)
		blocked = port_is_blocked(&o->lease, target, worker);
	if (blocked)
		rest_port(e, &o->lease, now_ms);
	else
		e->tuples_taken++;
	return_lease(o, e, LEDGER_REFUSED, now_ms);
}

/* Can the socket of the last try serve this lease, too? Only what a range
 * bind has fixed is the address. */
static bool
fits(const struct outsock *o, const struct addr *target)
{
	return o->fd != -1 && o->lease.bind == POOL_RANGE &&
	       o->source.family == target->family &&
	       addr_equal_ip(&o->source, &o->lease.source);
}

static int
try_slot(struct outsock *o, struct egress *e, const struct addr *target)
{
	int error = 0;

	if (!fits(o, target)) {
		if (o->fd != -1)
			close(o->fd);
		o->fd = -1;
		error = open_socket(target, &o->fd);
		if (error == 0)
			error = bind_source(o->fd, &o->lease);
	}
	o->source = o->lease.source;
	if (error == 0 && o->lease.bind == POOL_RANGE)
		error = set_range(o->fd, o->lease.source.port);
	if (error == 0) {
		e->connects++;
		error = connect_to(o->fd, target);
	}
	if (error != 0 && o->lease.bind == POOL_EXPLICIT && o->fd != -1) {
		close(o->fd);
		o->fd = -1;
	}
	return error;
}

/* Connects with the lease at hand. -EAGAIN: the kernel refused the slot, which
 * was given back. */
static int
use_lease(struct outsock *o, struct egress *e, const struct addr *target,
    uint8_t worker, uint64_t now_ms)
{
	int error;

	/* Not the pass's time, which is from before. */
	o->since_epoch_ms = clock_ms(CLOCK_REALTIME);
	error = try_slot(o, e, target);
	if (error != -EADDRNOTAVAIL && error != -EADDRINUSE)
		return error;
	/* The kernel has looked at all ports. */
	if (o->lease.bind == POOL_KERNEL)
		return -EADDRNOTAVAIL;
	refused_slot(o, e, target, worker, error, now_ms);
	return -EAGAIN;
}

/* What cannot be mended by another try leaves nothing. */
static int
result_of(struct outsock *o, struct egress *e, int error, uint64_t now_ms)
{
	if (error != 0 && error != -EAGAIN && error != -EINPROGRESS)
		outsock_close(o, e, OUTSOCK_RESET, now_ms);
	return error;
}

/* Nothing of what it did is to be told. */
static void
forget_use(struct outsock *o)
{
	o->until_epoch_ms = 0;
	if (o->fd == -1)
		o->source = (struct addr){ .family = ADDR_NONE };
}

int
outsock_open(struct outsock *o, struct egress *e, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms)
{
	int error = -EAGAIN;

	forget_use(o);
	for (int tries = 0; tries < TRIES_PER_CALL && error == -EAGAIN;
	     tries++) {
		error = ledger_lease(
		    e->ledger, pool, target, holder, now_ms, &o->lease);
		if (error == 0)
			error = use_lease(o, e, target, holder->worker, now_ms);
	}
	return result_of(o, e, error, now_ms);
}

int
outsock_queue(struct outsock *o, struct egress *e, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint32_t queue, uint64_t now_ms)
{
	int error;

	forget_use(o);
	error = ledger_queue(e->ledger, pool, target, holder, queue, now_ms,
	    &o->ticket, &o->lease);
	wake_granted(e);
	if (error == 0)
		error = use_lease(o, e, target, holder->worker, now_ms);
	return result_of(o, e, error, now_ms);
}

bool
outsock_is_granted(const struct outsock *o, const struct egress *e)
{
	return ledger_is_granted(e->ledger, &o->ticket);
}

int
outsock_claim(struct outsock *o, struct egress *e, const struct addr *target,
    const struct ledger_holder *holder, uint64_t now_ms)
{
	int error = ledger_claim(e->ledger, &o->ticket, now_ms, &o->lease);

	/* The grant was taken back, since its giver has died. The caller begins
	 * anew, and what it left in the queue nobody would claim. */
	if (error == -EAGAIN)
		ledger_cancel(e->ledger, &o->ticket, now_ms);
	wake_granted(e);
	if (error == -ENOENT)
		error = -EAGAIN;
	else if (error == 0)
		error = use_lease(o, e, target, holder->worker, now_ms);
	return result_of(o, e, error, now_ms);
}

void
outsock_serve(struct egress *e, uint64_t now_ms)
{
	ledger_serve(e->ledger, now_ms);
	wake_granted(e);
}

static bool
wants_look(struct outsock *o, struct egress *e)
{
	uint16_t port = o->lease.source.port;
	uint8_t bit = (uint8_t)(1u << (port & 7));

	if (is_by_route(&o->lease.source) || o->lease.bind == POOL_KERNEL)
		return true;
	if (o->lease.bind != POOL_RANGE)
		return false;
	if (e->port_seen[port >> 3] & bit)
		return ++e->sample % SAMPLE_EVERY == 0;
	e->port_seen[port >> 3] |= bit;
	return true;
}

static void
port_was_ignored(struct outsock *o, struct egress *e, uint64_t now_ms)
{
	if (e->ignored_logged_ms != 0 &&
	    now_ms - e->ignored_logged_ms < IGNORED_LOG_MS)
		return;
	e->ignored_logged_ms = now_ms;
	log_begin(e->log, LOG_LEVEL_WARNING, "port_ignored");
	log_number(e->log, "asked", o->lease.source.port);
	log_addr(e->log, "got", &o->source);
	log_text(e->log, "msg",
	    "net.ipv4.ip_local_port_range has changed and does not hold this "
	    "port any more: set it back, or reload");
	log_end(e->log);
}

static bool
read_source(struct outsock *o)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr source;

	if (getsockname(o->fd, (struct sockaddr *)&ss, &len) != 0 ||
	    addr_from_sockaddr((struct sockaddr *)&ss, &source) != 0 ||
	    source.port == 0)
		return false;
	o->source = source;
	return true;
}

void
outsock_connected(struct outsock *o, struct egress *e, uint64_t now_ms)
{
	uint16_t asked = o->lease.source.port;

	if (!wants_look(o, e) || !read_source(o))
		return;
	if (o->lease.bind == POOL_RANGE && o->source.port != asked)
		port_was_ignored(o, e, now_ms);
	if (is_by_route(&o->lease.source) || o->source.port != asked)
		ledger_name_source(e->ledger, &o->lease, &o->source);
}

static bool
get_info(int fd, struct tcp_info *out)
{
	socklen_t len = sizeof(*out);

	*out = (struct tcp_info){ 0 };
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, out, &len) == 0;
}

/* Did both ends agree on timestamps, so that TIME_WAIT may be taken over? */
static bool
has_timestamps(int fd)
{
	struct tcp_info info;

	return get_info(fd, &info) &&
	       (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
}

/* Has the kernel both ends, and so holds the tuple in TIME_WAIT? */
static bool
is_time_wait(int fd)
{
	struct tcp_info info;
	int error = 0;
	socklen_t len = sizeof(error);

	if (!get_info(fd, &info) || info.tcpi_state != TCP_CLOSE)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	       error == 0;
}

static enum ledger_release
release_of(
    const struct outsock *o, const struct egress *e, enum outsock_end how)
{
	if (how == OUTSOCK_RESET ||
	    (how == OUTSOCK_RESET_LATE && !is_time_wait(o->fd)))
		return LEDGER_HOT;
	if (how == OUTSOCK_TARGET_FIRST)
		return LEDGER_BRIEF;
	if (e->tw_reuse == 1 && has_timestamps(o->fd))
		return LEDGER_REUSABLE;
	/* The kernel's default, 2, is for loopback only. The target is on
	 * loopback when what it sees of us is. */
	if (e->tw_reuse == 2 && addr_is_loopback(&o->source) &&
	    has_timestamps(o->fd))
		return LEDGER_REUSABLE;
	return LEDGER_LONG;
}

/* What the log is to say of a lease that is about to be given back. */
static void
note_use(struct outsock *o)
{
	if (o->fd != -1 && (is_by_route(&o->source) || o->source.port == 0))
		(void)read_source(o);
	if (o->source.port != 0)
		o->until_epoch_ms = clock_ms(CLOCK_REALTIME);
}

void
outsock_close(
    struct outsock *o, struct egress *e, enum outsock_end how, uint64_t now_ms)
{
	enum ledger_release release = LEDGER_HOT;

	if (has_lease(o))
		note_use(o);
	if (o->fd != -1) {
		if (has_lease(o))
			release = release_of(o, e, how);
		if (how != OUTSOCK_RESET && how != OUTSOCK_RESET_LATE)
			outsock_set_abortive(o->fd, false);
		close(o->fd);
	}
	if (o->ticket.cell != UINT32_MAX) {
		ledger_cancel(e->ledger, &o->ticket, now_ms);
		wake_granted(e);
	}
	if (has_lease(o))
		return_lease(o, e, release, now_ms);
	o->fd = -1;
	o->lease.record = UINT32_MAX;
	o->ticket.cell = UINT32_MAX;
	if (o->until_epoch_ms == 0)
		forget_use(o);
}

void
outsock_move(struct outsock *to, struct outsock *from)
{
	must(to->fd == -1 && !has_lease(to));
	*to = *from;
	outsock_init(from);
}
