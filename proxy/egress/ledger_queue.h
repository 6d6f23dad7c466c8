/* SPDX-License-Identifier: ISC */
/*
 * ledger_queue: who waits for a slot of a full target. Clients (users, where
 * they log in) take turns; each is served oldest first. All of it under the
 * lock of the target's shard.
 */
#ifndef FOURFOLD_LEDGER_QUEUE_H
#define FOURFOLD_LEDGER_QUEUE_H

#include "egress/ledger_lane.h"

/* How many wait. */
static inline uint32_t
queue_length(const struct hold *h, uint32_t target)
{
	uint32_t desk = target_desk(ledger_target_at(h->l, target));

	return desk == 0 ? 0 : ledger_extra(h->l, desk)->desk.waiting;
}

/* May the tenant wait, where `limit` may? In a full queue a client that has
 * less than its fair share of the places is given one of a client that has
 * more: `*victim` is that one's turn then, to be displaced, or 0. */
bool queue_has_room(const struct hold *h, uint32_t target,
    const struct tenant *tenant, uint32_t limit, uint32_t *victim);

/* Takes the newest of a turn out of the queue; its worker is told. */
void queue_displace(struct hold *h, uint32_t turn);

/* Puts the tenant behind those of its client; its cell, or 0 without memory.
 * The target must not be idle. */
uint32_t queue_enter(
    struct hold *h, uint32_t target, const struct tenant *tenant);

/* Puts cell `n`, which waits but is in no queue, at the end of it. False
 * without memory. */
bool queue_append(struct hold *h, uint32_t n);

/* Takes a waiting cell out; it is still to be freed. */
void queue_remove(struct hold *h, uint32_t n);

/* Gives what can be had to those who wait, and posts their workers' mail. */
void queue_grant_all(struct hold *h, uint32_t target, uint64_t now_ms);

static inline void
queue_grant(struct hold *h, uint32_t target, uint64_t now_ms)
{
	if (queue_length(h, target) != 0)
		queue_grant_all(h, target, now_ms);
}

/* The worker is still to be told that it has mail. */
void queue_wake(struct ledger *l, unsigned worker);

/* Is what was granted to the cell still held for it? */
bool queue_holds_grant(const struct hold *h, const struct extra *e);

#endif
