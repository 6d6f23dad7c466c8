/* SPDX-License-Identifier: ISC */
/* Alarms by what they tell: samples in, events out. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "egress/alarm.h"

#define SECOND UINT64_C(1000)

static const struct alarm_levels all_levels = { .target = 80,
	.target_critical = 95,
	.cooling = 50,
	.strangers = 50,
	.descriptors = 90,
	.exhaustion_ms = 60 * SECOND };

struct fixture {
	struct alarms *a;
	uint64_t now_ms;
	char said[4096]; /* "+target_high -target_high": since it was read */
	struct alarm_event last;
	unsigned events;
};

static void
on_event(void *arg, const struct alarm_event *event)
{
	struct fixture *f = arg;
	size_t len = strlen(f->said);

	snprintf(f->said + len, sizeof(f->said) - len, "%s%s%s",
	    len == 0 ? "" : " ", event->begins ? "+" : "-",
	    alarm_label(event->kind));
	f->last = *event;
	f->events++;
	if (event->begins)
		cr_expect_eq(event->since_ms, f->now_ms);
}

static void
setup_with(struct fixture *f, const struct alarm_levels *levels)
{
	memset(f, 0, sizeof(*f));
	f->now_ms = 100 * SECOND;
	f->a = alarms_new(levels, on_event, f);
	cr_assert_not_null(f->a);
}

static void
setup(struct fixture *f)
{
	setup_with(f, &all_levels);
}

static struct addr
target_number(uint32_t n)
{
	return addr_v4(UINT32_C(0xcb007100) + n, 443);
}

/* What was said since; then it is forgotten. */
static void
expect_said(struct fixture *f, const char *said)
{
	cr_expect_str_eq(f->said, said, "\"%s\", not \"%s\"", f->said, said);
	f->said[0] = '\0';
}

/* Nothing of it cools. */
static void
tell(struct fixture *f, const struct addr *target, unsigned pool, uint32_t used,
    uint32_t slots, bool was_full)
{
	struct alarm_budget b = {
		.slots = slots, .used = used, .was_full = was_full
	};

	alarms_target(f->a, target, pool, &b);
}

/* A round `ms` after the last, with one target in it. */
static void
sample(struct fixture *f, uint64_t ms, uint32_t used, uint32_t slots,
    bool was_full)
{
	struct addr target = target_number(1);

	f->now_ms += ms;
	alarms_begin(f->a, f->now_ms);
	tell(f, &target, 3, used, slots, was_full);
	alarms_end(f->a);
}

/* The same, and what it brings about. */
static void
expect_sample(
    struct fixture *f, uint32_t used, uint32_t slots, const char *said)
{
	sample(f, SECOND, used, slots, false);
	expect_said(f, said);
}

static void
empty_round(struct fixture *f)
{
	f->now_ms += SECOND;
	alarms_begin(f->a, f->now_ms);
	alarms_end(f->a);
}

/* Levels without a prediction and without what cools, which are matters of
 * their own. */
static struct alarm_levels
without_soon(void)
{
	struct alarm_levels levels = all_levels;

	levels.exhaustion_ms = 0;
	levels.cooling = 0;
	return levels;
}

Test(alarm, every_kind_has_its_label)
{
	for (unsigned i = 0; i < ALARM_KINDS; i++)
		for (unsigned j = 0; j < i; j++)
			cr_expect_str_neq(alarm_label(i), alarm_label(j));
	cr_expect_str_eq(
	    alarm_label(ALARM_TARGET_EXHAUSTED), "target_exhausted");
}

Test(alarm, a_target_is_high_once_until_it_is_well_below)
{
	struct alarm_levels levels = without_soon();
	struct fixture f;

	setup_with(&f, &levels);
	expect_sample(&f, 799, 1000, "");
	expect_sample(&f, 800, 1000, "+target_high");
	cr_expect_eq(f.last.used, 800);
	cr_expect_eq(f.last.of, 1000);
	cr_expect_eq(f.last.subject.id, 3);
	cr_expect_eq(f.last.subject.target.port, 443);
	for (unsigned i = 0; i < 20; i++) {
		expect_sample(&f, 810, 1000, "");
		expect_sample(&f, 701, 1000, "");
	}
	expect_sample(&f, 700, 1000, "-target_high");
	cr_expect_eq(f.last.used, 700);
	cr_expect_eq(f.last.since_ms, f.now_ms - 41 * SECOND);
	expect_sample(&f, 799, 1000, "");
	expect_sample(&f, 800, 1000, "+target_high");
	alarms_free(f.a);
}

Test(alarm, a_target_goes_up_and_down_through_all_levels)
{
	struct alarm_levels levels = without_soon();
	struct fixture f;

	setup_with(&f, &levels);
	expect_sample(&f, 100, 1000, "");
	expect_sample(&f, 950, 1000, "+target_high +target_critical");
	expect_sample(&f, 1000, 1000, "+target_exhausted");
	expect_sample(&f, 851, 1000, "");
	expect_sample(&f, 850, 1000, "-target_critical");
	expect_sample(&f, 700, 1000, "-target_high");
	for (unsigned i = 0; i < 2; i++)
		expect_sample(&f, 700, 1000, "");
	/* Five seconds after the first sample below. */
	expect_sample(&f, 700, 1000, "-target_exhausted");
	cr_expect(alarms_ignores(f.a, 700, 1000, 0));
	alarms_free(f.a);
}

Test(alarm, a_full_target_with_a_slot_released_and_taken_again_stays_exhausted)
{
	static const uint32_t sizes[] = { 1, 2, 7, 8, 30, 1000 };
	struct alarm_levels levels = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t slots = sizes[i];
		struct fixture f;

		setup_with(&f, &levels);
		sample(&f, SECOND, slots, slots, true);
		expect_said(&f, "+target_exhausted");
		for (unsigned j = 0; j < 30; j++) {
			expect_sample(&f, slots - 1, slots, "");
			expect_sample(&f, slots, slots, "");
			expect_sample(&f, slots / 2, slots, "");
			sample(&f, 4 * SECOND, slots - 1, slots, true);
			expect_said(&f, "");
		}
		for (unsigned j = 0; j < 5; j++)
			expect_sample(&f, slots / 2, slots, "");
		expect_sample(&f, slots / 2, slots, "-target_exhausted");
		alarms_free(f.a);
	}
}

Test(alarm, who_was_refused_between_two_samples_is_not_missed)
{
	struct fixture f;

	setup(&f);
	sample(&f, SECOND, 10, 1000, true);
	expect_said(&f, "+target_exhausted");
	cr_expect_not(alarms_ignores(f.a, 0, 1000, 0));
	sample(&f, SECOND, 10, 1000, false);
	sample(&f, 4 * SECOND, 10, 1000, true);
	sample(&f, SECOND, 10, 1000, false);
	sample(&f, 4 * SECOND, 10, 1000, false);
	expect_said(&f, "");
	sample(&f, SECOND, 10, 1000, false);
	expect_said(&f, "-target_exhausted");
	/* By kernel there are no slots. */
	sample(&f, SECOND, 10, 0, true);
	expect_said(&f, "");
	alarms_free(f.a);
}

Test(alarm, a_target_of_few_slots_is_only_ever_exhausted)
{
	struct fixture f;

	setup(&f);
	/* All in use is what one port is for. */
	for (uint32_t used = 0; used <= 7; used++)
		expect_sample(&f, used, 7, "");
	cr_expect(alarms_ignores(f.a, 7, 7, 0));
	cr_expect_not(alarms_ignores(f.a, 8, 8, 0));
	sample(&f, SECOND, 7, 7, true);
	expect_said(&f, "+target_exhausted");
	alarms_free(f.a);
	/* One of eight is enough; a pool that shrinks has fewer. */
	setup(&f);
	expect_sample(&f, 7, 8, "+target_high");
	expect_sample(&f, 6, 7, "-target_high");
	alarms_free(f.a);
}

/* A round with one target, of this budget. */
static void
budget_sample(struct fixture *f, const struct alarm_budget *b, const char *said)
{
	struct addr target = target_number(1);

	f->now_ms += SECOND;
	alarms_begin(f->a, f->now_ms);
	alarms_target(f->a, &target, 3, b);
	alarms_end(f->a);
	expect_said(f, said);
}

/* A round with a target of which some slots rest. */
static void
rested_sample(struct fixture *f, uint32_t used, uint32_t rested, uint32_t slots,
    const char *said)
{
	struct alarm_budget b = {
		.slots = slots, .rested = rested, .used = used
	};

	budget_sample(f, &b, said);
}

Test(alarm, what_strangers_hold_of_a_target_is_not_to_be_had)
{
	struct alarm_levels levels = without_soon();
	struct fixture f;

	setup_with(&f, &levels);
	rested_sample(&f, 4, 0, 10, "");
	rested_sample(&f, 4, 4, 10, "");
	rested_sample(&f, 5, 4, 10, "+target_high");
	cr_expect_eq(f.last.of, 6);
	rested_sample(&f, 6, 4, 10, "+target_critical +target_exhausted");
	for (unsigned i = 0; i < 20; i++)
		rested_sample(&f, 6, 4, 10, "");
	/* They give them back. */
	rested_sample(&f, 6, 0, 10, "-target_high -target_critical");
	cr_expect(alarms_ignores(f.a, 6, 10, 0) == false);
	for (unsigned i = 0; i < 4; i++)
		rested_sample(&f, 6, 0, 10, "");
	rested_sample(&f, 6, 0, 10, "-target_exhausted");
	cr_expect(alarms_ignores(f.a, 6, 10, 0));
	cr_expect_not(alarms_ignores(f.a, 6, 10, 4));
	alarms_free(f.a);
}

Test(alarm, where_strangers_hold_all_it_is_told_to_who_asks)
{
	struct alarm_levels levels = without_soon();
	struct addr target = target_number(1);
	struct alarm_budget b = { .slots = 10, .rested = 10 };
	struct fixture f;

	setup_with(&f, &levels);
	/* A target that nobody wants is no news. */
	rested_sample(&f, 0, 10, 10, "");
	cr_expect(alarms_ignores(f.a, 0, 10, 10));
	b.was_full = true;
	alarms_begin(f.a, ++f.now_ms);
	alarms_target(f.a, &target, 3, &b);
	alarms_end(f.a);
	expect_said(&f, "+target_exhausted");
	cr_expect_eq(f.last.of, 0);
	for (unsigned i = 0; i < 20; i++)
		rested_sample(&f, 0, 10, 10, "");
	rested_sample(&f, 0, 9, 10, "");
	for (unsigned i = 0; i < 4; i++)
		rested_sample(&f, 0, 9, 10, "");
	rested_sample(&f, 0, 9, 10, "-target_exhausted");
	alarms_free(f.a);
}

Test(alarm, what_is_off_is_never_said)
{
	struct alarm_levels off = { 0 };
	struct fixture f;

	setup_with(&f, &off);
	for (uint32_t used = 0; used < 1000; used += 10)
		expect_sample(&f, used, 1000, "");
	f.now_ms += SECOND;
	alarms_begin(f.a, f.now_ms);
	alarms_pool(f.a, 1, 100, 100);
	alarms_worker(f.a, 1, 1000, 1000);
	alarms_end(f.a);
	expect_said(&f, "");
	cr_expect(alarms_ignores(f.a, 999, 1000, 0));
	cr_expect_not(alarms_ignores(f.a, 1000, 1000, 0));
	alarms_free(f.a);
}

Test(alarm, the_alarms_of_what_has_gone_away_end)
{
	struct alarm_levels levels = without_soon();
	struct addr target = target_number(9);
	struct fixture f;

	setup_with(&f, &levels);
	alarms_begin(f.a, ++f.now_ms);
	tell(&f, &target, 1, 1000, 1000, true);
	alarms_pool(f.a, 1, 90, 100);
	alarms_worker(f.a, 1, 95, 100);
	alarms_end(f.a);
	expect_said(&f, "+target_high +target_critical +target_exhausted "
			"+pool_strangers +descriptors");
	empty_round(&f);
	expect_said(&f, "-target_high -target_critical -target_exhausted "
			"-pool_strangers -descriptors");
	cr_expect_eq(f.last.used, 0);
	cr_expect_eq(f.last.of, 100);
	cr_expect_eq(f.last.since_ms, f.now_ms - SECOND);
	empty_round(&f);
	expect_said(&f, "");
	cr_expect(alarms_ignores(f.a, 0, 1000, 0));
	alarms_free(f.a);
}

Test(alarm, subjects_are_told_apart)
{
	struct alarm_levels levels = without_soon();
	struct addr one = target_number(1), two = target_number(2), other = one;
	struct fixture f;

	setup_with(&f, &levels);
	other.port++;
	for (unsigned i = 0; i < 3; i++) {
		alarms_begin(f.a, ++f.now_ms);
		tell(&f, &one, 1, 80, 100, false);
		tell(&f, &one, 2, 70, 100, false);
		tell(&f, &two, 1, 80, 100, false);
		tell(&f, &other, 1, 80, 100, false);
		alarms_pool(f.a, 1, 50, 100);
		alarms_pool(f.a, 2, 49, 100);
		alarms_worker(f.a, 1, 90, 100);
		alarms_worker(f.a, 2, 89, 100);
		alarms_end(f.a);
		expect_said(&f, i > 0 ? ""
				      : "+target_high +target_high "
					"+target_high +pool_strangers "
					"+descriptors");
	}
	cr_expect_eq(f.last.subject.id, 1);
	cr_expect_eq(f.last.subject.target.family, ADDR_NONE);
	alarms_free(f.a);
}

/* A round with a pool of 1,000 ports alone. */
static void
pool_sample(struct fixture *f, uint32_t rested, const char *said)
{
	f->now_ms += SECOND;
	alarms_begin(f->a, f->now_ms);
	alarms_pool(f->a, 5, rested, 1000);
	alarms_end(f->a);
	expect_said(f, said);
}

/* A round with a target of which so much is held and so much cools. */
static void
cooling_sample(struct fixture *f, uint32_t held, uint32_t cooling,
    uint32_t slots, const char *said)
{
	struct alarm_budget b = {
		.slots = slots, .used = held + cooling, .cooling = cooling
	};

	budget_sample(f, &b, said);
}

Test(alarm, a_target_cools_when_half_of_its_slots_do)
{
	struct alarm_levels levels = { .cooling = 50 };
	struct fixture f;

	setup_with(&f, &levels);
	/* However little else of it is in use. */
	cooling_sample(&f, 0, 1, 1000, "");
	cooling_sample(&f, 0, 499, 1000, "");
	cooling_sample(&f, 400, 499, 1000, "");
	cooling_sample(&f, 0, 500, 1000, "+target_cooling");
	cr_expect_eq(f.last.used, 500);
	cr_expect_eq(f.last.of, 1000);
	cr_expect_eq(f.last.full_in_ms, UINT64_MAX);
	for (unsigned i = 0; i < 20; i++) {
		cooling_sample(&f, 10, 510, 1000, "");
		cooling_sample(&f, 300, 401, 1000, "");
	}
	cooling_sample(&f, 500, 400, 1000, "-target_cooling");
	cr_expect_not(alarms_ignores(f.a, 500, 1000, 0));
	cr_expect(alarms_ignores(f.a, 499, 1000, 0));
	/* Each slot of a few is a large part. */
	cooling_sample(&f, 0, 7, 7, "");
	cooling_sample(&f, 3, 4, 8, "+target_cooling");
	alarms_free(f.a);
}

Test(alarm, strangers_in_half_the_ports_are_an_alarm)
{
	struct fixture f;

	setup(&f);
	pool_sample(&f, 499, "");
	pool_sample(&f, 500, "+pool_strangers");
	pool_sample(&f, 1000, "");
	pool_sample(&f, 401, "");
	pool_sample(&f, 400, "-pool_strangers");
	alarms_begin(f.a, ++f.now_ms);
	alarms_pool(f.a, 5, 0, 0);
	alarms_end(f.a);
	expect_said(&f, "");
	alarms_free(f.a);
}

Test(alarm, a_worker_runs_out_of_descriptors)
{
	static const struct {
		uint32_t used, limit;
		const char *said;
	} rounds[] = { { 899, 1000, "" }, { 900, 1000, "+descriptors" },
		{ 1000, 1000, "" }, { 801, 1000, "" },
		{ 800, 1000, "-descriptors" }, { 899, 1000, "" },
		{ 0, 0, "" } };
	struct fixture f;

	setup(&f);
	for (unsigned i = 0; i < ARRAY_LEN(rounds); i++) {
		alarms_begin(f.a, ++f.now_ms);
		alarms_worker(f.a, 2, rounds[i].used, rounds[i].limit);
		alarms_end(f.a);
		expect_said(&f, rounds[i].said);
	}
	alarms_free(f.a);
}

Test(alarm, sessions_are_full_until_some_are_free_for_a_while)
{
	static const struct {
		uint32_t sessions, max;
		bool was_full;
		const char *said;
	} rounds[] = { { 99, 100, false, "" },
		{ 100, 100, false, "+sessions_full" }, { 50, 100, false, "" },
		{ 96, 100, false, "" }, { 94, 100, false, "" },
		{ 94, 100, false, "" }, { 94, 100, true, "" },
		{ 94, 100, false, "" }, { 94, 100, false, "" },
		{ 94, 100, false, "" }, { 94, 100, false, "" },
		{ 94, 100, false, "" }, { 94, 100, false, "-sessions_full" },
		{ 99, 100, false, "" }, { 10, 100, true, "+sessions_full" },
		{ 0, 0, false, "" } };
	struct alarm_levels off = { 0 };
	struct fixture f;

	setup_with(&f, &off);
	for (unsigned i = 0; i < ARRAY_LEN(rounds); i++) {
		f.now_ms += SECOND;
		alarms_begin(f.a, f.now_ms);
		alarms_sessions(
		    f.a, rounds[i].sessions, rounds[i].max, rounds[i].was_full);
		alarms_end(f.a);
		expect_said(&f, rounds[i].said);
	}
	cr_expect_eq(f.last.subject.id, 0);
	cr_expect_eq(f.last.subject.target.family, ADDR_NONE);
	alarms_free(f.a);
}

Test(alarm, a_low_level_ends_at_its_half)
{
	struct alarm_levels levels = { .descriptors = 6, .strangers = 1 };
	struct fixture f;

	setup_with(&f, &levels);
	for (unsigned i = 0; i < 2; i++) {
		alarms_begin(f.a, ++f.now_ms);
		alarms_worker(f.a, 1, 60, 1000);
		alarms_pool(f.a, 1, 10, 1000);
		alarms_end(f.a);
		expect_said(&f, "+descriptors +pool_strangers");
		alarms_begin(f.a, ++f.now_ms);
		alarms_worker(f.a, 1, 31, 1000);
		alarms_pool(f.a, 1, 1, 1000);
		alarms_end(f.a);
		expect_said(&f, "");
		alarms_begin(f.a, ++f.now_ms);
		alarms_worker(f.a, 1, 30, 1000);
		alarms_pool(f.a, 1, 0, 1000);
		alarms_end(f.a);
		expect_said(&f, "-descriptors -pool_strangers");
	}
	alarms_free(f.a);
}

static uint64_t
full_in(struct fixture *f)
{
	struct addr target = target_number(1);

	return alarms_full_in_ms(f->a, &target, 3);
}

/* Grows by `step` of 1,000,000 slots each `ms`, from 200,000; the share in use
 * when the alarm began, in percent, or 0. */
static unsigned
growth_alarm(uint64_t ms, uint32_t step)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;
	unsigned percent = 0;

	setup_with(&f, &levels);
	for (uint32_t used = 200000; used < 1000000; used += step) {
		sample(&f, ms, used, 1000000, false);
		if (f.said[0] == '\0')
			continue;
		cr_expect_eq(percent, 0, "said twice: %s", f.said);
		expect_said(&f, "+target_soon");
		percent = used / 10000;
		cr_expect_leq(f.last.full_in_ms, 60 * SECOND);
	}
	alarms_free(f.a);
	return percent;
}

Test(alarm, linear_growth_is_reported_when_a_minute_is_left)
{
	/* 1 % a second: above 40 %, whatever the distance of the samples. */
	cr_expect_eq(growth_alarm(SECOND, 10000), 41);
	cr_expect_eq(growth_alarm(100, 1000), 40);
	cr_expect_eq(growth_alarm(3 * SECOND, 30000), 41);
	/* 0.1 % a second: at 94 %. */
	cr_expect_eq(growth_alarm(SECOND, 1000), 94);
	/* 20 % a second: as soon as there are samples. */
	cr_expect_eq(growth_alarm(SECOND, 200000), 80);
	/* 1.8 % a second: not before a quarter is in use. */
	cr_expect_eq(growth_alarm(500, 9000), 25);
}

Test(alarm, the_estimate_of_linear_growth_is_exact)
{
	struct fixture f;

	setup(&f);
	cr_expect_eq(full_in(&f), UINT64_MAX);
	for (uint32_t used = 300; used < 1000; used += 10) {
		sample(&f, SECOND, used, 1000, false);
		if (used >= 340)
			cr_expect_eq(full_in(&f), (1000 - used) * 100);
	}
	/* When it is full, it is. */
	sample(&f, SECOND, 1000, 1000, false);
	cr_expect_eq(full_in(&f), 0);
	alarms_free(f.a);
}

Test(alarm, growth_that_stops_ends_the_alarm)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;
	unsigned rounds = 0;

	setup_with(&f, &levels);
	for (uint32_t used = 300; used <= 500; used += 10)
		sample(&f, SECOND, used, 1000, false);
	expect_said(&f, "+target_soon");
	for (; f.said[0] == '\0' && rounds < 100; rounds++)
		sample(&f, SECOND, 500, 1000, false);
	expect_said(&f, "-target_soon");
	cr_expect(rounds > 5 && rounds < 17, "%u", rounds);
	for (unsigned i = 0; i < 20; i++)
		sample(&f, SECOND, 500, 1000, false);
	expect_said(&f, "");
	cr_expect_eq(full_in(&f), UINT64_MAX);
	alarms_free(f.a);
}

Test(alarm, what_falls_is_not_going_to_be_full)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;

	setup_with(&f, &levels);
	for (uint32_t used = 0; used <= 60; used += 10)
		sample(&f, SECOND, used, 100, false);
	expect_said(&f, "+target_soon");
	cr_expect_eq(full_in(&f), 4 * SECOND);
	/* Two a second less: known with the second sample, and the alarm ends
	 * when it is certain. */
	for (unsigned i = 1; i <= 20; i++) {
		sample(&f, SECOND, 60 - 2 * i, 100, false);
		expect_said(&f, i == 6 ? "-target_soon" : "");
		if (i >= 2)
			cr_expect_eq(full_in(&f), UINT64_MAX, "%u", i);
	}
	/* It grows again. */
	for (uint32_t used = 20; used < 90; used += 10)
		sample(&f, SECOND, used, 100, false);
	expect_said(&f, "+target_soon");
	cr_expect_eq(full_in(&f) != UINT64_MAX, true);
	alarms_free(f.a);
}

Test(alarm, growth_that_sways_is_told_once)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };

	for (uint32_t sway = 0; sway <= 24; sway += 4) {
		unsigned samples = 0, without = 0;
		uint32_t seed = 1;
		struct fixture f;

		setup_with(&f, &levels);
		for (uint32_t used = 300; used < 970; used += 4) {
			seed = seed * 1103515245 + 12345;
			sample(&f, SECOND, used + (seed >> 16) % (sway + 1),
			    1000, false);
			samples += f.events > 0;
			without += f.events > 0 && full_in(&f) == UINT64_MAX;
		}
		cr_expect_str_eq(
		    f.said, "+target_soon", "%u: %s", sway, f.said);
		/* Nor does the prediction come and go. */
		cr_expect(samples > 20 && without * 10 < samples,
		    "%u: %u of %u", sway, without, samples);
		alarms_free(f.a);
	}
}

Test(alarm, what_is_full_is_full_now)
{
	struct fixture f;

	setup(&f);
	sample(&f, SECOND, 1000, 1000, false);
	cr_expect_eq(full_in(&f), 0);
	cr_expect_eq(f.last.full_in_ms, 0);
	/* However it has come to be so, and for however long. */
	for (unsigned i = 0; i < 40; i++) {
		sample(&f, SECOND, 1000, 1000, i % 3 == 0);
		cr_expect_eq(full_in(&f), 0);
	}
	sample(&f, SECOND, 999, 1000, false);
	cr_expect_eq(full_in(&f), UINT64_MAX);
	alarms_free(f.a);
}

Test(alarm, slow_growth_step_by_step_does_not_sway)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;

	setup_with(&f, &levels);
	/* A slot each three seconds, of a hundred. */
	for (unsigned i = 0; i < 3 * 79; i++)
		sample(&f, SECOND, 20 + i / 3, 100, false);
	expect_said(&f, "+target_soon");
	cr_expect(f.last.used >= 75 && f.last.used <= 90, "%u", f.last.used);
	alarms_free(f.a);
}

Test(alarm, a_burst_that_is_over_is_no_growth)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;

	setup_with(&f, &levels);
	for (unsigned i = 0; i < 40; i++)
		sample(&f, SECOND, i < 8 ? 210 : 610, 1000, false);
	expect_said(&f, "");
	alarms_free(f.a);
	/* Nor the first that is seen of it. */
	setup_with(&f, &levels);
	sample(&f, SECOND, 0, 1000, false);
	for (unsigned i = 0; i < 40; i++)
		sample(&f, SECOND, 700 + i % 3, 1000, false);
	expect_said(&f, "");
	alarms_free(f.a);
	/* One that goes on is. */
	setup_with(&f, &levels);
	for (unsigned i = 0; i < 4; i++)
		sample(&f, SECOND, 210 + i * 200, 1000, false);
	expect_said(&f, "+target_soon");
	alarms_free(f.a);
}

Test(alarm, a_sawtooth_is_no_growth)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };

	/* Up for some seconds and down at once: teeth of several lengths. */
	for (unsigned length = 2; length <= 8; length++) {
		struct fixture f;

		setup_with(&f, &levels);
		for (unsigned i = 0; i < 200; i++)
			sample(&f, SECOND, 300 + i % length * 60, 1000, false);
		/* Before the first tooth has ended nobody can know. */
		cr_expect_leq(f.events, 2, "%u: %s", length, f.said);
		f.said[0] = '\0';
		for (unsigned i = 200; i < 400; i++)
			sample(&f, SECOND, 300 + i % length * 60, 1000, false);
		expect_said(&f, "");
		alarms_free(f.a);
	}
	/* Swaying around a level is none either. */
	for (unsigned sway = 1; sway <= 100; sway += 33) {
		struct fixture f;

		setup_with(&f, &levels);
		for (unsigned i = 0; i < 200; i++)
			sample(&f, SECOND, 900 - i * 7 % sway, 1000, false);
		cr_expect_leq(f.events, 2, "%u: %s", sway, f.said);
		alarms_free(f.a);
	}
}

Test(alarm, a_full_target_is_not_going_to_be_full)
{
	struct alarm_levels levels = { .exhaustion_ms = 60 * SECOND };
	struct fixture f;

	setup_with(&f, &levels);
	for (unsigned i = 0; i < 3; i++)
		sample(&f, SECOND, 250 * (i + 1), 1000, false);
	sample(&f, SECOND, 1000, 1000, false);
	expect_said(&f, "+target_exhausted");
	alarms_free(f.a);
}

Test(alarm, samples_at_any_distance_and_of_any_size_are_taken)
{
	struct fixture f;

	setup(&f);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t ms = i % 20 == 0 ? UINT64_MAX / 200 : 86400 * SECOND;

		sample(&f, ms, i % 3 == 0 ? 1 : UINT32_MAX - 1 - i, UINT32_MAX,
		    false);
	}
	/* A slot a day. */
	for (uint32_t used = 10; used < 20; used++)
		sample(&f, 86400 * SECOND, used, 100, false);
	cr_expect_eq(full_in(&f), UINT64_MAX);
	for (uint32_t used = 20; used < 50; used++)
		sample(&f, 86400 * SECOND, used, 100, false);
	cr_expect_eq(full_in(&f), 51 * 86400 * SECOND);
	alarms_free(f.a);
}

Test(alarm, samples_of_one_moment_are_one)
{
	struct fixture f;

	setup(&f);
	for (uint32_t used = 300; used < 500; used += 10)
		for (unsigned i = 0; i < 3; i++)
			sample(&f, i == 0 ? SECOND : 0, used - i, 1000, false);
	cr_expect(full_in(&f) > 45 * SECOND && full_in(&f) < 60 * SECOND);
	alarms_free(f.a);
}

static void
on_each(void *arg, const struct alarm_event *event)
{
	struct alarm_event *last = arg;

	if (event->kind == ALARM_TARGET_HIGH)
		*last = *event;
	else
		cr_expect_eq(event->kind, ALARM_DESCRIPTORS);
	cr_expect(event->begins);
	last->full_in_ms++;
}

Test(alarm, what_is_active_is_told_as_it_began)
{
	struct alarm_levels levels = without_soon();
	struct addr target = target_number(1);
	struct alarm_event high = { 0 };
	struct fixture f;
	uint64_t began_ms;

	setup_with(&f, &levels);
	alarms_each(f.a, on_each, &high);
	cr_expect_eq(high.full_in_ms, 0);
	began_ms = ++f.now_ms;
	for (uint32_t used = 82; used < 90; used++) {
		alarms_begin(f.a, f.now_ms);
		tell(&f, &target, 1, used, 100, false);
		alarms_worker(f.a, 1, 99, 100);
		alarms_end(f.a);
		f.now_ms += SECOND;
	}
	alarms_each(f.a, on_each, &high);
	cr_expect_eq(high.used, 82);
	cr_expect_eq(high.of, 100);
	cr_expect_eq(high.since_ms, began_ms);
	cr_expect_eq(high.subject.id, 1);
	cr_expect(addr_equal(&high.subject.target, &target));
	alarms_free(f.a);
}

Test(alarm, who_would_have_to_count_may_leave_out_what_is_far_from_all)
{
	struct fixture f;

	setup(&f);
	cr_expect(alarms_ignores(f.a, 0, 0, 0));
	cr_expect(alarms_ignores(f.a, 1000, 0, 0));
	cr_expect(alarms_ignores(f.a, 199, 1000, 0));
	cr_expect_not(alarms_ignores(f.a, 200, 1000, 0));
	expect_sample(&f, 800, 1000, "+target_high");
	cr_expect_not(alarms_ignores(f.a, 0, 1000, 0));
	expect_sample(&f, 700, 1000, "-target_high");
	cr_expect(alarms_ignores(f.a, 199, 1000, 0));
	alarms_free(f.a);
}

/* A round of very many targets, each with so much in use. */
static void
sample_many(struct fixture *f, uint32_t count, uint32_t used)
{
	f->now_ms += SECOND;
	alarms_begin(f->a, f->now_ms);
	for (uint32_t i = 0; i < count; i++) {
		struct addr target = target_number(i);

		tell(f, &target, 1, used, 1000, false);
	}
	alarms_end(f->a);
}

Test(alarm, the_targets_remembered_have_an_end, .timeout = 60)
{
	struct alarm_levels levels = without_soon();
	struct fixture f;
	struct addr last = target_number(70000);

	setup_with(&f, &levels);
	/* Those that are far from all levels are not among them. */
	sample_many(&f, 70000, 799);
	alarms_begin(f.a, ++f.now_ms);
	tell(&f, &last, 1, 900, 1000, false);
	alarms_end(f.a);
	expect_said(&f, "+target_high");
	sample_many(&f, 70000, 900);
	/* The one that was left out has its place until the round ends. */
	cr_expect_eq(f.events, 1 + 65535 + 1);
	sample_many(&f, 70000, 900);
	cr_expect_eq(f.events, 1 + 65535 + 1 + 1);
	sample_many(&f, 0, 0);
	cr_expect_eq(f.events, 2 * 65537);
	f.said[0] = '\0';
	expect_sample(&f, 900, 1000, "+target_high");
	alarms_free(f.a);
}
