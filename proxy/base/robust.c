/* SPDX-License-Identifier: ISC */
#include "base/robust.h"

#include <sched.h>
#include <stdatomic.h>

/* How often a lock that somebody has is tried before others are let run, and
 * how long this process keeps its hands off in between, so that the other one
 * can go on. */
#define SPINS  10
#define PAUSES 160

int
robust_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t attr;
	int error = pthread_mutexattr_init(&attr);

	if (error != 0)
		return -error;
	error = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error =
		    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (error == 0)
		error = pthread_mutex_init(m, &attr);
	pthread_mutexattr_destroy(&attr);
	return -error;
}

static inline void
pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

/*
 * Never sleeps in the mutex: a waiter that is woken and killed before it has
 * the lock takes its wake-up with it, where another one was faster, and the
 * next waiter would sleep on with nobody to wake it.
 */
int
robust_spin(pthread_mutex_t *m)
{
	int error = EBUSY;

	for (unsigned i = 0; error == EBUSY; i++) {
		if (i >= SPINS)
			sched_yield();
		for (int j = 0; i < SPINS && j < PAUSES; j++)
			pause_cpu();
		error = pthread_mutex_trylock(m);
	}
	return error;
}
