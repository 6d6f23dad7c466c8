/* SPDX-License-Identifier: ISC */
/*
 * sampler: rounds of samples for the alarms: targets, pools, workers, sessions.
 * It counts what cools only where that matters, and rests longer after a round
 * that took long.
 */
#ifndef FOURFOLD_SAMPLER_H
#define FOURFOLD_SAMPLER_H

#include "egress/alarm.h"
#include "service/observer.h"

struct sampler {
	const struct observer_setup *setup;
	struct alarms *alarms;
	bool sampled;           /* there was a round */
	uint64_t sessions_full; /* then: the counter, of all workers */
	uint64_t rested_until_ms;
};

/* A round, if it is time for one; false otherwise. */
bool sampler_round(struct sampler *s, uint64_t now_ms);

/* How long the next round waits after one that took so long. */
uint64_t sampler_rest_ms(uint64_t took_ms);

#endif
