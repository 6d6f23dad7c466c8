/* SPDX-License-Identifier: ISC */
/*
 * stats: a worker's counters, in memory shared with the master. Only the worker
 * writes its own; anybody reads.
 */
#ifndef FOURFOLD_STATS_H
#define FOURFOLD_STATS_H

#include <stdatomic.h>

#include "session/lifecycle.h"

/* X(NAME, label) */
#define STATS_COUNTERS(X)                                             \
	X(ACCEPTED, "accepted")           /* clients */               \
	X(ACCEPT_PAUSED, "accept_paused") /* out of descriptors */    \
	X(SESSIONS_FULL, "sessions_full") /* no worker had room */    \
	X(CONNECTS, "connects")           /* connect() calls */       \
	X(TUPLES_TAKEN, "tuples_taken")   /* refused by the kernel */ \
	X(PORTS_BLOCKED, "ports_blocked") /* by a stranger */         \
	X(BYTES_UP, "bytes_up")           /* to targets */            \
	X(BYTES_DOWN, "bytes_down")       /* to clients */

enum stats_counter {
#define ROW(name, label) STATS_##name,
	STATS_COUNTERS(ROW)
#undef ROW
	    STATS_COUNT,
};

struct stats {
	_Atomic uint64_t sessions; /* now */
	_Atomic uint64_t counters[STATS_COUNT];
	_Atomic uint64_t closed[CLOSE_REASON_COUNT];
};

/* Not an atomic addition: there is one writer. */
static inline void
stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter,
	    atomic_load_explicit(counter, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static inline void
stats_set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline uint64_t
stats_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

const char *stats_label(enum stats_counter counter);

#endif
