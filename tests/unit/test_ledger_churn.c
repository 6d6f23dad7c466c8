/* SPDX-License-Identifier: ISC */
/*
 * Half an hour of load on a small pool, in simulated time: sessions are opened,
 * some of them after a wait, and end in every way there is, workers die, and a
 * model of the kernel says what it still holds of each four-tuple. The ledger
 * must never be wrong about it, and no slot may get lost.
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
#define START_MS 5000
#define STEP_MS  10   /* at most, between two looks */
#define WAIT_MS  2000 /* in the queue of a full target, at most */
#define WAITERS  200
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

/* A session to come. */
struct waiter {
	struct ledger_ticket ticket;
	uint8_t worker;
	unsigned target;
	uint64_t until_ms;
};

struct churn {
	struct ledger *l;
	uint64_t seed, now_ms;
	struct spot spots[TARGETS][SLOTS];
	struct session sessions[SESSIONS];
	struct waiter waiters[WAITERS];
	unsigned waiting;
	uint64_t buried_ms[WORKERS + 1]; /* a dead worker's; 0: it lives */
	unsigned opened, full, granted, gave_up, deaths, surprises;
	unsigned ended[WAYS];
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

/* Grants to a dead worker, that nobody has claimed, may look like free slots.
 */
static unsigned
dead_waiters(const struct churn *c, unsigned target)
{
	unsigned count = 0;

	for (unsigned i = 0; i < c->waiting; i++)
		count += c->waiters[i].target == target &&
			 c->buried_ms[c->waiters[i].worker] != 0;
	return count;
}

static void
expect_full(struct churn *c, unsigned target)
{
	unsigned free = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		const struct spot *s = &c->spots[target][i];

		free += !s->leased && s->cools_until <= c->now_ms;
	}
	cr_assert_leq(free, dead_waiters(c, target),
	    "at %llu ms target %u is full, and %u slots are free",
	    (unsigned long long)c->now_ms, target, free);
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
open_with(struct churn *c, const struct ledger_lease *lease, uint8_t worker,
    unsigned target)
{
	struct session *s = idle_session(c);
	struct spot *spot;

	cr_assert_not_null(s, "more leases than slots");
	*s = (struct session){ .lease = *lease,
		.live = true,
		.worker = worker,
		.target = target,
		.spot = spot_of(lease),
		.ends_ms = c->now_ms + pick(c, LIFE_MS) };
	spot = &c->spots[target][s->spot];
	cr_assert(!spot->leased, "a four-tuple is leased twice");
	if (spot->open || spot->kept_until > c->now_ms)
		c->surprises++;
	spot->leased = spot->open = true;
	c->opened++;
}

/* Some wait where the target is full, and others do not. */
static int
ask(struct churn *c, struct waiter *w, struct ledger_lease *lease)
{
	struct ledger_holder holder = { .session = 1, .worker = w->worker };
	struct addr to = target_at(w->target);

	holder.client = addr_v4(UINT32_C(0xc6336401) + pick(c, 3), 9);
	if (c->waiting == WAITERS || pick(c, 2) == 0)
		return ledger_lease(c->l, 0, &to, &holder, c->now_ms, lease);
	return ledger_queue(
	    c->l, 0, &to, &holder, WAITERS, c->now_ms, &w->ticket, lease);
}

static void
open_one(struct churn *c)
{
	struct waiter w = { .target = pick(c, TARGETS),
		.worker = (uint8_t)(1 + pick(c, WORKERS)),
		.until_ms = c->now_ms + pick(c, WAIT_MS) };
	struct ledger_lease lease;
	int error;

	if (c->buried_ms[w.worker] != 0)
		return;
	error = ask(c, &w, &lease);
	if (error == 0) {
		open_with(c, &lease, w.worker, w.target);
		return;
	}
	if (error == -EINPROGRESS)
		c->waiters[c->waiting++] = w;
	else
		cr_assert_eq(error, -EADDRINUSE, "%d", error);
	c->full++;
	expect_full(c, w.target);
}

/* What a worker does who is told of a grant, and at each tick of its clock. */
static void
look_after_waiters(struct churn *c)
{
	ledger_serve(c->l, c->now_ms);
	for (unsigned i = 0; i < c->waiting;) {
		struct waiter *w = &c->waiters[i];
		struct ledger_lease lease;

		if (c->buried_ms[w->worker] != 0 ||
		    (!ledger_is_granted(c->l, &w->ticket) &&
			w->until_ms > c->now_ms)) {
			i++;
			continue;
		}
		if (!ledger_is_granted(c->l, &w->ticket)) {
			ledger_cancel(c->l, &w->ticket, c->now_ms);
			c->gave_up++;
		} else {
			cr_assert_eq(
			    ledger_claim(c->l, &w->ticket, c->now_ms, &lease),
			    0);
			open_with(c, &lease, w->worker, w->target);
			c->granted++;
		}
		*w = c->waiters[--c->waiting];
	}
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
		return can_take_over(s->target) ? LEDGER_REUSABLE : LEDGER_LONG;
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
		[LEDGER_LONG] = LEDGER_LONG_MS,
		[LEDGER_REUSABLE] = LEDGER_BRIEF_MS };
	/* What cools for a minute is the exception, or nothing would go on. */
	enum way way = pick(c, 10) != 0 ? pick(c, WAY_WE_FIRST) : pick(c, WAYS);
	enum ledger_release how = close_as(c, s, way);
	struct spot *spot = &c->spots[s->target][s->spot];

	c->ended[way]++;
	ledger_return(c->l, &s->lease, how, c->now_ms);
	s->live = spot->leased = false;
	spot->cools_until = c->now_ms + cools_ms[how];
	look_after_waiters(c);
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
	/* What was granted to it and not claimed is returned as well. */
	cr_assert_geq(ledger_return_worker(c->l, worker, c->now_ms), count);
	for (unsigned i = 0; i < c->waiting;) {
		if (c->waiters[i].worker == worker)
			c->waiters[i] = c->waiters[--c->waiting];
		else
			i++;
	}
	c->buried_ms[worker] = 0;
	look_after_waiters(c);
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
	look_after_waiters(c);
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
	while (c->waiting > 0)
		ledger_cancel(
		    c->l, &c->waiters[--c->waiting].ticket, c->now_ms);
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
	cr_expect_eq(totals.waiting, 0);
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

static struct churn *
churn_new(enum pool_order order)
{
	struct churn *c = calloc(1, sizeof(*c));
	struct pool pool = fixture_pool("192.0.2.1", 1000, 1000 + PORTS - 1);

	cr_assert_not_null(c);
	fixture_add(&pool, "192.0.2.2");
	pool.rules.order = (uint8_t)order;
	c->seed = choose_seed();
	fprintf(stderr, "seed %llu\n", (unsigned long long)c->seed);
	c->l = fixture_ledger(4 * SESSIONS, 100);
	c->now_ms = START_MS;
	cr_assert_eq(ledger_set_pool(c->l, 0, &pool), 0);
	return c;
}

/* It was a load, and of every kind. */
static void
expect_variety(const struct churn *c)
{
	cr_log_info("%u sessions, %u of them waited; %u found it full, %u gave "
		    "up; %u deaths of workers",
	    c->opened, c->granted, c->full, c->gave_up, c->deaths);
	cr_expect_gt(c->opened, 20000);
	cr_expect_gt(c->full, 0);
	cr_expect_gt(c->granted, 0);
	cr_expect_gt(c->gave_up, 0);
	cr_expect_gt(c->deaths, 0);
	for (unsigned i = 0; i < WAYS; i++)
		cr_expect_gt(c->ended[i], 0, "way %u", i);
}

static void
run(enum pool_order order)
{
	struct churn *c = churn_new(order);

	for (unsigned i = 0; c->now_ms < START_MS + MINUTES * 60000; i++) {
		look(c);
		if (i % 10000 == 0)
			fixture_check(c->l);
	}
	end_all(c);
	fixture_check(c->l);
	c->now_ms += LEDGER_LONG_MS;
	expect_all_there(c);
	fixture_check(c->l);
	cr_expect_eq(c->surprises, 0, "the kernel still held %u of %u",
	    c->surprises, c->opened);
	expect_variety(c);
	free(c);
}

Test(ledger_churn, half_an_hour_loses_no_slot_and_surprises_nobody,
    .timeout = 500)
{
	run(POOL_PACKED);
}

Test(ledger_churn, half_an_hour_in_hashed_order_loses_no_slot, .timeout = 500)
{
	run(POOL_HASHED);
}
