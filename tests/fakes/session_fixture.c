/* SPDX-License-Identifier: ISC */
#include "session_fixture.h"

#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "fakes.h"
#include "ledger_fixture.h"
#include "passes.h"

static void
on_end(void *arg)
{
	struct fixture *f = arg;

	f->ends++;
}

static void
fill_config(struct fixture *f)
{
	strcpy_bounded(f->user.name, sizeof(f->user.name), FAKE_USER_KNOWN);
	f->listen.egress = 0;
	f->config = (struct config){ .handshake_ms = 1000,
		.connect_ms = 1000,
		.half_closed_ms = 300000,
		.keepalive_ms = 60000,
		.buffer_bytes = 64 * 1024,
		.max_buffer_bytes = 1024 * 1024,
		.log_access = true,
		.listens = &f->listen,
		.listen_count = 1,
		.users = &f->user,
		.user_count = 1 };
	f->door.listen = &f->listen;
	f->door.pool = 0;
}

struct fixture *
fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	cr_assert_not_null(f);
	f->fds_before = pairs_open_fds();
	f->client = f->target = -1;
	fill_config(f);
	log_init(&f->log, memfd_create("log", MFD_CLOEXEC), LOG_LEVEL_INFO,
	    LOG_PLAIN);
	cr_assert_eq(loop_init(&f->loop), 0);
	f->env = (struct session_env){ .loop = &f->loop,
		.log = &f->log,
		.config = &f->config,
		.stats = &f->stats,
		.worker = 1,
		.next_id = 1,
		.on_end = on_end,
		.on_end_arg = f };
	f->env.egress.log = &f->log;
	f->env.egress.ledger = fixture_ledger(1024, 1024);
	fixture_set(f->env.egress.ledger, 0, "127.0.0.1", FIXTURE_SOURCE_PORT,
	    FIXTURE_SOURCE_PORT + 9);
	cr_assert_eq(session_env_init(&f->env), 0);
	return f;
}

/* The log has one line a session, with the reason that was counted. */
static void
expect_logged(struct fixture *f, enum close_reason reason)
{
	char text[8192], words[64];
	const char *line;
	ssize_t n;

	log_flush(&f->log);
	n = pread(f->log.fd, text, sizeof(text) - 1, 0);
	cr_assert_geq(n, 0);
	text[n] = '\0';
	line = strstr(text, "event=session ");
	cr_assert_not_null(line, "no line of the session: %s", text);
	cr_expect_null(strstr(line + 1, "event=session "), "two: %s", text);
	snprintf(words, sizeof(words), "reason=%s", close_row(reason)->label);
	cr_expect_not_null(strstr(line, words), "%s: %s", words, line);
}

static void
expect_counted(struct fixture *f, enum close_reason reason)
{
	unsigned count = reason == CLOSE_NONE ? 0 : 1;

	for (unsigned r = 0; r < CLOSE_REASON_COUNT; r++)
		cr_expect_eq(stats_get(&f->stats.closed[r]),
		    r == (unsigned)reason ? count : 0, "counted as %s",
		    close_row((enum close_reason)r)->label);
	cr_expect_eq(stats_get(&f->stats.counters[STATS_ACCEPTED]), count);
	cr_expect_eq(stats_get(&f->stats.sessions), 0);
	cr_expect_eq(f->ends, count);
	cr_expect_eq(f->env.count, 0);
	cr_expect(list_is_empty(&f->env.sessions));
	if (reason != CLOSE_NONE)
		expect_logged(f, reason);
}

void
fixture_free(struct fixture *f, enum close_reason reason)
{
	struct ledger_totals totals;

	passes(&f->loop, 2);
	expect_counted(f, reason);
	fixture_check(f->env.egress.ledger);
	ledger_totals(f->env.egress.ledger, &totals);
	cr_expect_eq(totals.held, 0, "a lease is left");
	if (f->client != -1)
		close(f->client);
	if (f->target != -1)
		close(f->target);
	session_env_fini(&f->env);
	cr_expect_eq(f->loop.poller.count, 0, "a watch is left");
	event_del(&f->loop.tick);
	cr_expect_eq(
	    event_base_get_num_events(f->loop.base, EVENT_BASE_COUNT_ADDED),
	    f->loop.poller.epoll == -1 ? 0 : 1, "an event is left");
	loop_fini(&f->loop);
	close(f->log.fd);
	log_fini(&f->log);
	cr_expect_eq(pairs_open_fds(), f->fds_before, "a descriptor is left");
	munmap(f->env.egress.ledger, ledger_bytes(1024, 1024));
	free(f);
}

void
fixture_start(struct fixture *f)
{
	struct addr from = addr_v4(INADDR_LOOPBACK, 5000);
	int fd;

	cr_assert(pairs_tcp(&fd, &f->client));
	outsock_set_abortive(fd, true); /* as a listening socket's */
	session_start(&f->env, &f->door, fd, &from);
	if (list_is_empty(&f->env.sessions)) {
		pass(&f->loop);
		return;
	}
	f->s = container_of(
	    list_first(&f->env.sessions), struct session, place.link);
	passes(&f->loop, 3);
}

bool
fixture_is_closed(const struct fixture *f)
{
	return list_is_empty(&f->env.sessions);
}

enum session_state
fixture_state(const struct fixture *f)
{
	return fixture_is_closed(f) ? SESSION_CLOSED : f->s->state;
}

/* ---- what the ends do ---- */

static void
told(struct fixture *f, int fd, short events)
{
	cr_assert(pairs_wait(fd, events));
	passes(&f->loop, 3);
}

void
client_sends(struct fixture *f, const void *bytes, size_t len)
{
	cr_assert(pairs_send(f->client, bytes, len));
	told(f, f->s->fd, POLLIN);
}

void
client_ends(struct fixture *f)
{
	shutdown(f->client, SHUT_WR);
	told(f, f->s->fd, POLLRDHUP);
}

void
client_resets(struct fixture *f)
{
	pairs_reset(f->client);
	f->client = -1;
	told(f, f->s->fd, POLLERR);
}

void
target_sends(struct fixture *f, const void *bytes, size_t len)
{
	cr_assert(pairs_send(f->target, bytes, len));
	told(f, f->s->out.fd, POLLIN);
}

void
target_ends(struct fixture *f)
{
	shutdown(f->target, SHUT_WR);
	told(f, f->s->out.fd, POLLRDHUP);
}

void
target_resets(struct fixture *f)
{
	pairs_reset(f->target);
	f->target = -1;
	told(f, f->s->out.fd, POLLERR);
}

void
target_accepts(struct fixture *f)
{
	int fd;

	cr_assert(pairs_tcp(&fd, &f->target));
	fake_dial_connect(f->s->dial, fd);
	passes(&f->loop, 3);
}

/* ---- the way to each state ---- */

void
fixture_answer(struct fixture *f, int what)
{
	struct addr at = addr_v4(INADDR_LOOPBACK, 80);

	if (f->s->state == SESSION_VERIFYING)
		fake_login_answer(f->s->login, (enum login_result)what, 0);
	else if (f->s->state == SESSION_RESOLVING)
		fake_resolve_answer(f->s->resolve, (enum resolve_result)what,
		    &at, what == RESOLVE_OK ? 1 : 0);
	else if (what == CLOSE_NONE)
		target_accepts(f);
	else
		fake_dial_fail(f->s->dial, (enum close_reason)what, EIO);
	passes(&f->loop, 3);
}

static void
say(struct fixture *f, const char *bytes, size_t len, size_t reply)
{
	uint8_t got[SOCKS5_REPLY_MAX];

	client_sends(f, bytes, len);
	cr_assert_eq(pairs_recv(f->client, got, reply), reply);
}

static void
request(struct fixture *f, enum session_state state)
{
	if (state == SESSION_RESOLVING)
		say(f, "\5\1\0\3\6a.test\0P", 13, 0);
	else if (state == SESSION_REFUSING)
		say(f, "\5\2\0\1\177\0\0\1\0P", 10, 10);
	else
		say(f, "\5\1\0\1\177\0\0\1\0P", 10, 0);
}

void
fixture_bring(struct fixture *f, enum session_state state)
{
	uint8_t reply[SOCKS5_REPLY_MAX];

	f->listen.password =
	    state == SESSION_LOGIN || state == SESSION_VERIFYING;
	fixture_start(f);
	if (state == SESSION_GREETING)
		return;
	say(f, f->listen.password ? "\5\1\2" : "\5\1\0", 3, 2);
	if (state == SESSION_VERIFYING)
		say(f, "\1\1u\1p", 5, 0);
	if (state > SESSION_REQUEST)
		request(f, state);
	if (state == SESSION_RELAYING) {
		target_accepts(f);
		cr_assert_eq(pairs_recv(f->client, reply, 10), 10);
	}
	cr_assert_eq(fixture_state(f), state);
}
