/* SPDX-License-Identifier: ISC */
#include "service/census.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/counts.h"
#include "service/resting.h"

/* What is known of a source ip:port. */
enum { PORT_USED = 1, PORT_HELD = 2 };

/* The pass that is under way. */
struct pass {
	struct census *census;
	struct ledger *ledger;
	uint64_t now_ms;
	struct resting resting;
	struct counts cooling;      /* slots, by target's cell */
	struct counts held_resting; /* slots, held though the port rests */
	struct counts places;       /* of addresses, + 1, by their hash */
	struct counts ports;        /* what is known, by address and port */
	size_t room, top_room;
	bool no_memory;
};

/* ---- pools ---- */

static void
read_pools(struct pass *p)
{
	struct pool *spare = NULL;

	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		struct census_pool *pool = &p->census->pools[id];

		if (spare == NULL)
			spare = malloc(sizeof(*spare));
		if (spare == NULL) {
			p->no_memory = true;
			return;
		}
		if (!ledger_get_pool(p->ledger, id, spare))
			continue;
		pool->definition = spare;
		pool->rested = p->resting.pools[id].ports;
		spare = NULL;
	}
	free(spare);
}

/* ---- addresses ---- */

static uint64_t
hash_address(unsigned pool, const struct addr *ip)
{
	uint64_t words[2], hash = pool + 1;

	memcpy(words, ip->ip, sizeof(words));
	hash = counts_mix(hash ^ words[0]);
	hash = counts_mix(hash ^ words[1]);
	hash = counts_mix(hash ^ ((uint64_t)ip->family << 32 | ip->scope));
	return hash == 0 ? 1 : hash;
}

static struct census_address *
append_address(struct pass *p)
{
	struct census *c = p->census;

	if (c->address_count == p->room) {
		size_t room = p->room == 0 ? 16 : p->room * 2;
		struct census_address *grown =
		    reallocarray(c->addresses, room, sizeof(*grown));

		if (grown == NULL)
			return NULL;
		c->addresses = grown;
		p->room = room;
	}
	return &c->addresses[c->address_count++];
}

/* Which of the pool's sources has the address, if only as one by route. */
static void
place_address(const struct pool *pool, struct census_address *a)
{
	uint32_t at;

	a->outside = true;
	for (unsigned i = 0; pool != NULL && i < pool->source_count; i++) {
		const struct pool_source *s = &pool->sources[i];

		if (s->first.family != a->ip.family ||
		    (!addr_is_unspecified_ip(&s->first) &&
			!pool_source_contains(s, &a->ip, &at)))
			continue;
		a->place = i;
		a->outside = false;
		a->slots = pool->by_kernel ? 0 : pool->ports;
		return;
	}
}

/* The place of the address of `pool`, made when it is new; false without
 * memory. */
static bool
find_address(
    struct pass *p, unsigned pool, const struct addr *source, size_t *place)
{
	struct census_address *new;
	struct addr ip = *source;
	uint64_t hash;
	uint32_t *known;

	ip.port = 0;
	for (hash = hash_address(pool, &ip);; hash = hash + 1 ? hash + 1 : 1) {
		const struct census_address *a;

		known = counts_at(&p->places, hash);
		if (known == NULL || *known == 0)
			break;
		a = &p->census->addresses[*known - 1];
		if (a->pool == pool && addr_equal(&a->ip, &ip)) {
			*place = *known - 1;
			return true;
		}
	}
	new = known == NULL ? NULL : append_address(p);
	if (new == NULL)
		return false;
	*new = (struct census_address){ .ip = ip, .pool = pool };
	place_address(p->census->pools[pool].definition, new);
	new->rested = new->outside ? 0 : p->census->pools[pool].rested;
	*place = p->census->address_count - 1;
	*known = (uint32_t)p->census->address_count;
	return true;
}

/* ---- records ---- */

/* Has the pool the port still? Ranges ascend. */
static bool
has_port(const struct pool *pool, uint16_t port)
{
	unsigned low = 0, high = pool == NULL ? 0 : pool->range_count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (port > pool->ranges[middle].last)
			low = middle + 1;
		else if (port < pool->ranges[middle].first)
			high = middle;
		else
			return true;
	}
	return false;
}

static bool
count_port(struct pass *p, size_t place, uint16_t port, bool held)
{
	struct census_address *a = &p->census->addresses[place];
	uint32_t *known = counts_at(&p->ports, (place + 1) << 16 | port);

	if (known == NULL)
		return false;
	if ((*known & PORT_USED) == 0) {
		a->used++;
		a->busy += !resting_has(&p->resting, port) &&
			   has_port(p->census->pools[a->pool].definition, port);
	}
	if (held && (*known & PORT_HELD) == 0)
		p->census->sources++;
	*known |= PORT_USED | (held ? PORT_HELD : 0);
	return true;
}

static bool
count_one(struct counts *counts, uint32_t cell)
{
	uint32_t *n = counts_at(counts, cell);

	if (n != NULL)
		(*n)++;
	return n != NULL;
}

/* Of a port that rests, what cools is none: it is as good as a stranger's. */
static bool
count_record(struct pass *p, const struct ledger_record_row *row)
{
	bool held = row->use == LEDGER_HELD;
	bool rests = resting_has(&p->resting, row->source.port);
	struct census *c = p->census;
	size_t place;

	if (rests && !held)
		return true;
	if (!find_address(p, row->pool, &row->source, &place) ||
	    !count_port(p, place, row->source.port, held))
		return false;
	if (held) {
		c->held++;
		c->pools[row->pool].held++;
		c->addresses[place].held++;
		return !rests || count_one(&p->held_resting, row->cell);
	}
	c->cooling++;
	c->pools[row->pool].cooling++;
	c->addresses[place].cooling++;
	return count_one(&p->cooling, row->cell);
}

static void
on_record(void *arg, const struct ledger_record_row *row)
{
	struct pass *p = arg;

	if (row->use != LEDGER_USABLE && !p->no_memory)
		p->no_memory = !count_record(p, row);
}

/* ---- targets ---- */

unsigned
census_percent(uint32_t part, uint32_t of)
{
	return of == 0 ? 0 : (unsigned)((uint64_t)part * 100 / of);
}

struct share {
	uint64_t part, of; /* of 0: there is none, as the kernel chooses */
};

static struct share
share_of(const struct census_target *t)
{
	struct share s = { (uint64_t)t->row.held + t->cooling,
		t->row.slots - t->rested };

	/* Strangers hold them all. */
	return s.of == 0 && t->row.slots != 0 ? (struct share){ 1, 1 } : s;
}

unsigned
census_used_percent(const struct census_target *t)
{
	struct share s = share_of(t);

	return s.of == 0 ? 0 : (unsigned)(s.part * 100 / s.of);
}

/* Is `a` more of a worry than `b`: more of its slots are used, or more? */
static bool
is_before(const struct census_target *a, const struct census_target *b)
{
	struct share of_a = share_of(a), of_b = share_of(b);
	uint64_t share_a = of_a.part * of_b.of;
	uint64_t share_b = of_b.part * of_a.of;

	if (of_a.of == 0 || of_b.of == 0) {
		share_a = of_a.of != 0;
		share_b = of_b.of != 0;
	}
	if (share_a != share_b)
		return share_a > share_b;
	return of_a.part > of_b.part;
}

/* The top is a heap whose first is the least: what is more replaces it. */
static void
sink(struct census_target *heap, size_t count, size_t at)
{
	for (;;) {
		size_t least = at, child = 2 * at + 1;
		struct census_target kept = heap[at];

		for (size_t i = child; i < count && i <= child + 1; i++)
			if (is_before(&heap[least], &heap[i]))
				least = i;
		if (least == at)
			return;
		heap[at] = heap[least];
		heap[least] = kept;
		at = least;
	}
}

static void
on_target(void *arg, const struct ledger_target_row *row)
{
	struct pass *p = arg;
	struct census *c = p->census;
	struct census_target t = { .row = *row,
		.cooling = counts_get(&p->cooling, row->cell),
		.rested = resting_slots(&p->resting, row,
		    counts_get(&p->held_resting, row->cell)) };

	c->targets++;
	c->pools[row->pool].targets++;
	if (c->top_count < p->top_room) {
		c->top[c->top_count++] = t;
		if (c->top_count == p->top_room)
			for (size_t i = c->top_count; i-- > 0;)
				sink(c->top, c->top_count, i);
	} else if (p->top_room > 0 && is_before(&t, &c->top[0])) {
		c->top[0] = t;
		sink(c->top, c->top_count, 0);
	}
}

static int
by_worry(const void *a, const void *b)
{
	return is_before(a, b) ? -1 : is_before(b, a);
}

/* ---- the whole ---- */

/* Addresses that the pool names one by one are there though they are not in
 * use. What is by route is only known when it is. */
static void
add_idle_addresses(struct pass *p, unsigned id)
{
	const struct census_pool *pool = &p->census->pools[id];
	size_t place;

	for (unsigned i = 0; i < pool->definition->source_count; i++) {
		const struct pool_source *s = &pool->definition->sources[i];

		if (s->count != 1 ||
		    (addr_is_unspecified_ip(&s->first) && pool->held > 0))
			continue;
		if (!find_address(p, id, &s->first, &place)) {
			p->no_memory = true;
			return;
		}
	}
}

/* Totals of a pool, but for what its busy addresses do not have free. */
static void
sum_pool(struct census_pool *pool)
{
	const struct pool *d = pool->definition;

	for (unsigned i = 0; i < d->source_count; i++)
		pool->addresses += d->sources[i].count;
	if (d->by_kernel)
		return;
	pool->slots = pool->addresses * d->ports;
	pool->free = pool->addresses * (d->ports - pool->rested);
}

static int
by_place(const void *a, const void *b)
{
	const struct census_address *x = a, *y = b;
	int order;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->outside != y->outside)
		return x->outside ? 1 : -1;
	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	order = (int)x->ip.family - (int)y->ip.family;
	return order != 0 ? order : memcmp(x->ip.ip, y->ip.ip, 16);
}

static void
sum_up(struct pass *p)
{
	struct census *c = p->census;

	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		if (c->pools[id].definition == NULL)
			continue;
		sum_pool(&c->pools[id]);
		add_idle_addresses(p, id);
	}
	for (size_t i = 0; i < c->address_count; i++) {
		struct census_address *a = &c->addresses[i];
		uint64_t *free_slots = &c->pools[a->pool].free;

		if (a->slots == 0)
			continue;
		/* By route, several addresses have one address's slots. */
		a->free = a->slots - a->rested - a->busy;
		*free_slots -= *free_slots < a->busy ? *free_slots : a->busy;
	}
	if (c->address_count > 1)
		qsort(c->addresses, c->address_count, sizeof(*c->addresses),
		    by_place);
	if (c->top_count > 1)
		qsort(c->top, c->top_count, sizeof(*c->top), by_worry);
}

int
census_take(struct census *c, struct ledger *l, uint64_t now_ms, size_t top)
{
	struct pass *p = calloc(1, sizeof(*p));

	*c = (struct census){ 0 };
	if (p == NULL)
		return -ENOMEM;
	p->census = c;
	p->ledger = l;
	p->now_ms = now_ms;
	p->top_room = top;
	c->top = calloc(top + 1, sizeof(*c->top));
	p->no_memory =
	    c->top == NULL || resting_read(&p->resting, l, now_ms) != 0;
	if (!p->no_memory)
		read_pools(p);
	if (!p->no_memory)
		ledger_each_record(l, now_ms, on_record, p);
	if (!p->no_memory)
		ledger_each_target(l, on_target, p);
	if (!p->no_memory)
		sum_up(p);
	if (p->no_memory)
		census_fini(c);
	counts_fini(&p->cooling);
	counts_fini(&p->held_resting);
	counts_fini(&p->places);
	counts_fini(&p->ports);
	free(p);
	return c->top == NULL ? -ENOMEM : 0;
}

void
census_fini(struct census *c)
{
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++)
		free(c->pools[id].definition);
	free(c->addresses);
	free(c->top);
	*c = (struct census){ 0 };
}
