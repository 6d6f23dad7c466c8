/* SPDX-License-Identifier: ISC */
/*
 * The session's states: each of them with each thing that can happen in it, as
 * rows of a table. The fakes in place of its operations hold it to their
 * contract; that a state has what it should is asserted by session_enter().
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "fakes.h"
#include "passes.h"
#include "session_fixture.h"

/* What happens. The client sends the row's bytes first, if there are any. */
enum happening {
	SENDS,      /* nothing else */
	ENDS,       /* the client's FIN */
	RESETS,     /* the client's reset */
	TIME,       /* every timeout that is armed fires */
	TIME_TWICE, /* and what is armed then */
	STOP,
	KILL,
	ANSWER, /* of the operation: `answer` */
	TARGET_SENDS,
	TARGET_ENDS,
	TARGET_RESETS,
	BOTH_END,     /* the client, then the target */
	TARGET_FIRST, /* the other way round */
	HALF_CLOSED,  /* the client's FIN, then TIME_TWICE */
};

struct row {
	enum session_state state;
	struct {
		const char *bytes;
		size_t len;
	} sent;
	enum happening happening;
	int answer;
	enum session_state then;
	enum close_reason reason;
	struct {
		const char *bytes;
		size_t len;
	} reply;
	enum pairs_end client_sees, target_sees;
};

/* A literal with its length. */
#define B(literal)                             \
	{                                      \
		(literal), sizeof(literal) - 1 \
	}
#define REPLY(code) B("\5" code "\0\1\0\0\0\0\0\0")
#define SUCCESS     B("\5\0\0\1\177\0\0\1\x9c\x40") /* FIXTURE_SOURCE_PORT */
#define TO(ip)      "\5\1\0\1" ip "\0P"

#define STAYS(state)             SESSION_##state, CLOSE_NONE
#define GOES(state)              SESSION_##state, CLOSE_NONE
#define REFUSES(why)             SESSION_REFUSING, CLOSE_##why
#define CLOSES(why)              SESSION_CLOSED, CLOSE_##why
#define ROW(state, sent, what)   SESSION_##state, sent, what, 0
#define ASKED(state, sent, what) SESSION_##state, sent, ANSWER, what

/* The client, and the target nothing. */
#define SEES_NOTHING PAIRS_OPEN, PAIRS_OPEN
#define SEES_END     PAIRS_FIN, PAIRS_OPEN
#define SEES_RESET   PAIRS_RESET, PAIRS_OPEN

static const struct row rows[] = {
	/* The greeting. */
	{ ROW(GREETING, B("\5"), SENDS), STAYS(GREETING), B(""), SEES_NOTHING },
	{ ROW(GREETING, B("\5\2\0"), SENDS), STAYS(GREETING), B(""),
	    SEES_NOTHING },
	{ ROW(GREETING, B("\5\1\0"), SENDS), GOES(REQUEST), B("\5\0"),
	    SEES_NOTHING },
	{ ROW(GREETING, B("\5\1\0\5\1"), SENDS), GOES(REQUEST), B("\5\0"),
	    SEES_NOTHING },
	{ ROW(GREETING, B("\5\1\0" TO("\177\0\0\1") "ahead"), SENDS),
	    GOES(DIALING), B("\5\0"), SEES_NOTHING },
	{ ROW(GREETING, B("\5\1\2"), SENDS), REFUSES(NO_METHOD), B("\5\xff"),
	    SEES_END },
	{ ROW(GREETING, B("\5\0"), SENDS), REFUSES(NO_METHOD), B("\5\xff"),
	    SEES_END },
	{ ROW(GREETING, B("GET / HTTP/1.1"), SENDS), CLOSES(NOT_SOCKS5), B(""),
	    SEES_END },
	{ ROW(GREETING, B("\4\1\0P\177\0\0\1u\0"), SENDS), CLOSES(NOT_SOCKS5),
	    B(""), SEES_END },
	{ ROW(GREETING, B(""), ENDS), CLOSES(CLIENT_GONE), B(""), SEES_END },
	{ ROW(GREETING, B("\5"), ENDS), CLOSES(CLIENT_GONE), B(""), SEES_END },
	{ ROW(GREETING, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(GREETING, B("\5"), TIME), CLOSES(HANDSHAKE_TIMEOUT), B(""),
	    SEES_RESET },
	{ ROW(GREETING, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(GREETING, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },

	/* User and password. */
	{ ROW(LOGIN, B("\1\1"), SENDS), STAYS(LOGIN), B(""), SEES_NOTHING },
	{ ROW(LOGIN, B("\1\1u\1p"), SENDS), GOES(VERIFYING), B(""),
	    SEES_NOTHING },
	{ ROW(LOGIN, B("\1\1u\1p" TO("\177\0\0\1")), SENDS), GOES(VERIFYING),
	    B(""), SEES_NOTHING },
	{ ROW(LOGIN, B("\1\5known\1p"), SENDS), GOES(REQUEST), B("\1\0"),
	    SEES_NOTHING },
	{ ROW(LOGIN, B("\1\5known\1p" TO("\177\0\0\1")), SENDS), GOES(DIALING),
	    B("\1\0"), SEES_NOTHING },
	{ ROW(LOGIN, B("\1\11no-memory\1p"), SENDS), CLOSES(MEMORY), B(""),
	    SEES_END },
	{ ROW(LOGIN, B("\5\1u\1p"), SENDS), CLOSES(MALFORMED), B(""),
	    SEES_END },
	{ ROW(LOGIN, B("\1\1\0\1p"), SENDS), CLOSES(MALFORMED), B(""),
	    SEES_END },
	{ ROW(LOGIN, B("\1"), ENDS), CLOSES(CLIENT_GONE), B(""), SEES_END },
	{ ROW(LOGIN, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(LOGIN, B("\1"), TIME), CLOSES(HANDSHAKE_TIMEOUT), B(""),
	    SEES_RESET },
	{ ROW(LOGIN, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(LOGIN, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },

	{ ROW(VERIFYING, B("x"), SENDS), STAYS(VERIFYING), B(""),
	    SEES_NOTHING },
	{ ROW(VERIFYING, B(""), ENDS), CLOSES(CLIENT_GONE), B(""), SEES_END },
	{ ROW(VERIFYING, B("x"), ENDS), STAYS(VERIFYING), B(""), SEES_NOTHING },
	{ ROW(VERIFYING, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(VERIFYING, B(""), TIME), CLOSES(HANDSHAKE_TIMEOUT), B(""),
	    SEES_RESET },
	{ ROW(VERIFYING, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(VERIFYING, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },
	{ ASKED(VERIFYING, B(""), LOGIN_OK), GOES(REQUEST), B("\1\0"),
	    SEES_NOTHING },
	{ ASKED(VERIFYING, B("\5\1"), LOGIN_OK), GOES(REQUEST), B("\1\0"),
	    SEES_NOTHING },
	{ ASKED(VERIFYING, B(TO("\177\0\0\1")), LOGIN_OK), GOES(DIALING),
	    B("\1\0"), SEES_NOTHING },
	{ ASKED(VERIFYING, B(TO("\177\0\0\1") "ahead"), LOGIN_OK),
	    GOES(DIALING), B("\1\0"), SEES_NOTHING },
	{ ASKED(VERIFYING, B("\5\2\0\1\177\0\0\1\0P"), LOGIN_OK),
	    REFUSES(COMMAND_UNSUPPORTED), B("\1\0\5\7\0\1\0\0\0\0\0\0"),
	    SEES_END },
	{ ASKED(VERIFYING, B(""), LOGIN_WRONG), REFUSES(LOGIN_FAILED),
	    B("\1\1"), SEES_END },
	{ ASKED(VERIFYING, B(TO("\177\0\0\1")), LOGIN_WRONG),
	    REFUSES(LOGIN_FAILED), B("\1\1"), SEES_END },
	{ ASKED(VERIFYING, B(""), LOGIN_BUSY), CLOSES(LOGIN_BUSY), B(""),
	    SEES_END },

	/* The request. */
	{ ROW(REQUEST, B("\5\1\0"), SENDS), STAYS(REQUEST), B(""),
	    SEES_NOTHING },
	{ ROW(REQUEST, B(TO("\177\0\0\1")), SENDS), GOES(DIALING), B(""),
	    SEES_NOTHING },
	{ ROW(REQUEST, B("\5\1\0\3\6a.test\0P"), SENDS), GOES(RESOLVING), B(""),
	    SEES_NOTHING },
	{ ROW(REQUEST,
	      B("\5\1\0\3\11"
		"127.0.0.1\0P"),
	      SENDS),
	    GOES(DIALING), B(""), SEES_NOTHING },
	{ ROW(REQUEST, B("\4\1\0\1"), SENDS), REFUSES(MALFORMED), REPLY("\1"),
	    SEES_END },
	{ ROW(REQUEST, B("\5\1\0\2"), SENDS), REFUSES(ADDRESS_TYPE),
	    REPLY("\10"), SEES_END },
	{ ROW(REQUEST, B("\5\2\0\1\177\0\0\1\0P"), SENDS),
	    REFUSES(COMMAND_UNSUPPORTED), REPLY("\7"), SEES_END },
	{ ROW(REQUEST, B("\5\3\0\1\0\0\0\0\0\0"), SENDS),
	    REFUSES(COMMAND_UNSUPPORTED), REPLY("\7"), SEES_END },
	{ ROW(REQUEST, B("\5\2\0\3\6a.test\0P"), SENDS),
	    REFUSES(COMMAND_UNSUPPORTED), REPLY("\7"), SEES_END },
	{ ROW(REQUEST, B("\5\1\0\1\177\0\0\1\0\0"), SENDS), REFUSES(MALFORMED),
	    REPLY("\1"), SEES_END },
	{ ROW(REQUEST, B("\5\1\0\3\0\0P"), SENDS), REFUSES(MALFORMED),
	    REPLY("\1"), SEES_END },
	{ ROW(REQUEST, B(TO("\0\0\0\0")), SENDS), REFUSES(DENIED), REPLY("\2"),
	    SEES_END },
	{ ROW(REQUEST, B(TO("\xa9\xfe\xa9\xfe") "ahead"), SENDS),
	    REFUSES(DENIED), REPLY("\2"), SEES_END },
	{ ROW(REQUEST, B("\5\1\0\3\16no-memory.test\0P"), SENDS),
	    REFUSES(MEMORY), REPLY("\1"), SEES_END },
	{ ROW(REQUEST, B("\5"), ENDS), CLOSES(CLIENT_GONE), B(""), SEES_END },
	{ ROW(REQUEST, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(REQUEST, B("\5"), TIME), CLOSES(HANDSHAKE_TIMEOUT), B(""),
	    SEES_RESET },
	{ ROW(REQUEST, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(REQUEST, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },

	/* While the name is looked up. */
	{ ROW(RESOLVING, B("ahead"), SENDS), STAYS(RESOLVING), B(""),
	    SEES_NOTHING },
	{ ROW(RESOLVING, B(""), ENDS), STAYS(RESOLVING), B(""), SEES_NOTHING },
	{ ROW(RESOLVING, B("ahead"), ENDS), STAYS(RESOLVING), B(""),
	    SEES_NOTHING },
	{ ROW(RESOLVING, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(RESOLVING, B(""), TIME), REFUSES(RESOLVE_FAILED), REPLY("\4"),
	    SEES_END },
	{ ROW(RESOLVING, B("ahead"), TIME), REFUSES(RESOLVE_FAILED),
	    REPLY("\4"), SEES_END },
	{ ROW(RESOLVING, B(""), TIME_TWICE), CLOSES(RESOLVE_FAILED),
	    REPLY("\4"), SEES_END },
	{ ROW(RESOLVING, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(RESOLVING, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },
	{ ASKED(RESOLVING, B(""), RESOLVE_OK), GOES(DIALING), B(""),
	    SEES_NOTHING },
	{ ASKED(RESOLVING, B("ahead"), RESOLVE_OK), GOES(DIALING), B(""),
	    SEES_NOTHING },
	{ ASKED(RESOLVING, B(""), RESOLVE_NOT_FOUND), REFUSES(NAME_NOT_FOUND),
	    REPLY("\4"), SEES_END },
	{ ASKED(RESOLVING, B(""), RESOLVE_FAILED), REFUSES(RESOLVE_FAILED),
	    REPLY("\4"), SEES_END },
	{ ASKED(RESOLVING, B("ahead"), RESOLVE_FAILED), REFUSES(RESOLVE_FAILED),
	    REPLY("\4"), SEES_END },
	{ ASKED(RESOLVING, B(""), RESOLVE_BUSY), REFUSES(RESOLVE_BUSY),
	    REPLY("\1"), SEES_END },

	/* While the target is dialled. */
	{ ROW(DIALING, B("ahead"), SENDS), STAYS(DIALING), B(""),
	    SEES_NOTHING },
	{ ROW(DIALING, B(""), ENDS), STAYS(DIALING), B(""), SEES_NOTHING },
	{ ROW(DIALING, B("ahead"), ENDS), STAYS(DIALING), B(""), SEES_NOTHING },
	{ ROW(DIALING, B(""), RESETS), CLOSES(CLIENT_RESET), B(""),
	    SEES_NOTHING },
	{ ROW(DIALING, B(""), TIME), REFUSES(CONNECT_TIMEOUT), REPLY("\6"),
	    SEES_END },
	{ ROW(DIALING, B(""), STOP), CLOSES(STOPPED), B(""), SEES_RESET },
	{ ROW(DIALING, B(""), KILL), CLOSES(KILLED), B(""), SEES_RESET },
	{ ASKED(DIALING, B(""), CLOSE_NONE), GOES(RELAYING), SUCCESS,
	    SEES_NOTHING },
	{ ASKED(DIALING, B(""), CLOSE_REFUSED), REFUSES(REFUSED), REPLY("\5"),
	    SEES_END },
	{ ASKED(DIALING, B("ahead"), CLOSE_CONNECT_TIMEOUT),
	    REFUSES(CONNECT_TIMEOUT), REPLY("\6"), SEES_END },

	/* Between the two. */
	{ ROW(RELAYING, B("up"), SENDS), STAYS(RELAYING), B(""), SEES_NOTHING },
	{ ROW(RELAYING, B("up"), TARGET_SENDS), STAYS(RELAYING), B("down"),
	    SEES_NOTHING },
	{ ROW(RELAYING, B("up"), ENDS), STAYS(RELAYING), B(""), PAIRS_OPEN,
	    PAIRS_FIN },
	{ ROW(RELAYING, B("up"), TARGET_ENDS), STAYS(RELAYING), B(""),
	    SEES_END },
	{ ROW(RELAYING, B(""), RESETS), CLOSES(CLIENT_RESET), B(""), PAIRS_OPEN,
	    PAIRS_RESET },
	{ ROW(RELAYING, B(""), TARGET_RESETS), CLOSES(TARGET_RESET), B(""),
	    SEES_RESET },
	{ ROW(RELAYING, B("up"), BOTH_END), CLOSES(DONE), B(""), PAIRS_FIN,
	    PAIRS_FIN },
	{ ROW(RELAYING, B("up"), TARGET_FIRST), CLOSES(DONE), B(""), PAIRS_FIN,
	    PAIRS_FIN },
	{ ROW(RELAYING, B(""), TIME), STAYS(RELAYING), B(""), SEES_NOTHING },
	{ ROW(RELAYING, B("up"), TIME_TWICE), STAYS(RELAYING), B(""),
	    SEES_NOTHING },
	{ ROW(RELAYING, B(""), HALF_CLOSED), CLOSES(HALF_CLOSED_TIMEOUT), B(""),
	    PAIRS_RESET, PAIRS_FIN },
	{ ROW(RELAYING, B("up"), STOP), CLOSES(STOPPED), B(""), PAIRS_RESET,
	    PAIRS_RESET },
	{ ROW(RELAYING, B("up"), KILL), CLOSES(KILLED), B(""), PAIRS_RESET,
	    PAIRS_RESET },

	/* After the last reply, which was 7. */
	{ ROW(REFUSING, B("more"), SENDS), REFUSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_END },
	{ ROW(REFUSING, B("more"), ENDS), CLOSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_END },
	{ ROW(REFUSING, B(""), RESETS), CLOSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_NOTHING },
	{ ROW(REFUSING, B("more"), TIME), CLOSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_END },
	{ ROW(REFUSING, B(""), STOP), CLOSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_END },
	{ ROW(REFUSING, B(""), KILL), CLOSES(COMMAND_UNSUPPORTED), B(""),
	    SEES_END },
};

static void
happen(struct fixture *f, enum happening what, int answered)
{
	switch (what) {
	case SENDS:
		return;
	case ENDS:
		client_ends(f);
		return;
	case RESETS:
		client_resets(f);
		return;
	case TIME_TWICE:
	case TIME:
		if (what == TIME_TWICE)
			pass_expired(&f->loop);
		pass_expired(&f->loop);
		passes(&f->loop, 2);
		return;
	case STOP:
		session_stop_all(&f->env);
		return;
	case KILL:
		cr_expect(session_kill(&f->env, f->s->id));
		return;
	case ANSWER:
		fixture_answer(f, answered);
		return;
	case TARGET_SENDS:
		target_sends(f, "down", 4);
		return;
	case TARGET_ENDS:
		target_ends(f);
		return;
	case TARGET_RESETS:
		target_resets(f);
		return;
	case BOTH_END:
		client_ends(f);
		target_ends(f);
		return;
	case TARGET_FIRST:
		target_ends(f);
		client_ends(f);
		return;
	case HALF_CLOSED:
		client_ends(f);
		happen(f, TIME_TWICE, 0);
		return;
	}
}

static void
expect_client(struct fixture *f, const struct row *r, const char *name)
{
	char got[64];
	size_t n = pairs_recv(f->client, got, r->reply.len);

	cr_expect_eq(n, r->reply.len, "%s: %zu bytes", name, n);
	cr_expect(memcmp(got, r->reply.bytes, n) == 0, "%s: reply", name);
	cr_expect_eq(pairs_look(f->client, r->client_sees), r->client_sees,
	    "%s: the client sees %d", name,
	    pairs_look(f->client, r->client_sees));
}

static void
expect_target(struct fixture *f, const struct row *r, const char *name)
{
	char got[64];
	size_t up = r->state == SESSION_RELAYING ? r->sent.len : 0;
	size_t n = pairs_recv(f->target, got, up);

	cr_expect_eq(n, up, "%s: %zu bytes went up", name, n);
	cr_expect(memcmp(got, r->sent.bytes, n) == 0, "%s: sent up", name);
	cr_expect_eq(pairs_look(f->target, r->target_sees), r->target_sees,
	    "%s: the target sees %d", name,
	    pairs_look(f->target, r->target_sees));
}

/* The lease is held from the dial to the end of the relay. */
static void
expect_lease(struct fixture *f, const char *name)
{
	enum session_state state = fixture_state(f);
	struct ledger_totals totals;

	ledger_totals(f->env.egress.ledger, &totals);
	cr_expect_eq(totals.held,
	    state == SESSION_DIALING || state == SESSION_RELAYING, "%s: leases",
	    name);
}

static void
run_row(const struct row *r, const char *name)
{
	struct fixture *f = fixture_new();
	enum close_reason reason = r->reason;

	fixture_bring(f, r->state);
	if (r->sent.len > 0)
		client_sends(f, r->sent.bytes, r->sent.len);
	happen(f, r->happening, r->answer);
	cr_expect_eq(fixture_state(f), r->then, "%s: it is %s", name,
	    session_state_label(fixture_state(f)));
	if (!fixture_is_closed(f))
		cr_expect_eq(f->s->reason, r->reason, "%s: reason", name);
	expect_lease(f, name);
	if (f->client != -1)
		expect_client(f, r, name);
	if (f->target != -1)
		expect_target(f, r, name);
	session_stop_all(&f->env);
	fixture_free(f, reason == CLOSE_NONE ? CLOSE_STOPPED : reason);
}

static void
run_rows_of(enum session_state state)
{
	char name[64];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].state != state)
			continue;
		snprintf(name, sizeof(name), "row %zu, %s, event %d", i,
		    session_state_label(state), rows[i].happening);
		run_row(&rows[i], name);
	}
}

Test(session, greeting_meets_what_can_happen)
{
	run_rows_of(SESSION_GREETING);
}

Test(session, login_meets_what_can_happen)
{
	run_rows_of(SESSION_LOGIN);
}

Test(session, verifying_meets_what_can_happen)
{
	run_rows_of(SESSION_VERIFYING);
}

Test(session, request_meets_what_can_happen)
{
	run_rows_of(SESSION_REQUEST);
}

Test(session, resolving_meets_what_can_happen)
{
	run_rows_of(SESSION_RESOLVING);
}

Test(session, dialing_meets_what_can_happen)
{
	run_rows_of(SESSION_DIALING);
}

Test(session, relaying_meets_what_can_happen)
{
	run_rows_of(SESSION_RELAYING);
}

Test(session, refusing_meets_what_can_happen)
{
	run_rows_of(SESSION_REFUSING);
}
