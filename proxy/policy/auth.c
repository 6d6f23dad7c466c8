/* SPDX-License-Identifier: ISC */
#include "policy/auth.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define PREFIX "$scrypt$"

/* What new hashes get, and what a user who does not exist costs. */
#define DEFAULT_LN 14
#define DEFAULT_R  8
#define DEFAULT_P  1

#define SALT_BYTES_MIN 4
#define KEY_BYTES_MIN  16 /* a short key would match by luck */
#define KEY_BYTES      32
#define FIELD_BYTES    64 /* salt or key, at most */

/* 128 r N p: bounds the memory (128 r N) and the time together ... */
#define COST_MAX (256U * 1024 * 1024)
/* ... and r p what else is needed: 128 r (p + 2). RFC 7914 has r p = 8. */
#define BLOCKS_MAX 1024U

/* N = 2^ln, r and p as in RFC 7914 section 2. */
struct scrypt {
	unsigned ln, r, p;
	uint8_t salt[FIELD_BYTES], key[FIELD_BYTES];
	size_t salt_len, key_len;
};

static bool
cost_is_fine(const struct scrypt *s)
{
	if (s->ln < 1 || s->ln > 31 || s->r < 1 || s->r > BLOCKS_MAX ||
	    s->p < 1 || s->p > BLOCKS_MAX / s->r)
		return false;
	/* RFC 7914: N < 2^(128 r / 8); the limit below sees to r > 1. */
	if (s->r == 1 && s->ln >= 16)
		return false;
	return (UINT64_C(128) << s->ln) * s->r * s->p <= COST_MAX;
}

/* `out` has twice the bytes: 4/3 of them, padding and a NUL fit. */
static size_t
encode(const uint8_t *bytes, size_t len, char *out)
{
	int n = EVP_EncodeBlock((uint8_t *)out, bytes, (int)len);

	while (n > 0 && out[n - 1] == '=')
		n--;
	out[n] = '\0';
	return (size_t)n;
}

static int
value_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c == '\0' ? NULL : strchr(digits, c);

	return at == NULL ? -1 : (int)(at - digits);
}

/*
 * Strict, so that a key has one spelling: no padding, no blanks, and the bits
 * left over are zero. False when it is not that or longer than FIELD_BYTES.
 */
static bool
decode(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
	unsigned bits = 0, held = 0;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int value = value_of(text[i]);

		if (value < 0)
			return false;
		held = held << 6 | (unsigned)value;
		bits += 6;
		if (bits < 8)
			continue;
		if (n == FIELD_BYTES)
			return false;
		bits -= 8;
		out[n++] = (uint8_t)(held >> bits);
		held &= (1U << bits) - 1;
	}
	*out_len = n;
	return bits < 6 && held == 0;
}

/* Reads "NAME=NUMBER" and the byte `end` behind it; NULL when it is not so. */
static const char *
parse_cost(const char *at, const char *name, char end, unsigned *out)
{
	unsigned value = 0;
	size_t len = strlen(name), digits;

	if (strncmp(at, name, len) != 0)
		return NULL;
	at += len;
	digits = strspn(at, "0123456789");
	if (digits == 0 || digits > 7 || at[0] == '0' || at[digits] != end)
		return NULL;
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (unsigned)(at[i] - '0');
	*out = value;
	return at + digits + 1;
}

static bool
parse_hash(const char *hash, struct scrypt *out)
{
	const char *at = hash + strlen(PREFIX), *dollar;

	if (strnlen(hash, AUTH_HASH_MAX) == AUTH_HASH_MAX ||
	    strncmp(hash, PREFIX, strlen(PREFIX)) != 0)
		return false;
	at = parse_cost(at, "ln=", ',', &out->ln);
	if (at != NULL)
		at = parse_cost(at, "r=", ',', &out->r);
	if (at != NULL)
		at = parse_cost(at, "p=", '$', &out->p);
	if (at == NULL || !cost_is_fine(out))
		return false;
	dollar = strchr(at, '$');
	if (dollar == NULL ||
	    !decode(at, (size_t)(dollar - at), out->salt, &out->salt_len) ||
	    !decode(dollar + 1, strlen(dollar + 1), out->key, &out->key_len))
		return false;
	return out->salt_len >= SALT_BYTES_MIN && out->key_len >= KEY_BYTES_MIN;
}

/* False when there is no memory: the parameters are known to be good. */
static bool
derive(const struct scrypt *s, const char *password, size_t len, uint8_t *key)
{
	uint64_t max_bytes = COST_MAX + UINT64_C(3) * 128 * BLOCKS_MAX;

	return EVP_PBE_scrypt(len == 0 ? "" : password, len, s->salt,
		   s->salt_len, UINT64_C(1) << s->ln, s->r, s->p, max_bytes,
		   key, s->key_len) == 1;
}

int
auth_hash(const char *password, size_t len, const uint8_t salt[AUTH_SALT_BYTES],
    char *out)
{
	struct scrypt s = { .ln = DEFAULT_LN,
		.r = DEFAULT_R,
		.p = DEFAULT_P,
		.salt_len = AUTH_SALT_BYTES,
		.key_len = KEY_BYTES };
	char salt_text[2 * AUTH_SALT_BYTES], key_text[2 * KEY_BYTES];

	memcpy(s.salt, salt, AUTH_SALT_BYTES);
	if (!derive(&s, password, len, s.key))
		return -ENOMEM;
	encode(s.salt, s.salt_len, salt_text);
	encode(s.key, s.key_len, key_text);
	snprintf(out, AUTH_HASH_MAX, PREFIX "ln=%u,r=%u,p=%u$%s$%s", s.ln, s.r,
	    s.p, salt_text, key_text);
	OPENSSL_cleanse(s.key, sizeof(s.key));
	OPENSSL_cleanse(key_text, sizeof(key_text));
	return 0;
}

bool
auth_hash_is_valid(const char *hash)
{
	struct scrypt s;

	return parse_hash(hash, &s);
}

bool
auth_verify(const char *hash, const char *password, size_t len)
{
	struct scrypt s = { .ln = DEFAULT_LN,
		.r = DEFAULT_R,
		.p = DEFAULT_P,
		.salt_len = AUTH_SALT_BYTES,
		.key_len = KEY_BYTES };
	uint8_t key[FIELD_BYTES];
	bool equal;

	if (hash != NULL)
		must(parse_hash(hash, &s));
	equal = derive(&s, password, len, key) &&
		CRYPTO_memcmp(key, s.key, s.key_len) == 0;
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(s.key, sizeof(s.key));
	return equal && hash != NULL;
}
