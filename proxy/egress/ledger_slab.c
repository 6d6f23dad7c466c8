/* SPDX-License-Identifier: ISC */
#include "egress/ledger_slab.h"

/* A shard that would keep at least so many free cells gives a chunk back:
 * enough that giving back and taking cannot take turns at each lease. */
#define KEEP_FREE 128

/* The first free cell of a chunk, counted in it; LEDGER_CHUNK: none is. */
static uint32_t
first_free(const struct chunk *c)
{
	for (unsigned i = 0; i < CHUNK_WORDS; i++) {
		if (c->free[i] != 0)
			return i * 64 + (uint32_t)__builtin_ctzll(c->free[i]);
	}
	return LEDGER_CHUNK;
}

/* ---- the shard's list of chunks with free cells ---- */

static void
open_chunk(struct ledger *l, const struct slab *slab, struct slab_part *part,
    uint32_t number)
{
	struct chunk *c = slab_chunk(l, slab, number);

	c->next = part->open;
	c->prev = 0;
	if (part->open != 0)
		slab_chunk(l, slab, part->open - 1)->prev = number + 1;
	part->open = number + 1;
}

static void
close_chunk(struct ledger *l, const struct slab *slab, struct slab_part *part,
    uint32_t number)
{
	struct chunk *c = slab_chunk(l, slab, number);

	if (c->prev != 0)
		slab_chunk(l, slab, c->prev - 1)->next = c->next;
	else
		part->open = c->next;
	if (c->next != 0)
		slab_chunk(l, slab, c->next - 1)->prev = c->prev;
}

/* ---- chunks without an owner ---- */

/* The low half of the hint; the high half counts what was given back, so that
 * nobody raises the hint over a chunk that he has not seen. */
static uint32_t
hint_chunk(uint64_t hint)
{
	return (uint32_t)hint;
}

static void
lower_hint(struct slab *slab, uint32_t number)
{
	uint64_t old = atomic_load(&slab->hint), new;

	do {
		new = ((old >> 32) + 1) << 32 |
		      (hint_chunk(old) < number ? hint_chunk(old) : number);
	} while (!atomic_compare_exchange_weak(&slab->hint, &old, new));
}

/* All cells of a chunk, as bits of its words. Cell 0 is none. */
static uint64_t
all_of(uint32_t number, unsigned word)
{
	return number == 0 && word == 0 ? ~UINT64_C(1) : UINT64_MAX;
}

static bool
is_all_free(struct ledger *l, const struct slab *slab, uint32_t number)
{
	const struct chunk *c = slab_chunk(l, slab, number);

	for (unsigned i = 0; i < CHUNK_WORDS; i++) {
		if (c->free[i] != all_of(number, i))
			return false;
	}
	return true;
}

/* Makes the next chunk without an owner the shard's. */
static bool
claim_chunk(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	_Atomic uint8_t *owners = ledger_at(l, slab->owners_at);
	uint64_t hint = atomic_load(&slab->hint);
	uint32_t number = hint_chunk(hint);

	for (; number < slab->chunks; number++) {
		uint8_t nobody = 0;

		if (slab_owner(l, slab, number) < 0 &&
		    atomic_compare_exchange_strong(
			&owners[number], &nobody, (uint8_t)(shard + 1)))
			break;
	}
	if (number != hint_chunk(hint))
		atomic_compare_exchange_strong(
		    &slab->hint, &hint, (hint >> 32) << 32 | number);
	if (number == slab->chunks)
		return false;
	for (unsigned i = 0; i < CHUNK_WORDS; i++)
		slab_chunk(l, slab, number)->free[i] = all_of(number, i);
	part->free_count += LEDGER_CHUNK - (number == 0);
	open_chunk(l, slab, part, number);
	return true;
}

/* A chunk whose cells are all free, if the shard has enough. */
static void
give_back_if_spare(struct ledger *l, struct slab *slab, struct slab_part *part,
    uint32_t number)
{
	_Atomic uint8_t *owners = ledger_at(l, slab->owners_at);

	if (part->free_count < LEDGER_CHUNK + KEEP_FREE ||
	    !is_all_free(l, slab, number))
		return;
	close_chunk(l, slab, part, number);
	part->free_count -= LEDGER_CHUNK - (number == 0);
	atomic_store_explicit(&owners[number], 0, memory_order_release);
	lower_hint(slab, number);
}

/* ---- cells ---- */

uint32_t
slab_take(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	struct chunk *c;
	uint32_t first, n, next;

	if (part->open == 0 && !claim_chunk(l, slab, part, shard))
		return 0;
	c = slab_chunk(l, slab, part->open - 1);
	first = (part->open - 1) * LEDGER_CHUNK;
	n = first_free(c);
	c->free[n / 64] &= c->free[n / 64] - 1;
	next = first_free(c);
	if (next == LEDGER_CHUNK)
		close_chunk(l, slab, part, part->open - 1);
	else /* so that it is in the cache when it is asked for */
		__builtin_prefetch(ledger_cell(l, slab, first + next), 1);
	part->free_count--;
	part->used++;
	return first + n;
}

void
slab_refill(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n)
{
	struct chunk *c = slab_chunk(l, slab, n / LEDGER_CHUNK);
	uint64_t *word = &c->free[n % LEDGER_CHUNK / 64];
	uint64_t bit = UINT64_C(1) << n % 64;

	must((*word & bit) == 0);
	if (first_free(c) == LEDGER_CHUNK)
		open_chunk(l, slab, part, n / LEDGER_CHUNK);
	*word |= bit;
	part->free_count++;
}

void
slab_give(
    struct ledger *l, struct slab *slab, struct slab_part *part, uint32_t n)
{
	slab_refill(l, slab, part, n);
	part->used--;
	give_back_if_spare(l, slab, part, n / LEDGER_CHUNK);
}

void
slab_trim(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	for (uint32_t i = 0; i < slab->chunks; i++) {
		if (slab_owner(l, slab, i) == (int)shard)
			give_back_if_spare(l, slab, part, i);
	}
}

/* ---- after a death ---- */

void
slab_reset(
    struct ledger *l, struct slab *slab, struct slab_part *part, unsigned shard)
{
	*part = (struct slab_part){ 0 };
	lower_hint(slab, 0); /* the dead one may have been giving back */
	for (uint32_t i = 0; i < slab->chunks; i++) {
		if (slab_owner(l, slab, i) == (int)shard)
			*slab_chunk(l, slab, i) = (struct chunk){ 0 };
	}
}

void
slab_count(struct slab_part *part)
{
	part->used++;
}
