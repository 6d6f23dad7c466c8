/* SPDX-License-Identifier: ISC */
#include "calls.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <errno.h>
#include <linux/ptrace.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "it.h"

struct calls {
	pid_t pid;
	pthread_t thread; /* traces: only who has attached may */
	pthread_barrier_t attached;
	int error;
	_Atomic bool stopping;
	_Atomic unsigned counts[CALLS_MAX];
};

static long
trace(int request, pid_t pid, uintptr_t addr, uintptr_t data)
{
	return ptrace((enum __ptrace_request)request, pid, addr, data);
}

bool
calls_available(void)
{
	struct __ptrace_syscall_info info;
	bool ok;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	if (pid < 0)
		return false;
	ok = trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0 &&
	     trace(PTRACE_INTERRUPT, pid, 0, 0) == 0 &&
	     waitpid(pid, &status, __WALL) == pid &&
	     trace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info),
		 (uintptr_t)&info) > 0;
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status))
		;
	return ok;
}

static void
count(struct calls *c)
{
	struct __ptrace_syscall_info info;

	if (trace(PTRACE_GET_SYSCALL_INFO, c->pid, sizeof(info),
		(uintptr_t)&info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr < CALLS_MAX)
		atomic_fetch_add(&c->counts[info.entry.nr], 1);
}

/* From stop to stop: at each system call's begin and end, and each signal. */
static void
follow(struct calls *c)
{
	int status, signal = 0;

	while (!atomic_load(&c->stopping)) {
		if (trace(PTRACE_SYSCALL, c->pid, 0, (uintptr_t)signal) != 0 ||
		    waitpid(c->pid, &status, __WALL) != c->pid ||
		    !WIFSTOPPED(status))
			return;
		signal = 0;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			count(c);
		else if (status >> 16 == 0)
			signal = WSTOPSIG(status);
	}
	trace(PTRACE_DETACH, c->pid, 0, 0);
}

static void *
run(void *arg)
{
	struct calls *c = arg;
	int status;

	if (trace(PTRACE_SEIZE, c->pid, 0, PTRACE_O_TRACESYSGOOD) != 0 ||
	    trace(PTRACE_INTERRUPT, c->pid, 0, 0) != 0 ||
	    waitpid(c->pid, &status, __WALL) != c->pid)
		c->error = errno;
	pthread_barrier_wait(&c->attached);
	if (c->error == 0)
		follow(c);
	return NULL;
}

struct calls *
calls_start(pid_t pid)
{
	struct calls *c = calloc(1, sizeof(*c));

	must(c != NULL);
	c->pid = pid;
	must(pthread_barrier_init(&c->attached, NULL, 2) == 0);
	must(pthread_create(&c->thread, NULL, run, c) == 0);
	pthread_barrier_wait(&c->attached);
	IT_MUST(c->error == 0, "ptrace: %s", strerror(c->error));
	return c;
}

void
calls_look(struct calls *c, unsigned counts[CALLS_MAX])
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		counts[i] = atomic_load(&c->counts[i]);
}

/* A signal that it ignores stops it once more, wherever it waits. */
void
calls_stop(struct calls *c)
{
	atomic_store(&c->stopping, true);
	kill(c->pid, SIGURG);
	pthread_join(c->thread, NULL);
	pthread_barrier_destroy(&c->attached);
	free(c);
}
