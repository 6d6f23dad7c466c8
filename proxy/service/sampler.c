/* SPDX-License-Identifier: ISC */
#include "service/sampler.h"

#include <stdlib.h>
#include <string.h>

#include "base/counts.h"
#include "egress/hostclock.h"
#include "egress/ledger_read.h"
#include "service/capacity.h"
#include "service/resting.h"

/* At most a twentieth of a processor goes into rounds. */
#define REST_FACTOR 20

/* A target that may be in alarm. */
struct candidate {
	struct ledger_target_row row;
	uint32_t cooling;
	uint32_t held_resting; /* held, though the port rests */
};

struct round {
	struct sampler *sampler;
	struct candidate *candidates;
	size_t count, room;
	struct counts places; /* of candidates, + 1, by cell */
	bool no_memory;
	struct resting resting;
};

static void
on_target(void *arg, const struct ledger_target_row *row)
{
	struct round *r = arg;
	uint32_t *place;

	if (row->slots == 0 || r->no_memory ||
	    (!row->was_full &&
		alarms_ignores(r->sampler->alarms, row->touched, row->slots,
		    resting_slots(&r->resting, row, 0))))
		return;
	if (r->count == r->room) {
		size_t room = r->room == 0 ? 64 : r->room * 2;
		struct candidate *grown =
		    reallocarray(r->candidates, room, sizeof(*grown));

		r->no_memory = grown == NULL;
		if (r->no_memory)
			return;
		r->candidates = grown;
		r->room = room;
	}
	place = counts_at(&r->places, row->cell);
	r->no_memory = place == NULL;
	if (r->no_memory)
		return;
	r->candidates[r->count++] = (struct candidate){ .row = *row };
	*place = (uint32_t)r->count;
}

/* A slot whose port rests does not cool, though the ledger keeps it among those
 * that do: the kernel remembers nothing of it. */
static void
on_record(void *arg, const struct ledger_record_row *row)
{
	struct round *r = arg;
	bool rests = resting_has(&r->resting, row->source.port);
	uint32_t place;

	if (row->use == LEDGER_USABLE || rests != (row->use == LEDGER_HELD))
		return;
	place = counts_get(&r->places, row->cell);
	if (place == 0)
		return;
	if (rests)
		r->candidates[place - 1].held_resting++;
	else
		r->candidates[place - 1].cooling++;
}

/* What is touched and not held cools, or can be had. */
static bool
needs_count(const struct round *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct ledger_target_row *row = &r->candidates[i].row;

		if (row->touched > row->held ||
		    resting_slots(&r->resting, row, 0) > 0)
			return true;
	}
	return false;
}

static void
sample_targets(const struct round *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct candidate *c = &r->candidates[i];
		struct alarm_budget budget = { .slots = c->row.slots,
			.rested = resting_slots(
			    &r->resting, &c->row, c->held_resting),
			.used = c->row.held + c->cooling,
			.cooling = c->cooling,
			.was_full = c->row.was_full };

		alarms_target(
		    r->sampler->alarms, &c->row.target, c->row.pool, &budget);
	}
}

static uint32_t
bounded(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* Those that the file has. */
static void
sample_pools(struct round *r)
{
	const struct observer_setup *s = r->sampler->setup;
	struct pool *p = malloc(sizeof(*p));

	if (p == NULL)
		return;
	for (size_t i = 0; i < s->config->egress_count; i++) {
		unsigned id = s->pools[i];

		if (ledger_get_pool(s->ledger, id, p))
			alarms_pool(r->sampler->alarms, id,
			    r->resting.pools[id].ports,
			    p->by_kernel ? 0 : p->ports);
	}
	free(p);
}

static void
sample_workers(const struct sampler *s)
{
	const struct observer_setup *setup = s->setup;
	uint32_t limit = bounded(setup->descriptors);

	for (unsigned id = 1; id <= LEDGER_WORKERS_MAX; id++) {
		uint64_t most = stats_get(&setup->shared->max_sessions[id]);
		uint64_t sessions =
		    stats_get(&setup->shared->stats[id].sessions);

		if (most != 0)
			alarms_worker(s->alarms, id,
			    bounded(capacity_descriptors(
				setup->config, setup->slots, sessions)),
			    limit);
	}
}

/* Those of workers that drain are beside what the others may hold. */
static void
sample_sessions(struct sampler *s)
{
	const struct shared *shared = s->setup->shared;
	uint64_t sessions = 0, max = 0, full = 0;

	for (unsigned id = 1; id <= LEDGER_WORKERS_MAX; id++) {
		const struct stats *stats = &shared->stats[id];
		uint64_t most = stats_get(&shared->max_sessions[id]);

		full += stats_get(&stats->counters[STATS_SESSIONS_FULL]);
		if (most == 0 || atomic_load(&shared->draining[id]))
			continue;
		max += most;
		sessions += stats_get(&stats->sessions);
	}
	alarms_sessions(s->alarms, bounded(sessions), bounded(max),
	    s->sampled && full != s->sessions_full);
	s->sessions_full = full;
	s->sampled = true;
}

static void
sample_all(struct round *r, uint64_t now_ms)
{
	struct sampler *s = r->sampler;

	alarms_begin(s->alarms, now_ms);
	sample_targets(r);
	sample_pools(r);
	sample_workers(s);
	sample_sessions(s);
	alarms_end(s->alarms);
}

uint64_t
sampler_rest_ms(uint64_t took_ms)
{
	return took_ms * REST_FACTOR;
}

bool
sampler_round(struct sampler *s, uint64_t now_ms)
{
	uint64_t began_ms = clock_ms(CLOCK_MONOTONIC);
	struct round *r;
	bool done;

	if (now_ms < s->rested_until_ms)
		return false;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return false;
	r->sampler = s;
	r->no_memory = resting_read(&r->resting, s->setup->ledger, now_ms) != 0;
	if (!r->no_memory)
		ledger_take_targets(s->setup->ledger, on_target, r);
	if (needs_count(r))
		ledger_each_record(s->setup->ledger, now_ms, on_record, r);
	/* What is not sampled would be taken for gone. */
	done = !r->no_memory;
	if (done)
		sample_all(r, now_ms);
	counts_fini(&r->places);
	free(r->candidates);
	free(r);
	s->rested_until_ms =
	    now_ms + sampler_rest_ms(clock_ms(CLOCK_MONOTONIC) - began_ms);
	return done;
}
