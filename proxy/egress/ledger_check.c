/* SPDX-License-Identifier: ISC */
/*
 * Every invariant of the ledger, for tests: what is derived is compared with
 * what is true.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "egress/ledger_shard.h"

/* A record with a slot, as found in memory. */
struct seen {
	uint32_t target, slot;
};

struct check {
	struct hold h;
	char *why;
	size_t size;
	struct seen *seen; /* room for all records */
	uint32_t seen_count;
	uint32_t count[RECORD_STATES];
	uint32_t targets, idle, records;
	uint64_t held; /* sum of the targets' counts */
};

static int PRINTF_LIKE(2, 3) broken(struct check *c, const char *format, ...)
{
	va_list args;
	int used = snprintf(c->why, c->size, "shard %u: ", c->h.shard);

	va_start(args, format);
	if (used > 0 && (size_t)used < c->size)
		vsnprintf(c->why + used, c->size - (size_t)used, format, args);
	va_end(args);
	return -EUCLEAN;
}

/* What a ring of a target must be. */
struct ring_rule {
	const char *name;
	uint32_t target, head;
	uint8_t states[2]; /* either */
	bool by_time;
};

static int
check_ring(struct check *c, const struct ring_rule *rule, uint32_t *length)
{
	struct ledger *l = c->h.l;
	uint32_t n = rule->head;
	uint64_t before = 0;

	*length = 0;
	while (n != 0) {
		const struct record *r = ledger_record(l, n);

		if (r->target != rule->target)
			return broken(c,
			    "%s: record %u is of target %u, not "
			    "%u",
			    rule->name, n, r->target, rule->target);
		if (record_state(r) != rule->states[0] &&
		    record_state(r) != rule->states[1])
			return broken(c, "%s: record %u has state %u",
			    rule->name, n, record_state(r));
		if (rule->by_time && record_when(r) < before)
			return broken(
			    c, "%s: record %u is out of order", rule->name, n);
		before = record_when(r);
		if (ledger_record(l, r->link.next)->link.prev != n)
			return broken(
			    c, "%s: record %u is badly linked", rule->name, n);
		if (++*length > c->h.s->records.used)
			return broken(c, "%s: no end", rule->name);
		n = r->link.next == rule->head ? 0 : r->link.next;
	}
	return 0;
}

/* The records on the chain `skip`: in order, none before `fresh`. */
static int
check_skip(
    struct check *c, uint32_t target, const struct pool *p, uint32_t *length)
{
	const struct target *t = ledger_target_at(c->h.l, target);
	uint64_t least = t->fresh;

	*length = 0;
	for (uint32_t n = t->skip; n != 0;) {
		const struct record *r = ledger_record(c->h.l, n);
		struct addr source = source_of_id(c->h.l, r->source_id);
		uint32_t slot;

		source.port = r->port;
		if (r->target != target || record_state(r) == RECORD_FREE)
			return broken(c,
			    "skip: record %u is not the "
			    "target's",
			    n);
		if (p == NULL || !pool_find(p, &source, &slot) || slot < least)
			return broken(c, "skip: record %u is out of order", n);
		least = (uint64_t)slot + 1;
		(*length)++;
		n = r->skip_next;
	}
	return 0;
}

static int
compare_seen(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->target != y->target)
		return x->target < y->target ? -1 : 1;
	return (x->slot > y->slot) - (x->slot < y->slot);
}

/* How many records of the target have slots not before `fresh`. */
static uint32_t
count_beyond(const struct check *c, uint32_t target, uint32_t fresh)
{
	uint32_t low = 0, high = c->seen_count, first;
	struct seen key = { target, fresh };

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (compare_seen(&c->seen[middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	first = low;
	while (low < c->seen_count && c->seen[low].target == target)
		low++;
	return low - first;
}

static int
check_target(struct check *c, uint32_t n)
{
	static const struct ring_rule rules[] = {
		{ "hot", 0, 0, { RECORD_HOT, RECORD_HOT }, false },
		{ "brief", 0, 0, { RECORD_BRIEF, RECORD_BRIEF }, true },
		{ "long", 0, 0, { RECORD_LONG, RECORD_LONG }, true },
	};
	const struct target *t = ledger_target_at(c->h.l, n);
	const struct pool *p = shard_pool(&c->h, target_pool(t));
	struct ring_rule held = { "held", n, t->link.next,
		{ RECORD_HELD, RECORD_STRAY }, false };
	struct ledger_key k;
	uint32_t length, resting = 0;
	int error = 0;

	ledger_key_of(c->h.l, t, &k);
	if (k.shard != c->h.shard || shard_find(&c->h, &k) != n)
		return broken(c, "target %u is not found", n);
	for (unsigned i = 0; i < LIST_COUNT && error == 0; i++) {
		struct ring_rule rule = rules[i];

		rule.target = n;
		rule.head = t->list[i];
		error = check_ring(c, &rule, &length);
		c->count[rule.states[0]] -= length;
		resting += i == LIST_HOT ? 0 : length;
	}
	if (error == 0 && t->held > 0 && target_mirrored(t)) {
		error = check_ring(c, &held, &length);
		if (error == 0 && length != t->held)
			error = broken(c, "target %u: %u listed, %u held", n,
			    length, t->held);
	}
	if (error != 0)
		return error;
	error = check_skip(c, n, p, &length);
	if (error == 0 && length != count_beyond(c, n, t->fresh))
		error = broken(c, "target %u: %u to skip, %u beyond fresh", n,
		    length, count_beyond(c, n, t->fresh));
	if (error == 0 && t->held == 0 && resting == 0)
		error = broken(c, "target %u has no reason to be", n);
	if (error == 0 && t->high_water < t->held)
		error = broken(c, "target %u: high water %u under %u", n,
		    t->high_water, t->held);
	c->held += t->held;
	c->idle += t->held == 0;
	return error;
}

static int
check_record(struct check *c, uint32_t n)
{
	const struct record *r = ledger_record(c->h.l, n);
	const struct target *t = ledger_target_at(c->h.l, r->target);
	struct addr source;
	struct seen *seen = &c->seen[c->seen_count];

	if (record_state(r) == RECORD_FREE)
		return 0;
	if (++c->records > c->h.s->records.used)
		return broken(c, "more records than are counted");
	if (target_word(t) == 0) /* about to be freed */
		return record_is_held(r)
			   ? broken(c, "held record %u has no target", n)
			   : 0;
	c->count[record_state(r)]++;
	if (record_state(r) == RECORD_STRAY)
		return 0;
	source = source_of_id(c->h.l, r->source_id);
	source.port = r->port;
	seen->target = r->target;
	if (!pool_find(shard_pool(&c->h, target_pool(t)), &source, &seen->slot))
		return broken(c, "record %u is of no slot", n);
	c->seen_count++;
	return 0;
}

/* Calls `visit` for each cell of the shard's chunks. */
static int
visit_cells(struct check *c, const struct slab *slab,
    int (*visit)(struct check *c, uint32_t n))
{
	int error = 0;

	for (uint32_t chunk = 0; chunk < slab->chunks; chunk++) {
		if (slab_owner(c->h.l, slab, chunk) != (int)c->h.shard)
			continue;
		for (uint32_t i = chunk == 0; i < LEDGER_CHUNK && error == 0;
		     i++)
			error = visit(c, chunk * LEDGER_CHUNK + i);
	}
	return error;
}

static int
check_used_target(struct check *c, uint32_t n)
{
	if (target_word(ledger_target_at(c->h.l, n)) == 0)
		return 0;
	c->targets++;
	return check_target(c, n);
}

/* Free cells, listed and never used, are all that are not used. */
static int
check_slab(struct check *c, const struct slab *slab,
    const struct slab_part *part, uint32_t used)
{
	uint32_t own = 0, listed = 0;

	for (uint32_t i = 0; i < slab->chunks; i++) {
		if (slab_owner(c->h.l, slab, i) == (int)c->h.shard)
			own += i == 0 ? LEDGER_CHUNK - 1 : LEDGER_CHUNK;
	}
	for (uint32_t n = part->free; n != 0 && listed <= own; listed++)
		n = ledger_cell(c->h.l, slab, n)->next;
	if (part->used != used || part->free_count != listed ||
	    used + listed + (part->bump_end - part->bump) != own)
		return broken(c,
		    "cells: %u used (%u counted), %u free (%u "
		    "counted), %u new, of %u",
		    used, part->used, listed, part->free_count,
		    part->bump_end - part->bump, own);
	return 0;
}

static int
check_counts(struct check *c)
{
	const struct shard *s = c->h.s;
	uint32_t idle = 0, dying = 0;
	int error;

	if (c->count[RECORD_HOT] != 0 || c->count[RECORD_BRIEF] != 0 ||
	    c->count[RECORD_LONG] != 0)
		return broken(c, "records are on no list");
	if (c->held != c->count[RECORD_HELD] + c->count[RECORD_STRAY])
		return broken(c, "%u held and %u stray, but targets say %u",
		    c->count[RECORD_HELD], c->count[RECORD_STRAY],
		    (unsigned)c->held);
	if (s->count[RECORD_HELD] != c->count[RECORD_HELD] ||
	    s->count[RECORD_STRAY] != c->count[RECORD_STRAY])
		return broken(c, "held records are miscounted");
	for (uint32_t n = s->idle; n != 0 && idle <= c->targets; idle++) {
		n = ledger_target_at(c->h.l, n)->link.next;
		n = n == s->idle ? 0 : n;
	}
	if (idle != c->idle)
		return broken(c, "%u idle listed, not %u", idle, c->idle);
	for (uint32_t n = s->dying; n != 0; dying++)
		n = ledger_target_at(c->h.l, n)->chain;
	error = check_slab(c, &c->h.l->records, &s->records, c->records);
	if (error != 0)
		return error;
	return check_slab(c, &c->h.l->targets, &s->targets, c->targets + dying);
}

static int
check_shard(struct check *c)
{
	int error = visit_cells(c, &c->h.l->records, check_record);

	if (error != 0)
		return error;
	qsort(c->seen, c->seen_count, sizeof(c->seen[0]), compare_seen);
	for (uint32_t i = 1; i < c->seen_count; i++) {
		if (compare_seen(&c->seen[i - 1], &c->seen[i]) == 0)
			return broken(c, "target %u: slot %u twice",
			    c->seen[i].target, c->seen[i].slot);
	}
	error = visit_cells(c, &c->h.l->targets, check_used_target);
	return error != 0 ? error : check_counts(c);
}

int
ledger_check(struct ledger *l, char *why, size_t size)
{
	int error = 0;

	for (uint32_t i = 0; i < LEDGER_SHARDS && error == 0; i++) {
		struct check c = { .why = why, .size = size };

		c.h = shard_lock(l, i);
		c.seen = calloc(c.h.s->records.used + 1, sizeof(c.seen[0]));
		error = c.seen == NULL ? -ENOMEM : check_shard(&c);
		free(c.seen);
		shard_unlock(&c.h);
	}
	return error;
}
