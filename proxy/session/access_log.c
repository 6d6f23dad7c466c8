/* SPDX-License-Identifier: ISC */
/*
 * access_log: the line that each session leaves.
 */
#include "egress/hostclock.h"
#include "session/session_impl.h"

#define NS_PER_MS 1000000

static void
log_target(const struct session *s)
{
	if (s->name != NULL)
		log_format(
		    s->env->log, "target", "%s:%u", s->name, s->asked.port);
	else
		log_addr(s->env->log, "target", &s->asked);
}

struct session_ending
session_note_ending(const struct session *s)
{
	struct session_ending e = { .source = s->out.source,
		.since_epoch_ms = s->out.since_epoch_ms,
		.until_epoch_ms = s->out.until_epoch_ms };
	uint64_t now_ns = clock_ns(CLOCK_REALTIME);
	uint64_t ahead_ns = now_ns - clock_ns(CLOCK_MONOTONIC);

	/* What one clock is ahead of the other is not rounded, or `start` could
	 * come out after `since`. */
	e.epoch_ms = now_ns / NS_PER_MS;
	e.duration_ms =
	    e.epoch_ms - (ahead_ns + s->start_ms * NS_PER_MS) / NS_PER_MS;
	return e;
}

void
session_log(const struct session *s, const struct session_ending *ending)
{
	struct log *log = s->env->log;
	const struct close_row *row = close_row(s->reason);

	if (!s->env->config->log_access || !log_wants(log, row->level))
		return;
	log_begin(log, row->level, "session");
	log_hex(log, "session", s->id);
	if (s->door->is_unix)
		log_text(log, "client", "unix");
	else
		log_addr(log, "client", &s->client_addr);
	log_text(log, "user",
	    s->user != 0 ? s->env->config->users[s->user - 1].name : "-");
	log_target(s);
	log_addr(log, "resolved", &s->resolved);
	log_addr(log, "source", &ending->source);
	log_number(log, "bytes_up", s->relay.up.bytes);
	log_number(log, "bytes_down", relay_bytes_down(&s->relay));
	log_time(log, "start", ending->epoch_ms - ending->duration_ms);
	if (ending->source.family != ADDR_NONE)
		log_time(log, "since", ending->since_epoch_ms);
	if (ending->until_epoch_ms != 0)
		log_time(log, "until", ending->until_epoch_ms);
	log_time(log, "end", ending->epoch_ms);
	log_number(log, "duration_ms", ending->duration_ms);
	if (s->waited_ms != 0)
		log_number(log, "waited_ms", s->waited_ms);
	log_text(log, "reason", row->label);
	if (s->error != 0)
		log_error(log, "error", s->error);
	log_end(log);
}
