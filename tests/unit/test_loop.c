/* SPDX-License-Identifier: ISC */
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "egress/hostclock.h"
#include "pairs.h"
#include "passes.h"

#define NOTES_MAX 32

/* A loop, and who was called in what order. */
struct bench {
	struct loop loop;
	struct timeout_class brief, lengthy;
	char notes[NOTES_MAX];
	size_t note_count;
};

/* Something that notes its name when it is called, and then does a thing. */
struct actor {
	struct task task;
	struct timeout timeout;
	struct bench *b;
	char name;
	struct actor *puts_off, *cancels, *buries;
	struct timeout_class *arms;
	bool stops;
};

static void
note(struct bench *b, char name)
{
	cr_assert_lt(b->note_count, NOTES_MAX - 1);
	b->notes[b->note_count++] = name;
	b->notes[b->note_count] = '\0';
}

static void
act(struct actor *a)
{
	struct loop *l = &a->b->loop;

	note(a->b, a->name);
	if (a->puts_off != NULL)
		loop_again(l, &a->puts_off->task);
	if (a->cancels != NULL) {
		task_cancel(&a->cancels->task);
		timeout_cancel(&a->cancels->timeout);
	}
	if (a->buries != NULL)
		loop_bury(l, &a->buries->task);
	if (a->arms != NULL)
		loop_arm(l, a->arms, &a->timeout);
	if (a->stops)
		loop_stop(l);
}

static void
on_task(struct task *t)
{
	act(container_of(t, struct actor, task));
}

static void
on_fire(struct timeout *t)
{
	struct actor *a = container_of(t, struct actor, timeout);

	cr_expect_not(link_is_linked(&t->link), "armed while it fires");
	act(a);
}

static void
bench_open(struct bench *b)
{
	*b = (struct bench){ 0 };
	cr_assert_eq(loop_init(&b->loop), 0);
	loop_class_init(&b->loop, &b->brief, 100, on_fire);
	loop_class_init(&b->loop, &b->lengthy, 60000, on_fire);
}

static struct actor
actor(struct bench *b, char name)
{
	struct actor a = { .b = b, .name = name };

	return a;
}

/* Links cannot be copied: once the actor is where it stays. */
static void
ready(struct actor *a)
{
	task_init(&a->task, on_task);
	timeout_init(&a->timeout);
}

/* A pass at that time, in which timeouts are looked at. */
static void
pass_at(struct bench *b, uint64_t now_ms)
{
	b->loop.now_ms = now_ms;
	event_active(&b->loop.tick, EV_TIMEOUT, 1);
	pass(&b->loop);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	char byte;

	(void)what;
	cr_assert_eq(read(fd, &byte, 1), 1);
	act(arg);
}

static void
on_pass(void *arg)
{
	struct bench *b = arg;

	note(b, '|');
	loop_stop(&b->loop);
}

Test(loop, a_pass_is_events_then_tasks_then_on_pass_then_the_dead)
{
	struct bench b;
	struct actor e, t, d;
	struct event event;
	int ours, theirs;

	bench_open(&b);
	e = actor(&b, 'e');
	t = actor(&b, 't');
	d = actor(&b, 'd');
	ready(&e);
	ready(&t);
	ready(&d);
	e.puts_off = &t;
	e.buries = &d;
	cr_assert(pairs_unix(&ours, &theirs));
	event_assign(&event, b.loop.base, ours, EV_READ, on_readable, &e);
	event_add(&event, NULL);
	cr_assert(pairs_send(theirs, "x", 1));
	b.loop.on_pass = on_pass;
	b.loop.on_pass_arg = &b;
	loop_run(&b.loop);
	cr_expect_str_eq(b.notes, "et|d");
	close(ours);
	close(theirs);
	loop_fini(&b.loop);
}

Test(loop, a_task_runs_once_and_in_order)
{
	struct bench b;
	struct actor x, y;

	bench_open(&b);
	x = actor(&b, 'x');
	y = actor(&b, 'y');
	ready(&x);
	ready(&y);
	loop_again(&b.loop, &x.task);
	loop_again(&b.loop, &y.task);
	loop_again(&b.loop, &x.task);
	passes(&b.loop, 2);
	cr_expect_str_eq(b.notes, "xy");
	loop_fini(&b.loop);
}

Test(loop, a_task_that_is_put_off_again_waits_for_the_next_pass)
{
	struct bench b;
	struct actor x;

	bench_open(&b);
	x = actor(&b, 'x');
	ready(&x);
	x.puts_off = &x;
	loop_again(&b.loop, &x.task);
	pass(&b.loop);
	cr_expect_str_eq(b.notes, "x");
	pass(&b.loop);
	cr_expect_str_eq(b.notes, "xx");
	task_cancel(&x.task);
	pass(&b.loop);
	cr_expect_str_eq(b.notes, "xx");
	loop_fini(&b.loop);
}

Test(loop, a_cancelled_task_does_not_run)
{
	struct bench b;
	struct actor x, y;

	bench_open(&b);
	x = actor(&b, 'x');
	y = actor(&b, 'y');
	ready(&x);
	ready(&y);
	x.cancels = &y; /* in the same pass */
	loop_again(&b.loop, &x.task);
	loop_again(&b.loop, &y.task);
	passes(&b.loop, 2);
	cr_expect_str_eq(b.notes, "x");
	task_cancel(&y.task);
	loop_fini(&b.loop);
}

Test(loop, the_dead_may_be_more)
{
	struct bench b;
	struct actor x, y;

	bench_open(&b);
	x = actor(&b, 'x');
	y = actor(&b, 'y');
	ready(&x);
	ready(&y);
	x.buries = &y;
	loop_bury(&b.loop, &x.task);
	cr_expect_str_eq(b.notes, "");
	pass(&b.loop);
	cr_expect_str_eq(b.notes, "xy");
	loop_fini(&b.loop);
}

Test(loop, it_does_not_wait_while_a_task_is_put_off)
{
	struct bench b;
	struct actor x;

	bench_open(&b);
	x = actor(&b, 'x');
	ready(&x);
	x.stops = true;
	loop_again(&b.loop, &x.task);
	loop_run(&b.loop); /* no event is there to end a wait */
	cr_expect_str_eq(b.notes, "x");
	loop_fini(&b.loop);
}

Test(loop, the_time_stands_still_within_a_pass)
{
	struct bench b;
	uint64_t before, now;

	bench_open(&b);
	before = clock_ms(CLOCK_MONOTONIC);
	now = loop_now(&b.loop);
	cr_expect_geq(now, before);
	b.loop.now_ms = 5;
	cr_expect_eq(loop_now(&b.loop), 5);
	pass(&b.loop);
	cr_expect_geq(loop_now(&b.loop), now, "asked for anew");
	loop_fini(&b.loop);
}

Test(loop, a_timeout_fires_at_its_time_and_not_before)
{
	struct bench b;
	struct actor x;

	bench_open(&b);
	x = actor(&b, 'x');
	ready(&x);
	b.loop.now_ms = 1000;
	loop_arm(&b.loop, &b.brief, &x.timeout);
	cr_expect(event_pending(&b.loop.tick, EV_TIMEOUT, NULL));
	pass_at(&b, 1099);
	cr_expect_str_eq(b.notes, "");
	cr_expect(event_pending(&b.loop.tick, EV_TIMEOUT, NULL));
	pass_at(&b, 1100);
	cr_expect_str_eq(b.notes, "x");
	cr_expect_not(event_pending(&b.loop.tick, EV_TIMEOUT, NULL),
	    "nothing is armed, but the loop is woken");
	pass_at(&b, 9999);
	cr_expect_str_eq(b.notes, "x");
	loop_fini(&b.loop);
}

Test(loop, arming_again_moves_the_time)
{
	struct bench b;
	struct actor x, y;

	bench_open(&b);
	x = actor(&b, 'x');
	y = actor(&b, 'y');
	ready(&x);
	ready(&y);
	b.loop.now_ms = 1000;
	loop_arm(&b.loop, &b.brief, &x.timeout);
	loop_arm(&b.loop, &b.brief, &y.timeout);
	b.loop.now_ms = 1050;
	loop_arm(&b.loop, &b.brief, &x.timeout);
	pass_at(&b, 1149);
	cr_expect_str_eq(b.notes, "y");
	loop_arm(&b.loop, &b.lengthy, &x.timeout);
	pass_at(&b, 1150);
	cr_expect_str_eq(b.notes, "y", "moved to another class");
	timeout_cancel(&x.timeout);
	timeout_cancel(&x.timeout);
	loop_fini(&b.loop);
}

Test(loop, a_timeout_may_cancel_and_arm_in_its_call)
{
	struct bench b;
	struct actor x, y, z;

	bench_open(&b);
	x = actor(&b, 'x');
	y = actor(&b, 'y');
	z = actor(&b, 'z');
	ready(&x);
	ready(&y);
	ready(&z);
	x.cancels = &y;
	z.arms = &b.brief;
	b.loop.now_ms = 1000;
	loop_arm(&b.loop, &b.brief, &x.timeout);
	loop_arm(&b.loop, &b.brief, &y.timeout);
	loop_arm(&b.loop, &b.brief, &z.timeout);
	pass_at(&b, 1100);
	cr_expect_str_eq(b.notes, "xz");
	pass_at(&b, 1199);
	cr_expect_str_eq(b.notes, "xz");
	pass_at(&b, 1200);
	cr_expect_str_eq(b.notes, "xzz");
	timeout_cancel(&z.timeout);
	loop_fini(&b.loop);
}

/* The only one that waits for the clock: one tick and no machine's speed. */
Test(loop, the_clock_fires_timeouts)
{
	struct bench b;
	struct actor x;

	bench_open(&b);
	x = actor(&b, 'x');
	ready(&x);
	x.stops = true;
	loop_arm(&b.loop, &b.brief, &x.timeout);
	loop_run(&b.loop);
	cr_expect_str_eq(b.notes, "x");
	loop_fini(&b.loop);
}

Test(loop, what_ended_leaves_no_descriptor)
{
	int fds = pairs_open_fds();
	struct bench b;
	struct actor x;

	bench_open(&b);
	x = actor(&b, 'x');
	ready(&x);
	loop_arm(&b.loop, &b.brief, &x.timeout);
	cr_expect_gt(pairs_open_fds(), fds);
	loop_fini(&b.loop);
	cr_expect_eq(pairs_open_fds(), fds);
}
