/* SPDX-License-Identifier: ISC */
#include <criterion/criterion.h>

#include "base/list.h"

struct member {
	int number;
	struct link link;
};

static void
members_init(struct member *m, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		m[i].number = (int)i;
		link_init(&m[i].link);
	}
}

/* The members' numbers, one digit each, read both ways. */
static int
numbers(struct list *list)
{
	int forth = 0, back = 0, weight = 1;

	for (struct link *l = list->head.next; l != &list->head; l = l->next)
		forth =
		    forth * 10 + container_of(l, struct member, link)->number;
	for (struct link *l = list->head.prev; l != &list->head; l = l->prev) {
		back += container_of(l, struct member, link)->number * weight;
		weight *= 10;
	}
	cr_expect_eq(forth, back);
	return forth;
}

Test(list, a_new_list_is_empty)
{
	struct list list;

	list_init(&list);
	cr_expect(list_is_empty(&list));
	cr_expect_null(list_first(&list));
}

Test(list, members_keep_the_order_they_came_in)
{
	struct list list;
	struct member m[4];

	members_init(m, 4);
	list_init(&list);
	for (int i = 1; i < 4; i++)
		list_append(&list, &m[i].link);
	cr_expect_eq(numbers(&list), 123);
	cr_expect_eq(list_first(&list), &m[1].link);
	cr_expect_not(list_is_empty(&list));
}

Test(list, a_link_tells_whether_it_is_on_a_list)
{
	struct list list;
	struct member m[1];

	members_init(m, 1);
	list_init(&list);
	cr_expect_not(link_is_linked(&m[0].link));
	list_append(&list, &m[0].link);
	cr_expect(link_is_linked(&m[0].link));
	link_remove(&m[0].link);
	cr_expect_not(link_is_linked(&m[0].link));
}

Test(list, any_member_may_be_removed_and_even_twice)
{
	struct list list;
	struct member m[5];

	members_init(m, 5);
	list_init(&list);
	for (int i = 1; i < 5; i++)
		list_append(&list, &m[i].link);
	link_remove(&m[2].link);
	cr_expect_eq(numbers(&list), 134);
	link_remove(&m[2].link);
	cr_expect_eq(numbers(&list), 134);
	link_remove(&m[1].link);
	link_remove(&m[4].link);
	cr_expect_eq(numbers(&list), 3);
	link_remove(&m[3].link);
	cr_expect(list_is_empty(&list));
	list_append(&list, &m[2].link);
	cr_expect_eq(numbers(&list), 2);
}

Test(list, moving_all_appends_them_and_empties_the_source)
{
	struct list to, from;
	struct member m[5];

	members_init(m, 5);
	list_init(&to);
	list_init(&from);
	list_move_all(&to, &from);
	cr_expect(list_is_empty(&to));
	for (int i = 1; i < 5; i++)
		list_append(i < 3 ? &to : &from, &m[i].link);
	list_move_all(&to, &from);
	cr_expect_eq(numbers(&to), 1234);
	cr_expect(list_is_empty(&from));
	list_move_all(&to, &from);
	cr_expect_eq(numbers(&to), 1234);
	list_move_all(&from, &to);
	cr_expect_eq(numbers(&from), 1234);
	cr_expect(list_is_empty(&to));
	link_remove(&m[1].link);
	cr_expect_eq(numbers(&from), 234);
}

Test(list, a_walk_survives_the_removal_of_its_member)
{
	struct list list;
	struct link *l, *following;
	struct member m[5];
	int seen = 0;

	members_init(m, 5);
	list_init(&list);
	LIST_EACH_SAFE (l, following, &list)
		cr_assert_fail("an empty list has no member");
	for (int i = 1; i < 5; i++)
		list_append(&list, &m[i].link);
	LIST_EACH_SAFE (l, following, &list) {
		int number = container_of(l, struct member, link)->number;

		seen = seen * 10 + number;
		if (number % 2 == 0)
			link_remove(l);
	}
	cr_expect_eq(seen, 1234);
	cr_expect_eq(numbers(&list), 13);
}
