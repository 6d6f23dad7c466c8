/* SPDX-License-Identifier: ISC */
#include <sys/eventfd.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "io/poller.h"
#include "it.h"
#include "pairs.h"
#include "passes.h"

#define ONE_PASS (POLLER_BATCH * (1 + LOOP_ROUNDS))
#define MANY     (ONE_PASS + 44)

struct bench;

/* An eventfd that is watched, and what it does when it runs. */
struct thing {
	struct watch watch;
	struct bench *bench;
	int fd; /* -1: closed */
	unsigned runs;
	uint32_t events;
	void (*act)(struct thing *thing);
	struct thing *other;
};

struct bench {
	struct loop loop;
	struct thing things[MANY];
};

static void
on_run(struct watch *w, uint32_t events)
{
	struct thing *t = container_of(w, struct thing, watch);

	t->runs++;
	t->events = events;
	if (t->act != NULL)
		t->act(t);
}

static struct bench *
bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	cr_assert_not_null(b);
	cr_assert_gt(it_raise_files(), MANY + 20);
	cr_assert_eq(loop_init(&b->loop), 0);
	for (size_t i = 0; i < MANY; i++)
		b->things[i] =
		    (struct thing){ .watch = { .run = on_run, .fd = -1 },
			    .bench = b,
			    .fd = -1 };
	return b;
}

static void
watch(struct thing *t)
{
	t->fd = eventfd(0, EFD_NONBLOCK);
	cr_assert_geq(t->fd, 0);
	cr_assert_eq(poller_add(&t->bench->loop.poller, &t->watch, t->fd), 0);
	cr_assert_eq(t->watch.fd, t->fd);
}

/* As many as there are, each of them quiet. */
static struct bench *
watching(size_t count)
{
	struct bench *b = bench_new();

	for (size_t i = 0; i < count; i++)
		watch(&b->things[i]);
	passes(&b->loop, 1 + (unsigned)(count / ONE_PASS));
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(b->things[i].runs, 1, "told what holds at first");
		b->things[i].runs = 0;
	}
	return b;
}

static void
bench_free(struct bench *b)
{
	for (size_t i = 0; i < MANY; i++) {
		struct thing *t = &b->things[i];

		if (t->watch.fd != -1)
			poller_remove(&b->loop.poller, &t->watch);
		cr_expect_eq(t->watch.fd, -1);
		if (t->fd != -1)
			close(t->fd);
	}
	cr_expect_eq(b->loop.poller.count, 0);
	loop_fini(&b->loop);
	free(b);
}

static void
signal_thing(struct thing *t)
{
	cr_assert_eq(eventfd_write(t->fd, 1), 0);
}

Test(poller, it_opens_nothing_before_there_is_something_to_watch)
{
	int fds = pairs_open_fds();
	struct bench *b = bench_new();

	pass(&b->loop);
	cr_expect_eq(b->loop.poller.epoll, -1);
	watch(&b->things[0]);
	cr_expect_neq(b->loop.poller.epoll, -1);
	cr_expect_eq(b->loop.poller.count, 1);
	bench_free(b);
	cr_expect_eq(pairs_open_fds(), fds);
}

Test(poller, a_change_is_told_once_with_all_that_holds)
{
	struct bench *b = watching(2);

	signal_thing(&b->things[0]);
	pass(&b->loop);
	cr_expect_eq(b->things[0].runs, 1);
	cr_expect_eq(b->things[0].events, EPOLLIN | EPOLLOUT);
	cr_expect_eq(b->things[1].runs, 0, "nothing happened to it");
	passes(&b->loop, 2);
	cr_expect_eq(b->things[0].runs, 1);
	signal_thing(&b->things[0]);
	pass(&b->loop);
	cr_expect_eq(b->things[0].runs, 2);
	bench_free(b);
}

Test(poller, what_cannot_be_watched_is_an_error)
{
	struct bench *b = bench_new();
	int fd = eventfd(0, EFD_NONBLOCK);

	watch(&b->things[0]);
	close(fd);
	cr_expect_eq(
	    poller_add(&b->loop.poller, &b->things[1].watch, fd), -EBADF);
	cr_expect_eq(b->things[1].watch.fd, -1);
	cr_expect_eq(b->loop.poller.count, 1);
	bench_free(b);
}

Test(poller, what_was_removed_is_silent_and_can_be_watched_anew)
{
	struct bench *b = watching(1);
	struct thing *t = &b->things[0];

	poller_remove(&b->loop.poller, &t->watch);
	signal_thing(t);
	passes(&b->loop, 2);
	cr_expect_eq(t->runs, 0);
	cr_assert_eq(poller_add(&b->loop.poller, &t->watch, t->fd), 0);
	pass(&b->loop);
	cr_expect_eq(t->runs, 1);
	bench_free(b);
}

Test(poller, what_was_forgotten_and_closed_is_silent)
{
	struct bench *b = watching(2);
	struct thing *t = &b->things[0];

	signal_thing(t);
	poller_forget(&b->loop.poller, &t->watch);
	close(t->fd);
	t->fd = -1;
	signal_thing(&b->things[1]);
	passes(&b->loop, 2);
	cr_expect_eq(t->runs, 0);
	cr_expect_eq(b->things[1].runs, 1);
	bench_free(b);
}

static void
remove_other(struct thing *t)
{
	if (t->other->watch.fd != -1)
		poller_remove(&t->bench->loop.poller, &t->other->watch);
}

/* Both have something to tell in one pass; whichever is first. */
Test(poller, one_that_is_removed_by_another_does_not_run)
{
	struct bench *b = watching(2);
	struct thing *one = &b->things[0], *two = &b->things[1];

	one->act = two->act = remove_other;
	one->other = two;
	two->other = one;
	signal_thing(one);
	signal_thing(two);
	passes(&b->loop, 2);
	cr_expect_eq(one->runs + two->runs, 1);
	bench_free(b);
}

static void
replace_other(struct thing *t)
{
	struct poller *p = &t->bench->loop.poller;

	if (t->other->runs > 0)
		return;
	poller_forget(p, &t->other->watch);
	close(t->other->fd);
	t->other->fd = eventfd(0, EFD_NONBLOCK);
	cr_assert_eq(poller_add(p, &t->other->watch, t->other->fd), 0);
}

/* Its memory is used for another descriptor at once. */
Test(poller, what_is_watched_anew_is_not_told_what_was_before)
{
	struct bench *b = watching(2);
	struct thing *one = &b->things[0], *two = &b->things[1];

	one->act = two->act = replace_other;
	one->other = two;
	two->other = one;
	signal_thing(one);
	signal_thing(two);
	passes(&b->loop, 2);
	cr_expect_eq(one->runs, 1);
	cr_expect_eq(two->runs, 1);
	/* Of the new one only this, as it has no bytes. */
	cr_expect_eq(one->events ^ two->events, EPOLLIN);
	cr_expect_eq(one->events & two->events, EPOLLOUT);
	bench_free(b);
}

static void
signal_other(struct thing *t)
{
	signal_thing(t->other);
}

/* Each is ready only when the one before it has run. */
Test(poller, a_pass_takes_what_becomes_ready_in_it_but_not_for_ever)
{
	struct bench *b = watching(LOOP_ROUNDS + 2);

	for (unsigned i = 0; i < LOOP_ROUNDS + 1; i++) {
		b->things[i].act = signal_other;
		b->things[i].other = &b->things[i + 1];
	}
	signal_thing(&b->things[0]);
	pass(&b->loop);
	cr_expect_eq(b->things[LOOP_ROUNDS].runs, 1);
	cr_expect_eq(b->things[LOOP_ROUNDS + 1].runs, 0);
	pass(&b->loop);
	cr_expect_eq(b->things[LOOP_ROUNDS + 1].runs, 1);
	bench_free(b);
}

Test(poller, more_than_one_pass_takes_run_in_the_next_one)
{
	struct bench *b = watching(MANY);
	size_t ran = 0;

	for (size_t i = 0; i < MANY; i++)
		signal_thing(&b->things[i]);
	pass(&b->loop);
	for (size_t i = 0; i < MANY; i++)
		ran += b->things[i].runs;
	cr_expect_eq(ran, ONE_PASS);
	pass(&b->loop);
	for (size_t i = 0; i < MANY; i++)
		cr_expect_eq(b->things[i].runs, 1);
	bench_free(b);
}
