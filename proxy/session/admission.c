/* SPDX-License-Identifier: ISC */
/*
 * admission: how many sessions a client and a user have, against their limits.
 * Who has none is counted, too: a reload may set one, and what is held then
 * counts, in the old workers as well.
 *
 * A session is one from its request on, until it is refused or ends. Before and
 * after that its connection takes up room all the same: it is on its way, and
 * each client may have so many of these as it may have sessions. What is beyond
 * is closed when it is accepted, so that nobody who says nothing keeps others
 * out.
 */
#include "session/session_impl.h"

/* So many may always be on their way: who is refused and comes back at once
 * does so before we have seen the end of the one before. */
#define ARRIVALS_LEAST 16

static struct quota_subject
client_of(const struct session *s)
{
	const struct config *c = s->env->config;

	return quota_client(
	    &s->client_addr, c->client_bits_v4, c->client_bits_v6);
}

static struct quota_subject
arrivals_of(const struct session *s)
{
	const struct config *c = s->env->config;

	return quota_arrivals(
	    &s->client_addr, c->client_bits_v4, c->client_bits_v6);
}

/* 0: none. */
static unsigned
limit_of_arrivals(const struct session *s)
{
	unsigned sessions = s->env->config->client_limit.sessions;

	if (sessions != 0 && sessions < ARRIVALS_LEAST)
		return ARRIVALS_LEAST;
	return sessions;
}

static bool
is_limited(const struct config_limit *limit)
{
	return limit->sessions != 0 || limit->rate != 0;
}

static enum quota_verdict
enter(struct session *s, const struct quota_subject *subject,
    const struct config_limit *limit, bool *counted)
{
	enum quota_verdict verdict;

	if (s->env->quota == NULL)
		return QUOTA_OK;
	verdict = quota_enter(s->env->quota, s->env->worker, subject,
	    limit->sessions, limit->rate, loop_now(s->env->loop));
	*counted = verdict == QUOTA_OK;
	/* The table is full: that is no reason against who has no limit. */
	if (verdict == QUOTA_NO_ROOM && !is_limited(limit))
		return QUOTA_OK;
	return verdict;
}

static void
leave(struct session *s, const struct quota_subject *subject, bool *counted)
{
	if (*counted)
		quota_leave(s->env->quota, s->env->worker, subject,
		    loop_now(s->env->loop));
	*counted = false;
}

/* What is refused does not count. */
static void
cancel_client(struct session *s)
{
	struct quota_subject subject = client_of(s);

	if (s->counted_client)
		quota_cancel(s->env->quota, s->env->worker, &subject,
		    loop_now(s->env->loop));
	s->counted_client = false;
}

static enum quota_verdict
enter_all(struct session *s)
{
	const struct config *c = s->env->config;
	struct quota_subject subject = client_of(s);
	enum quota_verdict verdict =
	    enter(s, &subject, &c->client_limit, &s->counted_client);

	if (verdict == QUOTA_OK && s->user != 0) {
		const struct config_user *user = &c->users[s->user - 1];

		subject = quota_user(user->id);
		verdict = enter(s, &subject, &user->limit, &s->counted_user);
		if (verdict != QUOTA_OK)
			cancel_client(s);
	}
	return verdict;
}

bool
session_arrive(struct session *s)
{
	struct config_limit limit = { .sessions = limit_of_arrivals(s) };
	struct quota_subject subject = arrivals_of(s);

	/* These pass soon: no need to know them before there is a limit. */
	if (!is_limited(&limit))
		return true;
	/* Without room in the table it is not counted, and welcome. */
	return enter(s, &subject, &limit, &s->counted_arrival) !=
	       QUOTA_SESSIONS;
}

bool
session_admit(struct session *s)
{
	struct quota_subject subject = arrivals_of(s);

	switch (enter_all(s)) {
	case QUOTA_OK:
		leave(s, &subject, &s->counted_arrival);
		return true;
	case QUOTA_SESSIONS:
		session_refuse(s, CLOSE_QUOTA_SESSIONS);
		break;
	case QUOTA_RATE:
		session_refuse(s, CLOSE_QUOTA_RATE);
		break;
	case QUOTA_NO_ROOM:
		session_refuse(s, CLOSE_MEMORY);
		break;
	}
	return false;
}

static void
leave_sessions(struct session *s)
{
	struct quota_subject subject = client_of(s);

	leave(s, &subject, &s->counted_client);
	if (s->counted_user) {
		subject = quota_user(s->env->config->users[s->user - 1].id);
		leave(s, &subject, &s->counted_user);
	}
}

void
session_dismiss(struct session *s)
{
	struct quota_subject subject = arrivals_of(s);
	bool again = s->counted_client && limit_of_arrivals(s) != 0;

	leave_sessions(s);
	/* However many there are: it is here already. */
	if (again)
		s->counted_arrival =
		    quota_enter(s->env->quota, s->env->worker, &subject, 0, 0,
			loop_now(s->env->loop)) == QUOTA_OK;
}

void
session_leave(struct session *s)
{
	struct quota_subject subject = arrivals_of(s);

	leave(s, &subject, &s->counted_arrival);
	leave_sessions(s);
}
