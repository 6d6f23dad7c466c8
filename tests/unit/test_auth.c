/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "policy/auth.h"

/* RFC 7914 section 12, those whose salt and cost are within our limits. */
#define RFC_2                                                       \
	"$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq"    \
	"18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfo" \
	"swGQA"
#define RFC_3                                         \
	"$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$"  \
	"cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofL" \
	"VQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw"

/* Cheap: what is refused for its form needs no scrypt. */
#define SALT "c29kaXVtY2hsb3JpZA"
#define KEY  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static bool
verify(const char *hash, const char *password)
{
	return auth_verify(hash, password, strlen(password));
}

Test(auth, the_vectors_of_rfc_7914_verify)
{
	cr_assert(auth_hash_is_valid(RFC_2));
	cr_expect(verify(RFC_2, "password"));
	cr_expect_not(verify(RFC_2, "Password"));
	cr_assert(auth_hash_is_valid(RFC_3));
	cr_expect(verify(RFC_3, "pleaseletmein"));
	cr_expect_not(verify(RFC_3, "pleaseletmein "));
	cr_expect_not(verify(RFC_3, "pleaseletmei"));
	cr_expect_not(verify(RFC_3, ""));
}

Test(auth, a_hash_is_valid_and_verifies_its_password_alone)
{
	static const char head[] =
	    "$scrypt$ln=14,r=8,p=1$AQID/wAAAAAAAAAAAAAAAA$";
	uint8_t salt[AUTH_SALT_BYTES] = { 1, 2, 3, 255 };
	char hash[AUTH_HASH_MAX];

	memset(hash, 'x', sizeof(hash));
	cr_assert_eq(auth_hash("s\xc3\xa9same", 7, salt, hash), 0);
	cr_assert_lt(strnlen(hash, sizeof(hash)), sizeof(hash));
	cr_expect(auth_hash_is_valid(hash));
	cr_expect_eq(strncmp(hash, head, strlen(head)), 0, "%s", hash);
	cr_expect(auth_verify(hash, "s\xc3\xa9same", 7));
	cr_expect_not(auth_verify(hash, "s\xc3\xa9same", 6));
	cr_expect_not(auth_verify(hash, "sesame", 6));
}

Test(auth, salts_tell_equal_passwords_apart)
{
	uint8_t salt[AUTH_SALT_BYTES] = { 0 };
	char one[AUTH_HASH_MAX], two[AUTH_HASH_MAX];

	cr_assert_eq(auth_hash("same", 4, salt, one), 0);
	salt[15] = 1;
	cr_assert_eq(auth_hash("same", 4, salt, two), 0);
	cr_expect_str_neq(strrchr(one, '$'), strrchr(two, '$'));
}

Test(auth, the_empty_password_is_one_like_others)
{
	uint8_t salt[AUTH_SALT_BYTES] = { 0 };
	char hash[AUTH_HASH_MAX];

	cr_assert_eq(auth_hash(NULL, 0, salt, hash), 0);
	cr_expect(auth_verify(hash, NULL, 0));
	cr_expect(auth_verify(hash, "", 0));
	cr_expect_not(auth_verify(hash, "x", 1));
}

Test(auth, a_nul_does_not_end_a_password)
{
	uint8_t salt[AUTH_SALT_BYTES] = { 0 };
	char hash[AUTH_HASH_MAX];

	cr_assert_eq(auth_hash("a\0b", 3, salt, hash), 0);
	cr_expect(auth_verify(hash, "a\0b", 3));
	cr_expect_not(auth_verify(hash, "a\0c", 3));
	cr_expect_not(auth_verify(hash, "a", 1));
}

Test(auth, one_changed_byte_of_salt_or_key_is_another_hash)
{
	char hash[AUTH_HASH_MAX];
	char *salt, *key;

	strcpy_bounded(hash, sizeof(hash), RFC_3);
	salt = strstr(hash, "U29k");
	*salt = 'V';
	cr_assert(auth_hash_is_valid(hash));
	cr_expect_not(verify(hash, "pleaseletmein"));
	for (size_t at = 0; at < strlen(strrchr(RFC_3, '$') + 1); at += 17) {
		strcpy_bounded(hash, sizeof(hash), RFC_3);
		key = strrchr(hash, '$') + 1;
		/* From the last character on: 'A' leaves no bit over. */
		key += strlen(key) - 1 - at;
		*key = *key == 'A' ? 'Q' : 'A';
		cr_assert(auth_hash_is_valid(hash));
		cr_expect_not(verify(hash, "pleaseletmein"), "%zu", at);
	}
}

Test(auth, malformed_hashes_are_refused)
{
	static const char *const bad[] = { "", "$", "secret", "$scrypt$",
		"scrypt$ln=4,r=8,p=1$" SALT "$" KEY,
		"$Scrypt$ln=4,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=4,r=8$" SALT "$" KEY,
		"$scrypt$r=8,ln=4,p=1$" SALT "$" KEY,
		"$scrypt$ln=4,r=8,p=1,x=1$" SALT "$" KEY,
		"$scrypt$ln=4;r=8;p=1$" SALT "$" KEY,
		"$scrypt$ln=,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=-4,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=+4,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln= 4,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=04,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=4294967300,r=8,p=1$" SALT "$" KEY,
		"$scrypt$ln=4,r=8,p=1$" SALT, "$scrypt$ln=4,r=8,p=1$" SALT "$",
		"$scrypt$ln=4,r=8,p=1$$" KEY, "$scrypt$ln=4,r=8,p=1$AAAA$" KEY,
		"$scrypt$ln=4,r=8,p=1$" SALT "$AAAAAAAAAAAAAAAAAAAA",
		"$scrypt$ln=4,r=8,p=1$" SALT "$" KEY "=",
		"$scrypt$ln=4,r=8,p=1$" SALT "==$" KEY,
		"$scrypt$ln=4,r=8,p=1$" SALT "$" KEY "$",
		"$scrypt$ln=4,r=8,p=1$" SALT "$" KEY "\n",
		"$scrypt$ln=4,r=8,p=1$" SALT "$ " KEY,
		"$scrypt$ln=4,r=8,p=1$" SALT "$" KEY "AA",
		/* The last character has bits beyond the last byte. */
		"$scrypt$ln=4,r=8,p=1$" SALT
		"$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
		"$scrypt$ln=4,r=8,p=1$" SALT
		"$AAAAAAAAAAAAAAAAAAAAAAAA-_AAAAAAAAAAAAAAAAA",
		/* Key of 66 bytes; and all too long. */
		"$scrypt$ln=4,r=8,p=1$" SALT "$" KEY KEY "AA", RFC_2 RFC_3 };

	cr_assert(auth_hash_is_valid("$scrypt$ln=4,r=8,p=1$" SALT "$" KEY));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_not(auth_hash_is_valid(bad[i]), "%s", bad[i]);
}

Test(auth, each_cut_of_a_hash_is_refused_or_safe_to_verify)
{
	char hash[AUTH_HASH_MAX];

	for (size_t len = 0; len < strlen(RFC_3); len++) {
		strcpy_bounded(hash, len + 1, RFC_3);
		if (auth_hash_is_valid(hash))
			cr_expect_geq(len, strlen(RFC_3) - 64, "%zu", len);
	}
}

static bool
cost_is_valid(unsigned ln, unsigned r, unsigned p)
{
	char hash[AUTH_HASH_MAX];

	snprintf(hash, sizeof(hash), "$scrypt$ln=%u,r=%u,p=%u$%s$%s", ln, r, p,
	    SALT, KEY);
	return auth_hash_is_valid(hash);
}

Test(auth, costs_are_limited)
{
	cr_expect(cost_is_valid(1, 1, 1));
	cr_expect(cost_is_valid(14, 8, 1));
	cr_expect(cost_is_valid(17, 8, 1));
	cr_expect(cost_is_valid(18, 8, 1));
	cr_expect(cost_is_valid(17, 8, 2));
	cr_expect(cost_is_valid(14, 8, 16));
	cr_expect(cost_is_valid(15, 1, 1));
	cr_expect(cost_is_valid(16, 2, 1));
	cr_expect(cost_is_valid(1, 1024, 1));
	cr_expect_not(cost_is_valid(19, 8, 1));
	cr_expect_not(cost_is_valid(18, 9, 1));
	cr_expect_not(cost_is_valid(18, 8, 2));
	cr_expect_not(cost_is_valid(20, 8, 1));
	cr_expect_not(cost_is_valid(16, 1, 1));
	cr_expect_not(cost_is_valid(1, 1025, 1));
	cr_expect_not(cost_is_valid(1, 1, 1025));
	cr_expect_not(cost_is_valid(1, 1000, 1000));
	cr_expect_not(cost_is_valid(31, 9999999, 9999999));
	cr_expect_not(cost_is_valid(32, 8, 1));
	cr_expect_not(cost_is_valid(63, 8, 1));
	cr_expect_not(cost_is_valid(64, 8, 1));
	cr_expect_not(cost_is_valid(0, 8, 1));
	cr_expect_not(cost_is_valid(14, 0, 1));
	cr_expect_not(cost_is_valid(14, 8, 0));
}

/* With `key` of one's own: what OpenSSL refuses looks like a wrong password. */
static void
expect_computable(unsigned ln, unsigned r, unsigned p, const char *key)
{
	char hash[AUTH_HASH_MAX];

	snprintf(hash, sizeof(hash), "$scrypt$ln=%u,r=%u,p=%u$%s$%s", ln, r, p,
	    SALT, key);
	cr_assert(auth_hash_is_valid(hash));
	cr_expect(verify(hash, "x"), "%s", hash);
}

Test(auth, openssl_computes_at_the_edges_of_our_limits)
{
	expect_computable(1, 1, 1, "dSWzVKSERXdPqXc5yO1rRQ");
	expect_computable(1, 1024, 1, "eU+SP1YjbFyEFTkwPy2SFw");
	expect_computable(1, 1, 1024, "MOpAbh5JdTnIkX9zHTi1MQ");
	expect_computable(18, 8, 1, "/04sELuf6Is06oAOMiHGvw");
}

static double
cpu_ms_of_verify(const char *hash)
{
	clock_t before = clock();

	cr_expect_not(verify(hash, "wrong"));
	return (double)(clock() - before) * 1000 / CLOCKS_PER_SEC;
}

Test(auth, a_user_who_does_not_exist_takes_as_long)
{
	double known, unknown;

	cr_expect_not(verify(NULL, ""));
	known = cpu_ms_of_verify(RFC_3);
	unknown = cpu_ms_of_verify(NULL);
	/* CPU time; without the work it would be about nothing. */
	cr_expect_gt(unknown, known / 4, "%.1f of %.1f ms", unknown, known);
}
