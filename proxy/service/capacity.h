/* SPDX-License-Identifier: ISC */
/*
 * capacity: how many workers and sessions a configuration and a limit of
 * descriptors make. Pure: it asks nothing of the host.
 */
#ifndef FOURFOLD_CAPACITY_H
#define FOURFOLD_CAPACITY_H

#include <stdio.h>

#include "policy/config.h"

/*
 * What an idle session takes: 15 KB of the kernel's, measured with both of its
 * peers on the same host, so that four sockets are counted (two, where they are
 * elsewhere, are half of it); 1 KB of ours. What is under way comes on top.
 */
#define CAPACITY_KERNEL_BYTES  15360
#define CAPACITY_USER_BYTES    1024
#define CAPACITY_SESSION_BYTES (CAPACITY_KERNEL_BYTES + CAPACITY_USER_BYTES)

struct capacity_host {
	uint64_t descriptors; /* that a process may have */
	unsigned processors;
	unsigned slots; /* of sockets that there are already; 0 at a start */
};

struct capacity {
	unsigned workers;
	uint64_t each;     /* sessions that the descriptors of a worker make */
	uint64_t sessions; /* of all workers: max-sessions, or what they make */
};

/* This host's processors, as many as there may be workers. */
unsigned capacity_processors(void);

/* -EMFILE, and a line that says so, when the descriptors are too few. */
MUST_USE int capacity_find(const struct config *c,
    const struct capacity_host *host, FILE *errors, struct capacity *out);

/* Descriptors a process needs for `sessions` sessions in it, of `workers`. */
uint64_t capacity_descriptors(
    const struct config *c, unsigned workers, uint64_t sessions);

/* The most sessions that as many workers as there may be can hold. */
uint64_t capacity_most(const struct config *c, uint64_t descriptors);

#endif
