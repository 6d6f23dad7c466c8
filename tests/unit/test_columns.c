/* SPDX-License-Identifier: ISC */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "service/columns.h"

static void
add(struct columns *c, const char *one, const char *two, const char *three)
{
	struct columns_row *row = columns_add(c);

	strcpy_bounded(row->text[0], sizeof(row->text[0]), one);
	strcpy_bounded(row->text[1], sizeof(row->text[1]), two);
	strcpy_bounded(row->text[2], sizeof(row->text[2]), three);
}

static void
expect_print(const struct columns *c, const char *expected)
{
	char text[512] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	cr_assert_not_null(out);
	columns_print(c, out);
	fclose(out);
	cr_expect_str_eq(text, expected, "\"%s\"", text);
}

Test(columns, each_is_as_wide_as_its_widest_word)
{
	struct columns c;

	columns_init(&c, "lrl");
	add(&c, "pool", "sessions", "way");
	add(&c, "a longer one", "1", "x");
	add(&c, "b", "1000000000", "longer");
	expect_print(&c, "  pool            sessions  way\n"
			 "  a longer one           1  x\n"
			 "  b             1000000000  longer\n");
	columns_fini(&c);
}

Test(columns, no_blanks_end_a_line)
{
	struct columns c;

	columns_init(&c, "lll");
	add(&c, "one", "two", "three");
	add(&c, "1", "", "");
	add(&c, "", "", "3");
	add(&c, "", "", "");
	expect_print(&c, "  one  two  three\n"
			 "  1\n"
			 "            3\n"
			 "\n");
	columns_fini(&c);
}

Test(columns, without_rows_nothing_is_printed)
{
	struct columns c;

	columns_init(&c, "l");
	expect_print(&c, "");
	columns_fini(&c);
}
