/* SPDX-License-Identifier: ISC */
/*
 * ledger_read: what an observer reads of the ledger. It goes over the whole of
 * it in short holds, a chunk of cells at a time, copies what it finds and calls
 * back with no lock held. So the picture is of no one moment: a row was true
 * when it was read.
 */
#ifndef FOURFOLD_LEDGER_READ_H
#define FOURFOLD_LEDGER_READ_H

#include "egress/ledger.h"

/* A target that the ledger has an entry of. */
struct ledger_target_row {
	struct addr target;
	unsigned pool;
	uint32_t cell;  /* tells it from others for as long as it lives */
	uint32_t slots; /* of the pool towards it; 0: the kernel chooses */
	uint32_t held;
	uint32_t touched; /* slots held, cooling or used before: held and
			     cooling are not more than this */
	uint32_t waiting;
	uint32_t high_water; /* the most held at once */
	bool was_full; /* since ledger_take_targets(): no lease was to be had */
};

typedef void ledger_target_fn(void *arg, const struct ledger_target_row *row);
void ledger_each_target(struct ledger *l, ledger_target_fn *fn, void *arg);

/* As above, and `was_full` of each target is clear from then on. */
void ledger_take_targets(struct ledger *l, ledger_target_fn *fn, void *arg);

enum ledger_use {
	LEDGER_HELD,
	LEDGER_COOLING, /* not to be had before `when_ms` */
	LEDGER_USABLE,  /* used before, to be had at once */
};

/* A slot towards a target. */
struct ledger_record_row {
	enum ledger_use use;
	struct addr target, source; /* source by route or chosen by the kernel:
				       as far as it is known */
	unsigned pool;
	uint32_t cell;               /* the target's */
	struct ledger_holder holder; /* held */
	uint64_t when_ms; /* held: since; cooling: until; CLOCK_MONOTONIC */
};

typedef void ledger_record_fn(void *arg, const struct ledger_record_row *row);
void ledger_each_record(
    struct ledger *l, uint64_t now_ms, ledger_record_fn *fn, void *arg);

/* Calls back for each port that rests, since a stranger holds it. */
typedef void ledger_rest_fn(void *arg, uint16_t port, uint64_t until_ms);
void ledger_each_resting(
    struct ledger *l, uint64_t now_ms, ledger_rest_fn *fn, void *arg);

#endif
