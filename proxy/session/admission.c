/* SPDX-License-Identifier: ISC */
/*
 * admission: how many sessions a client and a user have, against their limits.
 * Only who has a limit is counted.
 */
#include "session/session_impl.h"

static struct quota_subject
client_of(const struct session *s)
{
	const struct config *c = s->env->config;

	return quota_client(
	    &s->client_addr, c->client_bits_v4, c->client_bits_v6);
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

	if (s->env->quota == NULL || !is_limited(limit))
		return QUOTA_OK;
	verdict = quota_enter(s->env->quota, s->env->worker, subject,
	    limit->sessions, limit->rate, loop_now(s->env->loop));
	*counted = verdict == QUOTA_OK;
	return verdict;
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
session_admit(struct session *s)
{
	switch (enter_all(s)) {
	case QUOTA_OK:
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

void
session_leave(struct session *s)
{
	uint64_t now_ms = loop_now(s->env->loop);
	struct quota_subject subject;

	if (s->counted_client) {
		subject = client_of(s);
		quota_leave(s->env->quota, s->env->worker, &subject, now_ms);
	}
	if (s->counted_user) {
		subject = quota_user(s->env->config->users[s->user - 1].id);
		quota_leave(s->env->quota, s->env->worker, &subject, now_ms);
	}
	s->counted_client = s->counted_user = false;
}
