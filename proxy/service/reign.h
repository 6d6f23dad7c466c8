/* SPDX-License-Identifier: ISC */
/*
 * reign: everything that one configuration puts in force: the snapshot, the
 * sockets, the pools, how many workers. During a reload there are two.
 *
 * What can fail is done first and changes nothing that is in force.
 */
#ifndef FOURFOLD_REIGN_H
#define FOURFOLD_REIGN_H

#include "service/control.h"
#include "service/crew.h"
#include "service/names.h"
#include "service/observer.h"
#include "service/snapshot.h"

/* What outlives the reigns. */
struct reign_base {
	struct log *log;
	struct ledger *ledger;
	struct names *names; /* of users, by id */
	char pool_names[LEDGER_POOLS_MAX][POOL_NAME_MAX + 1]; /* by id */
	/* By port: is it bound explicitly, as the last pool that had it was put
	 * into the ledger? What the kernel chooses is bound as by range. */
	bool explicit_ports[UINT16_MAX + 1];
	uint64_t descriptors; /* that a process may have */
	unsigned slots;       /* of sockets; never taken away */
	uint64_t now_ms;
};

/* What one configuration put in force; two of them during a reload. */
struct reign {
	struct snapshot snapshot;
	struct sockets sockets;
	struct control control;
	struct identity identity;
	unsigned pools[LEDGER_POOLS_MAX]; /* ledger's id of each egress */
	/* Whose each id is, this reign's new ones included. */
	char pool_names[LEDGER_POOLS_MAX][POOL_NAME_MAX + 1];
	unsigned workers;
	struct crew_order order;
	struct observer_setup observer;
};

/* Workers and sessions, from the file and the limit of descriptors. Errors are
 * written as lines. */
MUST_USE int reign_size(
    const struct reign_base *base, struct reign *r, FILE *errors);

/* Sockets, users and pools; `now` is the reign in force, or NULL. On error what
 * `now` has is as it was. */
MUST_USE int reign_prepare(const struct reign_base *base, struct reign *r,
    struct reign *now, FILE *errors);

/* Gives up what only `r` has of all that was prepared. */
void reign_abandon(struct reign *r, struct reign *now);

/* Puts the pools into the ledger. */
MUST_USE int reign_put_pools(
    struct reign_base *base, struct reign *r, FILE *errors);

/* Slots of sockets when `r` is in force. */
unsigned reign_slots(const struct reign_base *base, const struct reign *r);

/* Accepts NULL. Sockets must have been given up. */
void reign_free(struct reign *r);

#endif
