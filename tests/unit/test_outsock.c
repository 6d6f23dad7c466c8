/* SPDX-License-Identifier: ISC */
/*
 * Each in a network namespace of its own, where nobody else has the ports and
 * targets can be outside their range. In the child that runs there must() says
 * what did not hold.
 */
#include <sys/mman.h>
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "egress/ledger_read.h"
#include "egress/outsock.h"
#include "egress/preflight.h"
#include "ledger_fixture.h"
#include "netns.h"
#include "pairs.h"

#define NOW_MS 1000000

#define SYSCTL(value, name) "echo " value " > /proc/sys/net/ipv4/" name
#define PORTS               SYSCTL("40000 40099", "ip_local_port_range")

struct bench {
	struct egress e;
	struct log log;
	struct ledger_holder holder;
};

struct bench_target {
	struct addr addr;
	int listener;
};

static void
run(const char *const *setup, int (*body)(void))
{
	int result = netns_run(setup, body);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	cr_expect_eq(result, 0, "see the broken invariant above");
}

static void
run_with_range(const char *const *setup, int (*body)(void))
{
	struct preflight_host host;

	preflight_read(&host);
	if (!host.range_option)
		cr_skip_test("this kernel has no IP_LOCAL_PORT_RANGE");
	run(setup, body);
}

static struct bench *
bench_new(const char *source, uint16_t first, uint16_t last, int bind)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct pool p;

	must(b != NULL);
	log_init(&b->log, memfd_create("log", 0), LOG_LEVEL_INFO, LOG_PLAIN);
	b->e.log = &b->log;
	b->e.ledger = fixture_ledger(1024, 1024);
	b->holder.worker = 1;
	pool_init(&p, "test");
	fixture_add(&p, source);
	if (bind == POOL_KERNEL)
		p.by_kernel = true;
	else
		must(
		    pool_add_ports(&p, first, last, (enum pool_bind)bind) == 0);
	must(ledger_set_pool(b->e.ledger, 0, &p) == 0);
	return b;
}

static struct bench_target
listening(const char *ip)
{
	struct bench_target t = { fixture_at(ip), -1 };

	t.listener = pairs_listen(&t.addr);
	must(t.listener >= 0);
	return t;
}

static int
open_to(struct bench *b, const struct bench_target *t, struct outsock *o)
{
	outsock_init(o);
	return outsock_open(o, &b->e, 0, &t->addr, &b->holder, NOW_MS);
}

/* Until connected, as the dialer does; `seen` is what the target sees. */
static void
connected(struct bench *b, const struct bench_target *t, struct outsock *o,
    struct addr *seen)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd;

	must(pairs_wait(o->fd, POLLOUT));
	outsock_connected(o, &b->e, NOW_MS);
	fd = accept(t->listener, (struct sockaddr *)&ss, &len);
	must(fd >= 0);
	must(addr_from_sockaddr((struct sockaddr *)&ss, seen) == 0);
	close(fd);
}

static bool
is_source(const struct outsock *o, const char *at)
{
	struct addr a = fixture_at(at);

	return addr_equal(&o->source, &a);
}

static bool
is_empty(const struct outsock *o)
{
	return o->fd == -1 && o->lease.record == UINT32_MAX;
}

static uint64_t
leases_held(const struct bench *b)
{
	struct ledger_totals totals;

	ledger_totals(b->e.ledger, &totals);
	return totals.held;
}

static unsigned
times_logged(struct bench *b, const char *words)
{
	char text[8192];
	unsigned n = 0;
	ssize_t len;

	log_flush(&b->log);
	len = pread(b->log.fd, text, sizeof(text) - 1, 0);
	must(len >= 0);
	text[len] = '\0';
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		n++;
	return n;
}

/* ---- the three ways ---- */

static int
shares_ports(int bind)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40000, bind);
	struct bench_target t1 = listening("127.0.0.1:80");
	struct bench_target t2 = listening("127.0.0.2:80");
	struct outsock o1, o2, o3;
	struct addr seen1, seen2;
	struct linger linger;
	socklen_t len = sizeof(linger);

	must(open_to(b, &t1, &o1) == 0);
	must(open_to(b, &t2, &o2) == 0);
	must(is_source(&o1, "127.0.0.1:40000"));
	connected(b, &t1, &o1, &seen1);
	connected(b, &t2, &o2, &seen2);
	must(is_source(&o1, "127.0.0.1:40000") && addr_equal(&seen1, &seen2));
	must(addr_equal(&seen1, &o1.source));
	must(fcntl(o1.fd, F_GETFL) & O_NONBLOCK);
	must(fcntl(o1.fd, F_GETFD) & FD_CLOEXEC);
	must(getsockopt(o1.fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0);
	must(linger.l_onoff && linger.l_linger == 0);
	/* The ledger says full; the kernel is not asked. */
	must(b->e.connects == 2);
	must(open_to(b, &t1, &o3) == -EADDRINUSE && is_empty(&o3));
	must(b->e.connects == 2 && b->e.tuples_taken == 0);
	outsock_close(&o1, &b->e, OUTSOCK_RESET, NOW_MS);
	must(open_to(b, &t1, &o3) == 0);
	outsock_close(&o3, &b->e, OUTSOCK_RESET, NOW_MS);
	outsock_close(&o3, &b->e, OUTSOCK_RESET, NOW_MS);
	outsock_close(&o2, &b->e, OUTSOCK_RESET, NOW_MS);
	must(is_empty(&o2) && leases_held(b) == 0);
	return 0;
}

static int
range_shares_ports(void)
{
	return shares_ports(POOL_RANGE);
}

static int
explicit_shares_ports(void)
{
	return shares_ports(POOL_EXPLICIT);
}

Test(outsock, range_gives_one_port_to_many_targets)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, range_shares_ports);
}

Test(outsock, explicit_gives_one_port_to_many_targets)
{
	static const char *const setup[] = { PORTS, NULL };

	run(setup, explicit_shares_ports);
}

static int
kernel_chooses(void)
{
	struct bench *b = bench_new("127.0.0.1", 0, 0, POOL_KERNEL);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o1, o2, o3;
	struct addr seen;

	/* Two ports are all the host has. */
	must(open_to(b, &t, &o1) == 0);
	connected(b, &t, &o1, &seen);
	must(addr_equal(&seen, &o1.source));
	must(open_to(b, &t, &o2) == 0);
	must(open_to(b, &t, &o3) == -EADDRNOTAVAIL && is_empty(&o3));
	outsock_close(&o1, &b->e, OUTSOCK_RESET, NOW_MS);
	outsock_close(&o2, &b->e, OUTSOCK_RESET, NOW_MS);
	must(leases_held(b) == 0);
	return 0;
}

Test(outsock, the_kernel_chooses_when_it_is_asked_to)
{
	static const char *const setup[] = {
		SYSCTL("40000 40001", "ip_local_port_range"), NULL
	};

	run(setup, kernel_chooses);
}

static void
note_source(void *arg, const struct ledger_record_row *row)
{
	*(struct addr *)arg = row->source;
}

static int
goes_by_route(void)
{
	struct bench *b = bench_new("0.0.0.0", 40000, 40000, POOL_RANGE);
	struct bench_target t = listening("192.0.2.10:80");
	struct outsock o;
	struct addr seen, told = { 0 };

	must(open_to(b, &t, &o) == 0);
	connected(b, &t, &o, &seen);
	must(is_source(&o, "192.0.2.10:40000"));
	must(addr_equal(&seen, &o.source));
	ledger_each_record(b->e.ledger, NOW_MS, note_source, &told);
	must(addr_equal(&told, &o.source));
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	return 0;
}

Test(outsock, by_route_the_source_is_known_once_connected)
{
	static const char *const setup[] = { PORTS,
		"ip address add 192.0.2.10/32 dev lo", NULL };

	run_with_range(setup, goes_by_route);
}

static int
goes_by_ipv6(void)
{
	struct bench *b = bench_new("::1", 40000, 40000, POOL_RANGE);
	struct bench_target t = listening("[::1]:80");
	struct bench_target v4 = listening("127.0.0.1:80");
	struct outsock o;
	struct addr seen;

	must(open_to(b, &t, &o) == 0);
	connected(b, &t, &o, &seen);
	must(is_source(&o, "[::1]:40000") && addr_equal(&seen, &o.source));
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	must(open_to(b, &v4, &o) == -EAFNOSUPPORT && is_empty(&o));
	return 0;
}

Test(outsock, ipv6_is_the_same)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, goes_by_ipv6);
}

/* ---- what is in the way ---- */

static int
address_is_foreign(void)
{
	static const int binds[] = { POOL_RANGE, POOL_EXPLICIT, POOL_KERNEL };
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o;

	for (size_t i = 0; i < ARRAY_LEN(binds); i++) {
		struct bench *b =
		    bench_new("192.0.2.1", 40000, 40009, binds[i]);

		must(open_to(b, &t, &o) == -ENXIO && is_empty(&o));
		must(b->e.connects == 0 && leases_held(b) == 0);
		must(b->e.tuples_taken == 0 && b->e.ports_blocked == 0);
	}
	return 0;
}

Test(outsock, a_source_that_is_not_ours_is_said_to_be_so)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, address_is_foreign);
}

static int
kernel_has_no_way(void)
{
	struct bench *b = bench_new("0.0.0.0", 40000, 40009, POOL_RANGE);
	struct bench_target t = { fixture_at("192.0.2.1:80"), -1 };
	struct outsock o;

	must(open_to(b, &t, &o) == -ENETUNREACH && is_empty(&o));
	outsock_init(&o);
	must(
	    outsock_open(&o, &b->e, 9, &t.addr, &b->holder, NOW_MS) == -ENOENT);
	must(is_empty(&o) && leases_held(b) == 0);
	return 0;
}

Test(outsock, what_connect_and_ledger_say_is_handed_on)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, kernel_has_no_way);
}

static int
descriptors_ran_out(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40009, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct rlimit none = { 0, 0 };
	struct outsock o;

	must(setrlimit(RLIMIT_NOFILE, &none) == 0);
	must(open_to(b, &t, &o) == -EMFILE && is_empty(&o));
	must(leases_held(b) == 0);
	return 0;
}

Test(outsock, without_descriptors_nothing_is_leased)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, descriptors_ran_out);
}

/* A stranger's connection from that port, by an outsock with a ledger of its
 * own. */
static void
stranger_takes(const struct bench_target *t, uint16_t first, uint16_t last)
{
	struct bench *b = bench_new("127.0.0.1", first, last, POOL_RANGE);
	struct outsock o;

	for (unsigned port = first; port <= last; port++)
		must(open_to(b, t, &o) == 0);
}

static int
tuple_is_taken(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40001, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct bench_target other = listening("127.0.0.2:80");
	struct outsock o;

	stranger_takes(&t, 40000, 40000);
	must(open_to(b, &t, &o) == 0);
	must(is_source(&o, "127.0.0.1:40001"));
	must(b->e.tuples_taken == 1 && b->e.ports_blocked == 0);
	must(b->e.connects == 2 && leases_held(b) == 1);
	must(times_logged(b, "event=port_blocked") == 0);
	must(open_to(b, &other, &o) == 0);
	must(is_source(&o, "127.0.0.1:40000"));
	return 0;
}

Test(outsock, a_taken_tuple_costs_this_target_a_slot)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, tuple_is_taken);
}

static int
port_is_blocked(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40001, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct bench_target other = listening("127.0.0.2:80");
	struct bench_target stranger = listening("127.0.0.1:40000");
	struct outsock o;

	must(open_to(b, &t, &o) == 0);
	must(is_source(&o, "127.0.0.1:40001"));
	must(b->e.ports_blocked == 1 && b->e.tuples_taken == 0);
	must(times_logged(b, "event=port_blocked") == 1);
	must(times_logged(b, "port=40000") == 1);
	must(times_logged(b, "stranger=127.0.0.1:40000") == 1);
	must(times_logged(b, "stranger_state=listens") == 1);
	/* It rests for all targets, and comes back. */
	must(open_to(b, &other, &o) == 0);
	must(is_source(&o, "127.0.0.1:40001"));
	must(b->e.ports_blocked == 1 && b->e.connects == 3);
	/* Blocked still: that is known. */
	other = listening("127.0.0.4:80");
	outsock_init(&o);
	must(outsock_open(&o, &b->e, 0, &other.addr, &b->holder,
		 NOW_MS + 61 * 1000) == 0);
	must(is_source(&o, "127.0.0.1:40001"));
	must(b->e.ports_blocked == 2);
	must(times_logged(b, "event=port_blocked") == 1);
	close(stranger.listener);
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	outsock_init(&o);
	other = listening("127.0.0.3:80");
	must(outsock_open(&o, &b->e, 0, &other.addr, &b->holder,
		 NOW_MS + 3600 * 1000) == 0);
	must(is_source(&o, "127.0.0.1:40000"));
	return 0;
}

Test(outsock, a_blocked_port_rests_for_all_targets)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, port_is_blocked);
}

static int
explicit_is_blocked(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40001, POOL_EXPLICIT);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o;

	listening("127.0.0.1:40000");
	must(open_to(b, &t, &o) == 0);
	must(is_source(&o, "127.0.0.1:40001"));
	must(b->e.ports_blocked == 1 && b->e.tuples_taken == 0);
	must(times_logged(b, "port=40000") == 1);
	return 0;
}

Test(outsock, a_port_that_cannot_be_bound_rests)
{
	static const char *const setup[] = { PORTS, NULL };

	run(setup, explicit_is_blocked);
}

static int
all_are_taken(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40019, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o;
	int fds = pairs_open_fds();

	stranger_takes(&t, 40000, 40019);
	fds = pairs_open_fds();
	/* A call's share, and the socket is kept for the rest. */
	must(open_to(b, &t, &o) == -EAGAIN);
	must(b->e.connects == 16 && o.fd != -1);
	must(outsock_open(&o, &b->e, 0, &t.addr, &b->holder, NOW_MS) ==
	     -EADDRINUSE);
	must(b->e.connects == 20 && b->e.tuples_taken == 20);
	must(is_empty(&o) && leases_held(b) == 0);
	must(pairs_open_fds() == fds);
	/* And it may be given up in between. */
	b->e.connects = 0;
	outsock_init(&o);
	must(outsock_open(&o, &b->e, 0, &t.addr, &b->holder,
		 NOW_MS + LEDGER_BRIEF_MS) == -EAGAIN);
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	must(is_empty(&o) && pairs_open_fds() == fds);
	return 0;
}

Test(outsock, slots_are_tried_in_shares_until_the_ledger_says_full)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, all_are_taken);
}

/* Whoever granted died in it, and the mending took the grant back. */
static int
grant_is_taken_back(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40000, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct ledger_totals totals;
	struct outsock o1, o2;

	must(open_to(b, &t, &o1) == 0);
	outsock_init(&o2);
	must(outsock_queue(&o2, &b->e, 0, &t.addr, &b->holder, 1, NOW_MS) ==
	     -EINPROGRESS);
	must(outsock_claim(&o2, &b->e, &t.addr, &b->holder, NOW_MS) == -EAGAIN);
	ledger_totals(b->e.ledger, &totals);
	must(totals.waiting == 0);
	outsock_close(&o1, &b->e, OUTSOCK_RESET, NOW_MS);
	must(outsock_open(&o2, &b->e, 0, &t.addr, &b->holder, NOW_MS) == 0);
	outsock_close(&o2, &b->e, OUTSOCK_RESET, NOW_MS);
	must(is_empty(&o2) && leases_held(b) == 0);
	return 0;
}

Test(outsock, a_claim_of_nothing_leaves_nobody_in_the_queue)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, grant_is_taken_back);
}

/* The range is elsewhere now: the kernel ignores our port in silence. */
static int
port_is_ignored(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40000, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o;
	struct addr seen;

	must(open_to(b, &t, &o) == 0);
	connected(b, &t, &o, &seen);
	must(addr_equal(&seen, &o.source) && seen.port >= 50000);
	must(times_logged(b, "event=port_ignored") == 1);
	must(times_logged(b, "asked=40000") == 1);
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	return 0;
}

Test(outsock, a_port_that_the_kernel_ignores_is_noticed_at_its_first_use)
{
	static const char *const setup[] = {
		SYSCTL("50000 50099", "ip_local_port_range"), NULL
	};

	run_with_range(setup, port_is_ignored);
}

static int
ignored_later(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40000, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock o;
	struct addr seen;
	unsigned tries = 0;

	for (; tries < 1000; tries++) {
		must(open_to(b, &t, &o) == 0);
		connected(b, &t, &o, &seen);
		if (tries == 0)
			must(system(SYSCTL(
				 "50000 50099", "ip_local_port_range")) == 0);
		else if (!is_source(&o, "127.0.0.1:40000"))
			break;
		outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	}
	must(tries == 256);
	must(times_logged(b, "event=port_ignored") == 1);
	outsock_close(&o, &b->e, OUTSOCK_RESET, NOW_MS);
	return 0;
}

Test(outsock, and_later_by_samples)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, ignored_later);
}

/* ---- the end ---- */

/* How long the slot of a connection that ended so is not to be had. */
static uint64_t
rest_of(const char *source, const char *at, enum outsock_end how, int tw_reuse)
{
	static const uint64_t times[] = { 0, LEDGER_BRIEF_MS, LEDGER_LONG_MS };
	struct bench *b = bench_new(source, 40000, 40000, POOL_RANGE);
	struct bench_target t = listening(at);
	struct ledger_target entry;
	struct outsock o;
	struct addr seen;
	size_t i;

	b->e.tw_reuse = tw_reuse;
	must(open_to(b, &t, &o) == 0);
	connected(b, &t, &o, &seen);
	outsock_close(&o, &b->e, how, NOW_MS);
	for (i = 0; i < ARRAY_LEN(times); i++) {
		ledger_target(
		    b->e.ledger, 0, &t.addr, NOW_MS + times[i], &entry);
		must(entry.held == 0);
		if (entry.cooling == 0)
			break;
	}
	must(i < ARRAY_LEN(times));
	close(t.listener);
	return times[i];
}

static int
ends_are_classed(void)
{
	static const char lo[] = "127.0.0.1", at_lo[] = "127.0.0.2:80";
	static const char ip[] = "192.0.2.10", at_ip[] = "192.0.2.10:80";

	must(rest_of(lo, at_lo, OUTSOCK_RESET, 0) == 0);
	/* Neither side has said anything. */
	must(rest_of(lo, at_lo, OUTSOCK_RESET_LATE, 0) == 0);
	must(rest_of(lo, at_lo, OUTSOCK_TARGET_FIRST, 0) == LEDGER_BRIEF_MS);
	must(rest_of(lo, at_lo, OUTSOCK_WE_FIRST, 0) == LEDGER_LONG_MS);
	must(rest_of(lo, at_lo, OUTSOCK_WE_FIRST, 1) == LEDGER_BRIEF_MS);
	must(rest_of(lo, at_lo, OUTSOCK_WE_FIRST, 2) == LEDGER_BRIEF_MS);
	must(rest_of(ip, at_ip, OUTSOCK_WE_FIRST, 1) == LEDGER_BRIEF_MS);
	must(rest_of(ip, at_ip, OUTSOCK_WE_FIRST, 2) == LEDGER_LONG_MS);
	must(rest_of(ip, at_ip, OUTSOCK_RESET, 2) == 0);
	return 0;
}

static int
without_timestamps(void)
{
	static const char lo[] = "127.0.0.1", at[] = "127.0.0.2:80";

	must(rest_of(lo, at, OUTSOCK_WE_FIRST, 1) == LEDGER_LONG_MS);
	must(rest_of(lo, at, OUTSOCK_WE_FIRST, 2) == LEDGER_LONG_MS);
	must(rest_of(lo, at, OUTSOCK_TARGET_FIRST, 1) == LEDGER_BRIEF_MS);
	return 0;
}

Test(outsock, how_it_ended_decides_how_long_the_slot_rests)
{
	static const char *const setup[] = { PORTS,
		"ip address add 192.0.2.10/32 dev lo", NULL };
	static const char *const plain[] = { PORTS,
		SYSCTL("0", "tcp_timestamps"), NULL };

	run_with_range(setup, ends_are_classed);
	run_with_range(plain, without_timestamps);
}

static int
moves(void)
{
	struct bench *b = bench_new("127.0.0.1", 40000, 40009, POOL_RANGE);
	struct bench_target t = listening("127.0.0.1:80");
	struct outsock from, to;
	int fd;

	must(open_to(b, &t, &from) == 0);
	fd = from.fd;
	outsock_init(&to);
	outsock_move(&to, &from);
	must(is_empty(&from) && to.fd == fd);
	outsock_close(&from, &b->e, OUTSOCK_RESET, NOW_MS);
	must(leases_held(b) == 1);
	outsock_close(&to, &b->e, OUTSOCK_RESET, NOW_MS);
	must(leases_held(b) == 0 && fcntl(fd, F_GETFD) == -1);
	return 0;
}

Test(outsock, it_is_moved_as_one)
{
	static const char *const setup[] = { PORTS, NULL };

	run_with_range(setup, moves);
}
