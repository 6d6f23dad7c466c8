/* SPDX-License-Identifier: ISC */
#include "egress/ledger_shard.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"

/* Records of an ended target that one operation frees at most: a target may
 * have tens of thousands, and a hold must be short. */
#define FREE_AT_ONCE 16

/* Idle targets that one operation looks at, to end those that have cooled. */
#define SWEEP_AT_ONCE 2

static void
key_place(struct ledger *l, struct ledger_key *k)
{
	/* Clients choose the targets. */
	uint64_t words[3] = { k->ip[0], k->ip[1], k->word };
	uint64_t hash = hash_words(l->key, words);

	k->shard = hash % LEDGER_SHARDS;
	k->bucket = (uint32_t)(hash / LEDGER_SHARDS) & l->bucket_mask;
}

void
ledger_key_make(struct ledger *l, unsigned pool, const struct addr *target,
    struct ledger_key *out)
{
	memcpy(out->ip, target->ip, sizeof(out->ip));
	out->word = target->scope |
		    (uint64_t)target->port << TARGET_PORT_SHIFT |
		    (uint64_t)pool << TARGET_POOL_SHIFT | TARGET_USED |
		    (target->family == ADDR_V6 ? TARGET_V6 : 0);
	key_place(l, out);
}

void
ledger_key_of(struct ledger *l, const struct target *t, struct ledger_key *out)
{
	memcpy(out->ip, t->ip, sizeof(out->ip));
	out->word = target_word(t) & TARGET_KEY;
	key_place(l, out);
}

struct addr
target_addr(const struct target *t)
{
	struct addr a = { .family = (uint8_t)target_family(t),
		.scope = (uint32_t)target_word(t),
		.port = (uint16_t)(target_word(t) >> TARGET_PORT_SHIFT) };

	memcpy(a.ip, t->ip, sizeof(a.ip));
	return a;
}

struct hold
shard_lock(struct ledger *l, uint32_t shard)
{
	struct hold h = { l, &l->shards[shard], shard };
	int error = pthread_mutex_lock(&h.s->mutex);
	uint64_t epoch = atomic_load_explicit(&l->epoch, memory_order_acquire);

	must(error == 0 || error == EOWNERDEAD);
	if (error == EOWNERDEAD) {
		/* First the mending: should we die in it, the next does it. */
		shard_rebuild(&h, epoch);
		h.s->rebuilds++;
		must(pthread_mutex_consistent(&h.s->mutex) == 0);
	} else if (h.s->epoch != epoch) {
		shard_rebuild(&h, epoch);
	}
	return h;
}

void
shard_unlock(struct hold *h)
{
	must(pthread_mutex_unlock(&h->s->mutex) == 0);
}

bool
shard_lock_record(struct ledger *l, uint32_t n, struct hold *out)
{
	uint32_t chunk = n / LEDGER_CHUNK;
	int owner;

	if (n == 0 || chunk >= l->records.chunks)
		return false;
	owner = slab_owner(l, &l->records, chunk);
	if (owner < 0)
		return false;
	__builtin_prefetch(ledger_record(l, n), 1);
	*out = shard_lock(l, (uint32_t)owner);
	/* A chunk that moved meanwhile has no lease of the caller's. */
	if (slab_owner(l, &l->records, chunk) == owner)
		return true;
	shard_unlock(out);
	return false;
}

const struct pool *
shard_pool(const struct hold *h, unsigned id)
{
	struct pool_place *place = ledger_at(h->l, h->l->pools_at);

	if (id >= LEDGER_POOLS_MAX || (h->s->present >> id & 1) == 0)
		return NULL;
	return &place[id].copy[h->s->pick >> id & 1];
}

static uint32_t *
bucket_at(struct ledger *l, uint32_t shard, uint32_t bucket)
{
	uint32_t *buckets = ledger_at(l, l->buckets_at);

	return buckets + (size_t)shard * (l->bucket_mask + 1) + bucket;
}

uint32_t *
shard_bucket(const struct hold *h, uint32_t bucket)
{
	return bucket_at(h->l, h->shard, bucket);
}

void
shard_prefetch(struct ledger *l, const struct ledger_key *k)
{
	__builtin_prefetch(bucket_at(l, k->shard, k->bucket));
}

uint32_t
shard_find(const struct hold *h, const struct ledger_key *k)
{
	uint32_t n = *shard_bucket(h, k->bucket);

	while (n != 0) {
		const struct target *t = ledger_target_at(h->l, n);

		if (t->ip[0] == k->ip[0] && t->ip[1] == k->ip[1] &&
		    (target_word(t) & TARGET_KEY) == k->word)
			return n;
		n = t->chain;
	}
	return 0;
}

static struct record *
record_at(const struct hold *h, uint32_t n)
{
	return ledger_record(h->l, n);
}

static struct target *
target_at(const struct hold *h, uint32_t n)
{
	return ledger_target_at(h->l, n);
}

static void
free_record(struct hold *h, uint32_t n)
{
	struct record *r = record_at(h, n);

	r->gen++;
	record_enter(h->s, r, RECORD_FREE);
	slab_give(h->l, &h->l->records, &h->s->records, n);
}

/* Frees records of a target that has ended; true when none is left and the
 * target's cell is free too. */
static bool
free_some(struct hold *h, uint32_t n, unsigned at_most)
{
	struct target *t = target_at(h, n);

	for (unsigned kind = 0; kind < LIST_COUNT; kind++) {
		while (t->list[kind] != 0) {
			uint32_t r = t->list[kind];

			if (at_most-- == 0)
				return false;
			ring_remove(h->l, &h->l->records, &t->list[kind], r);
			free_record(h, r);
		}
	}
	slab_give(h->l, &h->l->targets, &h->s->targets, n);
	return true;
}

static void
free_dying(struct hold *h, unsigned at_most)
{
	uint32_t n = h->s->dying;
	uint32_t next;

	if (n == 0)
		return;
	next = target_at(h, n)->chain;
	if (free_some(h, n, at_most))
		h->s->dying = next;
}

/* Ends a target with nothing held, that is not on the idle list. */
static void
end_target(struct hold *h, uint32_t n)
{
	struct target *t = target_at(h, n);
	struct ledger_key k;
	uint32_t *link;

	ledger_key_of(h->l, t, &k);
	/* The truth first: its records are nobody's from here on. */
	atomic_store_explicit(&t->word, 0, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	for (link = shard_bucket(h, k.bucket); *link != n;
	     link = &target_at(h, *link)->chain)
		must(*link != 0);
	*link = t->chain;
	if (!free_some(h, n, FREE_AT_ONCE)) {
		t->chain = h->s->dying;
		h->s->dying = n;
	}
}

/* The time at which the last of a ring of cooling records is free. */
static uint64_t
ring_end(const struct hold *h, uint32_t head)
{
	return head == 0
		   ? 0
		   : record_when(record_at(h, record_at(h, head)->link.prev));
}

static bool
has_cooled(const struct hold *h, const struct target *t, uint64_t now_ms)
{
	return ring_end(h, t->list[LIST_BRIEF]) <= now_ms &&
	       ring_end(h, t->list[LIST_LONG]) <= now_ms;
}

/* What becomes of a target with nothing held. */
static void
settle(struct hold *h, uint32_t n, uint64_t now_ms)
{
	if (has_cooled(h, target_at(h, n), now_ms))
		end_target(h, n);
	else
		ring_append(h->l, &h->l->targets, &h->s->idle, n);
}

static void
leave_idle(struct hold *h, uint32_t n)
{
	ring_remove(h->l, &h->l->targets, &h->s->idle, n);
	target_at(h, n)->link.next = 0; /* no held record is listed */
}

static void
end_oldest_idle(struct hold *h)
{
	uint32_t n = h->s->idle;

	leave_idle(h, n);
	end_target(h, n);
}

/* A little of the housekeeping at each operation, so that memory does not grow
 * with the targets ever seen. */
static void
sweep(struct hold *h, uint64_t now_ms)
{
	free_dying(h, FREE_AT_ONCE);
	for (unsigned i = 0; i < SWEEP_AT_ONCE && h->s->idle != 0; i++) {
		if (!has_cooled(h, target_at(h, h->s->idle), now_ms))
			return;
		end_oldest_idle(h);
	}
}

/*
 * A cell of the slab. When there is none, what the shard only remembers goes:
 * targets without held leases, least recently used first.
 */
static uint32_t
take_cell(struct hold *h, struct slab *slab, struct slab_part *part)
{
	uint32_t n;

	while ((n = slab_take(h->l, slab, part, h->shard)) == 0) {
		if (h->s->dying != 0)
			free_dying(h, UINT32_MAX);
		else if (h->s->idle != 0)
			end_oldest_idle(h);
		else
			return 0;
	}
	return n;
}

static uint32_t
add_target(
    struct hold *h, const struct ledger_key *k, const struct addr *target)
{
	uint32_t n = take_cell(h, &h->l->targets, &h->s->targets);
	uint32_t *bucket = shard_bucket(h, k->bucket);
	struct target *t = target_at(h, n);
	uint64_t word = k->word;

	if (n == 0)
		return 0;
	if (source_was_known(h->l, target))
		word |= TARGET_MIRRORED;
	memset(t, 0, sizeof(*t));
	t->ip[0] = k->ip[0];
	t->ip[1] = k->ip[1];
	t->chain = *bucket;
	atomic_store_explicit(&t->word, word, memory_order_release);
	*bucket = n;
	return n;
}

/* Until when the port rests; 0: it does not. */
static uint64_t
port_rest(struct ledger *l, uint16_t port, uint64_t now_ms)
{
	_Atomic uint64_t *rest = ledger_at(l, l->rest_at);
	uint64_t until;

	if (atomic_load_explicit(&l->rest_until, memory_order_acquire) <=
	    now_ms)
		return 0;
	until = atomic_load_explicit(&rest[port], memory_order_acquire);
	return until > now_ms ? until : 0;
}

/*
 * Puts a record on a cooling list, in order of time. Nearly always at the end;
 * only where ports have rested are a few to be stepped over.
 */
static void
insert_by_time(struct hold *h, uint32_t *head, uint32_t n)
{
	struct record *r = record_at(h, n);
	uint64_t when = record_when(r);
	uint32_t after;

	if (*head == 0 || ring_end(h, *head) <= when) {
		ring_append(h->l, &h->l->records, head, n);
		return;
	}
	if (record_when(record_at(h, *head)) > when) {
		ring_append(h->l, &h->l->records, head, n);
		*head = n;
		return;
	}
	after = record_at(h, *head)->link.prev;
	while (record_when(record_at(h, after)) > when)
		after = record_at(h, after)->link.prev;
	r->link.prev = after;
	r->link.next = record_at(h, after)->link.next;
	record_at(h, r->link.next)->link.prev = n;
	record_at(h, after)->link.next = n;
}

/* The slot's port rests: it may be had when that and its cooling are over, or a
 * little later, so that it can go to the end of the list. */
static void
let_rest(struct hold *h, struct target *t, uint32_t n, uint64_t until)
{
	struct record *r = record_at(h, n);
	uint64_t end = ring_end(h, t->list[LIST_LONG]);

	record_set_when(r, until > end ? until : end);
	record_enter(h->s, r, RECORD_LONG);
	ring_append(h->l, &h->l->records, &t->list[LIST_LONG], n);
}

/* A slot used before: hot, or cooled. 0: none. */
static uint32_t
take_used(struct hold *h, struct target *t, uint64_t now_ms)
{
	for (unsigned kind = 0; kind < LIST_COUNT; kind++) {
		uint32_t n;

		while ((n = t->list[kind]) != 0) {
			struct record *r = record_at(h, n);
			uint64_t until;

			if (kind != LIST_HOT && record_when(r) > now_ms)
				break;
			until = port_rest(h->l, r->port, now_ms);
			ring_remove(h->l, &h->l->records, &t->list[kind], n);
			if (until == 0)
				return n;
			let_rest(h, t, n, until);
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

/* A slot not used before. */
static int
take_fresh(struct hold *h, uint32_t target, const struct pool *p,
    const struct addr *addr, uint64_t now_ms, uint32_t *out)
{
	struct target *t = target_at(h, target);
	uint32_t slots = pool_slots(p, addr->family);

	while (t->fresh < slots) {
		struct record *r = record_at(h, t->skip);
		struct pool_slot slot;
		uint64_t until;
		uint32_t n;

		pool_slot(p, addr->family, t->fresh, &slot);
		if (t->skip != 0 && r->source_id == slot.source_id &&
		    r->port == slot.source.port) {
			t->skip = r->skip_next;
			t->fresh++;
			continue;
		}
		if (is_self(p, &slot.source, addr)) {
			t->fresh++;
			continue;
		}
		n = take_cell(h, &h->l->records, &h->s->records);
		if (n == 0)
			return -ENFILE;
		r = record_at(h, n);
		r->target = target;
		r->source_id = slot.source_id;
		r->port = slot.source.port;
		r->when_named = 0;
		t->fresh++;
		until = port_rest(h->l, r->port, now_ms);
		if (until == 0) {
			*out = n;
			return 0;
		}
		let_rest(h, t, n, until);
	}
	return -EADDRINUSE;
}

/* In a pool by_kernel there are no slots; the sources take turns. */
static int
take_kernel(struct hold *h, uint32_t target, const struct pool *p,
    enum addr_family family, uint32_t *out)
{
	uint32_t n = take_cell(h, &h->l->records, &h->s->records);
	uint64_t count = 0;
	uint64_t turn;
	struct record *r = record_at(h, n);

	if (n == 0)
		return -ENFILE;
	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == family)
			count += p->sources[i].count;
	}
	turn = h->s->rotor++ % count;
	for (const struct pool_source *s = p->sources;; s++) {
		if (s->first.family != family)
			continue;
		if (turn < s->count) {
			r->source_id = s->first_id + (uint32_t)turn;
			break;
		}
		turn -= s->count;
	}
	r->target = target;
	r->port = 0;
	r->when_named = 0;
	*out = n;
	return 0;
}

/* The client's address in 16 bytes. */
static void
store_client(struct record *r, const struct addr *client)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (client->family == ADDR_V4) {
		memcpy(r->client, mapped, sizeof(mapped));
		memcpy(r->client + sizeof(mapped), client->ip, 4);
	} else {
		memcpy(r->client, client->ip, sizeof(r->client));
	}
	r->client_port = client->port;
}

static void
enter_held(struct hold *h, uint32_t n, enum record_state state,
    const struct ledger_holder *holder, uint64_t now_ms)
{
	struct record *r = record_at(h, n);
	struct target *t = target_at(h, r->target);

	r->gen++;
	r->session = holder->session;
	r->user = holder->user;
	r->worker = holder->worker;
	store_client(r, &holder->client);
	r->when_named = now_ms & RECORD_WHEN_MASK;
	record_enter(h->s, r, state);
	if (target_mirrored(t))
		ring_append(h->l, &h->l->records, &t->link.next, n);
	t->held++;
	if (t->held > t->high_water)
		t->high_water = t->held;
}

static enum pool_bind
port_bind(const struct pool *p, uint16_t port)
{
	unsigned low = 0, high = p->range_count;

	if (p->by_kernel)
		return POOL_KERNEL;
	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (p->ranges[middle].first <= port)
			low = middle;
		else
			high = middle;
	}
	return p->ranges[low].bind;
}

static void
fill_lease(
    struct hold *h, uint32_t n, const struct pool *p, struct ledger_lease *out)
{
	const struct record *r = record_at(h, n);

	out->record = n;
	out->gen = r->gen;
	out->source = source_of_id(h->l, r->source_id);
	out->source.port = r->port;
	out->bind = port_bind(p, r->port);
}

/* A record for a lease towards target cell `target`. */
static int
take_slot(struct hold *h, uint32_t target, const struct pool *p,
    const struct addr *addr, uint64_t now_ms, uint32_t *out)
{
	if (p->by_kernel)
		return take_kernel(h, target, p, addr->family, out);
	*out = take_used(h, target_at(h, target), now_ms);
	if (*out != 0)
		return 0;
	return take_fresh(h, target, p, addr, now_ms, out);
}

static bool
has_family(const struct pool *p, enum addr_family family)
{
	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == family)
			return true;
	}
	return false;
}

int
shard_lease(struct hold *h, const struct ledger_key *k,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms, struct ledger_lease *out)
{
	const struct pool *p = shard_pool(
	    h, (k->word >> TARGET_POOL_SHIFT) & (LEDGER_POOLS_MAX - 1));
	uint32_t n, taken = 0;
	int error;

	if (p == NULL)
		return -ENOENT;
	if (!has_family(p, target->family))
		return -EAFNOSUPPORT;
	sweep(h, now_ms);
	n = shard_find(h, k);
	if (n == 0)
		n = add_target(h, k, target);
	else if (target_at(h, n)->held == 0)
		leave_idle(h, n);
	if (n == 0)
		return -ENFILE;
	error = take_slot(h, n, p, target, now_ms, &taken);
	if (error == 0) {
		enter_held(h, taken, p->by_kernel ? RECORD_STRAY : RECORD_HELD,
		    holder, now_ms);
		fill_lease(h, taken, p, out);
	} else if (target_at(h, n)->held == 0) {
		settle(h, n, now_ms);
	}
	return error;
}

void
shard_return(
    struct hold *h, uint32_t n, enum ledger_release how, uint64_t now_ms)
{
	static const struct {
		uint32_t cools_ms;
		uint8_t state, list;
	} ways[] = {
		[LEDGER_HOT] = { 0, RECORD_HOT, LIST_HOT },
		[LEDGER_BRIEF] = { LEDGER_BRIEF_MS, RECORD_BRIEF, LIST_BRIEF },
		[LEDGER_LONG] = { LEDGER_LONG_MS, RECORD_LONG, LIST_LONG },
	};
	struct record *r = record_at(h, n);
	uint32_t target = r->target;
	struct target *t = target_at(h, target);

	if (target_mirrored(t))
		ring_remove(h->l, &h->l->records, &t->link.next, n);
	t->held--;
	if (record_state(r) == RECORD_STRAY) {
		free_record(h, n);
	} else {
		r->when_named =
		    (now_ms + ways[how].cools_ms) & RECORD_WHEN_MASK;
		record_enter(h->s, r, ways[how].state);
		if (how == LEDGER_HOT)
			ring_append(
			    h->l, &h->l->records, &t->list[LIST_HOT], n);
		else
			insert_by_time(h, &t->list[ways[how].list], n);
	}
	if (t->held == 0)
		settle(h, target, now_ms);
	sweep(h, now_ms);
}
