/* SPDX-License-Identifier: ISC */
/*
 * resting: which ports rest, since strangers hold them, and how many slots that
 * takes from a target. It is of the moment when it was read.
 */
#ifndef FOURFOLD_RESTING_H
#define FOURFOLD_RESTING_H

#include "egress/ledger_read.h"

struct resting {
	bool any;
	uint8_t bits[65536 / 8]; /* of each port */
	/* Where any rests. Slots are by family: IPv4, IPv6. */
	struct {
		uint32_t ports; /* that rest, of the pool's */
		uint32_t slots[2], rested[2];
	} pools[LEDGER_POOLS_MAX];
};

/* -ENOMEM. */
MUST_USE int resting_read(struct resting *r, struct ledger *l, uint64_t now_ms);

bool resting_has(const struct resting *r, uint16_t port);

/*
 * Slots of the target's that are not to be had, since their ports rest, on each
 * address of the pool. `held` of those with such a port are held all the same,
 * from before: these count as others that are held.
 */
uint32_t resting_slots(const struct resting *r,
    const struct ledger_target_row *target, uint32_t held);

#endif
