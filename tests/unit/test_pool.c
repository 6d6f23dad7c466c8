/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>

#include <criterion/criterion.h>

#include "egress/pool.h"

static int
add(struct pool *p, const char *text)
{
	struct prefix prefix;

	cr_assert_eq(prefix_parse(text, &prefix), 0);
	return pool_add_source(p, &prefix);
}

static struct addr
at(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse(text, &a), 0);
	return a;
}

static void
expect_slot(const struct pool *p, uint32_t slot, const char *text)
{
	struct addr want = at(text);
	char got[ADDR_TEXT_MAX];
	struct pool_slot s;
	uint32_t found;

	pool_slot(p, want.family, slot, &s);
	cr_expect(addr_equal(&s.source, &want), "slot %u is %s, not %s", slot,
	    addr_format(&s.source, got), text);
	cr_expect(pool_find(p, &want, &found) && found == slot);
}

Test(pool, slots_are_all_ports_of_an_address_then_of_the_next)
{
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "192.0.2.10"), 0);
	cr_assert_eq(add(&p, "2001:db8::8"), 0);
	cr_assert_eq(add(&p, "192.0.2.16/31"), 0);
	cr_assert_eq(pool_add_ports(&p, 3000, 3001, POOL_EXPLICIT), 0);
	cr_assert_eq(pool_add_ports(&p, 1000, 1000, POOL_RANGE), 0);
	cr_expect_eq(p.ports, 3);
	cr_expect_eq(pool_slots(&p, ADDR_V4), 9);
	cr_expect_eq(pool_slots(&p, ADDR_V6), 3);
	expect_slot(&p, 0, "192.0.2.10:1000");
	expect_slot(&p, 1, "192.0.2.10:3000");
	expect_slot(&p, 2, "192.0.2.10:3001");
	expect_slot(&p, 3, "192.0.2.16:1000");
	expect_slot(&p, 8, "192.0.2.17:3001");
	expect_slot(&p, 2, "[2001:db8::8]:3001");
}

Test(pool, a_port_is_bound_as_its_range_says)
{
	struct pool_slot s;
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "192.0.2.10"), 0);
	cr_assert_eq(pool_add_ports(&p, 1, 1, POOL_EXPLICIT), 0);
	cr_assert_eq(pool_add_ports(&p, 2, 2, POOL_RANGE), 0);
	pool_slot(&p, ADDR_V4, 0, &s);
	cr_expect_eq(s.bind, POOL_EXPLICIT);
	pool_slot(&p, ADDR_V4, 1, &s);
	cr_expect_eq(s.bind, POOL_RANGE);
}

Test(pool, the_id_of_a_slot_is_that_of_its_address)
{
	struct pool_slot s;
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "192.0.2.0/24"), 0);
	cr_assert_eq(pool_add_ports(&p, 10, 11, POOL_RANGE), 0);
	p.sources[0].first_id = 500;
	pool_slot(&p, ADDR_V4, 7, &s);
	cr_expect_eq(s.source_id, 503);
}

Test(pool, what_is_not_in_the_pool_is_not_found)
{
	static const char *const outside[] = { "192.0.2.9:1000",
		"192.0.2.12:1000", "192.0.2.10:999", "192.0.2.10:1002",
		"[2001:db8::1]:1000", "0.0.0.0:1000" };
	struct pool p;
	uint32_t slot;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "192.0.2.10/31"), 0);
	cr_assert_eq(add(&p, "2001:db8::"), 0);
	cr_assert_eq(pool_add_ports(&p, 1000, 1001, POOL_RANGE), 0);
	for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
		struct addr a = at(outside[i]);

		cr_expect(!pool_find(&p, &a, &slot), "%s", outside[i]);
	}
}

Test(pool, a_scope_tells_addresses_apart)
{
	struct addr inside = at("[fe80::1]:1000");
	struct pool p;
	uint32_t slot;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "fe80::1%1"), 0);
	cr_assert_eq(pool_add_ports(&p, 1000, 1000, POOL_RANGE), 0);
	cr_expect(!pool_find(&p, &inside, &slot));
	inside.scope = 1;
	cr_expect(pool_find(&p, &inside, &slot));
}

Test(pool, by_route_is_one_address)
{
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "0.0.0.0"), 0);
	cr_assert_eq(add(&p, "::"), 0);
	cr_assert_eq(pool_add_ports(&p, 40000, 40009, POOL_RANGE), 0);
	cr_expect_eq(pool_slots(&p, ADDR_V4), 10);
	cr_expect_eq(pool_slots(&p, ADDR_V6), 10);
	expect_slot(&p, 4, "0.0.0.0:40004");
	expect_slot(&p, 9, "[::]:40009");
	cr_expect_eq(add(&p, "192.0.2.1"), -EEXIST);
}

Test(pool, a_long_prefix_counts_as_many_addresses_as_slots_can_be_numbered)
{
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "10.0.0.0/8"), 0);
	cr_assert_eq(add(&p, "2001:db8::/64"), 0);
	cr_assert_eq(pool_add_ports(&p, 7, 7, POOL_RANGE), 0);
	cr_expect_eq(pool_slots(&p, ADDR_V4), UINT32_C(1) << 24);
	expect_slot(&p, 0xffffff, "10.255.255.255:7");
	cr_assert_eq(pool_add_ports(&p, 1000, 1999, POOL_RANGE), 0);
	cr_expect_eq(pool_slots(&p, ADDR_V6), POOL_SLOTS_MAX);
	expect_slot(&p, 1001 * 0x10203 + 1000, "[2001:db8::1:203]:1999");
}

Test(pool, an_address_or_port_that_is_there_is_not_added_again)
{
	struct pool p;

	pool_init(&p, "a");
	cr_assert_eq(add(&p, "192.0.2.0/28"), 0);
	cr_expect_eq(add(&p, "192.0.2.15"), -EEXIST);
	cr_expect_eq(add(&p, "192.0.0.0/16"), -EEXIST);
	cr_expect_eq(add(&p, "0.0.0.0"), -EEXIST);
	cr_expect_eq(add(&p, "192.0.2.16"), 0);
	cr_assert_eq(pool_add_ports(&p, 100, 200, POOL_RANGE), 0);
	cr_expect_eq(pool_add_ports(&p, 200, 300, POOL_RANGE), -EEXIST);
	cr_expect_eq(pool_add_ports(&p, 50, 100, POOL_EXPLICIT), -EEXIST);
	cr_expect_eq(pool_add_ports(&p, 1, 65535, POOL_RANGE), -EEXIST);
	cr_expect_eq(pool_add_ports(&p, 201, 201, POOL_RANGE), 0);
	cr_expect_eq(p.ports, 102);
}

Test(pool, a_range_without_ports_is_invalid)
{
	struct pool p;

	pool_init(&p, "a");
	cr_expect_eq(pool_add_ports(&p, 0, 5, POOL_RANGE), -EINVAL);
	cr_expect_eq(pool_add_ports(&p, 6, 5, POOL_RANGE), -EINVAL);
	cr_expect_eq(pool_add_ports(&p, 1, 65535, POOL_RANGE), 0);
	cr_expect_eq(p.ports, 65535);
}

Test(pool, tables_that_are_full_say_so)
{
	char text[ADDR_TEXT_MAX];
	struct pool p;

	pool_init(&p, "a");
	for (unsigned i = 0; i < POOL_SOURCES_MAX; i++) {
		snprintf(text, sizeof(text), "10.0.%u.1", i);
		cr_assert_eq(add(&p, text), 0);
	}
	cr_expect_eq(add(&p, "10.1.0.1"), -ENOSPC);
	for (unsigned i = 0; i < POOL_RANGES_MAX; i++) {
		uint16_t port = (uint16_t)(1000 - i);

		cr_assert_eq(pool_add_ports(&p, port, port, POOL_RANGE), 0);
	}
	cr_expect_eq(pool_add_ports(&p, 2, 2, POOL_RANGE), -ENOSPC);
	expect_slot(&p, 256 * 256 - 1, "10.0.255.1:1000");
	expect_slot(&p, 0, "10.0.0.1:745");
}

static void
make(struct pool *p, const char *source, uint16_t first, uint16_t last)
{
	pool_init(p, "a");
	cr_assert_eq(add(p, source), 0);
	cr_assert_eq(pool_add_ports(p, first, last, POOL_RANGE), 0);
}

Test(pool, pools_overlap_where_they_share_an_address_and_a_port)
{
	static const struct {
		const char *a, *b;
		uint16_t first, last;
		bool overlap;
	} cases[] = {
		{ "192.0.2.0/24", "192.0.2.7", 100, 110, true },
		{ "192.0.2.7", "192.0.2.0/24", 90, 100, true },
		{ "192.0.2.7", "192.0.2.0/24", 90, 99, false },
		{ "192.0.2.7", "192.0.2.8", 100, 110, false },
		{ "0.0.0.0", "192.0.2.8", 105, 105, true },
		{ "0.0.0.0", "2001:db8::1", 105, 105, false },
		{ "0.0.0.0", "0.0.0.0", 111, 120, false },
	};
	struct pool a, b;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make(&a, cases[i].a, 100, 110);
		make(&b, cases[i].b, cases[i].first, cases[i].last);
		cr_expect_eq(
		    pool_overlaps(&a, &b), cases[i].overlap, "case %zu", i);
		cr_expect_eq(
		    pool_overlaps(&b, &a), cases[i].overlap, "case %zu", i);
	}
	a.by_kernel = true;
	make(&b, "0.0.0.0", 100, 110);
	cr_expect(!pool_overlaps(&a, &b));
}

Test(pool, where_the_kernel_chooses_there_are_no_slots)
{
	struct addr a = at("192.0.2.1:5");
	struct pool p;
	uint32_t slot;

	make(&p, "192.0.2.1", 5, 5);
	p.by_kernel = true;
	cr_expect_eq(pool_slots(&p, ADDR_V4), 0);
	cr_expect(!pool_find(&p, &a, &slot));
}

Test(pool, equal_is_whatever_gives_the_same_slots_in_the_same_way)
{
	struct pool a, b;

	make(&a, "192.0.2.0/24", 100, 110);
	make(&b, "192.0.2.0/24", 100, 110);
	b.sources[0].first_id = 9;
	b.name[0] = 'b';
	cr_expect(pool_equal(&a, &b));
	b.ranges[0].bind = POOL_EXPLICIT;
	cr_expect(!pool_equal(&a, &b));
	make(&b, "192.0.2.0/25", 100, 110);
	cr_expect(!pool_equal(&a, &b));
	make(&b, "192.0.2.0/24", 100, 111);
	cr_expect(!pool_equal(&a, &b));
	make(&b, "192.0.2.0/24", 100, 110);
	b.by_kernel = true;
	cr_expect(!pool_equal(&a, &b));
}

Test(pool, one_port_is_bound_in_one_way_whatever_the_address)
{
	struct pool a, b;
	uint16_t port = 0;

	pool_init(&a, "a");
	pool_init(&b, "b");
	cr_assert_eq(add(&a, "192.0.2.1"), 0);
	cr_assert_eq(add(&b, "192.0.2.2"), 0);
	cr_assert_eq(pool_add_ports(&a, 100, 199, POOL_RANGE), 0);
	cr_assert_eq(pool_add_ports(&a, 300, 399, POOL_EXPLICIT), 0);
	cr_assert_eq(pool_add_ports(&b, 50, 99, POOL_EXPLICIT), 0);
	cr_assert_eq(pool_add_ports(&b, 150, 250, POOL_RANGE), 0);
	cr_assert_eq(pool_add_ports(&b, 251, 310, POOL_EXPLICIT), 0);
	cr_expect_not(pool_mixes_binds(&a, &b, &port));
	cr_expect_not(pool_mixes_binds(&b, &a, &port));
	cr_assert_eq(pool_add_ports(&b, 399, 400, POOL_RANGE), 0);
	cr_expect(pool_mixes_binds(&a, &b, &port));
	cr_expect_eq(port, 399);
	port = 0;
	cr_expect(pool_mixes_binds(&b, &a, &port));
	cr_expect_eq(port, 399);
	b.by_kernel = true;
	cr_expect_not(pool_mixes_binds(&a, &b, &port));
}
