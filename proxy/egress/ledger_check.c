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

#include "egress/ledger_queue.h"

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
	uint32_t targets, idle, placed, spare, records;
	uint32_t extras, waiting; /* used cells; of them in a queue */
	uint64_t held;            /* sum of the targets' counts */
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

/* How long the ring is, and how much of it cools for a client or user. */
struct ring_sum {
	uint32_t length, for_party;
};

static int
check_ring(struct check *c, const struct ring_rule *rule, struct ring_sum *sum)
{
	struct ledger *l = c->h.l;
	uint32_t n = rule->head;
	uint64_t before = 0;

	*sum = (struct ring_sum){ 0 };
	while (n != 0) {
		const struct record *r = ledger_record(l, n);

		sum->for_party += record_cools_for_party(r);
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
		if (++sum->length > c->h.s->records.used)
			return broken(c, "%s: no end", rule->name);
		n = r->link.next == rule->head ? 0 : r->link.next;
	}
	return 0;
}

/* The records on the chain `skip`: in order, none before `fresh`. */
static int
check_skip(struct check *c, uint32_t target, const struct lane *lane,
    uint32_t first_slot, uint32_t *length)
{
	const struct target *t = ledger_target_at(c->h.l, target);
	const struct pool *p = shard_pool(&c->h, target_pool(t));
	uint64_t least = (uint64_t)first_slot + lane->fresh;

	*length = 0;
	for (uint32_t n = lane->skip; n != 0;) {
		const struct record *r = ledger_record(c->h.l, n);
		struct addr source = source_of_id(c->h.l, r->source_id);
		uint32_t slot;

		source.port = r->port;
		if (r->target != target || record_state(r) == RECORD_FREE)
			return broken(c,
			    "skip: record %u is not the "
			    "target's",
			    n);
		if (p == NULL || !pool_find(p, &source, &slot))
			return broken(c, "skip: record %u is of no slot", n);
		slot = pool_rank_of_slot(p, lane_order_key(c->h.l, p, t), slot);
		if (slot < least)
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

/* How many records of the target have slots first .. end-1. */
static uint32_t
count_slots(
    const struct check *c, uint32_t target, uint64_t first, uint64_t end)
{
	uint32_t low = 0, high = c->seen_count, begin;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct seen *s = &c->seen[middle];

		if (s->target < target ||
		    (s->target == target && s->slot < first))
			low = middle + 1;
		else
			high = middle;
	}
	begin = low;
	while (low < c->seen_count && c->seen[low].target == target &&
	       c->seen[low].slot < end)
		low++;
	return low - begin;
}

/* A lane of the target, whose slots are first .. end-1; `cooling` grows by what
 * cools in it. */
static int
check_lane(struct check *c, uint32_t n, const struct lane *lane,
    const uint64_t slots[2], struct ring_sum *cooling)
{
	static const struct ring_rule rules[] = {
		{ "hot", 0, 0, { RECORD_HOT, RECORD_HOT }, false },
		{ "brief", 0, 0, { RECORD_BRIEF, RECORD_BRIEF }, true },
		{ "long", 0, 0, { RECORD_LONG, RECORD_LONG }, true },
	};
	struct ring_sum sum;
	uint32_t length = 0, beyond;
	int error = 0;

	for (unsigned i = 0; i < LIST_COUNT && error == 0; i++) {
		struct ring_rule rule = rules[i];

		rule.target = n;
		rule.head = lane->list[i];
		error = check_ring(c, &rule, &sum);
		c->count[rule.states[0]] -= sum.length;
		cooling->length += i == LIST_HOT ? 0 : sum.length;
		cooling->for_party += sum.for_party;
	}
	if (error == 0)
		error = check_skip(c, n, lane, (uint32_t)slots[0], &length);
	beyond = count_slots(c, n, slots[0] + lane->fresh, slots[1]);
	if (error == 0 && length != beyond)
		error = broken(c, "target %u: %u to skip, %u beyond fresh", n,
		    length, beyond);
	return error;
}

static int
check_lane_extra(
    struct check *c, uint32_t n, uint32_t lane, struct ring_sum *cooling)
{
	const struct extra *e = ledger_extra(c->h.l, lane);
	const struct pool *p =
	    shard_pool(&c->h, target_pool(ledger_target_at(c->h.l, n)));
	struct addr source = source_of_id(c->h.l, (uint32_t)e->key[0]);
	uint64_t slots[2];
	uint32_t slot;

	if (extra_state(e) != EXTRA_LANE || e->target != n ||
	    extra_find(&c->h, n, EXTRA_LANE, e->key) != lane)
		return broken(c, "target %u: extra %u is no lane", n, lane);
	source.port = p->ranges[0].first;
	if (!pool_find(p, &source, &slot))
		return broken(c, "lane %u is of no source", lane);
	slots[0] = slot;
	slots[1] = (uint64_t)slot + p->ports;
	return check_lane(c, n, &e->lane, slots, cooling);
}

/* What is counted for each client and user is what they use. */
static int
check_counts_of(struct check *c, uint32_t n, uint32_t *clients, uint32_t *users)
{
	const struct extra *desk = desk_at(&c->h, n);
	uint32_t at = desk->desk.counts, covered = 0;

	while (at != 0) {
		const struct extra *e = ledger_extra(c->h.l, at);
		bool user = extra_state(e) == EXTRA_USER;

		if ((!user && extra_state(e) != EXTRA_CLIENT) ||
		    e->target != n || e->count.used == 0)
			return broken(c, "target %u: bad count %u", n, at);
		*(user ? users : clients) += e->count.used;
		covered += e->count.used < e->count.reserve ? e->count.used
							    : e->count.reserve;
		at = e->link.next == desk->desk.counts ? 0 : e->link.next;
	}
	if (covered != desk->desk.covered)
		return broken(c, "target %u: %u covered, not %u", n, covered,
		    desk->desk.covered);
	return 0;
}

/* Every one in the queue is found, once. */
static int
check_turn(struct check *c, uint32_t n, uint32_t turn, uint32_t *found)
{
	uint32_t before = *found;
	struct ledger *l = c->h.l;
	const struct extra *t = ledger_extra(l, turn);
	uint32_t at = t->turn.waiting;
	const struct extra *desk = desk_at(&c->h, n);

	if ((extra_state(t) != EXTRA_CLIENT_TURN &&
		extra_state(t) != EXTRA_USER_TURN) ||
	    t->target != n || at == 0 ||
	    extra_find(&c->h, n, extra_state(t), t->key) != turn)
		return broken(c, "target %u: bad turn %u", n, turn);
	do {
		const struct extra *e = ledger_extra(l, at);

		if (extra_state(e) != EXTRA_WAITING || e->target != n ||
		    ledger_extra(l, e->link.next)->link.prev != at ||
		    ++*found > desk->desk.waiting)
			return broken(c, "target %u: bad queue at %u", n, at);
		at = e->link.next;
	} while (at != t->turn.waiting);
	if (*found - before != t->turn.count)
		return broken(c, "target %u: turn %u is miscounted", n, turn);
	return 0;
}

static int
check_queue(struct check *c, uint32_t n)
{
	struct ledger *l = c->h.l;
	const struct extra *desk = desk_at(&c->h, n);
	uint32_t turn = desk->desk.turns, found = 0, turns = 0;

	while (turn != 0) {
		int error = check_turn(c, n, turn, &found);

		if (error != 0)
			return error;
		turns++;
		turn = ledger_extra(l, turn)->link.next;
		turn = turn == desk->desk.turns ? 0 : turn;
	}
	if (turns != desk->desk.turn_count)
		return broken(c, "target %u: turns are miscounted", n);
	if (found != desk->desk.waiting)
		return broken(c, "target %u: %u wait, %u counted", n, found,
		    desk->desk.waiting);
	c->waiting += found;
	return 0;
}

static int
check_desk(struct check *c, uint32_t n, struct ring_sum *cooling)
{
	const struct target *t = ledger_target_at(c->h.l, n);
	const struct pool *p = shard_pool(&c->h, target_pool(t));
	uint32_t desk = target_desk(t), clients = 0, users = 0, used;
	const struct extra *d = ledger_extra(c->h.l, desk);
	uint32_t lane = d->desk.lanes;
	int error = 0;

	if (extra_state(d) != EXTRA_DESK || d->target != n)
		return broken(c, "target %u: its desk is none", n);
	while (lane != 0 && error == 0) {
		uint32_t next = ledger_extra(c->h.l, lane)->link.next;

		error = check_lane_extra(c, n, lane, cooling);
		lane = next == d->desk.lanes ? 0 : next;
	}
	if (error == 0)
		error = check_counts_of(c, n, &clients, &users);
	if (error == 0 && p != NULL && pool_counts(p) &&
	    d->key[1] != cooling->for_party)
		error = broken(c, "target %u: %u cool, not %u", n,
		    cooling->for_party, (unsigned)d->key[1]);
	used = t->held + (uint32_t)d->key[1];
	if (error == 0 && p != NULL && p->rules.client_share != 0 &&
	    clients != used)
		error = broken(
		    c, "target %u: clients use %u of %u", n, clients, used);
	if (error == 0 && users > used)
		error =
		    broken(c, "target %u: users use %u of %u", n, users, used);
	return error == 0 ? check_queue(c, n) : error;
}

static int
check_target(struct check *c, uint32_t n)
{
	static const uint64_t all_slots[2] = { 0, UINT32_MAX };
	static const uint64_t no_slots[2] = { 0, 0 };
	const struct target *t = ledger_target_at(c->h.l, n);
	const struct pool *p = shard_pool(&c->h, target_pool(t));
	struct ring_rule held = { "held", n, t->link.next,
		{ RECORD_HELD, RECORD_STRAY }, false };
	struct ledger_key k;
	struct ring_sum cooling = { 0 }, listed;
	bool sticky = p != NULL && p->rules.sticky != POOL_STICKY_NONE;
	bool idle = t->held == 0 && queue_length(&c->h, n) == 0;
	int error;

	ledger_key_of(c->h.l, t, &k);
	if (k.shard != c->h.shard || shard_find(&c->h, &k) != n)
		return broken(c, "target %u is not found", n);
	error =
	    check_lane(c, n, &t->lane, sticky ? no_slots : all_slots, &cooling);
	if (error == 0 && t->held > 0 && target_mirrored(t)) {
		error = check_ring(c, &held, &listed);
		if (error == 0 && listed.length != t->held)
			error = broken(c, "target %u: %u listed, %u held", n,
			    listed.length, t->held);
	}
	if (error == 0 && target_desk(t) != 0 && (!idle || t->link.next == 0))
		error = check_desk(c, n, &cooling);
	if (error == 0 && idle && cooling.length == 0 &&
	    (target_word(t) & TARGET_SPARE) == 0)
		error = broken(c, "target %u has no reason to be", n);
	if (error == 0 && (target_word(t) & TARGET_SPARE) != 0 &&
	    (!idle || (target_word(t) & TARGET_PLACED) == 0))
		error = broken(c, "target %u is spare and is not", n);
	if (error == 0 && t->high_water < t->held)
		error = broken(c, "target %u: high water %u under %u", n,
		    t->high_water, t->held);
	c->held += t->held;
	c->idle += idle;
	c->placed += (target_word(t) & TARGET_PLACED) != 0;
	c->spare += (target_word(t) & TARGET_SPARE) != 0;
	return error;
}

static int
check_extra(struct check *c, uint32_t n)
{
	const struct extra *e = ledger_extra(c->h.l, n);

	if ((extra_state(e) == EXTRA_FREE) !=
	    slab_is_free(c->h.l, &c->h.l->extras, n))
		return broken(c, "extra %u is free and is not", n);
	if (extra_state(e) == EXTRA_FREE)
		return 0;
	c->extras++;
	if ((extra_state(e) == EXTRA_WAITING ||
		extra_state(e) == EXTRA_GRANTED) &&
	    !target_is_used(ledger_target_at(c->h.l, e->target)) &&
	    queue_holds_grant(&c->h, e))
		return broken(c, "extra %u waits for no target", n);
	return 0;
}

static int
check_record(struct check *c, uint32_t n)
{
	const struct record *r = ledger_record(c->h.l, n);
	const struct target *t = ledger_target_at(c->h.l, r->target);
	const struct pool *p = shard_pool(&c->h, target_pool(t));
	struct addr source;
	struct seen *seen = &c->seen[c->seen_count];

	if ((record_state(r) == RECORD_FREE) !=
	    slab_is_free(c->h.l, &c->h.l->records, n))
		return broken(c, "record %u is free and is not", n);
	if (record_state(r) == RECORD_FREE)
		return 0;
	if (++c->records > c->h.s->records.used)
		return broken(c, "more records than are counted");
	if (!target_is_used(t)) /* about to be freed */
		return record_is_held(r)
			   ? broken(c, "held record %u has no target", n)
			   : 0;
	c->count[record_state(r)]++;
	if (record_state(r) == RECORD_STRAY)
		return 0;
	source = source_of_id(c->h.l, r->source_id);
	source.port = r->port;
	seen->target = r->target;
	if (!pool_find(p, &source, &seen->slot))
		return broken(c, "record %u is of no slot", n);
	seen->slot =
	    pool_rank_of_slot(p, lane_order_key(c->h.l, p, t), seen->slot);
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
	if (!target_is_used(ledger_target_at(c->h.l, n)))
		return 0;
	if (slab_is_free(c->h.l, &c->h.l->targets, n))
		return broken(c, "target %u is free and is not", n);
	c->targets++;
	return check_target(c, n);
}

static uint32_t
count_free(const struct check *c, const struct slab *slab, uint32_t number)
{
	const struct chunk *chunk = slab_chunk(c->h.l, slab, number);
	uint32_t count = 0;

	for (unsigned i = 0; i < CHUNK_WORDS; i++)
		count += (uint32_t)__builtin_popcountll(chunk->free[i]);
	return count;
}

/* How many cells are free in the chunks that are listed as having such. */
static uint32_t
count_listed(const struct check *c, const struct slab *slab, uint32_t open)
{
	uint32_t count = 0;

	for (uint32_t i = 0; open != 0 && i <= slab->chunks; i++) {
		count += count_free(c, slab, open - 1);
		open = slab_chunk(c->h.l, slab, open - 1)->next;
	}
	return count;
}

/* All cells that are not used are free, and found as such. */
static int
check_slab(struct check *c, const struct slab *slab,
    const struct slab_part *part, uint32_t used)
{
	uint32_t own = 0, free_cells = 0;
	uint32_t listed = count_listed(c, slab, part->open);

	for (uint32_t i = 0; i < slab->chunks; i++) {
		if (slab_owner(c->h.l, slab, i) != (int)c->h.shard)
			continue;
		own += LEDGER_CHUNK - (i == 0);
		free_cells += count_free(c, slab, i);
	}
	if (part->used != used || part->free_count != free_cells ||
	    listed != free_cells || used + free_cells != own)
		return broken(c,
		    "cells: %u used (%u counted), %u free (%u counted, %u "
		    "listed), of %u",
		    used, part->used, free_cells, part->free_count, listed,
		    own);
	return 0;
}

static int
check_counts(struct check *c)
{
	const struct shard *s = c->h.s;
	uint32_t idle = 0, placed = 0, dying = 0;
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
	for (uint32_t n = s->idle_desks; n != 0 && idle <= c->targets; idle++) {
		n = ledger_extra(c->h.l, n)->link.next;
		n = n == s->idle_desks ? 0 : n;
	}
	for (uint32_t i = 0; i < LEDGER_SPARES; i++) {
		const struct target *t =
		    ledger_target_at(c->h.l, s->spares.target[i]);

		if ((s->spares.used[i / 64] >> i % 64 & 1) == 0)
			continue;
		placed++;
		if ((target_word(t) & TARGET_PLACED) == 0 || t->link.prev != i)
			return broken(c, "spare place %u is not known", i);
	}
	if (placed != c->placed)
		return broken(c, "%u placed, not %u", placed, c->placed);
	idle += c->spare;
	if (idle != c->idle)
		return broken(c, "%u idle listed, not %u", idle, c->idle);
	if (atomic_load(&s->waiting) != c->waiting)
		return broken(
		    c, "%u wait, not %u", c->waiting, atomic_load(&s->waiting));
	for (uint32_t n = s->dying; n != 0; dying++)
		n = ledger_target_at(c->h.l, n)->chain;
	error = check_slab(c, &c->h.l->records, &s->records, c->records);
	if (error != 0)
		return error;
	error = check_slab(c, &c->h.l->extras, &s->extras, c->extras);
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
	if (error == 0)
		error = visit_cells(c, &c->h.l->extras, check_extra);
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
