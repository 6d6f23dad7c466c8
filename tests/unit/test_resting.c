/* SPDX-License-Identifier: ISC */
#include "ledger_fixture.h"
#include "service/resting.h"

#define NOW UINT64_C(1000000)

static struct resting
read_now(struct ledger *l)
{
	struct resting r;

	cr_assert_eq(resting_read(&r, l, NOW), 0);
	return r;
}

static void
rest(struct ledger *l, uint16_t port)
{
	ledger_rest_port(l, port, NOW - 1, NOW + 1000);
}

/* Three addresses of IPv4 and one of IPv6, with ten ports. */
static struct ledger *
four_addresses(void)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.0/31", 100, 109);

	fixture_add(&p, "192.0.2.9");
	fixture_add(&p, "2001:db8::1");
	cr_assert_eq(ledger_set_pool(l, 3, &p), 0);
	return l;
}

static struct ledger_target_row
row_of(const char *target, uint32_t slots)
{
	return (struct ledger_target_row){
		.target = fixture_at(target), .pool = 3, .slots = slots
	};
}

Test(resting, a_port_rests_on_each_address_of_the_pool)
{
	struct ledger_target_row v4 = row_of("203.0.113.1:443", 30);
	struct ledger_target_row v6 = row_of("[2001:db8::9]:443", 10);
	struct ledger *l = four_addresses();
	struct resting r = read_now(l);

	cr_expect_not(r.any);
	cr_expect_eq(resting_slots(&r, &v4, 0), 0);
	rest(l, 100);
	rest(l, 105);
	rest(l, 99); /* not the pool's */
	r = read_now(l);
	cr_expect(r.any);
	cr_expect(resting_has(&r, 100) && resting_has(&r, 99));
	cr_expect_not(resting_has(&r, 101));
	cr_expect_eq(r.pools[3].ports, 2);
	cr_expect_eq(r.pools[2].ports, 0);
	cr_expect_eq(resting_slots(&r, &v4, 0), 6);
	cr_expect_eq(resting_slots(&r, &v6, 0), 2);
}

Test(resting, what_is_held_all_the_same_is_not_lost)
{
	struct ledger_target_row row = row_of("203.0.113.1:443", 30);
	struct ledger *l = four_addresses();
	struct resting r;

	rest(l, 100);
	r = read_now(l);
	cr_expect_eq(resting_slots(&r, &row, 1), 2);
	cr_expect_eq(resting_slots(&r, &row, 3), 0);
	cr_expect_eq(resting_slots(&r, &row, 4), 0);
}

Test(resting, the_slot_that_is_the_target_itself_is_not_counted_twice)
{
	struct ledger_target_row row = row_of("192.0.2.9:100", 29);
	struct ledger *l = four_addresses();
	struct resting r;

	rest(l, 101);
	r = read_now(l);
	cr_expect_eq(resting_slots(&r, &row, 0), 3);
	rest(l, 100);
	r = read_now(l);
	cr_expect_eq(resting_slots(&r, &row, 0), 5);
	/* All of them, and not more. */
	for (uint16_t port = 102; port < 110; port++)
		rest(l, port);
	r = read_now(l);
	cr_expect_eq(resting_slots(&r, &row, 0), 29);
}

Test(resting, where_the_kernel_chooses_nothing_rests)
{
	struct ledger_target_row row = row_of("203.0.113.1:443", 0);
	struct ledger *l = fixture_ledger(1000, 1000);
	struct resting r;
	struct pool p;

	pool_init(&p, "kernel");
	fixture_add(&p, "192.0.2.1");
	p.by_kernel = true;
	cr_assert_eq(ledger_set_pool(l, 3, &p), 0);
	rest(l, 100);
	r = read_now(l);
	cr_expect_eq(r.pools[3].ports, 0);
	cr_expect_eq(resting_slots(&r, &row, 0), 0);
}
