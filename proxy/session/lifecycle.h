/* SPDX-License-Identifier: ISC */
/*
 * lifecycle: the tables of a session's states and of the reasons why it ends.
 * Counters, log and replies follow from the rows.
 */
#ifndef FOURFOLD_LIFECYCLE_H
#define FOURFOLD_LIFECYCLE_H

#include "base/log.h"
#include "wire/socks5.h"

/*
 *  GREETING -> [LOGIN -> VERIFYING] -> REQUEST -+-> [RESOLVING] -> DIALING
 *                                               |         |           |
 *     any state: CLOSED                         +-----> REFUSING <----+
 *                                                                     v
 *                                                                  RELAYING
 *
 * X(NAME, label, what is alive besides the client's stream)
 */
#define SESSION_STATES(X)                        \
	X(GREETING, "greeting", ALIVE_NOTHING)   \
	X(LOGIN, "login", ALIVE_NOTHING)         \
	X(VERIFYING, "verifying", ALIVE_LOGIN)   \
	X(REQUEST, "request", ALIVE_NOTHING)     \
	X(RESOLVING, "resolving", ALIVE_RESOLVE) \
	X(DIALING, "dialing", ALIVE_DIAL)        \
	X(RELAYING, "relaying", ALIVE_TARGET)    \
	X(REFUSING, "refusing", ALIVE_NOTHING)   \
	X(CLOSED, "closed", ALIVE_NOTHING)

/* NO_REPLY: where the reason can only come when no reply is due, or the
 * protocol has none. */
#define NO_REPLY (-1)

/*
 * X(NAME, label of counter and log, SOCKS5 reply, level of the access line)
 */
#define CLOSE_REASONS(X)                                                       \
	X(DONE, "done", NO_REPLY, INFO)                                        \
	X(CLIENT_RESET, "client_reset", NO_REPLY, INFO)                        \
	X(TARGET_RESET, "target_reset", NO_REPLY, INFO)                        \
	X(CLIENT_GONE, "client_gone", NO_REPLY, INFO)                          \
	X(CLIENT_DENIED, "client_denied", NO_REPLY, INFO)                      \
	X(NOT_SOCKS5, "not_socks5", NO_REPLY, INFO)                            \
	X(MALFORMED, "malformed", SOCKS5_FAILURE, INFO)                        \
	X(NO_METHOD, "no_method", NO_REPLY, INFO)                              \
	X(LOGIN_BUSY, "login_busy", NO_REPLY, WARNING)                         \
	X(LOGIN_FAILED, "login_failed", NO_REPLY, INFO)                        \
	X(COMMAND_UNSUPPORTED, "command_unsupported",                          \
	    SOCKS5_COMMAND_UNSUPPORTED, INFO)                                  \
	X(ADDRESS_TYPE, "address_type", SOCKS5_ADDRESS_UNSUPPORTED, INFO)      \
	X(NAME_NOT_FOUND, "name_not_found", SOCKS5_HOST_UNREACHABLE, INFO)     \
	X(RESOLVE_FAILED, "resolve_failed", SOCKS5_HOST_UNREACHABLE, INFO)     \
	X(RESOLVE_BUSY, "resolve_busy", SOCKS5_FAILURE, INFO)                  \
	X(DENIED, "denied", SOCKS5_NOT_ALLOWED, INFO)                          \
	X(TARGET_FULL, "target_full", SOCKS5_FAILURE, WARNING)                 \
	X(QUEUE_FULL, "queue_full", SOCKS5_FAILURE, WARNING)                   \
	X(QUOTA_SESSIONS, "quota_sessions", SOCKS5_NOT_ALLOWED, INFO)          \
	X(QUOTA_RATE, "quota_rate", SOCKS5_NOT_ALLOWED, INFO)                  \
	X(QUOTA_SHARE, "quota_share", SOCKS5_NOT_ALLOWED, INFO)                \
	X(QUOTA_ARRIVALS, "quota_arrivals", NO_REPLY, INFO)                    \
	X(LEDGER_FULL, "ledger_full", SOCKS5_FAILURE, WARNING)                 \
	X(NO_SOURCE, "no_source", SOCKS5_NETWORK_UNREACHABLE, INFO)            \
	X(DESCRIPTORS, "descriptors", SOCKS5_FAILURE, WARNING)                 \
	X(MEMORY, "memory", SOCKS5_FAILURE, WARNING)                           \
	X(REFUSED, "refused", SOCKS5_REFUSED, INFO)                            \
	X(NET_UNREACHABLE, "net_unreachable", SOCKS5_NETWORK_UNREACHABLE,      \
	    INFO)                                                              \
	X(HOST_UNREACHABLE, "host_unreachable", SOCKS5_HOST_UNREACHABLE, INFO) \
	X(CONNECT_TIMEOUT, "connect_timeout", SOCKS5_TTL_EXPIRED, INFO)        \
	X(CONNECT_FAILED, "connect_failed", SOCKS5_FAILURE, INFO)              \
	X(HANDSHAKE_TIMEOUT, "handshake_timeout", NO_REPLY, INFO)              \
	X(IDLE_TIMEOUT, "idle_timeout", NO_REPLY, INFO)                        \
	X(HALF_CLOSED_TIMEOUT, "half_closed_timeout", NO_REPLY, INFO)          \
	X(KILLED, "killed", NO_REPLY, INFO)                                    \
	X(STOPPED, "stopped", NO_REPLY, INFO)

enum session_state {
#define ROW(name, label, alive) SESSION_##name,
	SESSION_STATES(ROW)
#undef ROW
	    SESSION_STATE_COUNT,
};

enum close_reason {
#define ROW(name, label, reply, level) CLOSE_##name,
	CLOSE_REASONS(ROW)
#undef ROW
	    CLOSE_REASON_COUNT,
	CLOSE_NONE = CLOSE_REASON_COUNT, /* not ended */
};

struct close_row {
	const char *label;
	int reply; /* enum socks5_reply or NO_REPLY */
	enum log_level level;
};

const struct close_row *close_row(enum close_reason reason);
const char *session_state_label(enum session_state state);

#endif
