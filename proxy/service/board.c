/* SPDX-License-Identifier: ISC */
#include "service/board.h"

#include <string.h>

/* Rounds after which what an observer before saw has ended unless this one has
 * seen it as well: a prediction needs some samples. */
#define ADOPTION_ROUNDS 10

void
board_writer_init(struct board_writer *w, struct board *board, struct log *log,
    const char (*pool_names)[POOL_NAME_MAX + 1])
{
	*w = (struct board_writer){ .board = board,
		.log = log,
		.pool_names = pool_names,
		.rounds = ADOPTION_ROUNDS };
	/* This observer will see them again. */
	atomic_store(&board->beyond, 0);
}

static bool
is_active(const struct board_entry *e)
{
	return atomic_load_explicit(&e->active, memory_order_acquire);
}

static struct board_entry *
find(struct board *board, const struct alarm_event *event)
{
	for (size_t i = 0; i < BOARD_MAX; i++) {
		struct board_entry *e = &board->entries[i];

		if (is_active(e) && e->kind == event->kind &&
		    e->subject.id == event->subject.id &&
		    addr_equal(&e->subject.target, &event->subject.target))
			return e;
	}
	return NULL;
}

/* ---- lines ---- */

/* What the two numbers of an alarm are. */
static const struct {
	const char *used, *of;
} words[ALARM_KINDS] = {
	[ALARM_TARGET_HIGH] = { "used", "slots" },
	[ALARM_TARGET_CRITICAL] = { "used", "slots" },
	[ALARM_TARGET_EXHAUSTED] = { "used", "slots" },
	[ALARM_TARGET_SOON] = { "used", "slots" },
	[ALARM_TARGET_COOLING] = { "cooling", "slots" },
	[ALARM_POOL_STRANGERS] = { "rested", "ports" },
	[ALARM_DESCRIPTORS] = { "used", "limit" },
	[ALARM_SESSIONS_FULL] = { "sessions", "max_sessions" },
};

static void
log_alarm(struct board_writer *w, const struct alarm_event *event,
    uint64_t since_ms, uint64_t now_ms)
{
	struct log *log = w->log;

	log_begin(
	    log, event->begins ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "alarm");
	log_text(log, "alarm", alarm_label(event->kind));
	log_text(log, "state", event->begins ? "begin" : "end");
	if (event->kind == ALARM_DESCRIPTORS)
		log_number(log, "worker", event->subject.id);
	else if (event->kind != ALARM_SESSIONS_FULL)
		log_text(log, "egress", w->pool_names[event->subject.id]);
	if (event->subject.target.family != ADDR_NONE)
		log_addr(log, "target", &event->subject.target);
	log_number(log, words[event->kind].used, event->used);
	log_number(log, words[event->kind].of, event->of);
	if (event->of != 0)
		log_number(
		    log, "percent", (uint64_t)event->used * 100 / event->of);
	if (event->full_in_ms != UINT64_MAX)
		log_number(log, "full_in_s", event->full_in_ms / 1000);
	if (!event->begins)
		log_number(log, "duration_ms",
		    now_ms > since_ms ? now_ms - since_ms : 0);
	log_end(log);
}

/* ---- entries ---- */

/* False: there is no room. */
static bool
enter(struct board_writer *w, const struct alarm_event *event)
{
	for (size_t i = 0; i < BOARD_MAX; i++) {
		struct board_entry *e = &w->board->entries[i];

		if (is_active(e))
			continue;
		e->kind = (uint8_t)event->kind;
		e->subject = event->subject;
		e->used = event->used;
		e->of = event->of;
		e->since_ms = event->since_ms;
		w->ours[i] = true;
		atomic_store_explicit(&e->active, true, memory_order_release);
		return true;
	}
	return false;
}

static void
leave(struct board_writer *w, struct board_entry *e)
{
	w->ours[e - w->board->entries] = false;
	atomic_store_explicit(&e->active, false, memory_order_release);
}

static void
begin(struct board_writer *w, const struct alarm_event *event, uint64_t now_ms)
{
	struct board_entry *e = find(w->board, event);

	if (e != NULL) {
		w->ours[e - w->board->entries] = true;
		return;
	}
	atomic_fetch_add(&w->board->begun[event->kind], 1);
	if (enter(w, event))
		log_alarm(w, event, event->since_ms, now_ms);
	else
		atomic_fetch_add(&w->board->beyond, 1);
}

static void
end(struct board_writer *w, const struct alarm_event *event, uint64_t now_ms)
{
	struct board_entry *e = find(w->board, event);

	if (e == NULL) {
		if (atomic_load(&w->board->beyond) > 0)
			atomic_fetch_sub(&w->board->beyond, 1);
		return;
	}
	leave(w, e);
	log_alarm(w, event, e->since_ms, now_ms);
}

void
board_event(
    struct board_writer *w, const struct alarm_event *event, uint64_t now_ms)
{
	if (event->begins)
		begin(w, event, now_ms);
	else
		end(w, event, now_ms);
}

/* One line where there begin to be such and one where there are none; and when
 * they have doubled. */
static void
log_beyond(struct board_writer *w)
{
	uint64_t beyond = atomic_load(&w->board->beyond);
	struct log *log = w->log;

	if (beyond == w->beyond_logged ||
	    (beyond > 0 && beyond < 2 * w->beyond_logged))
		return;
	w->beyond_logged = beyond;
	log_begin(log, beyond > 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
	    "alarms_beyond");
	log_number(log, "logged", BOARD_MAX);
	log_number(log, "more", beyond);
	log_end(log);
}

void
board_round(struct board_writer *w, uint64_t now_ms)
{
	log_beyond(w);
	if (w->rounds == 0 || --w->rounds != 0)
		return;
	for (size_t i = 0; i < BOARD_MAX; i++) {
		struct board_entry *e = &w->board->entries[i];
		struct alarm_event gone = { .begins = false,
			.full_in_ms = UINT64_MAX };

		if (!is_active(e) || w->ours[i])
			continue;
		gone.kind = (enum alarm_kind)e->kind;
		gone.subject = e->subject;
		gone.of = e->of;
		leave(w, e);
		log_alarm(w, &gone, e->since_ms, now_ms);
	}
}
