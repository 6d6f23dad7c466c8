/* SPDX-License-Identifier: ISC */
#include <sys/resource.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "egress/hostnet.h"
#include "it.h"
#include "netns.h"

/* Not /24: a network on lo is local as a whole, like 127.0.0.0/8. */
#define ADD_V4 "ip address add 192.0.2.10/32 broadcast 192.0.2.255 dev lo"

static struct addr
ip(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse_ip(text, &a), 0, "%s", text);
	return a;
}

static bool
is_local(const struct hostnet *h, const char *text)
{
	struct addr a = ip(text);

	return hostnet_is_local(h, &a);
}

static bool
is_broadcast(const struct hostnet *h, const char *text)
{
	struct addr a = ip(text);

	return hostnet_is_broadcast(h, &a);
}

static bool
covers(const struct hostnet *h, const char *text)
{
	struct prefix p;

	cr_assert_eq(prefix_parse(text, &p), 0, "%s", text);
	return hostnet_covers(h, &p);
}

static void
expect_in_namespace(const char *const *setup, int (*body)(void))
{
	int result = netns_run(setup, body);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

Test(hostnet, loopback_is_local)
{
	struct hostnet h;

	hostnet_init(&h);
	cr_expect_not(is_local(&h, "127.0.0.1"));
	cr_assert_eq(hostnet_refresh(&h, 1000, 0), 0);
	cr_expect_eq(h.read_ms, 1000);
	cr_expect(is_local(&h, "127.0.0.1"));
	cr_expect(is_local(&h, "127.200.3.4"));
	cr_expect_not(is_local(&h, "192.0.2.1"));
	cr_expect_not(is_local(&h, "2001:db8::1"));
	cr_expect(is_broadcast(&h, "127.255.255.255"));
	cr_expect_not(is_broadcast(&h, "127.0.0.1"));
	hostnet_fini(&h);
	cr_expect_not(is_local(&h, "127.0.0.1"));
}

Test(hostnet, a_broadcast_address_inside_a_prefix_is_found)
{
	struct hostnet h;
	struct prefix p;
	struct addr found;

	hostnet_init(&h);
	cr_assert_eq(hostnet_refresh(&h, 1, 0), 0);
	cr_assert_eq(prefix_parse("127.255.0.0/16", &p), 0);
	cr_assert(hostnet_find_broadcast(&h, &p, &found));
	struct addr expected = ip("127.255.255.255");

	cr_expect(addr_equal(&found, &expected));
	cr_assert_eq(prefix_parse("127.254.0.0/16", &p), 0);
	cr_expect_not(hostnet_find_broadcast(&h, &p, &found));
	cr_assert_eq(prefix_parse("::/0", &p), 0);
	cr_expect_not(hostnet_find_broadcast(&h, &p, &found));
	hostnet_fini(&h);
}

Test(hostnet, a_young_copy_is_not_read_again)
{
	struct hostnet h;
	struct prefix *before;

	hostnet_init(&h);
	cr_assert_eq(hostnet_refresh(&h, 1000, 500), 0);
	before = h.local;
	cr_assert_eq(hostnet_refresh(&h, 1500, 500), 0);
	cr_expect_eq(h.read_ms, 1000);
	cr_expect_eq(h.local, before);
	cr_assert_eq(hostnet_refresh(&h, 1501, 500), 0);
	cr_expect_eq(h.read_ms, 1501);
	hostnet_fini(&h);
}

Test(hostnet, a_failed_reading_leaves_the_copy)
{
	struct rlimit before, none;
	struct hostnet h;

	hostnet_init(&h);
	cr_assert_eq(hostnet_refresh(&h, 1000, 0), 0);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cr_expect_eq(hostnet_refresh(&h, 2000, 0), -EMFILE);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	cr_expect_eq(h.read_ms, 1000);
	cr_expect(is_local(&h, "127.0.0.1"));
	hostnet_fini(&h);
}

/* 0 when all hold, else the number of the first that does not. */
static int
first_false(const bool *checks, int count)
{
	for (int i = 0; i < count; i++) {
		if (!checks[i])
			return i + 1;
	}
	return 0;
}

/* The kernel puts an IPv6 address into its tables a little later than it says
 * so: looks again until it is there. */
static bool
becomes_local(struct hostnet *h, const char *text)
{
	uint64_t since_ms = it_now_ms();

	while (it_now_ms() - since_ms < IT_DEADLINE_MS) {
		if (hostnet_refresh(h, 2, 0) == 0 && is_local(h, text))
			return true;
		h->read_ms = 0;
		sched_yield();
	}
	return false;
}

static int
addresses_come_and_go(void)
{
	struct hostnet h;
	bool checks[8] = { false };

	hostnet_init(&h);
	checks[0] = hostnet_refresh(&h, 1, 0) == 0;
	checks[1] = !is_local(&h, "192.0.2.10");
	checks[2] = system(ADD_V4) == 0 &&
		    system("ip address add 2001:db8::7/64 dev lo nodad") == 0 &&
		    becomes_local(&h, "2001:db8::7");
	checks[3] = is_local(&h, "192.0.2.10");
	checks[4] = !is_local(&h, "192.0.2.11") && !is_local(&h, "2001:db8::8");
	checks[5] = is_broadcast(&h, "192.0.2.255");
	checks[6] = system("ip address del 192.0.2.10/32 dev lo") == 0 &&
		    hostnet_refresh(&h, 3, 0) == 0;
	checks[7] = !is_local(&h, "192.0.2.10") && is_local(&h, "2001:db8::7");
	hostnet_fini(&h);
	return first_false(checks, ARRAY_LEN(checks));
}

Test(hostnet, addresses_come_and_go)
{
	static const char *const setup[] = { NULL };

	expect_in_namespace(setup, addresses_come_and_go);
}

static int
local_routes(void)
{
	struct hostnet h;
	bool checks[9] = { false };

	hostnet_init(&h);
	checks[0] = hostnet_refresh(&h, 1, 0) == 0;
	checks[1] = is_local(&h, "10.99.3.4") && !is_local(&h, "10.100.0.1");
	checks[2] =
	    is_local(&h, "2001:db8::1:2") && !is_local(&h, "2001:db8:1::");
	/* The other table is no business of ours. */
	checks[3] = !is_local(&h, "198.51.100.1");
	checks[4] = covers(&h, "10.99.0.0/16") && covers(&h, "10.99.8.0/24");
	checks[5] = !covers(&h, "10.98.0.0/15") && !covers(&h, "10.0.0.0/8");
	checks[6] = covers(&h, "203.0.113.0/30") && covers(&h, "127.0.0.0/8");
	checks[7] = !covers(&h, "203.0.113.0/29") && !covers(&h, "::/0");
	checks[8] = covers(&h, "2001:db8::/64") && !covers(&h, "2001:db8::/63");
	hostnet_fini(&h);
	return first_false(checks, ARRAY_LEN(checks));
}

Test(hostnet, routes_of_type_local_count)
{
	static const char *const setup[] = {
		"ip route add local 10.99.0.0/16 dev lo",
		"ip -6 route add local 2001:db8::/64 dev lo",
		"ip route add local 198.51.100.0/24 dev lo table 100",
		"ip route add local 203.0.113.0/31 dev lo",
		"ip route add local 203.0.113.2/32 dev lo",
		"ip route add local 203.0.113.3/32 dev lo",
		NULL,
	};

	expect_in_namespace(setup, local_routes);
}

static int
many_addresses(void)
{
	struct hostnet h;
	bool checks[3] = { false };

	hostnet_init(&h);
	checks[0] = hostnet_refresh(&h, 1, 0) == 0;
	checks[1] = covers(&h, "10.1.0.0/21");
	checks[2] = !covers(&h, "10.1.0.0/20");
	hostnet_fini(&h);
	return first_false(checks, ARRAY_LEN(checks));
}

/* More than one message of the dump. */
Test(hostnet, a_long_table_is_read_whole)
{
	static const char *const setup[] = {
		"for a in 0 1 2 3 4 5 6 7; do for b in $(seq 0 255); do"
		" echo route add local 10.1.$a.$b dev lo; done; done"
		" | ip -batch -",
		NULL,
	};

	expect_in_namespace(setup, many_addresses);
}
