/* SPDX-License-Identifier: ISC */
#include "egress/ledger_extra.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"

static uint32_t *
bucket_of(const struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2])
{
	struct ledger *l = h->l;
	uint64_t words[3] = { key[0], key[1],
		(uint64_t)target << 8 | (uint64_t)state };
	uint32_t *buckets = ledger_at(l, l->extra_buckets_at);
	size_t first = (size_t)h->shard * (l->extra_bucket_mask + 1);

	return &buckets[first +
			(hash_words(l->key, words) & l->extra_bucket_mask)];
}

uint32_t
extra_take(struct hold *h, uint32_t target, enum extra_state state)
{
	uint32_t n = slab_take(h->l, &h->l->extras, &h->s->extras, h->shard);
	struct extra *e = ledger_extra(h->l, n);

	if (n == 0)
		return 0;
	memset(e, 0, sizeof(*e));
	e->target = target;
	/* What waits is entered when it is whole. */
	if (state != EXTRA_WAITING)
		extra_enter(e, state);
	return n;
}

void
extra_free(struct hold *h, uint32_t n)
{
	extra_enter(ledger_extra(h->l, n), EXTRA_FREE);
	slab_give(h->l, &h->l->extras, &h->s->extras, n);
}

uint32_t
desk_of(struct hold *h, uint32_t target)
{
	struct target *t = ledger_target_at(h->l, target);
	uint32_t n = target_desk(t);

	if (n != 0)
		return n;
	n = extra_take(h, target, EXTRA_DESK);
	if (n == 0)
		return 0;
	shard_leave_place(h, target);
	t->link.prev = n;
	target_flag(t, TARGET_DESK, true);
	return n;
}

uint32_t
extra_find(const struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2])
{
	uint32_t n = *bucket_of(h, target, state, key);

	while (n != 0) {
		const struct extra *e = ledger_extra(h->l, n);

		if (e->target == target && extra_state(e) == state &&
		    e->key[0] == key[0] && e->key[1] == key[1])
			return n;
		n = e->chain;
	}
	return 0;
}

/* The desk's ring of such extras. */
static uint32_t *
ring_of(struct extra *desk, enum extra_state state)
{
	switch (state) {
	case EXTRA_LANE:
		return &desk->desk.lanes;
	case EXTRA_CLIENT_TURN:
	case EXTRA_USER_TURN:
		return &desk->desk.turns;
	default:
		return &desk->desk.counts;
	}
}

uint32_t
extra_get(struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2])
{
	uint32_t n = extra_find(h, target, state, key);
	uint32_t desk = n != 0 ? 0 : desk_of(h, target);
	uint32_t *bucket;
	struct extra *e;

	if (desk == 0)
		return n;
	n = extra_take(h, target, state);
	if (n == 0)
		return 0;
	e = ledger_extra(h->l, n);
	memcpy(e->key, key, sizeof(e->key));
	bucket = bucket_of(h, target, state, key);
	e->chain = *bucket;
	*bucket = n;
	ring_append(
	    h->l, &h->l->extras, ring_of(ledger_extra(h->l, desk), state), n);
	return n;
}

void
extra_drop(struct hold *h, struct extra *desk, uint32_t n)
{
	struct extra *e = ledger_extra(h->l, n);
	enum extra_state state = extra_state(e);
	uint32_t *link = bucket_of(h, e->target, state, e->key);

	while (*link != n) {
		must(*link != 0);
		link = &ledger_extra(h->l, *link)->chain;
	}
	*link = e->chain;
	ring_remove(h->l, &h->l->extras, ring_of(desk, state), n);
	extra_free(h, n);
}

void
desk_free(struct hold *h, uint32_t target)
{
	struct target *t = ledger_target_at(h->l, target);
	uint32_t n = target_desk(t);
	struct extra *desk = ledger_extra(h->l, n);

	if (n == 0)
		return;
	must(desk->desk.waiting == 0);
	while (desk->desk.lanes != 0)
		extra_drop(h, desk, desk->desk.lanes);
	while (desk->desk.counts != 0)
		extra_drop(h, desk, desk->desk.counts);
	extra_free(h, n);
	target_flag(t, TARGET_DESK, false);
	t->link.prev = 0;
}

struct lane *
lane_get(
    struct hold *h, uint32_t target, const struct pool *p, uint32_t source_id)
{
	uint64_t key[2] = { source_id, 0 };
	uint32_t n;

	if (p->rules.sticky == POOL_STICKY_NONE)
		return &ledger_target_at(h->l, target)->lane;
	n = extra_get(h, target, EXTRA_LANE, key);
	return n == 0 ? NULL : &ledger_extra(h->l, n)->lane;
}

/* ---- how much everybody holds ---- */

static const struct ledger_user *
user_of(struct ledger *l, uint16_t id)
{
	return (const struct ledger_user *)ledger_at(l, l->users_at) + id;
}

void
party_cut_client(
    const struct pool_rules *rules, const uint64_t client[2], uint64_t out[2])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned bits = rules->client_bits_v6;
	uint8_t bytes[16];

	memcpy(bytes, client, sizeof(bytes));
	if (memcmp(bytes, mapped, sizeof(mapped)) == 0)
		bits = 96 + rules->client_bits_v4;
	if (bits < 128) {
		bytes[bits / 8] &= (uint8_t)(0xff00 >> bits % 8);
		memset(bytes + bits / 8 + 1, 0, sizeof(bytes) - bits / 8 - 1);
	}
	memcpy(out, bytes, sizeof(bytes));
}

void
party_make(struct party *party, const struct pool *p, const uint64_t client[2],
    uint16_t user)
{
	*party = (struct party){ .pool = p,
		.user = p->rules.users_limited ? user : 0 };
	if (p->rules.client_share != 0)
		party_cut_client(&p->rules, client, party->client);
}

void
party_of_record(const struct record *r, const struct pool *p, struct party *out)
{
	party_make(out, p, r->client, r->user);
}

static void
user_key(const struct party *party, uint64_t key[2])
{
	key[0] = party->user;
	key[1] = 0;
}

/* How many slots are so many percent of all; one at least. */
static uint32_t
share_of(uint32_t slots, uint32_t percent)
{
	uint64_t share = (uint64_t)slots * percent / 100;

	return share == 0 ? 1 : (uint32_t)share;
}

/* How many it holds, or cool for it. */
static uint32_t
used_by(const struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2])
{
	uint32_t n = extra_find(h, target, state, key);

	return n == 0 ? 0 : ledger_extra(h->l, n)->count.used;
}

/* Slots that are still kept for users, but not for the party's. */
static uint32_t
kept_for_others(const struct hold *h, uint32_t target,
    const struct party *party, uint32_t used)
{
	uint32_t desk = target_desk(ledger_target_at(h->l, target));
	uint32_t kept = party->pool->rules.reserved;
	uint32_t own = 0, covered = 0;

	if (desk != 0)
		covered = ledger_extra(h->l, desk)->desk.covered;
	kept -= covered < kept ? covered : kept;
	if (party->user != 0)
		own = user_of(h->l, party->user)->reserve;
	own -= used < own ? used : own;
	return kept > own ? kept - own : 0;
}

int
party_admit(const struct hold *h, uint32_t target, const struct party *party)
{
	const struct target *t = ledger_target_at(h->l, target);
	const struct pool_rules *rules = &party->pool->rules;
	uint32_t desk = target_desk(t), slots, used = 0, share;
	uint64_t key[2], gone = t->held;

	slots = pool_slots(party->pool, target_family(t));
	if (rules->client_share != 0 &&
	    used_by(h, target, EXTRA_CLIENT, party->client) >=
		share_of(slots, rules->client_share))
		return -EDQUOT;
	if (party->user != 0) {
		user_key(party, key);
		used = used_by(h, target, EXTRA_USER, key);
		share = user_of(h->l, party->user)->share;
		if (share != 0 && used >= share_of(slots, share))
			return -EDQUOT;
	}
	if (desk != 0)
		gone += ledger_extra(h->l, desk)->key[1];
	if (rules->reserved != 0 &&
	    gone + kept_for_others(h, target, party, used) >= slots)
		return -EBUSY;
	return 0;
}

/* One more or less of the count; what of a reserve it covers. */
static void
count_one(struct hold *h, uint32_t target, enum extra_state state,
    const uint64_t key[2], bool more)
{
	uint32_t n = more ? extra_get(h, target, state, key)
			  : extra_find(h, target, state, key);
	struct extra *e = ledger_extra(h->l, n);
	struct extra *desk;

	if (n == 0)
		return;
	desk = desk_at(h, target);
	/* As long as it is counted its reserve is the same. */
	if (more && e->count.used == 0 && state == EXTRA_USER)
		e->count.reserve = user_of(h->l, (uint16_t)key[0])->reserve;
	if (!more)
		e->count.used--;
	if (e->count.used < e->count.reserve)
		desk->desk.covered += more ? 1 : UINT32_MAX;
	if (more)
		e->count.used++;
	else if (e->count.used == 0)
		extra_drop(h, desk, n);
}

static void
count_party(
    struct hold *h, uint32_t target, const struct party *party, bool more)
{
	uint64_t key[2];

	if (party->pool->rules.client_share != 0)
		count_one(h, target, EXTRA_CLIENT, party->client, more);
	if (party->user != 0) {
		user_key(party, key);
		count_one(h, target, EXTRA_USER, key, more);
	}
}

void
party_add(struct hold *h, uint32_t target, const struct party *party)
{
	count_party(h, target, party, true);
}

void
party_remove(struct hold *h, uint32_t target, const struct party *party)
{
	count_party(h, target, party, false);
}

void
party_cools(struct hold *h, uint32_t target)
{
	uint32_t desk = desk_of(h, target);

	if (desk != 0)
		ledger_extra(h->l, desk)->key[1]++;
}

void
party_has_cooled(struct hold *h, struct record *r, const struct pool *p)
{
	uint32_t desk = target_desk(ledger_target_at(h->l, r->target));
	struct extra *d = ledger_extra(h->l, desk);
	struct party party;

	r->worker = 0;
	if (desk != 0 && d->key[1] > 0)
		d->key[1]--;
	party_of_record(r, p, &party);
	party_remove(h, r->target, &party);
}
