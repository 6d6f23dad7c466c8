/* SPDX-License-Identifier: ISC */
/*
 * A full target: who comes then waits, and is served when a lease ends.
 */
#include <sys/socket.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SLOTS   1000 /* 2 addresses x 500 ports */
#define WAITERS 200

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

#define LISTEN "[listen a]\naddress = 127.0.0.1:1080\n"

static struct daemon *
start(const char *workers, const char *egress)
{
	static char config[1024];

	snprintf(config, sizeof(config), LISTEN "[egress e]\n%s", egress);
	return daemon_start(
	    &(struct daemon_setup){ .proxy = workers, .config = config });
}

static int
ask_for(const struct addr *proxy, const struct addr *to)
{
	int fd = socks_connect(proxy);

	socks_request(fd, to);
	return fd;
}

/* The session of one that waited: it has its answer, and its target. */
static struct pair
served(int client, const struct target *t)
{
	struct socks_reply reply = socks_reply(client);
	struct pair p = { .client = client, .source = reply.bound };

	IT_MUST(reply.code == 0, "answered %u", reply.code);
	p.target = target_accept(t);
	return p;
}

/* Which of the clients has been answered; waits for the first. */
static unsigned
find_answered(const int *clients, unsigned count)
{
	uint64_t since_ms = it_now_ms();

	for (;;) {
		for (unsigned i = 0; i < count; i++) {
			if (clients[i] != -1 && peer_is_readable(clients[i]))
				return i;
		}
		it_again(since_ms, "a release that serves somebody");
	}
}

static int
compare_ms(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* For whoever reads it: no test depends on the machine's speed. */
static void
report_waits(double *ms, unsigned count)
{
	qsort(ms, count, sizeof(*ms), compare_ms);
	printf("served after a release: median %.2f ms, at most %.2f ms\n",
	    ms[count / 2], ms[count - 1]);
}

Test(queue, all_slots_are_held_and_each_release_serves_one_that_waits)
{
	struct pair *pairs = calloc(SLOTS, sizeof(*pairs));
	int clients[WAITERS];
	struct target target;

	cr_assert_not_null(pairs);
	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 4\n",
	    "addresses = 127.0.0.1 127.9.9.9\nports = 40000-40499\n"
	    "wait = 1h\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	struct addr another = target_at(&target, "127.0.0.2");
	double waited_ms[WAITERS];
	struct pair other;

	pair_open_all(pairs, SLOTS, &proxy, &target, &to);
	for (unsigned i = 0; i < WAITERS; i++)
		clients[i] = ask_for(&proxy, &to);
	/* Nobody else waits for them. */
	pair_open(&other, &proxy, &target, &another);
	pair_exchange(&other, 1);
	pair_reset(&other);
	for (unsigned i = 0; i < WAITERS; i++) {
		double since_ms = clock_ms();

		pair_reset(&pairs[i]);
		unsigned who = find_answered(clients, WAITERS);

		waited_ms[i] = clock_ms() - since_ms;

		pairs[i] = served(clients[who], &target);
		clients[who] = -1;
		for (unsigned j = 0; j < WAITERS; j++)
			cr_assert(
			    clients[j] == -1 || !peer_is_readable(clients[j]),
			    "one release, two answers");
	}
	report_waits(waited_ms, WAITERS);
	for (unsigned i = 0; i < SLOTS; i++)
		pair_exchange(&pairs[i], i);
	pair_reset_all(pairs, SLOTS);
	daemon_stop(d);
	free(pairs);
}

struct line {
	struct addr proxy, to, another;
	struct target target;
	int clients[16];
	unsigned count;
};

/* The client at 127.0.0.`host` waits. The one worker has taken its request when
 * a whole session that came later is over. */
static void
wait_in_line(struct line *l, uint32_t host)
{
	struct addr from = addr_v4(UINT32_C(0x7f000000) + host, 0);
	int client = peer_connect_from(&from, &l->proxy);
	struct pair later;

	socks_greet(client);
	socks_request(client, &l->to);
	pair_open(&later, &l->proxy, &l->target, &l->another);
	pair_reset(&later);
	l->clients[l->count++] = client;
}

/* Releases one after the other; `order` is which of them is served then. */
static void
expect_order(struct line *l, struct pair *held, const unsigned *order)
{
	for (unsigned i = 0; i < l->count; i++) {
		pair_reset(held);
		unsigned who = find_answered(l->clients, l->count);

		cr_assert_eq(
		    who, order[i], "%u was served as number %u", who, i);
		*held = served(l->clients[who], &l->target);
		l->clients[who] = -1;
	}
}

static struct daemon *
start_line(struct line *l, struct pair *held)
{
	struct daemon *d;

	*l = (struct line){ .count = 0 };
	namespace_enter_with_ports(&l->target, 30000, 40499);
	d = start("workers = 1\n", "ports = 40000\nwait = 1h\n");
	l->proxy = daemon_address(d, "a");
	l->to = target_at(&l->target, "127.0.0.1");
	l->another = target_at(&l->target, "127.0.0.2");
	pair_open(held, &l->proxy, &l->target, &l->to);
	return d;
}

Test(queue, a_clients_sessions_are_served_in_the_order_in_which_they_came)
{
	static const unsigned order[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	struct pair held;
	struct line l;
	struct daemon *d = start_line(&l, &held);

	for (unsigned i = 0; i < ARRAY_LEN(order); i++)
		wait_in_line(&l, 10);
	expect_order(&l, &held, order);
	pair_reset(&held);
	daemon_stop(d);
}

Test(queue, many_of_one_client_do_not_keep_the_one_of_another)
{
	static const unsigned order[] = { 0, 5, 1, 2, 3, 4 };
	struct pair held;
	struct line l;
	struct daemon *d = start_line(&l, &held);

	for (unsigned i = 0; i < 5; i++)
		wait_in_line(&l, 10);
	wait_in_line(&l, 11);
	expect_order(&l, &held, order);
	pair_reset(&held);
	daemon_stop(d);
}

Test(queue, who_has_waited_for_too_long_is_told_the_cause_and_the_time)
{
	char line[DAEMON_LINE_MAX], value[32];
	struct target target;
	struct pair full;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("", "ports = 40000\nwait = 300ms\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&full, &proxy, &target, &to);
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	daemon_wait_log(d, "event=session", "reason=target_full");
	cr_assert(daemon_find_log(d, line, "reason=target_full"));
	cr_expect_geq(
	    strtol(daemon_value(line, "waited_ms", value, sizeof(value)), NULL,
		10),
	    300);
	pair_reset(&full);
	daemon_stop(d);
}

Test(queue, it_is_bounded)
{
	struct target target;
	struct pair full;
	int waits, fd;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d =
	    start("workers = 1\n", "ports = 40000\nwait = 1h\nqueue = 1\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&full, &proxy, &target, &to);
	waits = ask_for(&proxy, &to);
	/* The one worker takes them in the order in which they came. */
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	daemon_wait_log(d, "event=session", "reason=queue_full");
	pair_reset(&full);
	full = served(waits, &target);
	pair_reset(&full);
	daemon_stop(d);
}

Test(queue, one_that_leaves_and_one_that_dies_do_not_keep_the_others)
{
	struct target target;
	struct pair full;
	int leaves, waits;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 1\n", "ports = 40000\nwait = 1h\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&full, &proxy, &target, &to);
	leaves = ask_for(&proxy, &to);
	waits = ask_for(&proxy, &to);
	peer_reset(leaves);
	daemon_wait_log(d, "event=session", "reason=client_reset");
	pair_reset(&full);
	full = served(waits, &target);
	pair_exchange(&full, 1);
	pair_reset(&full);
	daemon_stop(d);
}

Test(queue, what_cools_is_given_to_those_who_wait)
{
	struct target target;
	struct pair first, second;
	uint8_t byte;
	size_t len;
	int waits;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("", "ports = 40000\nwait = 1h\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&first, &proxy, &target, &to);
	waits = ask_for(&proxy, &to);
	/* The target ends it first: the slot cools for a second. */
	peer_finish(first.target);
	cr_assert_eq(peer_drain(first.client, &byte, 1, &len), PEER_EOF);
	peer_finish(first.client);
	peer_expect_eof(first.target);
	second = served(waits, &target);
	pair_exchange(&second, 1);
	pair_reset(&second);
	close(first.client);
	daemon_stop(d);
}

/* Was the client told that its session succeeded? Otherwise it was reset. */
static bool
is_served(int client)
{
	uint8_t reply[10];
	ssize_t n = recv(client, reply, sizeof(reply), 0);

	IT_MUST(n != 0, "a clean end");
	IT_MUST(n < 0 || reply[1] == 0, "answered %u", reply[1]);
	return n > 0;
}

/* So many that both workers have some. */
Test(queue, a_workers_death_does_not_keep_those_of_the_others)
{
	int clients[16];
	pid_t pids[DAEMON_PROCESSES_MAX];
	struct target target;
	struct pair held;
	bool served_one = false;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n", "ports = 40000\nwait = 1h\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&held, &proxy, &target, &to);
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		clients[i] = ask_for(&proxy, &to);
	cr_assert_eq(daemon_workers(d, pids), 2);
	kill(pids[0], SIGKILL);
	daemon_wait_log(d, "event=worker_died");
	/* If it was not the dead one's it is free now. */
	peer_reset(held.client);
	while (!served_one) {
		unsigned who = find_answered(clients, ARRAY_LEN(clients));

		served_one = is_served(clients[who]);
		close(clients[who]);
		clients[who] = -1;
	}
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		if (clients[i] != -1)
			peer_reset(clients[i]);
	close(held.target);
	daemon_stop(d);
}
