/* SPDX-License-Identifier: ISC */
/*
 * quota_layout: the shared block of quotas. Included by quota's own files and
 * their tests only.
 *
 * header (with shards) | hash buckets | cells
 *
 * Each shard has a range of cells, numbered from 1 in it; 0 is none. A subject
 * has one main cell, which counts the sessions of four workers, and further
 * ones where it is in more. What is true: a cell's `state` and `subject`, its
 * counts, `debt` and `at_ms`, and the shard's `high`. All else is derived, and
 * made anew by quota_rebuild().
 */
#ifndef FOURFOLD_QUOTA_LAYOUT_H
#define FOURFOLD_QUOTA_LAYOUT_H

#include <stdatomic.h>

#include "base/robust.h"
#include "policy/quota.h"

#define QUOTA_SHARDS    64
#define QUOTA_CELL      64
#define QUOTA_MAIN_HAS  4 /* counts in a main cell */
#define QUOTA_MORE_HAS  8 /* counts in a further one */
#define QUOTA_COUNT_MAX ((UINT32_C(1) << 24) - 1)

enum cell_state {
	CELL_FREE, /* must be 0: fresh memory is free */
	CELL_BUSY, /* the main cell of a subject with sessions */
	CELL_IDLE, /* of one without, kept for its rate: on the list `idle` */
	CELL_MORE, /* more counts of a subject that is busy */
};

/* How many sessions a worker has: the worker in the high 8 bits, the number in
 * the others. 0: this place is free. */
typedef _Atomic uint32_t worker_count;

/* Of a main cell. The rate is a bucket: each session is a debt of 1000, and
 * `rate` is paid off each ms, so that nothing is ever rounded. */
struct main_part {
	uint32_t sum;
	uint32_t debt;  /* at `at_ms` */
	uint64_t at_ms; /* when it last grew */
	union {
		worker_count count[QUOTA_MAIN_HAS]; /* busy */
		struct {
			uint32_t prev, next; /* idle; in a ring */
		};
	};
};

_Static_assert(sizeof(struct quota_subject) == 20, "a subject has no padding");

struct cell {
	struct quota_subject subject;
	_Atomic uint32_t state; /* enum cell_state */
	uint32_t chain;         /* next of the bucket, or of the free ones */
	uint32_t more;          /* the subject's next further cell */
	union {
		struct main_part main;
		worker_count count[QUOTA_MORE_HAS];
	};
};
_Static_assert(sizeof(struct cell) == QUOTA_CELL, "a cell is a cache line");

struct shard {
	pthread_mutex_t mutex;
	uint32_t high; /* cells ever used: those behind were never touched */
	uint32_t free; /* head of the chain */
	uint32_t idle; /* the one that has been idle longest */
	uint32_t rebuilds;
} __attribute__((aligned(QUOTA_CELL)));

struct quota {
	uint64_t key[2];
	uint32_t cells; /* of each shard */
	uint32_t bucket_mask;
	size_t buckets_at, cells_at; /* from the beginning of the block */
	size_t bytes;
	struct shard shards[QUOTA_SHARDS];
};

/* A locked shard. */
struct quota_hold {
	struct quota *q;
	struct shard *s;
	uint32_t *buckets;
	struct cell *cells; /* the first is number 1 */
};

struct quota_hold quota_lock(struct quota *q, uint32_t shard);
void quota_unlock(struct quota_hold *h);

/* Makes all that is derived anew. */
void quota_rebuild(struct quota_hold *h);

/* The shard of a subject, and its bucket there. */
uint32_t quota_place(
    const struct quota *q, const struct quota_subject *s, uint32_t *bucket);

/* The counts of a cell that has some. */
struct quota_counts {
	worker_count *count;
	unsigned n;
};
struct quota_counts quota_counts(struct cell *c);

static inline struct cell *
quota_cell(const struct quota_hold *h, uint32_t n)
{
	return &h->cells[n - 1];
}

static inline uint32_t
cell_state(const struct cell *c)
{
	return atomic_load_explicit(&c->state, memory_order_relaxed);
}

#endif
