/* SPDX-License-Identifier: ISC */
/*
 * The end: a signal lets sessions run out, a second one does not.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct pair pair;
};

/* With one session under way. */
static void
scene_open(struct scene *s, const char *proxy)
{
	s->daemon = daemon_start(&(struct daemon_setup){ .proxy = proxy });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
	struct addr to = target_at(&s->target, "127.0.0.1");

	pair_open(&s->pair, &s->proxy, &s->target, &to);
}

/* A clean end, told of. */
static void
scene_close(struct scene *s)
{
	cr_assert_eq(daemon_wait_exit(s->daemon), 0);
	cr_assert_eq(daemon_count_log(s->daemon, "event=stopped"), 1);
	cr_assert_eq(daemon_count_log(s->daemon, "event=counters"), 1);
	daemon_free(s->daemon);
	target_close(&s->target);
}

static void
drain_after(int signal)
{
	struct scene s;
	int fd;

	scene_open(&s, "drain-timeout = 1h\n");
	daemon_signal(s.daemon, signal);
	daemon_wait_notice(s.daemon, 1, "STOPPING=1");
	daemon_wait_log(s.daemon, "event=stopping");
	/* Nobody new comes in ... */
	uint64_t since = it_now_ms();
	int error;

	while ((error = peer_try_connect(&s.proxy, &fd)) == 0) {
		close(fd);
		it_again(since, "the listener is closed");
	}
	cr_assert_eq(error, ECONNREFUSED, "%s", strerror(error));
	/* ... and who is in goes on. */
	pair_exchange(&s.pair, 1);
	pair_finish(&s.pair);
	scene_close(&s);
}

Test(stop, term_drains)
{
	drain_after(SIGTERM);
}

Test(stop, int_drains)
{
	drain_after(SIGINT);
}

/* They come before TERM does: lower numbers go first. */
Test(stop, signals_without_a_meaning_end_nothing)
{
	struct scene s;

	scene_open(&s, "drain-timeout = 1h\n");
	daemon_signal(s.daemon, SIGUSR1);
	daemon_signal(s.daemon, SIGUSR2);
	daemon_signal(s.daemon, SIGTERM);
	daemon_wait_log(s.daemon, "event=stopping");
	pair_exchange(&s.pair, 1);
	pair_finish(&s.pair);
	scene_close(&s);
}

Test(stop, a_second_term_ends_at_once)
{
	struct scene s;

	scene_open(&s, "drain-timeout = 1h\n");
	daemon_signal(s.daemon, SIGTERM);
	daemon_wait_log(s.daemon, "event=stopping");
	pair_exchange(&s.pair, 1);
	daemon_signal(s.daemon, SIGTERM);
	/* Cut, not finished. */
	peer_expect_reset(s.pair.client);
	peer_expect_reset(s.pair.target);
	daemon_wait_log(s.daemon, "event=session", "reason=stopped");
	scene_close(&s);
}

Test(stop, draining_has_an_end)
{
	struct scene s;

	scene_open(&s, "drain-timeout = 200ms\n");
	daemon_signal(s.daemon, SIGTERM);
	peer_expect_reset(s.pair.client);
	peer_expect_reset(s.pair.target);
	daemon_wait_log(s.daemon, "event=session", "reason=stopped");
	scene_close(&s);
}

Test(stop, without_sessions_it_ends_by_itself)
{
	struct scene s;

	scene_open(&s, "drain-timeout = 1h\n");
	pair_finish(&s.pair);
	daemon_signal(s.daemon, SIGTERM);
	scene_close(&s);
}

Test(stop, a_handshake_under_way_is_no_obstacle_for_long)
{
	struct scene s;

	scene_open(&s, "drain-timeout = 500ms\n");
	int client = peer_connect(&s.proxy);

	peer_send(client, "\x05", 1);
	pair_finish(&s.pair);
	daemon_signal(s.daemon, SIGTERM);
	scene_close(&s);
	close(client);
}

Test(stop, workers_do_not_outlive_the_master)
{
	pid_t pids[DAEMON_PROCESSES_MAX];
	struct scene s;

	scene_open(&s, "workers = 2\n");
	size_t workers = daemon_workers(s.daemon, pids);

	cr_assert_eq(workers, 2);
	daemon_signal(s.daemon, SIGKILL);
	/* The end of the log: every process of it is gone. */
	daemon_wait_exit(s.daemon);
	peer_expect_reset(s.pair.client);
	peer_expect_reset(s.pair.target);
	daemon_free(s.daemon);
	target_close(&s.target);
}
