/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "egress/ledger_shard.h"
#include "ledger_fixture.h"

#define TARGET "203.0.113.9:443"
#define NOW    UINT64_C(1000000)

/* Leases; the source must be `source`. Returns the lease. */
static struct ledger_lease
expect_lease(
    struct ledger *l, const char *target, uint64_t now_ms, const char *source)
{
	struct addr want = fixture_at(source);
	struct ledger_lease lease;
	char got[ADDR_TEXT_MAX];
	int error = fixture_lease(l, 0, target, now_ms, &lease);

	cr_assert_eq(error, 0, "%s: %d", source, error);
	cr_assert(addr_equal(&lease.source, &want), "%s is %s", source,
	    addr_format(&lease.source, got));
	return lease;
}

static void
expect_full(struct ledger *l, const char *target, uint64_t now_ms)
{
	struct ledger_lease lease;

	cr_assert_eq(fixture_lease(l, 0, target, now_ms, &lease), -EADDRINUSE);
}

static struct ledger_target
look(struct ledger *l, const char *target, uint64_t now_ms)
{
	struct addr a = fixture_at(target);
	struct ledger_target t;

	ledger_target(l, 0, &a, now_ms, &t);
	return t;
}

static struct ledger *
small(void)
{
	struct ledger *l = fixture_ledger(1000, 1000);

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	return l;
}

Test(ledger, each_target_is_given_every_slot_once_from_the_first_on)
{
	struct ledger *l = small();

	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	expect_lease(l, "203.0.113.9:444", NOW, "192.0.2.1:100");
}

Test(ledger, a_full_target_says_so_and_others_are_not_concerned)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");

	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	expect_full(l, TARGET, NOW);
	expect_lease(l, "203.0.113.10:443", NOW, "192.0.2.1:100");
	ledger_return(l, &a, LEDGER_HOT, NOW);
	cr_expect_eq(a.record, UINT32_MAX);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	expect_full(l, TARGET, NOW);
	fixture_check(l);
}

Test(ledger, what_cannot_be_had_has_its_own_error)
{
	struct ledger *l = small();
	struct ledger_lease lease;

	cr_expect_eq(fixture_lease(l, 1, TARGET, NOW, &lease), -ENOENT);
	cr_expect_eq(fixture_lease(l, 64, TARGET, NOW, &lease), -ENOENT);
	cr_expect_eq(
	    fixture_lease(l, 0, "[2001:db8::1]:1", NOW, &lease), -EAFNOSUPPORT);
	cr_expect_eq(look(l, TARGET, NOW).slots, 0);
	fixture_check(l);
}

Test(ledger, hot_slots_are_used_first_in_the_order_of_their_return)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	ledger_return(l, &b, LEDGER_HOT, NOW);
	ledger_return(l, &a, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
}

Test(ledger, a_slot_cools_for_as_long_as_its_end_says)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	ledger_return(l, &a, LEDGER_LONG, NOW);
	ledger_return(l, &b, LEDGER_BRIEF, NOW);
	expect_full(l, TARGET, NOW + LEDGER_BRIEF_MS - 1);
	cr_expect_eq(look(l, TARGET, NOW).cooling, 2);
	expect_lease(l, TARGET, NOW + LEDGER_BRIEF_MS, "192.0.2.1:101");
	expect_full(l, TARGET, NOW + LEDGER_LONG_MS - 1);
	expect_lease(l, TARGET, NOW + LEDGER_LONG_MS, "192.0.2.1:100");
	fixture_check(l);
}

Test(ledger, what_the_kernel_gives_away_cools_for_as_long_as_that_takes)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_lease lease;

	fixture_set(l, 0, "192.0.2.1", 100, 100);
	lease = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	ledger_return(l, &lease, LEDGER_REUSABLE, NOW);
	expect_full(l, TARGET, NOW + LEDGER_BRIEF_MS - 1);
	lease = expect_lease(l, TARGET, NOW + LEDGER_BRIEF_MS, "192.0.2.1:100");
	ledger_set_reuse_delay(l, 5000);
	ledger_return(l, &lease, LEDGER_REUSABLE, NOW);
	expect_full(l, TARGET, NOW + 5000);
	lease = expect_lease(l, TARGET, NOW + 5100, "192.0.2.1:100");
	ledger_set_reuse_delay(l, UINT64_C(1) << 40);
	ledger_return(l, &lease, LEDGER_REUSABLE, NOW);
	expect_full(l, TARGET, NOW + LEDGER_LONG_MS - 1);
	expect_lease(l, TARGET, NOW + LEDGER_LONG_MS, "192.0.2.1:100");
}

Test(ledger, a_cooled_slot_is_used_before_a_fresh_one)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");

	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	ledger_return(l, &a, LEDGER_BRIEF, NOW);
	expect_lease(l, TARGET, NOW + LEDGER_BRIEF_MS, "192.0.2.1:100");
	expect_lease(l, TARGET, NOW + LEDGER_BRIEF_MS, "192.0.2.1:102");
}

Test(ledger, an_old_lease_returns_nothing)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease copy = a, wild = { .record = 12345678 };
	struct ledger_lease other =
	    expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	ledger_return(l, &a, LEDGER_HOT, NOW);
	ledger_return(l, &a, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	ledger_return(l, &copy, LEDGER_HOT, NOW);
	ledger_return(l, &wild, LEDGER_HOT, NOW);
	cr_expect_eq(look(l, TARGET, NOW).held, 2);
	copy = other;
	ledger_return(l, &other, LEDGER_HOT, NOW);
	ledger_return(l, &copy, LEDGER_LONG, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	fixture_check(l);
}

Test(ledger, of_entries_with_nothing_held_or_cooling_a_few_are_kept)
{
	struct ledger *l = fixture_ledger(30000, 30000);
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	struct ledger_lease lease, twin;
	struct ledger_totals t;

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	for (unsigned i = 0; i < 30000; i++) {
		struct addr a = addr_v4(UINT32_C(0x0a000000) + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &twin), 0);
		ledger_return(l, &lease, LEDGER_HOT, NOW);
		ledger_return(l, &twin, LEDGER_HOT, NOW);
	}
	ledger_totals(l, &t);
	cr_expect_eq(t.held, 0);
	cr_expect_leq(t.targets, 64 * 192);
	cr_expect_eq(t.hot, 2 * t.targets);
	fixture_check(l);
	/* One that comes back finds what it had. */
	struct addr a = addr_v4(UINT32_C(0x0a000000) + 29999, 443);

	cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
	ledger_totals(l, &t);
	cr_expect_eq(t.held, 1);
	fixture_check(l);
}

/* Takes a lease towards each of so many targets, and returns it. */
static void
visit(struct ledger *l, uint32_t first, unsigned count)
{
	static const struct ledger_holder holder = { .session = 7,
		.worker = 1 };
	struct ledger_lease lease;

	for (unsigned i = 0; i < count; i++) {
		struct addr a = addr_v4(first + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
		ledger_return(l, &lease, LEDGER_HOT, NOW);
	}
}

/* What is kept was idle once and is in use again. */
Test(ledger, an_entry_in_use_makes_way_for_others_that_are_to_be_kept)
{
	struct ledger *l = fixture_ledger(30000, 30000);
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	struct ledger_lease held[500];
	struct ledger_totals t;

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	visit(l, UINT32_C(0x0a000000), ARRAY_LEN(held));
	for (unsigned i = 0; i < ARRAY_LEN(held); i++) {
		struct addr a = addr_v4(UINT32_C(0x0a000000) + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &held[i]), 0);
	}
	fixture_check(l);
	visit(l, UINT32_C(0x0b000000), 20000);
	ledger_totals(l, &t);
	cr_expect_eq(t.held, ARRAY_LEN(held));
	cr_expect_eq(t.targets, 64 * 192 + ARRAY_LEN(held));
	fixture_check(l);
	for (unsigned i = 0; i < ARRAY_LEN(held); i++)
		ledger_return(l, &held[i], LEDGER_HOT, NOW);
	ledger_totals(l, &t);
	cr_expect_eq(t.targets, 64 * 192);
	fixture_check(l);
}

/* Nothing was held or cooled; then somebody waits, or something cools. */
Test(ledger, an_entry_that_was_kept_ends_in_any_other_way_too)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct addr target = fixture_at(TARGET);
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	struct ledger_lease lease, other;
	struct ledger_ticket ticket;

	fixture_set(l, 0, "192.0.2.1", 100, 100);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t later = NOW + i * LEDGER_LONG_MS;

		visit(l, UINT32_C(0x0a000000), 1);
		lease = expect_lease(l, TARGET, later, "192.0.2.1:100");
		ledger_return(l, &lease, LEDGER_HOT, later);
		lease = expect_lease(l, TARGET, later, "192.0.2.1:100");
		cr_assert_eq(ledger_queue(l, 0, &target, &holder, 1, later,
				 &ticket, &other),
		    -EINPROGRESS);
		fixture_check(l);
		ledger_cancel(l, &ticket, later);
		fixture_check(l);
		ledger_return(l, &lease, LEDGER_HOT, later);
		fixture_check(l);
		lease = expect_lease(l, TARGET, later, "192.0.2.1:100");
		ledger_return(l, &lease, LEDGER_HOT, later);
		lease = expect_lease(l, TARGET, later, "192.0.2.1:100");
		ledger_return(l, &lease, LEDGER_LONG, later);
		fixture_check(l);
	}
}

Test(ledger, a_large_entry_with_nothing_held_or_cooling_costs_nothing)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_totals empty, t;
	struct ledger_lease leases[5];

	fixture_set(l, 0, "192.0.2.1", 100, 109);
	ledger_totals(l, &empty);
	for (unsigned i = 0; i < ARRAY_LEN(leases); i++)
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &leases[i]), 0);
	for (unsigned i = 0; i < ARRAY_LEN(leases); i++)
		ledger_return(l, &leases[i], LEDGER_HOT, NOW);
	ledger_totals(l, &t);
	cr_expect_eq(t.held + t.hot + t.targets, 0);
	cr_expect_eq(empty.records_free, t.records_free);
	cr_expect_eq(empty.targets_free, t.targets_free);
}

Test(ledger, a_target_that_has_cooled_is_forgotten_while_others_are_used)
{
	struct ledger *l = small();
	char target[ADDR_TEXT_MAX];
	struct ledger_lease lease;
	struct ledger_totals t;

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(
		    target, sizeof(target), "198.51.%u.%u:1", i / 200, i % 200);
		lease = expect_lease(
		    l, target, NOW + i * UINT64_C(1000), "192.0.2.1:100");
		ledger_return(l, &lease, LEDGER_LONG, NOW + i * UINT64_C(1000));
	}
	ledger_totals(l, &t);
	/* 62 are cooling still; a shard forgets when it is used. */
	cr_expect_lt(t.targets, 62 + 64 * 3, "%u targets", (unsigned)t.targets);
	cr_expect_eq(t.targets, t.cooling);
	fixture_check(l);
}

Test(ledger, a_large_target_ends_in_small_steps)
{
	struct ledger *l = fixture_ledger(10000, 1000);
	struct ledger_lease *leases = calloc(5000, sizeof(leases[0]));
	struct ledger_totals t;

	fixture_set(l, 0, "192.0.2.1", 1, 65535);
	for (unsigned i = 0; i < 5000; i++)
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &leases[i]), 0);
	for (unsigned i = 0; i < 5000; i++)
		ledger_return(l, &leases[i], LEDGER_HOT, NOW);
	ledger_totals(l, &t);
	cr_expect_gt(t.hot, 4900);
	/* The entry is a new one already. */
	cr_expect_eq(look(l, TARGET, NOW).hot, 0);
	leases[0] = expect_lease(l, TARGET, NOW, "192.0.2.1:1");
	fixture_check(l);
	for (unsigned i = 0; i < 500; i++) {
		ledger_return(l, &leases[0], LEDGER_HOT, NOW);
		leases[0] = expect_lease(l, TARGET, NOW, "192.0.2.1:1");
	}
	ledger_totals(l, &t);
	cr_expect_eq(t.hot, 0);
	fixture_check(l);
	free(leases);
}

Test(ledger, the_slot_that_equals_the_target_is_never_leased)
{
	struct ledger *l = small();

	expect_lease(l, "192.0.2.1:101", NOW, "192.0.2.1:100");
	expect_lease(l, "192.0.2.1:101", NOW, "192.0.2.1:102");
	expect_full(l, "192.0.2.1:101", NOW);
	cr_expect_eq(look(l, "192.0.2.1:101", NOW).slots, 2);
	cr_expect_eq(look(l, "192.0.2.1:101", NOW).held, 2);
	fixture_check(l);
}

Test(ledger, by_route_the_port_of_a_target_on_loopback_is_never_leased)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("0.0.0.0", 100, 101);

	fixture_add(&p, "::");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	expect_lease(l, "127.0.0.1:100", NOW, "0.0.0.0:101");
	expect_full(l, "127.0.0.1:100", NOW);
	expect_lease(l, "[::1]:101", NOW, "[::]:100");
	expect_full(l, "[::1]:101", NOW);
	/* Towards the rest of 127.0.0.0/8 the source is 127.0.0.1. */
	expect_lease(l, "127.0.0.2:100", NOW, "0.0.0.0:100");
	/* This may be an address of the host. */
	expect_lease(l, "203.0.113.9:100", NOW, "0.0.0.0:101");
	expect_full(l, "203.0.113.9:100", NOW);
	fixture_check(l);
}

Test(ledger, by_route_the_only_port_is_leased_towards_that_port_elsewhere)
{
	struct ledger *l = fixture_ledger(1000, 1000);

	fixture_set(l, 0, "0.0.0.0", 100, 100);
	expect_lease(l, "203.0.113.9:100", NOW, "0.0.0.0:100");
	expect_full(l, "127.0.0.1:100", NOW);
}

Test(ledger, a_slot_whose_reverse_tuple_is_leased_is_not_leased)
{
	struct ledger *l = small();
	struct ledger_lease a =
	    expect_lease(l, "192.0.2.1:101", NOW, "192.0.2.1:100");

	/* 100 is itself; 101 is leased the other way round. */
	expect_lease(l, "192.0.2.1:100", NOW, "192.0.2.1:102");
	expect_full(l, "192.0.2.1:100", NOW);
	ledger_return(l, &a, LEDGER_HOT, NOW);
	expect_lease(
	    l, "192.0.2.1:100", NOW + LEDGER_BRIEF_MS, "192.0.2.1:101");
	fixture_check(l);
}

Test(ledger, a_reverse_tuple_is_seen_across_pools)
{
	struct ledger *l = small();
	struct ledger_lease lease;

	fixture_set(l, 1, "192.0.2.2", 200, 201);
	expect_lease(l, "192.0.2.2:200", NOW, "192.0.2.1:100");
	cr_assert_eq(fixture_lease(l, 1, "192.0.2.1:100", NOW, &lease), 0);
	cr_expect_eq(lease.source.port, 201);
}

Test(ledger, a_reverse_tuple_is_seen_by_route)
{
	struct ledger *l = fixture_ledger(1000, 1000);

	fixture_set(l, 0, "0.0.0.0", 100, 102);
	expect_lease(l, "127.0.0.1:101", NOW, "0.0.0.0:100");
	expect_lease(l, "127.0.0.1:100", NOW, "0.0.0.0:102");
	expect_full(l, "127.0.0.1:100", NOW);
	expect_lease(l, "10.1.1.1:101", NOW, "0.0.0.0:100");
	expect_lease(l, "10.1.1.1:100", NOW, "0.0.0.0:102");
}

Test(ledger, a_port_that_rests_is_not_leased_towards_any_target)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	ledger_return(l, &a, LEDGER_HOT, NOW);
	cr_expect(ledger_rest_port(l, 100, NOW, NOW + 5000));
	cr_expect(!ledger_rest_port(l, 100, NOW + 1, NOW + 5001));
	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	expect_full(l, TARGET, NOW);
	expect_lease(l, "203.0.113.1:1", NOW, "192.0.2.1:101");
	expect_full(l, TARGET, NOW + 4999);
	fixture_check(l);
	ledger_return(l, &b, LEDGER_LONG, NOW);
	expect_full(l, TARGET, NOW + 4999);
	expect_lease(l, TARGET, NOW + 5001, "192.0.2.1:100");
	fixture_check(l);
}

/* Were each slot of a port that rests written down for each target, one port
 * that a stranger has would fill the memory. */
Test(ledger, what_rests_costs_no_memory)
{
	struct ledger *l = fixture_ledger(30000, 30000);
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	struct ledger_lease lease;
	struct ledger_totals t;

	fixture_set(l, 0, "192.0.2.0/24", 100, 101);
	cr_assert(ledger_rest_port(l, 100, NOW, NOW + 60000));
	for (unsigned i = 0; i < 500; i++) {
		struct addr a = addr_v4(UINT32_C(0x0a000000) + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
		cr_expect_eq(lease.source.port, 101);
	}
	cr_assert(ledger_rest_port(l, 101, NOW, NOW + 60000));
	for (unsigned i = 0; i < 500; i++) {
		struct addr a = addr_v4(UINT32_C(0x0b000000) + i, 443);

		cr_assert_eq(
		    ledger_lease(l, 0, &a, &holder, NOW, &lease), -EADDRINUSE);
	}
	ledger_totals(l, &t);
	cr_expect_eq(t.held, 500);
	cr_expect_eq(t.cooling + t.hot, 0);
	fixture_check(l);
}

Test(ledger, every_slot_that_rested_is_found_again)
{
	for (unsigned order = 0; order < 2; order++) {
		struct ledger *l = fixture_ledger(1000, 1000);
		struct pool p = fixture_pool("192.0.2.0/28", 100, 103);
		struct addr target = fixture_at(TARGET);
		struct ledger_holder holder = { .session = 7, .worker = 1 };
		struct ledger_ticket ticket;
		struct ledger_lease lease;

		p.rules.order = order == 0 ? POOL_PACKED : POOL_HASHED;
		cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
		cr_assert(ledger_rest_port(l, 100, NOW, NOW + 60000));
		cr_assert(ledger_rest_port(l, 102, NOW, NOW + 30000));
		cr_expect_eq(fixture_take_all(l, TARGET, NOW), 32);
		fixture_check(l);
		cr_expect_eq(fixture_take_all(l, TARGET, NOW + 29999), 0);
		cr_expect_eq(fixture_take_all(l, TARGET, NOW + 30000), 16);
		fixture_check(l);
		/* Somebody who waits has it, too, with nobody returning. */
		cr_assert_eq(ledger_queue(l, 0, &target, &holder, 9,
				 NOW + 30000, &ticket, &lease),
		    -EINPROGRESS);
		ledger_serve(l, NOW + 59999);
		cr_expect(!ledger_is_granted(l, &ticket));
		ledger_serve(l, NOW + 60000);
		cr_expect(ledger_is_granted(l, &ticket));
		cr_expect_eq(fixture_take_all(l, TARGET, NOW + 60000), 15);
		fixture_check(l);
	}
}

Test(ledger, a_port_that_rests_again_soon_is_told_of_once)
{
	struct ledger *l = small();
	uint64_t ended = NOW + 1000;

	cr_expect(ledger_rest_port(l, 100, NOW, ended));
	for (unsigned i = 0; i < 20; i++) {
		uint64_t again = ended + LEDGER_REST_TIMES * 1000 - 1;

		cr_expect(!ledger_rest_port(l, 100, again, again + 1000));
		ended = again + 1000;
	}
	/* Another port is another matter; so is this one when it was free. */
	cr_expect(ledger_rest_port(l, 101, ended, ended + 1000));
	ended += LEDGER_REST_TIMES * 1000;
	cr_expect(ledger_rest_port(l, 100, ended, ended + 1000));
	/* A shorter rest does not end the one that goes on. */
	cr_expect(!ledger_rest_port(l, 100, ended, ended + 500));
	expect_lease(l, TARGET, ended + 900, "192.0.2.1:101");
}

Test(ledger, where_the_kernel_chooses_a_lease_has_no_port_and_no_limit)
{
	struct pool p = fixture_pool("192.0.2.0/31", 1, 1);
	struct ledger *l = fixture_ledger(1000, 1000);
	struct addr chosen = fixture_at("192.0.2.1:33333");
	struct ledger_lease leases[10];
	struct ledger_totals t;

	p.by_kernel = true;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &leases[i]), 0);
		cr_expect_eq(leases[i].source.port, 0);
		cr_expect_eq(leases[i].source.ip[3], i % 2);
		cr_expect_eq(leases[i].bind, POOL_KERNEL);
	}
	ledger_name_source(l, &leases[0], &chosen);
	cr_expect(ledger_uses_ports(l, 0, 33333, 33333, NOW));
	cr_expect_eq(look(l, TARGET, NOW).held, 10);
	fixture_check(l);
	for (unsigned i = 0; i < 10; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
	ledger_totals(l, &t);
	cr_expect_eq(t.held + t.hot + t.cooling, 0);
	fixture_check(l);
}

Test(ledger, a_dead_workers_leases_are_returned_hot)
{
	struct ledger *l = small();
	struct ledger_holder holder = { .worker = 9 };
	struct addr a = fixture_at(TARGET);
	struct ledger_lease lease, copy;

	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
	copy = lease;
	cr_expect_eq(ledger_return_worker(l, 8, NOW), 0);
	cr_expect_eq(ledger_return_worker(l, 9, NOW), 1);
	cr_expect_eq(look(l, TARGET, NOW).held, 1);
	cr_expect_eq(look(l, TARGET, NOW).hot, 1);
	ledger_return(l, &copy, LEDGER_LONG, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	fixture_check(l);
}

Test(ledger, a_target_knows_what_is_held_and_was_at_most)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	ledger_return(l, &a, LEDGER_HOT, NOW);
	ledger_return(l, &b, LEDGER_LONG, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	cr_expect_eq(look(l, TARGET, NOW).held, 1);
	cr_expect_eq(look(l, TARGET, NOW).cooling, 1);
	cr_expect_eq(look(l, TARGET, NOW).high_water, 2);
	cr_expect_eq(look(l, TARGET, NOW).slots, 3);
	/* What has cooled can be had at once. */
	cr_expect_eq(look(l, TARGET, NOW + LEDGER_LONG_MS).hot, 1);
	cr_expect_eq(look(l, TARGET, NOW + LEDGER_LONG_MS).cooling, 0);
}

Test(ledger, ports_in_use_are_those_held_or_cooling)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	cr_expect(ledger_uses_ports(l, 0, 100, 100, NOW));
	cr_expect(!ledger_uses_ports(l, 0, 102, 65535, NOW));
	cr_expect(!ledger_uses_ports(l, 0, 1, 99, NOW));
	cr_expect(!ledger_uses_ports(l, 1, 100, 100, NOW));
	ledger_return(l, &a, LEDGER_LONG, NOW);
	cr_expect(ledger_uses_ports(l, 0, 100, 100, NOW));
	cr_expect(!ledger_uses_ports(l, 0, 100, 100, NOW + LEDGER_LONG_MS));
	cr_expect(ledger_uses_ports(l, 0, 101, 101, NOW + LEDGER_LONG_MS));
	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	ledger_return(l, &b, LEDGER_HOT, NOW);
	cr_expect(!ledger_uses_ports(l, 0, 101, 101, NOW));
}

Test(ledger, a_changed_pool_keeps_what_is_held_and_cooling)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	ledger_return(l, &b, LEDGER_LONG, NOW);
	fixture_set(l, 0, "192.0.2.1", 99, 103);
	expect_lease(l, TARGET, NOW, "192.0.2.1:99");
	expect_lease(l, TARGET, NOW, "192.0.2.1:103");
	expect_full(l, TARGET, NOW);
	fixture_check(l);
	ledger_return(l, &a, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	expect_full(l, TARGET, NOW + LEDGER_LONG_MS - 1);
	expect_lease(l, TARGET, NOW + LEDGER_LONG_MS, "192.0.2.1:101");
	fixture_check(l);
}

Test(ledger, what_a_pool_has_no_more_stays_held_and_then_goes)
{
	struct ledger *l = small();
	struct ledger_lease a = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	struct ledger_lease b = expect_lease(l, TARGET, NOW, "192.0.2.1:101");

	fixture_set(l, 0, "192.0.2.2", 100, 100);
	cr_expect_eq(look(l, TARGET, NOW).held, 2);
	expect_lease(l, TARGET, NOW, "192.0.2.2:100");
	ledger_return(l, &a, LEDGER_HOT, NOW);
	expect_full(l, TARGET, NOW);
	cr_expect_eq(look(l, TARGET, NOW).held, 2);
	fixture_check(l);
	/* It comes back while one of its slots is held still. */
	fixture_set(l, 0, "192.0.2.1", 100, 102);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	expect_lease(l, TARGET, NOW, "192.0.2.1:102");
	expect_full(l, TARGET, NOW);
	ledger_return(l, &b, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	fixture_check(l);
}

Test(ledger, sources_in_another_order_are_the_same_sources)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.1", 100, 101);

	fixture_add(&p, "192.0.2.2");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	expect_lease(l, TARGET, NOW, "192.0.2.2:100");
	p = fixture_pool("192.0.2.2", 100, 101);
	fixture_add(&p, "192.0.2.0/31");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	expect_lease(l, TARGET, NOW, "192.0.2.2:101");
	expect_lease(l, TARGET, NOW, "192.0.2.0:100");
	expect_lease(l, TARGET, NOW, "192.0.2.0:101");
	expect_full(l, TARGET, NOW);
	fixture_check(l);
}

Test(ledger, a_pool_that_goes_by_route_avoids_the_ports_of_its_addresses)
{
	struct ledger *l = small();

	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	fixture_set(l, 0, "0.0.0.0", 100, 101);
	expect_lease(l, TARGET, NOW, "0.0.0.0:101");
	expect_full(l, TARGET, NOW);
	fixture_check(l);
}

Test(ledger, two_records_that_become_one_slot_are_one_slot)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_lease a, b;

	fixture_set(l, 0, "192.0.2.0/31", 100, 100);
	a = expect_lease(l, TARGET, NOW, "192.0.2.0:100");
	b = expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	fixture_set(l, 0, "0.0.0.0", 100, 100);
	expect_full(l, TARGET, NOW);
	fixture_check(l);
	ledger_return(l, &a, LEDGER_HOT, NOW);
	ledger_return(l, &b, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "0.0.0.0:100");
	fixture_check(l);
}

/* A shard with leases is made anew as often as the epoch grows. */
Test(ledger, pools_that_change_together_change_once)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool a = fixture_pool("192.0.2.1", 100, 101);
	struct pool b = fixture_pool("192.0.2.2", 200, 201);
	struct ledger_new_pool both[] = { { 3, &a }, { 5, &b } };
	struct pool now;
	uint64_t epoch;

	cr_assert_eq(ledger_set_pools(l, both, 2), 0);
	epoch = l->epoch;
	cr_assert_eq(ledger_set_pools(l, both, 2), 0);
	cr_expect_eq(l->epoch, epoch, "nothing has changed");
	a.rules.order = b.rules.order = POOL_HASHED;
	cr_assert_eq(ledger_set_pools(l, both, 2), 0);
	cr_expect_eq(l->epoch, epoch + 1);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert(ledger_get_pool(l, both[i].id, &now));
		cr_expect(pool_equal(&now, both[i].pool));
	}
	cr_expect(!ledger_get_pool(l, 4, &now));
	fixture_check(l);
}

Test(ledger, a_pool_can_be_read_as_it_is_now)
{
	struct ledger *l = small();
	struct pool one, two;

	cr_expect(!ledger_get_pool(l, 1, &one));
	cr_assert(ledger_get_pool(l, 0, &one));
	cr_expect_eq(one.ports, 3);
	fixture_set(l, 0, "192.0.2.1", 100, 102);
	cr_assert(ledger_get_pool(l, 0, &two));
	fixture_set(l, 0, "192.0.2.1", 100, 103);
	cr_assert(ledger_get_pool(l, 0, &two));
	cr_expect_eq(two.sources[0].first_id, one.sources[0].first_id);
}

Test(ledger, a_full_memory_forgets_what_only_cools_and_then_says_so)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_lease first, lease;
	uint32_t held = 0;
	int error;

	fixture_set(l, 0, "192.0.2.0/24", 1, 65535);
	/* Of one shard, so that it can have all of the memory. */
	first = expect_lease(l, TARGET, NOW, "192.0.2.0:1");
	while ((error = fixture_lease(l, 0, TARGET, NOW, &lease)) == 0)
		held++;
	cr_expect_eq(error, -ENFILE);
	cr_expect_geq(held, 1000);
	fixture_check(l);
	ledger_return(l, &first, LEDGER_HOT, NOW);
	cr_expect_eq(fixture_lease(l, 0, TARGET, NOW, &lease), 0);
	cr_expect_eq(ledger_return_worker(l, 1, NOW), held + 1);
	fixture_check(l);
}

/* Bursts to many targets, of which some sessions stay open. */
static void
burst(struct ledger *l, unsigned target, enum ledger_release how,
    struct ledger_lease kept[2])
{
	enum { BURST = 1000 };
	static struct ledger_lease leases[BURST];
	char text[ADDR_TEXT_MAX];

	snprintf(text, sizeof(text), "10.0.0.%u:443", target);
	for (unsigned i = 0; i < BURST; i++)
		cr_assert_eq(fixture_lease(l, 0, text, NOW, &leases[i]), 0,
		    "target %u, lease %u", target, i);
	for (unsigned i = 0; i < BURST; i++) {
		if (i % 501 == 0)
			kept[i / 501] = leases[i];
		else
			ledger_return(l, &leases[i], how, NOW);
	}
}

/* What is held is held still, and nothing else is. */
static void
expect_bursts_fit(enum ledger_release how)
{
	struct ledger *l = fixture_ledger(10000, 1000);
	struct ledger_lease kept[100][2], lease;
	struct ledger_totals totals;

	fixture_set(l, 0, "192.0.2.1", 1, 2000);
	for (unsigned i = 0; i < 100; i++)
		burst(l, i, how, kept[i]);
	fixture_check(l);
	ledger_totals(l, &totals);
	cr_expect_eq(totals.held, 200);
	for (unsigned i = 0; i < 1998; i++) {
		cr_assert_eq(
		    fixture_lease(l, 0, "10.0.0.0:443", NOW, &lease), 0);
		cr_assert_neq(lease.source.port, kept[0][0].source.port);
		cr_assert_neq(lease.source.port, kept[0][1].source.port);
	}
	expect_full(l, "10.0.0.0:443", NOW);
	fixture_check(l);
}

Test(ledger, a_full_memory_forgets_what_was_used_of_targets_in_use)
{
	expect_bursts_fit(LEDGER_HOT);
}

Test(ledger, a_full_memory_forgets_what_cools_of_targets_in_use)
{
	expect_bursts_fit(LEDGER_LONG);
}

Test(ledger, the_least_recently_used_target_is_forgotten_first)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	char target[ADDR_TEXT_MAX];
	struct ledger_lease lease;
	uint32_t i;

	/* Every target cools: there are more than there is memory for. */
	fixture_set(l, 0, "192.0.2.0", 1, 10);
	for (i = 0; i < 40000; i++) {
		snprintf(target, sizeof(target), "10.%u.%u.%u:1", i >> 16,
		    i >> 8 & 255, i & 255);
		cr_assert_eq(fixture_lease(l, 0, target, NOW, &lease), 0);
		ledger_return(l, &lease, LEDGER_LONG, NOW);
	}
	cr_expect_eq(look(l, "10.0.0.0:1", NOW).cooling, 0);
	cr_expect_eq(look(l, target, NOW).cooling, 1);
	fixture_check(l);
}

Test(ledger, no_source_table_is_endless)
{
	struct ledger *l = small();
	struct pool before, after, p;
	char text[ADDR_TEXT_MAX];
	int error = 0;

	for (unsigned i = 0; i < 300 && error == 0; i++) {
		cr_assert(ledger_get_pool(l, 0, &before));
		snprintf(text, sizeof(text), "2001:db8:%x::/64", i);
		p = fixture_pool(text, 1, 1);
		error = ledger_set_pool(l, 0, &p);
	}
	cr_expect_eq(error, -ENOSPC);
	cr_assert(ledger_get_pool(l, 0, &after));
	cr_expect(pool_equal(&before, &after));
	/* Nor is what it comes with changed. */
	struct pool other = fixture_pool("192.0.2.1", 100, 101);
	struct ledger_new_pool both[] = { { 1, &other }, { 0, &p } };
	uint64_t epoch = l->epoch;

	cr_expect_eq(ledger_set_pools(l, both, 2), -ENOSPC);
	cr_expect(!ledger_get_pool(l, 1, &after));
	cr_expect_eq(l->epoch, epoch);
	fixture_set(l, 0, "2001:db8::/64", 1, 1);
	fixture_check(l);
}

Test(ledger, what_it_gives_to_one_shard_comes_back_for_others)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_lease lease;
	char target[ADDR_TEXT_MAX];

	fixture_set(l, 0, "192.0.2.0/24", 1, 65535);
	for (unsigned i = 0; i < 20; i++) {
		uint32_t held = 0;

		snprintf(target, sizeof(target), "10.0.0.%u:1", i);
		while (held < 12000 &&
		       fixture_lease(l, 0, target, NOW, &lease) == 0)
			held++;
		cr_assert_eq(held, 12000, "%s: %u", target, held);
		cr_assert_eq(ledger_return_worker(l, 1, NOW), held);
		/* The ended target is freed step by step. */
		for (unsigned j = 0; j < 1000; j++) {
			cr_assert_eq(
			    fixture_lease(l, 0, target, NOW, &lease), 0);
			ledger_return(l, &lease, LEDGER_HOT, NOW);
		}
	}
	fixture_check(l);
}

Test(ledger, a_held_source_that_its_pool_has_no_more_forbids_its_reverse)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.1", 100, 101);

	fixture_add(&p, "192.0.2.2");
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	/* 100 would be the target itself. */
	expect_lease(l, "192.0.2.1:100", NOW, "192.0.2.1:101");
	fixture_set(l, 0, "192.0.2.1", 100, 100);
	expect_full(l, "192.0.2.1:101", NOW);
	fixture_check(l);
}

Test(ledger, what_the_kernel_chose_is_a_slot_when_the_pool_gets_ports)
{
	struct pool p = fixture_pool("0.0.0.0", 1, 1);
	struct ledger *l = fixture_ledger(1000, 1000);
	struct addr chosen = fixture_at("192.0.2.1:100");
	struct ledger_lease lease;

	p.by_kernel = true;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &lease), 0);
	ledger_name_source(l, &lease, &chosen);
	fixture_set(l, 0, "192.0.2.1", 100, 101);
	expect_lease(l, TARGET, NOW, "192.0.2.1:101");
	expect_full(l, TARGET, NOW);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	expect_lease(l, TARGET, NOW, "192.0.2.1:100");
	fixture_check(l);
}

/* Bytes of the ledger that are there for real. */
static size_t
resident(struct ledger *l)
{
	size_t pages = l->bytes / 4096, count = 0;
	unsigned char *there = malloc(pages);

	cr_assert_not_null(there);
	cr_assert_eq(mincore(l, l->bytes, there), 0);
	for (size_t i = 0; i < pages; i++)
		count += there[i] & 1;
	free(there);
	return count * 4096;
}

/* The hash of the targets, 256 KiB of it here, and of the rest hardly any. */
Test(ledger, before_the_first_lease_little_memory_is_there)
{
	struct ledger *l = fixture_ledger(1 << 18, 1 << 18);

	fixture_set(l, 0, "192.0.2.1", 1, 60000);
	cr_expect_leq(resident(l), (256U + 384U) << 10, "%zu", resident(l));
	expect_lease(l, TARGET, NOW, "192.0.2.1:1");
	fixture_check(l);
}

#define MANY 40000

Test(ledger, memory_is_as_large_as_promised_for_a_record_and_a_target)
{
	struct ledger *l = fixture_ledger(2 * MANY, 2 * MANY);
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	size_t before, after;
	struct ledger_lease lease;

	fixture_set(l, 0, "192.0.2.1", 1, 60000);
	before = resident(l);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &lease), 0);
	after = resident(l);
	cr_expect_leq(after - before, MANY * 65UL, "%zu a lease",
	    (after - before) / MANY);
	before = after;
	for (unsigned i = 0; i < MANY; i++) {
		struct addr a = addr_v4(UINT32_C(0x0a000000) + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
	}
	after = resident(l);
	/* A lease, a target and its part of the hash; and of each shard a
	 * chunk that has just been begun. */
	cr_expect_leq(after - before, MANY * (64 + 64 + 4) + 64 * 2 * 16384UL,
	    "%zu a lease and target", (after - before) / MANY);
	cr_expect_lt(ledger_bytes(0, 0), 24 << 20);
}

/* Another target whose entry is in the same shard. */
static struct addr
neighbour_of(struct ledger *l, const struct addr *target)
{
	struct addr a = *target;
	struct ledger_key own, other;

	ledger_key_make(l, 1, target, &own);
	do {
		a.port++;
		ledger_key_make(l, 0, &a, &other);
	} while (other.shard != own.shard);
	return a;
}

/* Its records go a few at a time; they are no pool's meanwhile. */
Test(ledger, ports_of_a_target_that_was_forgotten_are_not_in_use)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool sticky = fixture_pool("192.0.2.1", 100, 139);
	struct ledger_holder holder = { .worker = 1 };
	struct addr target = fixture_at(TARGET);
	struct addr other = neighbour_of(l, &target);
	struct ledger_lease leases[40], lease;
	struct ledger_target t;

	fixture_set(l, 0, "192.0.2.2", 1000, 65535);
	sticky.rules.sticky = POOL_STICKY_CLIENT;
	cr_assert_eq(ledger_set_pool(l, 1, &sticky), 0);
	for (unsigned i = 0; i < ARRAY_LEN(leases); i++)
		cr_assert_eq(fixture_lease(l, 1, TARGET, NOW, &leases[i]), 0);
	for (unsigned i = 0; i < ARRAY_LEN(leases); i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
	cr_expect(ledger_uses_ports(l, 1, 100, 139, NOW));
	do {
		cr_assert_eq(
		    ledger_lease(l, 0, &other, &holder, NOW, &lease), 0);
		ledger_target(l, 1, &target, NOW, &t);
	} while (t.slots != 0);
	cr_expect(!ledger_uses_ports(l, 0, 100, 139, NOW));
	cr_expect(!ledger_uses_ports(l, 1, 100, 139, NOW));
}
