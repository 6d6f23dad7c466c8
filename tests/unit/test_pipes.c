/* SPDX-License-Identifier: ISC */
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "io/pipes.h"
#include "pairs.h"
#include "passes.h"

struct bench {
	struct loop loop;
	struct pipes pipes;
	int fds_before;
};

static void
bench_open(struct bench *b)
{
	b->fds_before = pairs_open_fds();
	cr_assert_eq(loop_init(&b->loop), 0);
	pipes_init(&b->pipes, &b->loop);
}

static void
bench_close(struct bench *b)
{
	pipes_fini(&b->pipes);
	loop_fini(&b->loop);
	cr_expect_eq(pairs_open_fds(), b->fds_before, "a descriptor is left");
}

static struct pipe *
take(struct bench *b)
{
	struct pipe *p = pipes_take(&b->pipes);

	cr_assert_not_null(p);
	return p;
}

Test(pipes, one_that_comes_back_is_lent_again)
{
	struct bench b;
	struct pipe *first;
	char got[4];

	bench_open(&b);
	first = take(&b);
	cr_expect_gt(first->bytes, 0);
	cr_assert_eq(write(first->in, "abc", 4), 4);
	cr_assert_eq(read(first->out, got, 4), 4);
	cr_expect_str_eq(got, "abc");
	cr_expect_eq(read(first->out, got, 1), -1, "it does not block");
	pipes_give_back(&b.pipes, first);
	cr_expect_eq(take(&b), first);
	cr_expect_eq(b.pipes.open, 1);
	pipes_give_back(&b.pipes, first);
	bench_close(&b);
}

Test(pipes, there_are_so_many_and_no_more)
{
	struct pipe *lent[PIPES_MAX];
	struct bench b;

	bench_open(&b);
	for (size_t i = 0; i < PIPES_MAX; i++)
		lent[i] = take(&b);
	cr_expect_null(pipes_take(&b.pipes));
	pipes_give_back(&b.pipes, lent[0]);
	cr_expect_eq(take(&b), lent[0]);
	for (size_t i = 0; i < PIPES_MAX; i++)
		pipes_give_back(&b.pipes, lent[i]);
	bench_close(&b);
}

Test(pipes, small_ones_are_none_and_not_asked_for_all_the_time)
{
	struct bench b;
	struct pipe *p;
	int fds;

	bench_open(&b);
	fds = pairs_open_fds();
	b.pipes.least = SIZE_MAX;
	cr_expect_null(pipes_take(&b.pipes));
	cr_expect_eq(pairs_open_fds(), fds, "a descriptor is left");
	b.pipes.least = 1;
	cr_expect_null(pipes_take(&b.pipes), "it was asked a moment ago");
	b.pipes.poor_until_ms = loop_now(&b.loop);
	p = take(&b);
	cr_expect_eq(b.pipes.poor_until_ms, 0);
	pipes_give_back(&b.pipes, p);
	bench_close(&b);
}

Test(pipes, one_with_bytes_is_closed)
{
	struct bench b;
	struct pipe *p;

	bench_open(&b);
	p = take(&b);
	cr_assert_eq(write(p->in, "x", 1), 1);
	pipes_throw_away(&b.pipes, p);
	cr_expect_eq(b.pipes.open, 0);
	bench_close(&b);
}

Test(pipes, spare_ones_that_nobody_takes_are_closed)
{
	struct pipe *lent[3];
	struct bench b;

	bench_open(&b);
	for (size_t i = 0; i < 3; i++)
		lent[i] = take(&b);
	pipes_give_back(&b.pipes, lent[0]);
	pipes_give_back(&b.pipes, lent[1]);
	pass_expired(&b.loop);
	cr_expect_eq(b.pipes.open, 3, "three were lent out lately");
	pass_expired(&b.loop);
	cr_expect_eq(b.pipes.open, 1, "one still is");
	pipes_give_back(&b.pipes, lent[2]);
	pass_expired(&b.loop);
	pass_expired(&b.loop);
	cr_expect_eq(b.pipes.open, 0);
	cr_expect_not(
	    link_is_linked(&b.pipes.timer.link), "there is nothing to look at");
	bench_close(&b);
}
