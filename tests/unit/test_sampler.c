/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger_fixture.h"
#include "service/sampler.h"

#define NOW        UINT64_C(1000000)
#define EVENTS_MAX 64

struct scene {
	struct ledger *ledger;
	struct shared *shared;
	struct config config;
	struct config_listen listen;
	struct config_address address;
	struct config_egress egress;
	unsigned pools[1];
	struct observer_setup setup;
	struct sampler sampler;
	struct alarm_event events[EVENTS_MAX];
	unsigned count;
};

static void
on_alarm(void *arg, const struct alarm_event *event)
{
	struct scene *s = arg;

	cr_assert_lt(s->count, EVENTS_MAX);
	s->events[s->count++] = *event;
}

/* A pool of one address with `ports` ports. */
static struct scene *
scene_new(unsigned ports)
{
	struct scene *s = calloc(1, sizeof(*s));
	struct alarm_levels levels = { .target = 80,
		.target_critical = 95,
		.cooling = 50,
		.strangers = 50,
		.descriptors = 90 };

	cr_assert_not_null(s);
	s->shared = calloc(1, sizeof(*s->shared));
	s->ledger = fixture_ledger(4000, 4000);
	s->pools[0] = 2;
	fixture_set(
	    s->ledger, 2, "192.0.2.1", 1000, (uint16_t)(1000 + ports - 1));
	s->listen.addresses = &s->address;
	s->listen.address_count = 1;
	s->config.listens = &s->listen;
	s->config.listen_count = 1;
	s->config.egresses = &s->egress;
	s->config.egress_count = 1;
	s->setup = (struct observer_setup){ .config = &s->config,
		.ledger = s->ledger,
		.shared = s->shared,
		.pools = s->pools,
		.descriptors = 1000,
		.slots = 1 };
	s->sampler.setup = &s->setup;
	s->sampler.alarms = alarms_new(&levels, on_alarm, s);
	cr_assert_not_null(s->sampler.alarms);
	return s;
}

static void
scene_free(struct scene *s)
{
	alarms_free(s->sampler.alarms);
	free(s->shared);
	free(s);
}

/* A second later. */
static void
sample(struct scene *s, uint64_t now_ms)
{
	s->sampler.rested_until_ms = 0;
	cr_assert(sampler_round(&s->sampler, now_ms));
}

static void
hold(struct scene *s, const char *target, unsigned count,
    struct ledger_lease *leases)
{
	struct ledger_lease ignored;

	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fixture_lease(s->ledger, 2, target, NOW,
				 leases != NULL ? &leases[i] : &ignored),
		    0);
}

static const struct alarm_event *
only_event(const struct scene *s)
{
	cr_assert_eq(s->count, 1, "%u events", s->count);
	return &s->events[0];
}

Test(sampler, below_all_levels_nothing_is_told)
{
	struct scene *s = scene_new(100);

	hold(s, "203.0.113.9:443", 79, NULL);
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	scene_free(s);
}

Test(sampler, what_is_held_of_a_target_is_told)
{
	struct scene *s = scene_new(100);
	const struct alarm_event *e;

	hold(s, "203.0.113.8:443", 10, NULL);
	hold(s, "203.0.113.9:443", 80, NULL);
	sample(s, NOW);
	e = only_event(s);
	cr_expect_eq(e->kind, ALARM_TARGET_HIGH);
	cr_expect(e->begins);
	cr_expect_eq(e->used, 80);
	cr_expect_eq(e->of, 100);
	cr_expect_eq(e->subject.id, 2);
	cr_expect_eq(e->subject.target.ip[3], 9);
	scene_free(s);
}

Test(sampler, what_cools_of_a_target_counts_and_what_can_be_had_does_not)
{
	struct ledger_lease leases[90];
	struct scene *s = scene_new(100);

	hold(s, "203.0.113.9:443", 90, leases);
	for (unsigned i = 0; i < 30; i++)
		ledger_return(s->ledger, &leases[i],
		    i < 11 ? LEDGER_HOT : LEDGER_LONG, NOW);
	/* 60 held, 19 cool, 11 can be had at once. */
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	ledger_return(s->ledger, &leases[40], LEDGER_LONG, NOW);
	hold(s, "203.0.113.9:443", 1, NULL);
	sample(s, NOW);
	cr_expect_eq(only_event(s)->kind, ALARM_TARGET_HIGH);
	cr_expect_eq(s->events[0].used, 80);
	/* They have cooled. */
	sample(s, NOW + LEDGER_LONG_MS);
	cr_expect_eq(s->count, 2);
	cr_expect_not(s->events[1].begins);
	cr_expect_eq(s->events[1].used, 60);
	scene_free(s);
}

Test(sampler, a_lease_that_was_not_to_be_had_is_told_once)
{
	struct scene *s = scene_new(4);
	struct ledger_lease leases[4], none;

	hold(s, "203.0.113.9:443", 4, leases);
	cr_assert_neq(
	    fixture_lease(s->ledger, 2, "203.0.113.9:443", NOW, &none), 0);
	for (unsigned i = 0; i < 3; i++)
		ledger_return(s->ledger, &leases[i], LEDGER_HOT, NOW);
	/* Though it is nearly idle by now. */
	sample(s, NOW);
	cr_expect_eq(only_event(s)->kind, ALARM_TARGET_EXHAUSTED);
	for (unsigned i = 1; i < 20; i++)
		sample(s, NOW + i * 1000);
	cr_expect_eq(s->count, 2);
	cr_expect_not(s->events[1].begins);
	scene_free(s);
}

Test(sampler, short_sessions_to_many_targets_are_no_alarm)
{
	struct scene *s = scene_new(1000);
	struct ledger_lease lease;

	for (unsigned t = 0; t < 200; t++) {
		char target[64];

		snprintf(target, sizeof(target), "203.0.113.%u:443", t);
		hold(s, target, 1, &lease);
		ledger_return(s->ledger, &lease, LEDGER_LONG, NOW);
	}
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	scene_free(s);
}

Test(sampler, a_target_of_which_half_the_slots_cool_is_told)
{
	struct ledger_lease leases[50];
	struct scene *s = scene_new(100);

	hold(s, "203.0.113.8:443", 50, NULL);
	hold(s, "203.0.113.9:443", 50, leases);
	for (unsigned i = 0; i < 49; i++)
		ledger_return(s->ledger, &leases[i], LEDGER_LONG, NOW);
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	ledger_return(s->ledger, &leases[49], LEDGER_LONG, NOW);
	sample(s, NOW + 1000);
	cr_expect_eq(only_event(s)->kind, ALARM_TARGET_COOLING);
	cr_expect_eq(s->events[0].subject.target.ip[3], 9);
	cr_expect_eq(s->events[0].used, 50);
	cr_expect_eq(s->events[0].of, 100);
	sample(s, NOW + LEDGER_LONG_MS);
	cr_expect_eq(s->count, 2);
	cr_expect_not(s->events[1].begins);
	scene_free(s);
}

Test(sampler, what_rests_does_not_cool)
{
	struct ledger_lease leases[16];
	struct scene *s = scene_new(16);

	/* As outsock does with what a stranger holds. */
	hold(s, "203.0.113.9:443", 16, leases);
	for (unsigned i = 0; i < 8; i++) {
		ledger_rest_port(
		    s->ledger, leases[i].source.port, NOW, NOW + 60000);
		ledger_return(s->ledger, &leases[i], LEDGER_BRIEF, NOW);
	}
	sample(s, NOW);
	for (unsigned i = 0; i < s->count; i++)
		cr_expect_neq(s->events[i].kind, ALARM_TARGET_COOLING);
	scene_free(s);
}

Test(sampler, what_strangers_hold_is_no_part_of_a_targets_slots)
{
	struct ledger_lease leases[8];
	struct scene *s = scene_new(10);
	struct pool p = fixture_pool("192.0.2.1", 1000, 1009);

	/* Two addresses, of which a stranger takes two ports: 16 are left, and
	 * one that is held from before. */
	fixture_add(&p, "192.0.2.2");
	cr_assert_eq(ledger_set_pool(s->ledger, 2, &p), 0);
	hold(s, "203.0.113.9:443", 1, NULL);
	ledger_rest_port(s->ledger, 1000, NOW, NOW + 60000);
	ledger_rest_port(s->ledger, 1001, NOW, NOW + 60000);
	hold(s, "203.0.113.9:443", 8, leases);
	hold(s, "203.0.113.9:443", 4, NULL);
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	hold(s, "203.0.113.9:443", 1, NULL);
	sample(s, NOW + 1000);
	cr_expect_eq(only_event(s)->kind, ALARM_TARGET_HIGH);
	cr_expect_eq(s->events[0].used, 14);
	cr_expect_eq(s->events[0].of, 17);
	hold(s, "203.0.113.9:443", 3, NULL);
	sample(s, NOW + 2000);
	cr_expect_eq(s->count, 3);
	cr_expect_eq(s->events[2].kind, ALARM_TARGET_EXHAUSTED);
	cr_expect_eq(s->events[2].used, 17);
	scene_free(s);
}

Test(sampler, a_pool_of_which_strangers_hold_most_is_told)
{
	struct scene *s = scene_new(10);

	for (uint16_t port = 995; port < 1006; port++)
		ledger_rest_port(s->ledger, port, NOW - 1, NOW + 5000);
	sample(s, NOW);
	cr_expect_eq(only_event(s)->kind, ALARM_POOL_STRANGERS);
	cr_expect_eq(s->events[0].used, 6);
	cr_expect_eq(s->events[0].of, 10);
	sample(s, NOW + 5000);
	cr_expect_eq(s->count, 2);
	scene_free(s);
}

Test(sampler, a_worker_that_has_few_descriptors_left_is_told)
{
	struct scene *s = scene_new(10);

	stats_set(&s->shared->max_sessions[7], 401);
	stats_set(&s->shared->stats[7].sessions, 10);
	stats_set(&s->shared->stats[8].sessions, 400); /* not there */
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	stats_set(&s->shared->stats[7].sessions, 400);
	sample(s, NOW + 1000);
	cr_expect_eq(only_event(s)->kind, ALARM_DESCRIPTORS);
	cr_expect_eq(s->events[0].subject.id, 7);
	cr_expect_eq(s->events[0].of, 1000);
	cr_expect_geq(s->events[0].used, 900);
	stats_set(&s->shared->max_sessions[7], 0);
	sample(s, NOW + 2000);
	cr_expect_eq(s->count, 2);
	scene_free(s);
}

Test(sampler, that_no_worker_has_room_is_told)
{
	struct scene *s = scene_new(10);
	struct stats *stats = s->shared->stats;

	/* What was before the first round is no news. */
	stats_set(&stats[9].counters[STATS_SESSIONS_FULL], 5);
	stats_set(&s->shared->max_sessions[1], 3);
	stats_set(&s->shared->max_sessions[2], 2);
	stats_set(&stats[1].sessions, 3);
	/* One that drains has its own, and does not count. */
	stats_set(&s->shared->max_sessions[3], 5);
	stats_set(&stats[3].sessions, 4);
	s->shared->draining[3] = true;
	sample(s, NOW);
	cr_expect_eq(s->count, 0);
	stats_set(&stats[2].sessions, 2);
	sample(s, NOW + 1000);
	cr_expect_eq(only_event(s)->kind, ALARM_SESSIONS_FULL);
	cr_expect_eq(s->events[0].used, 5);
	cr_expect_eq(s->events[0].of, 5);
	stats_set(&stats[1].sessions, 0);
	sample(s, NOW + 2000);
	sample(s, NOW + 7000);
	cr_expect_eq(s->count, 2);
	cr_expect_not(s->events[1].begins);
	/* Full between two rounds. */
	stats_add(&stats[2].counters[STATS_SESSIONS_FULL], 1);
	sample(s, NOW + 8000);
	cr_expect_eq(s->count, 3);
	cr_expect(s->events[2].begins);
	cr_expect_eq(s->events[2].used, 2);
	scene_free(s);
}

Test(sampler, a_round_that_took_long_is_followed_by_a_longer_rest)
{
	struct scene *s = scene_new(10);

	cr_expect_eq(sampler_rest_ms(0), 0);
	cr_expect_geq(sampler_rest_ms(300), 19 * 300);
	s->sampler.rested_until_ms = NOW + 10;
	cr_expect_not(sampler_round(&s->sampler, NOW + 9));
	cr_expect(sampler_round(&s->sampler, NOW + 10));
	scene_free(s);
}
