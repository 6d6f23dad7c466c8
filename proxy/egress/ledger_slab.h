/* SPDX-License-Identifier: ISC */
/*
 * ledger_slab: the ledger's arrays of cells, handed to the shards in chunks.
 * The owner byte of a chunk is the truth of whose it is; which cells are free
 * is derived. A shard changes only its own chunks, under its lock. It takes the
 * cells of a chunk in order: neighbours in time are neighbours in memory.
 */
#ifndef FOURFOLD_LEDGER_SLAB_H
#define FOURFOLD_LEDGER_SLAB_H

#include "egress/ledger_layout.h"

/* A cell, or 0 when neither the shard nor the slab has any. */
uint32_t slab_take(struct ledger *l, struct slab *slab, struct slab_part *part,
    unsigned shard);

/* Its state says already that cell `n` is free. */
void slab_give(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n);

/* Forgets what is free: what follows is a slab_refill() for each free and a
 * slab_count() for each used cell of the shard. */
void slab_reset(struct ledger *l, struct slab *slab, struct slab_part *part,
    unsigned shard);
void slab_refill(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n);
void slab_count(struct slab_part *part);

/* Gives chunks without a used cell back. */
void slab_trim(struct ledger *l, struct slab *slab, struct slab_part *part,
    unsigned shard);

/* Whose is chunk `chunk`: the shard's number, or -1. */
static inline int
slab_owner(struct ledger *l, const struct slab *slab, uint32_t chunk)
{
	_Atomic uint8_t *owners = ledger_at(l, slab->owners_at);

	return (int)atomic_load_explicit(&owners[chunk], memory_order_acquire) -
	       1;
}

static inline struct chunk *
slab_chunk(struct ledger *l, const struct slab *slab, uint32_t number)
{
	return (struct chunk *)ledger_at(l, slab->chunks_at) + number;
}

/* Is the cell free? Under the lock of its owner. */
static inline bool
slab_is_free(struct ledger *l, const struct slab *slab, uint32_t n)
{
	const struct chunk *c = slab_chunk(l, slab, n / LEDGER_CHUNK);

	return (c->free[n % LEDGER_CHUNK / 64] >> n % 64 & 1) != 0;
}

#endif
