/* SPDX-License-Identifier: ISC */
#include <sys/wait.h>

#include <errno.h>
#include <unistd.h>

#include "egress/ledger_shard.h"
#include "ledger_fixture.h"

#define TARGET "203.0.113.9:443"
#define NOW    UINT64_C(1000000)

static struct ledger_holder
client_of(const char *client, uint8_t worker)
{
	return (struct ledger_holder){
		.client = fixture_at(client), .session = 7, .worker = worker
	};
}

static int
queue_for(struct ledger *l, const struct ledger_holder *holder, uint32_t limit,
    struct ledger_ticket *ticket, struct ledger_lease *lease)
{
	struct addr target = fixture_at(TARGET);

	return ledger_queue(l, 0, &target, holder, limit, NOW, ticket, lease);
}

/* A client of worker 1 that has to wait. */
static struct ledger_ticket
wait_as(struct ledger *l, const char *client)
{
	struct ledger_holder holder = client_of(client, 1);
	struct ledger_ticket ticket;
	struct ledger_lease lease;

	cr_assert_eq(queue_for(l, &holder, 100, &ticket, &lease), -EINPROGRESS);
	return ticket;
}

/* A ledger whose pool of `ports` is held towards the target. */
static struct ledger *
full(uint16_t ports, struct ledger_lease *leases)
{
	struct ledger *l = fixture_ledger(1000, 1000);

	fixture_set(l, 0, "192.0.2.1", 100, (uint16_t)(99 + ports));
	for (unsigned i = 0; i < ports; i++)
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &leases[i]), 0);
	return l;
}

static struct ledger_lease
claim(struct ledger *l, struct ledger_ticket *ticket)
{
	struct ledger_lease lease;

	cr_assert(ledger_is_granted(l, ticket));
	cr_assert_eq(ledger_claim(l, ticket, NOW, &lease), 0);
	cr_assert_eq(ticket->cell, UINT32_MAX);
	return lease;
}

static uint32_t
waiting(struct ledger *l)
{
	struct addr target = fixture_at(TARGET);
	struct ledger_totals totals;
	struct ledger_target t;

	ledger_target(l, 0, &target, NOW, &t);
	ledger_totals(l, &totals);
	cr_assert_eq(totals.waiting, t.waiting);
	return t.waiting;
}

/* The owner of every lock dies. */
static void
die_everywhere(struct ledger *l)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		for (uint32_t i = 0; i < LEDGER_SHARDS; i++)
			(void)shard_lock(l, i);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

Test(ledger_queue, a_return_serves_the_oldest_and_no_other)
{
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);
	struct ledger_ticket a = wait_as(l, "198.51.100.1:1");
	struct ledger_ticket b = wait_as(l, "198.51.100.1:2");

	cr_expect_eq(waiting(l), 2);
	cr_expect_eq(ledger_claim(l, &a, NOW, &lease), -EAGAIN);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	cr_expect(!ledger_is_granted(l, &b));
	fixture_check(l);
	lease = claim(l, &a);
	cr_expect_eq(waiting(l), 1);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &b);
	cr_expect_eq(waiting(l), 0);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	fixture_check(l);
}

Test(ledger_queue, clients_take_turns)
{
	static const char *const order[] = { "a1", "b1", "c1", "a2", "b2", "a3",
		"a4" };
	struct ledger_ticket tickets[ARRAY_LEN(order)];
	static const struct {
		const char *client;
		unsigned place; /* in which it is served */
	} arrivals[] = { { "198.51.100.1:1", 0 }, { "198.51.100.1:2", 3 },
		{ "198.51.100.1:3", 5 }, { "198.51.100.1:4", 6 },
		{ "198.51.100.2:1", 1 }, { "198.51.100.2:2", 4 },
		{ "198.51.100.3:1", 2 } };
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);

	for (unsigned i = 0; i < ARRAY_LEN(arrivals); i++)
		tickets[arrivals[i].place] = wait_as(l, arrivals[i].client);
	for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
		ledger_return(l, &lease, LEDGER_HOT, NOW);
		cr_expect(ledger_is_granted(l, &tickets[i]), "%s", order[i]);
		lease = claim(l, &tickets[i]);
		fixture_check(l);
	}
}

Test(ledger_queue, users_are_one_client_wherever_they_come_from)
{
	struct ledger_holder one = client_of("198.51.100.1:1", 1);
	struct ledger_holder other = client_of("198.51.100.1:2", 1);
	struct ledger_ticket first, second, third;
	struct ledger_lease lease, none;
	struct ledger *l = full(1, &lease);

	one.user = 5;
	other.user = 6;
	cr_assert_eq(queue_for(l, &one, 9, &first, &none), -EINPROGRESS);
	one.client = fixture_at("198.51.100.77:1");
	cr_assert_eq(queue_for(l, &one, 9, &third, &none), -EINPROGRESS);
	cr_assert_eq(queue_for(l, &other, 9, &second, &none), -EINPROGRESS);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &first);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &second);
	cr_expect(!ledger_is_granted(l, &third));
	fixture_check(l);
}

Test(ledger_queue, addresses_of_one_prefix_have_one_turn)
{
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);
	struct ledger_ticket first = wait_as(l, "[2001:db8::1]:1");
	struct ledger_ticket third = wait_as(l, "[2001:db8::2]:1");
	struct ledger_ticket second = wait_as(l, "[2001:db8:0:1::1]:1");

	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &first);
	fixture_check(l);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &second);
	die_everywhere(l);
	fixture_check(l);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	claim(l, &third);
	fixture_check(l);
}

Test(ledger_queue, newcomers_wait_behind_those_who_wait)
{
	struct ledger_lease leases[2], mine;
	struct ledger *l = full(2, leases);
	struct ledger_ticket a = wait_as(l, "198.51.100.1:1");

	/* A slot cools, and nobody has served it yet. */
	ledger_return(l, &leases[0], LEDGER_BRIEF, NOW);
	cr_expect_eq(fixture_lease(l, 0, TARGET, NOW + LEDGER_BRIEF_MS, &mine),
	    -EADDRINUSE);
	cr_expect(!ledger_is_granted(l, &a));
	ledger_serve(l, NOW + LEDGER_BRIEF_MS - 1);
	cr_expect(!ledger_is_granted(l, &a));
	ledger_serve(l, NOW + LEDGER_BRIEF_MS);
	claim(l, &a);
	fixture_check(l);
}

Test(ledger_queue, it_is_bounded_and_a_place_becomes_free)
{
	struct ledger_holder holder = client_of("198.51.100.2:1", 1);
	struct ledger_ticket a, b;
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);

	a = wait_as(l, "198.51.100.1:1");
	cr_expect_eq(queue_for(l, &holder, 1, &b, &lease), -ENOBUFS);
	ledger_cancel(l, &a, NOW);
	cr_expect_eq(a.cell, UINT32_MAX);
	cr_expect_eq(queue_for(l, &holder, 1, &b, &lease), -EINPROGRESS);
	ledger_cancel(l, &b, NOW);
	ledger_cancel(l, &b, NOW); /* empty */
	cr_expect_eq(waiting(l), 0);
	fixture_check(l);
}

static int
try_wait(struct ledger *l, const char *client, struct ledger_ticket *ticket)
{
	struct ledger_holder holder = client_of(client, 1);
	struct ledger_lease lease;

	return queue_for(l, &holder, 4, ticket, &lease);
}

Test(ledger_queue, who_has_most_makes_way_in_a_full_queue)
{
	struct ledger_ticket a[4], b[2], c, d, none;
	struct ledger_lease lease, got;
	struct ledger *l = full(1, &lease);

	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(
		    try_wait(l, "198.51.100.1:1", &a[i]), -EINPROGRESS);
	cr_expect_eq(try_wait(l, "198.51.100.1:1", &none), -ENOBUFS);
	(void)ledger_take_mail(l, 1);
	cr_expect_eq(try_wait(l, "198.51.100.2:1", &b[0]), -EINPROGRESS);
	cr_expect(ledger_take_mail(l, 1));
	cr_expect_eq(try_wait(l, "198.51.100.2:1", &b[1]), -EINPROGRESS);
	cr_expect_eq(try_wait(l, "198.51.100.2:1", &none), -ENOBUFS);
	cr_expect_eq(try_wait(l, "198.51.100.3:1", &c), -EINPROGRESS);
	cr_expect_eq(try_wait(l, "198.51.100.4:1", &d), -EINPROGRESS);
	/* Each has one. */
	cr_expect_eq(try_wait(l, "198.51.100.5:1", &none), -ENOBUFS);
	cr_expect_eq(waiting(l), 4);
	fixture_check(l);
	/* The newest went, and a death in between makes no difference. */
	cr_expect(!ledger_is_granted(l, &a[0]));
	cr_expect_eq(ledger_claim(l, &a[3], NOW, &got), -ENOBUFS);
	die_everywhere(l);
	fixture_check(l);
	cr_expect_eq(ledger_claim(l, &a[2], NOW, &got), -ENOBUFS);
	cr_expect_eq(ledger_claim(l, &b[1], NOW, &got), -ENOBUFS);
	ledger_cancel(l, &a[1], NOW);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &a[0]);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	lease = claim(l, &b[0]);
	cr_expect_eq(waiting(l), 2);
	ledger_cancel(l, &c, NOW);
	ledger_cancel(l, &d, NOW);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	fixture_check(l);
}

Test(ledger_queue, who_leaves_with_a_grant_passes_it_on)
{
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);
	struct ledger_ticket a = wait_as(l, "198.51.100.1:1");
	struct ledger_ticket b = wait_as(l, "198.51.100.2:1");
	struct ledger_totals totals;

	ledger_return(l, &lease, LEDGER_HOT, NOW);
	cr_assert(ledger_is_granted(l, &a));
	ledger_cancel(l, &a, NOW);
	lease = claim(l, &b);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	ledger_totals(l, &totals);
	cr_expect_eq(totals.held, 0);
	fixture_check(l);
}

Test(ledger_queue, leaving_from_any_place_keeps_the_others)
{
	for (unsigned out = 0; out < 4; out++) {
		struct ledger_lease lease;
		struct ledger *l = full(1, &lease);
		struct ledger_ticket t[4];

		for (unsigned i = 0; i < 4; i++)
			t[i] = wait_as(l, "198.51.100.1:1");
		ledger_cancel(l, &t[out], NOW);
		fixture_check(l);
		for (unsigned i = 0; i < 4; i++) {
			if (i == out)
				continue;
			ledger_return(l, &lease, LEDGER_HOT, NOW);
			lease = claim(l, &t[i]);
			fixture_check(l);
		}
	}
}

Test(ledger_queue, a_worker_is_named_once_until_it_looks)
{
	uint64_t workers[LEDGER_WAKE_WORDS];
	struct ledger_lease leases[2];
	struct ledger *l = full(2, leases);

	wait_as(l, "198.51.100.1:1");
	wait_as(l, "198.51.100.1:2");
	cr_expect(!ledger_take_wakes(l, workers));
	ledger_return(l, &leases[0], LEDGER_HOT, NOW);
	cr_expect(ledger_take_wakes(l, workers));
	cr_expect_eq(workers[0], 1 << 1);
	ledger_return(l, &leases[1], LEDGER_HOT, NOW);
	cr_expect(!ledger_take_wakes(l, workers));
	cr_expect(ledger_take_mail(l, 1));
	cr_expect(!ledger_take_mail(l, 1));
}

Test(ledger_queue, the_dead_wait_for_nothing)
{
	struct ledger_holder dead = client_of("198.51.100.1:1", 2);
	struct ledger_ticket a, b, c;
	struct ledger_lease lease, got;
	struct ledger *l = full(1, &lease);

	cr_assert_eq(queue_for(l, &dead, 9, &a, &got), -EINPROGRESS);
	cr_assert_eq(queue_for(l, &dead, 9, &b, &got), -EINPROGRESS);
	c = wait_as(l, "198.51.100.3:1");
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	cr_assert(ledger_is_granted(l, &a));
	cr_expect_eq(ledger_return_worker(l, 2, NOW), 1);
	claim(l, &c);
	cr_expect_eq(waiting(l), 0);
	fixture_check(l);
}

/* Between taking the wakes and passing them on. */
Test(ledger_queue, what_the_dead_were_to_tell_is_told_by_others)
{
	uint64_t workers[LEDGER_WAKE_WORDS];
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);

	wait_as(l, "198.51.100.1:1");
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	cr_assert(ledger_take_wakes(l, workers));
	cr_assert_eq(workers[0], 1 << 1);
	cr_expect_eq(ledger_return_worker(l, 2, NOW), 0);
	cr_assert(ledger_take_wakes(l, workers));
	cr_expect_eq(workers[0], 1 << 1);
}

Test(ledger_queue, the_death_of_a_locks_owner_keeps_queue_and_grants)
{
	struct ledger_lease leases[2];
	struct ledger *l = full(2, leases);
	struct ledger_ticket t[4];

	for (unsigned i = 0; i < 4; i++)
		t[i] = wait_as(l, "198.51.100.1:1");
	ledger_return(l, &leases[0], LEDGER_HOT, NOW);
	cr_assert(ledger_is_granted(l, &t[0]));
	die_everywhere(l);
	fixture_check(l);
	cr_expect_eq(waiting(l), 3);
	leases[0] = claim(l, &t[0]);
	for (unsigned i = 1; i < 4; i++) {
		ledger_return(l, &leases[0], LEDGER_HOT, NOW);
		leases[0] = claim(l, &t[i]);
	}
	fixture_check(l);
}

/* ---- shares and reserves ---- */

static int
lease_at(struct ledger *l, const char *client, uint16_t user, uint64_t now,
    struct ledger_lease *out)
{
	struct ledger_holder holder = client_of(client, 1);
	struct addr target = fixture_at(TARGET);

	holder.user = user;
	return ledger_lease(l, 0, &target, &holder, now, out);
}

static int
lease_as(struct ledger *l, const char *client, uint16_t user,
    struct ledger_lease *out)
{
	return lease_at(l, client, user, NOW, out);
}

static struct ledger *
with_rules(uint16_t ports, const struct pool_rules *rules)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.1", 100, (uint16_t)(99 + ports));

	p.rules = *rules;
	p.rules.cooldown_ms = POOL_COOLDOWN_AUTO;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	return l;
}

/* Whoever waits for an address of a family that a reload takes from the pool.
 */
static void
expect_no_grant(struct pool *after)
{
	struct ledger_lease lease;
	struct ledger *l = full(1, &lease);
	struct ledger_ticket a = wait_as(l, "198.51.100.1:1");

	cr_assert_eq(ledger_set_pool(l, 0, after), 0);
	ledger_serve(l, NOW);
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	cr_expect(!ledger_is_granted(l, &a));
	cr_expect_eq(waiting(l), 1);
	fixture_check(l);
	ledger_cancel(l, &a, NOW);
	cr_expect_eq(waiting(l), 0);
	fixture_check(l);
}

Test(ledger_queue, nothing_is_granted_when_the_pool_has_lost_the_family)
{
	struct pool packed = fixture_pool("2001:db8::1", 100, 100);
	struct pool sticky = packed, by_kernel = packed;

	sticky.rules.sticky = POOL_STICKY_CLIENT;
	by_kernel.by_kernel = true;
	expect_no_grant(&packed);
	expect_no_grant(&sticky);
	expect_no_grant(&by_kernel);
}

Test(ledger_shares, a_client_has_no_more_than_its_share)
{
	struct pool_rules rules = {
		.client_share = 30, .client_bits_v4 = 24, .client_bits_v6 = 64
	};
	struct ledger *l = with_rules(10, &rules);
	struct ledger_lease lease, last;

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &last), 0);
	/* The prefix is one client. */
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), -EDQUOT);
	cr_expect_eq(lease_as(l, "198.51.101.2:1", 0, &lease), 0);
	ledger_return(l, &last, LEDGER_HOT, NOW);
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), 0);
	fixture_check(l);
	die_everywhere(l);
	fixture_check(l);
	cr_expect_eq(lease_as(l, "198.51.100.9:1", 0, &lease), -EDQUOT);
}

/* Short sessions that the client ends use no less of the budget than long ones.
 */
Test(ledger_shares, what_cools_is_of_its_clients_share)
{
	struct pool_rules rules = { .client_share = 50, .client_bits_v4 = 32 };
	struct ledger *l = with_rules(4, &rules);
	const uint64_t brief = NOW + LEDGER_BRIEF_MS;
	struct ledger_lease lease;

	cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &lease), 0);
	ledger_return(l, &lease, LEDGER_LONG, NOW);
	cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &lease), 0);
	ledger_return(l, &lease, LEDGER_BRIEF, NOW);
	fixture_check(l);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(
		    lease_at(l, "198.51.100.1:1", 0, brief - 1, &lease),
		    -EDQUOT);
		die_everywhere(l);
		fixture_check(l);
	}
	cr_assert_eq(lease_at(l, "198.51.100.1:1", 0, brief, &lease), 0);
	cr_expect_eq(lease_at(l, "198.51.100.1:1", 0, brief, &lease), -EDQUOT);
	/* Another one takes what has cooled, and it counts as that one's. */
	cr_assert_eq(lease_at(l, "198.51.100.2:1", 0, brief, &lease), 0);
	cr_assert_eq(lease_at(l, "198.51.100.2:1", 0, brief, &lease), 0);
	cr_expect_eq(lease_at(l, "198.51.100.2:1", 0, brief, &lease), -EDQUOT);
	fixture_check(l);
	cr_assert_eq(
	    lease_at(l, "198.51.100.1:1", 0, NOW + LEDGER_LONG_MS, &lease), 0);
	fixture_check(l);
}

/* After a restart the kernel may have many slots that the ledger takes for
 * free: who finds that out has used none of them. */
Test(ledger_shares, what_the_kernel_refuses_is_of_nobodys_share)
{
	struct pool_rules rules = { .client_share = 50, .client_bits_v4 = 32 };
	struct ledger *l = with_rules(4, &rules);
	struct ledger_lease lease;

	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &lease), 0);
		ledger_return(l, &lease, LEDGER_REFUSED, NOW);
		fixture_check(l);
	}
	die_everywhere(l);
	fixture_check(l);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &lease), 0);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &lease), -EADDRINUSE);
	cr_expect_eq(
	    lease_at(l, "198.51.100.1:1", 0, NOW + LEDGER_BRIEF_MS, &lease), 0);
	fixture_check(l);
}

Test(ledger_shares, what_cools_for_others_is_not_of_what_is_reserved)
{
	struct pool_rules rules = { .users_limited = true, .reserved = 2 };
	struct ledger *l = with_rules(4, &rules);
	struct ledger_lease lease;

	ledger_set_user(l, 3, 0, 2);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(lease_as(l, "198.51.100.2:1", 0, &lease), 0);
		ledger_return(l, &lease, LEDGER_LONG, NOW);
		fixture_check(l);
	}
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), -EADDRINUSE);
	die_everywhere(l);
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), -EADDRINUSE);
	/* Its own that cool are. */
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &lease), 0);
	ledger_return(l, &lease, LEDGER_LONG, NOW);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &lease), 0);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &lease), -EADDRINUSE);
	fixture_check(l);
	cr_expect_eq(
	    lease_at(l, "198.51.100.2:1", 0, NOW + LEDGER_LONG_MS, &lease), 0);
	fixture_check(l);
}

Test(ledger_shares, a_share_of_a_few_slots_is_one)
{
	struct pool_rules rules = { .client_share = 1, .client_bits_v4 = 32 };
	struct ledger *l = with_rules(10, &rules);
	struct ledger_lease lease;

	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &lease), 0);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &lease), -EDQUOT);
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), 0);
}

Test(ledger_shares, a_users_part_is_its_own)
{
	struct pool_rules rules = { .users_limited = true };
	struct ledger *l = with_rules(10, &rules);
	struct ledger_lease lease;

	ledger_set_user(l, 3, 20, 0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(lease_as(l, "198.51.100.1:1", 3, &lease), 0);
	cr_expect_eq(lease_as(l, "198.51.100.9:1", 3, &lease), -EDQUOT);
	cr_expect_eq(lease_as(l, "198.51.100.9:1", 4, &lease), 0);
	cr_expect_eq(lease_as(l, "198.51.100.9:1", 0, &lease), 0);
	fixture_check(l);
}

Test(ledger_shares, what_is_reserved_is_there_for_its_user_alone)
{
	struct pool_rules rules = { .users_limited = true, .reserved = 4 };
	struct ledger *l = with_rules(10, &rules);
	struct ledger_lease lease, own;
	unsigned got = 0;

	ledger_set_user(l, 3, 0, 4);
	cr_assert_eq(lease_as(l, "198.51.100.1:1", 3, &own), 0);
	while (lease_as(l, "198.51.100.2:1", 0, &lease) == 0)
		got++;
	cr_expect_eq(got, 6);
	die_everywhere(l);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &own), 0);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &own), -EADDRINUSE);
	/* What it gives back is kept for it. */
	ledger_return(l, &own, LEDGER_HOT, NOW);
	cr_expect_eq(lease_as(l, "198.51.100.2:1", 0, &lease), -EADDRINUSE);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 3, &own), 0);
	fixture_check(l);
}

Test(ledger_shares, who_may_not_have_the_slot_is_passed_over)
{
	struct pool_rules rules = { .users_limited = true, .reserved = 1 };
	struct ledger *l = with_rules(2, &rules);
	struct ledger_holder other = client_of("198.51.100.2:1", 1);
	struct ledger_holder user = client_of("198.51.100.3:1", 1);
	struct ledger_ticket a;
	struct ledger_lease lease, got;

	user.user = 3;
	ledger_set_user(l, 3, 0, 1);
	cr_assert_eq(lease_as(l, "198.51.100.2:1", 0, &lease), 0);
	/* The other slot is the user's, who is past the queue with it. */
	cr_assert_eq(queue_for(l, &other, 9, &a, &got), -EINPROGRESS);
	struct ledger_ticket b;

	cr_expect_eq(queue_for(l, &user, 9, &b, &got), 0);
	cr_expect(!ledger_is_granted(l, &a));
	ledger_return(l, &lease, LEDGER_HOT, NOW);
	claim(l, &a);
	fixture_check(l);
}

/* ---- order and sources ---- */

Test(ledger_shares, a_full_queue_does_not_keep_a_user_from_its_reserve)
{
	struct pool_rules rules = { .users_limited = true, .reserved = 1 };
	struct ledger *l = with_rules(2, &rules);
	struct ledger_holder other = client_of("198.51.100.2:1", 1);
	struct ledger_holder user = client_of("198.51.100.3:1", 1);
	struct ledger_ticket a, b;
	struct ledger_lease lease, got;

	user.user = 3;
	ledger_set_user(l, 3, 0, 1);
	cr_assert_eq(lease_as(l, "198.51.100.2:1", 0, &lease), 0);
	cr_assert_eq(queue_for(l, &other, 1, &a, &got), -EINPROGRESS);
	cr_assert_eq(queue_for(l, &other, 1, &b, &got), -ENOBUFS);
	cr_expect_eq(queue_for(l, &user, 1, &b, &got), 0);
	cr_expect(!ledger_is_granted(l, &a));
	cr_expect_eq(queue_for(l, &user, 1, &b, &got), -ENOBUFS);
	fixture_check(l);
}

Test(ledger_shares, who_has_its_share_does_not_keep_others_out_by_waiting)
{
	struct pool_rules rules = {
		.client_share = 50, .client_bits_v4 = 32, .client_bits_v6 = 64
	};
	struct ledger *l = with_rules(2, &rules);
	struct ledger_holder greedy = client_of("198.51.100.1:1", 1);
	struct ledger_holder other = client_of("198.51.100.4:1", 1);
	struct ledger_ticket t[2], none;
	struct ledger_lease leases[2], got;

	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(
		    lease_as(l, i == 0 ? "198.51.100.2:1" : "198.51.100.3:1", 0,
			&leases[i]),
		    0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(
		    queue_for(l, &greedy, 2, &t[i], &got), -EINPROGRESS);
	for (unsigned i = 0; i < 2; i++)
		ledger_return(l, &leases[i], LEDGER_HOT, NOW);
	claim(l, &t[0]);
	/* One waits still, and may not have what is free. */
	cr_assert(!ledger_is_granted(l, &t[1]));
	cr_expect_eq(queue_for(l, &other, 1, &none, &got), 0);
	fixture_check(l);
}

Test(ledger_order, hashed_gives_each_slot_once_and_each_target_its_own_order)
{
	struct pool_rules rules = { .order = POOL_HASHED };
	struct ledger *l = with_rules(100, &rules);
	bool seen[100] = { false };
	unsigned in_order = 0, same = 0;
	struct ledger_lease lease, twin;

	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &lease), 0);
		cr_assert_eq(
		    fixture_lease(l, 0, "203.0.113.9:444", NOW, &twin), 0);
		cr_assert(!seen[lease.source.port - 100]);
		seen[lease.source.port - 100] = true;
		in_order += lease.source.port == 100 + i;
		same += lease.source.port == twin.source.port;
		if (i == 50) {
			fixture_check(l);
			die_everywhere(l);
		}
	}
	cr_expect_eq(fixture_lease(l, 0, TARGET, NOW, &lease), -EADDRINUSE);
	/* Of a random order a few stay at their place by chance. */
	cr_expect_lt(in_order, 20);
	cr_expect_lt(same, 20);
	fixture_check(l);
}

static struct ledger *
sticky(enum pool_sticky how)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.0/28", 100, 101);

	p.rules.sticky = (uint8_t)how;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	return l;
}

Test(ledger_sticky, a_client_keeps_its_address_until_that_is_full)
{
	struct ledger *l = sticky(POOL_STICKY_CLIENT);
	struct ledger_lease a, b, c;

	cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &a), 0);
	cr_assert_eq(lease_as(l, "198.51.100.1:2", 0, &b), 0);
	cr_expect(addr_equal_ip(&a.source, &b.source));
	cr_assert_eq(lease_as(l, "198.51.100.1:3", 0, &c), 0);
	cr_expect(!addr_equal_ip(&a.source, &c.source));
	ledger_return(l, &b, LEDGER_HOT, NOW);
	cr_assert_eq(lease_as(l, "198.51.100.1:4", 0, &c), 0);
	cr_expect(addr_equal_ip(&a.source, &c.source));
	fixture_check(l);
	die_everywhere(l);
	fixture_check(l);
}

Test(ledger_sticky, users_keep_theirs_from_wherever_they_come)
{
	struct ledger *l = sticky(POOL_STICKY_USER);
	struct ledger_lease a, b;
	unsigned same = 0;

	cr_assert_eq(lease_as(l, "198.51.100.1:1", 3, &a), 0);
	cr_assert_eq(lease_as(l, "198.51.100.9:1", 3, &b), 0);
	cr_expect(addr_equal_ip(&a.source, &b.source));
	/* Others spread over the addresses. */
	for (uint16_t user = 4; user < 20; user++) {
		cr_assert_eq(lease_as(l, "198.51.100.9:1", user, &b), 0);
		same += addr_equal_ip(&a.source, &b.source);
	}
	cr_expect_leq(same, 1);
}

Test(ledger_sticky, an_address_whose_port_rested_is_the_clients_again)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.0/29", 100, 101);
	struct ledger_lease first, second, lease;

	p.rules.sticky = POOL_STICKY_CLIENT;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	cr_assert(ledger_rest_port(l, 100, NOW, NOW + 60000));
	cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &first), 0);
	cr_expect_eq(first.source.port, 101);
	cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &second), 0);
	cr_expect(!addr_equal_ip(&first.source, &second.source));
	cr_assert_eq(lease_at(l, "198.51.100.1:1", 0, NOW + 60000, &lease), 0);
	cr_expect(addr_equal_ip(&first.source, &lease.source));
	cr_expect_eq(lease.source.port, 100);
	fixture_check(l);
}

Test(ledger_sticky, every_slot_can_be_had_and_cools_where_it_is)
{
	struct ledger *l = sticky(POOL_STICKY_CLIENT);
	struct ledger_lease leases[32], more;
	struct addr target = fixture_at(TARGET);
	struct ledger_target t;

	for (unsigned i = 0; i < 32; i++)
		cr_assert_eq(lease_as(l, "198.51.100.1:1", 0, &leases[i]), 0);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &more), -EADDRINUSE);
	for (unsigned i = 0; i < 32; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
	ledger_target(l, 0, &target, NOW, &t);
	cr_expect_eq(t.cooling, 32);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &more), -EADDRINUSE);
	die_everywhere(l);
	fixture_check(l);
	cr_expect_eq(lease_as(l, "198.51.100.1:1", 0, &more), -EADDRINUSE);
	cr_assert_eq(
	    fixture_lease(l, 0, TARGET, NOW + LEDGER_LONG_MS, &more), 0);
	ledger_return(l, &more, LEDGER_HOT, NOW + LEDGER_LONG_MS);
	fixture_check(l);
}

Test(ledger_cooldown, the_operators_time_is_for_what_we_closed_first)
{
	struct ledger *l = fixture_ledger(100, 100);
	struct pool p = fixture_pool("192.0.2.1", 100, 100);
	static const enum ledger_release ours[] = { LEDGER_LONG,
		LEDGER_REUSABLE };
	uint64_t now = NOW;
	struct ledger_lease lease;

	p.rules.cooldown_ms = 5000;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	for (unsigned i = 0; i < ARRAY_LEN(ours); i++) {
		cr_assert_eq(fixture_lease(l, 0, TARGET, now, &lease), 0);
		ledger_return(l, &lease, ours[i], now);
		cr_expect_eq(fixture_lease(l, 0, TARGET, now + 4999, &lease),
		    -EADDRINUSE);
		now += 5000;
	}
	cr_assert_eq(fixture_lease(l, 0, TARGET, now, &lease), 0);
	ledger_return(l, &lease, LEDGER_BRIEF, now);
	cr_expect_eq(
	    fixture_lease(l, 0, TARGET, now + LEDGER_BRIEF_MS, &lease), 0);
}

/* A pool of 1,000 ports, all of them held. */
static struct ledger *
large(struct pool *p, struct ledger_lease leases[1000])
{
	struct ledger *l = fixture_ledger(2000, 1000);

	*p = fixture_pool("192.0.2.1", 1000, 1999);
	cr_assert_eq(ledger_set_pool(l, 0, p), 0);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(fixture_lease(l, 0, TARGET, NOW, &leases[i]), 0);
	return l;
}

/* Each is put at the end of a list: a walk past all that cooled before would be
 * one at each return. */
Test(ledger_cooldown, a_shortened_time_holds_for_what_ends_from_then_on)
{
	struct ledger_lease leases[1000];
	struct pool p;
	struct ledger *l = large(&p, leases);
	struct addr target = fixture_at(TARGET);
	struct ledger_key k;
	struct hold h;

	for (unsigned i = 0; i < 600; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
	p.rules.cooldown_ms = 1000;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	for (unsigned i = 600; i < 1000; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW + i);
	fixture_check(l);
	ledger_key_make(l, 0, &target, &k);
	h = shard_lock(l, k.shard);
	/* The first is before all others. */
	cr_expect_eq(h.s->count[RECORD_LONG], 601);
	cr_expect_eq(h.s->count[RECORD_BRIEF], 399);
	shard_unlock(&h);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + 1599), 0);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + 1600), 1);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + 1999), 399);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + LEDGER_LONG_MS - 1), 0);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + LEDGER_LONG_MS), 600);
	fixture_check(l);
}

/* Three times meet: a list for each is one too few. */
Test(ledger_cooldown, no_insertion_walks_far)
{
	struct ledger_lease leases[1000];
	struct pool p;
	struct ledger *l = large(&p, leases);
	unsigned early;

	for (unsigned i = 0; i < 300; i++)
		ledger_return(l, &leases[i], LEDGER_LONG, NOW);
	p.rules.cooldown_ms = 30000;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	for (unsigned i = 300; i < 1000; i++)
		ledger_return(l, &leases[i],
		    i % 2 == 0 ? LEDGER_LONG : LEDGER_BRIEF, NOW + i);
	fixture_check(l);
	/* Those more than so many steps from the end cool longer. */
	early = fixture_take_all(l, TARGET, NOW + 1000 + LEDGER_BRIEF_MS);
	cr_expect_geq(early, 256);
	cr_expect_lt(early, 350);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + 31000), 700 - early);
	cr_expect_eq(fixture_take_all(l, TARGET, NOW + LEDGER_LONG_MS), 300);
	fixture_check(l);
}
