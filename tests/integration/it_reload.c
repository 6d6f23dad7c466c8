/* SPDX-License-Identifier: ISC */
/*
 * HUP: all of the new file or none of it, and nobody notices who does not have
 * to: no session, no client that comes, no client in the accept queue.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define HELD 50

#define LISTEN_A "[listen a]\naddress = 127.0.0.1:1080\n"
#define LISTEN_B "[listen b]\naddress = 127.0.0.1:1081\n"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct pair held[HELD];
};

/* With sessions that are held throughout, to targets of their own. */
static void
scene_open(struct scene *s, const struct daemon_setup *setup)
{
	namespace_enter_with_ports(&s->target, 30000, 50000);
	s->daemon = daemon_start(setup);
	s->proxy = daemon_address(s->daemon, "a");
	for (uint32_t i = 0; i < HELD; i++) {
		struct addr to = target_number(&s->target, i);

		pair_open(&s->held[i], &s->proxy, &s->target, &to);
	}
}

static void
check_held(struct scene *s)
{
	for (uint32_t i = 0; i < HELD; i++)
		pair_exchange(&s->held[i], i);
}

static void
scene_close(struct scene *s)
{
	check_held(s);
	for (uint32_t i = 0; i < HELD; i++)
		pair_finish(&s->held[i]);
	target_close(&s->target);
	daemon_stop(s->daemon);
}

static void
open_one(struct scene *s, const struct addr *proxy, uint32_t n)
{
	struct addr to = target_number(&s->target, HELD + n);
	struct pair p;

	pair_open(&p, proxy, &s->target, &to);
	pair_exchange(&p, n);
	pair_reset(&p);
}

static void
reload_with(struct scene *s, const char *proxy, const char *config)
{
	daemon_configure(s->daemon,
	    &(struct daemon_setup){ .proxy = proxy, .config = config });
	daemon_reload(s->daemon);
}

Test(reload, nobody_is_refused_or_cut_under_load)
{
	static struct scene s;
	uint32_t n = 0;

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\n", .config = LISTEN_A });
	for (unsigned round = 1; round <= 8; round++) {
		daemon_signal(s.daemon, SIGHUP);
		for (int i = 0; i < 20; i++)
			open_one(&s, &s.proxy, n++);
		daemon_wait_lines(
		    s.daemon, round, DAEMON_WORDS("event=reloaded"));
		check_held(&s);
	}
	daemon_wait_notice(s.daemon, 8, "RELOADING=1");
	daemon_wait_notice(s.daemon, 9, "READY=1");
	/* Nothing but resets of our own ended any session. */
	cr_assert_eq(
	    daemon_count_log(s.daemon, "event=session", "reason=stopped"), 0);
	scene_close(&s);
}

Test(reload, clients_in_the_accept_queue_are_served)
{
	enum { CLIENTS = 40 };
	static struct scene s;
	int clients[CLIENTS];
	pid_t pids[DAEMON_PROCESSES_MAX];
	uint8_t m[SOCKS_MESSAGE_MAX];

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\n", .config = LISTEN_A });
	struct addr to = target_number(&s.target, HELD);
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, &to);
	cr_assert_eq(daemon_workers(s.daemon, pids), 2);
	daemon_pause(s.daemon);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = peer_connect(&s.proxy);
		peer_send(clients[i], m, n);
	}
	daemon_signal(s.daemon, SIGHUP);
	for (int i = 0; i < 2; i++)
		kill(pids[i], SIGCONT);
	for (int i = 0; i < CLIENTS; i++) {
		peer_expect(clients[i], "\x05\x00", 2);
		socks_expect(clients[i], 0);
		peer_reset(clients[i]);
		close(target_accept(&s.target));
	}
	daemon_wait_log(s.daemon, "event=reloaded");
	scene_close(&s);
}

/* However short the time to drain is: that is of a stop. */
Test(reload, no_session_is_cut_after_a_while)
{
	static struct scene s;

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\ndrain-timeout = 0s\n",
			   .config = LISTEN_A });
	for (unsigned round = 0; round < 3; round++) {
		daemon_reload(s.daemon);
		check_held(&s);
	}
	cr_assert_eq(
	    daemon_count_log(s.daemon, "event=session", "reason=stopped"), 0);
	scene_close(&s);
}

Test(reload, old_workers_go_when_their_sessions_have_ended)
{
	static struct scene s;
	pid_t before[DAEMON_PROCESSES_MAX], after[DAEMON_PROCESSES_MAX];

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\n", .config = LISTEN_A });
	cr_assert_eq(daemon_workers(s.daemon, before), 2);
	daemon_reload(s.daemon);
	check_held(&s);
	for (uint32_t i = 0; i < HELD; i++)
		pair_finish(&s.held[i]);
	IT_EVENTUALLY(daemon_workers(s.daemon, after) == 2 &&
		      after[0] != before[0] && after[0] != before[1] &&
		      after[1] != before[0] && after[1] != before[1]);
	/* That was an end, not a death. */
	cr_assert_eq(daemon_count_log(s.daemon, "event=worker_died"), 0);
	open_one(&s, &s.proxy, 1);
	daemon_stop(s.daemon);
}

Test(reload, a_broken_file_changes_nothing_and_is_reported)
{
	static const char *const broken[] = {
		LISTEN_B "no-such = 1\n",
		LISTEN_B "[listen c]\naddress = 0.0.0.0:1082\n",
		LISTEN_B "[egress e]\naddresses = 192.0.2.7\n",
	};
	static struct scene s;
	struct addr b = addr_v4(0x7f000001, 1081);
	int fd;

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\n", .config = LISTEN_A });
	for (unsigned i = 0; i < ARRAY_LEN(broken); i++) {
		daemon_configure(
		    s.daemon, &(struct daemon_setup){ .proxy = "workers = 3\n",
				  .config = broken[i] });
		daemon_signal(s.daemon, SIGHUP);
		daemon_wait_lines(
		    s.daemon, i + 1, DAEMON_WORDS("event=reload_failed"));
		cr_assert_eq(peer_try_connect(&b, &fd), ECONNREFUSED);
		open_one(&s, &s.proxy, i);
		check_held(&s);
	}
	cr_assert(daemon_log_contains(s.daemon, "no-such"));
	cr_assert(daemon_log_contains(s.daemon, "192.0.2.7"));
	cr_assert_eq(daemon_count_log(s.daemon, "event=reloaded"), 0);
	/* It is ready again, for the service manager too. */
	daemon_wait_notice(s.daemon, 1 + ARRAY_LEN(broken), "READY=1");
	reload_with(&s, "workers = 2\n", LISTEN_A LISTEN_B);
	open_one(&s, &b, 100);
	scene_close(&s);
}

/* Runs "fourfold check" with the daemon's file. */
static void
check_file(const struct scene *s, struct it_outcome *o)
{
	char path[IT_PATH_MAX + 16];
	const char *const argv[] = { it_binary(), "check", "-c", path, NULL };

	snprintf(
	    path, sizeof(path), "%s/fourfold.conf", daemon_folder(s->daemon));
	it_run(argv, NULL, o);
}

Test(reload, a_check_before_it_has_nothing_against_fourfold_itself)
{
	static struct it_outcome o;
	static struct scene s;
	pid_t pids[DAEMON_PROCESSES_MAX];
	char folder[64];

	scene_open(&s, &(struct daemon_setup){ .config = LISTEN_A });
	check_file(&s, &o);
	cr_expect_eq(o.status, 0, "%d: %s", o.status, o.err);
	/* Whose the listening sockets are is not for every user to see. */
	for (size_t n = daemon_processes(s.daemon, pids); n > 0; n--) {
		snprintf(
		    folder, sizeof(folder), "/proc/%d/fd", (int)pids[n - 1]);
		namespace_hide(folder);
	}
	check_file(&s, &o);
	cr_expect_eq(o.status, 0, "%d: %s", o.status, o.err);
	cr_expect_not_null(
	    strstr(o.out, "127.0.0.1:1080 is in use by a program of uid"), "%s",
	    o.out);
	scene_close(&s);
}

Test(reload, a_check_before_it_tells_who_is_in_the_way)
{
	static struct it_outcome o;
	static struct scene s;
	struct target other;

	scene_open(&s, &(struct daemon_setup){ .config = LISTEN_A });
	target_listen_on(&other, "127.0.0.1:1081");
	daemon_configure(
	    s.daemon, &(struct daemon_setup){ .config = LISTEN_A LISTEN_B });
	check_file(&s, &o);
	cr_expect_eq(o.status, 2);
	cr_expect_not_null(
	    strstr(o.err, "127.0.0.1:1081: it_reload (pid "), "%s", o.err);
	target_close(&other);
	check_file(&s, &o);
	cr_expect_eq(o.status, 0, "%d: %s", o.status, o.err);
	scene_close(&s);
}

Test(reload, an_address_in_use_changes_nothing)
{
	static struct scene s;
	struct target other;

	scene_open(&s, &(struct daemon_setup){ .config = LISTEN_A });
	target_listen_on(&other, "127.0.0.1:1081");
	daemon_configure(
	    s.daemon, &(struct daemon_setup){ .config = LISTEN_A LISTEN_B });
	daemon_signal(s.daemon, SIGHUP);
	daemon_wait_log(s.daemon, "event=reload_failed");
	open_one(&s, &s.proxy, 1);
	target_close(&other);
	daemon_reload(s.daemon);
	struct addr b = daemon_address(s.daemon, "b");

	open_one(&s, &b, 2);
	scene_close(&s);
}

Test(reload, listeners_come_and_go)
{
	static struct scene s;
	struct addr b;
	int fd, error;

	scene_open(&s, &(struct daemon_setup){ .config = LISTEN_A });
	reload_with(&s, "", LISTEN_A LISTEN_B);
	b = daemon_address(s.daemon, "b");
	open_one(&s, &b, 1);
	open_one(&s, &s.proxy, 2);

	reload_with(&s, "", LISTEN_A);
	uint64_t since = it_now_ms();

	while ((error = peer_try_connect(&b, &fd)) == 0) {
		close(fd);
		it_again(since, "the listener is gone");
	}
	cr_assert_eq(error, ECONNREFUSED);
	open_one(&s, &s.proxy, 3);
	scene_close(&s);
}

Test(reload, a_listener_on_any_port_keeps_its_port)
{
	static struct scene s;

	scene_open(&s, &(struct daemon_setup){
			   .config = "[listen a]\naddress = 127.0.0.1:0\n" });
	daemon_reload(s.daemon);
	open_one(&s, &s.proxy, 1);
	scene_close(&s);
}

Test(reload, workers_become_more_and_fewer)
{
	static const char *const counts[] = { "workers = 4\n", "workers = 1\n",
		"workers = 3\n", "workers = 2\n" };
	static struct scene s;
	pid_t pids[DAEMON_PROCESSES_MAX];
	uint32_t n = 0;

	scene_open(&s, &(struct daemon_setup){
			   .proxy = "workers = 2\n", .config = LISTEN_A });
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		reload_with(&s, counts[i], LISTEN_A);
		/* Each slot's socket is served, whoever has it. */
		for (int j = 0; j < 40; j++)
			open_one(&s, &s.proxy, n++);
		check_held(&s);
	}
	for (uint32_t i = 0; i < HELD; i++)
		pair_finish(&s.held[i]);
	IT_EVENTUALLY(daemon_workers(s.daemon, pids) == 2);
	for (int j = 0; j < 40; j++)
		open_one(&s, &s.proxy, n++);
	daemon_stop(s.daemon);
}

Test(reload, the_pool_changes_for_new_sessions)
{
	static const uint16_t ports[] = { 40001, 40000, 40002 };
	static const char *const configs[] = {
		LISTEN_A "[egress e]\nports = 40001\n",
		LISTEN_A "[egress e]\nports = 40000\n",
		LISTEN_A "[egress e]\nports = 40002-40003\n",
	};
	static struct scene s;

	scene_open(&s, &(struct daemon_setup){
			   .config = LISTEN_A "[egress e]\nports = 40000\n" });
	cr_assert_eq(s.held[0].source.port, 40000);
	for (uint32_t i = 0; i < ARRAY_LEN(ports); i++) {
		struct addr to = target_number(&s.target, HELD + 10 + i);
		struct pair p;

		reload_with(&s, "", configs[i]);
		pair_open(&p, &s.proxy, &s.target, &to);
		cr_assert_eq(p.source.port, ports[i], "round %u: port %u", i,
		    p.source.port);
		pair_reset(&p);
		check_held(&s);
	}
	scene_close(&s);
}

Test(reload, leases_count_across_a_reload)
{
	static struct scene s;
	int fd;

	scene_open(&s,
	    &(struct daemon_setup){
		.config = LISTEN_A "[egress e]\nports = 40000\nwait = off\n" });
	struct addr taken = target_number(&s.target, 0);

	daemon_reload(s.daemon);
	/* The old worker's session is known to the new worker. */
	cr_assert_eq(socks_try(&s.proxy, &taken, &fd), 1);
	daemon_wait_log(s.daemon, "event=session", "reason=target_full");
	scene_close(&s);
}

#define EGRESS(name, lines) "[egress " name "]\n" lines "\n"

/* Each is taken over, or refused because of the sessions held. */
struct binding {
	const char *egress;
	bool taken;
};

static void
reload_through(const char *first, const struct binding *next, size_t count)
{
	char config[256], line[DAEMON_LINE_MAX], reason[DAEMON_LINE_MAX];
	unsigned refused = 0;
	static struct scene s;

	snprintf(config, sizeof(config), LISTEN_A "%s", first);
	scene_open(&s, &(struct daemon_setup){ .config = config });
	for (size_t i = 0; i < count; i++) {
		snprintf(config, sizeof(config), LISTEN_A "%s", next[i].egress);
		if (next[i].taken) {
			reload_with(&s, "", config);
			open_one(&s, &s.proxy, (uint32_t)i);
			continue;
		}
		daemon_configure(
		    s.daemon, &(struct daemon_setup){ .config = config });
		daemon_signal(s.daemon, SIGHUP);
		daemon_wait_lines(
		    s.daemon, ++refused, DAEMON_WORDS("event=reload_failed"));
		daemon_find_log(s.daemon, line, "event=reload_failed");
		daemon_value(line, "reason", reason, sizeof(reason));
		cr_expect_not_null(
		    strstr(reason, "bound another way"), "%zu: %s", i, reason);
		open_one(&s, &s.proxy, (uint32_t)i);
	}
	scene_close(&s);
}

Test(reload, the_way_to_bind_does_not_change_under_leases)
{
	static const struct binding next[] = {
		{ EGRESS("e", "ports = 40000\nbind = explicit"), false },
		/* Nor in another section. */
		{ EGRESS("f", "ports = 40000\nbind = explicit"), false },
		{ EGRESS("f", "ports = 39000-41000\nbind = explicit"), false },
		{ EGRESS("e", "ports = 40001")
			EGRESS("f", "ports = 40000\nbind = explicit"),
		    false },
		{ EGRESS("f", "ports = 40000"), true },
		/* Nor when it has been in none for a while. */
		{ EGRESS("e", "ports = 40001-40002\nbind = explicit"), true },
		{ EGRESS("e", "ports = 40000-40001\nbind = explicit"), false },
	};

	reload_through(EGRESS("e", "ports = 40000"), next, ARRAY_LEN(next));
}

Test(reload, what_was_bound_explicitly_stays_so_under_leases)
{
	static const struct binding next[] = {
		{ EGRESS("e", "ports = 40000\nbind = range"), false },
		{ EGRESS("f", "ports = 39999-40001\nbind = range"), false },
		{ EGRESS("f", "ports = 40001\nbind = range"), true },
		{ EGRESS("e", "bind = kernel"), true },
		{ EGRESS("e", "ports = 40000\nbind = range"), false },
		{ EGRESS("e", "ports = 40000\nbind = explicit"), true },
	};

	reload_through(EGRESS("e", "ports = 40000\nbind = explicit"), next,
	    ARRAY_LEN(next));
}

Test(reload, what_the_kernel_chose_is_bound_as_by_range)
{
	static const struct binding next[] = {
		{ EGRESS("f", "ports = 30000-50000\nbind = explicit"), false },
		{ EGRESS("e", "ports = 30000-50000\nbind = explicit"), false },
		{ EGRESS("e", "ports = 30000-50000\nbind = range"), true },
		{ EGRESS("e", "ports = 30000-50000\nbind = explicit"), false },
		{ EGRESS("e", "bind = kernel"), true },
	};

	reload_through(EGRESS("e", "bind = kernel"), next, ARRAY_LEN(next));
}

/* Each generation has ids of its own, and there are ids for two of the largest.
 */
Test(reload, as_many_workers_as_there_may_be)
{
	static struct scene s;
	struct pair draining[2];
	char line[DAEMON_LINE_MAX], value[32];

	namespace_enter_with_ports(&s.target, 30000, 50000);
	s.daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 127\n", .config = LISTEN_A });
	s.proxy = daemon_address(s.daemon, "a");
	for (uint32_t i = 0; i < ARRAY_LEN(draining); i++) {
		struct addr to = target_number(&s.target, i);

		pair_open(&draining[i], &s.proxy, &s.target, &to);
		daemon_reload(s.daemon);
		/* Who has no session goes at once. */
		daemon_wait_lines(s.daemon, 126 * (i + 1),
		    DAEMON_WORDS("event=worker_ended"));
	}
	daemon_signal(s.daemon, SIGHUP);
	daemon_wait_log(s.daemon, "event=reload_failed");
	cr_assert(daemon_find_log(s.daemon, line, "event=workers_beyond"));
	cr_expect_str_eq(
	    daemon_value(line, "draining", value, sizeof(value)), "2");
	pair_reset(&draining[0]);
	daemon_wait_lines(
	    s.daemon, 126 * 2 + 1, DAEMON_WORDS("event=worker_ended"));
	daemon_reload(s.daemon);
	pair_exchange(&draining[1], 1);
	pair_reset(&draining[1]);
	target_close(&s.target);
	daemon_stop(s.daemon);
}
