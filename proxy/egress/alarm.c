/* SPDX-License-Identifier: ISC */
/*
 * A watch is kept of each subject that was sampled in the last round, but for
 * targets that are far from all levels. Watches are in a tree by subject (the
 * clients choose the targets, a hash would want a key) and on a list.
 *
 * The rate at which a target fills is taken from its last samples, whatever
 * their distance. Whether it is alarming is judged cautiously: without the
 * steepest step, so that a burst that is over does not count; and no steeper
 * than the maximum of the newer half of the samples is above that of the older,
 * and only where there is a new maximum, so that what goes up and down does not
 * count. What has begun ends by the mean, or when there has been no growth for
 * some samples.
 */
#include "egress/alarm.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

#define TARGETS_MAX 65536 /* watched at once */
#define SAMPLES     16    /* kept of a target */
#define SAMPLES_MIN 4     /* before anything is predicted */

/* Samples since the highest one, after which what does not go on growing has
 * stopped: for a prediction, and for an alarm, which is not to come and go. */
#define STOPPED_SAMPLES       2
#define STOPPED_SAMPLES_ALARM 6

/* Samples further apart have nothing to do with each other; and products of
 * slots and times fit 63 bits. */
#define APART_MS 86400000

/* A target with fewer slots is only ever exhausted, and only when somebody was
 * refused: each slot is a large part. */
#define SLOTS_MIN 8

/* In percent: in use, before exhaustion is predicted, and before a target is
 * watched, so that there are samples by then. */
#define PREDICTED_FROM 25
#define WATCHED_FROM   20

/* What was exhausted has recovered when nobody was refused and a slot in twenty
 * was free in each sample for so long: not when one is released that is taken
 * again. */
#define RECOVERED_BELOW 95
#define RECOVERED_MS    5000

/* An alarm ends so far below its level; below twice that, at half of it. */
#define END_BELOW 10

enum watch_class { WATCH_TARGET, WATCH_POOL, WATCH_WORKER, WATCH_ALL };

#define CLASS_KINDS 5 /* alarms of one class, at most */

static const struct {
	const char *label;
	enum watch_class class;
	unsigned place; /* in its class */
} kinds[ALARM_KINDS] = {
	[ALARM_TARGET_HIGH] = { "target_high", WATCH_TARGET, 0 },
	[ALARM_TARGET_CRITICAL] = { "target_critical", WATCH_TARGET, 1 },
	[ALARM_TARGET_EXHAUSTED] = { "target_exhausted", WATCH_TARGET, 2 },
	[ALARM_TARGET_SOON] = { "target_soon", WATCH_TARGET, 3 },
	[ALARM_TARGET_COOLING] = { "target_cooling", WATCH_TARGET, 4 },
	[ALARM_POOL_STRANGERS] = { "pool_strangers", WATCH_POOL, 0 },
	[ALARM_DESCRIPTORS] = { "descriptors", WATCH_WORKER, 0 },
	[ALARM_SESSIONS_FULL] = { "sessions_full", WATCH_ALL, 0 },
};

/* The last samples of a target, oldest first. */
struct history {
	unsigned count;
	uint64_t at_ms[SAMPLES];
	uint32_t used[SAMPLES];
};

/* How an active alarm began. */
struct begun {
	uint32_t used, of;
	uint64_t full_in_ms, since_ms;
};

struct watch {
	struct link link;
	enum watch_class class;
	struct alarm_subject subject;
	uint64_t round; /* of its last sample */
	/* That sample, of a target: used of what can be had, and what rests. */
	uint32_t used, of, rested;
	uint64_t calm_ms; /* exhausted: recovered since; UINT64_MAX: it has
			     not */
	unsigned active;  /* a bit for each alarm, by its place in the class */
	struct begun begun[CLASS_KINDS];
	struct history history;
};

struct alarms {
	struct alarm_levels levels;
	alarm_fn *fn;
	void *arg;
	void *tree; /* of struct watch */
	struct list watches;
	size_t targets;        /* watched */
	size_t active_targets; /* watched targets with an alarm */
	uint64_t round, now_ms;
	bool sampling; /* between alarms_begin() and alarms_end() */
};

/* What came of a sample, for one alarm. */
struct change {
	uint32_t used, of;
	uint64_t full_in_ms;
	bool begins, ends; /* what is true of the sample; not both */
};

const char *
alarm_label(enum alarm_kind kind)
{
	must(kind < ALARM_KINDS);
	return kinds[kind].label;
}

static int
compare(const void *a, const void *b)
{
	const struct watch *one = a, *two = b;

	if (one->class != two->class)
		return one->class < two->class ? -1 : 1;
	if (one->subject.id != two->subject.id)
		return one->subject.id < two->subject.id ? -1 : 1;
	return memcmp(&one->subject.target, &two->subject.target,
	    sizeof(one->subject.target));
}

struct alarms *
alarms_new(const struct alarm_levels *levels, alarm_fn *fn, void *arg)
{
	struct alarms *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->levels = *levels;
	a->fn = fn;
	a->arg = arg;
	list_init(&a->watches);
	return a;
}

static void
free_watch(struct alarms *a, struct watch *w)
{
	tdelete(w, &a->tree, compare);
	link_remove(&w->link);
	if (w->class == WATCH_TARGET)
		a->targets--;
	free(w);
}

static struct watch *
watch_from(struct link *l)
{
	return container_of(l, struct watch, link);
}

void
alarms_free(struct alarms *a)
{
	if (a == NULL)
		return;
	while (!list_is_empty(&a->watches))
		free_watch(a, watch_from(list_first(&a->watches)));
	free(a);
}

static struct watch *
find(const struct alarms *a, enum watch_class class, const struct addr *target,
    unsigned id)
{
	struct watch key = { .class = class, .subject.id = id };
	struct watch *const *found;

	if (target != NULL)
		key.subject.target = *target;
	found = tfind(&key, &a->tree, compare);
	return found == NULL ? NULL : *found;
}

/* NULL without memory, and where too many targets are watched. */
static struct watch *
add(struct alarms *a, enum watch_class class, const struct addr *target,
    unsigned id)
{
	struct watch *w;

	if (class == WATCH_TARGET && a->targets == TARGETS_MAX)
		return NULL;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	w->class = class;
	w->subject.id = id;
	if (target != NULL)
		w->subject.target = *target;
	w->calm_ms = UINT64_MAX;
	if (tsearch(w, &a->tree, compare) == NULL) {
		free(w);
		return NULL;
	}
	list_append(&a->watches, &w->link);
	if (class == WATCH_TARGET)
		a->targets++;
	return w;
}

static unsigned
place_of(enum alarm_kind kind)
{
	return kinds[kind].place;
}

static bool
is_active(const struct watch *w, enum alarm_kind kind)
{
	return (w->active >> place_of(kind) & 1) != 0;
}

static void
set_active(struct alarms *a, struct watch *w, enum alarm_kind kind, bool on)
{
	unsigned before = w->active;

	w->active ^= 1u << place_of(kind);
	must(is_active(w, kind) == on);
	if (w->class != WATCH_TARGET)
		return;
	if (before == 0)
		a->active_targets++;
	else if (w->active == 0)
		a->active_targets--;
}

/* Begins, ends or goes on. */
static void
apply(struct alarms *a, struct watch *w, enum alarm_kind kind,
    const struct change *c)
{
	struct begun *begun = &w->begun[place_of(kind)];
	bool active = is_active(w, kind);
	struct alarm_event event = { .kind = kind,
		.begins = !active,
		.subject = w->subject,
		.used = c->used,
		.of = c->of,
		.full_in_ms = c->full_in_ms };

	must(!c->begins || !c->ends);
	if (active ? !c->ends : !c->begins)
		return;
	if (!active)
		*begun =
		    (struct begun){ c->used, c->of, c->full_in_ms, a->now_ms };
	event.since_ms = begun->since_ms;
	set_active(a, w, kind, !active);
	a->fn(a->arg, &event);
}

/* Is `part` at least so many percent of `of`? */
static bool
reaches(uint32_t part, uint32_t of, unsigned percent)
{
	return (uint64_t)part * 100 >= (uint64_t)of * percent;
}

/* An alarm at so many percent; 0: there is none. Of nothing there is no
 * percent: it stays as it is. */
static void
apply_level(struct alarms *a, struct watch *w, enum alarm_kind kind,
    unsigned level, struct change c)
{
	unsigned end = level >= 2 * END_BELOW ? level - END_BELOW : level / 2;

	if (level == 0) {
		c.ends = true;
	} else if (c.of > 0) {
		c.begins = reaches(c.used, c.of, level);
		c.ends =
		    !c.begins && (uint64_t)c.used * 100 <= (uint64_t)c.of * end;
	}
	apply(a, w, kind, &c);
}

static void
add_sample(struct history *h, uint64_t at_ms, uint32_t used)
{
	if (h->count > 0 && h->at_ms[h->count - 1] >= at_ms) {
		h->used[h->count - 1] = used;
		return;
	}
	if (h->count > 0 && at_ms - h->at_ms[h->count - 1] > APART_MS)
		h->count = 0;
	if (h->count == SAMPLES) {
		h->count--;
		memmove(h->at_ms, h->at_ms + 1, h->count * sizeof(*h->at_ms));
		memmove(h->used, h->used + 1, h->count * sizeof(*h->used));
	}
	h->at_ms[h->count] = at_ms;
	h->used[h->count++] = used;
}

/* So much more in so long. */
struct growth {
	int64_t slots;
	uint64_t ms;
};

/* The time in which `left` slots are gone; UINT64_MAX: never. */
static uint64_t
time_for(uint32_t left, struct growth g)
{
	return g.slots <= 0 ? UINT64_MAX : left * g.ms / (uint64_t)g.slots;
}

static struct growth
growth_between(const struct history *h, unsigned from, unsigned to)
{
	return (struct growth){ (int64_t)h->used[to] - h->used[from],
		h->at_ms[to] - h->at_ms[from] };
}

static bool
is_steeper(struct growth a, struct growth b)
{
	return a.slots * (int64_t)b.ms > b.slots * (int64_t)a.ms;
}

static struct growth
mean_growth(const struct history *h)
{
	return growth_between(h, 0, h->count - 1);
}

/* Of all steps but the steepest. */
static struct growth
trimmed_growth(const struct history *h)
{
	struct growth all = mean_growth(h), most = growth_between(h, 0, 1);

	for (unsigned i = 1; i + 1 < h->count; i++) {
		struct growth step = growth_between(h, i, i + 1);

		if (is_steeper(step, most))
			most = step;
	}
	return (struct growth){ all.slots - most.slots, all.ms - most.ms };
}

static uint32_t
maximum(const struct history *h, unsigned from, unsigned end)
{
	uint32_t max = 0;

	for (unsigned i = from; i < end; i++)
		if (h->used[i] > max)
			max = h->used[i];
	return max;
}

/* From the older half's maximum to the newer half's. */
static struct growth
crest_growth(const struct history *h)
{
	unsigned half = h->count / 2;

	return (struct growth){ (int64_t)maximum(h, half, h->count) -
				    maximum(h, 0, half),
		h->at_ms[h->count - 1] - h->at_ms[half - 1] };
}

/*
 * Is use no longer growing, for so many samples? It is not if it is well below
 * where the growth up to its highest point would have led by now: by twice as
 * much as it swayed on the way up, and by more than a slot, since slow growth
 * comes in steps.
 */
static bool
has_stopped(const struct history *h, unsigned samples)
{
	unsigned last = h->count - 1, top = 0;
	uint32_t sway = 1;
	uint64_t missing;
	struct growth up;

	for (unsigned i = 1; i < h->count; i++)
		if (h->used[i] > h->used[top])
			top = i;
	if (last - top < samples)
		return false;
	for (unsigned i = 1; i <= top; i++)
		if (h->used[i - 1] > h->used[i] + sway)
			sway = h->used[i - 1] - h->used[i];
	missing = h->used[top] - h->used[last];
	up = growth_between(h, 0, top);
	if (up.ms > 0)
		missing += (uint64_t)up.slots *
			   (h->at_ms[last] - h->at_ms[top]) / up.ms;
	return missing >= 2 * (uint64_t)sway;
}

static uint32_t
left_of(const struct watch *w)
{
	return w->of > w->used ? w->of - w->used : 0;
}

/* When the target is full, by the mean. */
static uint64_t
predict(const struct watch *w)
{
	const struct history *h = &w->history;

	return h->count < SAMPLES_MIN ? UINT64_MAX
				      : time_for(left_of(w), mean_growth(h));
}

static uint64_t
predict_cautiously(const struct watch *w)
{
	const struct history *h = &w->history;
	uint64_t trimmed, crest;

	if (h->count < SAMPLES_MIN)
		return UINT64_MAX;
	trimmed = time_for(left_of(w), trimmed_growth(h));
	crest = time_for(left_of(w), crest_growth(h));
	return trimmed > crest ? trimmed : crest;
}

/* One that is full is so now. */
static uint64_t
full_in(const struct watch *w)
{
	if (w->used >= w->of)
		return 0;
	if (has_stopped(&w->history, STOPPED_SAMPLES))
		return UINT64_MAX;
	return is_active(w, ALARM_TARGET_SOON) ? predict(w)
					       : predict_cautiously(w);
}

static void
apply_soon(
    struct alarms *a, struct watch *w, uint64_t limit_ms, struct change c)
{
	const struct history *h = &w->history;
	uint64_t mean_ms = predict(w);

	c.ends = limit_ms == 0 || mean_ms == UINT64_MAX ||
		 mean_ms / 2 > limit_ms ||
		 has_stopped(h, STOPPED_SAMPLES_ALARM);
	c.begins = !c.ends && c.used < c.of &&
		   reaches(c.used, c.of, PREDICTED_FROM) &&
		   c.used == maximum(h, 0, h->count) &&
		   !has_stopped(h, STOPPED_SAMPLES) &&
		   predict_cautiously(w) < limit_ms;
	apply(a, w, ALARM_TARGET_SOON, &c);
}

/* `full`: nothing is left, or was to be had. */
static void
apply_exhausted(struct alarms *a, struct watch *w, enum alarm_kind kind,
    struct change c, bool full)
{
	c.begins = full;
	if (c.begins || reaches(c.used, c.of, RECOVERED_BELOW))
		w->calm_ms = UINT64_MAX;
	else if (w->calm_ms == UINT64_MAX)
		w->calm_ms = a->now_ms;
	c.ends =
	    w->calm_ms != UINT64_MAX && a->now_ms >= w->calm_ms + RECOVERED_MS;
	apply(a, w, kind, &c);
}

/* Is the target far from all levels, so that nothing need be kept of it? */
static bool
is_far(const struct alarms *a, uint32_t used, uint32_t slots, uint32_t rested)
{
	const struct alarm_levels *l = &a->levels;

	if (slots < SLOTS_MIN || used == 0)
		return true;
	slots -= rested;
	if (used >= slots)
		return false;
	if (l->target != 0 && reaches(used, slots, l->target))
		return false;
	if (l->target_critical != 0 && reaches(used, slots, l->target_critical))
		return false;
	if (l->cooling != 0 && reaches(used, slots, l->cooling))
		return false;
	return l->exhaustion_ms == 0 || !reaches(used, slots, WATCHED_FROM);
}

void
alarms_begin(struct alarms *a, uint64_t now_ms)
{
	must(!a->sampling);
	a->sampling = true;
	a->round++;
	a->now_ms = now_ms;
}

void
alarms_target(struct alarms *a, const struct addr *target, unsigned pool,
    const struct alarm_budget *b)
{
	struct watch *w = find(a, WATCH_TARGET, target, pool);
	struct change c = { .used = b->used, .of = b->slots - b->rested };
	struct change cool = {
		.used = b->cooling, .of = c.of, .full_in_ms = UINT64_MAX
	};
	struct alarm_levels levels = a->levels;

	must(a->sampling && b->rested <= b->slots);
	if (w == NULL && b->slots > 0 &&
	    (b->was_full || !is_far(a, b->used, b->slots, b->rested)))
		w = add(a, WATCH_TARGET, target, pool);
	if (w == NULL || b->slots == 0)
		return;
	if (b->slots < SLOTS_MIN)
		levels = (struct alarm_levels){ 0 };
	w->round = a->round;
	w->used = b->used;
	w->of = c.of;
	w->rested = b->rested;
	add_sample(&w->history, a->now_ms, b->used);
	c.full_in_ms = full_in(w);
	apply_level(a, w, ALARM_TARGET_HIGH, levels.target, c);
	apply_level(a, w, ALARM_TARGET_CRITICAL, levels.target_critical, c);
	apply_level(
	    a, w, ALARM_TARGET_COOLING, cool.of > 0 ? levels.cooling : 0, cool);
	apply_soon(a, w, levels.exhaustion_ms, c);
	/* With one port, each target in use has none left: that is no news. Nor
	 * is it where nobody asks for what strangers hold. */
	apply_exhausted(a, w, ALARM_TARGET_EXHAUSTED, c,
	    b->was_full ||
		(c.used >= c.of && c.used > 0 && b->slots >= SLOTS_MIN));
}

void
alarms_pool(struct alarms *a, unsigned pool, uint32_t rested, uint32_t ports)
{
	struct watch *w = find(a, WATCH_POOL, NULL, pool);
	struct change rest = {
		.used = rested, .of = ports, .full_in_ms = UINT64_MAX
	};

	must(a->sampling);
	if (w == NULL)
		w = add(a, WATCH_POOL, NULL, pool);
	if (w == NULL)
		return;
	w->round = a->round;
	apply_level(a, w, ALARM_POOL_STRANGERS,
	    ports > 0 ? a->levels.strangers : 0, rest);
}

void
alarms_worker(
    struct alarms *a, unsigned worker, uint32_t descriptors, uint32_t limit)
{
	struct watch *w = find(a, WATCH_WORKER, NULL, worker);
	struct change c = {
		.used = descriptors, .of = limit, .full_in_ms = UINT64_MAX
	};

	must(a->sampling);
	if (w == NULL)
		w = add(a, WATCH_WORKER, NULL, worker);
	if (w == NULL)
		return;
	w->round = a->round;
	apply_level(
	    a, w, ALARM_DESCRIPTORS, limit > 0 ? a->levels.descriptors : 0, c);
}

void
alarms_sessions(
    struct alarms *a, uint32_t sessions, uint32_t max, bool was_full)
{
	struct watch *w = find(a, WATCH_ALL, NULL, 0);
	struct change c = {
		.used = sessions, .of = max, .full_in_ms = UINT64_MAX
	};

	must(a->sampling);
	if (w == NULL)
		w = add(a, WATCH_ALL, NULL, 0);
	if (w == NULL)
		return;
	w->round = a->round;
	apply_exhausted(a, w, ALARM_SESSIONS_FULL, c,
	    was_full || (sessions >= max && max > 0));
}

/* The subject has gone away. */
static void
end_all(struct alarms *a, struct watch *w)
{
	for (unsigned kind = 0; kind < ALARM_KINDS; kind++) {
		struct change c = { .ends = true, .full_in_ms = UINT64_MAX };

		if (kinds[kind].class != w->class || !is_active(w, kind))
			continue;
		c.of = w->begun[place_of(kind)].of;
		apply(a, w, kind, &c);
	}
}

void
alarms_end(struct alarms *a)
{
	struct link *l, *following;

	must(a->sampling);
	a->sampling = false;
	LIST_EACH_SAFE (l, following, &a->watches) {
		struct watch *w = watch_from(l);

		if (w->round != a->round)
			end_all(a, w);
		else if (w->class != WATCH_TARGET || w->active != 0 ||
			 !is_far(a, w->used, w->of + w->rested, w->rested))
			continue;
		free_watch(a, w);
	}
}

bool
alarms_ignores(
    const struct alarms *a, uint32_t used, uint32_t slots, uint32_t rested)
{
	return a->active_targets == 0 && is_far(a, used, slots, rested);
}

uint64_t
alarms_full_in_ms(
    const struct alarms *a, const struct addr *target, unsigned pool)
{
	const struct watch *w = find(a, WATCH_TARGET, target, pool);

	if (w == NULL)
		return UINT64_MAX;
	return full_in(w);
}

static void
tell_of(const struct watch *w, enum alarm_kind kind, alarm_fn *fn, void *arg)
{
	const struct begun *begun = &w->begun[place_of(kind)];
	struct alarm_event event = { .kind = kind,
		.begins = true,
		.subject = w->subject,
		.used = begun->used,
		.of = begun->of,
		.full_in_ms = begun->full_in_ms,
		.since_ms = begun->since_ms };

	fn(arg, &event);
}

void
alarms_each(const struct alarms *a, alarm_fn *fn, void *arg)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &a->watches) {
		const struct watch *w = watch_from(l);

		for (unsigned kind = 0; kind < ALARM_KINDS; kind++)
			if (kinds[kind].class == w->class && is_active(w, kind))
				tell_of(w, kind, fn, arg);
	}
}
