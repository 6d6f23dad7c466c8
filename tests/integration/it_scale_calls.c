/* SPDX-License-Identifier: ISC */
/*
 * The system calls of a session: the list in proxy/README.md, counted on the
 * shipped build, one session at a time. What all sessions share that come in
 * one pass of the loop is not counted: epoll_wait, the accept4 that finds
 * nobody, the write of the log.
 */
#include <sys/syscall.h>

#include <stdio.h>
#include <unistd.h>

#include "calls.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS 50U

#define CONFIG                                      \
	"[listen default]\naddress = 127.0.0.1:0\n" \
	"[egress e]\naddresses = 127.0.0.1\n"       \
	"[relay]\nsplice = auto\n"

unsigned
it_needs(void)
{
	return IT_RELEASE | IT_NAMESPACES | IT_TRACING;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct calls *calls;
};

static const struct {
	unsigned number;
	const char *name;
} names[] = {
	{ SYS_accept4, "accept4" },
	{ SYS_bind, "bind" },
	{ SYS_brk, "brk" },
	{ SYS_close, "close" },
	{ SYS_connect, "connect" },
	{ SYS_epoll_ctl, "epoll_ctl" },
	{ SYS_getsockname, "getsockname" },
	{ SYS_getsockopt, "getsockopt" },
	{ SYS_poll, "poll" },
	{ SYS_recvfrom, "recv" },
	{ SYS_sendto, "send" },
	{ SYS_setsockopt, "setsockopt" },
	{ SYS_shutdown, "shutdown" },
	{ SYS_socket, "socket" },
	{ SYS_splice, "splice" },
	{ SYS_write, "write" },
};

static const char *
name_of(unsigned number, char text[32])
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].number == number)
			return names[i].name;
	snprintf(text, 32, "call %u", number);
	return text;
}

static void
scene_open(struct scene *s)
{
	pid_t workers[DAEMON_PROCESSES_MAX];

	namespace_enter();
	s->daemon =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "workers = 1\n",
		.config = CONFIG });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
	cr_assert_eq(daemon_workers(s->daemon, workers), 1);
	s->calls = calls_start(workers[0]);
}

static void
scene_close(struct scene *s)
{
	calls_stop(s->calls);
	target_close(&s->target);
	daemon_stop(s->daemon);
}

/* Each towards a target of its own, so that all have one source port: the
 * first use of a port is checked by one call more. */
static void
run_session(struct scene *s, uint32_t n, bool reset)
{
	struct addr to = target_number(&s->target, n);
	char bytes[64] = "sixty-four";
	struct pair p = { .client = socks_connect(&s->proxy) };

	socks_request(p.client, &to);
	cr_assert_eq(socks_reply(p.client).code, 0);
	p.target = target_accept(&s->target);
	peer_send(p.client, bytes, sizeof(bytes));
	peer_expect(p.target, bytes, sizeof(bytes));
	peer_send(p.target, bytes, sizeof(bytes));
	peer_expect(p.client, bytes, sizeof(bytes));
	if (reset)
		pair_reset(&p);
	else
		pair_finish(&p);
}

static bool
is_shared(unsigned number)
{
	return number == SYS_epoll_wait || number == SYS_write;
}

/* Prints the calls of one session, and returns how many they are. What does
 * not come with each session (memory, samples) is less than one. */
static unsigned
report(const unsigned *before, const unsigned *after)
{
	unsigned sum = 0;
	char text[32];

	for (unsigned i = 0; i < CALLS_MAX; i++) {
		unsigned a_session =
		    (after[i] - before[i] + SESSIONS / 2) / SESSIONS;

		if (i == SYS_accept4)
			a_session = 1;
		if (is_shared(i) || a_session == 0)
			continue;
		printf("  %2u %s\n", a_session, name_of(i, text));
		sum += a_session;
	}
	printf("  %2u in all\n", sum);
	return sum;
}

static unsigned
calls_of_sessions(bool reset)
{
	unsigned before[CALLS_MAX], after[CALLS_MAX];
	struct scene s;

	scene_open(&s);
	for (uint32_t i = 0; i < 2; i++)
		run_session(&s, i, reset);
	daemon_wait_lines(s.daemon, 2, DAEMON_WORDS("event=session"));
	calls_look(s.calls, before);
	for (uint32_t i = 0; i < SESSIONS; i++)
		run_session(&s, i + 2, reset);
	daemon_wait_lines(
	    s.daemon, SESSIONS + 2, DAEMON_WORDS("event=session"));
	calls_look(s.calls, after);
	scene_close(&s);
	cr_assert_gt(after[SYS_accept4], before[SYS_accept4] + SESSIONS / 2,
	    "nothing was counted");
	return report(before, after);
}

Test(scale_calls, a_session_that_the_client_resets_takes_22)
{
	unsigned calls = calls_of_sessions(true);

	cr_expect_leq(calls, 22, "%u", calls);
}

Test(scale_calls, a_session_that_ends_in_order_takes_26)
{
	unsigned calls = calls_of_sessions(false);

	cr_expect_leq(calls, 26, "%u", calls);
}
