/* SPDX-License-Identifier: ISC */
#include <criterion/criterion.h>

#include "base/counts.h"

Test(counts, an_empty_one_knows_nothing)
{
	struct counts c = { 0 };

	cr_expect_eq(counts_get(&c, 1), 0);
	cr_expect_eq(counts_get(&c, UINT64_MAX), 0);
	counts_fini(&c);
}

Test(counts, each_key_has_its_own_number_however_many_there_are)
{
	struct counts c = { 0 };

	for (int round = 0; round < 3; round++)
		for (uint64_t i = 1; i <= 20000; i++) {
			uint32_t *n = counts_at(&c, i * UINT64_C(0x100000001));

			cr_assert_not_null(n);
			*n += (uint32_t)i;
		}
	for (uint64_t i = 1; i <= 20000; i++) {
		uint64_t key = i * UINT64_C(0x100000001);

		cr_assert_eq(counts_get(&c, key), 3 * i);
		cr_assert_eq(counts_get(&c, i), 0);
	}
	cr_assert_eq(c.used, 20000);
	counts_fini(&c);
}

Test(counts, keys_that_differ_little_are_apart)
{
	struct counts c = { 0 };

	for (uint64_t i = 1; i <= 1000; i++)
		*counts_at(&c, i << 16 | 443) = (uint32_t)i;
	for (uint64_t i = 1; i <= 1000; i++)
		cr_assert_eq(counts_get(&c, i << 16 | 443), i);
	cr_expect_eq(counts_get(&c, 1001 << 16 | 443), 0);
	cr_expect_eq(counts_get(&c, 1 << 16 | 444), 0);
	cr_expect_eq(c.used, 1000);
	counts_fini(&c);
}
