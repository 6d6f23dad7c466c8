/* SPDX-License-Identifier: ISC */
/*
 * What an observer reads of the ledger, and that it disturbs nobody.
 */
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/ledger_read.h"
#include "ledger_fixture.h"

#define NOW      UINT64_C(1000000)
#define ROWS_MAX 4096

struct rows {
	struct ledger *l;
	unsigned records, targets, rests;
	struct ledger_record_row record[ROWS_MAX];
	struct ledger_target_row target[ROWS_MAX];
	uint16_t port[16];
	uint64_t until[16];
};

static void
on_record(void *arg, const struct ledger_record_row *row)
{
	struct rows *rows = arg;

	cr_assert_lt(rows->records, ROWS_MAX);
	rows->record[rows->records++] = *row;
}

static void
on_target(void *arg, const struct ledger_target_row *row)
{
	struct rows *rows = arg;

	cr_assert_lt(rows->targets, ROWS_MAX);
	rows->target[rows->targets++] = *row;
}

static void
on_rest(void *arg, uint16_t port, uint64_t until_ms)
{
	struct rows *rows = arg;

	cr_assert_lt(rows->rests, 16);
	rows->port[rows->rests] = port;
	rows->until[rows->rests++] = until_ms;
}

/* All that there is to read. */
static struct rows *
read_all(struct ledger *l, uint64_t now_ms)
{
	struct rows *rows = calloc(1, sizeof(*rows));

	cr_assert_not_null(rows);
	rows->l = l;
	ledger_each_record(l, now_ms, on_record, rows);
	ledger_each_target(l, on_target, rows);
	ledger_each_resting(l, now_ms, on_rest, rows);
	return rows;
}

static struct ledger *
small(void)
{
	struct ledger *l = fixture_ledger(1000, 1000);

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	return l;
}

static struct ledger_lease
lease_for(struct ledger *l, unsigned pool, const char *target,
    const struct ledger_holder *holder, uint64_t now_ms)
{
	struct addr a = fixture_at(target);
	struct ledger_lease lease;

	cr_assert_eq(ledger_lease(l, pool, &a, holder, now_ms, &lease), 0);
	return lease;
}

#define expect_addr(a, text)                                      \
	do {                                                      \
		char got_[ADDR_TEXT_MAX];                         \
		cr_expect_str_eq(addr_format((a), got_), (text)); \
	} while (0)

Test(ledger_read, an_empty_ledger_has_nothing_to_tell)
{
	struct rows *rows = read_all(small(), NOW);

	cr_expect_eq(rows->records + rows->targets + rows->rests, 0);
	free(rows);
}

Test(ledger_read, a_held_slot_says_who_has_it_towards_whom_and_since_when)
{
	struct ledger *l = small();
	struct ledger_holder v4 = { .session = 0x20000000001,
		.user = 7,
		.worker = 3,
		.client = fixture_at("198.51.100.9:5000") };
	struct ledger_holder v6 = { .session = 2,
		.worker = 4,
		.client = fixture_at("[2001:db8::7]:9") };
	struct ledger_holder local = { .session = 3, .worker = 255 };
	struct rows *rows;

	fixture_set(l, 5, "2001:db8::1", 200, 201);
	lease_for(l, 0, "203.0.113.9:443", &v4, NOW);
	lease_for(l, 5, "[2001:db8:1::9]:80", &v6, NOW + 5);
	lease_for(l, 0, "203.0.113.10:443", &local, NOW + 6);
	rows = read_all(l, NOW + 10);
	cr_assert_eq(rows->records, 3);
	for (unsigned i = 0; i < 3; i++) {
		const struct ledger_record_row *r = &rows->record[i];

		cr_expect_eq(r->use, LEDGER_HELD);
		if (r->holder.session == v4.session) {
			expect_addr(&r->target, "203.0.113.9:443");
			expect_addr(&r->source, "192.0.2.1:100");
			expect_addr(&r->holder.client, "198.51.100.9:5000");
			cr_expect_eq(r->holder.user, 7);
			cr_expect_eq(r->holder.worker, 3);
			cr_expect_eq(r->pool, 0);
			cr_expect_eq(r->when_ms, NOW);
		} else if (r->holder.session == 2) {
			expect_addr(&r->target, "[2001:db8:1::9]:80");
			expect_addr(&r->source, "[2001:db8::1]:200");
			expect_addr(&r->holder.client, "[2001:db8::7]:9");
			cr_expect_eq(r->pool, 5);
			cr_expect_eq(r->when_ms, NOW + 5);
		} else {
			cr_expect_eq(r->holder.session, 3);
			cr_expect_eq(r->holder.client.family, ADDR_NONE);
			cr_expect_eq(r->holder.worker, 255);
		}
	}
	free(rows);
}

Test(ledger_read, what_cools_is_told_from_what_can_be_had)
{
	struct ledger *l = small();
	struct ledger_lease hot, brief, kept;
	struct rows *rows;
	unsigned seen[3] = { 0 };

	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &hot), 0);
	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &brief), 0);
	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &kept), 0);
	ledger_return(l, &hot, LEDGER_HOT, NOW);
	ledger_return(l, &brief, LEDGER_BRIEF, NOW);
	rows = read_all(l, NOW + LEDGER_BRIEF_MS - 1);
	cr_assert_eq(rows->records, 3);
	for (unsigned i = 0; i < 3; i++)
		seen[rows->record[i].use]++;
	cr_expect_eq(seen[LEDGER_HELD], 1);
	cr_expect_eq(seen[LEDGER_COOLING], 1);
	cr_expect_eq(seen[LEDGER_USABLE], 1);
	for (unsigned i = 0; i < 3; i++) {
		if (rows->record[i].use != LEDGER_COOLING)
			continue;
		expect_addr(&rows->record[i].source, "192.0.2.1:101");
		cr_expect_eq(rows->record[i].when_ms, NOW + LEDGER_BRIEF_MS);
		cr_expect_eq(rows->record[i].holder.session, 0);
	}
	free(rows);
	rows = read_all(l, NOW + LEDGER_BRIEF_MS);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_neq(rows->record[i].use, LEDGER_COOLING);
	free(rows);
}

Test(ledger_read, a_target_says_what_is_held_of_its_slots)
{
	struct ledger *l = small();
	struct ledger_lease a, b;
	struct rows *rows;

	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &a), 0);
	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &b), 0);
	ledger_return(l, &a, LEDGER_LONG, NOW);
	rows = read_all(l, NOW);
	cr_assert_eq(rows->targets, 1);
	expect_addr(&rows->target[0].target, "203.0.113.9:443");
	cr_expect_eq(rows->target[0].pool, 0);
	cr_expect_eq(rows->target[0].slots, 3);
	cr_expect_eq(rows->target[0].held, 1);
	cr_expect_eq(rows->target[0].touched, 2);
	cr_expect_eq(rows->target[0].high_water, 2);
	cr_expect_eq(rows->target[0].cell, rows->record[0].cell);
	free(rows);
}

Test(ledger_read, a_targets_own_slot_is_not_counted)
{
	struct ledger *l = small();
	struct ledger_lease lease;
	struct rows *rows;

	cr_assert_eq(fixture_lease(l, 0, "192.0.2.1:101", NOW, &lease), 0);
	rows = read_all(l, NOW);
	cr_expect_eq(rows->target[0].slots, 2);
	free(rows);
}

/* Held and cooling together are never more than `touched`. */
Test(ledger_read, what_may_be_in_use_is_an_upper_bound_after_a_change_of_pool)
{
	struct ledger *l = small();
	struct ledger_lease lease[3];
	struct rows *rows;
	unsigned used = 0;

	for (int i = 0; i < 3; i++)
		cr_assert_eq(
		    fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease[i]), 0);
	ledger_return(l, &lease[2], LEDGER_LONG, NOW);
	/* 100 is no slot any more, 101 and 102 are behind fresh ones. */
	fixture_set(l, 0, "192.0.2.1", 50, 52);
	fixture_set(l, 0, "192.0.2.1", 99, 102);
	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease[2]), 0);
	rows = read_all(l, NOW);
	cr_assert_eq(rows->targets, 1);
	for (unsigned i = 0; i < rows->records; i++)
		used += rows->record[i].use != LEDGER_USABLE;
	cr_expect_geq(rows->target[0].touched, used);
	cr_expect_geq(rows->target[0].touched, rows->target[0].held);
	free(rows);
}

static void
queue(struct ledger *l, const char *target, uint64_t session)
{
	struct ledger_holder holder = { .session = session, .worker = 1 };
	struct addr a = fixture_at(target);
	struct ledger_ticket ticket;
	struct ledger_lease lease;

	cr_assert_eq(ledger_queue(l, 0, &a, &holder, 10, NOW, &ticket, &lease),
	    -EINPROGRESS);
}

Test(ledger_read, a_full_target_says_so_until_that_is_taken)
{
	struct ledger *l = small();
	struct ledger_lease lease;
	struct rows *rows;

	for (int i = 0; i < 3; i++)
		cr_assert_eq(
		    fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease), 0);
	rows = read_all(l, NOW);
	cr_expect_not(rows->target[0].was_full);
	free(rows);
	cr_assert_eq(
	    fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease), -EADDRINUSE);
	queue(l, "203.0.113.9:443", 8);
	queue(l, "203.0.113.9:443", 9);
	rows = read_all(l, NOW);
	cr_expect(rows->target[0].was_full);
	cr_expect_eq(rows->target[0].waiting, 2);
	ledger_take_targets(l, on_target, rows);
	cr_expect(rows->target[1].was_full);
	ledger_each_target(l, on_target, rows);
	cr_expect_not(rows->target[2].was_full);
	cr_expect_eq(rows->target[2].waiting, 2);
	free(rows);
}

Test(ledger_read, in_a_sticky_pool_each_address_counts)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct pool p = fixture_pool("192.0.2.1", 100, 102);
	struct ledger_lease lease;
	struct rows *rows;

	for (unsigned i = 2; i < 10; i++) {
		char text[32];

		snprintf(text, sizeof(text), "192.0.2.%u", i);
		fixture_add(&p, text);
	}
	p.rules.sticky = POOL_STICKY_CLIENT;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct ledger_holder holder = {
			.session = i, .worker = 1, .client = addr_v4(i, 9)
		};
		struct addr a = fixture_at("203.0.113.9:443");

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
		if (i % 2 == 0)
			ledger_return(l, &lease, LEDGER_LONG, NOW);
	}
	rows = read_all(l, NOW);
	cr_assert_eq(rows->targets, 1);
	cr_expect_eq(rows->target[0].held, 10);
	cr_expect_eq(rows->target[0].slots, 27);
	cr_expect_eq(rows->target[0].touched, 20);
	free(rows);
}

Test(ledger_read, where_the_kernel_chooses_there_are_no_slots)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct addr named = fixture_at("192.0.2.1:40123");
	struct ledger_lease lease;
	struct rows *rows;
	struct pool p;

	pool_init(&p, "kernel");
	fixture_add(&p, "0.0.0.0");
	p.by_kernel = true;
	cr_assert_eq(ledger_set_pool(l, 0, &p), 0);
	cr_assert_eq(fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease), 0);
	rows = read_all(l, NOW);
	expect_addr(&rows->record[0].source, "0.0.0.0:0");
	free(rows);
	ledger_name_source(l, &lease, &named);
	rows = read_all(l, NOW);
	expect_addr(&rows->record[0].source, "192.0.2.1:40123");
	cr_expect_eq(rows->target[0].slots, 0);
	cr_expect_eq(rows->target[0].held, 1);
	cr_expect_eq(rows->target[0].touched, 1);
	free(rows);
}

Test(ledger_read, a_target_that_has_ended_is_not_told)
{
	struct ledger *l = fixture_ledger(1000, 1000);
	struct ledger_lease lease[100];
	struct rows *rows;

	fixture_set(l, 0, "192.0.2.1", 100, 199);
	for (int i = 0; i < 100; i++)
		cr_assert_eq(
		    fixture_lease(l, 0, "203.0.113.9:443", NOW, &lease[i]), 0);
	/* So many that they are not freed in one operation. */
	for (int i = 0; i < 100; i++)
		ledger_return(l, &lease[i], LEDGER_HOT, NOW);
	rows = read_all(l, NOW);
	cr_expect_eq(rows->targets, 0);
	cr_expect_eq(rows->records, 0);
	free(rows);
}

Test(ledger_read, a_thousand_targets_are_told_once_each)
{
	struct ledger *l = fixture_ledger(4000, 4000);
	struct ledger_lease lease;
	struct rows *rows;
	bool seen[1000] = { false };

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	for (unsigned i = 0; i < 1000; i++) {
		struct ledger_holder holder = { .session = i, .worker = 1 };
		struct addr a = addr_v4(0xcb007100 + i, 443);

		for (int n = 0; n < 2; n++)
			cr_assert_eq(
			    ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
	}
	rows = read_all(l, NOW);
	cr_assert_eq(rows->targets, 1000);
	cr_assert_eq(rows->records, 2000);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t session = rows->record[i].holder.session;
		struct addr a = addr_v4(0xcb007100 + (uint32_t)session, 443);

		cr_assert(addr_equal(&rows->record[i].target, &a));
	}
	for (unsigned i = 0; i < 1000; i++) {
		unsigned n = rows->target[i].target.ip[3] +
			     256U * rows->target[i].target.ip[2] - 0x7100;

		cr_assert_lt(n, 1000);
		cr_assert_not(seen[n]);
		seen[n] = true;
		cr_assert_eq(rows->target[i].held, 2);
	}
	free(rows);
}

Test(ledger_read, a_port_that_rests_is_told_until_its_time_is_over)
{
	struct ledger *l = small();
	struct rows *rows;

	ledger_rest_port(l, 101, NOW, NOW + 5000);
	ledger_rest_port(l, 65535, NOW, NOW + 9000);
	rows = read_all(l, NOW + 10);
	cr_assert_eq(rows->rests, 2);
	cr_expect_eq(rows->port[0], 101);
	cr_expect_eq(rows->until[0], NOW + 5000);
	cr_expect_eq(rows->port[1], 65535);
	free(rows);
	rows = read_all(l, NOW + 5000);
	cr_expect_eq(rows->rests, 1);
	free(rows);
	rows = read_all(l, NOW + 9000);
	cr_expect_eq(rows->rests, 0);
	free(rows);
}

/* What the callbacks do would wait for ever if a lock were held. */
static void
lease_in_record(void *arg, const struct ledger_record_row *row)
{
	struct rows *rows = arg;
	struct ledger_holder holder = { .session = 9, .worker = 1 };
	struct ledger_lease lease;

	cr_assert_eq(
	    ledger_lease(rows->l, 0, &row->target, &holder, NOW, &lease), 0);
	ledger_return(rows->l, &lease, LEDGER_HOT, NOW);
	rows->records++;
}

static void
lease_in_target(void *arg, const struct ledger_target_row *row)
{
	struct ledger_record_row record = { .target = row->target };
	struct rows *rows = arg;

	lease_in_record(rows, &record);
	rows->targets++;
}

Test(ledger_read, no_lock_is_held_while_it_calls_back, .timeout = 20)
{
	struct rows *rows = calloc(1, sizeof(*rows));
	struct ledger_lease lease;

	rows->l = small();
	cr_assert_eq(
	    fixture_lease(rows->l, 0, "203.0.113.9:443", NOW, &lease), 0);
	ledger_each_record(rows->l, NOW, lease_in_record, rows);
	ledger_each_target(rows->l, lease_in_target, rows);
	cr_expect_eq(rows->targets, 1);
	cr_expect_eq(rows->records, 2);
	free(rows);
}

/* Pages in use of the block. */
static size_t
resident(struct ledger *l, size_t bytes)
{
	size_t pages = (bytes + 4095) / 4096, n = 0;
	unsigned char *in = calloc(1, pages);

	cr_assert_eq(mincore(l, bytes, in), 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	free(in);
	return n;
}

Test(ledger_read, memory_that_was_never_used_stays_so)
{
	struct ledger *l = fixture_ledger(100000, 100000);
	size_t bytes = ledger_bytes(100000, 100000), before;
	struct ledger_lease lease;
	struct rows *rows;

	fixture_set(l, 0, "192.0.2.1", 100, 102);
	for (unsigned i = 0; i < 40; i++) {
		struct ledger_holder holder = { .session = i, .worker = 1 };
		struct addr a = addr_v4(0xcb007100 + i, 443);

		cr_assert_eq(ledger_lease(l, 0, &a, &holder, NOW, &lease), 0);
	}
	before = resident(l, bytes);
	rows = read_all(l, NOW);
	cr_assert_eq(rows->records, 40);
	cr_expect_eq(resident(l, bytes), before);
	free(rows);
}

/* ---- while others work ---- */

static void
churn(struct ledger *l)
{
	struct ledger_lease held[64] = { 0 };
	uint32_t seed = 1;
	pid_t parent = getppid();

	for (unsigned i = 0; i < 64; i++)
		held[i].record = UINT32_MAX;
	for (uint64_t n = 0; getppid() == parent; n++) {
		struct ledger_holder holder = {
			.session = n, .worker = 2, .client = addr_v4(9, 9)
		};
		struct addr a;

		seed = seed * 1664525 + 1013904223;
		a = addr_v4(0xcb007100 + (seed >> 8) % 500, 443);
		if (held[n % 64].record != UINT32_MAX)
			ledger_return(l, &held[n % 64],
			    (enum ledger_release)(seed >> 28) % 3, n);
		if (ledger_lease(l, 0, &a, &holder, n, &held[n % 64]) != 0)
			held[n % 64].record = UINT32_MAX;
	}
	_exit(0);
}

static void
check_record(void *arg, const struct ledger_record_row *row)
{
	struct rows *rows = arg;
	uint32_t n = row->target.ip[3] + 256U * row->target.ip[2];

	cr_assert_eq(row->target.port, 443);
	cr_assert(n >= 0x7100 && n < 0x7100 + 500);
	cr_assert(row->source.port >= 100 && row->source.port <= 149);
	if (row->use == LEDGER_HELD) {
		cr_assert_eq(row->holder.worker, 2);
		cr_assert_eq(row->holder.client.port, 9);
		rows->records++;
	}
}

static void
check_target(void *arg, const struct ledger_target_row *row)
{
	struct rows *rows = arg;

	cr_assert_eq(row->slots, 50);
	cr_assert_leq(row->held, row->touched);
	cr_assert_leq(row->held, row->high_water);
	rows->targets++;
}

Test(ledger_read, each_row_is_whole_while_another_process_changes_them)
{
	struct rows *rows = calloc(1, sizeof(*rows));
	struct ledger *l = fixture_ledger(20000, 20000);
	pid_t child;

	cr_assert_not_null(rows);
	fixture_set(l, 0, "192.0.2.1", 100, 149);
	child = fork();
	cr_assert_geq(child, 0);
	if (child == 0)
		churn(l);
	for (unsigned i = 0; i < 60 || rows->records < 1000; i++) {
		ledger_each_record(l, UINT64_MAX, check_record, rows);
		ledger_each_target(l, check_target, rows);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	cr_expect_gt(rows->targets, 0);
	free(rows);
	fixture_check(l);
}
