/* SPDX-License-Identifier: ISC */
/*
 * Half an hour of load on a small pool, in simulated time: sessions are opened
 * and end in every way there is, workers die, and a model of the kernel says
 * what it still holds of each four-tuple. The ledger must never be wrong about
 * it, and no slot may get lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ledger_fixture.h"

#define MINUTES  30
#define TARGETS  10
#define SOURCES  2
#define PORTS    20
#define SLOTS    (SOURCES * PORTS)
#define SESSIONS (TARGETS * SLOTS)
#define WORKERS  4
#define STEP_MS  10   /* at most, between two looks */
#define LIFE_MS  6000 /* of a session, at most */

/* What Linux does. */
#define TIME_WAIT_MS 60000
#define FIN_WAIT2_MS 61900 /* measured; its timers are coarse */
#define TAKE_OVER_MS 1000  /* of a TIME_WAIT, where tcp_tw_reuse says so */
#define LAST_ACK_MS  900   /* until the target's acknowledgement, at most */

enum way {
	WAY_NOT_CONNECTED,
	WAY_CLIENT_RESETS,
	WAY_TARGET_RESETS,
	WAY_TARGET_FIRST,
	WAY_WE_FIRST,
	WAY_WE_FIRST_TARGET_STAYS,
	WAYS
};

/* A source and port towards a target. */
struct spot {
	bool leased;
	uint64_t cools_until;
	bool open; /* the kernel has a connection */
	/* When it is closed: what the kernel keeps of it, and for how long. */
	uint64_t kept_until;
};

struct session {
	struct ledger_lease lease;
	bool live;
	uint8_t worker;
	unsigned target, spot;
	uint64_t ends_ms;
};

struct churn {
	struct ledger *l;
	uint64_t seed, now_ms;
	struct spot spots[TARGETS][SLOTS];
	struct session sessions[SESSIONS];
	uint64_t buried_ms[WORKERS + 1]; /* a dead worker's; 0: it lives */
	unsigned opened, full, deaths, surprises, ended[WAYS];
};

static uint32_t
pick(struct churn *c, uint32_t below)
{
	c->seed = c->seed * UINT64_C(6364136223846793005) +
		  UINT64_C(1442695040888963407);
	return (uint32_t)(c->seed >> 33) % below;
}

static struct addr
target_at(unsigned n)
{
	return addr_v4(UINT32_C(0x0a000000) + n, 443);
}

/* Half of the targets are such that tcp_tw_reuse lets their TIME_WAIT be taken
 * over. */
static bool
can_take_over(unsigned target)
{
	return target % 2 == 0;
}

static unsigned
spot_of(const struct ledger_lease *lease)
{
	unsigned source = lease->source.ip[3] - 1u;
	unsigned port = lease->source.port - 1000u;

	cr_assert(source < SOURCES && port < PORTS);
	return source * PORTS + port;
}

static void
expect_full(struct churn *c, unsigned target)
{
	c->full++;
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct spot *s = &c->spots[target][i];

		cr_assert(s->leased || s->cools_until > c->now_ms,
		    "at %llu ms target %u is full, and spot %u is free",
		    (unsigned long long)c->now_ms, target, i);
	}
}

static struct session *
idle_session(struct churn *c)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		if (!c->sessions[i].live)
			return &c->sessions[i];
	}
	return NULL;
}

static void
open_one(struct churn *c)
{
	struct ledger_holder holder = { .session = 1 };
	unsigned target = pick(c, TARGETS);
	struct session *s = idle_session(c);
	struct addr to = target_at(target);
	struct spot *spot;
	int error;

	holder.worker = (uint8_t)(1 + pick(c, WORKERS));
	if (s == NULL || c->buried_ms[holder.worker] != 0)
		return;
	error = ledger_lease(c->l, 0, &to, &holder, c->now_ms, &s->lease);
	if (error == -EADDRINUSE) {
		expect_full(c, target);
		return;
	}
	cr_assert_eq(error, 0, "%d", error);
	s->live = true;
	s->worker = holder.worker;
	s->target = target;
	s->spot = spot_of(&s->lease);
	s->ends_ms = c->now_ms + pick(c, LIFE_MS);
	spot = &c->spots[target][s->spot];
	cr_assert(!spot->leased, "a four-tuple is leased twice");
	if (spot->open || spot->kept_until > c->now_ms)
		c->surprises++;
	spot->leased = spot->open = true;
	c->opened++;
}

/* The kernel's part of an end, and what the session makes of it. */
static enum ledger_release
close_as(struct churn *c, struct session *s, enum way way)
{
	struct spot *spot = &c->spots[s->target][s->spot];

	spot->open = false;
	spot->kept_until = 0;
	switch (way) {
	case WAY_TARGET_FIRST:
		spot->kept_until = c->now_ms + pick(c, LAST_ACK_MS);
		return LEDGER_BRIEF;
	case WAY_WE_FIRST:
		/* Whatever is taken over later counts as not kept. */
		spot->kept_until =
		    c->now_ms +
		    (can_take_over(s->target) ? TAKE_OVER_MS : TIME_WAIT_MS);
		return can_take_over(s->target) ? LEDGER_BRIEF : LEDGER_LONG;
	case WAY_WE_FIRST_TARGET_STAYS:
		spot->kept_until = c->now_ms + FIN_WAIT2_MS;
		return LEDGER_LONG;
	default:
		return LEDGER_HOT;
	}
}

static void
end_one(struct churn *c, struct session *s)
{
	static const uint32_t cools_ms[] = { [LEDGER_HOT] = 0,
		[LEDGER_BRIEF] = LEDGER_BRIEF_MS,
		[LEDGER_LONG] = LEDGER_LONG_MS };
	/* What cools for a minute is the exception, or nothing would go on. */
	enum way way = pick(c, 10) != 0 ? pick(c, WAY_WE_FIRST) : pick(c, WAYS);
	enum ledger_release how = close_as(c, s, way);
	struct spot *spot = &c->spots[s->target][s->spot];

	c->ended[way]++;
	ledger_return(c->l, &s->lease, how, c->now_ms);
	s->live = spot->leased = false;
	spot->cools_until = c->now_ms + cools_ms[how];
}

/* Its sockets are reset at once; its leases stay until it is noticed. */
static void
die(struct churn *c, uint8_t worker)
{
	c->deaths++;
	c->buried_ms[worker] = c->now_ms + 1 + pick(c, 500);
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct session *s = &c->sessions[i];

		if (s->live && s->worker == worker) {
			c->spots[s->target][s->spot].open = false;
			s->ends_ms = UINT64_MAX;
		}
	}
}

static void
bury(struct churn *c, uint8_t worker)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < SESSIONS; i++) {
		struct session *s = &c->sessions[i];

		if (s->live && s->worker == worker) {
			s->live = false;
			c->spots[s->target][s->spot].leased = false;
			count++;
		}
	}
	cr_assert_eq(ledger_return_worker(c->l, worker, c->now_ms), count);
	c->buried_ms[worker] = 0;
}

/* Does a client come? Some minutes overwhelm the pool, in some it is nearly
 * empty. */
static bool
comes(struct churn *c)
{
	static const unsigned in_32[] = { 4, 24, 1, 12 };

	return pick(c, 32) < in_32[c->now_ms / 60000 % ARRAY_LEN(in_32)];
}

static void
look(struct churn *c)
{
	c->now_ms += 1 + pick(c, STEP_MS);
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct session *s = &c->sessions[i];

		if (s->live && s->ends_ms <= c->now_ms)
			end_one(c, s);
	}
	for (uint8_t i = 1; i <= WORKERS; i++) {
		if (c->buried_ms[i] != 0 && c->buried_ms[i] <= c->now_ms)
			bury(c, i);
		else if (c->buried_ms[i] == 0 && pick(c, 20000) == 0)
			die(c, i);
	}
	if (comes(c))
		open_one(c);
}

static void
end_all(struct churn *c)
{
	for (uint8_t i = 1; i <= WORKERS; i++) {
		if (c->buried_ms[i] != 0)
			bury(c, i);
	}
	for (unsigned i = 0; i < SESSIONS; i++) {
		if (c->sessions[i].live)
			end_one(c, &c->sessions[i]);
	}
}

/* Every slot of every target can be had again, once. */
static void
expect_all_there(struct churn *c)
{
	struct ledger_holder holder = { .worker = 1 };
	struct ledger_totals totals;

	ledger_totals(c->l, &totals);
	cr_expect_eq(totals.held, 0);
	for (unsigned i = 0; i < TARGETS; i++) {
		bool seen[SLOTS] = { false };
		struct addr to = target_at(i);
		struct ledger_lease lease;
		unsigned count = 0;

		while (ledger_lease(c->l, 0, &to, &holder, c->now_ms, &lease) ==
		       0) {
			cr_assert(!seen[spot_of(&lease)]);
			seen[spot_of(&lease)] = true;
			count++;
		}
		cr_expect_eq(count, SLOTS, "target %u: %u slots", i, count);
	}
}

static uint64_t
choose_seed(void)
{
	const char *given = getenv("LEDGER_SEED");

	return given != NULL ? strtoull(given, NULL, 10)
			     : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
}

Test(ledger_churn, half_an_hour_loses_no_slot_and_surprises_nobody,
    .timeout = 100)
{
	struct churn *c = calloc(1, sizeof(*c));
	struct pool pool = fixture_pool("192.0.2.1", 1000, 1000 + PORTS - 1);
	uint64_t start_ms = 5000;

	cr_assert_not_null(c);
	fixture_add(&pool, "192.0.2.2");
	c->seed = choose_seed();
	fprintf(stderr, "seed %llu\n", (unsigned long long)c->seed);
	c->l = fixture_ledger(4 * SESSIONS, 100);
	c->now_ms = start_ms;
	cr_assert_eq(ledger_set_pool(c->l, 0, &pool), 0);
	for (unsigned i = 0; c->now_ms < start_ms + MINUTES * 60000; i++) {
		look(c);
		if (i % 10000 == 0)
			fixture_check(c->l);
	}
	end_all(c);
	fixture_check(c->l);
	c->now_ms += LEDGER_LONG_MS;
	expect_all_there(c);
	fixture_check(c->l);
	cr_log_info("%u sessions, %u refused, %u deaths of workers", c->opened,
	    c->full, c->deaths);
	cr_expect_eq(c->surprises, 0, "the kernel still held %u of %u",
	    c->surprises, c->opened);
	/* It was a load, and of every kind. */
	cr_expect_gt(c->full, 0);
	cr_expect_gt(c->deaths, 0);
	for (unsigned i = 0; i < WAYS; i++)
		cr_expect_gt(c->ended[i], 0, "way %u", i);
	free(c);
}
