/* SPDX-License-Identifier: ISC */
/*
 * ledger_slab: the ledger's arrays of cells, handed to the shards in chunks.
 * The owner byte of a chunk is the truth of whose it is; a shard's list of free
 * cells is derived. A shard changes only cells and counts of its own chunks,
 * under its lock.
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

/* Forgets the lists of `part`: what follows is a slab_refill() for each free
 * and a slab_count() for each used cell of the shard. */
void slab_reset(struct ledger *l, struct slab *slab, struct slab_part *part,
    unsigned shard);
void slab_refill(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n);
void slab_count(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n);

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

/* How many cells of a chunk are used. Under the lock of its owner. */
static inline uint32_t
slab_used(struct ledger *l, const struct slab *slab, uint32_t chunk)
{
	return ((uint16_t *)ledger_at(l, slab->used_at))[chunk];
}

#endif
