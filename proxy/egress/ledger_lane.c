/* SPDX-License-Identifier: ISC */
#include "egress/ledger_lane.h"

#include <errno.h>

#include "base/hash.h"

/* Source addresses of a sticky pool that one lease looks at, at most: a hold
 * must be short. */
#define LANES_AT_ONCE 1024

/* Records of a cooling list that one insertion steps over, at most. */
#define STEPS_AT_ONCE 256

/* How long it takes at least until slots that were passed over are looked for
 * again, in ms: that is work for a whole shard. */
#define PASSED_MS 1000

/* Where a slot is looked for. */
struct search {
	struct hold *h;
	const struct pool *pool;
	enum addr_family family;
	uint64_t now_ms;
	uint32_t target;
};

static struct record *
record_at(const struct hold *h, uint32_t n)
{
	return ledger_record(h->l, n);
}

/* The time at which the last of a ring of cooling records is free. */
static uint64_t
ring_end(const struct hold *h, uint32_t head)
{
	return head == 0
		   ? 0
		   : record_when(record_at(h, record_at(h, head)->link.prev));
}

enum lane_list
lane_list_of(enum record_state state)
{
	return state == RECORD_BRIEF  ? LIST_BRIEF
	       : state == RECORD_LONG ? LIST_LONG
				      : LIST_HOT;
}

uint64_t
lane_order_key(struct ledger *l, const struct pool *p, const struct target *t)
{
	uint64_t words[3] = { t->ip[0], t->ip[1], target_word(t) & TARGET_KEY };

	return p->rules.order == POOL_HASHED ? hash_words(l->order_key, words)
					     : 0;
}

bool
lane_all_cooled(const struct hold *h, const struct target *t, uint64_t now_ms)
{
	uint32_t desk = target_desk(t);

	if (desk != 0 && ledger_extra(h->l, desk)->key[0] > now_ms)
		return false;
	return ring_end(h, t->lane.list[LIST_BRIEF]) <= now_ms &&
	       ring_end(h, t->lane.list[LIST_LONG]) <= now_ms;
}

static inline bool
any_port_rests(struct ledger *l, uint64_t now_ms)
{
	return atomic_load_explicit(&l->rest_until, memory_order_acquire) >
	       now_ms;
}

/* Until when the port rests; 0: it does not. */
static uint64_t
port_rest(struct ledger *l, uint16_t port, uint64_t now_ms)
{
	_Atomic uint64_t *rest = ledger_at(l, l->rest_at);
	uint64_t until;

	if (!any_port_rests(l, now_ms))
		return 0;
	until = atomic_load_explicit(&rest[port], memory_order_acquire);
	return until > now_ms ? until : 0;
}

/* Does every port of the pool rest? */
static COLD bool
all_ports_rest(struct ledger *l, const struct pool *p, uint64_t now_ms)
{
	for (unsigned i = 0; i < p->range_count; i++) {
		for (uint32_t port = p->ranges[i].first;
		     port <= p->ranges[i].last; port++) {
			if (port_rest(l, (uint16_t)port, now_ms) == 0)
				return false;
		}
	}
	return true;
}

/* A slot without a record is passed over, as its port rests until then. */
static COLD void
note_passed(struct hold *h, uint64_t until_ms, uint64_t now_ms)
{
	if (until_ms < now_ms + PASSED_MS)
		until_ms = now_ms + PASSED_MS;
	if (h->s->passed_until == 0 || until_ms < h->s->passed_until)
		h->s->passed_until = until_ms;
}

/* Puts a record on a list of cooling ones in order of time: at its end or
 * begin, or a few steps before the end. False, and not done: it would be more
 * of them.
 */
static bool
insert_by_time(struct hold *h, uint32_t *head, uint32_t n)
{
	uint64_t when = record_when(record_at(h, n));
	uint32_t before = *head;

	if (before != 0 && record_when(record_at(h, before)) > when) {
		ring_append(h->l, &h->l->records, head, n);
		*head = n;
		return true;
	}
	for (unsigned i = 0; before != 0; i++) {
		uint32_t prev = record_at(h, before)->link.prev;

		if (record_when(record_at(h, prev)) <= when)
			break;
		if (i == STEPS_AT_ONCE)
			return false;
		before = prev;
	}
	/* At the end where that is the first one. */
	ring_append(h->l, &h->l->records, before == *head ? head : &before, n);
	return true;
}

/*
 * Times are nearly always in order on the list for them. After a cooldown was
 * shortened all that cooled before is later: the other list has an end that is
 * not, or else the record cools for as long as the last one.
 */
static void
put_cooling(struct hold *h, struct lane *lane, uint32_t n)
{
	struct record *r = record_at(h, n);
	bool is_long = record_state(r) == RECORD_LONG;
	uint32_t *own = &lane->list[is_long ? LIST_LONG : LIST_BRIEF];
	uint32_t *other = &lane->list[is_long ? LIST_BRIEF : LIST_LONG];

	if (insert_by_time(h, own, n))
		return;
	if (ring_end(h, *other) <= record_when(r)) {
		record_enter(h->s, r, is_long ? RECORD_BRIEF : RECORD_LONG);
		own = other;
	} else {
		record_set_when(r, ring_end(h, *own));
	}
	ring_append(h->l, &h->l->records, own, n);
}

void
lane_put(struct hold *h, uint32_t target, struct lane *lane, uint32_t n)
{
	struct target *t = ledger_target_at(h->l, target);
	struct record *r = record_at(h, n);

	if (record_state(r) == RECORD_HOT) {
		ring_append(h->l, &h->l->records, &lane->list[LIST_HOT], n);
		return;
	}
	put_cooling(h, lane, n);
	if (lane != &t->lane) {
		struct extra *desk = ledger_extra(h->l, target_desk(t));

		if (desk->key[0] < record_when(r))
			desk->key[0] = record_when(r);
	}
}

/* The slot's port rests: it may be had when that and its cooling are over, or a
 * little later, so that it can go to the end of the list. */
static COLD void
let_rest(const struct search *s, struct lane *lane, uint32_t n, uint64_t until)
{
	struct record *r = record_at(s->h, n);
	uint64_t end = ring_end(s->h, lane->list[LIST_LONG]);

	record_set_when(r, until > end ? until : end);
	r->worker = 0;
	record_enter(s->h->s, r, RECORD_LONG);
	lane_put(s->h, s->target, lane, n);
}

static bool
expire_lane(
    struct hold *h, struct lane *lane, const struct pool *p, uint64_t now_ms)
{
	bool any = false;

	for (unsigned kind = LIST_BRIEF; kind < LIST_COUNT; kind++) {
		uint32_t n;

		while ((n = lane->list[kind]) != 0) {
			struct record *r = record_at(h, n);

			if (record_when(r) > now_ms)
				break;
			ring_remove(h->l, &h->l->records, &lane->list[kind], n);
			if (record_cools_for_party(r))
				party_has_cooled(h, r, p);
			record_enter(h->s, r, RECORD_HOT);
			ring_append(
			    h->l, &h->l->records, &lane->list[LIST_HOT], n);
			any = true;
		}
	}
	return any;
}

bool
lane_expire(
    struct hold *h, uint32_t target, const struct pool *p, uint64_t now_ms)
{
	struct target *t = ledger_target_at(h->l, target);
	uint32_t desk = target_desk(t), n;
	bool any = expire_lane(h, &t->lane, p, now_ms);

	n = desk == 0 ? 0 : ledger_extra(h->l, desk)->desk.lanes;
	for (uint32_t first = n; n != 0;) {
		struct extra *e = ledger_extra(h->l, n);

		any |= expire_lane(h, &e->lane, p, now_ms);
		n = e->link.next == first ? 0 : e->link.next;
	}
	return any;
}

/* A slot used before: hot, or cooled. 0: none. */
static uint32_t
take_used(const struct search *s, struct lane *lane)
{
	struct hold *h = s->h;

	for (unsigned kind = 0; kind < LIST_COUNT; kind++) {
		uint32_t n;

		while ((n = lane->list[kind]) != 0) {
			struct record *r = record_at(h, n);
			uint64_t until;

			if (kind != LIST_HOT && record_when(r) > s->now_ms)
				break;
			until = port_rest(h->l, r->port, s->now_ms);
			ring_remove(h->l, &h->l->records, &lane->list[kind], n);
			if (pool_counts(s->pool) && record_cools_for_party(r))
				party_has_cooled(h, r, s->pool);
			if (until == 0)
				return n;
			let_rest(s, lane, n, until);
		}
	}
	return 0;
}

/*
 * Is the slot with this source the target itself? By route, the source is
 * 127.0.0.1 or ::1 towards loopback, else perhaps the target's own ip: whether
 * that is an address of this host the ledger cannot know, and gives the slot
 * only where there is no other.
 */
static bool
is_self(
    const struct pool *p, const struct addr *source, const struct addr *target)
{
	if (source->port != target->port)
		return false;
	if (!addr_is_unspecified_ip(source))
		return addr_equal(source, target);
	if (addr_is_unspecified_ip(target))
		return true;
	if (addr_is_loopback(target))
		return target->family == ADDR_V6 || target->ip[3] == 1;
	return p->ports > 1;
}

bool
shard_has_self(const struct pool *p, const struct addr *target)
{
	struct pool_slot found;
	uint32_t slot;

	if (!slot_covering(p, target, &slot))
		return false;
	pool_slot(p, target->family, slot, &found);
	return is_self(p, &found.source, target);
}

/* A slot not used before: those from `first` on, `count` of them. */
static int
take_fresh(const struct search *s, struct lane *lane, uint32_t first,
    uint32_t count, uint32_t *out)
{
	struct hold *h = s->h;
	const struct target *t = ledger_target_at(h->l, s->target);
	struct addr target = target_addr(t);
	uint64_t order_key = lane_order_key(h->l, s->pool, t);

	while (lane->fresh < count) {
		struct record *r = record_at(h, lane->skip);
		struct pool_slot slot;
		uint64_t until;
		uint32_t n;

		pool_slot(s->pool, s->family,
		    pool_slot_of_rank(s->pool, order_key, first + lane->fresh),
		    &slot);
		if (lane->skip != 0 && r->source_id == slot.source_id &&
		    r->port == slot.source.port) {
			lane->skip = r->skip_next;
			lane->fresh++;
			continue;
		}
		if (is_self(s->pool, &slot.source, &target)) {
			lane->fresh++;
			continue;
		}
		until = port_rest(h->l, slot.source.port, s->now_ms);
		if (until != 0) {
			note_passed(h, until, s->now_ms);
			lane->fresh++;
			continue;
		}
		n = shard_take_record(h);
		if (n == 0)
			return -ENFILE;
		r = record_at(h, n);
		r->target = s->target;
		r->source_id = slot.source_id;
		r->port = slot.source.port;
		r->when_named = 0;
		lane->fresh++;
		*out = n;
		return 0;
	}
	return -EADDRINUSE;
}

/* The number that chooses the source address of those who shall have the same
 * one. */
static uint64_t
sticky_number(
    const struct hold *h, const struct pool *p, const struct tenant *tenant)
{
	uint64_t words[3] = { tenant->client[0], tenant->client[1], 0 };

	if (p->rules.sticky == POOL_STICKY_USER && tenant->user != 0) {
		words[0] = words[1] = 0;
		words[2] = tenant->user;
	}
	return hash_words(h->l->order_key, words);
}

/* From the lane of the tenant's own source address, else from the next ones. */
static int
take_sticky(const struct search *s, const struct tenant *tenant, uint32_t *out)
{
	uint32_t count = pool_addresses(s->pool, s->family);
	uint32_t at = (uint32_t)(sticky_number(s->h, s->pool, tenant) % count);

	for (uint32_t i = 0; i < count && i < LANES_AT_ONCE; i++) {
		uint32_t first = at * s->pool->ports;
		struct pool_slot slot;
		struct lane *lane;
		int error;

		pool_slot(s->pool, s->family, first, &slot);
		lane = lane_get(s->h, s->target, s->pool, slot.source_id);
		if (lane == NULL)
			return -ENFILE;
		*out = take_used(s, lane);
		if (*out != 0)
			return 0;
		error = take_fresh(s, lane, first, s->pool->ports, out);
		if (error != -EADDRINUSE)
			return error;
		/* First what may be had there: see shard_recall(). */
		if (passed_is_due(s->h, s->now_ms))
			return error;
		at = at + 1 == count ? 0 : at + 1;
	}
	return -EADDRINUSE;
}

/* In a pool by_kernel there are no slots; the sources take turns. */
static int
take_kernel(const struct search *s, const struct tenant *tenant, uint32_t *out)
{
	uint32_t n = shard_take_record(s->h);
	const struct pool *p = s->pool;
	uint64_t count = 0;
	uint64_t turn;
	struct record *r = record_at(s->h, n);

	if (n == 0)
		return -ENFILE;
	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == s->family)
			count += p->sources[i].count;
	}
	turn = p->rules.sticky != POOL_STICKY_NONE
		   ? sticky_number(s->h, p, tenant)
		   : s->h->s->rotor++;
	turn %= count;
	for (const struct pool_source *e = p->sources;; e++) {
		if (e->first.family != s->family)
			continue;
		if (turn < e->count) {
			r->source_id = e->first_id + (uint32_t)turn;
			break;
		}
		turn -= e->count;
	}
	r->target = s->target;
	r->port = 0;
	r->when_named = 0;
	*out = n;
	return 0;
}

int
lane_take(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms, uint32_t *out)
{
	struct target *t = ledger_target_at(h->l, target);
	struct search s = { .h = h,
		.pool = p,
		.family = target_family(t),
		.now_ms = now_ms,
		.target = target };

	if (p->by_kernel)
		return take_kernel(&s, tenant, out);
	if (any_port_rests(h->l, now_ms) && all_ports_rest(h->l, p, now_ms))
		return -EADDRINUSE;
	if (p->rules.sticky != POOL_STICKY_NONE)
		return take_sticky(&s, tenant, out);
	*out = take_used(&s, &t->lane);
	if (*out != 0)
		return 0;
	return take_fresh(&s, &t->lane, 0, pool_slots(p, s.family), out);
}
