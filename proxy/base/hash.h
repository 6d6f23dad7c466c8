/* SPDX-License-Identifier: ISC */
/*
 * hash: of three words, for tables whose keys strangers choose: who does not
 * know the key cannot choose the bucket. hash_words() is SipHash-1-3, for what
 * can be seen from outside too; hash_spread() only spreads, in a third of the
 * instructions.
 */
#ifndef FOURFOLD_HASH_H
#define FOURFOLD_HASH_H

#include "base/base.h"

static inline uint64_t
hash_rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline void
hash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = hash_rotate(v[1], 13) ^ v[0];
	v[0] = hash_rotate(v[0], 32);
	v[2] += v[3];
	v[3] = hash_rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = hash_rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = hash_rotate(v[1], 17) ^ v[2];
	v[2] = hash_rotate(v[2], 32);
}

static inline uint64_t
hash_words(const uint64_t key[2], const uint64_t word[3])
{
	uint64_t v[4] = { key[0] ^ UINT64_C(0x736f6d6570736575),
		key[1] ^ UINT64_C(0x646f72616e646f6d),
		key[0] ^ UINT64_C(0x6c7967656e657261),
		key[1] ^ UINT64_C(0x7465646279746573) };
	uint64_t length = UINT64_C(24) << 56;

	for (int i = 0; i < 3; i++) {
		v[3] ^= word[i];
		hash_round(v);
		v[0] ^= word[i];
	}
	v[3] ^= length;
	hash_round(v);
	v[0] ^= length;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Each bit of the result depends on all of `z` (finalizer of splitmix64). */
static inline uint64_t
hash_mix(uint64_t z)
{
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#define HASH_SPREAD_KEYS 7

/* Its keys, of one secret; hash_words() with a third word of 1 is theirs. */
static inline void
hash_spread_keys(const uint64_t key[2], uint64_t out[HASH_SPREAD_KEYS])
{
	for (uint64_t i = 0; i < HASH_SPREAD_KEYS; i++)
		out[i] = hash_words(key, (uint64_t[3]){ i, 0, 1 });
}

/*
 * Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is
 * fast", 2012): whatever two different keys are, without the numbers in `keys`
 * nobody does better than chance at making them equal. Of keys in a row the
 * sums are in a row too, so they are mixed in the end.
 */
static inline uint64_t
hash_spread(const uint64_t keys[HASH_SPREAD_KEYS], const uint64_t word[3])
{
	uint64_t sum = keys[0];

	for (unsigned i = 0; i < 3; i++) {
		sum += keys[2 * i + 1] * (uint32_t)word[i];
		sum += keys[2 * i + 2] * (word[i] >> 32);
	}
	return hash_mix(sum);
}

#endif
