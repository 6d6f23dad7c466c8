/* SPDX-License-Identifier: ISC */
/*
 * Linked into each test binary: where tests say that the machine does not give
 * what they need, and no other fails, the binary names them and exits with 77,
 * so that ctest shows it as skipped. Criterion would exit with 0.
 */
#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>
#include <criterion/hooks.h>

#include "it.h"

static void
name_skipped(const struct criterion_suite_stats *suite)
{
	for (const struct criterion_test_stats *t = suite->tests; t != NULL;
	     t = t->next) {
		if (t->test_status == CR_STATUS_SKIPPED)
			printf("SKIPPED: %s::%s: %s\n", suite->suite->name,
			    t->test->name,
			    t->message != NULL ? t->message : "no reason");
	}
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	if (stats->tests_skipped == 0)
		return;
	for (const struct criterion_suite_stats *s = stats->suites; s != NULL;
	     s = s->next)
		name_skipped(s);
	printf("%zu of %zu tests were skipped\n", stats->tests_skipped,
	    stats->nb_tests);
	if (stats->tests_failed + stats->tests_crashed + stats->errors == 0)
		exit(IT_SKIPPED);
}
