/* SPDX-License-Identifier: ISC */
/*
 * ledger_extra: what only some targets have besides their slots: a desk, and on
 * it the lanes of a sticky pool, how much each client and user holds, and the
 * turns of those who wait.
 */
#ifndef FOURFOLD_LEDGER_EXTRA_H
#define FOURFOLD_LEDGER_EXTRA_H

#include "egress/ledger_shard.h"

/* A cell of extras in `state`, for the target; 0 without memory. */
uint32_t extra_take(struct hold *h, uint32_t target, enum extra_state state);
void extra_free(struct hold *h, uint32_t n);

/* The target's desk, made if there is none; 0 without memory. The target must
 * not be idle. */
uint32_t desk_of(struct hold *h, uint32_t target);

/* The target's desk; cell 0, which is none's, where there is none. */
static inline struct extra *
desk_at(const struct hold *h, uint32_t target)
{
	return ledger_extra(h->l, target_desk(ledger_target_at(h->l, target)));
}

/* Frees the desk and all that is on it, if there is one. Nobody waits. */
void desk_free(struct hold *h, uint32_t target);

/* The lane, client's or user's count or turn; 0 when there is none. */
uint32_t extra_find(const struct hold *h, uint32_t target,
    enum extra_state state, const uint64_t key[2]);

/* The same, and made if there is none; 0 without memory. */
uint32_t extra_get(struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2]);

/* Takes a lane, count or turn from the desk and frees it. */
void extra_drop(struct hold *h, struct extra *desk, uint32_t n);

/* The lane for records of the source; the target's own where the pool is not
 * sticky. NULL without memory. */
struct lane *lane_get(
    struct hold *h, uint32_t target, const struct pool *p, uint32_t source_id);

/* ---- how much everybody holds ---- */

/* Whose a lease is, as the pool counts it. */
struct party {
	const struct pool *pool;
	uint64_t client[2];
	uint16_t user;
};

/* Of a client's address what makes it one: its prefix. */
void party_cut_client(
    const struct pool_rules *rules, const uint64_t client[2], uint64_t out[2]);

void party_make(struct party *party, const struct pool *p,
    const uint64_t client[2], uint16_t user);

/* Is anything counted in the pool? Where not, there is no need of parties. */
static inline bool
pool_counts(const struct pool *p)
{
	return p->rules.client_share != 0 || p->rules.users_limited;
}

/* May the party hold one more slot? 0; -EDQUOT: it has its share; -EBUSY: what
 * is free is kept for others. */
MUST_USE int party_admit(
    const struct hold *h, uint32_t target, const struct party *party);

/* One slot more or less for the party: one that it holds, or that cools since
 * it held it. Before the target's count changes. Without memory it is not
 * counted.
 */
void party_add(struct hold *h, uint32_t target, const struct party *party);
void party_remove(struct hold *h, uint32_t target, const struct party *party);

/* The party of a record that is counted. */
void party_of_record(
    const struct record *r, const struct pool *p, struct party *out);

/* In a pool that counts: does the record, which is not held, cool for somebody?
 */
static inline bool
record_cools_for_party(const struct record *r)
{
	return r->worker != 0 && (record_state(r) == RECORD_BRIEF ||
				     record_state(r) == RECORD_LONG);
}

/* Does any slot of the target cool for a party, or has cooled unnoticed? */
static inline bool
party_may_cool(const struct hold *h, uint32_t target)
{
	uint32_t desk = target_desk(ledger_target_at(h->l, target));

	return desk != 0 && ledger_extra(h->l, desk)->key[1] != 0;
}

/* A slot of the target cools for a party from now on, which counts it still.
 * Without memory it is not counted. */
void party_cools(struct hold *h, uint32_t target);

/* The record has cooled for its party, which counts it no more. */
COLD void party_has_cooled(
    struct hold *h, struct record *r, const struct pool *p);

#endif
