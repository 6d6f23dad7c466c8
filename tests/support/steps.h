/* SPDX-License-Identifier: ISC */
/*
 * steps: a child that dies after so many instructions, wherever that is.
 */
#ifndef FOURFOLD_TESTS_STEPS_H
#define FOURFOLD_TESTS_STEPS_H

#include <sys/types.h>

#include "base/base.h"

/* May a parent trace its child here? */
bool steps_allowed(void);

/*
 * Starts `fn` in a child, and stops it where it makes its first system call:
 * so, where it only waits for a lock that the caller holds, at that lock. It is
 * to be ended by steps_kill_after().
 */
pid_t steps_start(void (*fn)(void *arg), void *arg);

/* Lets it do so many instructions more and kills it. True when it had come to
 * its end before. */
bool steps_kill_after(pid_t pid, unsigned steps);

#endif
