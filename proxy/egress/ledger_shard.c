/* SPDX-License-Identifier: ISC */
#include "egress/ledger_shard.h"

#include <endian.h>
#include <string.h>

#include "egress/ledger_lane.h"
#include "egress/ledger_queue.h"

/* Records of an ended target that one operation frees at most: a target may
 * have tens of thousands, and a hold must be short. */
#define FREE_AT_ONCE 16

/* Targets of so few slots are kept as spare ones. */
#define SPARE_SLOTS_MAX 4

/* Idle targets that one operation looks at, to end those that have cooled. */
#define SWEEP_AT_ONCE 2

/* Word by word, as they are read: bytes just written do not come back from the
 * processor's store buffer as a word. */
static void
copy_ip(uint64_t to[2], const uint8_t ip[16])
{
	memcpy(&to[0], ip, sizeof(to[0]));
	memcpy(&to[1], ip + sizeof(to[0]), sizeof(to[1]));
}

static void
key_place(struct ledger *l, struct ledger_key *k)
{
	/* Clients choose the targets. */
	const uint64_t words[3] = { k->ip[0], k->ip[1], k->word };
	uint64_t hash = hash_spread(l->place_keys, words);

	k->shard = hash % LEDGER_SHARDS;
	k->bucket = (uint32_t)(hash / LEDGER_SHARDS) & l->bucket_mask;
}

void
ledger_key_make(struct ledger *l, unsigned pool, const struct addr *target,
    struct ledger_key *out)
{
	copy_ip(out->ip, target->ip);
	out->word = target->scope |
		    (uint64_t)target->port << TARGET_PORT_SHIFT |
		    (uint64_t)pool << TARGET_POOL_SHIFT | TARGET_USED |
		    (target->family == ADDR_V6 ? TARGET_V6 : 0);
	key_place(l, out);
}

void
ledger_key_of(struct ledger *l, const struct target *t, struct ledger_key *out)
{
	out->ip[0] = t->ip[0];
	out->ip[1] = t->ip[1];
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

void
shard_mend(struct hold *h, int error)
{
	uint64_t epoch =
	    atomic_load_explicit(&h->l->epoch, memory_order_acquire);

	must(error == 0 || error == EOWNERDEAD);
	/* First the mending: should we die in it, the next does it. */
	shard_rebuild(h, epoch);
	if (error == EOWNERDEAD) {
		h->s->rebuilds++;
		robust_mended(&h->s->mutex);
	}
}

bool
shard_lock_cell(
    struct ledger *l, const struct slab *slab, uint32_t n, struct hold *out)
{
	uint32_t chunk = n / LEDGER_CHUNK;
	int owner;

	if (n == 0 || chunk >= slab->chunks)
		return false;
	owner = slab_owner(l, slab, chunk);
	if (owner < 0)
		return false;
	__builtin_prefetch(ledger_cell(l, slab, n), 1);
	*out = shard_lock(l, (uint32_t)owner);
	/* A chunk that moved meanwhile has nothing of the caller's. */
	if (slab_owner(l, slab, chunk) == owner)
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

/* Frees records of a lane; true when none is left. */
static bool
free_lane(struct hold *h, struct lane *lane, unsigned *at_most)
{
	for (unsigned kind = 0; kind < LIST_COUNT; kind++) {
		while (lane->list[kind] != 0) {
			uint32_t n = lane->list[kind];

			if (*at_most == 0)
				return false;
			--*at_most;
			ring_remove(h->l, &h->l->records, &lane->list[kind], n);
			free_record(h, n);
		}
	}
	return true;
}

/* Frees records of a target that has ended; true when none is left and the
 * target's cell is free too. */
static bool
free_some(struct hold *h, uint32_t n, unsigned at_most)
{
	struct target *t = target_at(h, n);
	struct extra *desk = ledger_extra(h->l, target_desk(t));
	bool all = free_lane(h, &t->lane, &at_most);

	while (all && target_desk(t) != 0 && desk->desk.lanes != 0) {
		uint32_t lane = desk->desk.lanes;

		all = free_lane(h, &ledger_extra(h->l, lane)->lane, &at_most);
		if (all)
			extra_drop(h, desk, lane);
	}
	if (!all)
		return false;
	desk_free(h, n);
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

	shard_leave_place(h, n);
	ledger_key_of(h->l, t, &k);
	/* The truth first: its records are nobody's from here on. */
	atomic_store_explicit(
	    &t->word, target_word(t) & TARGET_DESK, memory_order_release);
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

static inline bool
is_idle(const struct hold *h, uint32_t n)
{
	return target_at(h, n)->held == 0 && queue_length(h, n) == 0;
}

/* A place that no target has; LEDGER_SPARES: all are in use. */
static uint32_t
free_place(const struct spares *spares)
{
	for (unsigned i = 0; i < LEDGER_SPARES / 64; i++) {
		if (~spares->used[i] != 0)
			return i * 64 +
			       (uint32_t)__builtin_ctzll(~spares->used[i]);
	}
	return LEDGER_SPARES;
}

static void
take_place(struct hold *h, uint32_t n, uint32_t place)
{
	struct spares *spares = &h->s->spares;

	spares->used[place / 64] |= UINT64_C(1) << place % 64;
	spares->target[place] = n;
	target_at(h, n)->link.prev = place;
	target_flag(target_at(h, n), TARGET_PLACED, true);
}

void
shard_leave_place(struct hold *h, uint32_t n)
{
	struct target *t = target_at(h, n);
	uint32_t place = t->link.prev;

	if ((target_word(t) & TARGET_PLACED) == 0)
		return;
	h->s->spares.used[place / 64] &= ~(UINT64_C(1) << place % 64);
	target_flag(t, TARGET_PLACED, false);
	t->link.prev = 0;
}

void
shard_wake(struct hold *h, uint32_t n)
{
	struct target *t = target_at(h, n);
	uint32_t desk = target_desk(t);

	if (!is_idle(h, n))
		return;
	if (desk != 0) {
		ring_remove(h->l, &h->l->extras, &h->s->idle_desks, desk);
		return;
	}
	if (target_word(t) & TARGET_SPARE) {
		target_flag(t, TARGET_SPARE, false);
		return;
	}
	ring_remove(h->l, &h->l->targets, &h->s->idle, n);
	/* No held record is listed, and there is no desk. */
	t->link.next = t->link.prev = 0;
}

/* The target that has been idle for longest, of those with a desk or of those
 * without; 0: none. */
static uint32_t
oldest_idle(const struct hold *h, bool with_desk)
{
	if (!with_desk)
		return h->s->idle;
	return h->s->idle_desks == 0
		   ? 0
		   : ledger_extra(h->l, h->s->idle_desks)->target;
}

static void
end_idle(struct hold *h, uint32_t n)
{
	shard_wake(h, n);
	end_target(h, n);
}

/* Frees the next place that is in use, whose target ends unless it is in use
 * itself. The one after it was used long ago, too: it is fetched meanwhile.
 * False: none is. */
static bool
clear_place(struct hold *h)
{
	struct spares *spares = &h->s->spares;

	for (unsigned i = 0; i < LEDGER_SPARES; i++) {
		uint32_t place = spares->hand;
		uint32_t n = spares->target[place];

		spares->hand = (place + 1) % LEDGER_SPARES;
		if ((spares->used[place / 64] >> place % 64 & 1) == 0)
			continue;
		__builtin_prefetch(
		    target_at(h, spares->target[spares->hand]), 1);
		if (target_word(target_at(h, n)) & TARGET_SPARE)
			end_idle(h, n);
		else
			shard_leave_place(h, n);
		return true;
	}
	return false;
}

/* Ends the target, or keeps it while there are few. */
static void
end_or_spare(struct hold *h, uint32_t n)
{
	struct target *t = target_at(h, n);

	if (target_desk(t) != 0 || t->lane.skip != 0 ||
	    t->lane.fresh > SPARE_SLOTS_MAX) {
		end_target(h, n);
		return;
	}
	if ((target_word(t) & TARGET_PLACED) == 0) {
		uint32_t place = free_place(&h->s->spares);

		if (place == LEDGER_SPARES) {
			clear_place(h);
			place = free_place(&h->s->spares);
		}
		take_place(h, n, place);
	}
	target_flag(t, TARGET_SPARE, true);
}

/* Nobody waits at an idle target's desk. */
static bool
desk_is_empty(const struct extra *desk)
{
	return desk->desk.lanes == 0 && desk->desk.counts == 0 &&
	       desk->key[1] == 0;
}

void
shard_settle(struct hold *h, uint32_t n, uint64_t now_ms)
{
	struct target *t = target_at(h, n);
	uint32_t desk = target_desk(t);

	if (!is_idle(h, n))
		return;
	if (lane_all_cooled(h, t, now_ms)) {
		end_or_spare(h, n);
		return;
	}
	if (desk != 0 && desk_is_empty(ledger_extra(h->l, desk))) {
		desk_free(h, n);
		desk = 0;
	}
	if (desk != 0) {
		ring_append(h->l, &h->l->extras, &h->s->idle_desks, desk);
		return;
	}
	shard_leave_place(h, n);
	ring_append(h->l, &h->l->targets, &h->s->idle, n);
}

/* A little of the housekeeping at each operation, so that memory does not grow
 * with the targets ever seen. */
static void
sweep_some(struct hold *h, uint64_t now_ms)
{
	free_dying(h, FREE_AT_ONCE);
	for (unsigned kind = 0; kind < 2; kind++) {
		for (unsigned i = 0; i < SWEEP_AT_ONCE; i++) {
			uint32_t n = oldest_idle(h, kind == 1);

			if (n == 0 ||
			    !lane_all_cooled(h, target_at(h, n), now_ms))
				break;
			end_idle(h, n);
		}
	}
}

static inline void
sweep(struct hold *h, uint64_t now_ms)
{
	if ((h->s->dying | h->s->idle | h->s->idle_desks) != 0)
		sweep_some(h, now_ms);
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
		else if (clear_place(h))
			;
		else if (h->s->idle != 0 || h->s->idle_desks != 0)
			end_idle(h, oldest_idle(h, h->s->idle == 0));
		else
			return 0;
	}
	return n;
}

uint32_t
shard_take_record(struct hold *h)
{
	return take_cell(h, &h->l->records, &h->s->records);
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

void
tenant_make(const struct ledger_holder *holder, struct tenant *out)
{
	const struct addr *client = &holder->client;
	uint32_t ip;

	out->session = holder->session;
	out->client_port = client->port;
	out->user = holder->user;
	out->worker = holder->worker;
	if (client->family != ADDR_V4) {
		copy_ip(out->client, client->ip);
		return;
	}
	memcpy(&ip, client->ip, sizeof(ip));
	out->client[0] = 0;
	out->client[1] = htobe64(UINT64_C(0xffff) << 32 | be32toh(ip));
}

void
shard_hold(struct hold *h, uint32_t n, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms)
{
	struct record *r = record_at(h, n);
	struct target *t = target_at(h, r->target);
	struct party party;

	r->gen++;
	r->session = tenant->session;
	r->user = tenant->user;
	r->worker = tenant->worker;
	r->client[0] = tenant->client[0];
	r->client[1] = tenant->client[1];
	r->client_port = tenant->client_port;
	r->when_named = now_ms & RECORD_WHEN_MASK;
	record_enter(h->s, r, p->by_kernel ? RECORD_STRAY : RECORD_HELD);
	if (target_mirrored(t))
		ring_append(h->l, &h->l->records, &t->link.next, n);
	if (pool_counts(p)) {
		party_make(&party, p, tenant->client, tenant->user);
		party_add(h, r->target, &party);
	}
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

void
shard_fill_lease(const struct hold *h, uint32_t n, const struct pool *p,
    struct ledger_lease *out)
{
	const struct record *r = record_at(h, n);

	out->record = n;
	out->gen = r->gen;
	out->target = r->target;
	out->source = source_of_id(h->l, r->source_id);
	out->source.port = r->port;
	out->bind = port_bind(p, r->port);
}

const struct pool *
shard_pool_of_key(const struct hold *h, const struct ledger_key *k)
{
	return shard_pool(
	    h, (k->word >> TARGET_POOL_SHIFT) & (LEDGER_POOLS_MAX - 1));
}

int
shard_enter(struct hold *h, const struct ledger_key *k,
    const struct addr *target, uint64_t now_ms, uint32_t *out)
{
	const struct pool *p = shard_pool_of_key(h, k);
	uint32_t n;

	if (p == NULL)
		return -ENOENT;
	if (!pool_has_family(p, target->family))
		return -EAFNOSUPPORT;
	sweep(h, now_ms);
	n = shard_find(h, k);
	if (n == 0)
		n = add_target(h, k, target);
	else
		shard_wake(h, n);
	if (n == 0)
		return -ENFILE;
	*out = n;
	return 0;
}

int
shard_admit(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms)
{
	struct party party;
	int error;

	party_make(&party, p, tenant->client, tenant->user);
	error = party_admit(h, target, &party);
	if (error == 0 || h->expired == target || !party_may_cool(h, target))
		return error;
	h->expired = target;
	if (lane_expire(h, target, p, now_ms))
		error = party_admit(h, target, &party);
	return error;
}

int
shard_take(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms, uint32_t *out)
{
	int error = 0;

	if (pool_counts(p))
		error = shard_admit(h, target, p, tenant, now_ms);
	return error != 0 ? error
			  : lane_take(h, target, p, tenant, now_ms, out);
}

/* Who waits comes first; what those may not have is not kept from others. */
static int
take_past_queue(struct hold *h, uint32_t target, const struct pool *p,
    const struct tenant *tenant, uint64_t now_ms, uint32_t *out)
{
	if (queue_length(h, target) != 0) {
		int error;

		if (!pool_counts(p))
			return -EADDRINUSE;
		error = shard_admit(h, target, p, tenant, now_ms);
		if (error != 0)
			return error;
		queue_grant(h, target, now_ms);
	}
	return shard_take(h, target, p, tenant, now_ms, out);
}

int
shard_lease(struct hold *h, const struct ledger_key *k,
    const struct addr *target, const struct tenant *tenant, uint64_t now_ms,
    struct ledger_lease *out)
{
	const struct pool *p = shard_pool_of_key(h, k);
	uint32_t n, taken = 0;
	int error = shard_enter(h, k, target, now_ms, &n);

	if (error != 0)
		return error;
	error = take_past_queue(h, n, p, tenant, now_ms, &taken);
	if (error == 0) {
		shard_hold(h, taken, p, tenant, now_ms);
		shard_fill_lease(h, taken, p, out);
		return 0;
	}
	if (error == -EBUSY) /* what is free is kept for others */
		error = -EADDRINUSE;
	if (error == -EADDRINUSE)
		target_flag(target_at(h, n), TARGET_WAS_FULL, true);
	shard_settle(h, n, now_ms);
	return error;
}

/* How long the slot cools, and the state that it is in meanwhile. */
static uint64_t
cooling_of(struct ledger *l, const struct pool *p, enum ledger_release how,
    enum record_state *state)
{
	uint64_t cools_ms = 0;

	switch (how) {
	case LEDGER_HOT:
		*state = RECORD_HOT;
		return 0;
	case LEDGER_BRIEF:
	case LEDGER_REFUSED:
		*state = RECORD_BRIEF;
		return LEDGER_BRIEF_MS;
	case LEDGER_LONG:
		*state = RECORD_LONG;
		cools_ms = LEDGER_LONG_MS;
		break;
	case LEDGER_REUSABLE:
		cools_ms =
		    atomic_load_explicit(&l->reusable_ms, memory_order_relaxed);
		*state =
		    cools_ms > LEDGER_BRIEF_MS ? RECORD_LONG : RECORD_BRIEF;
		break;
	}
	if (p->rules.cooldown_ms == POOL_COOLDOWN_AUTO)
		return cools_ms;
	*state = RECORD_LONG;
	return p->rules.cooldown_ms;
}

/* Puts the slot of a record that is not held any more back; does it cool? If
 * not the record may be another shard's already. */
static bool
put_back(struct hold *h, uint32_t n, const struct pool *p,
    enum ledger_release how, uint64_t now_ms)
{
	struct record *r = record_at(h, n);
	enum record_state state = RECORD_LONG;
	struct lane *lane;
	uint64_t cools_ms;

	lane = record_state(r) == RECORD_STRAY
		   ? NULL
		   : lane_get(h, r->target, p, r->source_id);
	if (lane == NULL) {
		free_record(h, n);
		return false;
	}
	cools_ms = cooling_of(h->l, p, how, &state);
	r->when_named = (now_ms + cools_ms) & RECORD_WHEN_MASK;
	record_enter(h->s, r, state);
	lane_put(h, r->target, lane, n);
	return state != RECORD_HOT;
}

void
shard_return(
    struct hold *h, uint32_t n, enum ledger_release how, uint64_t now_ms)
{
	struct record *r = record_at(h, n);
	uint32_t target = r->target;
	struct target *t = target_at(h, target);
	const struct pool *p = shard_pool(h, target_pool(t));
	struct party party;
	bool cools;

	if (target_mirrored(t))
		ring_remove(h->l, &h->l->records, &t->link.next, n);
	if (p != NULL && pool_counts(p))
		party_of_record(r, p, &party);
	t->held--;
	cools = put_back(h, n, p, how, now_ms);
	/* For nobody where the kernel had it all the time. Not while the record
	 * is held still: should we die, it has to be found. */
	if (cools && how == LEDGER_REFUSED) {
		r->worker = 0;
		cools = false;
	}
	if (p != NULL && pool_counts(p)) {
		if (cools)
			party_cools(h, target);
		else
			party_remove(h, target, &party);
	}
	queue_grant(h, target, now_ms);
	shard_settle(h, target, now_ms);
	sweep(h, now_ms);
}
