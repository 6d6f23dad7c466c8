/* SPDX-License-Identifier: ISC */
/*
 * Whose sessions are counted, and from when to when. Other workers are played
 * by what the quota has counted of them.
 */
#include <netinet/in.h>
#include <string.h>

#include <criterion/criterion.h>

#include "fakes.h"
#include "passes.h"
#include "quota_fixture.h"
#include "session_fixture.h"

#define SUBJECTS 100
#define OTHER    2 /* a worker */
#define LEAST    16

struct subjects {
	struct quota_subject client, arrivals, user;
};

/* Of the fixture's session. */
static struct subjects
subjects_of(const struct fixture *f)
{
	struct addr from = addr_v4(INADDR_LOOPBACK, 5000);

	return (struct subjects){ quota_client(&from, 32, 64),
		quota_arrivals(&from, 32, 64), quota_user(f->user.id) };
}

static struct fixture *
new_with(unsigned client_sessions, unsigned user_sessions)
{
	struct fixture *f = fixture_new();

	f->config.client_bits_v4 = 32;
	f->config.client_bits_v6 = 64;
	f->config.client_limit.sessions = client_sessions;
	f->user.id = 7;
	f->user.limit.sessions = user_sessions;
	f->env.quota = fixture_quota(SUBJECTS);
	return f;
}

/* Nobody is counted any more. */
static void
free_all(struct fixture *f, enum close_reason reason)
{
	struct quota *q = f->env.quota;

	fixture_free(f, reason);
	quota_drop_worker(q, OTHER);
	fixture_check(q);
	cr_expect_eq(fixture_cells(q), 0);
	munmap(q, quota_bytes(SUBJECTS));
}

static void
others(struct fixture *f, const struct quota_subject *subject, unsigned n)
{
	while (n-- > 0)
		cr_assert_eq(quota_enter(f->env.quota, OTHER, subject, 0, 0, 0),
		    QUOTA_OK);
}

static void
expect_counts(struct fixture *f, unsigned arrivals, unsigned sessions)
{
	struct subjects of = subjects_of(f);

	cr_expect_eq(quota_count(f->env.quota, &of.arrivals), arrivals);
	cr_expect_eq(quota_count(f->env.quota, &of.client), sessions);
}

Test(admission, a_session_is_one_from_its_request_on)
{
	static const enum session_state before[] = { SESSION_GREETING,
		SESSION_LOGIN, SESSION_VERIFYING, SESSION_REQUEST };
	static const enum session_state after[] = { SESSION_RESOLVING,
		SESSION_DIALING, SESSION_RELAYING };

	for (size_t i = 0; i < ARRAY_LEN(before); i++) {
		struct fixture *f = new_with(3, 0);

		fixture_bring(f, before[i]);
		expect_counts(f, 1, 0);
		session_stop_all(&f->env);
		expect_counts(f, 0, 0);
		free_all(f, CLOSE_STOPPED);
	}
	for (size_t i = 0; i < ARRAY_LEN(after); i++) {
		struct fixture *f = new_with(3, 0);

		fixture_bring(f, after[i]);
		expect_counts(f, 0, 1);
		session_stop_all(&f->env);
		expect_counts(f, 0, 0);
		free_all(f, CLOSE_STOPPED);
	}
}

Test(admission, who_is_refused_is_counted_until_it_is_closed)
{
	struct fixture *f = new_with(3, 0);
	struct subjects of = subjects_of(f);

	fixture_bring(f, SESSION_DIALING);
	/* It is let out, however many are on their way. */
	others(f, &of.arrivals, 40);
	fixture_answer(f, CLOSE_REFUSED);
	cr_expect_eq(fixture_state(f), SESSION_REFUSING);
	expect_counts(f, 41, 0);
	client_ends(f);
	expect_counts(f, 40, 0);
	free_all(f, CLOSE_REFUSED);
}

Test(admission, who_has_no_limit_is_counted_all_the_same)
{
	static const struct {
		const char *bytes;
		size_t len, reply;
	} said[] = { { "\5\1\2", 3, 2 }, { "\1\5known\1p", 9, 2 },
		{ "\5\1\0\1\177\0\0\1\0P", 10, 0 } };
	struct fixture *f = new_with(0, 0);
	struct subjects of = subjects_of(f);
	uint8_t reply[10];

	f->listen.password = true;
	fixture_start(f);
	expect_counts(f, 0, 0);
	for (size_t i = 0; i < ARRAY_LEN(said); i++) {
		client_sends(f, said[i].bytes, said[i].len);
		cr_assert_eq(
		    pairs_recv(f->client, reply, said[i].reply), said[i].reply);
	}
	cr_expect_eq(fixture_state(f), SESSION_DIALING);
	expect_counts(f, 0, 1);
	cr_expect_eq(quota_count(f->env.quota, &of.user), 1);
	session_stop_all(&f->env);
	free_all(f, CLOSE_STOPPED);
}

/* Takes all cells of the table. */
static void
fill(struct quota *q)
{
	enum quota_verdict verdict = QUOTA_OK;
	unsigned refused = 0;

	for (uint32_t n = 0; refused < 1000; n++) {
		struct quota_subject subject = fixture_client(n);

		verdict = quota_enter(q, OTHER, &subject, 0, 0, 0);
		refused += verdict == QUOTA_NO_ROOM;
	}
}

Test(admission, where_the_table_is_full_only_who_has_a_limit_is_refused)
{
	for (unsigned limit = 0; limit <= 1; limit++) {
		struct fixture *f = new_with(limit, 0);

		fill(f->env.quota);
		fixture_bring(f, SESSION_REQUEST);
		client_sends(f, "\5\1\0\1\177\0\0\1\0P", 10);
		cr_expect_eq(fixture_state(f),
		    limit == 0 ? SESSION_DIALING : SESSION_REFUSING);
		expect_counts(f, 0, 0);
		session_stop_all(&f->env);
		free_all(f, limit == 0 ? CLOSE_STOPPED : CLOSE_MEMORY);
	}
}

Test(admission, who_has_no_limit_may_come_as_often_as_it_likes)
{
	struct fixture *f = new_with(0, 0);
	struct subjects of = subjects_of(f);

	others(f, &of.arrivals, 1000);
	fixture_start(f);
	cr_expect_eq(fixture_state(f), SESSION_GREETING);
	session_stop_all(&f->env);
	free_all(f, CLOSE_STOPPED);
}

/* As many as the client may have sessions, or a few. */
static void
expect_room(unsigned limit, unsigned on_their_way, bool room)
{
	struct fixture *f = new_with(limit, 0);
	struct subjects of = subjects_of(f);

	others(f, &of.arrivals, on_their_way);
	fixture_start(f);
	cr_expect_eq(
	    fixture_is_closed(f), !room, "%u of %u", on_their_way, limit);
	if (!room)
		cr_expect_eq(pairs_look(f->client, PAIRS_RESET), PAIRS_RESET);
	session_stop_all(&f->env);
	free_all(f, room ? CLOSE_STOPPED : CLOSE_QUOTA_ARRIVALS);
}

Test(admission, too_many_on_their_way_are_closed_at_once)
{
	expect_room(1, LEAST - 1, true);
	expect_room(1, LEAST, false);
	expect_room(LEAST, LEAST, false);
	expect_room(LEAST + 1, LEAST, true);
	expect_room(500, 499, true);
	expect_room(500, 500, false);
}

Test(admission, who_has_all_its_sessions_is_told_so)
{
	struct fixture *f = new_with(3, 0);
	struct subjects of = subjects_of(f);
	uint8_t reply[10];

	others(f, &of.client, 3);
	fixture_bring(f, SESSION_REQUEST);
	client_sends(f, "\5\1\0\1\177\0\0\1\0P", 10);
	cr_expect_eq(fixture_state(f), SESSION_REFUSING);
	cr_assert_eq(pairs_recv(f->client, reply, 10), 10);
	cr_expect_eq(reply[1], SOCKS5_NOT_ALLOWED);
	expect_counts(f, 1, 3);
	client_ends(f);
	free_all(f, CLOSE_QUOTA_SESSIONS);
}
