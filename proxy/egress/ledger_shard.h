/* SPDX-License-Identifier: ISC */
/*
 * ledger_shard: one shard's entries: finding, making and ending them, taking a
 * slot and giving it back. All of it under the shard's lock.
 */
#ifndef FOURFOLD_LEDGER_SHARD_H
#define FOURFOLD_LEDGER_SHARD_H

#include <errno.h>

#include "egress/ledger_slab.h"
#include "egress/ledger_source.h"

struct tenant;

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
	/* A rebuild keeps no hot record, nor one that has cooled by then; 0: it
	 * keeps all. */
	uint64_t forget_ms;
	/* The target whose cooled slots were looked for last; 0: none. */
	uint32_t expired;
};

void ledger_key_make(struct ledger *l, unsigned pool, const struct addr *target,
    struct ledger_key *out);

void ledger_key_of(
    struct ledger *l, const struct target *t, struct ledger_key *out);

/* Makes a shard whole whose last owner died in it (`error` is EOWNERDEAD), or
 * that is of older pools. */
void shard_mend(struct hold *h, int error);

/* Locks a shard; mends it first where needed. */
static inline struct hold
shard_lock(struct ledger *l, uint32_t shard)
{
	struct hold h = { l, &l->shards[shard], shard, 0, 0 };
	int error = robust_lock(&h.s->mutex);

	if (error != 0 ||
	    h.s->epoch != atomic_load_explicit(&l->epoch, memory_order_acquire))
		shard_mend(&h, error);
	return h;
}

static inline void
shard_unlock(struct hold *h)
{
	robust_unlock(&h->s->mutex);
}

/* Locks the shard of cell `n` of the slab; false, and nothing locked, when it
 * has none. */
bool shard_lock_cell(
    struct ledger *l, const struct slab *slab, uint32_t n, struct hold *out);

/* The pool as this shard sees it; NULL when there is none. */
const struct pool *shard_pool(const struct hold *h, unsigned id);
const struct pool *shard_pool_of_key(
    const struct hold *h, const struct ledger_key *k);

/* The bucket's head for a key's word and ip. */
uint32_t *shard_bucket(const struct hold *h, uint32_t bucket);

/* Fetches the bucket into the cache while the lock is being taken. To read it
 * for its first target would wait for it, and so would the lock. */
void shard_prefetch(struct ledger *l, const struct ledger_key *k);

/* The target's cell, or 0. */
uint32_t shard_find(const struct hold *h, const struct ledger_key *k);

/* The holder as the ledger keeps it. */
void tenant_make(const struct ledger_holder *holder, struct tenant *out);

/* A cell for a record, or 0. */
uint32_t shard_take_record(struct hold *h);

/*
 * Finds the target's cell or makes it, and takes it from the idle ones. What
 * follows must end in shard_settle(). Errors of ledger_lease().
 */
MUST_USE int shard_enter(struct hold *h, const struct ledger_key *k,
    const struct addr *target, uint64_t now_ms, uint32_t *out);

/* Takes a target that is idle from the list of those. */
void shard_wake(struct hold *h, uint32_t n);

/* Gives up the target's place among the spare ones, if it has one. */
void shard_leave_place(struct hold *h, uint32_t n);

/* Puts it on the list when nothing is held and nobody waits, or ends it. */
void shard_settle(struct hold *h, uint32_t n, uint64_t now_ms);

/* In a pool that counts: may the tenant have one more slot of the target's? 0,
 * -EDQUOT or -EBUSY. */
MUST_USE int shard_admit(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms);

/* Takes a slot for the tenant off its lists, if it may have one. -EDQUOT,
 * -EBUSY: what is free is kept for others; or an error of lane_take(). */
MUST_USE int shard_take(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms, uint32_t *out);

/* Makes the tenant the holder of a record that was taken. */
void shard_hold(struct hold *h, uint32_t n, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms);

void shard_fill_lease(const struct hold *h, uint32_t n, const struct pool *p,
    struct ledger_lease *out);

/* Leases a slot: ledger_lease() but for the reverse look. */
MUST_USE int shard_lease(struct hold *h, const struct ledger_key *k,
    const struct addr *target, const struct tenant *tenant, uint64_t now_ms,
    struct ledger_lease *out);

/* Ends the lease of a held record. */
void shard_return(
    struct hold *h, uint32_t n, enum ledger_release how, uint64_t now_ms);

/* Mends: makes all that is derived anew for the pools of `epoch`. */
COLD void shard_rebuild(struct hold *h, uint64_t epoch);

/*
 * For when a target is full: slots that were passed over while their port
 * rested have no record, and are found again by making the shard anew, once
 * that rest is over; false, and not done, before. No target is in hand.
 */
COLD bool shard_recall(struct hold *h, uint64_t now_ms);

/* Would it? */
static inline bool
passed_is_due(const struct hold *h, uint64_t now_ms)
{
	return h->s->passed_until != 0 && h->s->passed_until <= now_ms;
}

/*
 * For when there is no memory: forgets which slots were in use, also of targets
 * in use, and if there is little to forget those that still cool as well (the
 * kernel then is the judge). It takes as long as a rebuild; false, and not
 * done, where little would come of it.
 */
bool shard_forget(struct hold *h, uint64_t now_ms);

/* Pools in which the way back to the target may be leased, a bit each. */
uint64_t shard_mirrors(const struct hold *h, uint32_t target);

/* Gives a lease that turns out to be the way back of another one in `pools` up
 * again; false then. No lock is held. */
bool ledger_confirm(struct ledger *l, uint64_t pools, const struct addr *target,
    uint64_t now_ms, struct ledger_lease *lease);

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
