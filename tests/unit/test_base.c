/* SPDX-License-Identifier: ISC */
#include <string.h>

#include <criterion/criterion.h>

#include "base/base.h"

static void
expect_decimal(uint64_t n, const char *digits)
{
	char text[DECIMAL_MAX + 1];
	size_t len;

	memset(text, '#', sizeof(text));
	len = decimal_put(text, n);
	cr_expect_eq(len, strlen(digits));
	cr_expect_eq(memcmp(text, digits, len), 0, "not %s", digits);
	cr_expect_eq(text[len], '#', "something behind %s", digits);
}

Test(base, numbers_are_written_in_decimal)
{
	expect_decimal(0, "0");
	expect_decimal(9, "9");
	expect_decimal(10, "10");
	expect_decimal(65535, "65535");
	expect_decimal(100000000, "100000000");
	expect_decimal(UINT64_MAX, "18446744073709551615");
}

Test(base, a_copy_is_cut_to_what_fits)
{
	char text[4] = "###";

	strcpy_bounded(text, sizeof(text), "ab");
	cr_expect_str_eq(text, "ab");
	strcpy_bounded(text, sizeof(text), "abcdef");
	cr_expect_str_eq(text, "abc");
}
