/* SPDX-License-Identifier: ISC */
/*
 * view: what the observer's pages are made from, as of one moment. All is
 * borrowed.
 */
#ifndef FOURFOLD_VIEW_H
#define FOURFOLD_VIEW_H

#include <sys/types.h>

#include "egress/alarm.h"
#include "service/names.h"
#include "service/shared.h"

struct view {
	struct ledger *ledger;
	const struct shared *shared;
	const struct names *names;
	const char (*pool_names)[POOL_NAME_MAX + 1]; /* by the ledger's id */
	const struct alarms *alarms;
	pid_t master;
	uint64_t started_ms;           /* the master */
	uint64_t now_ms, now_epoch_ms; /* CLOCK_MONOTONIC, CLOCK_REALTIME */
	uint64_t max_sessions;
	uint64_t wanted; /* a bit a pool: the file has it */
};

/* The moment of CLOCK_MONOTONIC: "2026-11-22T10:41:52.004Z". Returns `text`. */
#define VIEW_TIME_MAX 32
const char *view_time(const struct view *v, uint64_t ms, char *text);

/* The name of a pool; "?" where it has none. */
const char *view_pool(const struct view *v, unsigned id);

#endif
