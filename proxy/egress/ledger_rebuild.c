/* SPDX-License-Identifier: ISC */
/*
 * Making anew all that is derived in a shard, from its records and targets:
 * after the death of the lock's owner, and when a pool has changed. It can be
 * broken off at any point and begun again.
 */
#include <stddef.h>

#include "egress/ledger_shard.h"

/* What a chain is sorted by. A chain is singly linked and ends with 0. */
struct order {
	struct ledger *l;
	const struct pool *pool; /* by slot, on skip_next; NULL: by time */
};

static uint32_t *
chain_link(const struct order *o, uint32_t n)
{
	struct record *r = ledger_record(o->l, n);

	return o->pool != NULL ? &r->skip_next : &r->link.next;
}

/* Which of the pool's sources has the id. */
static unsigned
source_index(const struct pool *p, uint32_t id)
{
	for (unsigned i = 0; i < p->source_count; i++) {
		const struct pool_source *s = &p->sources[i];

		if (id >= s->first_id && id - s->first_id < source_ids(p, s))
			return i;
	}
	return p->source_count;
}

/* Of two records of one slot the held one is first. */
static bool
is_before(const struct order *o, uint32_t a, uint32_t b)
{
	const struct record *ra = ledger_record(o->l, a);
	const struct record *rb = ledger_record(o->l, b);

	if (o->pool == NULL)
		return record_when(ra) < record_when(rb);
	if (ra->source_id != rb->source_id) {
		unsigned ia = source_index(o->pool, ra->source_id);
		unsigned ib = source_index(o->pool, rb->source_id);

		return ia != ib ? ia < ib : ra->source_id < rb->source_id;
	}
	if (ra->port != rb->port)
		return ra->port < rb->port;
	return record_is_held(ra) && !record_is_held(rb);
}

static uint32_t
merge(const struct order *o, uint32_t a, uint32_t b)
{
	uint32_t head = 0;
	uint32_t *tail = &head;

	while (a != 0 && b != 0) {
		uint32_t *from = is_before(o, b, a) ? &b : &a;

		*tail = *from;
		tail = chain_link(o, *from);
		*from = *tail;
	}
	*tail = a != 0 ? a : b;
	return head;
}

/* Cuts the run that `*rest` begins with; records lie in memory nearly in order,
 * so that runs are long. */
static uint32_t
cut_run(const struct order *o, uint32_t *rest)
{
	uint32_t head = *rest;
	uint32_t last = head;
	uint32_t next;

	while ((next = *chain_link(o, last)) != 0 && !is_before(o, next, last))
		last = next;
	*chain_link(o, last) = 0;
	*rest = next;
	return head;
}

/* Merge sort: bin i has a chain of 2^i runs. */
static uint32_t
sort_chain(const struct order *o, uint32_t rest)
{
	uint32_t bins[32] = { 0 };
	uint32_t all = 0;

	while (rest != 0) {
		uint32_t run = cut_run(o, &rest);
		unsigned i;

		for (i = 0; bins[i] != 0; i++) {
			run = merge(o, bins[i], run);
			bins[i] = 0;
		}
		bins[i] = run;
	}
	for (unsigned i = 0; i < 32; i++)
		all = all == 0 ? bins[i] : merge(o, bins[i], all);
	return all;
}

/* The copies of the pools that are in force at `epoch`. */
static void
pick_pools(struct hold *h, uint64_t epoch)
{
	struct pool_place *place = ledger_at(h->l, h->l->pools_at);

	h->s->pick = h->s->present = 0;
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		uint64_t since[2];

		for (unsigned i = 0; i < 2; i++) {
			since[i] = atomic_load(&place[id].since[i]);
			if (since[i] > epoch)
				since[i] = 0;
		}
		if (since[0] != 0 || since[1] != 0)
			h->s->present |= UINT64_C(1) << id;
		if (since[1] > since[0])
			h->s->pick |= UINT64_C(1) << id;
	}
}

static void
clear_shard(struct hold *h)
{
	struct shard *s = h->s;

	slab_reset(h->l, &h->l->records, &s->records, h->shard);
	slab_reset(h->l, &h->l->targets, &s->targets, h->shard);
	s->idle = s->dying = 0;
	for (unsigned i = 0; i < RECORD_STATES; i++)
		s->count[i] = 0;
	for (uint32_t i = 0; i <= h->l->bucket_mask; i++) {
		uint32_t *bucket = shard_bucket(h, i);

		if (*bucket != 0) /* a page never used stays so */
			*bucket = 0;
	}
}

static void
begin_target(struct hold *h, uint32_t n)
{
	struct target *t = ledger_target_at(h->l, n);
	uint64_t word = target_word(t) & TARGET_KEY;
	struct addr addr;

	if (word == 0) {
		slab_refill(h->l, &h->l->targets, &h->s->targets, n);
		return;
	}
	slab_count(h->l, &h->l->targets, &h->s->targets, n);
	addr = target_addr(t);
	if (source_was_known(h->l, &addr))
		word |= TARGET_MIRRORED;
	atomic_store(&t->word, word);
	t->link.next = t->link.prev = 0;
	t->chain = t->fresh = t->skip = t->held = 0;
	for (unsigned i = 0; i < LIST_COUNT; i++)
		t->list[i] = 0;
}

/* The record's slot in the pool that its target has now. */
static bool
place_record(struct hold *h, struct record *r, const struct pool *p,
    enum addr_family family)
{
	struct addr source = source_of_id(h->l, r->source_id);
	struct pool_slot found;
	uint32_t slot;

	source.port = r->port;
	if (!slot_covering(p, &source, &slot)) {
		source = source_named(h->l, r);
		if (record_named(r) == 0 || !slot_covering(p, &source, &slot))
			return false;
	}
	pool_slot(p, family, slot, &found);
	r->source_id = found.source_id;
	return true;
}

static void
drop_record(struct hold *h, uint32_t n)
{
	struct record *r = ledger_record(h->l, n);

	r->gen++;
	record_enter(h->s, r, RECORD_FREE);
}

/* Hangs a record on its target, lists as chains still. */
static void
begin_record(struct hold *h, uint32_t n)
{
	struct record *r = ledger_record(h->l, n);
	struct target *t = ledger_target_at(h->l, r->target);
	const struct pool *p;
	bool held = record_is_held(r), placed;

	if (record_state(r) != RECORD_FREE && target_word(t) == 0)
		drop_record(h, n);
	if (record_state(r) == RECORD_FREE) {
		slab_refill(h->l, &h->l->records, &h->s->records, n);
		return;
	}
	h->s->count[record_state(r)]++;
	p = shard_pool(h, target_pool(t));
	placed = p != NULL && place_record(h, r, p, target_family(t));
	if (!placed && !held) {
		drop_record(h, n);
		slab_refill(h->l, &h->l->records, &h->s->records, n);
		return;
	}
	slab_count(h->l, &h->l->records, &h->s->records, n);
	if (placed) {
		r->skip_next = t->skip;
		t->skip = n;
	}
	if (held) {
		record_enter(h->s, r, placed ? RECORD_HELD : RECORD_STRAY);
		t->held++;
	} else {
		unsigned list = record_state(r) == RECORD_BRIEF  ? LIST_BRIEF
				: record_state(r) == RECORD_LONG ? LIST_LONG
								 : LIST_HOT;

		if (record_state(r) == RECORD_GRANTED)
			record_enter(h->s, r, RECORD_HOT);
		r->link.next = t->list[list];
		t->list[list] = n;
	}
}

/* Two sources may have become one slot. The first keeps it. */
static void
drop_duplicates(struct hold *h, struct target *t)
{
	uint32_t n = t->skip;

	while (n != 0) {
		struct record *r = ledger_record(h->l, n);
		uint32_t next = r->skip_next;
		struct record *twin = ledger_record(h->l, next);

		if (next == 0 || twin->source_id != r->source_id ||
		    twin->port != r->port) {
			n = next;
			continue;
		}
		r->skip_next = twin->skip_next;
		if (record_is_held(twin))
			record_enter(h->s, twin, RECORD_STRAY);
		else
			drop_record(h, next);
	}
}

/* Makes a ring of a chain, without what was dropped. */
static uint32_t
make_ring(struct hold *h, uint32_t chain)
{
	uint32_t head = 0;

	while (chain != 0) {
		struct record *r = ledger_record(h->l, chain);
		uint32_t next = r->link.next;

		if (record_state(r) == RECORD_FREE)
			slab_give(h->l, &h->l->records, &h->s->records, chain);
		else
			ring_append(h->l, &h->l->records, &head, chain);
		chain = next;
	}
	return head;
}

static void
sort_target(struct hold *h, struct target *t)
{
	struct order by_slot = { h->l, shard_pool(h, target_pool(t)) };
	struct order by_time = { h->l, NULL };

	if (t->skip != 0)
		t->skip = sort_chain(&by_slot, t->skip);
	drop_duplicates(h, t);
	for (unsigned i = 0; i < LIST_COUNT; i++) {
		if (i != LIST_HOT)
			t->list[i] = sort_chain(&by_time, t->list[i]);
		t->list[i] = make_ring(h, t->list[i]);
	}
}

static void
end_record_list(struct hold *h, uint32_t *head)
{
	while (*head != 0) {
		uint32_t n = *head;

		ring_remove(h->l, &h->l->records, head, n);
		drop_record(h, n);
		slab_give(h->l, &h->l->records, &h->s->records, n);
	}
}

static void
finish_target(struct hold *h, uint32_t n)
{
	struct target *t = ledger_target_at(h->l, n);
	struct ledger_key k;
	uint32_t *bucket;

	if (target_word(t) == 0)
		return;
	sort_target(h, t);
	if (t->held > t->high_water)
		t->high_water = t->held;
	if (t->held == 0 && t->list[LIST_BRIEF] == 0 &&
	    t->list[LIST_LONG] == 0) {
		atomic_store(&t->word, 0);
		end_record_list(h, &t->list[LIST_HOT]);
		slab_give(h->l, &h->l->targets, &h->s->targets, n);
		return;
	}
	ledger_key_of(h->l, t, &k);
	bucket = shard_bucket(h, k.bucket);
	t->chain = *bucket;
	*bucket = n;
	if (t->held == 0)
		ring_append(h->l, &h->l->targets, &h->s->idle, n);
}

/* Held records of a mirrored target are listed, once its links are its own. */
static void
list_held(struct hold *h, uint32_t n)
{
	struct record *r = ledger_record(h->l, n);
	struct target *t = ledger_target_at(h->l, r->target);

	if (record_is_held(r) && target_mirrored(t))
		ring_append(h->l, &h->l->records, &t->link.next, n);
}

/* Calls `visit` for each cell of the shard, last first: chains that grow at
 * their head come out in the order of memory. */
static void
each_cell(struct hold *h, const struct slab *slab,
    void (*visit)(struct hold *h, uint32_t n))
{
	for (uint32_t chunk = slab->chunks; chunk-- > 0;) {
		uint32_t first = chunk * LEDGER_CHUNK;

		/* `visit` may give the chunk back, and another shard take it:
		 * then none of its cells is ours to look at. */
		for (uint32_t i = LEDGER_CHUNK;
		     i-- > 0 &&
		     slab_owner(h->l, slab, chunk) == (int)h->shard;) {
			if (first + i != 0)
				visit(h, first + i);
		}
	}
}

void
shard_rebuild(struct hold *h, uint64_t epoch)
{
	pick_pools(h, epoch);
	clear_shard(h);
	each_cell(h, &h->l->targets, begin_target);
	each_cell(h, &h->l->records, begin_record);
	each_cell(h, &h->l->records, list_held);
	each_cell(h, &h->l->targets, finish_target);
	h->s->epoch = epoch;
}
