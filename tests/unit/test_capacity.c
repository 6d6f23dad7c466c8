/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "service/capacity.h"

/* Listening on three sockets, with these lines of [proxy]. */
static struct config *
parse(const char *proxy)
{
	struct config *c;
	char text[256];

	snprintf(text, sizeof(text),
	    "[proxy]\n%s[listen a]\naddress = 127.0.0.1:1080-1081\n"
	    "\tunix:/tmp/s\n",
	    proxy);
	cr_assert_eq(config_parse("x", text, strlen(text), stderr, &c), 0);
	return c;
}

/* What is said is left in `said`. */
static int
find(const char *proxy, const struct capacity_host *host, struct capacity *out,
    char said[512])
{
	struct config *c = parse(proxy);
	FILE *errors = fmemopen(said, 512, "w");
	int result;

	cr_assert_not_null(errors);
	said[0] = '\0';
	result = capacity_find(c, host, errors, out);
	fclose(errors);
	config_free(c);
	return result;
}

Test(capacity, a_worker_a_processor_shares_out_its_descriptors)
{
	struct capacity_host host = { .descriptors = 20000, .processors = 2 };
	struct capacity c;
	char said[512];

	cr_assert_eq(find("", &host, &c, said), 0);
	cr_expect_eq(c.workers, 2);
	/* 128, and of each of two slots three sockets and three others. */
	cr_expect_eq(c.each, (20000 - 128 - 12) / 2);
	cr_expect_eq(c.sessions, 2 * c.each);
	cr_expect_str_empty(said);
}

Test(capacity, what_the_file_says_comes_first)
{
	struct capacity_host host = { .descriptors = 20000, .processors = 2 };
	struct capacity c;
	char said[512];

	cr_assert_eq(
	    find("workers = 5\nmax-sessions = 7\n", &host, &c, said), 0);
	cr_expect_eq(c.workers, 5);
	cr_expect_eq(c.sessions, 7);
}

Test(capacity, sessions_that_need_more_workers_get_them)
{
	struct capacity_host host = { .descriptors = 20000, .processors = 2 };
	struct capacity c;
	char said[512];

	cr_assert_eq(find("max-sessions = 100000\n", &host, &c, said), 0);
	cr_expect_eq(c.workers, 11);
	cr_expect_geq(c.each * c.workers, 100000);
	cr_expect_lt(c.each * (c.workers - 1), 100000);
	cr_expect_eq(c.sessions, 100000);
}

Test(capacity, slots_of_before_have_their_descriptors_still)
{
	struct capacity_host host = {
		.descriptors = 20000, .processors = 1, .slots = 10
	};
	struct capacity c;
	char said[512];

	cr_assert_eq(find("", &host, &c, said), 0);
	cr_expect_eq(c.each, (20000 - 128 - 60) / 2);
}

Test(capacity, too_few_descriptors_are_told)
{
	struct capacity_host host = { .descriptors = 130, .processors = 2 };
	struct capacity c;
	char said[512];

	cr_expect_eq(find("", &host, &c, said), -EMFILE);
	cr_expect_not_null(strstr(said, "130 descriptors only"), "%s", said);
	host.descriptors = 20000;
	cr_expect_eq(
	    find("workers = 2\nmax-sessions = 100000\n", &host, &c, said),
	    -EMFILE);
	cr_expect_not_null(strstr(said, "max-sessions = 100000"), "%s", said);
}

/* The number behind these words. */
static unsigned
number_behind(const char *said, const char *words)
{
	const char *at = strstr(said, words);

	cr_assert_not_null(at, "\"%s\" lacks \"%s\"", said, words);
	return (unsigned)strtoul(at + strlen(words), NULL, 10);
}

/* Whatever is proposed does, and one less does not. */
Test(capacity, what_mends_too_few_descriptors_mends_them)
{
	static const char file[] = "workers = 2\nmax-sessions = 100001\n";
	struct capacity_host host = { .descriptors = 20000, .processors = 2 };
	char said[512], other[512], mended[64];
	unsigned descriptors, sessions;
	struct capacity c;

	cr_expect_eq(find(file, &host, &c, said), -EMFILE);
	descriptors = number_behind(said, "LimitNOFILE=");
	cr_expect_eq(number_behind(said, "ulimit -n "), descriptors);
	sessions = number_behind(said, "this mends it: workers = auto, or "
				       "max-sessions = ");
	host.descriptors = descriptors;
	cr_expect_eq(find(file, &host, &c, other), 0, "%s", other);
	host.descriptors--;
	cr_expect_eq(find(file, &host, &c, other), -EMFILE);
	host.descriptors = 20000;
	snprintf(mended, sizeof(mended), "workers = 2\nmax-sessions = %u\n",
	    sessions);
	cr_expect_eq(find(mended, &host, &c, other), 0, "%s", other);
	snprintf(mended, sizeof(mended), "workers = 2\nmax-sessions = %u\n",
	    sessions + 1);
	cr_expect_eq(find(mended, &host, &c, other), -EMFILE);
	cr_expect_eq(find("max-sessions = 100001\n", &host, &c, other), 0);
}

Test(capacity, auto_is_proposed_only_where_it_does_and_is_not)
{
	struct capacity_host host = { .descriptors = 2048, .processors = 2 };
	struct capacity c;
	char said[512];

	cr_expect_eq(
	    find("max-sessions = 10000000\n", &host, &c, said), -EMFILE);
	cr_expect_null(strstr(said, "workers = auto"), "%s", said);
	cr_expect_eq(
	    find("workers = 9\nmax-sessions = 10000000\n", &host, &c, said),
	    -EMFILE);
	cr_expect_null(strstr(said, "workers = auto"), "%s", said);
	host.descriptors = 140;
	cr_expect_eq(find("workers = 9\n", &host, &c, said), -EMFILE);
	cr_expect_not_null(strstr(said, ", or workers = 1\n"), "%s", said);
	cr_expect_eq(find("workers = 1\n", &host, &c, said), 0, "%s", said);
	host.descriptors = 100;
	cr_expect_eq(find("workers = 9\n", &host, &c, said), -EMFILE);
	cr_expect_null(strstr(said, "workers = 1\n"), "%s", said);
	cr_expect_not_null(strstr(said, "LimitNOFILE=1048576 "), "%s", said);
}

Test(capacity, never_more_workers_than_there_may_be)
{
	struct capacity_host host = { .descriptors = 2048, .processors = 500 };
	struct capacity c;
	char said[512];

	cr_assert_eq(find("", &host, &c, said), 0);
	cr_expect_eq(c.workers, 127);
	cr_expect_eq(
	    find("max-sessions = 10000000\n", &host, &c, said), -EMFILE);
}

Test(capacity, descriptors_and_sessions_are_the_same_sum)
{
	struct config *config = parse("");
	struct capacity_host host = { .processors = 4 };
	struct capacity c;
	char said[512];

	host.descriptors = capacity_descriptors(config, 4, 1000);
	cr_assert_eq(find("", &host, &c, said), 0);
	cr_expect_eq(c.each, 1000);
	config_free(config);
}

Test(capacity, the_most_is_what_all_workers_hold)
{
	struct config *config = parse("workers = 127\n");
	struct capacity_host host = { .descriptors = 20000 };
	struct capacity c;

	cr_assert_eq(capacity_find(config, &host, stderr, &c), 0);
	cr_expect_eq(capacity_most(config, 20000), c.sessions);
	/* As many as the option may say. */
	cr_expect_eq(capacity_most(config, UINT64_C(1) << 32), 10000000);
	config_free(config);
}

Test(capacity, this_host_has_processors)
{
	cr_expect_geq(capacity_processors(), 1);
	cr_expect_leq(capacity_processors(), 127);
}
