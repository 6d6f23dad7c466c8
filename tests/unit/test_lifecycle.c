/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "session/lifecycle.h"

/* What the rows shall say; each reason is here once. */
static const struct {
	enum close_reason reason;
	const char *label;
	int reply;
} reasons[] = {
	{ CLOSE_DONE, "done", NO_REPLY },
	{ CLOSE_CLIENT_RESET, "client_reset", NO_REPLY },
	{ CLOSE_TARGET_RESET, "target_reset", NO_REPLY },
	{ CLOSE_CLIENT_GONE, "client_gone", NO_REPLY },
	{ CLOSE_CLIENT_DENIED, "client_denied", NO_REPLY },
	{ CLOSE_NOT_SOCKS5, "not_socks5", NO_REPLY },
	{ CLOSE_MALFORMED, "malformed", 1 },
	{ CLOSE_NO_METHOD, "no_method", NO_REPLY },
	{ CLOSE_LOGIN_BUSY, "login_busy", NO_REPLY },
	{ CLOSE_LOGIN_FAILED, "login_failed", NO_REPLY },
	{ CLOSE_COMMAND_UNSUPPORTED, "command_unsupported", 7 },
	{ CLOSE_ADDRESS_TYPE, "address_type", 8 },
	{ CLOSE_NAME_NOT_FOUND, "name_not_found", 4 },
	{ CLOSE_RESOLVE_FAILED, "resolve_failed", 4 },
	{ CLOSE_RESOLVE_BUSY, "resolve_busy", 1 },
	{ CLOSE_DENIED, "denied", 2 },
	{ CLOSE_TARGET_FULL, "target_full", 1 },
	{ CLOSE_QUEUE_FULL, "queue_full", 1 },
	{ CLOSE_QUOTA_SESSIONS, "quota_sessions", 2 },
	{ CLOSE_QUOTA_RATE, "quota_rate", 2 },
	{ CLOSE_QUOTA_SHARE, "quota_share", 2 },
	{ CLOSE_QUOTA_ARRIVALS, "quota_arrivals", NO_REPLY },
	{ CLOSE_LEDGER_FULL, "ledger_full", 1 },
	{ CLOSE_NO_SOURCE, "no_source", 3 },
	{ CLOSE_DESCRIPTORS, "descriptors", 1 },
	{ CLOSE_MEMORY, "memory", 1 },
	{ CLOSE_REFUSED, "refused", 5 },
	{ CLOSE_NET_UNREACHABLE, "net_unreachable", 3 },
	{ CLOSE_HOST_UNREACHABLE, "host_unreachable", 4 },
	{ CLOSE_CONNECT_TIMEOUT, "connect_timeout", 6 },
	{ CLOSE_CONNECT_FAILED, "connect_failed", 1 },
	{ CLOSE_HANDSHAKE_TIMEOUT, "handshake_timeout", NO_REPLY },
	{ CLOSE_IDLE_TIMEOUT, "idle_timeout", NO_REPLY },
	{ CLOSE_HALF_CLOSED_TIMEOUT, "half_closed_timeout", NO_REPLY },
	{ CLOSE_KILLED, "killed", NO_REPLY },
	{ CLOSE_STOPPED, "stopped", NO_REPLY },
};

Test(lifecycle, each_reason_has_its_label_and_reply)
{
	bool seen[CLOSE_REASON_COUNT] = { false };

	cr_expect_eq(ARRAY_LEN(reasons), CLOSE_REASON_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		const struct close_row *row = close_row(reasons[i].reason);

		cr_expect_not(seen[reasons[i].reason]);
		seen[reasons[i].reason] = true;
		cr_expect_str_eq(row->label, reasons[i].label);
		cr_expect_eq(row->reply, reasons[i].reply, "%s", row->label);
	}
}

/* Operators meet the reasons in the log, and look them up there. */
Test(lifecycle, each_reason_is_in_the_readme)
{
	FILE *f = fopen(FOURFOLD_SOURCE_DIR "/README.md", "r");
	char *text = calloc(1, 1 << 20);
	char label[64];

	cr_assert(f != NULL && text != NULL);
	cr_assert_gt(fread(text, 1, (1 << 20) - 1, f), 0);
	fclose(f);
	for (int r = 0; r < CLOSE_REASON_COUNT; r++) {
		snprintf(label, sizeof(label), "`%s`",
		    close_row((enum close_reason)r)->label);
		cr_expect_not_null(strstr(text, label), "%s", label);
	}
	free(text);
}

/* What an operator has to do something about stands out. */
Test(lifecycle, what_is_short_here_is_a_warning)
{
	static const enum close_reason warned[] = { CLOSE_LOGIN_BUSY,
		CLOSE_TARGET_FULL, CLOSE_QUEUE_FULL, CLOSE_LEDGER_FULL,
		CLOSE_DESCRIPTORS, CLOSE_MEMORY };
	unsigned warnings = 0;

	for (size_t i = 0; i < ARRAY_LEN(warned); i++)
		cr_expect_eq(close_row(warned[i])->level, LOG_LEVEL_WARNING);
	for (int r = 0; r < CLOSE_REASON_COUNT; r++)
		warnings +=
		    close_row((enum close_reason)r)->level != LOG_LEVEL_INFO;
	cr_expect_eq(warnings, ARRAY_LEN(warned));
}

Test(lifecycle, each_state_has_its_label)
{
	static const char *const labels[] = { "greeting", "login", "verifying",
		"request", "resolving", "dialing", "relaying", "refusing",
		"closed" };

	cr_expect_eq(ARRAY_LEN(labels), SESSION_STATE_COUNT);
	for (int s = 0; s < SESSION_STATE_COUNT; s++)
		cr_expect_str_eq(
		    session_state_label((enum session_state)s), labels[s]);
}
