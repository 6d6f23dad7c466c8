/* SPDX-License-Identifier: ISC */
/*
 * The ledger under processes that are killed at any instruction, inside its
 * locks too: nothing is lost, and no slot is leased twice.
 */
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "egress/ledger_layout.h"
#include "ledger_fixture.h"

#define WORKERS 3
#define DEATHS  200
#define TARGETS 24
#define PORTS   40
#define STRIDE  60  /* instructions between two deaths, at most */
#define LEASES  200 /* of one worker, at most */
#define TICKETS 20  /* of one worker, at most */

/* Who has a slot towards a target, as the holders see it: set after the lease,
 * cleared before the return. */
struct claims {
	_Atomic uint8_t owner[TARGETS][PORTS];
	_Atomic uint64_t operations, twice;
	_Atomic uint8_t inside[WORKERS + 1]; /* a call is under way */
};

struct worker {
	struct ledger *l;
	struct claims *claims;
	uint8_t number;
	uint64_t seed;
	unsigned count;
	struct ledger_lease leases[LEASES];
	unsigned target[LEASES];
	unsigned waiting;
	struct ledger_ticket tickets[TICKETS];
	unsigned wanted[TICKETS];
};

static uint32_t
next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

/* Some are sources of the pool themselves. */
static struct addr
target_number(unsigned n)
{
	return addr_v4(UINT32_C(0xc0000201), (uint16_t)(990 + n));
}

static void
note_lease(struct worker *w, unsigned target, const struct ledger_lease *lease)
{
	uint8_t nobody = 0;

	if (!atomic_compare_exchange_strong(
		&w->claims->owner[target][lease->source.port - 1000], &nobody,
		w->number))
		w->claims->twice++;
	w->leases[w->count] = *lease;
	w->target[w->count++] = target;
}

/* Takes one, or waits for it. */
static void
take_one(struct worker *w, uint64_t now_ms)
{
	struct ledger_holder holder = { .worker = w->number };
	unsigned target = next_random(&w->seed) % TARGETS;
	struct addr a = target_number(target);
	struct ledger_lease lease;
	int error = w->waiting == TICKETS
			? ledger_lease(w->l, 0, &a, &holder, now_ms, &lease)
			: ledger_queue(w->l, 0, &a, &holder, 1000, now_ms,
			      &w->tickets[w->waiting], &lease);

	if (error == 0)
		note_lease(w, target, &lease);
	else if (error == -EINPROGRESS)
		w->wanted[w->waiting++] = target;
}

static void
claim_granted(struct worker *w, uint64_t now_ms)
{
	for (unsigned i = 0; i < w->waiting && w->count < LEASES;) {
		struct ledger_lease lease;

		if (!ledger_is_granted(w->l, &w->tickets[i])) {
			i++;
			continue;
		}
		if (ledger_claim(w->l, &w->tickets[i], now_ms, &lease) == 0)
			note_lease(w, w->wanted[i], &lease);
		w->waiting--;
		w->tickets[i] = w->tickets[w->waiting];
		w->wanted[i] = w->wanted[w->waiting];
	}
}

/* What those do who wait: claim, lose patience, serve. */
static void
wait_on(struct worker *w, uint64_t now_ms)
{
	claim_granted(w, now_ms);
	if (w->waiting > 0 && next_random(&w->seed) % 8 == 0)
		ledger_cancel(w->l, &w->tickets[--w->waiting], now_ms);
	if (next_random(&w->seed) % 16 == 0)
		ledger_serve(w->l, now_ms);
}

static void
give_one(struct worker *w, uint64_t now_ms)
{
	unsigned i = next_random(&w->seed) % w->count;
	enum ledger_release how = next_random(&w->seed) % 3;

	w->claims->owner[w->target[i]][w->leases[i].source.port - 1000] = 0;
	ledger_return(w->l, &w->leases[i], how, now_ms);
	w->count--;
	w->leases[i] = w->leases[w->count];
	w->target[i] = w->target[w->count];
}

/* Runs until it is killed; ends by itself when the parent has. */
static void
work(struct ledger *l, struct claims *claims, uint8_t number, uint64_t seed)
{
	struct worker w = {
		.l = l, .claims = claims, .number = number, .seed = seed
	};
	pid_t parent = getppid();

	while (getppid() == parent) {
		/* All agree on the time, which runs with what they do. */
		uint64_t now_ms = atomic_fetch_add(&claims->operations, 1);

		claims->inside[number] = 1;
		if (w.count == 0 ||
		    (w.count < LEASES && next_random(&w.seed) % 2 == 0))
			take_one(&w, now_ms);
		else
			give_one(&w, now_ms);
		wait_on(&w, now_ms);
		claims->inside[number] = 0;
	}
	_exit(0);
}

static pid_t
start(struct ledger *l, struct claims *claims, uint8_t number, uint64_t seed)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		work(l, claims, number, seed);
	return pid;
}

/* Lets the others do something before the next one dies. */
static void
wait_for_operations(struct claims *claims, uint64_t count)
{
	uint64_t end = atomic_load(&claims->operations) + count;

	while (atomic_load(&claims->operations) < end)
		sched_yield();
}

static uint32_t
bury(struct ledger *l, struct claims *claims, uint8_t number, pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	    "worker %u ended by itself: %d", number, status);
	for (unsigned i = 0; i < TARGETS; i++) {
		for (unsigned j = 0; j < PORTS; j++) {
			uint8_t own = number;

			atomic_compare_exchange_strong(
			    &claims->owner[i][j], &own, 0);
		}
	}
	return ledger_return_worker(
	    l, number, atomic_load(&claims->operations));
}

/* All slots of all targets can be leased again, and no more. */
static void
expect_nothing_lost(struct ledger *l, uint64_t now_ms)
{
	struct ledger_holder holder = { .worker = 200 };
	struct ledger_lease lease;
	struct ledger_totals totals;

	ledger_totals(l, &totals);
	cr_expect_eq(totals.held, 0);
	cr_expect_eq(totals.waiting, 0);
	for (unsigned i = 0; i < TARGETS; i++) {
		struct addr a = target_number(i);
		unsigned slots =
		    a.port >= 1000 && a.port < 1000 + PORTS ? PORTS - 1 : PORTS;
		unsigned got = 0;

		while (ledger_lease(l, 0, &a, &holder, now_ms, &lease) == 0)
			got++;
		cr_expect_eq(got, slots, "target %u: %u slots", i, got);
		ledger_return_worker(l, 200, now_ms);
	}
}

static struct claims *
new_claims(void)
{
	void *memory = mmap(NULL, sizeof(struct claims), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(memory, MAP_FAILED);
	return memory;
}

/* Pools of the same slots; one is set after the other. */
static void
set_pool(struct ledger *l, unsigned version)
{
	struct pool p = fixture_pool("192.0.2.1", 1000, 1000 + PORTS - 1);

	if (version % 2 == 1)
		fixture_add(&p, "2001:db8::1");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
}

Test(ledger_processes, killed_anywhere_they_leave_a_ledger_that_is_true,
    .timeout = 500)
{
	struct ledger *l = fixture_ledger(4000, 1000);
	struct claims *claims = new_claims();
	uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid();
	pid_t pids[WORKERS + 1];
	unsigned inside = 0;
	struct ledger_totals totals;

	fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	set_pool(l, 0);
	for (uint8_t i = 1; i <= WORKERS; i++)
		pids[i] = start(l, claims, i, seed + i);
	for (unsigned i = 0; i < DEATHS; i++) {
		uint8_t victim = (uint8_t)(next_random(&seed) % WORKERS + 1);

		wait_for_operations(claims, next_random(&seed) % 100);
		bury(l, claims, victim, pids[victim]);
		inside += claims->inside[victim];
		pids[victim] = start(l, claims, victim, next_random(&seed));
		/* Before a change of the pool, which mends as well. */
		if (i % 8 == 0)
			fixture_check(l);
		if (i % 32 == 0)
			set_pool(l, i / 32);
	}
	for (uint8_t i = 1; i <= WORKERS; i++)
		bury(l, claims, i, pids[i]);
	fixture_check(l);
	ledger_totals(l, &totals);
	cr_log_info("%llu operations, %u deaths inside a call, %llu in a lock",
	    (unsigned long long)claims->operations, inside,
	    (unsigned long long)totals.rebuilds);
	cr_expect_eq(claims->twice, 0, "%llu slots were leased twice",
	    (unsigned long long)claims->twice);
	expect_nothing_lost(
	    l, atomic_load(&claims->operations) + LEDGER_LONG_MS);
	fixture_check(l);
}

/* Leases or returns one, after a stop from which its parent steps it. */
static void
do_one_stepped(struct worker *w, bool take)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (take)
		take_one(w, 1);
	else
		give_one(w, 1);
	_exit(0);
}

/* Lets the child execute so many instructions, and kills it. True when it had
 * come to its end before. */
static bool
kill_after_steps(pid_t pid, unsigned steps)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSTOPPED(status));
	while (steps-- > 0) {
		cr_assert_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			return true;
	}
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return false;
}

/* A worker leases, and a second that follows it (with its leases in mind, as a
 * fork has) dies in a lease or return. */
static bool
die_after_steps(struct worker *w, bool take, unsigned steps)
{
	bool ended;
	pid_t pid;

	while (w->count < 20)
		take_one(w, 1);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		do_one_stepped(w, take);
	ended = kill_after_steps(pid, steps);
	fixture_check(w->l);
	ledger_return_worker(w->l, w->number, 2);
	w->count = 0;
	memset(w->claims->owner, 0, sizeof(w->claims->owner));
	return ended;
}

static bool
may_trace(void)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Test(ledger_processes, killed_after_any_instruction_they_leave_it_true,
    .timeout = 500)
{
	struct worker w = { .number = 1 };
	struct ledger_totals totals;

	if (!may_trace())
		cr_skip_test("no tracing of children here");
	w.l = fixture_ledger(4000, 1000);
	w.claims = new_claims();
	w.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid();
	set_pool(w.l, 0);
	for (unsigned i = 0; i < 2; i++) {
		/* In strides that grow and are never the same: sanitizers
		 * make ten instructions of one. */
		unsigned steps = next_random(&w.seed) % STRIDE;

		while (!die_after_steps(&w, i == 0, steps))
			steps +=
			    1 + next_random(&w.seed) % (STRIDE + steps / 3);
	}
	ledger_totals(w.l, &totals);
	cr_log_info(
	    "%llu deaths in a lock", (unsigned long long)totals.rebuilds);
	cr_expect_gt(totals.rebuilds, 0);
	cr_expect_eq(w.claims->twice, 0);
	expect_nothing_lost(w.l, 2 + LEDGER_LONG_MS);
	fixture_check(w.l);
}

/* ---- in a queue ---- */

enum queue_step { STEP_QUEUE, STEP_CANCEL, STEP_GRANT, STEP_CLAIM, STEPS };

/* A full target, whose slots worker 2 holds, and who waits for it. */
struct full {
	struct ledger_lease last;
	struct ledger_ticket first, second; /* of workers 1 and 3 */
};

static int
ask(struct ledger *l, uint8_t worker, struct ledger_ticket *ticket,
    struct ledger_lease *lease)
{
	struct ledger_holder holder = { .worker = worker, .session = worker };
	struct addr a = target_number(0);

	return ledger_queue(l, 0, &a, &holder, 100, 1, ticket, lease);
}

static void
fill(struct ledger *l, struct full *f, enum queue_step step)
{
	struct ledger_lease lease;

	while (ask(l, 2, &f->first, &lease) == 0)
		f->last = lease;
	ledger_cancel(l, &f->first, 1);
	cr_assert_eq(ask(l, 1, &f->first, &lease), -EINPROGRESS);
	cr_assert_eq(ask(l, 3, &f->second, &lease), -EINPROGRESS);
	if (step == STEP_CLAIM) {
		ledger_return(l, &f->last, LEDGER_HOT, 1);
		cr_assert(ledger_is_granted(l, &f->first));
	}
}

static void
do_queue_stepped(struct ledger *l, struct full *f, enum queue_step step)
{
	struct ledger_ticket ticket;
	struct ledger_lease lease;
	int result = 0;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (step == STEP_QUEUE)
		result = ask(l, 1, &ticket, &lease);
	else if (step == STEP_CANCEL)
		ledger_cancel(l, &f->first, 1);
	else if (step == STEP_GRANT)
		ledger_return(l, &f->last, LEDGER_HOT, 1);
	else
		result = ledger_claim(l, &f->first, 1, &lease);
	_exit(result != 0 && result != -EINPROGRESS);
}

/* What one leaves who dies there is true, and the others go on with it. */
static bool
die_in_queue(struct ledger *l, enum queue_step step, unsigned steps)
{
	struct ledger_totals totals;
	struct ledger_lease lease;
	struct full f;
	bool ended;
	pid_t pid;

	fill(l, &f, step);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		do_queue_stepped(l, &f, step);
	ended = kill_after_steps(pid, steps);
	fixture_check(l);
	ledger_return_worker(l, 1, 2);
	ledger_return_worker(l, 2, 2);
	fixture_check(l);
	cr_assert(ledger_is_granted(l, &f.second));
	cr_assert_eq(ledger_claim(l, &f.second, 2, &lease), 0);
	ledger_return(l, &lease, LEDGER_HOT, 2);
	ledger_totals(l, &totals);
	cr_assert_eq(totals.held, 0);
	cr_assert_eq(totals.waiting, 0);
	return ended;
}

Test(ledger_processes, killed_in_a_queue_they_leave_it_true, .timeout = 500)
{
	struct ledger *l = fixture_ledger(4000, 1000);
	uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid();
	struct ledger_totals totals;

	if (!may_trace())
		cr_skip_test("no tracing of children here");
	fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	fixture_set(l, 0, "192.0.2.1", 1000, 1003);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned steps = next_random(&seed) % STRIDE;

		while (!die_in_queue(l, step, steps))
			steps += 1 + next_random(&seed) % (STRIDE + steps / 3);
	}
	ledger_totals(l, &totals);
	cr_log_info(
	    "%llu deaths in a lock", (unsigned long long)totals.rebuilds);
	cr_expect_gt(totals.rebuilds, 0);
}
