/* SPDX-License-Identifier: ISC */
/*
 * census: the ledger in figures: one pass over what it holds, summed up by
 * pool, by source address and by target. It holds no lock for longer than a
 * chunk of the ledger takes to copy, and owns what it counted.
 */
#ifndef FOURFOLD_CENSUS_H
#define FOURFOLD_CENSUS_H

#include "egress/ledger_read.h"

/* A source address of a pool. */
struct census_address {
	struct addr ip; /* unspecified: by route, and not known yet */
	unsigned pool;
	unsigned place;         /* of its source in the pool: their order */
	bool outside;           /* the pool does not have it any more */
	uint32_t held, cooling; /* leases, towards all targets together */
	uint32_t used; /* ports that are held or cooling towards any target */
	uint32_t
	    busy; /* of these, those that are the pool's, and do not rest */
	/* What one target can be given from it; ports that rest, since
	 * strangers hold them; ports that nothing holds. 0 where the kernel
	 * chooses. */
	uint32_t slots, rested, free;
};

struct census_pool {
	struct pool *definition; /* NULL: there is no such pool */
	uint64_t held, cooling, targets;
	uint32_t rested;                 /* of its ports */
	uint64_t addresses, slots, free; /* sums over all its addresses */
};

struct census_target {
	struct ledger_target_row row;
	uint32_t cooling;
	uint32_t rested; /* of its slots, not to be had: strangers hold them */
};

struct census {
	uint64_t held, cooling, targets;
	uint64_t sources; /* distinct source ip:port that are held */
	struct census_pool pools[LEDGER_POOLS_MAX];
	/* In use, or named one by one in their pool; by pool and place. */
	struct census_address *addresses;
	size_t address_count;
	/* The most used of their slots first. */
	struct census_target *top;
	size_t top_count;
};

/* -ENOMEM. `top` targets at most are kept. */
MUST_USE int census_take(
    struct census *c, struct ledger *l, uint64_t now_ms, size_t top);
void census_fini(struct census *c);

/* `part` of `of`; 0 of nothing. */
unsigned census_percent(uint32_t part, uint32_t of);

/* Held and cooling, of what can be had; 100 where nothing can, 0 where the
 * kernel chooses. */
unsigned census_used_percent(const struct census_target *t);

#endif
