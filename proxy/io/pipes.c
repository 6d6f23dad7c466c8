/* SPDX-License-Identifier: ISC */
#include "io/pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Spare pipes that nobody took for so long are closed. When no good one is to
 * be had, the next one is asked for after as long. */
#define LOOK_MS 1000

static void
close_pipe(struct pipes *p, struct pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
	must(p->open > 0);
	p->open--;
}

static void
close_spare(struct pipes *p, size_t keep)
{
	struct link *first;

	while (p->open - p->lent > keep &&
	       (first = list_first(&p->spare)) != NULL) {
		link_remove(first);
		close_pipe(p, container_of(first, struct pipe, link));
	}
}

/* What was lent out at once at most since the last look is enough. */
static void
on_look(struct timeout *timer)
{
	struct pipes *p = container_of(timer, struct pipes, timer);

	close_spare(p, p->used > p->lent ? p->used - p->lent : 0);
	p->used = p->lent;
	if (!list_is_empty(&p->spare))
		loop_arm(p->loop, &p->look, &p->timer);
}

void
pipes_init(struct pipes *p, struct loop *l)
{
	*p = (struct pipes){ .loop = l, .least = PIPE_LEAST_BYTES };
	list_init(&p->spare);
	timeout_init(&p->timer);
	loop_class_init(l, &p->look, LOOK_MS, on_look);
}

void
pipes_fini(struct pipes *p)
{
	must(p->lent == 0);
	close_spare(p, 0);
	timeout_cancel(&p->timer);
}

static bool
open_fds(struct pipes *p, int fds[2], size_t *bytes)
{
	int got;

	if (p->open == PIPES_MAX || loop_now(p->loop) < p->poor_until_ms)
		return false;
	p->poor_until_ms = loop_now(p->loop) + LOOK_MS;
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
		return false;
	(void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
	got = fcntl(fds[1], F_GETPIPE_SZ);
	if (got > 0 && (size_t)got >= p->least) {
		*bytes = (size_t)got;
		p->poor_until_ms = 0;
		return true;
	}
	close(fds[0]);
	close(fds[1]);
	return false;
}

static struct pipe *
open_pipe(struct pipes *p)
{
	struct pipe *pipe;
	size_t bytes;
	int fds[2];

	if (!open_fds(p, fds, &bytes))
		return NULL;
	pipe = malloc(sizeof(*pipe));
	if (pipe == NULL) {
		close(fds[0]);
		close(fds[1]);
		return NULL;
	}
	*pipe = (struct pipe){ .in = fds[1], .out = fds[0], .bytes = bytes };
	link_init(&pipe->link);
	p->open++;
	return pipe;
}

struct pipe *
pipes_take(struct pipes *p)
{
	struct link *first = list_first(&p->spare);
	struct pipe *pipe;

	if (first != NULL) {
		pipe = container_of(first, struct pipe, link);
		link_remove(first);
	} else {
		pipe = open_pipe(p);
	}
	if (pipe == NULL)
		return NULL;
	p->lent++;
	if (p->used < p->lent)
		p->used = p->lent;
	return pipe;
}

void
pipes_give_back(struct pipes *p, struct pipe *pipe)
{
	must(p->lent > 0);
	p->lent--;
	list_append(&p->spare, &pipe->link);
	if (!link_is_linked(&p->timer.link))
		loop_arm(p->loop, &p->look, &p->timer);
}

void
pipes_throw_away(struct pipes *p, struct pipe *pipe)
{
	must(p->lent > 0);
	p->lent--;
	close_pipe(p, pipe);
}
