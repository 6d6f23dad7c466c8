/* SPDX-License-Identifier: ISC */
/*
 * calls: which system calls a process makes, counted by tracing its main
 * thread. It goes on as ever, but slowly.
 */
#ifndef FOURFOLD_TESTS_CALLS_H
#define FOURFOLD_TESTS_CALLS_H

#include <sys/types.h>

#include "base/base.h"

/* More than there are. */
#define CALLS_MAX 512

struct calls;

/* May a child be traced here? */
bool calls_available(void);

/* Begins to trace the process, which is a descendant. */
struct calls *calls_start(pid_t pid);

/* So many of each number since the start, into `counts`. */
void calls_look(struct calls *c, unsigned counts[CALLS_MAX]);

void calls_stop(struct calls *c);

#endif
