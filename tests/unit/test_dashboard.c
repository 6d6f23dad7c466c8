/* SPDX-License-Identifier: ISC */
/*
 * The status as a table: what there is no number for is not shown as one.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "service/dashboard.h"

/* What is printed of one egress, and of one target; to be freed. */
static char *
print(const char *egress, const char *target)
{
	json_t *status =
	    json_pack("{s:[o], s:[o]}", "egresses", json_loads(egress, 0, NULL),
		"targets", json_loads(target, 0, NULL));
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(status);
	cr_assert_not_null(out);
	dashboard_print(status, out);
	cr_assert_eq(fclose(out), 0);
	json_decref(status);
	return text;
}

static void
expect_line(const char *text, const char *line)
{
	cr_expect_not_null(
	    strstr(text, line), "\"%s\" lacks \"%s\"", text, line);
}

Test(dashboard, of_ports_that_the_kernel_chooses_none_are_counted)
{
	char *text =
	    print("{\"egress\": \"main\", \"by_kernel\": true, \"held\": 3,"
		  " \"cooling\": 1, \"rested\": 0, \"free\": 0, \"slots\": 0,"
		  " \"addresses\": [{\"address\": \"192.0.2.7\","
		  " \"family\": \"IPv4\", \"held\": 3, \"cooling\": 1,"
		  " \"rested\": 0, \"free\": 0, \"slots\": 0}],"
		  " \"addresses_not_shown\": 0}",
		"{\"target\": \"203.0.113.9:443\", \"egress\": \"main\","
		" \"held\": 3, \"cooling\": 1, \"waiting\": 0,"
		" \"high_water\": 3, \"slots\": 0, \"percent\": null,"
		" \"full_in_s\": null}");

	expect_line(text,
	    "  EGRESS  ADDRESS    HELD  COOLING  RESTED  FREE  "
	    "SLOTS\n"
	    "  main    192.0.2.7     3        1       0     -      "
	    "-\n");
	expect_line(text,
	    "  203.0.113.9:443  main       3        1        0     "
	    "3      -     -        -\n");
	free(text);
}

Test(dashboard, by_route_says_of_which_family)
{
	char *text =
	    print("{\"egress\": \"main\", \"by_kernel\": false, \"held\": 3,"
		  " \"cooling\": 0, \"rested\": 0, \"free\": 17, \"slots\": 20,"
		  " \"addresses\": [{\"address\": \"by route\","
		  " \"family\": \"IPv4\", \"held\": 3, \"cooling\": 0,"
		  " \"rested\": 0, \"free\": 7, \"slots\": 10},"
		  " {\"address\": \"by route\", \"family\": \"IPv6\","
		  " \"held\": 0, \"cooling\": 0, \"rested\": 0, \"free\": 10,"
		  " \"slots\": 10}], \"addresses_not_shown\": 0}",
		"{}");

	expect_line(text,
	    "  main    all                 3        0       0    "
	    "17     20\n"
	    "          by route (IPv4)     3        0       0     "
	    "7     10\n"
	    "          by route (IPv6)     0        0       0    "
	    "10     10\n");
	free(text);
}
