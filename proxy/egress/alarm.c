/* SPDX-License-Identifier: ISC */
/* Stands in until the module is there: nothing is ever reported. */
#include "egress/alarm.h"

#include <stdlib.h>

struct alarms {
	struct alarm_levels levels;
};

const char *
alarm_label(enum alarm_kind kind)
{
	static const char *const labels[] = { "target_high", "target_critical",
		"target_exhausted", "target_soon", "pool_cooling",
		"pool_strangers", "descriptors" };

	must(kind < ALARM_KINDS);
	return labels[kind];
}

struct alarms *
alarms_new(const struct alarm_levels *levels, alarm_fn *fn, void *arg)
{
	struct alarms *a = calloc(1, sizeof(*a));

	(void)fn;
	(void)arg;
	if (a != NULL)
		a->levels = *levels;
	return a;
}

void
alarms_free(struct alarms *a)
{
	free(a);
}

void
alarms_begin(struct alarms *a, uint64_t now_ms)
{
	(void)a;
	(void)now_ms;
}

void
alarms_target(struct alarms *a, const struct addr *target, unsigned pool,
    uint32_t used, uint32_t slots, bool was_full)
{
	(void)a;
	(void)target;
	(void)pool;
	(void)used;
	(void)slots;
	(void)was_full;
}

void
alarms_pool(struct alarms *a, unsigned pool, uint32_t cooling, uint32_t in_use,
    uint32_t rested, uint32_t ports)
{
	(void)a;
	(void)pool;
	(void)cooling;
	(void)in_use;
	(void)rested;
	(void)ports;
}

void
alarms_worker(
    struct alarms *a, unsigned worker, uint32_t descriptors, uint32_t limit)
{
	(void)a;
	(void)worker;
	(void)descriptors;
	(void)limit;
}

void
alarms_end(struct alarms *a)
{
	(void)a;
}

bool
alarms_ignores(const struct alarms *a, uint32_t at_most_used, uint32_t slots)
{
	(void)a;
	(void)at_most_used;
	(void)slots;
	return true;
}

uint64_t
alarms_full_in_ms(
    const struct alarms *a, const struct addr *target, unsigned pool)
{
	(void)a;
	(void)target;
	(void)pool;
	return UINT64_MAX;
}

void
alarms_each(const struct alarms *a, alarm_fn *fn, void *arg)
{
	(void)a;
	(void)fn;
	(void)arg;
}
