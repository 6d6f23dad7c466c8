/* SPDX-License-Identifier: ISC */
/*
 * ledger_shard: one shard's entries: finding, making and ending them, taking a
 * slot and giving it back. All of it under the shard's lock.
 */
#ifndef FOURFOLD_LEDGER_SHARD_H
#define FOURFOLD_LEDGER_SHARD_H

#include "egress/ledger_slab.h"
#include "egress/ledger_source.h"

/* A target's key, as it is stored, and where it belongs. */
struct ledger_key {
	uint64_t ip[2];
	uint64_t word;
	uint32_t shard, bucket;
};

/* A locked shard. */
struct hold {
	struct ledger *l;
	struct shard *s;
	uint32_t shard;
};

void ledger_key_make(struct ledger *l, unsigned pool, const struct addr *target,
    struct ledger_key *out);

void ledger_key_of(
    struct ledger *l, const struct target *t, struct ledger_key *out);

/* Locks a shard; mends it first when its last owner died in it or when a pool
 * has changed since. */
struct hold shard_lock(struct ledger *l, uint32_t shard);
void shard_unlock(struct hold *h);

/* Locks the shard of record `n`; false, and nothing locked, when it has none.
 */
bool shard_lock_record(struct ledger *l, uint32_t n, struct hold *out);

/* The pool as this shard sees it; NULL when there is none. */
const struct pool *shard_pool(const struct hold *h, unsigned id);

/* The bucket's head for a key's word and ip. */
uint32_t *shard_bucket(const struct hold *h, uint32_t bucket);

/* Fetches the bucket into the cache while the lock is being taken. */
void shard_prefetch(struct ledger *l, const struct ledger_key *k);

/* The target's cell, or 0. */
uint32_t shard_find(const struct hold *h, const struct ledger_key *k);

/* Leases a slot: ledger_lease() but for the reverse look. */
MUST_USE int shard_lease(struct hold *h, const struct ledger_key *k,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms, struct ledger_lease *out);

/* Ends the lease of a held record. */
void shard_return(
    struct hold *h, uint32_t n, enum ledger_release how, uint64_t now_ms);

/* Mends: makes all that is derived anew for the pools of `epoch`. */
void shard_rebuild(struct hold *h, uint64_t epoch);

/* Does the pool have the slot that equals the target, which is never leased? */
bool shard_has_self(const struct pool *p, const struct addr *target);

/* The target's address and port. */
struct addr target_addr(const struct target *t);

static inline bool
record_is_held(const struct record *r)
{
	return record_state(r) == RECORD_HELD ||
	       record_state(r) == RECORD_STRAY;
}

#endif
