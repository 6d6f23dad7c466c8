/* SPDX-License-Identifier: ISC */
/*
 * alarm: says when a budget runs low, and when it has recovered.
 *
 * Pure: it is fed samples and keeps what it needs to tell a beginning from what
 * goes on. Each alarm has one event when it starts and one when it ends; it
 * ends a good way below where it starts (hysteresis), so that a budget that
 * sways around a level is not reported again and again.
 */
#ifndef FOURFOLD_ALARM_H
#define FOURFOLD_ALARM_H

#include "base/addr.h"

enum alarm_kind {
	ALARM_TARGET_HIGH,      /* used reaches `target` percent of slots */
	ALARM_TARGET_CRITICAL,  /* `target_critical` percent */
	ALARM_TARGET_EXHAUSTED, /* no slot is left, or was to be had */
	ALARM_TARGET_SOON,      /* at this rate it is full in exhaustion_ms */
	ALARM_TARGET_COOLING,   /* `cooling` percent of slots only cool */
	ALARM_POOL_STRANGERS,   /* mostly held by other programs */
	ALARM_DESCRIPTORS,      /* of a worker */
	ALARM_SESSIONS_FULL,    /* no worker has room for another session */
	ALARM_KINDS,
};

/* "target_high", "target_critical", ... */
const char *alarm_label(enum alarm_kind kind);

/* In percent; 0: that alarm is off. A target with fewer than 8 slots is only
 * ever exhausted, and only when a lease was not to be had: each slot is a large
 * part. */
struct alarm_levels {
	unsigned target, target_critical, cooling, strangers, descriptors;
	uint64_t exhaustion_ms;
};

/* What an alarm is about: a target of a pool, a pool, a worker, or all of
 * them. */
struct alarm_subject {
	struct addr target; /* family NONE: not a target */
	unsigned id;        /* of the pool, or of the worker; 0: of all */
};

struct alarm_event {
	enum alarm_kind kind;
	bool begins; /* else it ends */
	struct alarm_subject subject;
	uint32_t used, of;   /* the sample that made the difference: of a target
				what can be had of its slots */
	uint64_t full_in_ms; /* at the present rate; UINT64_MAX: never */
	uint64_t since_ms;   /* when it began */
};

typedef void alarm_fn(void *arg, const struct alarm_event *event);

struct alarms;

/* NULL without memory. `fn` is called from within the functions below. */
struct alarms *alarms_new(
    const struct alarm_levels *levels, alarm_fn *fn, void *arg);
void alarms_free(struct alarms *a);

/* What a target has of its slots, and what became of them. */
struct alarm_budget {
	uint32_t slots;   /* of the pool */
	uint32_t rested;  /* of these, not to be had: strangers hold them */
	uint32_t used;    /* of the others: held and cooling */
	uint32_t cooling; /* of these */
	bool was_full;    /* since the last sample, none was to be had */
};

/* A round of samples: whatever active alarm's subject is not sampled between
 * begin and end has gone away, and its alarms end, with used = 0. Rounds may
 * follow each other at any distance. At most 65,536 targets are remembered;
 * those beyond, and what finds no memory, raise no alarm. */
void alarms_begin(struct alarms *a, uint64_t now_ms);
void alarms_target(struct alarms *a, const struct addr *target, unsigned pool,
    const struct alarm_budget *budget);
/* `rested` of the pool's `ports`. */
void alarms_pool(
    struct alarms *a, unsigned pool, uint32_t rested, uint32_t ports);
void alarms_worker(
    struct alarms *a, unsigned worker, uint32_t descriptors, uint32_t limit);
/* Of all workers; `was_full`: meanwhile, none had room. */
void alarms_sessions(
    struct alarms *a, uint32_t sessions, uint32_t max, bool was_full);
void alarms_end(struct alarms *a);

/* Does a target with at most so much in use and rested need no sample: below
 * every level, and no alarm of any target is active? For those who would have
 * to count. */
bool alarms_ignores(
    const struct alarms *a, uint32_t used, uint32_t slots, uint32_t rested);

/* When the target is full at its present rate, in ms from now; 0: it is;
 * UINT64_MAX: never, since it does not grow, or not known. */
uint64_t alarms_full_in_ms(
    const struct alarms *a, const struct addr *target, unsigned pool);

/* Calls `fn` for each alarm that is active now, as it began. */
void alarms_each(const struct alarms *a, alarm_fn *fn, void *arg);

#endif
