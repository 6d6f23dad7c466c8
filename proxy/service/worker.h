/* SPDX-License-Identifier: ISC */
/*
 * worker: a process with one loop and the sessions it accepts. It ends when it
 * has drained, when it is told to stop, or when the master is gone.
 */
#ifndef FOURFOLD_WORKER_H
#define FOURFOLD_WORKER_H

#include "service/shared.h"

/* Runs to the end and returns the exit status. */
int worker_run(const struct worker_setup *setup);

#endif
