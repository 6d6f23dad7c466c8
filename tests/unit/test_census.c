/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger_fixture.h"
#include "service/census.h"

#define NOW UINT64_C(1000000)

static void
lease(struct ledger *l, unsigned pool, const char *target, unsigned count)
{
	struct ledger_lease ignored;

	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fixture_lease(l, pool, target, NOW, &ignored), 0);
}

/* Leases that end and cool. */
static void
cool(struct ledger *l, unsigned pool, const char *target, unsigned count)
{
	struct ledger_lease leases[64];

	cr_assert_leq(count, ARRAY_LEN(leases));
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(
		    fixture_lease(l, pool, target, NOW, &leases[i]), 0);
	for (unsigned i = 0; i < count; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
}

static struct census
take(struct ledger *l, size_t top)
{
	struct census c;

	cr_assert_eq(census_take(&c, l, NOW, top), 0);
	return c;
}

static const struct census_address *
find(const struct census *c, const char *ip)
{
	struct addr a;

	cr_assert_eq(addr_parse_ip(ip, &a), 0);
	for (size_t i = 0; i < c->address_count; i++)
		if (addr_equal(&c->addresses[i].ip, &a))
			return &c->addresses[i];
	cr_assert_fail("no row of %s", ip);
	return NULL;
}

static struct ledger *
two_addresses(void)
{
	struct ledger *l = fixture_ledger(20000, 20000);
	struct pool p = fixture_pool("192.0.2.1", 100, 109);

	fixture_add(&p, "192.0.2.2");
	cr_assert_eq(ledger_set_pool(l, 3, &p), 0);
	return l;
}

Test(census, an_idle_pool_is_all_free)
{
	struct census c = take(two_addresses(), 20);

	cr_expect_eq(c.held + c.cooling + c.targets + c.sources, 0);
	cr_expect_null(c.pools[0].definition);
	cr_assert_not_null(c.pools[3].definition);
	cr_expect_eq(c.pools[3].addresses, 2);
	cr_expect_eq(c.pools[3].slots, 20);
	cr_expect_eq(c.pools[3].free, 20);
	cr_assert_eq(c.address_count, 2);
	cr_expect_eq(c.addresses[0].pool, 3);
	cr_expect_eq(c.addresses[0].slots, 10);
	cr_expect_eq(c.addresses[1].free, 10);
	cr_expect_eq(c.top_count, 0);
	census_fini(&c);
}

Test(census, a_port_that_many_targets_share_is_used_once)
{
	struct ledger *l = two_addresses();
	struct census c;

	for (unsigned i = 0; i < 50; i++) {
		char target[64];

		snprintf(target, sizeof(target), "203.0.113.%u:443", i);
		lease(l, 3, target, 2);
	}
	/* 12 to one target: the first address is full, 2 of the second. */
	lease(l, 3, "198.51.100.1:80", 12);
	c = take(l, 20);
	cr_expect_eq(c.held, 112);
	cr_expect_eq(c.targets, 51);
	cr_expect_eq(c.sources, 12);
	cr_expect_eq(c.pools[3].held, 112);
	cr_expect_eq(c.pools[3].targets, 51);
	cr_expect_eq(c.pools[3].free, 8);
	cr_expect_eq(find(&c, "192.0.2.1")->held, 110);
	cr_expect_eq(find(&c, "192.0.2.1")->used, 10);
	cr_expect_eq(find(&c, "192.0.2.1")->free, 0);
	cr_expect_eq(find(&c, "192.0.2.2")->held, 2);
	cr_expect_eq(find(&c, "192.0.2.2")->free, 8);
	census_fini(&c);
}

Test(census, what_cools_is_no_source_but_not_free)
{
	struct ledger *l = two_addresses();
	struct census c;

	lease(l, 3, "198.51.100.1:80", 1);
	cool(l, 3, "198.51.100.1:80", 4);
	c = take(l, 20);
	cr_expect_eq(c.held, 1);
	cr_expect_eq(c.cooling, 4);
	cr_expect_eq(c.sources, 1);
	cr_expect_eq(c.pools[3].cooling, 4);
	cr_expect_eq(find(&c, "192.0.2.1")->cooling, 4);
	cr_expect_eq(find(&c, "192.0.2.1")->free, 5);
	cr_assert_eq(c.top_count, 1);
	cr_expect_eq(c.top[0].row.held, 1);
	cr_expect_eq(c.top[0].cooling, 4);
	cr_expect_eq(c.top[0].row.slots, 20);
	census_fini(&c);
	/* Their time is over. */
	cr_assert_eq(census_take(&c, l, NOW + LEDGER_LONG_MS, 20), 0);
	cr_expect_eq(c.cooling, 0);
	cr_expect_eq(find(&c, "192.0.2.1")->free, 9);
	census_fini(&c);
}

Test(census, a_port_that_rests_is_not_free_on_any_address)
{
	struct ledger *l = two_addresses();
	struct census c;

	lease(l, 3, "198.51.100.1:80", 2);
	/* One that is held meanwhile, and two that are not; 90 is no port of
	 * the pool. */
	ledger_rest_port(l, 100, NOW - 1, NOW + 1000);
	ledger_rest_port(l, 104, NOW - 1, NOW + 1000);
	ledger_rest_port(l, 105, NOW - 1, NOW + 1000);
	ledger_rest_port(l, 90, NOW - 1, NOW + 1000);
	c = take(l, 20);
	cr_expect_eq(c.pools[3].rested, 3);
	cr_expect_eq(find(&c, "192.0.2.1")->rested, 3);
	cr_expect_eq(find(&c, "192.0.2.1")->used, 2);
	cr_expect_eq(find(&c, "192.0.2.1")->free, 6);
	cr_expect_eq(find(&c, "192.0.2.2")->free, 7);
	cr_expect_eq(c.pools[3].free, 13);
	census_fini(&c);
}

Test(census, what_rests_is_no_part_of_what_a_target_can_have)
{
	struct ledger *l = two_addresses();
	struct census c;

	/* One of them is held from before, one cooled; on two addresses. */
	lease(l, 3, "198.51.100.1:80", 1);
	cool(l, 3, "198.51.100.1:80", 1);
	for (uint16_t port = 100; port < 104; port++)
		ledger_rest_port(l, port, NOW - 1, NOW + 1000);
	lease(l, 3, "198.51.100.1:80", 10);
	lease(l, 3, "198.51.100.2:80", 9);
	c = take(l, 20);
	cr_expect_eq(c.cooling, 0);
	cr_expect_eq(c.top[0].row.held, 11);
	cr_expect_eq(c.top[0].cooling, 0);
	cr_expect_eq(c.top[0].row.slots, 20);
	cr_expect_eq(c.top[0].rested, 7);
	cr_expect_eq(census_used_percent(&c.top[0]), 84);
	cr_expect_eq(c.top[1].rested, 8);
	cr_expect_eq(census_used_percent(&c.top[1]), 75);
	census_fini(&c);
	/* Of all ports, and what is held still counts. */
	for (uint16_t port = 104; port < 110; port++)
		ledger_rest_port(l, port, NOW - 1, NOW + 1000);
	c = take(l, 20);
	cr_expect_eq(c.top[0].rested, 9);
	cr_expect_eq(census_used_percent(&c.top[0]), 100);
	census_fini(&c);
}

Test(census, the_most_used_targets_are_on_top)
{
	struct ledger *l = two_addresses();
	struct census c;

	fixture_set(l, 4, "192.0.2.9", 100, 199);
	for (unsigned i = 1; i <= 15; i++) {
		char target[64];

		snprintf(target, sizeof(target), "203.0.113.%u:443", i);
		lease(l, 3, target, i % 7 + 1);
	}
	/* More than any of these, but of a larger budget; and one of which
	 * more cools than is held. */
	lease(l, 4, "198.51.100.1:80", 30);
	cool(l, 3, "198.51.100.2:80", 19);
	c = take(l, 4);
	cr_assert_eq(c.top_count, 4);
	cr_expect_eq(c.targets, 17);
	cr_expect_eq(c.top[0].cooling, 19);
	cr_expect_eq(c.top[1].row.held, 7);
	cr_expect_eq(c.top[2].row.held, 7);
	cr_expect_eq(c.top[3].row.held, 30);
	census_fini(&c);
	c = take(l, 100);
	cr_assert_eq(c.top_count, 17);
	for (unsigned i = 1; i < 17; i++)
		cr_expect_geq((c.top[i - 1].row.held + c.top[i - 1].cooling) *
				  1000 / c.top[i - 1].row.slots,
		    (c.top[i].row.held + c.top[i].cooling) * 1000 /
			c.top[i].row.slots);
	census_fini(&c);
	c = take(l, 0);
	cr_expect_eq(c.top_count, 0);
	census_fini(&c);
}

Test(census, what_a_pool_has_not_any_more_is_told_beside_it)
{
	struct ledger *l = two_addresses();
	struct pool p = fixture_pool("192.0.2.2", 105, 109);
	struct census c;

	lease(l, 3, "198.51.100.1:80", 12);
	cr_assert_eq(ledger_set_pool(l, 3, &p), 0);
	ledger_rest_port(l, 107, NOW - 1, NOW + 1000);
	c = take(l, 20);
	cr_assert_eq(c.address_count, 2);
	cr_expect_eq(find(&c, "192.0.2.1")->held, 10);
	cr_expect(find(&c, "192.0.2.1")->outside);
	cr_expect_eq(find(&c, "192.0.2.1")->slots, 0);
	cr_expect_eq(find(&c, "192.0.2.1")->free, 0);
	cr_expect_eq(find(&c, "192.0.2.1")->rested, 0);
	/* Its ports 100 and 101 are held, and none of the five. */
	cr_expect_eq(find(&c, "192.0.2.2")->used, 2);
	cr_expect_eq(find(&c, "192.0.2.2")->free, 4);
	cr_expect_eq(c.addresses[0].slots, 5);
	census_fini(&c);
}

Test(census, by_route_the_addresses_are_those_that_were_found)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("0.0.0.0", 100, 109);
	struct addr named = fixture_at("192.0.2.77:100");
	struct ledger_lease one;
	struct census c;

	fixture_add(&p, "::");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	c = take(l, 20);
	cr_assert_eq(c.address_count, 2);
	cr_expect_eq(find(&c, "0.0.0.0")->free, 10);
	census_fini(&c);
	cr_assert_eq(fixture_lease(l, 0, "198.51.100.1:80", NOW, &one), 0);
	ledger_name_source(l, &one, &named);
	c = take(l, 20);
	cr_assert_eq(c.address_count, 1);
	cr_expect_eq(find(&c, "192.0.2.77")->held, 1);
	cr_expect_eq(find(&c, "192.0.2.77")->free, 9);
	cr_expect_not(find(&c, "192.0.2.77")->outside);
	census_fini(&c);
}

Test(census, where_the_kernel_chooses_nothing_is_said_to_be_free)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct addr named = fixture_at("192.0.2.1:40123");
	struct ledger_lease one;
	struct census c;
	struct pool p;

	pool_init(&p, "kernel");
	fixture_add(&p, "192.0.2.1");
	p.by_kernel = true;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	cr_assert_eq(fixture_lease(l, 0, "198.51.100.1:80", NOW, &one), 0);
	ledger_name_source(l, &one, &named);
	c = take(l, 20);
	cr_assert_eq(c.address_count, 1);
	cr_expect_eq(c.addresses[0].held, 1);
	cr_expect_eq(c.addresses[0].slots + c.addresses[0].free, 0);
	cr_expect_eq(c.pools[0].slots + c.pools[0].free, 0);
	cr_expect_eq(c.top[0].row.slots, 0);
	cr_expect_eq(census_used_percent(&c.top[0]), 0);
	census_fini(&c);
}

Test(census, an_ipv6_prefix_shows_the_addresses_in_use)
{
	struct ledger *l = fixture_ledger(9000, 1000);
	struct pool p = fixture_pool("2001:db8::/64", 40000, 40000);
	struct census c;

	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	lease(l, 0, "[2001:db8:1::1]:443", 3000);
	lease(l, 0, "[2001:db8:1::2]:443", 2000);
	c = take(l, 1);
	cr_assert_eq(c.address_count, 3000);
	cr_expect_eq(c.sources, 3000);
	cr_expect_eq(c.held, 5000);
	cr_expect_eq(find(&c, "2001:db8::7")->held, 2);
	cr_expect_eq(find(&c, "2001:db8::7")->free, 0);
	for (size_t i = 1; i < c.address_count; i++)
		cr_assert_lt(
		    memcmp(c.addresses[i - 1].ip.ip, c.addresses[i].ip.ip, 16),
		    0);
	census_fini(&c);
}

Test(census, a_share_is_told_in_percent)
{
	cr_expect_eq(census_percent(0, 10), 0);
	cr_expect_eq(census_percent(999, 1000), 99);
	cr_expect_eq(census_percent(UINT32_MAX, UINT32_MAX), 100);
	cr_expect_eq(census_percent(5, 0), 0);
}
