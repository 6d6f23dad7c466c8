/* SPDX-License-Identifier: ISC */
/*
 * Quotas under processes that run at once and are killed at any instruction,
 * inside the locks too: no limit is passed, and nothing stays counted.
 */
#include <sys/time.h>
#include <sys/wait.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "quota_fixture.h"
#include "steps.h"

#define WORKERS  3
#define DEATHS   1200
#define SUBJECTS 12
#define LIMIT    9
#define RATE     500
#define OTHERS   6 /* workers that live, with a session of each subject */
#define LIFE_US  500
#define CROWD    8 /* processes that enter at once */

/* Who has how many sessions, as they see it: set after they entered, cleared
 * before they leave, so never more than what quotas count. */
struct claims {
	_Atomic uint64_t word[SUBJECTS]; /* a byte a worker */
	_Atomic uint64_t operations, too_many, refused;
	_Atomic bool go;
};

struct worker {
	struct quota *q;
	struct claims *claims;
	struct quota_subject subjects[SUBJECTS];
	uint64_t seed;
	uint8_t number;
};

static uint32_t
next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static unsigned
claims_of(uint64_t word, uint8_t worker)
{
	return word >> 8 * worker & 0xff;
}

static unsigned
sum_of(uint64_t word)
{
	unsigned sum = 0;

	for (uint8_t w = 1; w <= WORKERS; w++)
		sum += claims_of(word, w);
	return sum;
}

/* Some subjects have a rate, so that their cells outlive their sessions. */
static void
enter_one(struct worker *w, unsigned subject, uint64_t now_ms)
{
	const struct quota_subject *s = &w->subjects[subject];
	uint32_t rate = subject % 3 == 0 ? RATE : 0;
	uint64_t one;

	if (quota_enter(w->q, w->number, s, LIMIT + OTHERS, rate, now_ms) !=
	    QUOTA_OK) {
		w->claims->refused++;
		return;
	}
	one = UINT64_C(1) << 8 * w->number;
	if (sum_of(atomic_fetch_add(&w->claims->word[subject], one)) >= LIMIT)
		w->claims->too_many++;
}

static void
leave_one(struct worker *w, unsigned subject, uint64_t now_ms)
{
	atomic_fetch_sub(
	    &w->claims->word[subject], UINT64_C(1) << 8 * w->number);
	quota_leave(w->q, w->number, &w->subjects[subject], now_ms);
}

/* Runs until its alarm, which kills it wherever it is; ends by itself when the
 * parent has. */
static void
work(struct worker *w, unsigned life_us)
{
	struct itimerval alarm = { .it_value.tv_usec = life_us };
	pid_t parent = getppid();

	setitimer(ITIMER_REAL, &alarm, NULL);
	for (unsigned i = 1; i % 256 != 0 || getppid() == parent; i++) {
		/* All agree on the time, which runs with what they do. */
		uint64_t now_ms = atomic_fetch_add(&w->claims->operations, 1);
		unsigned subject = next_random(&w->seed) % SUBJECTS;

		if (claims_of(w->claims->word[subject], w->number) == 0 ||
		    next_random(&w->seed) % 2 == 0)
			enter_one(w, subject, now_ms);
		else
			leave_one(w, subject, now_ms);
	}
	_exit(0);
}

static pid_t
start(struct worker *w, uint8_t number)
{
	uint64_t seed = next_random(&w->seed);
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		w->number = number;
		w->seed = seed;
		work(w, 1 + next_random(&w->seed) % LIFE_US);
	}
	return pid;
}

static void
forget(struct worker *w, uint8_t number)
{
	for (unsigned i = 0; i < SUBJECTS; i++)
		atomic_fetch_and(
		    &w->claims->word[i], ~(UINT64_C(0xff) << 8 * number));
	quota_drop_worker(w->q, number);
}

/* Waits for any worker's death; its number. */
static uint8_t
bury_one(struct worker *w, const pid_t pids[WORKERS + 1])
{
	uint8_t number = 1;
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	while (number <= WORKERS && pids[number] != pid)
		number++;
	cr_assert_leq(number, WORKERS);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM,
	    "worker %u ended by itself: %d", number, status);
	forget(w, number);
	return number;
}

/* Each subject can have all its sessions again, and no more. */
static void
expect_nothing_lost(struct worker *w, uint64_t now_ms)
{
	for (unsigned i = 0; i < SUBJECTS; i++) {
		const struct quota_subject *s = &w->subjects[i];
		unsigned in = 0;

		cr_expect_eq(quota_count(w->q, s), 0);
		while (
		    quota_enter(w->q, 200, s, LIMIT, RATE, now_ms) == QUOTA_OK)
			in++;
		cr_expect_eq(in, LIMIT, "subject %u: %u", i, in);
	}
	quota_drop_worker(w->q, 200);
}

static struct worker
new_worker(void)
{
	struct worker w = { .q = fixture_quota(1000),
		.claims = fixture_shared(sizeof(struct claims)),
		.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid(),
		.number = 1 };

	for (unsigned i = 0; i < SUBJECTS; i++)
		w.subjects[i] =
		    i % 2 == 0 ? fixture_client(i) : quota_user((uint16_t)i);
	fprintf(stderr, "seed %llu\n", (unsigned long long)w.seed);
	return w;
}

/* So that a subject needs more than one cell. */
static void
enter_others(struct worker *w)
{
	for (uint8_t i = 0; i < OTHERS; i++)
		for (unsigned j = 0; j < SUBJECTS; j++)
			cr_assert_eq(quota_enter(w->q, 100 + i, &w->subjects[j],
					 LIMIT, 0, 0),
			    QUOTA_OK);
}

static void
leave_others(struct worker *w)
{
	for (uint8_t i = 0; i < OTHERS; i++)
		for (unsigned j = 0; j < SUBJECTS; j++)
			quota_leave(w->q, 100 + i, &w->subjects[j],
			    w->claims->operations);
}

Test(quota_processes, killed_anywhere_they_leave_counts_that_are_true,
    .timeout = 100)
{
	struct worker w = new_worker();
	pid_t pids[WORKERS + 1];

	enter_others(&w);
	for (uint8_t i = 1; i <= WORKERS; i++)
		pids[i] = start(&w, i);
	for (unsigned i = 0; i < DEATHS; i++) {
		uint8_t victim = bury_one(&w, pids);

		pids[victim] = start(&w, victim);
		if (i % 8 == 0)
			fixture_check(w.q);
	}
	for (uint8_t i = 1; i <= WORKERS; i++)
		pids[bury_one(&w, pids)] = 0;
	fixture_check(w.q);
	leave_others(&w);
	cr_log_info("%llu operations, %u deaths in a lock",
	    (unsigned long long)w.claims->operations, fixture_rebuilds(w.q));
	cr_expect_eq(w.claims->too_many, 0, "a limit was passed %llu times",
	    (unsigned long long)w.claims->too_many);
	cr_expect_gt(w.claims->refused, 0);
	expect_nothing_lost(&w, w.claims->operations + 5000);
	fixture_check(w.q);
}

/* What is done until death comes, with subject 0. */
struct deed {
	struct worker *w;
	uint64_t now_ms;
	enum {
		ENTER_NEW,
		ENTER_KNOWN,
		ENTER_IDLE, /* its cell is kept for its rate */
		ENTER_MORE, /* a second cell is needed */
		LEAVE,
		LEAVE_LAST,
		DROP,
		DEEDS
	} kind;
};

static void
on_deed(void *arg)
{
	const struct deed *deed = arg;
	struct quota_subject s = deed->w->subjects[0];

	if (deed->kind == DROP)
		quota_drop_worker(deed->w->q, 1);
	else if (deed->kind == LEAVE || deed->kind == LEAVE_LAST)
		quota_leave(deed->w->q, 1, &s, deed->now_ms);
	else if (quota_enter(deed->w->q, 77, &s, LIMIT, RATE, deed->now_ms) !=
		 QUOTA_OK)
		_exit(1);
}

static void
enter_as(const struct deed *deed, uint8_t worker)
{
	struct quota_subject s = deed->w->subjects[0];

	cr_assert_eq(
	    quota_enter(deed->w->q, worker, &s, LIMIT, RATE, deed->now_ms),
	    QUOTA_OK);
}

/* What there is before. */
static void
prepare(const struct deed *deed)
{
	struct quota_subject s = deed->w->subjects[0];

	if (deed->kind == ENTER_NEW)
		return;
	enter_as(deed, 1);
	if (deed->kind == ENTER_IDLE)
		quota_leave(deed->w->q, 1, &s, deed->now_ms);
	if (deed->kind == LEAVE || deed->kind == DROP)
		enter_as(deed, 1);
	if (deed->kind == DROP)
		enter_as(deed, 2);
	for (uint8_t i = 2; i <= 4 && deed->kind == ENTER_MORE; i++)
		enter_as(deed, i);
}

/* By how much the deed changes the count when it is done. */
static int
effect_of(const struct deed *deed)
{
	if (deed->kind == DROP)
		return -2;
	return deed->kind == LEAVE || deed->kind == LEAVE_LAST ? -1 : 1;
}

static bool
die_after_steps(struct deed *deed, unsigned steps)
{
	struct quota_subject s = deed->w->subjects[0];
	uint32_t bucket, shard = quota_place(deed->w->q, &s, &bucket);
	struct quota_hold h;
	unsigned before, after;
	bool ended;
	pid_t pid;

	deed->now_ms += 10;
	prepare(deed);
	before = quota_count(deed->w->q, &s);
	h = quota_lock(deed->w->q, shard);
	pid = steps_start(on_deed, deed);
	quota_unlock(&h);
	ended = steps_kill_after(pid, steps);
	fixture_check(deed->w->q);
	after = quota_count(deed->w->q, &s);
	/* Done or not: nothing in between. */
	cr_expect(
	    after == before + effect_of(deed) || (!ended && after == before),
	    "deed %u: %u sessions became %u", deed->kind, before, after);
	for (uint8_t i = 1; i <= 4; i++)
		quota_drop_worker(deed->w->q, i);
	quota_drop_worker(deed->w->q, 77);
	cr_expect_eq(quota_count(deed->w->q, &s), 0);
	return ended;
}

Test(quota_processes, killed_after_any_instruction_they_leave_them_true,
    .timeout = 100)
{
	struct worker w = new_worker();

	if (!steps_allowed())
		cr_skip_test("no tracing of children here");
	for (unsigned kind = 0; kind < DEEDS; kind++) {
		struct deed deed = { &w, 10, kind };
		uint32_t locked = fixture_rebuilds(w.q), before = locked;
		unsigned steps = 0;
		bool ended;

		/* Until it has let go of the lock. In strides that grow and are
		 * never the same: a step takes long, and sanitizers make ten
		 * instructions of one. */
		do {
			before = fixture_rebuilds(w.q);
			ended = die_after_steps(&deed, steps);
			steps += 1 + next_random(&w.seed) % (30 + steps / 2);
		} while (!ended &&
			 (fixture_rebuilds(w.q) != before || before == locked));
		cr_expect_gt(before, locked, "deed %u", kind);
	}
	cr_log_info("%u deaths in a lock", fixture_rebuilds(w.q));
	expect_nothing_lost(&w, 5000000);
	fixture_check(w.q);
}

/* Enters until it is refused. */
static unsigned
enter_all(struct quota *q, struct claims *claims, uint8_t number,
    const struct quota_subject *s, uint32_t sessions, uint32_t rate)
{
	unsigned in = 0;

	while (!claims->go)
		sched_yield();
	while (quota_enter(q, number, s, sessions, rate, 77) == QUOTA_OK)
		in++;
	return in;
}

static void
expect_crowd(uint32_t sessions, uint32_t rate, unsigned expected)
{
	struct quota *q = fixture_quota(10);
	struct claims *claims = fixture_shared(sizeof(*claims));
	_Atomic unsigned *total = fixture_shared(sizeof(*total));
	struct quota_subject s = fixture_client(1);
	pid_t pids[CROWD];
	int status;

	for (uint8_t i = 0; i < CROWD; i++) {
		pids[i] = fork();
		cr_assert_geq(pids[i], 0);
		if (pids[i] == 0) {
			*total += enter_all(
			    q, claims, (uint8_t)(i + 1), &s, sessions, rate);
			_exit(0);
		}
	}
	claims->go = true;
	for (unsigned i = 0; i < CROWD; i++) {
		cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
		cr_assert_eq(status, 0);
	}
	cr_expect_eq(*total, expected);
	cr_expect_eq(quota_count(q, &s), expected);
	fixture_check(q);
}

Test(quota_processes, of_a_crowd_exactly_as_many_get_in_as_are_allowed,
    .timeout = 100)
{
	for (unsigned i = 0; i < 5; i++) {
		expect_crowd(5000, 0, 5000);
		expect_crowd(0, 4000, 4000);
		expect_crowd(3, 4000, 3);
	}
}
