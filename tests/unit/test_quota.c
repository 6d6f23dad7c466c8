/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "quota_fixture.h"

#define NO_LIMIT 0

/* How many get in before the first is refused, with that verdict. */
static unsigned
fill(struct quota *q, const struct quota_subject *s, uint32_t sessions,
    uint32_t rate, uint64_t now_ms, enum quota_verdict refused)
{
	enum quota_verdict verdict;
	unsigned n = 0;

	while ((verdict = quota_enter(q, 1, s, sessions, rate, now_ms)) ==
	       QUOTA_OK)
		n++;
	cr_assert_eq(verdict, refused);
	return n;
}

static void
leave(struct quota *q, const struct quota_subject *s, unsigned n)
{
	while (n-- > 0)
		quota_leave(q, 1, s, 0);
}

static void
expect_enter(struct quota *q, const struct quota_subject *s, uint32_t sessions,
    uint32_t rate, uint64_t now_ms)
{
	cr_expect_eq(quota_enter(q, 1, s, sessions, rate, now_ms), QUOTA_OK);
}

Test(quota, as_many_sessions_get_in_as_are_allowed)
{
	struct quota *q = fixture_quota(100);
	struct quota_subject s = fixture_client(1);

	for (uint32_t limit = 1; limit < 50; limit++) {
		cr_expect_eq(fill(q, &s, limit, 0, 0, QUOTA_SESSIONS), limit);
		cr_expect_eq(quota_count(q, &s), limit);
		leave(q, &s, 1);
		cr_expect_eq(fill(q, &s, limit, 0, 0, QUOTA_SESSIONS), 1);
		/* A limit that was lowered cuts nobody. */
		cr_expect_eq(quota_enter(q, 1, &s, 1, 0, 0), QUOTA_SESSIONS);
		cr_expect_eq(quota_count(q, &s), limit);
		fixture_check(q);
		leave(q, &s, limit);
		cr_expect_eq(quota_count(q, &s), 0);
	}
	for (unsigned i = 0; i < 1000; i++)
		expect_enter(q, &s, NO_LIMIT, NO_LIMIT, 0);
	cr_expect_eq(quota_count(q, &s), 1000);
	fixture_check(q);
}

Test(quota, clients_and_users_are_counted_apart)
{
	struct quota *q = fixture_quota(100);
	struct addr unspecified = addr_v4(0, 0), none = { 0 };
	struct quota_subject s[] = { fixture_client(1), fixture_client(2),
		quota_user(1), quota_user(2), quota_user(0x0100),
		quota_client(&unspecified, 32, 64),
		quota_client(&none, 32, 64) };

	for (unsigned i = 0; i < ARRAY_LEN(s); i++)
		for (unsigned j = 0; j <= i; j++)
			expect_enter(q, &s[i], i + 1, 0, 0);
	for (unsigned i = 0; i < ARRAY_LEN(s); i++) {
		cr_expect_eq(quota_count(q, &s[i]), i + 1);
		cr_expect_eq(
		    quota_enter(q, 1, &s[i], i + 1, 0, 0), QUOTA_SESSIONS);
	}
	fixture_check(q);
}

static bool
is_one(const char *a, const char *b, unsigned bits_v4, unsigned bits_v6)
{
	struct addr one, two;
	struct quota_subject s, t;

	cr_assert_eq(addr_parse(a, &one), 0, "%s", a);
	cr_assert_eq(addr_parse(b, &two), 0, "%s", b);
	s = quota_client(&one, bits_v4, bits_v6);
	t = quota_client(&two, bits_v4, bits_v6);
	return memcmp(&s, &t, sizeof(s)) == 0;
}

Test(quota, clients_that_agree_in_their_prefix_are_one)
{
	cr_expect(is_one("10.1.2.3:1", "10.1.2.3:2", 32, 128));
	cr_expect_not(is_one("10.1.2.3:1", "10.1.2.4:1", 32, 128));
	cr_expect(is_one("10.1.2.2:1", "10.1.2.3:1", 31, 128));
	cr_expect(is_one("10.1.2.3:1", "10.1.2.255:1", 24, 128));
	cr_expect_not(is_one("10.1.2.3:1", "10.1.3.3:1", 24, 128));
	cr_expect(is_one("10.1.16.3:1", "10.1.31.3:1", 20, 128));
	cr_expect_not(is_one("10.1.16.3:1", "10.1.32.3:1", 20, 128));
	cr_expect(is_one("1.0.0.0:1", "127.0.0.0:1", 1, 128));
	cr_expect_not(is_one("1.0.0.0:1", "128.0.0.0:1", 1, 128));
	cr_expect(is_one("[2001:db8::1]:1", "[2001:db8::2:3]:1", 32, 64));
	cr_expect_not(is_one("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", 32, 64));
	cr_expect(is_one("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", 32, 63));
	cr_expect_not(is_one("[::1]:1", "[::2]:1", 32, 128));
	cr_expect(is_one("[::2]:1", "[::3]:1", 32, 127));
	cr_expect(is_one("[::ffff:10.1.2.3]:1", "10.1.2.9:1", 24, 128));
	cr_expect_not(is_one("10.0.0.1:1", "[a00:1::]:1", 32, 128));
}

Test(quota, clients_on_unix_sockets_are_one)
{
	struct addr none = { 0 };
	struct quota_subject one = quota_client(&none, 32, 128);
	struct quota_subject two = quota_client(&none, 1, 1);

	cr_expect_eq(memcmp(&one, &two, sizeof(one)), 0);
	cr_expect_eq(one.family, ADDR_NONE);
}

/* At each of the times, as many have got in as the rate says: those of one
 * second at once, and then exactly so many a second. */
static void
expect_rate(uint32_t rate, uint64_t end_ms, uint64_t step_ms)
{
	struct quota *q = fixture_quota(1);
	struct quota_subject s = quota_user(7);
	uint64_t in = 0, began_ms = 5000000123;

	for (uint64_t t = 0; t <= end_ms; t += step_ms) {
		unsigned n = fill(q, &s, 0, rate, began_ms + t, QUOTA_RATE);

		in += n;
		leave(q, &s, n);
		cr_assert_eq(in, rate + t * rate / 1000,
		    "rate %u: %llu in %llu ms", rate, (unsigned long long)in,
		    (unsigned long long)t);
	}
	fixture_check(q);
}

Test(quota, the_rate_is_exact_to_the_session)
{
	static const uint32_t rates[] = { 1, 2, 3, 7, 30, 333, 999, 1000, 1001,
		1777 };

	for (unsigned i = 0; i < ARRAY_LEN(rates); i++) {
		expect_rate(rates[i], 5000, 1);
		/* Asked for so seldom, what comes one at a time is late. */
		if (rates[i] > 1)
			expect_rate(rates[i], 20000, 7);
		expect_rate(rates[i], 20000, 1000);
	}
	/* No third is lost in an hour. */
	expect_rate(3, 3600000, 100);
	expect_rate(QUOTA_RATE_MAX, 20, 1);
}

Test(quota, who_was_refused_is_no_worse_off_and_who_waited_no_better)
{
	struct quota *q = fixture_quota(100);
	struct quota_subject s = fixture_client(1);

	cr_expect_eq(fill(q, &s, 0, 10, 1000, QUOTA_RATE), 10);
	for (unsigned i = 0; i < 1000; i++)
		cr_expect_eq(quota_enter(q, 1, &s, 0, 10, 1099), QUOTA_RATE);
	cr_expect_eq(fill(q, &s, 0, 10, 1100, QUOTA_RATE), 1);
	/* Nor does one count that had too many sessions. */
	cr_expect_eq(quota_enter(q, 1, &s, 11, 10, 1200), QUOTA_SESSIONS);
	cr_expect_eq(fill(q, &s, 0, 10, 1200, QUOTA_RATE), 1);
	cr_expect_eq(fill(q, &s, 0, 10, 100000, QUOTA_RATE), 10);
	cr_expect_eq(quota_count(q, &s), 22);
}

Test(quota, what_is_cancelled_has_cost_nothing)
{
	struct quota *q = fixture_quota(100);
	struct quota_subject s = fixture_client(1);

	expect_enter(q, &s, NO_LIMIT, 3, 0);
	for (unsigned i = 0; i < 10; i++) {
		expect_enter(q, &s, NO_LIMIT, 3, 0);
		quota_cancel(q, 1, &s, 0);
		fixture_check(q);
	}
	cr_expect_eq(quota_count(q, &s), 1);
	cr_expect_eq(fill(q, &s, NO_LIMIT, 3, 0, QUOTA_RATE), 2);
	leave(q, &s, 3);
	fixture_check(q);
}

Test(quota, a_rate_is_remembered_without_a_session)
{
	struct quota *q = fixture_quota(100);
	struct quota_subject s = fixture_client(1), other = fixture_client(2);

	leave(q, &s, fill(q, &s, 0, 5, 1000, QUOTA_RATE));
	cr_expect_eq(quota_count(q, &s), 0);
	cr_expect_eq(quota_enter(q, 1, &s, 0, 5, 1199), QUOTA_RATE);
	expect_enter(q, &s, 0, 5, 1200);
	leave(q, &s, 1);
	fixture_check(q);
	/* Until nothing is owed any more. */
	for (unsigned i = 0; i < QUOTA_SHARDS * 64; i++) {
		struct quota_subject any = fixture_client(100 + i);

		expect_enter(q, &any, 0, 0, 2200);
		quota_leave(q, 1, &any, 2200);
	}
	cr_expect_eq(fixture_cells(q), 0);
	cr_expect_eq(fill(q, &other, 0, 5, 2200, QUOTA_RATE), 5);
	cr_expect_eq(fill(q, &s, 0, 5, 2200, QUOTA_RATE), 5);
}

Test(quota, a_rate_may_change_and_a_clock_be_behind)
{
	struct quota *q = fixture_quota(100);
	struct quota_subject s = fixture_client(1);

	cr_expect_eq(fill(q, &s, 0, 100, 9000, QUOTA_RATE), 100);
	cr_expect_eq(quota_enter(q, 1, &s, 0, 2, 9000), QUOTA_RATE);
	/* Raised: at once. */
	cr_expect_eq(fill(q, &s, 0, 200, 9000, QUOTA_RATE), 100);
	/* Lowered: from a second later on. */
	cr_expect_eq(fill(q, &s, 0, 2, 10000, QUOTA_RATE), 2);
	/* Another worker's clock. */
	cr_expect_eq(quota_enter(q, 2, &s, 0, 2, 9500), QUOTA_RATE);
	expect_enter(q, &s, 0, 2, 10500);
	expect_enter(q, &s, 0, 0, 10500);
	cr_expect_eq(fill(q, &s, 0, 2, 10500, QUOTA_RATE), 2);
	fixture_check(q);
}

/* One session each of other clients, until there is no room. */
static uint32_t
fill_table(struct quota *q, uint32_t rate, uint64_t now_ms)
{
	uint32_t n = 0;

	for (;;) {
		struct quota_subject s = fixture_client(n);
		enum quota_verdict verdict =
		    quota_enter(q, 1, &s, 0, rate, now_ms);

		if (verdict != QUOTA_OK) {
			cr_assert_eq(verdict, QUOTA_NO_ROOM);
			return n;
		}
		n++;
	}
}

Test(quota, as_many_subjects_have_room_as_were_asked_for)
{
	static const uint32_t sizes[] = { 0, 1, 64, 1000, 20000 };

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		struct quota *q = fixture_quota(sizes[i]);
		uint32_t n = fill_table(q, 0, 0);
		struct quota_subject refused = fixture_client(n);
		struct quota_subject present = fixture_client(n / 2);

		cr_expect_geq(n, sizes[i]);
		cr_expect_eq(quota_count(q, &refused), 0);
		expect_enter(q, &present, 0, 0, 0);
		cr_expect_eq(quota_count(q, &present), 2);
		fixture_check(q);
		leave(q, &present, 1);
		for (uint32_t j = 0; j < n; j++) {
			struct quota_subject s = fixture_client(j);

			leave(q, &s, 1);
		}
		cr_expect_eq(fixture_cells(q), 0);
		fixture_check(q);
		cr_expect_eq(fill_table(q, 0, 0), n);
	}
}

Test(quota, the_rates_of_who_is_gone_make_room_for_who_comes)
{
	struct quota *q = fixture_quota(10);
	struct quota_subject last;

	/* All within one ms, each owing a second's worth. */
	for (uint32_t i = 0; i < 100000; i++) {
		last = fixture_client(i);
		expect_enter(q, &last, 0, 1, 7);
		quota_leave(q, 1, &last, 7);
	}
	fixture_check(q);
	cr_expect_eq(quota_enter(q, 1, &last, 0, 1, 7), QUOTA_RATE);
	cr_expect_gt(fixture_cells(q), 10);
}

Test(quota, a_subject_may_be_in_every_worker)
{
	struct quota *q = fixture_quota(10);
	struct quota_subject s = fixture_client(1);

	for (unsigned round = 0; round < 3; round++)
		for (unsigned w = 1; w <= QUOTA_WORKERS_MAX; w++)
			cr_expect_eq(quota_enter(q, (uint8_t)w, &s, 700, 0, 0),
			    w + 255 * round <= 700 ? QUOTA_OK : QUOTA_SESSIONS);
	cr_expect_eq(quota_count(q, &s), 700);
	fixture_check(q);
	quota_drop_worker(q, 255);
	quota_drop_worker(q, 1);
	cr_expect_eq(quota_count(q, &s), 700 - 2 - 3);
	fixture_check(q);
	for (unsigned w = 2; w <= 254; w++) {
		quota_leave(q, (uint8_t)w, &s, 0);
		quota_leave(q, (uint8_t)w, &s, 0);
		if (w <= 190)
			quota_leave(q, (uint8_t)w, &s, 0);
	}
	cr_expect_eq(quota_count(q, &s), 0);
	cr_expect_eq(fixture_cells(q), 0);
	fixture_check(q);
}

Test(quota, where_a_worker_has_no_room_nothing_is_counted)
{
	struct quota *q = fixture_quota(1);
	struct quota_subject s[100];
	unsigned n = 0;

	/* Of one shard: as many as it takes, in four workers each. */
	for (uint32_t i = 0; n < ARRAY_LEN(s); i++) {
		uint32_t bucket;

		s[n] = fixture_client(i);
		if (quota_place(q, &s[n], &bucket) != 0)
			continue;
		if (quota_enter(q, 1, &s[n], 0, 0, 0) != QUOTA_OK)
			break;
		for (uint8_t w = 2; w <= QUOTA_MAIN_HAS; w++)
			cr_assert_eq(
			    quota_enter(q, w, &s[n], 0, 0, 0), QUOTA_OK);
		n++;
	}
	cr_assert_lt(n, ARRAY_LEN(s));
	cr_expect_eq(quota_enter(q, 5, &s[0], 0, 9, 0), QUOTA_NO_ROOM);
	cr_expect_eq(quota_count(q, &s[0]), 4);
	fixture_check(q);
	quota_drop_worker(q, 2);
	cr_expect_eq(quota_enter(q, 5, &s[0], 0, 0, 0), QUOTA_OK);
	cr_expect_eq(quota_count(q, &s[0]), 4);
	fixture_check(q);
}

Test(quota, what_a_dead_worker_had_is_forgotten_and_nothing_else)
{
	struct quota *q = fixture_quota(1000);

	for (uint32_t i = 0; i < 500; i++) {
		struct quota_subject s = fixture_client(i);

		for (uint8_t w = 1; w <= 3; w++)
			for (uint32_t j = 0; j < (i + w) % 4; j++)
				cr_assert_eq(quota_enter(q, w, &s, 0, 100, 50),
				    QUOTA_OK);
	}
	quota_drop_worker(q, 2);
	quota_drop_worker(q, 2);
	quota_drop_worker(q, 9);
	fixture_check(q);
	for (uint32_t i = 0; i < 500; i++) {
		struct quota_subject s = fixture_client(i);
		unsigned had = (i + 2) % 4, others = (i + 1) % 4 + (i + 3) % 4;

		cr_expect_eq(quota_count(q, &s), others);
		/* The rate remembers them. */
		cr_expect_eq(
		    fill(q, &s, 0, 100, 50, QUOTA_RATE), 100 - had - others);
	}
	quota_drop_worker(q, 1);
	quota_drop_worker(q, 3);
	for (uint32_t i = 0; i < 500; i++) {
		struct quota_subject s = fixture_client(i);

		cr_expect_eq(quota_count(q, &s), 0);
	}
	fixture_check(q);
}
