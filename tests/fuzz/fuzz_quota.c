/* SPDX-License-Identifier: ISC */
/*
 * Quotas driven by a program, beside a naive model: every verdict and every
 * count is as that has it, but for rates that a full table forgets.
 */
#include <sys/mman.h>

#include <stdio.h>
#include <stdlib.h>

#include "policy/quota.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS    512
#define SUBJECTS 24
#define WORKERS  14 /* more than two cells count */
#define MANY     1000
#define START    UINT64_C(1000)

struct naive {
	struct quota_subject subject;
	uint32_t rate;
	uint32_t count[WORKERS + 1];
	uint64_t debt, at_ms; /* 1000 a session; `rate` is paid off each ms */
};

struct machine {
	struct program program;
	struct quota *q;
	uint64_t now_ms;
	bool small; /* the table fills up */
	struct naive naive[SUBJECTS];
};

static unsigned
pick(struct machine *m, unsigned below)
{
	return program_pick(&m->program, below);
}

static uint32_t
sum_of(const struct naive *n)
{
	uint32_t sum = 0;

	for (unsigned i = 1; i <= WORKERS; i++)
		sum += n->count[i];
	return sum;
}

static enum quota_verdict
judge(struct naive *n, uint32_t sessions, uint64_t now_ms)
{
	uint64_t paid = n->rate * (now_ms - n->at_ms);

	n->debt -= paid < n->debt ? paid : n->debt;
	n->at_ms = now_ms;
	if (sessions != 0 && sum_of(n) >= sessions)
		return QUOTA_SESSIONS;
	if (n->rate != 0 && n->debt + 1000 > n->rate * UINT64_C(1000))
		return QUOTA_RATE;
	return QUOTA_OK;
}

static void
step_enter(struct machine *m)
{
	struct naive *n = &m->naive[pick(m, SUBJECTS)];
	uint8_t worker = (uint8_t)(1 + pick(m, WORKERS));
	uint32_t sessions = pick(m, 16);
	bool taken_back = pick(m, 8) == 7;
	enum quota_verdict should = judge(n, sessions, m->now_ms);
	enum quota_verdict is = quota_enter(
	    m->q, worker, &n->subject, sessions, n->rate, m->now_ms);

	if (m->small && is == QUOTA_NO_ROOM && should != QUOTA_SESSIONS)
		return;
	/* A rate may have been forgotten meanwhile. */
	if (!m->small || is != QUOTA_OK || should != QUOTA_RATE)
		must(is == should);
	if (is != QUOTA_OK)
		return;
	if (taken_back) {
		quota_cancel(m->q, worker, &n->subject, m->now_ms);
		return;
	}
	n->debt += n->rate != 0 ? 1000 : 0;
	n->count[worker]++;
}

static void
step_leave(struct machine *m)
{
	struct naive *n = &m->naive[pick(m, SUBJECTS)];
	unsigned worker = 1 + pick(m, WORKERS);

	for (unsigned i = 0; i < WORKERS; i++) {
		if (n->count[worker] != 0) {
			n->count[worker]--;
			quota_leave(
			    m->q, (uint8_t)worker, &n->subject, m->now_ms);
			return;
		}
		worker = worker % WORKERS + 1;
	}
}

static void
step_drop(struct machine *m)
{
	unsigned worker = 1 + pick(m, WORKERS);

	quota_drop_worker(m->q, (uint8_t)worker);
	for (unsigned i = 0; i < SUBJECTS; i++)
		m->naive[i].count[worker] = 0;
}

static void
check(struct machine *m)
{
	char why[200] = "";

	for (unsigned i = 0; i < SUBJECTS; i++)
		must(quota_count(m->q, &m->naive[i].subject) ==
		     sum_of(&m->naive[i]));
	if (quota_check(m->q, why, sizeof(why)) != 0) {
		fprintf(stderr, "%s\n", why);
		must_never("an invariant is broken");
	}
}

static void
step(struct machine *m)
{
	static const unsigned times[] = { 1, 20, 500, 1000, 60000 };

	switch (pick(m, 8)) {
	case 0:
	case 1:
	case 2:
		step_enter(m);
		return;
	case 3:
	case 4:
		step_leave(m);
		return;
	case 5:
		m->now_ms += times[pick(m, ARRAY_LEN(times))];
		return;
	case 6:
		step_drop(m);
		return;
	default:
		check(m);
	}
}

/* Addresses of one network are one client. */
static struct quota_subject
make_subject(unsigned i)
{
	uint8_t v6[16] = { 0x20, 1, 0xd,
		0xb8, [6] = (uint8_t)i, [15] = (uint8_t)i };
	struct addr a;

	switch (i % 3) {
	case 0:
		return quota_user((uint16_t)(i + 1));
	case 1:
		a = addr_v4(UINT32_C(0x0a000003) + 256 * i, (uint16_t)i);
		break;
	default:
		a = addr_from_bytes(ADDR_V6, v6, (uint16_t)i);
	}
	return quota_client(&a, 24, 56);
}

static void
begin(struct machine *m)
{
	static const uint32_t rates[] = { 0, 0, 1, 2, 7, QUOTA_RATE_MAX };

	m->now_ms = START;
	for (unsigned i = 0; i < SUBJECTS; i++)
		m->naive[i] = (struct naive){ .subject = make_subject(i),
			.rate = rates[pick(m, ARRAY_LEN(rates))],
			.at_ms = START };
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[QUOTA_KEY_BYTES] = { 4, 0, 4 };
	struct machine *m = calloc(1, sizeof(*m));
	uint32_t subjects;
	void *memory;

	must(m != NULL);
	m->program = (struct program){ data, size };
	m->small = pick(m, 2) == 1;
	subjects = m->small ? 1 : MANY;
	memory = mmap(NULL, quota_bytes(subjects), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(memory != MAP_FAILED);
	must(quota_init(memory, subjects, key, &m->q) == 0);
	begin(m);
	for (unsigned i = 0; i < STEPS && m->program.left > 0; i++)
		step(m);
	check(m);
	munmap(memory, quota_bytes(subjects));
	free(m);
	return 0;
}
