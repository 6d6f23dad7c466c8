/* SPDX-License-Identifier: ISC */
#include <string.h>

#include <criterion/criterion.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "base/hash.h"

/* What another implementation makes of it. */
static uint64_t
reference(const uint64_t key[2], const uint64_t word[3])
{
	unsigned compress = 1, finish = 3;
	size_t size = sizeof(uint64_t), len;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
		OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_C_ROUNDS, &compress),
		OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_D_ROUNDS, &finish),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	uint64_t out = 0;

	cr_assert_not_null(ctx);
	cr_assert_eq(EVP_MAC_init(ctx, (const void *)key, 16, params), 1);
	cr_assert_eq(EVP_MAC_update(ctx, (const void *)word, 24), 1);
	cr_assert_eq(EVP_MAC_final(ctx, (void *)&out, &len, sizeof(out)), 1);
	cr_assert_eq(len, sizeof(out));
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
	return out;
}

Test(hash, is_siphash_1_3)
{
	uint64_t x = 1, key[2], word[3];

	for (unsigned i = 0; i < 1000; i++) {
		for (unsigned j = 0; j < 5; j++) {
			x = x * UINT64_C(6364136223846793005) + 99991;
			if (j < 2)
				key[j] = x;
			else
				word[j - 2] = i % 4 == 0 ? 0 : x;
		}
		cr_assert_eq(hash_words(key, word), reference(key, word));
	}
}

#define BUCKETS 4096

/* Addresses in a row, as they are in memory; a port or the rest in a row. */
static uint64_t
word_of(unsigned row, uint32_t i)
{
	return row == 0   ? __builtin_bswap32(UINT32_C(0x0a000000) + i)
	       : row == 1 ? (uint64_t)i << 32
			  : (uint64_t)__builtin_bswap32(i) << 32;
}

/* The fullest of as many buckets as there are words: by chance some 7. */
static unsigned
fullest(const uint64_t keys[HASH_SPREAD_KEYS], unsigned row)
{
	unsigned count[BUCKETS] = { 0 }, most = 0;

	for (uint32_t i = 0; i < BUCKETS; i++) {
		const uint64_t word[3] = { row == 0 ? word_of(0, i) : 7,
			row == 1 ? word_of(1, i) : 0,
			row == 2 ? word_of(2, i) : 9 };
		unsigned *c = &count[hash_spread(keys, word) % BUCKETS];

		if (++*c > most)
			most = *c;
	}
	return most;
}

Test(hash, spreads_what_is_in_a_row_under_any_key)
{
	uint64_t keys[HASH_SPREAD_KEYS];

	for (uint64_t i = 0; i < 300; i++) {
		hash_spread_keys((uint64_t[2]){ i, i * i }, keys);
		for (unsigned row = 0; row < 3; row++)
			cr_assert_leq(
			    fullest(keys, row), 14, "key %u", (unsigned)i);
	}
}
