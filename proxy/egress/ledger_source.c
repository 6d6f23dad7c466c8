/* SPDX-License-Identifier: ISC */
#include "egress/ledger_source.h"

#include <errno.h>

/* The first id; 0 is none. */
#define FIRST_ID 1

static struct pool_source *
entries_of(struct ledger *l)
{
	return ledger_at(l, l->addresses_at);
}

struct addr
source_of_id(struct ledger *l, uint32_t id)
{
	const struct pool_source *e = entries_of(l);
	uint32_t low = 0, high = atomic_load_explicit(
			      &l->address_count, memory_order_acquire);

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (e[middle].first_id <= id)
			low = middle;
		else
			high = middle;
	}
	must(high > low && id >= e[low].first_id);
	return pool_source_address(&e[low], id - e[low].first_id);
}

uint32_t
source_ids(const struct pool *p, const struct pool_source *s)
{
	uint64_t most = p->by_kernel || p->ports == 0
			    ? s->count
			    : (uint64_t)POOL_SLOTS_MAX / p->ports + 1;

	return s->count < most ? s->count : (uint32_t)most;
}

/* A place of at least `count` ids for the address, that is there already. */
static bool
find_entry(struct ledger *l, const struct addr *first, uint32_t count,
    uint32_t *first_id)
{
	const struct pool_source *e = entries_of(l);

	for (uint32_t i = 0; i < atomic_load(&l->address_count); i++) {
		if (e[i].count >= count && addr_equal(&e[i].first, first)) {
			*first_id = e[i].first_id;
			return true;
		}
	}
	return false;
}

static int
add_entry(struct ledger *l, const struct addr *first, uint32_t count,
    uint32_t *first_id)
{
	struct pool_source *e = entries_of(l);
	uint32_t n = atomic_load(&l->address_count);
	uint64_t id =
	    n == 0 ? FIRST_ID : (uint64_t)e[n - 1].first_id + e[n - 1].count;

	if (n == LEDGER_ADDRESSES || id + count > UINT32_MAX)
		return -ENOSPC;
	e[n] = (struct pool_source){
		.first = *first, .count = count, .first_id = (uint32_t)id
	};
	atomic_store_explicit(&l->address_count, n + 1, memory_order_release);
	*first_id = (uint32_t)id;
	return 0;
}

static _Atomic uint64_t *
port_word(struct ledger *l, unsigned port)
{
	return (_Atomic uint64_t *)ledger_at(l, l->ports_at) + port / 64;
}

static void
note_ports(struct ledger *l, const struct pool *p)
{
	for (unsigned i = 0; i < p->range_count && !p->by_kernel; i++) {
		for (unsigned port = p->ranges[i].first;
		     port <= p->ranges[i].last; port++)
			atomic_fetch_or(
			    port_word(l, port), UINT64_C(1) << port % 64);
	}
}

static bool
port_was_known(struct ledger *l, uint16_t port)
{
	uint64_t word =
	    atomic_load_explicit(port_word(l, port), memory_order_relaxed);

	return (word >> port % 64 & 1) != 0;
}

int
source_name_pool(struct ledger *l, struct pool *p)
{
	int error = 0;

	for (unsigned i = 0; i < p->source_count && error == 0; i++) {
		struct pool_source *s = &p->sources[i];
		uint32_t count = source_ids(p, s);

		if (!find_entry(l, &s->first, count, &s->first_id))
			error = add_entry(l, &s->first, count, &s->first_id);
	}
	if (error == 0)
		note_ports(l, p);
	return error;
}

bool
source_was_known(struct ledger *l, const struct addr *source)
{
	const struct pool_source *e = entries_of(l);
	uint32_t at, count;

	if (!port_was_known(l, source->port))
		return false;
	count = atomic_load_explicit(&l->address_count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++) {
		if (e[i].first.family == source->family &&
		    (addr_is_unspecified_ip(&e[i].first) ||
			pool_source_contains(&e[i], source, &at)))
			return true;
	}
	return false;
}

static struct addr *
named_of(struct ledger *l)
{
	return ledger_at(l, l->named_at);
}

struct addr
source_named(struct ledger *l, const struct record *r)
{
	struct addr a = record_named(r) != 0 ? named_of(l)[record_named(r) - 1]
					     : source_of_id(l, r->source_id);

	a.port = r->port;
	return a;
}

static unsigned
find_named(struct ledger *l, const struct addr *ip)
{
	const struct addr *named = named_of(l);
	uint32_t count = atomic_load(&l->named_count);

	for (uint32_t i = 0; i < count; i++) {
		if (addr_equal_ip(&named[i], ip))
			return i + 1;
	}
	return 0;
}

unsigned
source_intern(struct ledger *l, const struct addr *ip)
{
	unsigned place = find_named(l, ip);
	uint32_t n;
	int error;

	if (place != 0)
		return place;
	error = robust_lock(&l->named_mutex);
	must(error == 0 || error == EOWNERDEAD);
	if (error == EOWNERDEAD) /* an entry counts only when it is whole */
		robust_mended(&l->named_mutex);
	place = find_named(l, ip);
	n = atomic_load(&l->named_count);
	if (place == 0 && n < LEDGER_NAMED) {
		named_of(l)[n] = *ip;
		named_of(l)[n].port = 0;
		atomic_store_explicit(
		    &l->named_count, n + 1, memory_order_release);
		place = n + 1;
	}
	robust_unlock(&l->named_mutex);
	return place;
}

bool
slot_covering(const struct pool *p, const struct addr *source, uint32_t *slot)
{
	struct addr any = { .family = source->family, .port = source->port };

	return pool_find(p, source, slot) || pool_find(p, &any, slot);
}
