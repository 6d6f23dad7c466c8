/* SPDX-License-Identifier: ISC */
#include "egress/ledger_slab.h"

/* A shard that would keep at least so many free cells gives a chunk back:
 * enough that giving back and taking cannot take turns at each lease. */
#define KEEP_FREE 128

static uint16_t *
used_of(struct ledger *l, const struct slab *slab, uint32_t n)
{
	return (uint16_t *)ledger_at(l, slab->used_at) + n / LEDGER_CHUNK;
}

static void
push_free(struct ledger *l, const struct slab *slab, struct slab_part *part,
    uint32_t n)
{
	struct cell *c = ledger_cell(l, slab, n);

	c->next = part->free;
	c->prev = 0;
	if (part->free != 0)
		ledger_cell(l, slab, part->free)->prev = n;
	part->free = n;
	part->free_count++;
}

static void
unlink_free(struct ledger *l, const struct slab *slab, struct slab_part *part,
    uint32_t n)
{
	struct cell *c = ledger_cell(l, slab, n);

	if (c->prev != 0)
		ledger_cell(l, slab, c->prev)->next = c->next;
	else
		part->free = c->next;
	if (c->next != 0)
		ledger_cell(l, slab, c->next)->prev = c->prev;
	part->free_count--;
}

/* The low half of the hint; the high half counts what was given back, so that
 * nobody raises the hint over a chunk that he has not seen. */
static uint32_t
hint_chunk(uint64_t hint)
{
	return (uint32_t)hint;
}

static void
lower_hint(struct slab *slab, uint32_t chunk)
{
	uint64_t old = atomic_load(&slab->hint), new;

	do {
		new = ((old >> 32) + 1) << 32 |
		      (hint_chunk(old) < chunk ? hint_chunk(old) : chunk);
	} while (!atomic_compare_exchange_weak(&slab->hint, &old, new));
}

/* Makes the next chunk without an owner the shard's. */
static bool
claim_chunk(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	_Atomic uint8_t *owners = ledger_at(l, slab->owners_at);
	uint64_t hint = atomic_load(&slab->hint);
	uint32_t chunk = hint_chunk(hint);

	for (; chunk < slab->chunks; chunk++) {
		uint8_t nobody = 0;

		if (slab_owner(l, slab, chunk) < 0 &&
		    atomic_compare_exchange_strong(
			&owners[chunk], &nobody, (uint8_t)(shard + 1)))
			break;
	}
	if (chunk != hint_chunk(hint))
		atomic_compare_exchange_strong(
		    &slab->hint, &hint, (hint >> 32) << 32 | chunk);
	if (chunk == slab->chunks)
		return false;
	part->bump = chunk * LEDGER_CHUNK;
	part->bump_end = part->bump + LEDGER_CHUNK;
	if (part->bump == 0)
		part->bump = 1; /* 0 is none */
	return true;
}

uint32_t
slab_take(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	uint32_t n = part->free;

	if (n != 0)
		unlink_free(l, slab, part, n);
	else if (part->bump < part->bump_end ||
		 claim_chunk(l, slab, part, shard))
		n = part->bump++;
	else
		return 0;
	part->used++;
	(*used_of(l, slab, n))++;
	return n;
}

static void
give_back(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t chunk)
{
	_Atomic uint8_t *owners = ledger_at(l, slab->owners_at);
	uint32_t first = chunk * LEDGER_CHUNK;

	for (uint32_t i = first == 0 ? 1 : 0; i < LEDGER_CHUNK; i++)
		unlink_free(l, slab, part, first + i);
	atomic_store_explicit(&owners[chunk], 0, memory_order_release);
	lower_hint(slab, chunk);
}

/* A chunk whose cells are all on the free list, if the shard has enough. */
static void
give_back_if_spare(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t chunk)
{
	if (slab_used(l, slab, chunk) == 0 &&
	    part->free_count >= LEDGER_CHUNK + KEEP_FREE &&
	    (part->bump == part->bump_end ||
		(part->bump_end - 1) / LEDGER_CHUNK != chunk))
		give_back(l, slab, part, chunk);
}

void
slab_give(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n)
{
	uint16_t *used = used_of(l, slab, n);

	push_free(l, slab, part, n);
	must(*used > 0);
	part->used--;
	(*used)--;
	give_back_if_spare(l, slab, part, n / LEDGER_CHUNK);
}

void
slab_trim(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	for (uint32_t chunk = 0; chunk < slab->chunks; chunk++) {
		if (slab_owner(l, slab, chunk) == (int)shard)
			give_back_if_spare(l, slab, part, chunk);
	}
}

void
slab_reset(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	uint16_t *used = ledger_at(l, slab->used_at);

	*part = (struct slab_part){ 0 };
	lower_hint(slab, 0); /* the dead one may have been giving back */
	for (uint32_t i = 0; i < slab->chunks; i++) {
		if (slab_owner(l, slab, i) == (int)shard)
			used[i] = 0;
	}
}

void
slab_refill(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n)
{
	push_free(l, slab, part, n);
}

void
slab_count(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n)
{
	part->used++;
	(*used_of(l, slab, n))++;
}
