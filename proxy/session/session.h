/* SPDX-License-Identifier: ISC */
/*
 * session: one client's connection and all that it caused.
 *
 * It belongs to its worker's `sessions` list from session_start() on and has
 * one way out, session_close(): from any state, from any callback, any number
 * of times, the first reason stands. Its memory goes at the end of the loop
 * pass.
 */
#ifndef FOURFOLD_SESSION_H
#define FOURFOLD_SESSION_H

#include "egress/hostnet.h"
#include "io/relay.h"
#include "io/resolver.h"
#include "policy/config.h"
#include "policy/quota.h"
#include "policy/rules.h"
#include "session/dialer.h"
#include "session/login.h"
#include "session/stats.h"

struct session;

/* Where clients come in. Borrowed by the sessions that came this way. */
struct session_door {
	const struct config_listen *listen;
	unsigned pool; /* the ledger's id of listen's egress */
	bool is_unix;
};

/* What the sessions of a worker share. */
struct session_env {
	struct loop *loop;
	struct log *log;
	const struct config *config;
	struct egress egress;
	struct dialer dialer;
	struct relays relays;
	struct resolver *resolver;
	struct login_service *logins; /* with or without users */
	struct quota *quota;          /* NULL: nobody's sessions are counted */
	struct stats *stats;
	struct rules_host rules;
	struct hostnet hostnet;
	uint64_t hostnet_told_ms; /* when its last failure was; 0: never */
	struct timeout_class early, handshake, connecting, lingering, settle,
	    half_closed, idle;
	struct list sessions;
	size_t count;
	uint64_t next_id;
	uint8_t worker;
	void (*on_end)(void *arg); /* after each end; the session is gone */
	void *on_end_arg;
};

/* `env->loop`, log, config, egress, stats, worker, next_id and rules' listeners
 * are set by the caller; the rest here. -ENOMEM, and nothing is left. */
MUST_USE int session_env_init(struct session_env *env);

/* All sessions must have been closed and buried. */
void session_env_fini(struct session_env *env);

/* Begins a session on `fd`, which it owns from now on. */
void session_start(struct session_env *env, const struct session_door *door,
    int fd, const struct addr *client);

/* Closes every session, with a reset on both legs. */
void session_stop_all(struct session_env *env);

/* Closes the session of this id, with a reset on both legs; false when there is
 * none. */
bool session_kill(struct session_env *env, uint64_t id);

/* Copies the egress's counts to the shared ones. */
void session_publish_stats(struct session_env *env);

/* What a session takes, for the budget asserted in the tests. */
size_t session_bytes(void);

#endif
