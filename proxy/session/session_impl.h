/* SPDX-License-Identifier: ISC */
/*
 * session_impl: the session as its own files see it, and nobody else.
 */
#ifndef FOURFOLD_SESSION_IMPL_H
#define FOURFOLD_SESSION_IMPL_H

#include "io/relay.h"
#include "session/session.h"

struct session {
	struct session_env *env;
	const struct session_door *door;
	/* Its link is in env->sessions, and once closed among the dead. */
	struct task place;
	struct timeout timer;
	enum session_state state;
	enum close_reason reason; /* CLOSE_NONE until it ends */
	int fd;                   /* the client's */
	int error;                /* errno that goes with the reason, or 0 */
	struct stream client, target;
	struct outsock out;
	struct relay relay;

	/* The operation under way; see session_check(). */
	struct login *login;
	struct resolve *resolve;
	struct dial *dial;

	uint8_t *ahead; /* read from the client and not used yet */
	size_t ahead_len;

	uint64_t id, start_ms;
	uint64_t wait_began_ms;  /* in a target's queue; 0: it is in none */
	uint32_t waited_ms;      /* there, in all */
	struct addr client_addr; /* family NONE: a unix socket */
	struct addr asked;       /* the literal, or only the port with `name` */
	struct addr resolved;    /* what was dialled last */
	char *name;              /* as asked for; NULL: a literal */
	uint16_t user;           /* index + 1 in config->users; 0: none */
	bool settled;            /* keepalive is set */
	/* By the quota: on its way to be a session or refused, or one. */
	bool counted_arrival, counted_client, counted_user;
};

/* What an idle session takes besides: 16 bytes of malloc's, its lease and its
 * target in the ledger, its client and its user in the quota's table (64 bytes
 * each, once), nothing else. All together stay below 0.8 KiB. */
_Static_assert(sizeof(struct session) <= 640, "the budget of a session");

/* The only writer of the state; asserts what is alive in it. */
void session_enter(struct session *s, enum session_state state);

/* The one way out. */
void session_close(struct session *s, enum close_reason reason);

/* Ends politely: `bytes` are the last that the client gets. */
void session_refuse_with(
    struct session *s, enum close_reason reason, const void *bytes, size_t len);

/* The same with the SOCKS5 reply of the reason. */
void session_refuse(struct session *s, enum close_reason reason);

/* Resolves and dials what is asked for. */
void session_seek_target(
    struct session *s, const struct socks5_request *request);

/* What the log says of a session's source port, as it is before the port is
 * given back. */
struct session_ending {
	struct addr source;
	/* The port's; until: 0 where it has the port to the end. */
	uint64_t since_epoch_ms, until_epoch_ms;
	uint64_t epoch_ms, duration_ms;
};
struct session_ending session_note_ending(const struct session *s);

/* Its line, if it is to have one. */
void session_log(const struct session *s, const struct session_ending *ending);

/* Counts what was accepted for its client, as on its way; false when that has
 * too many there. */
bool session_arrive(struct session *s);

/* Counts it as a session of its client and its user; false when one of them has
 * what it may have, and the session was refused. */
bool session_admit(struct session *s);

/* Counts what was refused as on its way again, until it is closed. */
void session_dismiss(struct session *s);

/* Counts it no more. */
void session_leave(struct session *s);

/* The client is ready in a state of the handshake. */
void handshake_read(struct session *s);

/*
 * An event of the client while it waits. It is gone when it reset. An end of
 * its stream is one direction's alone and goes to the target like any other,
 * unless its request has not come yet.
 */
void handshake_watch(struct session *s);

#endif
