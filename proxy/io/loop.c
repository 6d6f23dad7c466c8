/* SPDX-License-Identifier: ISC */
#include "io/loop.h"

#include <errno.h>
#include <stdlib.h>

#include "egress/hostclock.h"

static const struct timeval tick_interval = { 0, LOOP_TICK_MS * 1000 };

static void
fire_expired(struct loop *l, struct timeout_class *c)
{
	struct link *first;

	while ((first = list_first(&c->armed)) != NULL) {
		struct timeout *t = container_of(first, struct timeout, link);

		if (t->deadline_ms > loop_now(l))
			return;
		link_remove(&t->link);
		c->fire(t);
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;
	struct link *i, *following;
	bool armed = false;

	(void)fd;
	(void)what;
	l->ticks = false;
	LIST_EACH_SAFE (i, following, &l->classes)
		fire_expired(l, container_of(i, struct timeout_class, link));
	LIST_EACH_SAFE (i, following, &l->classes)
		armed |= !list_is_empty(
		    &container_of(i, struct timeout_class, link)->armed);
	if (armed)
		loop_come_back(l);
}

int
loop_init(struct loop *l)
{
	struct event_config *config = event_config_new();

	*l = (struct loop){ 0 };
	if (config == NULL)
		return -ENOMEM;
	/* The worker has one thread that touches the base. */
	event_config_set_flag(
	    config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
	l->base = event_base_new_with_config(config);
	event_config_free(config);
	poller_init(&l->poller, l->base);
	l->scratch = malloc(LOOP_SCRATCH_BYTES);
	list_init(&l->classes);
	list_init(&l->again);
	list_init(&l->dead);
	if (l->base == NULL || l->scratch == NULL) {
		loop_fini(l);
		return -ENOMEM;
	}
	event_assign(&l->tick, l->base, -1, 0, on_tick, l);
	return 0;
}

void
loop_fini(struct loop *l)
{
	if (l->base != NULL) {
		if (event_initialized(&l->tick))
			event_del(&l->tick);
		poller_fini(&l->poller);
		event_base_free(l->base);
	}
	free(l->scratch);
	l->base = NULL;
	l->scratch = NULL;
}

static void
run_all(struct list *tasks)
{
	struct link *first;

	while ((first = list_first(tasks)) != NULL) {
		struct task *t = container_of(first, struct task, link);

		link_remove(&t->link);
		t->run(t);
	}
}

/* What the tasks put off again waits for the next pass, so that a busy one
 * cannot keep the others from their events. */
static void
run_again(struct loop *l)
{
	struct list now;

	list_init(&now);
	list_move_all(&now, &l->again);
	run_all(&now);
}

/* What has become ready meanwhile; false when nothing has, or when a task that
 * is put off takes long: then the base's own events have their turn. */
static bool
run_round(struct loop *l)
{
	if (!list_is_empty(&l->again) || poller_run(&l->poller) == 0)
		return false;
	run_again(l);
	l->now_ms = 0;
	return true;
}

void
loop_run(struct loop *l)
{
	l->stopping = false;
	while (!l->stopping) {
		int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

		if (!list_is_empty(&l->again))
			flags |= EVLOOP_NONBLOCK;
		event_base_loop(l->base, flags);
		run_again(l);
		for (int i = 0; i < LOOP_ROUNDS && run_round(l); i++)
			;
		if (l->on_pass != NULL)
			l->on_pass(l->on_pass_arg);
		run_all(&l->dead);
		l->now_ms = 0;
	}
}

void
loop_stop(struct loop *l)
{
	l->stopping = true;
}

void
loop_come_back(struct loop *l)
{
	if (!l->ticks)
		event_add(&l->tick, &tick_interval);
	l->ticks = true;
}

uint64_t
loop_now(struct loop *l)
{
	if (l->now_ms == 0)
		l->now_ms = clock_ms(CLOCK_MONOTONIC);
	return l->now_ms;
}

void
task_init(struct task *t, void (*run)(struct task *))
{
	link_init(&t->link);
	t->run = run;
}

void
loop_again(struct loop *l, struct task *t)
{
	if (!link_is_linked(&t->link))
		list_append(&l->again, &t->link);
}

void
task_cancel(struct task *t)
{
	link_remove(&t->link);
}

void
loop_bury(struct loop *l, struct task *t)
{
	must(!link_is_linked(&t->link));
	list_append(&l->dead, &t->link);
}

void
loop_class_init(struct loop *l, struct timeout_class *c, uint64_t after_ms,
    void (*fire)(struct timeout *))
{
	link_init(&c->link);
	list_init(&c->armed);
	c->after_ms = after_ms;
	c->fire = fire;
	list_append(&l->classes, &c->link);
}

void
timeout_init(struct timeout *t)
{
	link_init(&t->link);
	t->deadline_ms = 0;
}

void
loop_arm(struct loop *l, struct timeout_class *c, struct timeout *t)
{
	link_remove(&t->link);
	t->deadline_ms = loop_now(l) + c->after_ms;
	list_append(&c->armed, &t->link);
	loop_come_back(l);
}

void
timeout_cancel(struct timeout *t)
{
	link_remove(&t->link);
}
