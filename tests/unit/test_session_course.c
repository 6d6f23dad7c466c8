/* SPDX-License-Identifier: ISC */
/*
 * What a session goes through beyond single events (test_session.c), and then
 * any order of them.
 */
#include <sys/resource.h>
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "egress/ledger_read.h"
#include "fakes.h"
#include "passes.h"
#include "session_fixture.h"

#define TO(ip) "\5\1\0\1" ip "\0P"

Test(session_course, a_failed_dial_is_answered_with_the_reply_of_its_reason)
{
	for (int reason = 0; reason < CLOSE_REASON_COUNT; reason++) {
		const struct close_row *row =
		    close_row((enum close_reason)reason);
		struct fixture *f;
		uint8_t got[10];

		if (row->reply == NO_REPLY)
			continue;
		f = fixture_new();
		fixture_bring(f, SESSION_DIALING);
		fake_dial_fail(f->s->dial, (enum close_reason)reason, EIO);
		cr_expect_eq(f->s->state, SESSION_REFUSING);
		cr_expect_eq(f->s->error, EIO);
		cr_assert_eq(pairs_recv(f->client, got, 10), 10);
		cr_expect_eq(got[0], 5);
		cr_expect_eq(got[1], row->reply, "%s", row->label);
		client_ends(f);
		fixture_free(f, (enum close_reason)reason);
	}
}

/* The whole of a client's words, in two pieces cut anywhere. */
Test(session_course, a_handshake_may_be_cut_anywhere)
{
	static const char words[] =
	    "\5\2\0\2\1\1u\1p\5\1\0\3\6a.test\0Pahead of the reply";
	const size_t len = sizeof(words) - 1;
	struct addr at = addr_v4(INADDR_LOOPBACK, 80);

	for (size_t cut = 1; cut < len; cut++) {
		struct fixture *f = fixture_new();
		char got[32];

		f->listen.password = true;
		fixture_start(f);
		client_sends(f, words, cut);
		if (fixture_state(f) == SESSION_VERIFYING)
			fake_login_answer(f->s->login, LOGIN_OK, 0);
		client_sends(f, words + cut, len - cut);
		if (fixture_state(f) == SESSION_VERIFYING)
			fake_login_answer(f->s->login, LOGIN_OK, 0);
		cr_assert_eq(fixture_state(f), SESSION_RESOLVING, "%zu", cut);
		cr_expect_str_eq(fake_resolve_name(f->s->resolve), "a.test");
		fake_resolve_answer(f->s->resolve, RESOLVE_OK, &at, 1);
		target_accepts(f);
		cr_assert_eq(pairs_recv(f->client, got, 14), 14);
		cr_expect_eq(memcmp(got, "\5\2\1\0\5\0", 6), 0);
		cr_assert_eq(pairs_recv(f->target, got, 18), 18);
		cr_expect_eq(memcmp(got, "ahead of the reply", 18), 0);
		cr_expect_eq(f->s->user, 1);
		session_close(f->s, CLOSE_STOPPED);
		fixture_free(f, CLOSE_STOPPED);
	}
}

/* Is what comes acknowledged at once? */
static bool
acknowledges(const struct fixture *f)
{
	int on = -1;
	socklen_t len = sizeof(on);

	cr_assert_eq(
	    getsockopt(f->s->fd, IPPROTO_TCP, TCP_QUICKACK, &on, &len), 0);
	return on != 0;
}

/* Whoever sends a message in pieces, and TCP_NODELAY off, waits for it. */
Test(session_course, a_piece_of_a_message_is_acknowledged)
{
	static const int off = 0;
	struct fixture *f = fixture_new();

	fixture_start(f);
	/* As of what is accepted. */
	cr_assert_eq(
	    setsockopt(f->s->fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off)),
	    0);
	client_sends(f, "\5\1\0", 3);
	cr_expect_not(acknowledges(f));
	client_sends(f, "\5\1\0", 3);
	cr_expect(acknowledges(f));
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);
}

Test(session_course, the_first_reason_to_close_stands)
{
	struct fixture *f = fixture_new();

	fixture_bring(f, SESSION_RELAYING);
	session_close(f->s, CLOSE_IDLE_TIMEOUT);
	session_close(f->s, CLOSE_DONE);
	session_close(f->s, CLOSE_STOPPED);
	cr_expect_eq(pairs_look(f->target, PAIRS_RESET), PAIRS_RESET);
	fixture_free(f, CLOSE_IDLE_TIMEOUT);
}

Test(session_course, none_is_killed_in_place_of_one_that_is_not_there)
{
	struct fixture *f = fixture_new();

	fixture_bring(f, SESSION_RELAYING);
	cr_expect_not(session_kill(&f->env, f->s->id + 1));
	cr_expect_eq(fixture_state(f), SESSION_RELAYING);
	cr_expect(session_kill(&f->env, f->s->id));
	cr_expect_not(session_kill(&f->env, f->s->id));
	fixture_free(f, CLOSE_KILLED);
}

static void
keep_row(void *arg, const struct ledger_record_row *row)
{
	*(struct ledger_record_row *)arg = *row;
}

/* The place of a user in the file changes with the file. */
Test(session_course, the_lease_knows_its_user_by_an_id_that_lasts)
{
	struct fixture *f = fixture_new();
	struct ledger_record_row row = { 0 };

	f->user.id = 4711;
	f->listen.password = true;
	fixture_start(f);
	client_sends(f,
	    "\5\1\2"
	    "\1\5known\1p"
	    "\5\1\0\1\177\0\0\1\0P",
	    22);
	cr_assert_eq(fixture_state(f), SESSION_DIALING);
	ledger_each_record(f->env.egress.ledger, 0, keep_row, &row);
	cr_expect_eq(row.holder.user, 4711);
	cr_expect_eq(row.holder.session, f->s->id);
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);
}

Test(session_course, a_client_that_is_not_listed_is_not_served)
{
	struct fixture *f = fixture_new();
	struct prefix others;

	cr_assert_eq(prefix_parse("192.0.2.0/24", &others), 0);
	f->listen.clients = &others;
	f->listen.client_count = 1;
	fixture_start(f);
	cr_expect(fixture_is_closed(f));
	cr_expect_eq(pairs_look(f->client, PAIRS_FIN), PAIRS_FIN);
	fixture_free(f, CLOSE_CLIENT_DENIED);
}

Test(session_course, a_listed_client_is_served_and_a_unix_one_is_not_looked_up)
{
	struct fixture *f = fixture_new();
	struct prefix prefix;

	cr_assert_eq(prefix_parse("127.0.0.0/8", &prefix), 0);
	f->listen.clients = &prefix;
	f->listen.client_count = 1;
	fixture_bring(f, SESSION_GREETING);
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);

	f = fixture_new();
	cr_assert_eq(prefix_parse("192.0.2.0/24", &prefix), 0);
	f->listen.clients = &prefix;
	f->listen.client_count = 1;
	f->door.is_unix = true;
	fixture_bring(f, SESSION_GREETING);
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);
}

Test(session_course, without_memory_for_the_dial_the_request_is_refused)
{
	struct fixture *f = fixture_new();

	f->door.pool = FAKE_POOL_WITHOUT_MEMORY;
	fixture_bring(f, SESSION_REQUEST);
	client_sends(f, TO("\177\0\0\1"), 10);
	cr_expect_eq(fixture_state(f), SESSION_REFUSING);
	client_ends(f);
	fixture_free(f, CLOSE_MEMORY);
}

/* Of what a name has, only what the rules permit is dialled. */
Test(session_course, a_name_is_dialled_where_it_is_permitted)
{
	struct fixture *f = fixture_new();
	const struct addr *dialled;
	struct addr addrs[3];

	addrs[0] = addr_v4(0, 80);
	addrs[1] = addr_v4(INADDR_LOOPBACK, 80);
	addrs[2] = addr_v4(0xa9fea9fe, 80); /* 169.254.169.254 */
	fixture_bring(f, SESSION_RESOLVING);
	fake_resolve_answer(f->s->resolve, RESOLVE_OK, addrs, 3);
	cr_assert_eq(fixture_state(f), SESSION_DIALING);
	cr_assert_eq(fake_dial_targets(f->s->dial, &dialled), 1);
	cr_expect(addr_equal(dialled, &addrs[1]));
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);

	f = fixture_new();
	fixture_bring(f, SESSION_RESOLVING);
	fake_resolve_answer(f->s->resolve, RESOLVE_OK, &addrs[2], 1);
	cr_expect_eq(fixture_state(f), SESSION_REFUSING);
	cr_expect(addr_equal(&f->s->resolved, &addrs[2]));
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_DENIED);
}

Test(session_course, a_target_that_is_a_listener_of_ours_is_denied)
{
	struct fixture *f = fixture_new();
	struct addr own = addr_v4(INADDR_LOOPBACK, 80);

	f->env.rules.listeners = &own;
	f->env.rules.listener_count = 1;
	fixture_bring(f, SESSION_REQUEST);
	client_sends(f, TO("\177\0\0\1"), 10);
	cr_expect_eq(fixture_state(f), SESSION_REFUSING);
	client_ends(f);
	fixture_free(f, CLOSE_DENIED);
}

Test(session_course, bytes_are_counted_without_the_reply)
{
	struct fixture *f = fixture_new();
	char got[8];

	fixture_bring(f, SESSION_DIALING);
	client_sends(f, "early", 5);
	target_accepts(f);
	target_sends(f, "down", 4);
	client_sends(f, "up", 2);
	cr_assert_eq(pairs_recv(f->target, got, 7), 7);
	cr_expect_eq(memcmp(got, "earlyup", 7), 0);
	target_ends(f);
	client_ends(f);
	cr_expect_eq(stats_get(&f->stats.counters[STATS_BYTES_UP]), 7);
	cr_expect_eq(stats_get(&f->stats.counters[STATS_BYTES_DOWN]), 4);
	fixture_free(f, CLOSE_DONE);
}

/* So much in all, from the greeting on; all behind the request arrives. */
static void
send_ahead(size_t much)
{
	struct fixture *f = fixture_new();
	uint8_t *words = malloc(much), *got = malloc(much);

	cr_assert(words != NULL && got != NULL);
	memcpy(words, "\5\1\0" TO("\177\0\0\1"), 13);
	for (size_t i = 13; i < much; i++)
		words[i] = (uint8_t)(i * 7);
	fixture_start(f);
	client_sends(f, words, much);
	cr_assert_eq(fixture_state(f), SESSION_DIALING);
	cr_expect_leq(f->s->ahead_len, 2048);
	target_accepts(f);
	for (size_t have = 0; have < much - 13;) {
		size_t part = much - 13 - have < 4096 ? much - 13 - have : 4096;

		cr_assert_eq(pairs_recv(f->target, got + have, part), part);
		have += part;
		passes(&f->loop, 2);
	}
	cr_expect_eq(memcmp(got, words + 13, much - 13), 0);
	session_stop_all(&f->env);
	fixture_free(f, CLOSE_STOPPED);
	free(words);
	free(got);
}

/* What is beyond the bound stays in the kernel until the target is there. */
Test(session_course, what_is_sent_ahead_is_kept_within_bounds_and_none_is_lost)
{
	send_ahead(2047);
	send_ahead(2048);
	send_ahead(2049);
	send_ahead(100 * 1000);
}

Test(session_course, what_was_sent_ahead_arrives_though_its_sender_ended)
{
	struct fixture *f = fixture_new();
	char got[8];

	fixture_start(f);
	client_sends(f, "\5\1\0" TO("\177\0\0\1") "ahead", 18);
	client_ends(f);
	cr_assert_eq(fixture_state(f), SESSION_DIALING);
	target_accepts(f);
	cr_assert_eq(pairs_recv(f->target, got, 5), 5);
	cr_expect_eq(memcmp(got, "ahead", 5), 0);
	cr_expect_eq(pairs_look(f->target, PAIRS_FIN), PAIRS_FIN);
	target_ends(f);
	fixture_free(f, CLOSE_DONE);
}

static uint32_t
cooling_after(struct fixture *f, uint64_t ms)
{
	struct addr target = addr_v4(INADDR_LOOPBACK, 80);
	struct ledger_target t;

	ledger_target(
	    f->env.egress.ledger, 0, &target, loop_now(&f->loop) + ms, &t);
	return t.cooling;
}

Test(session_course, who_ended_first_decides_how_long_the_port_rests)
{
	struct fixture *f = fixture_new();

	fixture_bring(f, SESSION_RELAYING);
	target_ends(f);
	client_ends(f);
	cr_expect_eq(cooling_after(f, 0), 1);
	cr_expect_eq(cooling_after(f, LEDGER_BRIEF_MS), 0);
	fixture_free(f, CLOSE_DONE);

	f = fixture_new();
	fixture_bring(f, SESSION_RELAYING);
	client_ends(f);
	target_ends(f);
	cr_expect_eq(cooling_after(f, LEDGER_BRIEF_MS + 1000), 1);
	cr_expect_eq(cooling_after(f, LEDGER_LONG_MS), 0);
	fixture_free(f, CLOSE_DONE);

	f = fixture_new();
	fixture_bring(f, SESSION_RELAYING);
	client_ends(f);
	target_resets(f);
	cr_expect_eq(cooling_after(f, 0), 0);
	fixture_free(f, CLOSE_TARGET_RESET);
}

Test(session_course, an_idle_relay_ends_when_that_is_wanted)
{
	struct fixture *f = fixture_new();

	f->env.idle.after_ms = 1000;
	fixture_bring(f, SESSION_RELAYING);
	pass_expired(&f->loop);
	cr_expect_not(fixture_is_closed(f));
	target_sends(f, "x", 1); /* not idle: it begins anew */
	pass_expired(&f->loop);
	cr_expect_not(fixture_is_closed(f));
	pass_expired(&f->loop);
	cr_expect(fixture_is_closed(f));
	cr_expect_eq(pairs_look(f->target, PAIRS_RESET), PAIRS_RESET);
	fixture_free(f, CLOSE_IDLE_TIMEOUT);
}

/* How many bytes more the log has when 100 targets are judged while this host's
 * addresses cannot be read. */
static off_t
told_of_hostnet(struct fixture *f, uint64_t now_ms)
{
	struct addr a = addr_v4(0xcb007109, 80);
	off_t before = lseek(f->log.fd, 0, SEEK_END);
	struct rlimit usual, none = { 0 };
	bool local = true;

	must(getrlimit(RLIMIT_NOFILE, &usual) == 0);
	none.rlim_max = usual.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &none) == 0);
	f->loop.now_ms = now_ms;
	for (unsigned i = 0; i < 100; i++)
		local &= f->env.rules.is_local(f->env.rules.arg, &a);
	must(setrlimit(RLIMIT_NOFILE, &usual) == 0);
	cr_expect(local, "what is not known is not permitted");
	return lseek(f->log.fd, 0, SEEK_END) - before;
}

Test(session_course, that_addresses_cannot_be_read_is_told_once_a_minute)
{
	struct fixture *f = fixture_new();
	off_t line = told_of_hostnet(f, 1000);

	cr_expect_gt(line, 0);
	cr_expect_lt(line, 200, "one line");
	cr_expect_eq(told_of_hostnet(f, 60999), 0);
	cr_expect_eq(told_of_hostnet(f, 61000), line);
	fixture_free(f, CLOSE_NONE);
}

static void
expect_first_try(struct fixture *f, uint64_t connect_ms, int timeout_ms)
{
	const struct resolver_options *o;

	session_env_fini(&f->env);
	f->config.connect_ms = connect_ms;
	cr_assert_eq(session_env_init(&f->env), 0);
	o = fake_resolver_options(f->env.resolver);
	cr_expect_eq(o->timeout_ms, timeout_ms);
	cr_expect_eq(o->tries, 3);
}

Test(session_course, a_name_server_is_asked_within_the_time_for_connecting)
{
	struct fixture *f = fixture_new();

	expect_first_try(f, 100, 12);
	expect_first_try(f, 10000, 1250);
	expect_first_try(f, 3600000, 5000);
	fixture_free(f, CLOSE_NONE);
}

Test(session_course, an_environment_without_memory_leaves_nothing)
{
	struct fixture *f = fixture_new();
	int fds = pairs_open_fds();

	session_env_fini(&f->env);
	f->config.users = NULL;
	cr_expect_eq(session_env_init(&f->env), -ENOMEM);
	cr_expect_eq(pairs_open_fds(), fds);
	f->config.users = &f->user;
	cr_expect_eq(session_env_init(&f->env), 0);
	fixture_free(f, CLOSE_NONE);
}

Test(session_course, it_stays_within_its_budget)
{
	cr_expect_leq(session_bytes(), 640);
}

/* ---- any order of events ---- */

struct walk {
	struct fixture *f;
	uint32_t seed;
};

static uint32_t
draw(struct walk *w, uint32_t below)
{
	w->seed = w->seed * 1664525 + 1013904223;
	return (w->seed >> 16) % below;
}

static void
client_step(struct walk *w)
{
	static const char words[] = "\5\2\0\2\1\1u\1p\5\1\0\3\6a.test\0Pxx"
				    "\5\1\0\1\177\0\0\1\0P\5\2\4\0";
	size_t from = draw(w, 4) == 0 ? draw(w, sizeof(words) - 2) : 0;
	size_t len = 1 + draw(w, (uint32_t)(sizeof(words) - 1 - from));

	switch (draw(w, 12)) {
	case 0:
		shutdown(w->f->client, SHUT_WR);
		return;
	case 1:
		pairs_reset(w->f->client);
		w->f->client = -1;
		return;
	default:
		(void)send(w->f->client, words + from, len, MSG_NOSIGNAL);
		return;
	}
}

static void
target_step(struct walk *w)
{
	switch (draw(w, 6)) {
	case 0:
		shutdown(w->f->target, SHUT_WR);
		return;
	case 1:
		pairs_reset(w->f->target);
		w->f->target = -1;
		return;
	default:
		(void)send(w->f->target, "target", 6, MSG_NOSIGNAL);
		return;
	}
}

static void
answer_step(struct walk *w)
{
	struct session *s = w->f->s;

	if (s->state == SESSION_VERIFYING)
		fixture_answer(w->f, (int)draw(w, 3));
	else if (s->state == SESSION_RESOLVING)
		fixture_answer(w->f, (int)draw(w, 3));
	else if (s->state == SESSION_DIALING)
		fixture_answer(
		    w->f, draw(w, 4) == 0 ? CLOSE_REFUSED : CLOSE_NONE);
}

static void
walk(struct walk *w)
{
	struct fixture *f = w->f;

	f->listen.password = draw(w, 2) == 0;
	fixture_start(f);
	for (int step = 0; step < 40 && !fixture_is_closed(f); step++) {
		switch (draw(w, 8)) {
		case 0:
		case 1:
		case 2:
			answer_step(w);
			break;
		case 3:
			if (f->target != -1)
				target_step(w);
			break;
		case 4:
			if (draw(w, 8) == 0)
				pass_expired(&f->loop);
			break;
		default:
			if (f->client != -1)
				client_step(w);
		}
		passes(&f->loop, draw(w, 3));
	}
	session_stop_all(&f->env);
}

static enum close_reason
counted_reason(const struct fixture *f)
{
	enum close_reason reason = CLOSE_NONE;

	for (unsigned r = 0; r < CLOSE_REASON_COUNT; r++)
		if (stats_get(&f->stats.closed[r]) != 0)
			reason = (enum close_reason)r;
	return reason;
}

Test(session_course, any_order_of_events_leaves_nothing_behind)
{
	for (uint32_t seed = 1; seed <= 300; seed++) {
		struct walk w = { fixture_new(), seed };

		walk(&w);
		fixture_free(w.f, counted_reason(w.f));
	}
}
