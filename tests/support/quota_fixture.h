/* SPDX-License-Identifier: ISC */
/*
 * quota_fixture: a table of quotas in memory that children share, and short
 * words for what its tests do with it.
 */
#ifndef FOURFOLD_QUOTA_FIXTURE_H
#define FOURFOLD_QUOTA_FIXTURE_H

#include <sys/mman.h>

#include <criterion/criterion.h>

#include "policy/quota_layout.h"

static inline void *
fixture_shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert_neq(memory, MAP_FAILED);
	return memory;
}

static inline struct quota *
fixture_quota(uint32_t subjects)
{
	static const uint8_t key[QUOTA_KEY_BYTES] = { 4, 0, 4 };
	struct quota *q = NULL;

	cr_assert_eq(quota_init(fixture_shared(quota_bytes(subjects)), subjects,
			 key, &q),
	    0);
	return q;
}

static inline struct quota_subject
fixture_client(uint32_t n)
{
	struct addr a = addr_v4(UINT32_C(0x0a000000) + n, 1234);

	return quota_client(&a, 32, 64);
}

static inline void
fixture_check(struct quota *q)
{
	char why[200];

	cr_assert_eq(quota_check(q, why, sizeof(why)), 0, "%s", why);
}

/* Locks whose owner had died in them. */
static inline uint32_t
fixture_rebuilds(const struct quota *q)
{
	uint32_t rebuilds = 0;

	for (unsigned i = 0; i < QUOTA_SHARDS; i++)
		rebuilds += q->shards[i].rebuilds;
	return rebuilds;
}

/* Cells that are not free. */
static inline uint32_t
fixture_cells(struct quota *q)
{
	uint32_t used = 0;

	for (unsigned i = 0; i < QUOTA_SHARDS; i++) {
		struct quota_hold h = quota_lock(q, i);

		for (uint32_t n = 1; n <= h.s->high; n++)
			used += cell_state(quota_cell(&h, n)) != CELL_FREE;
		quota_unlock(&h);
	}
	return used;
}

#endif
