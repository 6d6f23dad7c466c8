/* SPDX-License-Identifier: ISC */
/*
 * bench_usage: what a program and all that it has forked use of the machine.
 */
#ifndef FOURFOLD_BENCH_USAGE_H
#define FOURFOLD_BENCH_USAGE_H

#include <sys/types.h>

#include "base/base.h"

struct bench_usage {
	uint64_t cpu_us;       /* user and system, also of ended children */
	uint64_t memory_bytes; /* PSS: shared pages count once in all */
	unsigned processes, descriptors;
};

/* What else than the processor's time is asked for; or'ed. Of hundreds of
 * thousands of descriptors both take long, and the machine's memory. */
enum bench_what { BENCH_TIME = 0, BENCH_MEMORY = 1, BENCH_DESCRIPTORS = 2 };

/* -ESRCH when there is no process `root`. */
MUST_USE int bench_usage_of_tree(
    pid_t root, unsigned what, struct bench_usage *out);

#endif
