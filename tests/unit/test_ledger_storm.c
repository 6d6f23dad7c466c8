/* SPDX-License-Identifier: ISC */
/*
 * Ten million operations on one ledger from several processes, which are killed
 * all the time, against a naive model in memory that they share: who holds
 * which slot, until when it cools, which ports rest.
 *
 * The model is made so that it never takes a right answer for a wrong one: a
 * slot is noted as held after it was leased and until before it is returned,
 * and whatever else is noted is noted first. Now and then all stop, and then
 * ledger and model must agree on everything.
 *
 * Built optimised and without sanitizers, which would take ten times as long;
 * test_ledger_model and test_ledger_processes do the same with them, for less
 * long.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "egress/ledger_layout.h"
#include "ledger_fixture.h"

#define OPERATIONS     10000000
#define DEATHS_IN_LOCK 1000
#define DEATHS_MAX     50000
#define KILL_EVERY     2500 /* operations, at most */
#define STOP_EVERY     20   /* deaths */
#define LOOKS          20   /* for one to kill in a lock */

#define POOLS      2
#define SOURCES    2 /* of a pool, at most */
#define PORTS      20
#define SLOTS      (SOURCES * PORTS)
#define FIRST_PORT 1000
#define TARGETS    40
#define BUSY       3 /* targets that half of all is about */
#define WORKERS    4
#define PARENT     (WORKERS + 1) /* as a worker's number */
#define CLIENTS    3
#define SHARE      10 /* percent, in pool 1 */
#define LEASES     150
#define TICKETS    10

/* A source and port towards a target. */
struct spot {
	/* Who holds it: a number of its own << 16 | worker << 8 | client; 0:
	 * nobody. */
	_Atomic uint64_t claim;
	_Atomic uint64_t cools_until;
	/* It may cool: its holder died in the return, or just behind it. */
	_Atomic uint64_t maybe_until;
};

enum wrong {
	TWICE,      /* a slot was leased that is held */
	TOO_EARLY,  /* ... that cools */
	RESTED,     /* ... whose port rests */
	REVERSED,   /* ... whose reverse is held, or that is the target */
	OVER_SHARE, /* a client has more than its share */
	ALIEN,      /* ... that is not in the pool */
	WRONGS
};

/* What a worker is about, for the parent who buries it. */
struct slate {
	_Atomic uint32_t returning; /* spot + 1 */
	_Atomic uint32_t stopped;   /* the number of the stop it is at */
	_Atomic uint32_t waiting;   /* its tickets */
};

/* Shared by all. */
struct storm {
	struct ledger *l;
	struct spot spots[POOLS][TARGETS][SLOTS];
	_Atomic uint64_t rests_until[PORTS]; /* in both pools */
	_Atomic uint64_t now_ms, claims, wrong[WRONGS];
	_Atomic uint64_t operations, leased, granted, full, shared_out, queued,
	    cancelled, rests;
	struct slate slates[WORKERS + 1];
	_Atomic uint32_t stop; /* its number; 0: go on */
	/* The parent's; changed while all stop. */
	bool has_second[POOLS]; /* source address */
	uint64_t seed;
	pid_t pids[WORKERS + 1];
};

struct worker {
	struct storm *s;
	uint8_t number;
	uint64_t seed;
	unsigned count, waiting;
	struct held {
		struct ledger_lease lease;
		struct spot *spot;
	} held[LEASES];
	struct wanted {
		struct ledger_ticket ticket;
		unsigned pool, target, client;
	} wanted[TICKETS];
};

static uint32_t
pick(uint64_t *seed, uint32_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33) % below;
}

/* Pool 0 is 192.0.2.1 and .2, pool 1 198.51.100.1 and .2. */
static struct addr
source_at(unsigned pool, unsigned slot)
{
	uint32_t first = pool == 0 ? 0xc0000201 : 0xc6336401;

	return addr_v4(
	    first + slot / PORTS, (uint16_t)(FIRST_PORT + slot % PORTS));
}

/* Some are slots of pool 0. */
static struct addr
target_at(unsigned n)
{
	return n % 4 == 0 ? source_at(0, n) : addr_v4(0x0a000000 + n, 443);
}

/* The target with this address; TARGETS: none. */
static unsigned
target_with(const struct addr *a)
{
	for (unsigned n = 0; n < TARGETS; n += 4) {
		struct addr t = target_at(n);

		if (addr_equal(&t, a))
			return n;
	}
	return TARGETS;
}

static bool
slot_of(unsigned pool, const struct addr *source, unsigned *slot)
{
	for (*slot = 0; *slot < SLOTS; (*slot)++) {
		struct addr a = source_at(pool, *slot);

		if (addr_equal(&a, source))
			return true;
	}
	return false;
}

/* How many the client holds towards the target; what was seen is in `seen`. */
static unsigned
count_client(struct spot *spots, unsigned client, uint64_t seen[SLOTS])
{
	unsigned count = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		seen[i] = spots[i].claim;
		if (seen[i] != 0 && (seen[i] & 0xff) == client)
			count++;
		else
			seen[i] = 0;
	}
	return count;
}

/* Twice the same is seen: so all of it was held in between. */
static bool
is_over_share(struct storm *s, unsigned target, unsigned client)
{
	unsigned most = (s->has_second[1] ? SLOTS : PORTS) * SHARE / 100;
	uint64_t before[SLOTS], after[SLOTS];

	return count_client(s->spots[1][target], client, before) > most &&
	       count_client(s->spots[1][target], client, after) > most &&
	       memcmp(before, after, sizeof(before)) == 0;
}

/* Is the slot the target itself, or target -> slot held? */
static bool
is_reversed(struct storm *s, unsigned pool, unsigned target, unsigned slot)
{
	struct addr source = source_at(pool, slot), to = target_at(target);
	unsigned back = target_with(&source), back_slot;

	if (addr_equal(&source, &to))
		return true;
	return back < TARGETS && slot_of(0, &to, &back_slot) &&
	       s->spots[0][back][back_slot].claim != 0;
}

static void
blame(struct storm *s, enum wrong wrong, bool is)
{
	if (is)
		s->wrong[wrong]++;
}

/*
 * A lease was had, when the ports rested until `rests`. What is over by now may
 * have been over then: who has slept for long has an old time in mind, while
 * the others may have forgotten what has cooled.
 */
static void
note_lease(struct worker *w, const struct wanted *a,
    const struct ledger_lease *lease, const uint64_t *rests)
{
	struct storm *s = w->s;
	uint64_t now_ms = s->now_ms;
	uint64_t nobody = 0, claim;
	struct spot *spot;
	unsigned slot;

	if (!slot_of(a->pool, &lease->source, &slot) ||
	    (slot >= PORTS && !s->has_second[a->pool])) {
		blame(s, ALIEN, true);
		return;
	}
	spot = &s->spots[a->pool][a->target][slot];
	claim = (uint64_t)++s->claims << 16 | w->number << 8 | a->client;
	blame(s, TWICE,
	    !atomic_compare_exchange_strong(&spot->claim, &nobody, claim));
	blame(s, TOO_EARLY, spot->cools_until > now_ms);
	blame(s, RESTED, rests[slot % PORTS] > now_ms);
	blame(s, REVERSED, is_reversed(s, a->pool, a->target, slot));
	if (a->pool == 1)
		blame(s, OVER_SHARE, is_over_share(s, a->target, a->client));
	w->held[w->count++] = (struct held){ *lease, spot };
	s->leased++;
}

static void
look_at_rests(struct storm *s, uint64_t rests[PORTS])
{
	for (unsigned i = 0; i < PORTS; i++)
		rests[i] = s->rests_until[i];
}

static void
raise_to(_Atomic uint64_t *a, uint64_t value)
{
	uint64_t old = atomic_load(a);

	while (old < value && !atomic_compare_exchange_weak(a, &old, value))
		;
}

static void
count_refusal(struct storm *s, int error)
{
	if (error == -EDQUOT)
		s->shared_out++;
	else if (error == -EADDRINUSE || error == -ENOBUFS)
		s->full++;
	else
		must(error == -EAFNOSUPPORT);
}

/* Takes one, or waits for it. */
static void
take_one(struct worker *w, uint64_t now_ms)
{
	struct wanted a = { .pool = pick(&w->seed, POOLS),
		.target = pick(&w->seed, 2) == 0 ? pick(&w->seed, TARGETS)
						 : pick(&w->seed, BUSY),
		.client = 1 + pick(&w->seed, CLIENTS) };
	struct ledger_holder holder = { .worker = w->number,
		.session = 1,
		.client = addr_v4(0xcb007100 + a.client, 9) };
	struct addr to = target_at(a.target);
	struct ledger_lease lease;
	uint64_t rests[PORTS];
	int error;

	look_at_rests(w->s, rests);
	if (w->waiting == TICKETS || pick(&w->seed, 2) == 0)
		error =
		    ledger_lease(w->s->l, a.pool, &to, &holder, now_ms, &lease);
	else
		error = ledger_queue(w->s->l, a.pool, &to, &holder, 8, now_ms,
		    &a.ticket, &lease);
	if (error == 0) {
		note_lease(w, &a, &lease, rests);
	} else if (error == -EINPROGRESS) {
		w->wanted[w->waiting++] = a;
		w->s->queued++;
	} else {
		count_refusal(w->s, error);
	}
}

static void
give_one(struct worker *w, uint64_t now_ms)
{
	static const struct {
		enum ledger_release how;
		uint32_t cools_ms;
	} ways[] = { { LEDGER_HOT, 0 }, { LEDGER_BRIEF, LEDGER_BRIEF_MS },
		{ LEDGER_REUSABLE, LEDGER_BRIEF_MS },
		{ LEDGER_LONG, LEDGER_LONG_MS } };
	struct storm *s = w->s;
	struct held *h = &w->held[pick(&w->seed, w->count)];
	/* What cools for long is the exception, or all would cool. */
	unsigned way =
	    pick(&w->seed, 8) == 0 ? pick(&w->seed, 4) : pick(&w->seed, 3);
	struct slate *slate = &s->slates[w->number];

	unsigned spot = (unsigned)(h->spot - &s->spots[0][0][0]);

	slate->returning = spot + 1;
	/* What is not in the pool any more is not remembered. */
	h->spot->cools_until =
	    spot % SLOTS < PORTS || s->has_second[spot / SLOTS / TARGETS]
		? now_ms + ways[way].cools_ms
		: 0;
	h->spot->claim = 0;
	ledger_return(s->l, &h->lease, ways[way].how, now_ms);
	slate->returning = 0;
	*h = w->held[--w->count];
}

static void
claim_granted(struct worker *w)
{
	for (unsigned i = 0; i < w->waiting && w->count < LEASES;) {
		struct wanted *a = &w->wanted[i];
		struct ledger_lease lease;
		/* It was granted before; what rests since is no matter. */
		uint64_t rests[PORTS] = { 0 };
		int error;

		if (!ledger_is_granted(w->s->l, &a->ticket)) {
			i++;
			continue;
		}
		error = ledger_claim(w->s->l, &a->ticket, w->s->now_ms, &lease);
		if (error == -EAGAIN) { /* its giver has died: it waits on */
			i++;
			continue;
		}
		must(error == 0 || error == -ENOENT || error == -ENOBUFS);
		if (error == 0) {
			note_lease(w, a, &lease, rests);
			w->s->granted++;
		}
		*a = w->wanted[--w->waiting];
	}
}

/* What those do who wait, and what strangers do. */
static void
do_the_rest(struct worker *w, uint64_t now_ms)
{
	struct storm *s = w->s;

	claim_granted(w);
	if (w->waiting > 0 && pick(&w->seed, 16) == 0) {
		ledger_cancel(s->l, &w->wanted[--w->waiting].ticket, now_ms);
		s->cancelled++;
	}
	if (pick(&w->seed, 32) == 0)
		ledger_serve(s->l, now_ms);
	if (pick(&w->seed, 20000) == 0) {
		unsigned port = pick(&w->seed, PORTS);
		uint64_t until = now_ms + 1 + pick(&w->seed, 20000);

		/* Two may do so at a time; the later end stands. */
		ledger_rest_port(
		    s->l, (uint16_t)(FIRST_PORT + port), now_ms, until);
		raise_to(&s->rests_until[port], until);
		s->rests++;
	}
	s->slates[w->number].waiting = w->waiting;
}

/* At a stop: takes what is granted as long as it lasts, and nothing else. */
static void
stop(struct worker *w)
{
	struct storm *s = w->s;
	uint32_t number;

	while ((number = s->stop) != 0) {
		claim_granted(w);
		s->slates[w->number].waiting = w->waiting;
		s->slates[w->number].stopped = number;
		sched_yield();
	}
}

/* Until it is killed. */
static void
work(struct storm *s, uint8_t number, uint64_t seed)
{
	struct worker *w = calloc(1, sizeof(*w));

	must(w != NULL);
	*w = (struct worker){ .s = s, .number = number, .seed = seed };
	for (;;) {
		/* Time runs with what they do. */
		uint64_t now_ms = ++s->now_ms;

		if (w->count == 0 ||
		    (w->count < LEASES && pick(&w->seed, 2) == 0))
			take_one(w, now_ms);
		else
			give_one(w, now_ms);
		do_the_rest(w, now_ms);
		s->operations++;
		if (s->stop != 0)
			stop(w);
	}
}

static void
start(struct storm *s, uint8_t number)
{
	uint64_t seed = (uint64_t)pick(&s->seed, UINT32_MAX) << 20 | number;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		must(nice(10) != -1);
		work(s, number, seed);
	}
	s->pids[number] = pid;
}

static void
bury(struct storm *s, uint8_t number)
{
	struct slate *slate = &s->slates[number];
	struct spot *spots = &s->spots[0][0][0];
	int status;

	kill(s->pids[number], SIGKILL);
	cr_assert_eq(waitpid(s->pids[number], &status, 0), s->pids[number]);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	    "worker %u ended by itself: %x", number, status);
	/* It may not have got to the ledger with that. */
	if (slate->returning != 0) {
		spots[slate->returning - 1].cools_until = 0;
		spots[slate->returning - 1].maybe_until =
		    s->now_ms + LEDGER_LONG_MS;
	}
	for (unsigned i = 0; i < POOLS * TARGETS * SLOTS; i++) {
		uint64_t claim = spots[i].claim;

		if ((claim >> 8 & 0xff) == number && claim != 0) {
			spots[i].cools_until = 0;
			spots[i].claim = 0;
		}
	}
	slate->returning = slate->waiting = 0;
	ledger_return_worker(s->l, number, s->now_ms);
}

/* One that holds a lock at this moment, and may have been interrupted in it. */
static uint8_t
find_in_lock(const struct storm *s)
{
	for (unsigned i = 0; i < LEDGER_SHARDS; i++) {
		pid_t owner = s->l->shards[i].mutex.__data.__owner;

		for (uint8_t n = 1; n <= WORKERS && owner != 0; n++) {
			if (s->pids[n] == owner)
				return n;
		}
	}
	return 0;
}

static void
kill_one(struct storm *s)
{
	uint8_t victim = (uint8_t)(1 + pick(&s->seed, WORKERS)), found = 0;

	/* One of ten dies wherever it is. */
	if (pick(&s->seed, 10) != 0) {
		for (unsigned i = 0; i < LOOKS && found == 0; i++) {
			poll(NULL, 0, i == 0 ? 0 : 1);
			found = find_in_lock(s);
		}
		victim = found != 0 ? found : victim;
	}
	bury(s, victim);
	start(s, victim);
}

/* ---- while all stop ---- */

static void
wait_for_all(struct storm *s)
{
	for (uint8_t i = 1; i <= WORKERS; i++) {
		while (s->slates[i].stopped != s->stop) {
			cr_assert_eq(waitpid(s->pids[i], NULL, WNOHANG), 0,
			    "worker %u ended by itself", i);
			sched_yield();
		}
	}
}

/* What is granted is claimed, and what that leaves is granted. */
static void
stop_all(struct storm *s)
{
	for (uint32_t i = 0; i < 4; i++) {
		s->stop = s->stop + 1;
		wait_for_all(s);
		ledger_serve(s->l, s->now_ms);
	}
	s->stop = s->stop + 1;
	wait_for_all(s);
}

static void
go_on(struct storm *s)
{
	for (uint8_t i = 1; i <= WORKERS; i++)
		s->slates[i].stopped = 0;
	s->stop = 0;
}

struct state {
	unsigned held;
	unsigned free;  /* at most so many can be had */
	unsigned maybe; /* of these, such as may not be to be had yet */
};

static struct state
state_of(struct storm *s, unsigned pool, unsigned target)
{
	struct state st = { 0 };

	for (unsigned i = 0; i < SLOTS; i++) {
		struct spot *spot = &s->spots[pool][target][i];
		uint64_t rest = s->rests_until[i % PORTS];

		if (spot->claim != 0)
			st.held++;
		else if ((i < PORTS || s->has_second[pool]) &&
			 spot->cools_until <= s->now_ms && rest <= s->now_ms &&
			 !is_reversed(s, pool, target, i)) {
			st.free++;
			/* It may wait as long as what it was put behind. */
			st.maybe += spot->maybe_until > s->now_ms ||
				    (rest + 2 * LEDGER_LONG_MS > s->now_ms &&
					rest != 0);
		}
	}
	return st;
}

/* How many can be leased; they are given back. */
static unsigned
try_all(struct storm *s, unsigned pool, unsigned target)
{
	struct ledger_holder holder = { .worker = PARENT };
	struct addr to = target_at(target);
	struct ledger_lease leases[SLOTS + 1];
	unsigned count = 0;

	do {
		/* Another client each time, for the share. */
		holder.client = addr_v4(0xcb007200 + count, 9);
	} while (count <= SLOTS &&
		 ledger_lease(s->l, pool, &to, &holder, s->now_ms,
		     &leases[count]) == 0 &&
		 ++count > 0);
	for (unsigned i = 0; i < count; i++)
		ledger_return(s->l, &leases[i], LEDGER_HOT, s->now_ms);
	return count;
}

static void
check_target(struct storm *s, unsigned pool, unsigned target)
{
	struct state st = state_of(s, pool, target);
	struct addr to = target_at(target);
	struct ledger_target t;
	unsigned got;

	ledger_target(s->l, pool, &to, s->now_ms, &t);
	cr_assert_eq(t.held, st.held, "pool %u, target %u: %u held, not %u",
	    pool, target, t.held, st.held);
	if (t.waiting > 0) {
		/* Those who wait in pool 1 may have their share. */
		cr_assert(pool == 1 || target % 4 == 0 || st.free <= st.maybe,
		    "target %u: %u wait, %u are free", target, t.waiting,
		    st.free);
		return;
	}
	got = try_all(s, pool, target);
	cr_assert_leq(got, st.free, "pool %u, target %u: %u for %u", pool,
	    target, got, st.free);
	/* What was passed over since its reverse was held cools for a moment.
	 */
	if (target % 4 != 0)
		cr_assert_geq(got + st.maybe, st.free,
		    "pool %u, target %u: %u of %u", pool, target, got, st.free);
}

static void
check(struct storm *s)
{
	struct ledger_totals totals;
	uint64_t waiting = 0;

	fixture_check(s->l);
	for (unsigned i = 0; i < POOLS * TARGETS; i++)
		check_target(s, i / TARGETS, i % TARGETS);
	for (uint8_t i = 1; i <= WORKERS; i++)
		waiting += s->slates[i].waiting;
	ledger_totals(s->l, &totals);
	cr_assert_eq(totals.waiting, waiting);
	fixture_check(s->l);
}

/* What leaves the pool is forgotten once it is not held. */
static void
set_pool(struct storm *s, unsigned pool, bool second)
{
	struct pool p = fixture_pool(pool == 0 ? "192.0.2.1" : "198.51.100.1",
	    FIRST_PORT, FIRST_PORT + PORTS - 1);

	if (second)
		fixture_add(&p, pool == 0 ? "192.0.2.2" : "198.51.100.2");
	p.rules.order = pool == 0 ? POOL_PACKED : POOL_HASHED;
	p.rules.sticky = pool == 0 ? POOL_STICKY_NONE : POOL_STICKY_CLIENT;
	p.rules.client_share = pool == 0 ? 0 : SHARE;
	p.rules.client_bits_v4 = 32;
	s->has_second[pool] = second;
	for (unsigned i = 0; i < TARGETS * SLOTS && !second; i++) {
		if (i % SLOTS >= PORTS)
			s->spots[pool][i / SLOTS][i % SLOTS].cools_until = 0;
	}
	cr_assert_eq(ledger_set_pool(s->l, pool, &p), 0);
}

/* ---- all of it ---- */

static struct storm *
storm_new(void)
{
	const char *given = getenv("LEDGER_SEED");
	struct storm *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq((void *)s, MAP_FAILED);
	s->seed = given != NULL
		      ? strtoull(given, NULL, 10)
		      : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
	fprintf(stderr, "seed %llu\n", (unsigned long long)s->seed);
	s->now_ms = 1000;
	s->l = fixture_ledger(20000, 2000);
	set_pool(s, 0, true);
	set_pool(s, 1, true);
	return s;
}

static uint64_t
deaths_in_lock(struct storm *s)
{
	struct ledger_totals totals;

	ledger_totals(s->l, &totals);
	return totals.rebuilds;
}

/* Kills until there was enough of everything; how many. */
static unsigned
rage(struct storm *s)
{
	unsigned deaths = 0;

	while (deaths < DEATHS_MAX && (s->operations < OPERATIONS ||
					  deaths_in_lock(s) < DEATHS_IN_LOCK)) {
		uint64_t end = s->operations + pick(&s->seed, KILL_EVERY);

		/* Its own turn comes soon, in the middle of theirs. */
		do {
			poll(NULL, 0, 1);
		} while (s->operations < end);
		kill_one(s);
		deaths++;
		if (deaths % STOP_EVERY != 0)
			continue;
		stop_all(s);
		check(s);
		if (pick(&s->seed, 2) == 0) {
			unsigned pool = pick(&s->seed, POOLS);

			set_pool(s, pool, !s->has_second[pool]);
		}
		go_on(s);
	}
	return deaths;
}

static void
expect_nothing_wrong(const struct storm *s)
{
	static const char *const words[WRONGS] = { "leased twice",
		"leased while it cooled", "leased while it rested",
		"leased against its reverse", "beyond a client's share",
		"not of the pool" };

	for (unsigned i = 0; i < WRONGS; i++)
		cr_expect_eq(s->wrong[i], 0, "%llu times %s",
		    (unsigned long long)s->wrong[i], words[i]);
}

Test(ledger_storm, ten_million_operations_and_a_thousand_deaths_in_the_lock,
    .timeout = 500)
{
	struct storm *s = storm_new();
	struct ledger_totals totals;

	for (uint8_t i = 1; i <= WORKERS; i++)
		start(s, i);
	unsigned deaths = rage(s);

	stop_all(s);
	check(s);
	for (uint8_t i = 1; i <= WORKERS; i++)
		bury(s, i);
	cr_log_info("%llu operations: %llu leased, %llu granted, %llu full, "
		    "%llu beyond a share, %llu queued, %llu cancelled, %llu "
		    "rests; %u deaths, %llu of them in a lock",
	    (unsigned long long)s->operations, (unsigned long long)s->leased,
	    (unsigned long long)s->granted, (unsigned long long)s->full,
	    (unsigned long long)s->shared_out, (unsigned long long)s->queued,
	    (unsigned long long)s->cancelled, (unsigned long long)s->rests,
	    deaths, (unsigned long long)deaths_in_lock(s));
	expect_nothing_wrong(s);
	cr_expect_geq(s->operations, OPERATIONS);
	cr_expect_geq(deaths_in_lock(s), DEATHS_IN_LOCK);
	/* Nothing is lost: all can be had, once everything has cooled. */
	s->now_ms += 4 * LEDGER_LONG_MS;
	check(s);
	ledger_totals(s->l, &totals);
	cr_expect_eq(totals.held, 0);
	cr_expect_eq(totals.waiting, 0);
}
