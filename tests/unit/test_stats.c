/* SPDX-License-Identifier: ISC */
#include <string.h>

#include <criterion/criterion.h>

#include "session/stats.h"

Test(stats, each_counter_has_a_label_of_its_own)
{
	for (int i = 0; i < STATS_COUNT; i++) {
		const char *label = stats_label((enum stats_counter)i);

		cr_assert_not_null(label);
		cr_expect_eq(
		    strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789_"),
		    strlen(label), "\"%s\" is no key", label);
		for (int other = 0; other < i; other++)
			cr_expect_str_neq(
			    label, stats_label((enum stats_counter)other));
	}
	cr_expect_str_eq(stats_label(STATS_ACCEPTED), "accepted");
	cr_expect_str_eq(stats_label(STATS_BYTES_DOWN), "bytes_down");
}

Test(stats, counters_begin_at_zero_add_and_are_set)
{
	struct stats s = { 0 };

	cr_expect_eq(stats_get(&s.counters[STATS_CONNECTS]), 0);
	stats_add(&s.counters[STATS_CONNECTS], 3);
	stats_add(&s.counters[STATS_CONNECTS], 4);
	cr_expect_eq(stats_get(&s.counters[STATS_CONNECTS]), 7);
	cr_expect_eq(stats_get(&s.counters[STATS_ACCEPTED]), 0);
	stats_set(&s.sessions, 9);
	stats_set(&s.sessions, 2);
	cr_expect_eq(stats_get(&s.sessions), 2);
	stats_add(&s.closed[CLOSE_DONE], UINT64_C(1) << 40);
	cr_expect_eq(stats_get(&s.closed[CLOSE_DONE]), UINT64_C(1) << 40);
}
