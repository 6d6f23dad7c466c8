/* SPDX-License-Identifier: ISC */
/*
 * Pools of any sources and ports, against a naive model: what is taken and what
 * is refused, and the numbers of slots and ranks, which are to be the reverse
 * of each other, each slot once.
 */
#include <errno.h>
#include <stdlib.h>

#include "egress/pool.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS     64
#define WALKED    512 /* of pools up to this size every slot is looked at */
#define ADDRESSES (UINT32_C(1) << 24) /* a prefix counts as so many at most */

typedef unsigned __int128 number;

/* Consecutive addresses as numbers. */
struct span {
	number first, last;
	uint8_t family;
	bool by_route;
};

struct model {
	struct pool pool;
	struct span spans[STEPS];
	struct pool_range ranges[STEPS]; /* in no order */
	unsigned span_count, range_count;
};

static number
number_of(const struct addr *a)
{
	size_t len = a->family == ADDR_V4 ? 4 : 16;
	number n = 0;

	for (size_t i = 0; i < len; i++)
		n = n << 8 | a->ip[i];
	return n;
}

/* Of few networks, so that they meet. */
static struct prefix
pick_prefix(struct program *p)
{
	static const uint8_t nets[][16] = { { 10 }, { 192, 0, 2 }, { 0 },
		{ 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		    255, 255, 255, 255 },
		{ 0x20, 1, 0xd, 0xb8 } };
	enum addr_family family = program_pick(p, 2) == 0 ? ADDR_V4 : ADDR_V6;
	unsigned all = family == ADDR_V4 ? 32 : 128;
	uint8_t ip[16];
	struct prefix out;

	memcpy(ip, nets[program_pick(p, ARRAY_LEN(nets))], sizeof(ip));
	ip[all / 8 - 1] ^= program_byte(p);
	ip[program_pick(p, all / 8)] ^= program_byte(p);
	out.bits = (uint8_t)program_pick(p, all + 1);
	for (unsigned i = out.bits; i < all; i++)
		ip[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
	out.base = addr_from_bytes(family, ip, 0);
	return out;
}

static struct span
span_of(const struct prefix *p)
{
	unsigned all = p->base.family == ADDR_V4 ? 32 : 128;
	struct span s = { .first = number_of(&p->base),
		.family = p->base.family };
	uint32_t count = ADDRESSES;

	if (all - p->bits < 24)
		count = UINT32_C(1) << (all - p->bits);
	s.by_route = s.first == 0;
	s.last = s.by_route ? 0 : s.first + count - 1;
	return s;
}

static bool
spans_meet(const struct span *a, const struct span *b)
{
	return a->family == b->family &&
	       (a->by_route || b->by_route ||
		   (a->first <= b->last && b->first <= a->last));
}

static bool
meets_any(const struct model *m, const struct span *s)
{
	for (unsigned i = 0; i < m->span_count; i++) {
		if (spans_meet(&m->spans[i], s))
			return true;
	}
	return false;
}

static void
add_source(struct model *m, struct program *p)
{
	struct prefix prefix = pick_prefix(p);
	struct span span = span_of(&prefix);
	int error = pool_add_source(&m->pool, &prefix);

	if (meets_any(m, &span)) {
		must(error == -EEXIST);
		return;
	}
	must(error == 0);
	m->spans[m->span_count++] = span;
}

static bool
ranges_meet(const struct pool_range *a, const struct pool_range *b)
{
	return a->first <= b->last && b->first <= a->last;
}

static bool
is_any_taken(const struct model *m, const struct pool_range *r)
{
	for (unsigned i = 0; i < m->range_count; i++) {
		if (ranges_meet(&m->ranges[i], r))
			return true;
	}
	return false;
}

/* The range that has the port, or NULL. */
static const struct pool_range *
range_of(const struct model *m, uint16_t port)
{
	const struct pool_range one = { .first = port, .last = port };

	for (unsigned i = 0; i < m->range_count; i++) {
		if (ranges_meet(&m->ranges[i], &one))
			return &m->ranges[i];
	}
	return NULL;
}

static void
add_ports(struct model *m, struct program *p)
{
	uint32_t word = program_word(p);
	struct pool_range r = { .first = (uint16_t)(word >> 16),
		.last = (uint16_t)word,
		.bind = program_pick(p, 2) ? POOL_RANGE : POOL_EXPLICIT };
	int error;

	/* Mostly few, so that there are many and each can be looked at. */
	if (program_pick(p, 4) != 0)
		r.last = (uint16_t)(r.first + r.last % 8);
	error = pool_add_ports(&m->pool, r.first, r.last, r.bind);
	if (r.first == 0 || r.first > r.last) {
		must(error == -EINVAL);
	} else if (is_any_taken(m, &r)) {
		must(error == -EEXIST);
	} else {
		must(error == 0);
		m->ranges[m->range_count++] = r;
	}
}

static void
make(struct model *m, struct program *p)
{
	unsigned steps = program_pick(p, STEPS);

	pool_init(&m->pool, "fuzz");
	m->span_count = m->range_count = 0;
	m->pool.rules.order = (uint8_t)program_pick(p, 2);
	m->pool.rules.sticky = (uint8_t)program_pick(p, 3);
	m->pool.by_kernel = program_pick(p, 16) == 15;
	for (unsigned i = 0; i < steps; i++) {
		if (program_pick(p, 2) == 0)
			add_source(m, p);
		else
			add_ports(m, p);
	}
}

/* Is it an address of the pool's with one of its ports? */
static bool
has(const struct model *m, const struct addr *a)
{
	number n = number_of(a);

	if (range_of(m, a->port) == NULL || m->pool.by_kernel)
		return false;
	for (unsigned i = 0; i < m->span_count; i++) {
		const struct span *s = &m->spans[i];

		if (s->family == a->family && n >= s->first && n <= s->last)
			return true;
	}
	return false;
}

static void
check_slot(const struct model *m, enum addr_family family, uint32_t slot)
{
	struct pool_slot s;
	uint32_t found;

	pool_slot(&m->pool, family, slot, &s);
	must(s.source.family == family && has(m, &s.source));
	must(s.bind == (enum pool_bind)range_of(m, s.source.port)->bind);
	must(pool_find(&m->pool, &s.source, &found) && found == slot);
}

static uint32_t
check_rank(
    const struct model *m, enum addr_family family, uint64_t key, uint32_t rank)
{
	uint32_t slot = pool_slot_of_rank(&m->pool, key, rank);

	must(slot < pool_slots(&m->pool, family));
	must(pool_rank_of_slot(&m->pool, key, slot) == rank);
	must(m->pool.rules.order == POOL_HASHED || slot == rank);
	/* A rank stays with its address. */
	must(slot / m->pool.ports == rank / m->pool.ports);
	check_slot(m, family, slot);
	return slot;
}

static void
check_all(const struct model *m, enum addr_family family, uint64_t key)
{
	bool seen[WALKED] = { false };
	uint32_t slots = pool_slots(&m->pool, family);

	for (uint32_t rank = 0; rank < slots; rank++) {
		uint32_t slot = check_rank(m, family, key, rank);

		must(!seen[slot]);
		seen[slot] = true;
	}
}

static void
check_count(const struct model *m, enum addr_family family)
{
	uint32_t slots = pool_slots(&m->pool, family);
	uint64_t addresses = pool_addresses(&m->pool, family);
	uint64_t exact = 0, ports = 0;

	for (unsigned i = 0; i < m->span_count; i++) {
		const struct span *s = &m->spans[i];

		if (s->family == family)
			exact += (uint64_t)(s->last - s->first) + 1;
	}
	for (unsigned i = 0; i < m->range_count; i++)
		ports += (uint64_t)m->ranges[i].last - m->ranges[i].first + 1;
	must(m->pool.ports == ports);
	must(pool_has_family(&m->pool, family) == (exact != 0));
	must(ports == 0 || addresses <= exact);
	if (m->pool.by_kernel)
		must(slots == 0);
	else if (exact * ports < POOL_SLOTS_MAX)
		must(slots == exact * ports);
	else
		must(slots >= POOL_SLOTS_MAX - ports);
	must(m->pool.by_kernel || addresses * ports <= slots);
}

static void
check_family(const struct model *m, enum addr_family family, struct program *p)
{
	uint64_t key = (uint64_t)program_word(p) << 32 | program_word(p);
	uint32_t slots = pool_slots(&m->pool, family);

	check_count(m, family);
	if (slots == 0)
		return;
	if (slots <= WALKED)
		check_all(m, family, key);
	check_rank(m, family, key, 0);
	check_rank(m, family, key, slots - 1);
	for (unsigned i = 0; i < 8; i++)
		check_rank(m, family, key, program_word(p) % slots);
}

/* What is found is what the pool has. */
static void
check_find(const struct model *m, struct program *p)
{
	struct addr a = pick_prefix(p).base;
	struct pool_slot s;
	uint32_t slot;

	a.port = (uint16_t)program_word(p);
	if (!pool_find(&m->pool, &a, &slot)) {
		/* Beyond what can be numbered there may be more. */
		must(!has(m, &a) || pool_slots(&m->pool, a.family) >=
					POOL_SLOTS_MAX - m->pool.ports);
		return;
	}
	must(has(m, &a));
	pool_slot(&m->pool, a.family, slot, &s);
	must(addr_equal(&s.source, &a));
}

static void
check_both(const struct model *a, const struct model *b)
{
	bool meet = false, share = false;

	for (unsigned i = 0; i < a->range_count; i++)
		share |= is_any_taken(b, &a->ranges[i]);
	for (unsigned i = 0; i < a->span_count; i++)
		meet |= meets_any(b, &a->spans[i]);
	meet &= share && !a->pool.by_kernel && !b->pool.by_kernel;
	must(pool_overlaps(&a->pool, &b->pool) == meet);
	must(pool_overlaps(&b->pool, &a->pool) == meet);
	must(pool_equal(&a->pool, &a->pool) && pool_equal(&b->pool, &b->pool));
	must(pool_equal(&a->pool, &b->pool) == pool_equal(&b->pool, &a->pool));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program program = { data, size };
	struct model *m = calloc(2, sizeof(*m));

	must(m != NULL);
	make(&m[0], &program);
	make(&m[1], &program);
	for (unsigned i = 0; i < 2; i++) {
		check_family(&m[i], ADDR_V4, &program);
		check_family(&m[i], ADDR_V6, &program);
		for (unsigned j = 0; j < 8; j++)
			check_find(&m[i], &program);
	}
	check_both(&m[0], &m[1]);
	free(m);
	return 0;
}
