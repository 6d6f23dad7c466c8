/* SPDX-License-Identifier: ISC */
/*
 * robust: a mutex in memory that processes share, any of which may be killed at
 * any instruction (pthread_mutexattr_setrobust(3)). Holds are short: nobody
 * sleeps for one.
 */
#ifndef FOURFOLD_ROBUST_H
#define FOURFOLD_ROBUST_H

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "base/base.h"

/* Makes a mutex of zeroed memory. 0 or -errno. */
MUST_USE int robust_init(pthread_mutex_t *m);

/* robust_lock() of one that somebody has. */
MUST_USE int robust_spin(pthread_mutex_t *m);

/* 0; EOWNERDEAD: the last owner died in it. What it guards is then to be
 * mended, and robust_mended() to be called: until that every next owner is told
 * the same. */
MUST_USE static inline int
robust_lock(pthread_mutex_t *m)
{
	int error = pthread_mutex_trylock(m);

	return error == EBUSY ? robust_spin(m) : error;
}

static inline void
robust_mended(pthread_mutex_t *m)
{
	must(pthread_mutex_consistent(m) == 0);
}

static inline void
robust_unlock(pthread_mutex_t *m)
{
	must(pthread_mutex_unlock(m) == 0);
}

#endif
