/* SPDX-License-Identifier: ISC */
#include "steps.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <signal.h>
#include <unistd.h>

#include <criterion/criterion.h>

bool
steps_allowed(void)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Lets a stopped child go on, until it stops again: false when it ended. */
static bool
go_on(pid_t pid, int request)
{
	int status;

	cr_assert_eq(ptrace(request, pid, NULL, NULL), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status)) {
		cr_assert_eq(WEXITSTATUS(status), 0);
		return false;
	}
	cr_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	return true;
}

pid_t
steps_start(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		fn(arg);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	cr_assert(go_on(pid, PTRACE_SYSCALL));
	return pid;
}

bool
steps_kill_after(pid_t pid, unsigned steps)
{
	int status;

	while (steps-- > 0)
		if (!go_on(pid, PTRACE_SINGLESTEP))
			return true;
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return false;
}
