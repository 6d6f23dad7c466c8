/* SPDX-License-Identifier: ISC */
/*
 * What it costs to get a source port, against the kernel: as a target fills up,
 * and as a port fills up.
 *
 * Each way has a network namespace of its own and fills it by itself, so that
 * it meets what it would meet alone. Timed is what leads to a connection, one
 * by one, in processor time: lease, socket(), its options, bind() and
 * connect(), which over loopback has done it all when it returns. What closes
 * it afterwards, what accepts it, and reading the clock are not in that. Ways
 * take turns; medians are shown.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_crew.h"
#include "bench_sample.h"
#include "egress/outsock.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define FIRST_PORT  32768
#define LAST_PORT   60999
#define PORTS       (LAST_PORT - FIRST_PORT + 1)
#define ONE_PORT    40000
#define TARGET_PORT 20000
#define BACKLOG     4096
#define CHUNK       1000U /* opened before somebody accepts */
#define MEMBERS     2U    /* that hold, and that accept */
#define MEMBER_MAX  15000U
#define ROUNDS      7
#define BATCH       100U /* of a round */

enum way {
	WAY_OURS,   /* the ledger, and what it says is bound */
	WAY_KERNEL, /* IP_BIND_ADDRESS_NO_PORT, bind(source, 0) */
	WAY_WINDOW, /* the same, and IP_LOCAL_PORT_RANGE over the pool */
};

struct lane {
	enum way way;
	enum pool_bind bind; /* ours */
	uint16_t first, last;
	bool many; /* targets: each socket has another */
	int ns, listener;
	struct egress egress;
	uint32_t held;
	double clock_us; /* what reading the clock takes */
	struct bench_crew holders, acceptors;
	struct bench_samples opening, closing;
};

/* A socket towards a target; of ours, with its lease. */
struct door {
	struct outsock out;
	int fd;
};

static void
write_sysctl(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		bench_die(path);
	close(fd);
}

static void
lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
		bench_die("lo");
	close(fd);
}

/* A namespace of the lane's own, and this process in it. */
static void
enter_new(struct lane *l)
{
	char range[32];

	if (unshare(CLONE_NEWNET) != 0)
		bench_die("no network namespace; run it by tests/bench/ports");
	lo_up();
	snprintf(range, sizeof(range), "%d %d", FIRST_PORT, LAST_PORT);
	write_sysctl("/proc/sys/net/ipv4/ip_local_port_range", range);
	write_sysctl("/proc/sys/net/core/somaxconn", "4096");
	l->ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (l->ns < 0)
		bench_die("namespace");
}

static void
enter(const struct lane *l)
{
	if (setns(l->ns, CLONE_NEWNET) != 0)
		bench_die("setns");
}

static void
open_listener(struct lane *l)
{
	struct addr any = addr_v4(0, TARGET_PORT);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&any, &ss);

	l->listener =
	    socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->listener < 0 ||
	    bind(l->listener, (struct sockaddr *)&ss, len) != 0 ||
	    listen(l->listener, BACKLOG) != 0)
		bench_die("listen");
}

static void
open_ledger(struct lane *l)
{
	static const uint8_t key[LEDGER_KEY_BYTES] = { 1 };
	uint32_t cells = 4 * PORTS;
	size_t bytes = ledger_bytes(cells, cells);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct prefix source;
	struct pool pool;

	if (memory == MAP_FAILED)
		bench_die("memory");
	l->egress.log = calloc(1, sizeof(*l->egress.log));
	must(l->egress.log != NULL);
	log_init(l->egress.log, STDERR_FILENO, LOG_LEVEL_WARNING, LOG_PLAIN);
	must(ledger_init(memory, cells, cells, key, &l->egress.ledger) == 0);
	pool_init(&pool, "bench");
	must(prefix_parse("127.0.0.1", &source) == 0);
	must(pool_add_source(&pool, &source) == 0);
	must(pool_add_ports(&pool, l->first, l->last, l->bind) == 0);
	must(ledger_set_pool(l->egress.ledger, 0, &pool) == 0);
}

static struct addr
target_of(const struct lane *l, uint32_t n)
{
	return l->many ? addr_v4(0x7f400000 + n, TARGET_PORT)
		       : addr_v4(0x7f000001, TARGET_PORT);
}

static int
set_option(int fd, int option, int value)
{
	return setsockopt(fd, IPPROTO_IP, option, &value, sizeof(value));
}

/* What is asked of the kernel without the ledger. */
static int
open_by_kernel(const struct lane *l, const struct addr *target)
{
	struct addr source = addr_v4(0x7f000001, 0);
	struct sockaddr_storage from, to;
	socklen_t from_len = addr_to_sockaddr(&source, &from);
	socklen_t to_len = addr_to_sockaddr(target, &to);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		bench_die("socket");
	outsock_set_abortive(fd, true);
	if (set_option(fd, IP_BIND_ADDRESS_NO_PORT, 1) != 0 ||
	    (l->way == WAY_WINDOW &&
		set_option(fd, IP_LOCAL_PORT_RANGE,
		    (int)(FIRST_PORT | (uint32_t)LAST_PORT << 16)) != 0) ||
	    bind(fd, (struct sockaddr *)&from, from_len) != 0)
		bench_die("bind");
	if (connect(fd, (struct sockaddr *)&to, to_len) == 0 ||
	    errno == EINPROGRESS)
		return fd;
	if (errno != EADDRNOTAVAIL)
		bench_die("connect");
	close(fd);
	return -1;
}

/* False when the target is full. */
static bool
open_door(struct lane *l, uint32_t n, struct door *d)
{
	const struct ledger_holder holder = { .session = n, .worker = 1 };
	struct addr target = target_of(l, n);
	int error;

	if (l->way != WAY_OURS) {
		d->fd = open_by_kernel(l, &target);
		return d->fd >= 0;
	}
	outsock_init(&d->out);
	error = outsock_open(&d->out, &l->egress, 0, &target, &holder, 1);
	d->fd = d->out.fd;
	if (error != 0 && error != -EADDRINUSE) {
		errno = -error;
		bench_die("outsock_open");
	}
	return error == 0;
}

static void
close_door(struct lane *l, struct door *d)
{
	if (l->way == WAY_OURS)
		outsock_close(&d->out, &l->egress, OUTSOCK_RESET, 1);
	else
		close(d->fd);
}

static void
expect_established(const struct door *d)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	must(getsockopt(d->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	must(info.tcpi_state == TCP_ESTABLISHED);
}

/* ---- those who hold and those who accept ---- */

/* Holder: `count` more, which stay open. */
static void
hold_more(void *arg, unsigned member, uint32_t count)
{
	struct lane *l = arg;

	for (uint32_t i = 0; i < count; i++) {
		struct door d;

		if (!open_door(l, member * MEMBER_MAX + l->held++, &d))
			bench_die("full before its time");
	}
}

/* Acceptor: so many connections, which stay open; 0: all there are, which do
 * not. */
static void
accept_more(void *arg, unsigned member, uint32_t count)
{
	struct lane *l = arg;
	struct pollfd p = { .fd = l->listener, .events = POLLIN };

	(void)member;
	for (uint32_t n = 0; count == 0 || n < count;) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0 && count == 0)
			close(fd);
		else if (fd >= 0)
			n++;
		else if (count == 0)
			return;
		else if (errno != EAGAIN || poll(&p, 1, 10000) != 1)
			bench_die("accept");
	}
}

static void
lane_open(struct lane *l)
{
	enter_new(l);
	open_listener(l);
	open_ledger(l);
	bench_crew_start(&l->acceptors, MEMBERS, accept_more, l);
	bench_crew_start(&l->holders, MEMBERS, hold_more, l);
}

static void
lane_close(struct lane *l)
{
	bench_crew_stop(&l->holders);
	bench_crew_stop(&l->acceptors);
	close(l->listener);
	close(l->ns);
	free(l->egress.log);
	bench_samples_fini(&l->opening);
	bench_samples_fini(&l->closing);
}

/* Until `count` sockets are held. */
static void
lane_fill(struct lane *l, uint32_t count)
{
	while (l->held < count) {
		unsigned member = l->held / MEMBER_MAX;
		uint32_t n = count - l->held, room;

		room = (member + 1) * MEMBER_MAX - l->held;
		n = n < CHUNK ? n : CHUNK;
		n = n < room ? n : room;
		bench_crew_step(&l->holders, member, n);
		bench_crew_step(&l->acceptors, member, n);
		l->held += n;
	}
	l->opening.count = l->closing.count = 0;
}

static void
add_time(struct lane *l, struct bench_samples *s, uint64_t start)
{
	double us = (double)(bench_cpu_ns() - start) / 1000 - l->clock_us;

	bench_add(s, us < 0 ? 0 : us);
}

static void
time_clock(struct lane *l)
{
	struct bench_samples s = { 0 };

	l->clock_us = 0;
	for (uint32_t i = 0; i < 10 * BATCH; i++)
		add_time(l, &s, bench_cpu_ns());
	l->clock_us = bench_median(&s);
	bench_samples_fini(&s);
}

/* One after the other is opened and closed: or is not to be had, each time. */
static void
lane_round(struct lane *l, bool full)
{
	enter(l);
	time_clock(l);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct door d;
		uint64_t start = bench_cpu_ns();
		bool opened = open_door(l, MEMBERS * MEMBER_MAX + i, &d);

		add_time(l, &l->opening, start);
		must(opened != full);
		if (!opened)
			continue;
		expect_established(&d);
		start = bench_cpu_ns();
		close_door(l, &d);
		add_time(l, &l->closing, start);
	}
	bench_crew_step(&l->acceptors, 0, 0);
}

static void
measure(struct lane *lanes, size_t count, uint32_t held, bool full)
{
	for (size_t i = 0; i < count; i++)
		lane_fill(&lanes[i], held);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < count; i++)
			lane_round(&lanes[i], full);
	}
}

/* ---- the tables ---- */

static void
one_target(void)
{
	static const struct {
		const char *label;
		unsigned thousandths;
		double least; /* what the kernel costs by ours, at least */
	} levels[] = { { "0 %", 0, 0 }, { "50 %", 500, 20 },
		{ "90 %", 900, 20 }, { "99 %", 990, 20 }, { "99.9 %", 999, 20 },
		{ "100 %", 1000, 100 } };
	struct lane lanes[] = {
		{ .way = WAY_OURS, .first = FIRST_PORT, .last = LAST_PORT },
		{ .way = WAY_KERNEL, .first = FIRST_PORT, .last = LAST_PORT },
		{ .way = WAY_WINDOW, .first = FIRST_PORT, .last = LAST_PORT },
	};

	for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
		lane_open(&lanes[i]);
	printf("a connection to one target of whose %d source ports so many "
	       "are taken, us\n%8s %10s %10s %10s %14s\n",
	    PORTS, "taken", "ledger", "kernel", "window", "kernel/ledger");
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		unsigned thousandths = levels[i].thousandths;

		measure(lanes, ARRAY_LEN(lanes),
		    (uint32_t)(PORTS * UINT64_C(1) * thousandths / 1000),
		    thousandths == 1000);
		double ours = bench_median(&lanes[0].opening);
		double kernel = bench_median(&lanes[1].opening);

		printf("%8s %10.2f %10.2f %10.2f %14.1f", levels[i].label, ours,
		    kernel, bench_median(&lanes[2].opening), kernel / ours);
		if (levels[i].least != 0)
			printf("   at least %3.0f%s", levels[i].least,
			    kernel / ours >= levels[i].least ? ""
							     : "   MISSED");
		putchar('\n');
		fflush(stdout);
	}
	for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
		lane_close(&lanes[i]);
}

static void
one_port(void)
{
	static const uint32_t levels[] = { 0, 1000, 10000, 30000 };
	struct lane lanes[] = {
		{ .bind = POOL_RANGE, .many = true },
		{ .bind = POOL_EXPLICIT, .many = true },
	};

	for (size_t i = 0; i < ARRAY_LEN(lanes); i++) {
		lanes[i].first = lanes[i].last = ONE_PORT;
		lane_open(&lanes[i]);
	}
	printf("\na connection from one port that so many sockets share, us; "
	       "and its close\n%8s %10s %10s %14s %10s %10s\n",
	    "sockets", "range", "explicit", "explicit/range", "range",
	    "explicit");
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		measure(lanes, ARRAY_LEN(lanes), levels[i], false);
		double range = bench_median(&lanes[0].opening);
		double explicit = bench_median(&lanes[1].opening);

		printf("%8u %10.2f %10.2f %14.1f %10.2f %10.2f\n", levels[i],
		    range, explicit, explicit / range,
		    bench_median(&lanes[0].closing),
		    bench_median(&lanes[1].closing));
		fflush(stdout);
	}
	for (size_t i = 0; i < ARRAY_LEN(lanes); i++)
		lane_close(&lanes[i]);
}

int
main(void)
{
	printf("ledger: it says which port, IP_LOCAL_PORT_RANGE names that one "
	       "alone\nkernel: IP_BIND_ADDRESS_NO_PORT and bind(source, 0)\n"
	       "window: the same with IP_LOCAL_PORT_RANGE over all ports\n\n");
	one_target();
	one_port();
	return 0;
}
