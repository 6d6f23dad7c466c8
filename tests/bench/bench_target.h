/* SPDX-License-Identifier: ISC */
/*
 * bench_target: the targets, all of them one process that sends back what it
 * receives, on one port of every address of the host.
 */
#ifndef FOURFOLD_BENCH_TARGET_H
#define FOURFOLD_BENCH_TARGET_H

#include <sys/types.h>

#include "base/base.h"

struct bench_target {
	pid_t pid;
	uint16_t port;
};

/* Forks; bench_target_stop() ends what was started. */
MUST_USE int bench_target_start(struct bench_target *out);
void bench_target_stop(struct bench_target *target);

#endif
