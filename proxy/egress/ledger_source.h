/* SPDX-License-Identifier: ISC */
/*
 * ledger_source: ids of source addresses. The table grows only: an address
 * that comes back has the id it had.
 */
#ifndef FOURFOLD_LEDGER_SOURCE_H
#define FOURFOLD_LEDGER_SOURCE_H

#include "egress/ledger_layout.h"

/* Gives the pool's sources their ids, and notes its ports. -ENOSPC; what was
 * added to the table of addresses by then is the caller's to take back. */
MUST_USE int source_name_pool(struct ledger *l, struct pool *p);

/* How many ids a source has: of a long prefix, only so many addresses can be in
 * a slot that has a number. */
uint32_t source_ids(const struct pool *p, const struct pool_source *s);

/*
 * May a lease have, or have had, this source? Also sources that no pool has any
 * more: their leases may be held still. By route it may be any address.
 */
bool source_was_known(struct ledger *l, const struct addr *source);

/* Place + 1 of `ip` in the table of named sources; 0 when that is full. */
unsigned source_intern(struct ledger *l, const struct addr *ip);

/* The source address of an id, without port. */
struct addr source_of_id(struct ledger *l, uint32_t id);

/* The source that was named for the record, else its slot's; with port. */
struct addr source_named(struct ledger *l, const struct record *r);

/*
 * The slot that source ip:port stands for in the pool: its own, or in a pool by
 * route that of its port, since the route may give that very address.
 */
bool slot_covering(
    const struct pool *p, const struct addr *source, uint32_t *slot);

#endif
