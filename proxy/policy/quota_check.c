/* SPDX-License-Identifier: ISC */
/*
 * Every invariant of quotas, for tests: what is derived is compared with what
 * is true.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "policy/quota_layout.h"

struct check {
	struct quota_hold h;
	uint32_t shard;
	char *why;
	size_t size;
	uint32_t count[CELL_MORE + 1]; /* cells in each state */
	uint32_t listed;               /* cells on all buckets' chains */
	uint32_t more;                 /* on all subjects' chains */
};

static int PRINTF_LIKE(2, 3) broken(struct check *c, const char *format, ...)
{
	va_list args;
	int used = snprintf(c->why, c->size, "shard %u: ", c->shard);

	va_start(args, format);
	if (used > 0 && (size_t)used < c->size)
		vsnprintf(c->why + used, c->size - (size_t)used, format, args);
	va_end(args);
	return -EUCLEAN;
}

static int
count_states(struct check *c)
{
	for (uint32_t n = 1; n <= c->h.s->high; n++) {
		uint32_t state = cell_state(quota_cell(&c->h, n));

		if (state > CELL_MORE)
			return broken(c, "cell %u has state %u", n, state);
		c->count[state]++;
	}
	return 0;
}

static int
check_free(struct check *c)
{
	uint32_t length = 0;

	for (uint32_t n = c->h.s->free; n != 0;
	     n = quota_cell(&c->h, n)->chain) {
		if (cell_state(quota_cell(&c->h, n)) != CELL_FREE)
			return broken(c, "cell %u is on the free chain", n);
		if (++length > c->count[CELL_FREE])
			break;
	}
	if (length != c->count[CELL_FREE])
		return broken(c, "%u cells are free, %u on the chain",
		    c->count[CELL_FREE], length);
	return 0;
}

static int
check_idle(struct check *c)
{
	uint32_t n = c->h.s->idle, length = 0;

	while (n != 0) {
		const struct cell *cell = quota_cell(&c->h, n);
		uint32_t next = cell->main.next;

		if (cell_state(cell) != CELL_IDLE || cell->main.debt == 0)
			return broken(c, "cell %u is on the idle list", n);
		if (quota_cell(&c->h, next)->main.prev != n)
			return broken(c, "cell %u: idle list torn", n);
		if (++length > c->count[CELL_IDLE])
			break;
		n = next == c->h.s->idle ? 0 : next;
	}
	if (length != c->count[CELL_IDLE])
		return broken(c, "%u cells are idle, %u on the list",
		    c->count[CELL_IDLE], length);
	return 0;
}

/* Adds up a cell's counts; a worker may be in `seen` once. */
static int
add_counts(struct check *c, uint32_t n, bool seen[256], uint64_t *sum)
{
	struct quota_counts counts = quota_counts(quota_cell(&c->h, n));

	for (unsigned i = 0; i < counts.n; i++) {
		uint32_t count = counts.count[i];
		uint32_t worker = count >> 24;

		if (count == 0)
			continue;
		if (worker == 0 || (count & QUOTA_COUNT_MAX) == 0)
			return broken(c, "cell %u: count %x", n, count);
		if (seen[worker])
			return broken(c, "cell %u: worker %u twice", n, worker);
		seen[worker] = true;
		*sum += count & QUOTA_COUNT_MAX;
	}
	return 0;
}

static int
check_busy(struct check *c, uint32_t main)
{
	const struct cell *first = quota_cell(&c->h, main);
	bool seen[256] = { false };
	uint64_t sum = 0;
	int error = add_counts(c, main, seen, &sum);

	for (uint32_t n = first->more; n != 0 && error == 0;
	     n = quota_cell(&c->h, n)->more) {
		const struct cell *more = quota_cell(&c->h, n);

		if (cell_state(more) != CELL_MORE ||
		    memcmp(&more->subject, &first->subject,
			sizeof(first->subject)) != 0)
			return broken(c, "cell %u is not of %u", n, main);
		if (++c->more > c->count[CELL_MORE])
			return broken(c, "cell %u: a loop", n);
		error = add_counts(c, n, seen, &sum);
	}
	if (error == 0 && (sum == 0 || sum != first->main.sum))
		error = broken(c, "cell %u: sum %u, counted %llu", main,
		    first->main.sum, (unsigned long long)sum);
	return error;
}

static int
check_listed(struct check *c, uint32_t n, uint32_t bucket)
{
	const struct cell *cell = quota_cell(&c->h, n);
	uint32_t own, state = cell_state(cell);

	if (state != CELL_BUSY && state != CELL_IDLE)
		return broken(c, "cell %u: state %u in a bucket", n, state);
	if (quota_place(c->h.q, &cell->subject, &own) != c->shard ||
	    own != bucket)
		return broken(c, "cell %u is in a wrong bucket", n);
	if (++c->listed > c->count[CELL_BUSY] + c->count[CELL_IDLE])
		return broken(c, "bucket %u: a loop", bucket);
	for (uint32_t m = cell->chain; m != 0; m = quota_cell(&c->h, m)->chain)
		if (m == n || memcmp(&quota_cell(&c->h, m)->subject,
				  &cell->subject, sizeof(cell->subject)) == 0)
			return broken(c, "cells %u and %u are one", n, m);
	if (state == CELL_BUSY)
		return check_busy(c, n);
	if (cell->main.sum != 0)
		return broken(c, "cell %u: idle with a sum", n);
	return 0;
}

static int
check_buckets(struct check *c)
{
	int error = 0;

	for (uint32_t i = 0; i <= c->h.q->bucket_mask; i++)
		for (uint32_t n = c->h.buckets[i]; n != 0 && error == 0;
		     n = quota_cell(&c->h, n)->chain)
			error = check_listed(c, n, i);
	if (error != 0)
		return error;
	if (c->listed != c->count[CELL_BUSY] + c->count[CELL_IDLE])
		return broken(c, "%u subjects are in no bucket",
		    c->count[CELL_BUSY] + c->count[CELL_IDLE] - c->listed);
	if (c->more != c->count[CELL_MORE])
		return broken(c, "%u further cells are of no subject",
		    c->count[CELL_MORE] - c->more);
	return 0;
}

int
quota_check(struct quota *q, char *why, size_t size)
{
	int error = 0;

	for (uint32_t i = 0; i < QUOTA_SHARDS && error == 0; i++) {
		struct check c = { .shard = i, .why = why, .size = size };

		c.h = quota_lock(q, i);
		error = count_states(&c);
		if (error == 0)
			error = check_free(&c);
		if (error == 0)
			error = check_idle(&c);
		if (error == 0)
			error = check_buckets(&c);
		quota_unlock(&c.h);
	}
	return error;
}
