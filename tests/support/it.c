/* SPDX-License-Identifier: ISC */
#include "it.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostclock.h"

#define HELPER "FOURFOLD_TEST_HELPER"

uint64_t
it_now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

void
it_fail(const char *format, ...)
{
	char words[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	if (getenv(HELPER) != NULL) {
		fprintf(stderr, "a helper: %s\n", words);
		_exit(1);
	}
	cr_assert_fail("%s", words);
	abort(); /* not reached: the assertion leaves the test */
}

pid_t
it_fork(void)
{
	pid_t pid = fork();

	IT_MUST(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv(HELPER, "1", 1);
	}
	return pid;
}

void
it_again(uint64_t since_ms, const char *what)
{
	IT_MUST(it_now_ms() - since_ms < IT_DEADLINE_MS, "never came true: %s",
	    what);
	poll(NULL, 0, 2);
}

const char *
it_binary(void)
{
	const char *path = getenv("FOURFOLD_BINARY");

	return path != NULL ? path : FOURFOLD_BINARY;
}

const char *
it_release_binary(void)
{
	const char *path = getenv("FOURFOLD_RELEASE_BINARY");

	return path != NULL ? path : FOURFOLD_RELEASE_BINARY;
}

const char *
it_user(void)
{
	const struct passwd *user = getpwuid(geteuid());

	IT_MUST(user != NULL, "user %d has no name", (int)geteuid());
	return user->pw_name;
}

void
it_make_folder(char path[IT_PATH_MAX])
{
	strcpy_bounded(path, IT_PATH_MAX, "/tmp/fourfold-test-XXXXXX");
	IT_MUST(mkdtemp(path) != NULL, "mkdtemp: %s", strerror(errno));
}

void
it_remove_folder(const char *path)
{
	DIR *dir = opendir(path);

	if (dir == NULL)
		return;
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
	rmdir(path);
}

unsigned long
it_raise_files(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

struct program {
	pid_t pid;
	int in, out, err; /* our ends */
};

static void
program_start(const char *const argv[], struct program *p)
{
	int in[2], out[2], err[2];

	IT_MUST(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
		    pipe2(err, O_CLOEXEC) == 0,
	    "pipe: %s", strerror(errno));
	p->pid = fork();
	IT_MUST(p->pid >= 0, "fork: %s", strerror(errno));
	if (p->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	p->in = in[1];
	p->out = out[0];
	p->err = err[0];
}

/* Appends what is there to `text` of `size`; false at the end. */
static bool
take(int fd, char *text, size_t size)
{
	size_t used = strlen(text);
	char rest[512];
	bool full = size - used <= 1;
	ssize_t n = full ? read(fd, rest, sizeof(rest))
			 : read(fd, text + used, size - used - 1);

	if (n > 0 && !full)
		text[used + (size_t)n] = '\0';
	return n > 0;
}

void
it_run(const char *const argv[], const char *input, struct it_outcome *o)
{
	uint64_t since = it_now_ms();
	struct program p;
	int status;

	program_start(argv, &p);
	if (input != NULL)
		IT_MUST(
		    write(p.in, input, strlen(input)) == (ssize_t)strlen(input),
		    "the program did not take its input");
	close(p.in);
	memset(o, 0, sizeof(*o));
	struct pollfd fds[2] = {
		{ .fd = p.out, .events = POLLIN },
		{ .fd = p.err, .events = POLLIN },
	};
	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		int n = poll(fds, 2, 1000);

		if (n == 0 && it_now_ms() - since > IT_DEADLINE_MS) {
			kill(p.pid, SIGKILL);
			it_fail(
			    "%s did not end: %s%s", argv[0], o->out, o->err);
		}
		if (fds[0].revents != 0 && !take(p.out, o->out, sizeof(o->out)))
			fds[0].fd = -1;
		if (fds[1].revents != 0 && !take(p.err, o->err, sizeof(o->err)))
			fds[1].fd = -1;
	}
	close(p.out);
	close(p.err);
	IT_MUST(waitpid(p.pid, &status, 0) == p.pid, "waitpid");
	o->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
