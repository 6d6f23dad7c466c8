/* SPDX-License-Identifier: ISC */
/*
 * counts: numbers by key: an open hash table from 64 bits, not 0, to 32. It
 * grows and never shrinks; without memory it says so and stays as it is.
 */
#ifndef FOURFOLD_COUNTS_H
#define FOURFOLD_COUNTS_H

#include "base/base.h"

struct counts_entry {
	uint64_t key; /* 0: free */
	uint32_t value;
};

struct counts {
	struct counts_entry *entries;
	size_t room, used; /* room is a power of two, or 0 */
};

/* All zero is an empty table. */
void counts_fini(struct counts *c);

/* The number of `key`, 0 where it is new; valid until the next call. NULL:
 * there is no memory. */
uint32_t *counts_at(struct counts *c, uint64_t key);

/* 0 where there is none. */
uint32_t counts_get(const struct counts *c, uint64_t key);

/* Spreads the bits of a number. */
static inline uint64_t
counts_mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

#endif
