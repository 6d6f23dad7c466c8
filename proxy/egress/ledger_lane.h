/* SPDX-License-Identifier: ISC */
/*
 * ledger_lane: slots in order: which one is taken next, and where one goes that
 * is given back.
 */
#ifndef FOURFOLD_LEDGER_LANE_H
#define FOURFOLD_LEDGER_LANE_H

#include "egress/ledger_extra.h"

/* Who takes a slot, as records and those who wait keep it. */
struct tenant {
	uint64_t client[2]; /* IPv4 as ::ffff:a.b.c.d; zeros: none */
	uint64_t session;
	uint16_t client_port, user;
	uint8_t worker;
};

/*
 * Takes a slot of `p` towards the target from its lists; the record's state is
 * still what it was. -EADDRINUSE: none is to be had; -ENFILE: no memory.
 */
MUST_USE int lane_take(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms, uint32_t *out);

/* Puts record `n`, whose state and time say where, on a list of `lane`. */
void lane_put(struct hold *h, uint32_t target, struct lane *lane, uint32_t n);

/* In a pool that counts: what has cooled is for nobody any more, and hot.
 * False: nothing has. */
COLD bool lane_expire(
    struct hold *h, uint32_t target, const struct pool *p, uint64_t now_ms);

/* Have all of the target's slots cooled? */
bool lane_all_cooled(
    const struct hold *h, const struct target *t, uint64_t now_ms);

/* The key under which the pool's ports are permuted for the target. */
uint64_t lane_order_key(
    struct ledger *l, const struct pool *p, const struct target *t);

/* The list that a record in this state is on. */
enum lane_list lane_list_of(enum record_state state);

#endif
