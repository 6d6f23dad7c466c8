/* SPDX-License-Identifier: ISC */
/*
 * Quotas against a naive model: random operations from several processes, which
 * take turns, and each verdict and count is as the model says.
 */
#include <sys/wait.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "quota_fixture.h"

#define PROCESSES  4
#define OPERATIONS 60000 /* of each process */
#define SUBJECTS   60
#define WORKERS    20

/* What the model has of a subject. */
struct naive {
	struct quota_subject subject;
	uint32_t sessions, rate; /* its limits */
	unsigned count[WORKERS + 1];
	uint64_t debt, until_ms; /* paid off ms by ms until then */
};

/* Shared by all; `mutex` is held by whose turn it is. */
struct model {
	pthread_mutex_t mutex;
	struct quota *q;
	uint64_t seed, now_ms;
	uint64_t verdicts[QUOTA_NO_ROOM + 1];
	unsigned wrong;
	char why[300];
	struct naive naive[SUBJECTS];
};

static uint32_t
next_random(struct model *m)
{
	m->seed = m->seed * UINT64_C(6364136223846793005) +
		  UINT64_C(1442695040888963407);
	return (uint32_t)(m->seed >> 33);
}

static unsigned
sum_of(const struct naive *n)
{
	unsigned sum = 0;

	for (unsigned w = 1; w <= WORKERS; w++)
		sum += n->count[w];
	return sum;
}

static enum quota_verdict
naive_enter(struct naive *n, uint8_t worker, uint64_t now_ms)
{
	for (; n->until_ms < now_ms; n->until_ms++)
		n->debt -= n->debt < n->rate ? n->debt : n->rate;
	if (n->sessions != 0 && sum_of(n) >= n->sessions)
		return QUOTA_SESSIONS;
	if (n->rate != 0 && n->debt + 1000 > n->rate * UINT64_C(1000))
		return QUOTA_RATE;
	if (n->rate != 0)
		n->debt += 1000;
	n->count[worker]++;
	return QUOTA_OK;
}

static void
note(struct model *m, const char *what, const struct naive *n, unsigned is,
    unsigned should)
{
	if (m->wrong++ == 0)
		snprintf(m->why, sizeof(m->why),
		    "%s of subject %td at %llu: %u, not %u", what, n - m->naive,
		    (unsigned long long)m->now_ms, is, should);
}

static void
enter_one(struct model *m, struct naive *n)
{
	uint8_t worker = (uint8_t)(next_random(m) % WORKERS + 1);
	enum quota_verdict is = quota_enter(
	    m->q, worker, &n->subject, n->sessions, n->rate, m->now_ms);
	enum quota_verdict should = naive_enter(n, worker, m->now_ms);

	m->verdicts[is]++;
	if (is != should)
		note(m, "verdict", n, is, should);
}

static void
leave_one(struct model *m, struct naive *n)
{
	unsigned w = next_random(m) % WORKERS + 1;

	for (unsigned i = 0; i < WORKERS; i++, w = w % WORKERS + 1) {
		if (n->count[w] == 0)
			continue;
		n->count[w]--;
		quota_leave(m->q, (uint8_t)w, &n->subject, m->now_ms);
		return;
	}
}

static void
drop_one(struct model *m)
{
	unsigned w = next_random(m) % WORKERS + 1;

	quota_drop_worker(m->q, (uint8_t)w);
	for (unsigned i = 0; i < SUBJECTS; i++)
		m->naive[i].count[w] = 0;
}

static void
check_all(struct model *m)
{
	if (quota_check(m->q, m->why, sizeof(m->why)) != 0)
		m->wrong++;
	for (unsigned i = 0; i < SUBJECTS && m->wrong == 0; i++) {
		const struct naive *n = &m->naive[i];
		unsigned count = quota_count(m->q, &n->subject);

		if (count != sum_of(n))
			note(m, "count", n, count, sum_of(n));
	}
}

static void
take_turn(struct model *m)
{
	struct naive *n = &m->naive[next_random(m) % SUBJECTS];
	uint32_t what = next_random(m) % 1000;

	if (what < 520)
		enter_one(m, n);
	else if (what < 960)
		leave_one(m, n);
	else if (what < 962)
		drop_one(m);
	else if (what < 964)
		check_all(m);
	else if (what < 965)
		m->now_ms += next_random(m) % 2000;
	else
		m->now_ms += next_random(m) % 8;
}

static void
work(struct model *m)
{
	for (unsigned i = 0; i < OPERATIONS && m->wrong == 0; i++) {
		pthread_mutex_lock(&m->mutex);
		take_turn(m);
		pthread_mutex_unlock(&m->mutex);
	}
	_exit(0);
}

static struct model *
new_model(void)
{
	struct model *m = fixture_shared(sizeof(*m));
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&m->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	/* Large enough that nothing is forgotten for want of room. */
	m->q = fixture_quota(SUBJECTS * 64);
	m->seed = (uint64_t)time(NULL) ^ (uint64_t)getpid();
	m->now_ms = 1000000;
	fprintf(stderr, "seed %llu\n", (unsigned long long)m->seed);
	for (unsigned i = 0; i < SUBJECTS; i++) {
		struct naive *n = &m->naive[i];

		n->subject = i % 3 == 0 ? quota_user((uint16_t)(i + 1))
					: fixture_client(i);
		n->sessions =
		    next_random(m) % 4 == 0 ? 0 : next_random(m) % 30 + 1;
		n->rate = next_random(m) % 3 == 0 ? 0 : next_random(m) % 9 + 1;
	}
	return m;
}

Test(
    quota_model, every_verdict_and_count_is_as_in_a_naive_model, .timeout = 100)
{
	struct model *m = new_model();
	pid_t pids[PROCESSES];
	int status;

	for (unsigned i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		cr_assert_geq(pids[i], 0);
		if (pids[i] == 0)
			work(m);
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
		cr_expect_eq(status, 0);
	}
	cr_assert_eq(m->wrong, 0, "%s", m->why);
	check_all(m);
	cr_expect_eq(m->wrong, 0, "%s", m->why);
	cr_log_info("%llu entered, %llu refused by sessions, %llu by rate",
	    (unsigned long long)m->verdicts[QUOTA_OK],
	    (unsigned long long)m->verdicts[QUOTA_SESSIONS],
	    (unsigned long long)m->verdicts[QUOTA_RATE]);
	cr_expect_gt(m->verdicts[QUOTA_SESSIONS], 1000);
	cr_expect_gt(m->verdicts[QUOTA_RATE], 1000);
	cr_expect_eq(m->verdicts[QUOTA_NO_ROOM], 0);
}
