/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "service/names.h"

static struct names *
names_new(void)
{
	struct names *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert_neq(n, MAP_FAILED);
	return n;
}

/* Assigns ids to the users of these names, which are in order. */
static void
assign(struct names *n, const char *const *list, size_t count, uint16_t *ids)
{
	struct config_user *users = calloc(count + 1, sizeof(*users));

	cr_assert_not_null(users);
	for (size_t i = 0; i < count; i++)
		strcpy_bounded(users[i].name, sizeof(users[i].name), list[i]);
	cr_assert_eq(names_assign(n, users, count), 0);
	for (size_t i = 0; i < count; i++)
		ids[i] = users[i].id;
	free(users);
}

Test(names, nobody_is_known_at_first)
{
	struct names *n = names_new();

	cr_expect_null(names_get(n, 0));
	cr_expect_null(names_get(n, 1));
	cr_expect_eq(names_find(n, "alice"), 0);
	cr_expect_eq(names_find(n, ""), 0);
}

Test(names, an_id_is_the_names_and_not_the_places)
{
	static const char *const first[] = { "bob", "dora" };
	static const char *const second[] = { "alice", "bob", "carl", "dora",
		"emil" };
	static const char *const third[] = { "dora" };
	struct names *n = names_new();
	uint16_t before[2], after[5], last[1];

	assign(n, first, 2, before);
	assign(n, second, 5, after);
	assign(n, third, 1, last);
	cr_expect_neq(before[0], 0);
	cr_expect_eq(before[0], after[1]);
	cr_expect_eq(before[1], after[3]);
	cr_expect_eq(before[1], last[0]);
	for (int i = 0; i < 5; i++) {
		cr_expect_str_eq(names_get(n, after[i]), second[i]);
		cr_expect_eq(names_find(n, second[i]), after[i]);
	}
	cr_expect_null(names_get(n, 6));
}

Test(names, there_is_an_end_to_new_ones_but_not_to_those_known)
{
	struct names *n = names_new();
	struct config_user *users = calloc(NAMES_MAX, sizeof(*users));
	struct config_user one = { .name = "one more" };

	cr_assert_not_null(users);
	for (int i = 0; i < NAMES_MAX; i++)
		snprintf(users[i].name, sizeof(users[i].name), "u%06d", i);
	cr_assert_eq(names_assign(n, users, NAMES_MAX), 0);
	cr_expect_eq(users[NAMES_MAX - 1].id, NAMES_MAX);
	cr_expect_eq(names_assign(n, &one, 1), -ENOSPC);
	cr_expect_eq(names_assign(n, users + 100, 3), 0);
	cr_expect_eq(users[100].id, 101);
	free(users);
}
