/* SPDX-License-Identifier: ISC */
/*
 * pool: the source addresses and ports of one [egress] section, and their
 * order. Slot 0, 1, 2 ... of a family are all ports of its first address, then
 * of the next one.
 *
 * A flat value without pointers: it is copied into the ledger's shared memory.
 * It knows nothing of what is taken.
 */
#ifndef FOURFOLD_POOL_H
#define FOURFOLD_POOL_H

#include "base/addr.h"

#define POOL_NAME_MAX    32
#define POOL_SOURCES_MAX 256
#define POOL_RANGES_MAX  256
/* What a prefix counts at most, so that slot numbers fit 32 bits. */
#define POOL_SLOTS_MAX UINT32_MAX

/* How a port is bound; DESIGN of the three ways is in outsock.h. */
enum pool_bind { POOL_RANGE, POOL_EXPLICIT, POOL_KERNEL };

/*
 * Consecutive source addresses of one family. The unspecified address stands
 * for "whatever address the route gives" and has a count of 1.
 */
struct pool_source {
	struct addr first; /* port 0 */
	uint32_t count;    /* addresses, at least 1 */
	uint32_t first_id; /* the ledger's id of `first`; set by the ledger */
};

/* In which order a target's fresh slots are taken. */
enum pool_order {
	POOL_PACKED, /* from the first port on, so that few ports are used */
	POOL_HASHED, /* the ports of each address permuted, by a key */
};

/* Whose sessions leave from the same source address while it has ports. */
enum pool_sticky { POOL_STICKY_NONE, POOL_STICKY_CLIENT, POOL_STICKY_USER };

#define POOL_COOLDOWN_AUTO UINT32_MAX

/* What becomes of the slots, besides where they are. Zero but for the cooldown
 * and the clients' bits: packed, not sticky, no limits. */
struct pool_rules {
	uint8_t order, sticky; /* enum pool_order, enum pool_sticky */
	uint8_t client_share;  /* percent of a target's slots; 0: no limit */
	uint8_t client_bits_v4, client_bits_v6; /* what makes one client */
	uint8_t users_limited;  /* some user has a share or a reserve */
	uint32_t cooldown_ms;   /* of a slot that we closed first */
	uint32_t reserved;      /* slots of a target, for users, in all */
	uint64_t users_version; /* a hash of the users' parts */
};

struct pool_range {
	uint16_t first, last; /* inclusive */
	uint8_t bind;         /* enum pool_bind */
};

struct pool {
	char name[POOL_NAME_MAX + 1];
	uint16_t source_count, range_count;
	uint32_t ports; /* in all ranges together */
	bool by_kernel; /* the kernel chooses the port; `ranges` are not used */
	struct pool_rules rules;
	struct pool_source sources[POOL_SOURCES_MAX];
	struct pool_range ranges[POOL_RANGES_MAX]; /* ascending, disjoint */
};

void pool_init(struct pool *p, const char *name);

/* -ENOSPC when the table is full, -EEXIST when an address is there already. */
MUST_USE int pool_add_source(struct pool *p, const struct prefix *addresses);

/*
 * Ports first..last, to be bound by `bind`. -ENOSPC, -EEXIST as above;
 * -EINVAL for port 0 or first > last.
 */
MUST_USE int pool_add_ports(
    struct pool *p, uint16_t first, uint16_t last, enum pool_bind bind);

/* Has it an address of the family? */
bool pool_has_family(const struct pool *p, enum addr_family family);

/* Slots of the family: what one target can be given at once. */
uint32_t pool_slots(const struct pool *p, enum addr_family family);

struct pool_slot {
	struct addr source; /* with the port */
	uint32_t source_id; /* of the address, for the ledger's records */
	enum pool_bind bind;
};

/* `slot` < pool_slots(). */
void pool_slot(const struct pool *p, enum addr_family family, uint32_t slot,
    struct pool_slot *out);

/* How many source addresses of the family have slots. */
uint32_t pool_addresses(const struct pool *p, enum addr_family family);

/*
 * The slot whose turn is `rank`th under `key`, and the reverse. In a packed
 * pool they are the same; in a hashed one the ports of each address are
 * permuted, differently for each key.
 */
uint32_t pool_slot_of_rank(const struct pool *p, uint64_t key, uint32_t rank);
uint32_t pool_rank_of_slot(const struct pool *p, uint64_t key, uint32_t slot);

/* The slot of a source ip:port. False when it is not in the pool. */
bool pool_find(const struct pool *p, const struct addr *source, uint32_t *slot);

/* Is `a` (its port aside) one of the addresses of `s`, and which? */
bool pool_source_contains(
    const struct pool_source *s, const struct addr *a, uint32_t *at);

/* The `n`th of them, without port. */
struct addr pool_source_address(const struct pool_source *s, uint32_t n);

/* Do two pools share an address and a port? By-route sources overlap with
 * every address of their family. */
bool pool_overlaps(const struct pool *a, const struct pool *b);

/* Do they bind one port by range and explicitly, on whatever addresses? Who
 * binds explicitly keeps a port from the others on all of them. */
bool pool_mixes_binds(
    const struct pool *a, const struct pool *b, uint16_t *port);

/* The same sources, ranges, ways to bind and rules? (The name aside.)
 */
bool pool_equal(const struct pool *a, const struct pool *b);

#endif
