/* SPDX-License-Identifier: ISC */
#include "bench_crew.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
bench_die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
work(int fd, unsigned member, bench_crew_fn *fn, void *arg)
{
	uint32_t number;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fd, &number, sizeof(number)) == sizeof(number)) {
		fn(arg, member, number);
		if (write(fd, &number, sizeof(number)) != sizeof(number))
			break;
	}
	_exit(0);
}

void
bench_crew_start(
    struct bench_crew *c, unsigned count, bench_crew_fn *fn, void *arg)
{
	must(count <= BENCH_CREW_MAX);
	*c = (struct bench_crew){ .count = count };
	fflush(stdout);
	for (unsigned i = 0; i < count; i++) {
		int ends[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) !=
		    0)
			bench_die("socketpair");
		c->pids[i] = fork();
		if (c->pids[i] < 0)
			bench_die("fork");
		if (c->pids[i] == 0) {
			close(ends[0]);
			work(ends[1], i, fn, arg);
		}
		close(ends[1]);
		c->fds[i] = ends[0];
	}
}

void
bench_crew_step(struct bench_crew *c, unsigned member, uint32_t number)
{
	if (write(c->fds[member], &number, sizeof(number)) != sizeof(number) ||
	    read(c->fds[member], &number, sizeof(number)) != sizeof(number))
		bench_die("a child is gone");
}

void
bench_crew_stop(struct bench_crew *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		kill(c->pids[i], SIGKILL);
		waitpid(c->pids[i], NULL, 0);
		close(c->fds[i]);
	}
	c->count = 0;
}
