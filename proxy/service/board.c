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
	[ALARM_POOL_COOLING] = { "cooling", "in_use" },
	[ALARM_POOL_STRANGERS] = { "rested", "ports" },
	[ALARM_DESCRIPTORS] = { "used", "limit" },
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
	else
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

static void
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
		return;
	}
}

static void
leave(struct board_writer *w, struct board_entry *e)
{
	w->ours[e - w->board->entries] = false;
	atomic_store_explicit(&e->active, false, memory_order_release);
}

void
board_event(
    struct board_writer *w, const struct alarm_event *event, uint64_t now_ms)
{
	struct board_entry *e = find(w->board, event);
	uint64_t since_ms = e != NULL ? e->since_ms : event->since_ms;

	if (event->begins && e != NULL) {
		w->ours[e - w->board->entries] = true;
		return;
	}
	if (event->begins) {
		atomic_fetch_add(&w->board->begun[event->kind], 1);
		enter(w, event);
	} else if (e != NULL) {
		leave(w, e);
	}
	log_alarm(w, event, since_ms, now_ms);
}

void
board_round(struct board_writer *w, uint64_t now_ms)
{
	if (w->rounds == 0 || --w->rounds != 0)
		return;
	for (size_t i = 0; i < BOARD_MAX; i++) {
		struct board_entry *e = &w->board->entries[i];
		struct alarm_event end = { .begins = false,
			.full_in_ms = UINT64_MAX };

		if (!is_active(e) || w->ours[i])
			continue;
		end.kind = (enum alarm_kind)e->kind;
		end.subject = e->subject;
		end.of = e->of;
		leave(w, e);
		log_alarm(w, &end, e->since_ms, now_ms);
	}
}
