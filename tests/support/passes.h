/* SPDX-License-Identifier: ISC */
/*
 * passes: drives a loop pass by pass, and its timeouts without waiting.
 */
#ifndef FOURFOLD_TEST_PASSES_H
#define FOURFOLD_TEST_PASSES_H

#include "io/loop.h"

static inline void
passes_stop(void *loop)
{
	loop_stop(loop);
}

static inline void
passes_nothing(struct task *task)
{
	(void)task;
}

/* One pass that takes what is there and does not wait. */
static inline void
pass(struct loop *l)
{
	struct task nothing;

	task_init(&nothing, passes_nothing);
	loop_again(l, &nothing);
	l->on_pass = passes_stop;
	l->on_pass_arg = l;
	loop_run(l);
	task_cancel(&nothing);
}

/* What an event causes may be put off twice: to the end of its pass, and of
 * the next one. */
static inline void
passes(struct loop *l, unsigned count)
{
	while (count-- > 0)
		pass(l);
}

/* The time of every armed timeout has come: one pass. */
static inline void
pass_expired(struct loop *l)
{
	struct link *i, *after_i, *t, *after_t;

	LIST_EACH_SAFE (i, after_i, &l->classes) {
		struct timeout_class *c =
		    container_of(i, struct timeout_class, link);

		LIST_EACH_SAFE (t, after_t, &c->armed)
			container_of(t, struct timeout, link)->deadline_ms = 0;
	}
	event_active(&l->tick, EV_TIMEOUT, 1);
	pass(l);
}

#endif
