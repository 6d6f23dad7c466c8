/* SPDX-License-Identifier: ISC */
/*
 * hostclock: the time of one of this host's clocks, in the units that all of
 * Fourfold reckons in. (The log, which is below, reads its own.)
 */
#ifndef FOURFOLD_HOSTCLOCK_H
#define FOURFOLD_HOSTCLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC or CLOCK_REALTIME, in ns. */
static inline uint64_t
clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The same in ms. */
static inline uint64_t
clock_ms(clockid_t clock)
{
	return clock_ns(clock) / 1000000;
}

#endif
