/* SPDX-License-Identifier: ISC */
#include "egress/pool.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"

/*
 * A longer prefix counts as its first so many addresses: more than any host
 * can use at once, and few enough that 32 bits number all addresses of 256
 * such prefixes.
 */
#define SOURCE_ADDRESSES_MAX (UINT32_C(1) << 24)

void
pool_init(struct pool *p, const char *name)
{
	memset(p, 0, sizeof(*p));
	strcpy_bounded(p->name, sizeof(p->name), name);
	p->rules.cooldown_ms = POOL_COOLDOWN_AUTO;
	p->rules.client_bits_v4 = 32;
	p->rules.client_bits_v6 = 64;
}

static uint64_t
load_word(const uint8_t *bytes)
{
	uint64_t word = 0;

	for (size_t i = 0; i < sizeof(word); i++)
		word = word << 8 | bytes[i];
	return word;
}

bool
pool_source_contains(
    const struct pool_source *s, const struct addr *a, uint32_t *at)
{
	uint64_t high, low, base_low;

	if (a->family != s->first.family || a->scope != s->first.scope)
		return false;
	if (s->count == 1) {
		*at = 0;
		return memcmp(a->ip, s->first.ip, sizeof(a->ip)) == 0;
	}
	high = load_word(a->ip) - load_word(s->first.ip);
	if (a->family == ADDR_V4) {
		*at = (uint32_t)(high >> 32);
		return *at < s->count;
	}
	low = load_word(a->ip + 8);
	base_low = load_word(s->first.ip + 8);
	if (high != 0 || low < base_low || low - base_low >= s->count)
		return false;
	*at = (uint32_t)(low - base_low);
	return true;
}

static bool
source_is_by_route(const struct pool_source *s)
{
	return addr_is_unspecified_ip(&s->first);
}

static bool
sources_overlap(const struct pool_source *a, const struct pool_source *b)
{
	uint32_t at;

	if (a->first.family != b->first.family)
		return false;
	return source_is_by_route(a) || source_is_by_route(b) ||
	       pool_source_contains(a, &b->first, &at) ||
	       pool_source_contains(b, &a->first, &at);
}

int
pool_add_source(struct pool *p, const struct prefix *addresses)
{
	unsigned all = addresses->base.family == ADDR_V4 ? 32 : 128;
	unsigned free_bits = all - addresses->bits;
	struct pool_source s = { .first = addresses->base, .count = 1 };

	s.first.port = 0;
	if (!source_is_by_route(&s))
		s.count = free_bits < 24 ? UINT32_C(1) << free_bits
					 : SOURCE_ADDRESSES_MAX;
	for (unsigned i = 0; i < p->source_count; i++) {
		if (sources_overlap(&p->sources[i], &s))
			return -EEXIST;
	}
	if (p->source_count == POOL_SOURCES_MAX)
		return -ENOSPC;
	p->sources[p->source_count++] = s;
	return 0;
}

int
pool_add_ports(
    struct pool *p, uint16_t first, uint16_t last, enum pool_bind bind)
{
	unsigned place = 0;

	if (first == 0 || first > last)
		return -EINVAL;
	while (place < p->range_count && p->ranges[place].last < first)
		place++;
	if (place < p->range_count && p->ranges[place].first <= last)
		return -EEXIST;
	if (p->range_count == POOL_RANGES_MAX)
		return -ENOSPC;
	memmove(&p->ranges[place + 1], &p->ranges[place],
	    (p->range_count - place) * sizeof(p->ranges[0]));
	p->ranges[place] = (struct pool_range){
		.first = first, .last = last, .bind = (uint8_t)bind
	};
	p->range_count++;
	p->ports += (uint32_t)last - first + 1;
	return 0;
}

bool
pool_has_family(const struct pool *p, enum addr_family family)
{
	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == family)
			return true;
	}
	return false;
}

/* What slots there are to number: none where the kernel chooses the port. */
static uint32_t
ports_of(const struct pool *p)
{
	return p->by_kernel ? 0 : p->ports;
}

uint32_t
pool_slots(const struct pool *p, enum addr_family family)
{
	uint64_t slots = 0;

	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == family)
			slots += (uint64_t)p->sources[i].count * ports_of(p);
	}
	if (slots < POOL_SLOTS_MAX)
		return (uint32_t)slots;
	/* Where addresses count as such, each has all of its ports. */
	return p->rules.order == POOL_PACKED && p->rules.sticky == 0
		   ? POOL_SLOTS_MAX
		   : POOL_SLOTS_MAX / p->ports * p->ports;
}

struct addr
pool_source_address(const struct pool_source *s, uint32_t n)
{
	return n == 0 ? s->first
		      : prefix_address(&(struct prefix){ .base = s->first }, n);
}

void
pool_slot(const struct pool *p, enum addr_family family, uint32_t slot,
    struct pool_slot *out)
{
	const struct pool_source *s = p->sources;
	const struct pool_range *r = p->ranges;
	uint64_t left = slot;
	uint32_t n, port;

	must(slot < pool_slots(p, family));
	for (;
	     s->first.family != family || left >= (uint64_t)s->count * p->ports;
	     s++) {
		if (s->first.family == family)
			left -= (uint64_t)s->count * p->ports;
	}
	n = (uint32_t)(left / p->ports);
	port = (uint32_t)(left % p->ports);
	for (; port > (uint32_t)r->last - r->first; r++)
		port -= (uint32_t)r->last - r->first + 1;
	out->source = pool_source_address(s, n);
	out->source.port = (uint16_t)(r->first + port);
	out->source_id = s->first_id + n;
	out->bind = r->bind;
}

uint32_t
pool_addresses(const struct pool *p, enum addr_family family)
{
	uint64_t count = 0;
	uint64_t most = p->ports == 0 ? 0 : POOL_SLOTS_MAX / p->ports;

	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family == family)
			count += p->sources[i].count;
	}
	return count < most ? (uint32_t)count : (uint32_t)most;
}

/* Half of the bits of the smallest even power of two that holds `n` numbers. */
static unsigned
half_bits(uint32_t n)
{
	unsigned half = 1;

	while (UINT32_C(1) << (2 * half) < n)
		half++;
	return half;
}

#define ROUNDS 4

/* A Feistel network over 2 x `half` bits, forwards or back. */
static uint32_t
feistel(uint32_t x, uint64_t key, unsigned half, bool back)
{
	uint32_t mask = (UINT32_C(1) << half) - 1;
	uint32_t left = x >> half, right = x & mask;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned round = back ? ROUNDS - 1 - i : i;
		uint64_t round_key =
		    key + (round + 1) * UINT64_C(0x9e3779b97f4a7c15);
		uint32_t mixed;

		if (back) {
			mixed = right ^
				((uint32_t)hash_mix(left + round_key) & mask);
			right = left;
			left = mixed;
		} else {
			mixed = left ^
				((uint32_t)hash_mix(right + round_key) & mask);
			left = right;
			right = mixed;
		}
	}
	return left << half | right;
}

/* A permutation of 0 .. n-1: the network is walked until it is inside. */
static uint32_t
permute(uint32_t x, uint32_t n, uint64_t key, bool back)
{
	unsigned half = half_bits(n);

	do
		x = feistel(x, key, half, back);
	while (x >= n);
	return x;
}

static uint32_t
permute_port(const struct pool *p, uint64_t key, uint32_t slot, bool back)
{
	uint32_t port;

	if (p->rules.order != POOL_HASHED || p->ports < 2)
		return slot;
	port = slot % p->ports;
	return slot - port + permute(port, p->ports, key, back);
}

uint32_t
pool_slot_of_rank(const struct pool *p, uint64_t key, uint32_t rank)
{
	return permute_port(p, key, rank, false);
}

uint32_t
pool_rank_of_slot(const struct pool *p, uint64_t key, uint32_t slot)
{
	return permute_port(p, key, slot, true);
}

/* Which of the pool's ports, in order, is `port`? */
static bool
find_port(const struct pool *p, uint16_t port, uint32_t *out)
{
	uint32_t before = 0;

	for (unsigned i = 0; i < p->range_count; i++) {
		const struct pool_range *r = &p->ranges[i];

		if (port < r->first)
			return false;
		if (port <= r->last) {
			*out = before + port - r->first;
			return true;
		}
		before += (uint32_t)r->last - r->first + 1;
	}
	return false;
}

bool
pool_find(const struct pool *p, const struct addr *source, uint32_t *slot)
{
	uint64_t before = 0;
	uint32_t n, port;

	if (p->by_kernel)
		return false;
	for (unsigned i = 0; i < p->source_count; i++) {
		const struct pool_source *s = &p->sources[i];

		if (s->first.family != source->family)
			continue;
		if (pool_source_contains(s, source, &n)) {
			if (!find_port(p, source->port, &port))
				return false;
			before += (uint64_t)n * p->ports + port;
			*slot = (uint32_t)before;
			return before < pool_slots(p, source->family);
		}
		before += (uint64_t)s->count * p->ports;
	}
	return false;
}

static bool
ranges_overlap(const struct pool *a, const struct pool *b)
{
	unsigned i = 0, j = 0;

	while (i < a->range_count && j < b->range_count) {
		if (a->ranges[i].last < b->ranges[j].first)
			i++;
		else if (b->ranges[j].last < a->ranges[i].first)
			j++;
		else
			return true;
	}
	return false;
}

bool
pool_overlaps(const struct pool *a, const struct pool *b)
{
	if (a->by_kernel || b->by_kernel || !ranges_overlap(a, b))
		return false;
	for (unsigned i = 0; i < a->source_count; i++) {
		for (unsigned j = 0; j < b->source_count; j++) {
			if (sources_overlap(&a->sources[i], &b->sources[j]))
				return true;
		}
	}
	return false;
}

bool
pool_mixes_binds(const struct pool *a, const struct pool *b, uint16_t *port)
{
	unsigned i = 0, j = 0;

	if (a->by_kernel || b->by_kernel)
		return false;
	while (i < a->range_count && j < b->range_count) {
		const struct pool_range *x = &a->ranges[i], *y = &b->ranges[j];
		uint16_t first = x->first > y->first ? x->first : y->first;
		uint16_t last = x->last < y->last ? x->last : y->last;

		if (first <= last && x->bind != y->bind) {
			*port = first;
			return true;
		}
		if (x->last < y->last)
			i++;
		else
			j++;
	}
	return false;
}

static bool
ranges_equal(const struct pool *a, const struct pool *b)
{
	if (a->range_count != b->range_count)
		return false;
	for (unsigned i = 0; i < a->range_count; i++) {
		if (a->ranges[i].first != b->ranges[i].first ||
		    a->ranges[i].last != b->ranges[i].last ||
		    a->ranges[i].bind != b->ranges[i].bind)
			return false;
	}
	return true;
}

static bool
rules_equal(const struct pool_rules *a, const struct pool_rules *b)
{
	return a->order == b->order && a->sticky == b->sticky &&
	       a->client_share == b->client_share &&
	       a->client_bits_v4 == b->client_bits_v4 &&
	       a->client_bits_v6 == b->client_bits_v6 &&
	       a->users_limited == b->users_limited &&
	       a->cooldown_ms == b->cooldown_ms && a->reserved == b->reserved &&
	       a->users_version == b->users_version;
}

bool
pool_equal(const struct pool *a, const struct pool *b)
{
	if (!rules_equal(&a->rules, &b->rules))
		return false;
	if (a->by_kernel != b->by_kernel || a->source_count != b->source_count)
		return false;
	for (unsigned i = 0; i < a->source_count; i++) {
		if (!addr_equal(&a->sources[i].first, &b->sources[i].first) ||
		    a->sources[i].count != b->sources[i].count)
			return false;
	}
	return a->by_kernel || ranges_equal(a, b);
}
