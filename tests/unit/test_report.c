/* SPDX-License-Identifier: ISC */
#include "service/report.h"
#include "verdict.h"

static void
report(struct verdict *v)
{
	FILE *out = fmemopen(v->text, sizeof(v->text), "w");

	cr_assert_not_null(out);
	report_write(&v->facts, out);
	fclose(out);
}

/* Some line has exactly these words, whatever blanks are between them. */
static void
expect_row(const struct verdict *v, const char *words)
{
	char squeezed[sizeof(v->text)], wanted[256];
	size_t used = 0;

	for (const char *at = v->text; *at != '\0'; at++) {
		if (*at != ' ' || (used > 0 && squeezed[used - 1] != ' '))
			squeezed[used++] = *at;
	}
	squeezed[used] = '\0';
	snprintf(wanted, sizeof(wanted), "\n %s\n", words);
	cr_expect_not_null(
	    strstr(squeezed, wanted), "\"%s\" lacks \"%s\"", squeezed, words);
}

Test(report, a_pool_is_addresses_times_ports)
{
	struct verdict v;

	verdict_init(&v, "[egress main]\nports = 40000-49999\n"
			 "addresses = 192.0.2.7 192.0.2.8 10.0.0.0/28\n"
			 "\t2001:db8::/64\n");
	verdict_make(&v);
	report(&v);
	expect_row(&v, "main IPv4 18 10000 180000 range");
	/* No host can use more than these at once. */
	expect_row(&v, "main IPv6 16777216 10000 4294967295 range");
	verdict_fini(&v);
}

Test(report, a_pool_shows_how_it_is_bound)
{
	struct verdict v;

	verdict_init(&v,
	    "[egress auto]\naddresses = 192.0.2.1\n"
	    "[egress mixed]\nports = 20000 40000\naddresses = 192.0.2.2\n"
	    "[egress old]\nports = 40001\nbind = explicit\n"
	    "[egress kernel]\nbind = kernel\naddresses = 192.0.2.3\n");
	cr_assert_eq(preflight_parse_ports("40002", v.host.reserved), 0);
	verdict_make(&v);
	report(&v);
	expect_row(&v, "auto IPv4 1 28231 28231 range");
	expect_row(&v, "mixed IPv4 1 2 2 range, explicit");
	expect_row(&v, "old IPv4 by route 1 1 explicit");
	expect_row(&v, "old IPv6 by route 1 1 explicit");
	expect_row(&v, "kernel IPv4 1 28231 28231 kernel");
	verdict_fini(&v);
}

Test(report, a_listener_has_so_many_connections_of_a_client)
{
	struct verdict v;

	verdict_init(&v,
	    "[listen one]\naddress = 127.0.0.1:1080 unix:/tmp/s\n"
	    "[listen many]\naddress = 127.0.0.2:2000-2009 127.0.0.3:2000\n"
	    "\t[::1]:0\n"
	    "[listen all]\naddress = 0.0.0.0:3000-3001\nopen = yes\n");
	verdict_make(&v);
	report(&v);
	expect_row(&v, "one IPv4 1 28232 64511");
	expect_row(&v, "one unix no limit no limit");
	expect_row(&v, "many IPv4 11 310552 709621");
	expect_row(&v, "many IPv6 1 28232 64511");
	expect_row(&v, "all IPv4 2+ 56464+ 129022+");
	verdict_fini(&v);
}

/* "by descriptors SESSIONS WORKERS ..." */
static void
expect_descriptors(
    const struct verdict *v, unsigned sessions, const char *workers)
{
	char words[128];

	snprintf(words, sizeof(words),
	    "by descriptors %u %s of %ju descriptors, two a session", sessions,
	    workers, (uintmax_t)v->host.files_hard);
	expect_row(v, words);
}

Test(report, sessions_are_limited_by_descriptors_and_memory)
{
	struct verdict v;

	verdict_init(&v, "");
	verdict_limit(&v, 2, 10000);
	v.host.memory = UINT64_C(1) << 30;
	verdict_make(&v);
	report(&v);
	expect_descriptors(&v, 20000, "2 workers");
	verdict_expect(&v, "65536  1024 MB available; an idle session is taken "
			   "as 15 KB of the kernel's and 1 KB of ours\n");
	expect_row(&v, "max-sessions 20000 auto: what the descriptors allow");
	verdict_fini(&v);
}

Test(report, sessions_that_are_asked_for_are_shown)
{
	struct verdict v;

	verdict_init(&v, "[proxy]\nmax-sessions = 300\nworkers = 1\n");
	verdict_limit(&v, 1, 5000);
	v.host.memory = 0;
	verdict_make(&v);
	report(&v);
	expect_descriptors(&v, 5000, "1 worker");
	expect_row(&v, "by memory - how much is available is not known");
	expect_row(&v, "max-sessions 300");
	verdict_fini(&v);
}
