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

/* -ESRCH when there is no process `root`. */
MUST_USE int bench_usage_of_tree(pid_t root, struct bench_usage *out);

#endif
