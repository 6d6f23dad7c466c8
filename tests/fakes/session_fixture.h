/* SPDX-License-Identifier: ISC */
/*
 * session_fixture: one session between a client and a target that the test
 * holds, with fakes for its operations and everything else real.
 */
#ifndef FOURFOLD_SESSION_FIXTURE_H
#define FOURFOLD_SESSION_FIXTURE_H

#include "pairs.h"
#include "session/session_impl.h"

/* What the target sees, as the success reply has it. */
#define FIXTURE_SOURCE_PORT 40000

struct fixture {
	struct loop loop;
	struct log log;
	struct config config;
	struct config_listen listen;
	struct config_user user;
	struct stats stats;
	struct session_env env;
	struct session_door door;
	struct session *s;  /* its memory is there until the pass of its end */
	int client, target; /* the test's ends; -1: closed, or not there yet */
	unsigned ends;      /* calls of on_end */
	int fds_before;
};

/* Everything but the session. */
struct fixture *fixture_new(void);

/* Asserts that all is as it was before: nothing is held, and each session was
 * counted once, `reason` being the only one. CLOSE_NONE: there was none. */
void fixture_free(struct fixture *f, enum close_reason reason);

/* A session in its first state. */
void fixture_start(struct fixture *f);

/* A session in `state`, whose client has read what was sent to it. */
void fixture_bring(struct fixture *f, enum session_state state);

/* The client or the target does this, and the kernel has told. */
void client_sends(struct fixture *f, const void *bytes, size_t len);
void client_ends(struct fixture *f);
void client_resets(struct fixture *f);
void target_sends(struct fixture *f, const void *bytes, size_t len);
void target_ends(struct fixture *f);
void target_resets(struct fixture *f);

/* Gives a dial its connection. */
void target_accepts(struct fixture *f);

/* The operation under way is answered: an enum login_result, resolve_result or
 * close_reason; RESOLVE_OK with one address, CLOSE_NONE by target_accepts(). */
void fixture_answer(struct fixture *f, int what);

bool fixture_is_closed(const struct fixture *f);
enum session_state fixture_state(const struct fixture *f);

#endif
