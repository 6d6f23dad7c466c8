/* SPDX-License-Identifier: ISC */
/*
 * Making anew all that is derived in a shard, from its records and targets:
 * after the death of the lock's owner, and when a pool has changed. It can be
 * broken off at any point and begun again.
 */
#include <stddef.h>
#include <string.h>

#include "egress/ledger_queue.h"

/* What a chain is sorted by. A chain is singly linked and ends with 0. */
struct order {
	struct ledger *l;
	const struct pool *pool; /* by slot: its pool, and the order's key */
	uint64_t key;
	uint32_t *(*link)(struct ledger *l, uint32_t n);
	bool (*is_before)(const struct order *o, uint32_t a, uint32_t b);
};

static uint32_t *
skip_link(struct ledger *l, uint32_t n)
{
	return &ledger_record(l, n)->skip_next;
}

static uint32_t *
list_link(struct ledger *l, uint32_t n)
{
	return &ledger_record(l, n)->link.next;
}

static uint32_t *
wait_link(struct ledger *l, uint32_t n)
{
	return &ledger_extra(l, n)->chain;
}

static uint32_t *
chain_link(const struct order *o, uint32_t n)
{
	return o->link(o->l, n);
}

static bool
is_sooner(const struct order *o, uint32_t a, uint32_t b)
{
	return record_when(ledger_record(o->l, a)) <
	       record_when(ledger_record(o->l, b));
}

static bool
came_before(const struct order *o, uint32_t a, uint32_t b)
{
	/* Numbers that wrap around. */
	return (int32_t)(ledger_extra(o->l, a)->wait.gen -
			 ledger_extra(o->l, b)->wait.gen) < 0;
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

static uint32_t
rank_of(const struct order *o, const struct record *r)
{
	struct addr source = source_of_id(o->l, r->source_id);
	uint32_t slot;

	source.port = r->port;
	must(pool_find(o->pool, &source, &slot));
	return pool_rank_of_slot(o->pool, o->key, slot);
}

/* Of two records of one slot the held one is first. */
static bool
has_lower_rank(const struct order *o, uint32_t a, uint32_t b)
{
	const struct record *ra = ledger_record(o->l, a);
	const struct record *rb = ledger_record(o->l, b);

	if (ra->source_id != rb->source_id) {
		unsigned ia = source_index(o->pool, ra->source_id);
		unsigned ib = source_index(o->pool, rb->source_id);

		return ia != ib ? ia < ib : ra->source_id < rb->source_id;
	}
	if (ra->port != rb->port)
		return o->pool->rules.order == POOL_HASHED
			   ? rank_of(o, ra) < rank_of(o, rb)
			   : ra->port < rb->port;
	return record_is_held(ra) && !record_is_held(rb);
}

static uint32_t
merge(const struct order *o, uint32_t a, uint32_t b)
{
	uint32_t head = 0;
	uint32_t *tail = &head;

	while (a != 0 && b != 0) {
		uint32_t *from = o->is_before(o, b, a) ? &b : &a;

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

	while (
	    (next = *chain_link(o, last)) != 0 && !o->is_before(o, next, last))
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
clear_buckets(struct hold *h, uint64_t at, uint32_t count)
{
	uint32_t *buckets =
	    (uint32_t *)ledger_at(h->l, at) + (size_t)h->shard * count;

	memset(buckets, 0, count * sizeof(*buckets));
}

static void
clear_shard(struct hold *h)
{
	struct shard *s = h->s;

	slab_reset(h->l, &h->l->records, &s->records, h->shard);
	slab_reset(h->l, &h->l->targets, &s->targets, h->shard);
	slab_reset(h->l, &h->l->extras, &s->extras, h->shard);
	s->idle = s->idle_desks = s->waited = s->dying = 0;
	s->spares = (struct spares){ 0 };
	s->passed_until = 0;
	atomic_store(&s->waiting, 0);
	for (unsigned i = 0; i < RECORD_STATES; i++)
		s->count[i] = 0;
	clear_buckets(h, h->l->buckets_at, h->l->bucket_mask + 1);
	/* Before the first pool there are no extras. Shared memory that is only
	 * looked at takes pages as well, and this is megabytes that may never
	 * be used. */
	if (s->epoch != 0)
		clear_buckets(
		    h, h->l->extra_buckets_at, h->l->extra_bucket_mask + 1);
}

/* Only those who wait, or have a grant, are truth. */
static void
begin_extra(struct hold *h, uint32_t n)
{
	struct extra *e = ledger_extra(h->l, n);

	if (extra_state(e) == EXTRA_WAITING ||
	    extra_state(e) == EXTRA_GRANTED) {
		slab_count(&h->s->extras);
		return;
	}
	if (extra_state(e) != EXTRA_FREE)
		extra_enter(e, EXTRA_FREE);
	slab_refill(h->l, &h->l->extras, &h->s->extras, n);
}

static void
begin_target(struct hold *h, uint32_t n)
{
	struct target *t = ledger_target_at(h->l, n);
	uint64_t word = target_word(t) & (TARGET_KEY | TARGET_WAS_FULL);
	struct addr addr;

	if ((word & TARGET_USED) == 0) {
		atomic_store(&t->word, 0);
		slab_refill(h->l, &h->l->targets, &h->s->targets, n);
		return;
	}
	slab_count(&h->s->targets);
	addr = target_addr(t);
	if (source_was_known(h->l, &addr))
		word |= TARGET_MIRRORED;
	atomic_store(&t->word, word);
	t->link.next = t->link.prev = 0;
	t->chain = t->held = 0;
	t->lane = (struct lane){ 0 };
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

/* Hangs a record on its lane, lists as chains still. NULL: it is of no slot. */
static void
hang_record(struct hold *h, uint32_t n, struct lane *lane)
{
	struct record *r = ledger_record(h->l, n);
	enum lane_list list;

	if (lane != NULL) {
		r->skip_next = lane->skip;
		lane->skip = n;
	}
	if (record_is_held(r)) {
		record_enter(
		    h->s, r, lane != NULL ? RECORD_HELD : RECORD_STRAY);
		ledger_target_at(h->l, r->target)->held++;
		return;
	}
	must(lane != NULL);
	list = lane_list_of(record_state(r));
	r->link.next = lane->list[list];
	lane->list[list] = n;
}

static bool
is_forgotten(const struct hold *h, const struct record *r)
{
	return h->forget_ms != 0 && !record_is_held(r) &&
	       (record_state(r) == RECORD_HOT ||
		   record_when(r) <= h->forget_ms);
}

static void
begin_record(struct hold *h, uint32_t n)
{
	struct record *r = ledger_record(h->l, n);
	struct target *t = ledger_target_at(h->l, r->target);
	const struct pool *p;
	struct lane *lane = NULL;

	if (record_state(r) != RECORD_FREE) {
		h->s->count[record_state(r)]++;
		if (!target_is_used(t) || is_forgotten(h, r))
			drop_record(h, n);
	}
	if (record_state(r) == RECORD_FREE) {
		slab_refill(h->l, &h->l->records, &h->s->records, n);
		return;
	}
	p = shard_pool(h, target_pool(t));
	if (p != NULL && place_record(h, r, p, target_family(t)))
		lane = lane_get(h, r->target, p, r->source_id);
	if (lane == NULL && !record_is_held(r)) {
		drop_record(h, n);
		slab_refill(h->l, &h->l->records, &h->s->records, n);
		return;
	}
	slab_count(&h->s->records);
	hang_record(h, n, lane);
}

/* Two sources may have become one slot. The first keeps it. */
static void
drop_duplicates(struct hold *h, struct lane *lane, const struct pool *p)
{
	uint32_t n = lane->skip;

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
		if (record_is_held(twin)) {
			record_enter(h->s, twin, RECORD_STRAY);
			continue;
		}
		if (pool_counts(p) && record_cools_for_party(twin))
			party_has_cooled(h, twin, p);
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
sort_lane(struct hold *h, struct target *t, struct lane *lane)
{
	const struct pool *p = shard_pool(h, target_pool(t));
	struct order by_slot = { .l = h->l,
		.pool = p,
		.key = p == NULL ? 0 : lane_order_key(h->l, p, t),
		.link = skip_link,
		.is_before = has_lower_rank };
	struct order by_time = {
		.l = h->l, .link = list_link, .is_before = is_sooner
	};

	if (lane->skip != 0)
		lane->skip = sort_chain(&by_slot, lane->skip);
	drop_duplicates(h, lane, p);
	for (unsigned i = 0; i < LIST_COUNT; i++) {
		if (i != LIST_HOT)
			lane->list[i] = sort_chain(&by_time, lane->list[i]);
		lane->list[i] = make_ring(h, lane->list[i]);
	}
}

/* The time at which all of a desk's lanes have cooled. */
static void
note_cooling(struct hold *h, struct extra *desk, const struct lane *lane)
{
	for (unsigned i = LIST_BRIEF; i < LIST_COUNT; i++) {
		uint32_t first = lane->list[i];
		uint64_t end;

		if (first == 0)
			continue;
		end = record_when(
		    ledger_record(h->l, ledger_record(h->l, first)->link.prev));
		if (desk->key[0] < end)
			desk->key[0] = end;
	}
}

static void
sort_target(struct hold *h, struct target *t)
{
	struct extra *desk = ledger_extra(h->l, target_desk(t));
	uint32_t first = target_desk(t) == 0 ? 0 : desk->desk.lanes;
	uint32_t n = first;

	sort_lane(h, t, &t->lane);
	while (n != 0) {
		struct extra *e = ledger_extra(h->l, n);

		sort_lane(h, t, &e->lane);
		note_cooling(h, desk, &e->lane);
		n = e->link.next == first ? 0 : e->link.next;
	}
}

static void
finish_target(struct hold *h, uint32_t n)
{
	struct target *t = ledger_target_at(h->l, n);
	struct ledger_key k;
	uint32_t *bucket;

	if (!target_is_used(t))
		return;
	sort_target(h, t);
	if (t->held > t->high_water)
		t->high_water = t->held;
	ledger_key_of(h->l, t, &k);
	bucket = shard_bucket(h, k.bucket);
	t->chain = *bucket;
	*bucket = n;
	/* What cools is on a list, whatever the time is. */
	shard_settle(h, n, 0);
}

/* Those who wait, in the order of their arrival, and who of them has a grant
 * still. */
static void
collect_waiting(struct hold *h, uint32_t n, uint32_t *chain)
{
	struct extra *e = ledger_extra(h->l, n);

	if (extra_state(e) != EXTRA_WAITING && extra_state(e) != EXTRA_GRANTED)
		return;
	if (!target_is_used(ledger_target_at(h->l, e->target))) {
		extra_free(h, n);
		return;
	}
	if (extra_state(e) == EXTRA_GRANTED &&
	    (e->wait.record == 0 || queue_holds_grant(h, e)))
		return;
	extra_enter(e, EXTRA_WAITING);
	e->chain = *chain;
	*chain = n;
}

static void
rebuild_queues(struct hold *h)
{
	struct order by_arrival = {
		.l = h->l, .link = wait_link, .is_before = came_before
	};
	const struct slab *slab = &h->l->extras;
	uint32_t chain = 0;

	for (uint32_t chunk = slab->chunks; chunk-- > 0;) {
		for (uint32_t i = LEDGER_CHUNK;
		     i-- > 0 && slab_owner(h->l, slab, chunk) == (int)h->shard;)
			collect_waiting(h, chunk * LEDGER_CHUNK + i, &chain);
	}
	chain = sort_chain(&by_arrival, chain);
	while (chain != 0) {
		uint32_t next = ledger_extra(h->l, chain)->chain;

		if (!queue_append(h, chain))
			extra_free(h, chain);
		chain = next;
	}
}

/* Held records are listed where the target is mirrored, once its links are its
 * own; and these and those that cool are counted for their party. */
static void
count_record(struct hold *h, uint32_t n)
{
	struct record *r = ledger_record(h->l, n);
	struct target *t = ledger_target_at(h->l, r->target);
	const struct pool *p;
	struct party party;

	if (!record_is_held(r) && !record_cools_for_party(r))
		return;
	if (record_is_held(r) && target_mirrored(t))
		ring_append(h->l, &h->l->records, &t->link.next, n);
	p = shard_pool(h, target_pool(t));
	if (p != NULL && pool_counts(p)) {
		party_of_record(r, p, &party);
		party_add(h, r->target, &party);
		if (!record_is_held(r))
			party_cools(h, r->target);
	}
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
	each_cell(h, &h->l->extras, begin_extra);
	each_cell(h, &h->l->targets, begin_target);
	each_cell(h, &h->l->records, begin_record);
	each_cell(h, &h->l->records, count_record);
	rebuild_queues(h);
	each_cell(h, &h->l->targets, finish_target);
	h->s->epoch = epoch;
}

bool
shard_recall(struct hold *h, uint64_t now_ms)
{
	if (!passed_is_due(h, now_ms))
		return false;
	shard_rebuild(h, h->s->epoch);
	return true;
}

/* Is it worth to go through `used` records for so many? */
static bool
is_worth(uint32_t count, uint32_t used)
{
	return (uint64_t)count * 8 >= used && count > 0;
}

bool
shard_forget(struct hold *h, uint64_t now_ms)
{
	struct ledger *l = h->l;
	const uint32_t *count = h->s->count;
	uint32_t used = h->s->records.used;

	if (!is_worth(
		count[RECORD_HOT] + count[RECORD_BRIEF] + count[RECORD_LONG],
		used))
		return false;
	h->forget_ms =
	    is_worth(count[RECORD_HOT], used) ? now_ms : RECORD_WHEN_MASK;
	shard_rebuild(h, h->s->epoch);
	h->forget_ms = 0;
	slab_trim(l, &l->records, &h->s->records, h->shard);
	slab_trim(l, &l->targets, &h->s->targets, h->shard);
	slab_trim(l, &l->extras, &h->s->extras, h->shard);
	return true;
}
