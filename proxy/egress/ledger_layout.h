/* SPDX-License-Identifier: ISC */
/*
 * ledger_layout: the shared block of the ledger, byte by byte, and the lists in
 * it. Included by the ledger's own files and their tests only.
 *
 * header (with shards) | pools | source addresses | users | resting ports |
 * owners of the chunks, what is free in them | hash buckets | targets | records
 * | extras
 *
 * Records, targets and extras are cells of 64 bytes, named by their number in
 * their array; 0 is none. What is truth: a record's `state` with the fields it
 * makes valid, a target's `word` with its `ip`, an extra that waits with what
 * it waits for, the owners of the chunks, and the tables of pools, addresses,
 * users and resting ports. Everything else is derived and made anew by
 * shard_rebuild().
 */
#ifndef FOURFOLD_LEDGER_LAYOUT_H
#define FOURFOLD_LEDGER_LAYOUT_H

#include <stdatomic.h>

#include "base/hash.h"
#include "base/robust.h"
#include "egress/ledger.h"

#define LEDGER_SHARDS      64
#define LEDGER_CHUNK       256   /* cells handed to a shard at once */
#define LEDGER_ADDRESSES   16384 /* entries of the table of sources */
#define LEDGER_NAMED       1024  /* entries of the table of named sources */
#define LEDGER_PORT_COUNT  65536
#define LEDGER_CELL        64
#define LEDGER_EMPTY_LEASE UINT32_MAX

/* Every cell begins with its links. */
struct cell {
	uint32_t next, prev;
};

enum record_state {
	RECORD_FREE, /* must be 0: fresh memory is free */
	RECORD_HELD,
	RECORD_STRAY, /* held, is no slot of the pool: freed when returned */
	RECORD_HOT,
	RECORD_BRIEF, /* cooling, the list of short times as a rule */
	RECORD_LONG,  /* cooling, the list of long times as a rule */
	RECORD_STATES
};

struct record {
	struct cell link;   /* on the free list, or on one of its target's */
	uint32_t target;    /* valid unless free */
	uint32_t skip_next; /* on its target's chain `skip` */
	uint32_t source_id; /* of the slot's address */
	uint32_t gen;       /* grows with each lease: tells old leases */
	uint64_t session;   /* held: whose */
	uint64_t client[2]; /* IPv4 as ::ffff:a.b.c.d; zeros: none */
	/* Low 48 bits: held since, or cooling until, in ms. High 16: place + 1
	 * of the source that was named, in the table of named sources. */
	uint64_t when_named;
	uint16_t client_port, port, user;
	uint8_t worker;        /* cooling: 0: for no client or user */
	_Atomic uint8_t state; /* enum record_state */
};
_Static_assert(sizeof(struct record) == LEDGER_CELL, "a record is a cell");

/* struct target.word: the rest of the key, and what is known of it. */
#define TARGET_PORT_SHIFT 32
#define TARGET_POOL_SHIFT 48
#define TARGET_USED       (UINT64_C(1) << 54) /* 0 in a free cell */
#define TARGET_V6         (UINT64_C(1) << 55)
#define TARGET_KEY        ((UINT64_C(1) << 56) - 1)
/* It may be a source of ours: held leases are listed, for the reverse look. */
#define TARGET_MIRRORED (UINT64_C(1) << 56)
/* It has a desk: derived. */
#define TARGET_DESK (UINT64_C(1) << 57)
/* A lease was not to be had since somebody last asked; for alarms only. */
#define TARGET_WAS_FULL (UINT64_C(1) << 58)
/* It has a place among its shard's spare ones, number link.prev: derived. */
#define TARGET_PLACED (UINT64_C(1) << 59)
/* It is a spare one, at its place: derived. */
#define TARGET_SPARE (UINT64_C(1) << 60)

enum lane_list { LIST_HOT, LIST_BRIEF, LIST_LONG, LIST_COUNT };

/*
 * Slots in order, and what is free of them: all of a target's, or, where the
 * pool is sticky, those of one source address towards it. A slot's number is
 * its rank, in the order in which fresh ones are taken.
 */
struct lane {
	uint32_t fresh; /* slots from here on have no record, save those on the
			   chain `skip`; before it all have but those passed
			   over while their port rested */
	uint32_t skip;  /* records of slots >= fresh, in order */
	uint32_t list[LIST_COUNT]; /* heads of rings; cooling ones by time */
};

struct target {
	/*
	 * Idle (nothing held, nobody waits): on the shard's ring `idle`, or
	 * spare when nothing cools either, or, when it has a desk, that is on
	 * `idle_desks`. Else, and if mirrored, link.next is the head of the
	 * ring of held records. With a desk: link.prev is that; with a place:
	 * link.prev is its number.
	 */
	struct cell link;
	uint64_t ip[2];
	_Atomic uint64_t word;     /* scope 32, port 16, pool 6, flags */
	uint32_t chain;            /* next of the hash bucket */
	struct lane lane;          /* not used in a sticky pool */
	uint32_t held, high_water; /* now, and the most at once */
};
_Static_assert(sizeof(struct target) == LEDGER_CELL, "a target is a cell");

enum extra_state {
	EXTRA_FREE,    /* must be 0: fresh memory is free */
	EXTRA_WAITING, /* somebody waits for a slot: in its target's queue */
	EXTRA_GRANTED, /* `record` is held for it: in no queue any more */
	EXTRA_DESK,    /* what a target has besides its slots */
	EXTRA_LANE,    /* the slots of one source address towards a target */
	EXTRA_CLIENT,  /* how much one client uses towards a target */
	EXTRA_USER,    /* how much one user uses towards a target */
	/* Those of one client or user who wait: they have one turn. */
	EXTRA_CLIENT_TURN,
	EXTRA_USER_TURN,
};

/*
 * What only some targets need. Waiting and granted ones are truth, the others
 * are derived. Lanes, counts and turns are found by a hash of target, state and
 * key.
 */
struct extra {
	/* Desk: on `waited` or `idle_desks`; waiting: on its turn's ring; the
	 * others: on the desk's ring of them. */
	struct cell link;
	uint32_t chain; /* next of the hash bucket */
	uint32_t target;
	/* Lane: the source's id. User: its id. Client, waiting: the address,
	 * IPv4 as ::ffff:a.b.c.d, zeros: none; unless waiting cut to the
	 * prefix. Desk: key[0] is the time at which all lanes have cooled,
	 * key[1] how many slots cool for a client or user. */
	uint64_t key[2];
	union {
		struct {
			uint32_t turns; /* ring: whose turn is next comes first
					 */
			uint32_t turn_count;
			uint32_t waiting; /* in the queue */
			uint32_t lanes, counts;
			uint32_t covered; /* of the pool's reserves: used */
		} desk;
		struct lane lane;
		struct {
			uint32_t used;    /* held, or cooling since */
			uint32_t reserve; /* of a user: see ledger_user */
		} count;
		struct {
			uint32_t waiting; /* ring, oldest first */
			uint32_t count;   /* of those on it */
		} turn;
		struct {
			uint64_t session;
			uint32_t gen; /* in order of arrival */
			/* Granted: with its gen. 0: another one has the place
			 * in the queue. */
			uint32_t record;
			uint32_t record_gen;
		} wait;
	};
	uint16_t client_port, user;
	uint8_t worker;
	_Atomic uint8_t state; /* enum extra_state */
};
_Static_assert(sizeof(struct extra) == LEDGER_CELL, "an extra is a cell");

/* What is known of a user's part; written by the master alone. */
struct ledger_user {
	uint32_t reserve;
	uint32_t share; /* percent; 0: no limit */
};

/* One of the arrays of cells. */
struct slab {
	uint64_t cells_at, owners_at, chunks_at; /* offsets in the block */
	uint32_t chunks;
	_Atomic uint64_t hint; /* no free chunk is before this one */
};

#define CHUNK_WORDS (LEDGER_CHUNK / 64)

/* Derived. */
struct chunk {
	uint64_t free[CHUNK_WORDS]; /* bit of each cell: it is free */
	uint32_t next, prev; /* of its shard's that have a free cell: number + 1
			      */
};

/* A shard's part of a slab. */
struct slab_part {
	uint32_t open; /* its chunks that have a free cell: the first one's
			  number + 1 */
	uint32_t free_count; /* cells */
	uint32_t used;
};

/*
 * Targets that could end, but many come back soon: a few are kept. Who comes
 * back keeps the place while in use, until it is needed: to come and go then
 * touches nothing but the target.
 */
#define LEDGER_SPARES 192

struct spares {
	uint64_t used[LEDGER_SPARES / 64]; /* bit of each place */
	uint32_t hand; /* goes round: whose place is needed next */
	uint32_t target[LEDGER_SPARES]; /* where used */
};

/* What each lease and return looks at comes first: the fewer lines of the
 * cache, the quicker two processes hand them to each other. */
struct shard {
	_Alignas(64) pthread_mutex_t mutex;
	uint64_t epoch;   /* of the pools that the entries are made for */
	uint64_t pick;    /* bit: which copy of the pool that is */
	uint64_t present; /* bit: there is such a pool */

	uint32_t count[RECORD_STATES]; /* records in each state but free */
	uint32_t idle;       /* ring of targets that are idle, oldest first */
	uint32_t idle_desks; /* the same of those with a desk: of the desks */
	uint32_t dying; /* records of ended targets, still to be freed: chain of
			   targets */
	/* Somebody waits in this shard; also read without the lock. */
	_Atomic uint32_t waiting;

	struct slab_part records, targets, extras;
	uint32_t waited;       /* ring of desks with a queue */
	uint32_t rotor;        /* which source a by-kernel lease takes next */
	uint64_t passed_until; /* from then on slots that were passed over can
				  be had; 0: none were */
	uint32_t next_gen;     /* of those who wait; not derived */
	uint64_t rebuilds;     /* after a death; not derived */
	struct spares spares;
};

/* A pool's definition. Two copies: a shard that is still at an older epoch
 * uses the older one. */
struct pool_place {
	_Atomic uint64_t since[2]; /* epoch; 0: none; UINT64_MAX: being written
				    */
	struct pool copy[2];
};

struct ledger {
	uint64_t bytes;
	uint64_t key[2], order_key[2];
	uint64_t place_keys[HASH_SPREAD_KEYS];
	struct slab records, targets, extras;
	uint64_t pools_at, addresses_at, named_at, rest_at, users_at;
	uint64_t buckets_at, extra_buckets_at;
	uint64_t ports_at;    /* bit of each port: it was in a pool once */
	uint32_t bucket_mask; /* a shard has so many buckets, less one */
	uint32_t extra_bucket_mask;
	_Atomic uint32_t address_count, named_count;
	_Atomic uint64_t epoch;       /* grows with each change of a pool */
	_Atomic uint64_t rest_until;  /* no port rests from here on */
	_Atomic uint64_t reusable_ms; /* how long LEDGER_REUSABLE cools */
	/* A worker was granted something and has not looked since; who of them
	 * is still to be told. */
	_Atomic uint8_t mail[LEDGER_WORKERS_MAX + 1];
	_Atomic uint64_t wakes[LEDGER_WAKE_WORDS];
	pthread_mutex_t named_mutex;
	struct shard shards[LEDGER_SHARDS];
};

static inline void *
ledger_at(struct ledger *l, uint64_t offset)
{
	return (char *)l + offset;
}

static inline struct record *
ledger_record(struct ledger *l, uint32_t n)
{
	return (struct record *)ledger_at(l, l->records.cells_at) + n;
}

static inline struct target *
ledger_target_at(struct ledger *l, uint32_t n)
{
	return (struct target *)ledger_at(l, l->targets.cells_at) + n;
}

static inline struct extra *
ledger_extra(struct ledger *l, uint32_t n)
{
	return (struct extra *)ledger_at(l, l->extras.cells_at) + n;
}

static inline struct cell *
ledger_cell(struct ledger *l, const struct slab *slab, uint32_t n)
{
	return ledger_at(l, slab->cells_at + (uint64_t)n * LEDGER_CELL);
}

static inline uint8_t
record_state(const struct record *r)
{
	return atomic_load_explicit(&r->state, memory_order_relaxed);
}

/*
 * The last store of an entry and the first of an exit: whoever finds the
 * memory of a process killed at any instruction finds it true. What is stored
 * before is not moved behind it, nor what comes after before it.
 */
static inline void
record_enter(struct shard *s, struct record *r, enum record_state to)
{
	s->count[record_state(r)]--;
	s->count[to]++;
	atomic_store_explicit(&r->state, (uint8_t)to, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline uint8_t
extra_state(const struct extra *e)
{
	return atomic_load_explicit(&e->state, memory_order_relaxed);
}

static inline void
extra_enter(struct extra *e, enum extra_state to)
{
	atomic_store_explicit(&e->state, (uint8_t)to, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

#define RECORD_WHEN_MASK ((UINT64_C(1) << 48) - 1)

static inline uint64_t
record_when(const struct record *r)
{
	return r->when_named & RECORD_WHEN_MASK;
}

static inline void
record_set_when(struct record *r, uint64_t ms)
{
	r->when_named =
	    (r->when_named & ~RECORD_WHEN_MASK) | (ms & RECORD_WHEN_MASK);
}

static inline unsigned
record_named(const struct record *r)
{
	return (unsigned)(r->when_named >> 48);
}

static inline uint64_t
target_word(const struct target *t)
{
	return atomic_load_explicit(&t->word, memory_order_relaxed);
}

static inline enum addr_family
target_family(const struct target *t)
{
	return target_word(t) & TARGET_V6 ? ADDR_V6 : ADDR_V4;
}

static inline unsigned
target_pool(const struct target *t)
{
	return (target_word(t) >> TARGET_POOL_SHIFT) & (LEDGER_POOLS_MAX - 1);
}

static inline bool
target_is_used(const struct target *t)
{
	return (target_word(t) & TARGET_USED) != 0;
}

static inline bool
target_mirrored(const struct target *t)
{
	return (target_word(t) & TARGET_MIRRORED) != 0;
}

static inline void
target_flag(struct target *t, uint64_t flag, bool on)
{
	uint64_t word = target_word(t);

	atomic_store_explicit(
	    &t->word, on ? word | flag : word & ~flag, memory_order_relaxed);
}

/* The cell of the target's desk, or 0. */
static inline uint32_t
target_desk(const struct target *t)
{
	return target_word(t) & TARGET_DESK ? t->link.prev : 0;
}

/* Rings: doubly linked circles of cells of `slab`; the head is the first. */
static inline void
ring_append(
    struct ledger *l, const struct slab *slab, uint32_t *head, uint32_t n)
{
	struct cell *c = ledger_cell(l, slab, n);
	struct cell *first;

	if (*head == 0) {
		c->next = c->prev = n;
		*head = n;
		return;
	}
	first = ledger_cell(l, slab, *head);
	c->next = *head;
	c->prev = first->prev;
	ledger_cell(l, slab, first->prev)->next = n;
	first->prev = n;
}

static inline void
ring_remove(
    struct ledger *l, const struct slab *slab, uint32_t *head, uint32_t n)
{
	struct cell *c = ledger_cell(l, slab, n);

	if (c->next == n) {
		must(*head == n);
		*head = 0;
		return;
	}
	ledger_cell(l, slab, c->prev)->next = c->next;
	ledger_cell(l, slab, c->next)->prev = c->prev;
	if (*head == n)
		*head = c->next;
}

#endif
