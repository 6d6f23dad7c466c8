/* SPDX-License-Identifier: ISC */
/*
 * A worker is killed: its sessions are cut, which both peers see as a reset and
 * never as an end; all others, and all who come, do not notice.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "flow.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS 64
#define KIB      1024

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct pair pairs[SESSIONS];
	struct flow flows[2 * SESSIONS];
};

/* As many sessions to one target as the pool has ports, on two workers. */
static void
scene_open(struct scene *s)
{
	namespace_enter_with_ports(&s->target, 30000, 40063);
	s->daemon =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000-40063\n" });
	s->proxy = daemon_address(s->daemon, "a");
	struct addr to = target_at(&s->target, "127.0.0.1");

	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct pair *p = &s->pairs[i];

		pair_open(p, &s->proxy, &s->target, &to);
		s->flows[2 * i] = (struct flow){
			.fd = p->client, .out_seed = 2 * i, .in_seed = 2 * i + 1
		};
		s->flows[2 * i + 1] = (struct flow){
			.fd = p->target, .out_seed = 2 * i + 1, .in_seed = 2 * i
		};
	}
}

/* Each of the `n` ends sends so much more, and gets it. */
static void
carry(struct flow *flows, size_t n, uint64_t more)
{
	for (size_t i = 0; i < n; i++) {
		flows[i].out_total += more;
		flows[i].in_total += more;
	}
	flows_run(flows, n, 1);
}

static void
close_all(struct flow *flows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(flows[i].fd);
}

/*
 * Checks that a dead worker's sessions were reset on both legs, and moves the
 * flows of the others to the front; how many sessions are left.
 */
static size_t
bury(struct scene *s)
{
	size_t left = 0;

	for (size_t i = 0; i < SESSIONS; i++) {
		struct pair *p = &s->pairs[i];

		/* One leg's reset may be seen a moment before the other's. */
		if (peer_is_readable(p->client) ||
		    peer_is_readable(p->target)) {
			peer_expect_reset(p->client);
			peer_expect_reset(p->target);
			continue;
		}
		s->flows[2 * left] = s->flows[2 * i];
		s->flows[2 * left + 1] = s->flows[2 * i + 1];
		left++;
	}
	return left;
}

/* New sessions to another target, while one worker is dead. */
static void
open_meanwhile(struct scene *s, const char *ip, uint32_t n)
{
	struct addr to = target_at(&s->target, ip);

	for (uint32_t i = 0; i < n; i++) {
		struct pair p;

		pair_open(&p, &s->proxy, &s->target, &to);
		pair_exchange(&p, i);
		pair_reset(&p);
	}
}

Test(worker_crash, only_its_own_sessions_are_cut)
{
	char line[DAEMON_LINE_MAX], value[32], word[32];
	static struct scene s;
	pid_t pids[DAEMON_PROCESSES_MAX];

	scene_open(&s);
	cr_assert_eq(daemon_workers(s.daemon, pids), 2);
	carry(s.flows, 2 * SESSIONS, 64 * KIB);
	cr_assert_eq(kill(pids[0], SIGKILL), 0);
	open_meanwhile(&s, "127.0.0.2", 40);

	snprintf(word, sizeof(word), "pid=%d", (int)pids[0]);
	daemon_wait_log(s.daemon, "event=worker_died", word, "signal=9");
	size_t left = bury(&s);
	size_t lost = SESSIONS - left;

	cr_assert(left > 0 && lost > 0, "%zu left", left);
	daemon_find_log(s.daemon, line, "event=worker_died");
	daemon_value(line, "leases_returned", value, sizeof(value));
	/* Those opened meanwhile may have been its own, too. */
	cr_assert_geq(strtoul(value, NULL, 10), lost);
	carry(s.flows, 2 * left, 64 * KIB);

	/* It is back, and each of its ports can be had again at once. */
	daemon_wait_lines(s.daemon, 3, DAEMON_WORDS("event=worker_started"));
	struct addr to = target_at(&s.target, "127.0.0.1");

	for (size_t i = 0; i < lost; i++) {
		struct pair p;

		pair_open(&p, &s.proxy, &s.target, &to);
		pair_exchange(&p, (uint32_t)i);
		close(p.client);
		/* Held, so that the next one needs another port. */
	}
	carry(s.flows, 2 * left, 64 * KIB);
	cr_assert_eq(daemon_workers(s.daemon, pids), 2);
	close_all(s.flows, 2 * left);
	daemon_signal(s.daemon, SIGTERM);
	/* Two that come at once would be one. */
	daemon_wait_log(s.daemon, "event=stopping");
	daemon_signal(s.daemon, SIGTERM);
	daemon_wait_exit(s.daemon);
	daemon_free(s.daemon);
}

Test(worker_crash, a_worker_that_cannot_start_its_thread_ends_in_order)
{
	struct daemon *d =
	    daemon_launch(&(struct daemon_setup){ .refuse_threads = true });

	/* No sanitizer has a word, either. */
	cr_assert_eq(daemon_wait_exit(d), 1);
	cr_expect_gt(daemon_count_log(d, "event=worker_failed"), 0);
	cr_expect_gt(daemon_count_log(d, "event=worker_died", "status=1"), 0);
	daemon_free(d);
}

Test(worker_crash, nobody_is_refused_however_often_it_happens)
{
	struct target target;
	pid_t pids[DAEMON_PROCESSES_MAX];

	namespace_enter_with_ports(&target, 30000, 40063);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n" });
	struct addr proxy = daemon_address(d, "a");

	for (uint32_t round = 0; round < 6; round++) {
		IT_EVENTUALLY(daemon_workers(d, pids) == 2);
		cr_assert_eq(kill(pids[round % 2], SIGKILL), 0);
		for (uint32_t i = 0; i < 20; i++) {
			struct addr to =
			    target_number(&target, round * 100 + i);
			struct pair p;

			pair_open(&p, &proxy, &target, &to);
			pair_exchange(&p, i);
			pair_reset(&p);
		}
	}
	daemon_wait_lines(d, 6, DAEMON_WORDS("event=worker_died"));
	IT_EVENTUALLY(daemon_workers(d, pids) == 2);
	daemon_stop(d);
}

/* Clients in the accept queue of the dead worker's listening socket. */
Test(worker_crash, clients_that_wait_to_be_accepted_are_served)
{
	enum { CLIENTS = 40 };
	int clients[CLIENTS];
	struct target target;
	pid_t pids[DAEMON_PROCESSES_MAX];
	uint8_t m[SOCKS_MESSAGE_MAX];

	namespace_enter_with_ports(&target, 30000, 40063);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, &to);
	cr_assert_eq(daemon_workers(d, pids), 2);
	daemon_pause(d);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = peer_connect(&proxy);
		peer_send(clients[i], m, n);
	}
	kill(pids[0], SIGKILL);
	kill(pids[1], SIGCONT);
	for (int i = 0; i < CLIENTS; i++) {
		peer_expect(clients[i], "\x05\x00", 2);
		socks_expect(clients[i], 0);
		peer_reset(clients[i]);
		close(target_accept(&target));
	}
	daemon_stop(d);
}

Test(worker_crash, all_workers_at_once_come_back)
{
	struct target target;
	pid_t pids[DAEMON_PROCESSES_MAX];
	struct pair p;

	namespace_enter_with_ports(&target, 30000, 40063);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 3\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	cr_assert_eq(daemon_workers(d, pids), 3);
	for (int i = 0; i < 3; i++)
		kill(pids[i], SIGKILL);
	pair_open(&p, &proxy, &target, &to);
	pair_exchange(&p, 1);
	pair_reset(&p);
	daemon_wait_lines(d, 3, DAEMON_WORDS("event=worker_died"));
	IT_EVENTUALLY(daemon_workers(d, pids) == 3);
	daemon_stop(d);
}
