/* SPDX-License-Identifier: ISC */
#include "session/lifecycle.h"

static const struct close_row reasons[] = {
#define ROW(name, label, reply, level) \
	[CLOSE_##name] = { label, reply, LOG_LEVEL_##level },
	CLOSE_REASONS(ROW)
#undef ROW
};

static const char *const states[] = {
#define ROW(name, label, alive) [SESSION_##name] = label,
	SESSION_STATES(ROW)
#undef ROW
};

const struct close_row *
close_row(enum close_reason reason)
{
	must(reason < CLOSE_REASON_COUNT);
	return &reasons[reason];
}

const char *
session_state_label(enum session_state state)
{
	must(state < SESSION_STATE_COUNT);
	return states[state];
}
