/* SPDX-License-Identifier: ISC */
/*
 * bench_crew: child processes that do a step when told to and say when it is
 * done: they hold the sockets that are too many for one process.
 */
#ifndef FOURFOLD_BENCH_CREW_H
#define FOURFOLD_BENCH_CREW_H

#include <sys/types.h>

#include "base/base.h"

#define BENCH_CREW_MAX 8

struct bench_crew {
	unsigned count;
	pid_t pids[BENCH_CREW_MAX];
	int fds[BENCH_CREW_MAX];
};

/* Does the step `number`; it has `arg` as it was at the fork. */
typedef void bench_crew_fn(void *arg, unsigned member, uint32_t number);

/* Forks `count` members. */
void bench_crew_start(
    struct bench_crew *c, unsigned count, bench_crew_fn *fn, void *arg);

/* Tells one of them, and waits until it has done it. */
void bench_crew_step(struct bench_crew *c, unsigned member, uint32_t number);

/* They and all that they hold go. */
void bench_crew_stop(struct bench_crew *c);

/* Says what went wrong, and exits. */
void bench_die(const char *what) __attribute__((noreturn));

#endif
