/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/session_impl.h"

/* After a refusal: how long we read on, so that the reply is not lost to the
 * reset which unread bytes would cause. */
#define LINGER_MS 2000

#define DRAIN_BYTES (64 * 1024)

/* A relay without bytes for so long has keepalive set, and the longer timeouts
 * begin. */
#define SETTLE_MS 200

/* A wait for the client or the target is looked at once after so long: an error
 * that came together with bytes has no event of its own. */
#define EARLY_MS 1000

/* Each name server is asked so often, and waited for twice as long each time: a
 * single one 7/8 of the time for connecting. The first time is never longer
 * than the 5 s that are usual. */
#define RESOLVE_TRIES        3
#define RESOLVE_SHARE        8
#define RESOLVE_FIRST_MAX_MS 5000

/* How old what we know of this host's addresses may be. */
#define HOSTNET_AGE_MS 1000

/* That they cannot be read is told so often. */
#define HOSTNET_TELL_MS 60000

enum alive {
	ALIVE_NOTHING,
	ALIVE_LOGIN,
	ALIVE_RESOLVE,
	ALIVE_DIAL,
	ALIVE_TARGET
};

static void on_target_ready(struct stream *stream);
static void on_client_ready(struct stream *stream);
static void wait_for(
    struct session *s, struct timeout_class *rest, uint64_t ms);

static enum alive
alive_in(enum session_state state)
{
	static const enum alive alive[] = {
#define ROW(name, label, what) [SESSION_##name] = what,
		SESSION_STATES(ROW)
#undef ROW
	};
	return alive[state];
}

static void
session_check(const struct session *s)
{
	enum alive alive = alive_in(s->state);

	must((s->login != NULL) == (alive == ALIVE_LOGIN));
	must((s->resolve != NULL) == (alive == ALIVE_RESOLVE));
	must((s->dial != NULL) == (alive == ALIVE_DIAL));
	must((s->out.fd != -1) == (alive == ALIVE_TARGET));
	must((s->fd != -1) == (s->state != SESSION_CLOSED));
}

void
session_enter(struct session *s, enum session_state state)
{
	s->state = state;
	session_check(s);
}

/* ---- the end ---- */

static void
count_end(const struct session *s)
{
	struct stats *stats = s->env->stats;

	stats_add(&stats->closed[s->reason], 1);
	stats_add(&stats->counters[STATS_BYTES_UP], s->relay.up.bytes);
	stats_add(
	    &stats->counters[STATS_BYTES_DOWN], relay_bytes_down(&s->relay));
	stats_set(&stats->sessions, s->env->count);
}

static void
on_buried(struct task *place)
{
	struct session *s = container_of(place, struct session, place);

	free(s->name);
	free(s);
}

/* Ends in order for those who have got all that is theirs; otherwise the peers
 * see a reset, never an end of stream that is none. */
static bool
ends_in_order(const struct session *s, enum close_reason reason)
{
	if (s->state == SESSION_RELAYING)
		return reason == CLOSE_DONE;
	return reason != CLOSE_CLIENT_RESET && reason != CLOSE_STOPPED &&
	       reason != CLOSE_KILLED && reason != CLOSE_HANDSHAKE_TIMEOUT &&
	       reason != CLOSE_QUOTA_ARRIVALS;
}

static void
close_legs(struct session *s, bool in_order)
{
	enum outsock_end how = OUTSOCK_RESET;

	stream_abandon(&s->target);
	stream_abandon(&s->client);
	if (in_order && s->out.fd != -1)
		how = s->relay.target_first ? OUTSOCK_TARGET_FIRST
					    : OUTSOCK_WE_FIRST;
	else if (s->relay.up.ended && !s->relay.target_first &&
		 s->reason != CLOSE_TARGET_RESET)
		how = OUTSOCK_RESET_LATE;
	outsock_close(&s->out, &s->env->egress, how, loop_now(s->env->loop));
	if (in_order)
		outsock_set_abortive(s->fd, false);
	close(s->fd);
	s->fd = -1;
}

static void
give_up_dial(struct session *s)
{
	if (s->dial == NULL)
		return;
	s->resolved = *dial_target(s->dial);
	dial_cancel(&s->dial, &s->out);
}

void
session_close(struct session *s, enum close_reason reason)
{
	struct session_ending ending;
	bool in_order;

	if (s->state == SESSION_CLOSED)
		return;
	give_up_dial(s);
	ending = session_note_ending(s);
	in_order = ends_in_order(s, reason);
	if (s->reason == CLOSE_NONE)
		s->reason = reason;
	if (s->wait_began_ms != 0)
		s->waited_ms +=
		    (uint32_t)(loop_now(s->env->loop) - s->wait_began_ms);
	login_cancel(&s->login);
	resolve_cancel(&s->resolve);
	relay_cancel(&s->relay);
	timeout_cancel(&s->timer);
	/* Before the peers see the end: whoever has seen it may come back. */
	session_leave(s);
	close_legs(s, in_order);
	free(s->ahead);
	s->ahead = NULL;
	link_remove(&s->place.link);
	s->env->count--;
	session_enter(s, SESSION_CLOSED);
	count_end(s);
	session_log(s, &ending);
	loop_bury(s->env->loop, &s->place);
	s->env->on_end(s->env->on_end_arg);
}

/* Reads and drops what the client still sends, so that the refusal arrives; a
 * share of it a pass, as a flood is nobody's due. */
static void
drain_client(struct session *s)
{
	ssize_t n = 1;

	for (int reads = 0; n > 0 && s->client.readable && reads < 4; reads++)
		n = stream_read(&s->client, s->env->loop->scratch, DRAIN_BYTES);
	if (n == 0 || (n < 0 && n != -EAGAIN))
		session_close(s, s->reason);
}

/* Ends politely: the bytes are the last that the client gets. */
void
session_refuse_with(
    struct session *s, enum close_reason reason, const void *bytes, size_t len)
{
	must(s->reason == CLOSE_NONE);
	s->reason = reason;
	free(s->ahead);
	s->ahead = NULL;
	s->ahead_len = 0;
	/* Before the client has the reply: it may come back with it. */
	session_dismiss(s);
	session_enter(s, SESSION_REFUSING);
	if (stream_write(&s->client, bytes, len) != (ssize_t)len) {
		session_close(s, reason);
		return;
	}
	shutdown(s->fd, SHUT_WR);
	loop_arm(s->env->loop, &s->env->lingering, &s->timer);
	drain_client(s);
}

/* A refusal of the request, with the reply of its reason. */
void
session_refuse(struct session *s, enum close_reason reason)
{
	uint8_t reply[SOCKS5_REPLY_MAX];
	int code = close_row(reason)->reply;
	struct addr none = { 0 };

	must(code != NO_REPLY);
	session_refuse_with(s, reason, reply,
	    socks5_put_reply(reply, (enum socks5_reply)code, &none));
}

/* ---- relaying ---- */

static void
on_relay_active(struct relay *relay)
{
	struct session *s = container_of(relay, struct session, relay);

	loop_arm(s->env->loop, &s->env->settle, &s->timer);
}

static void
on_relay_end(struct relay *relay, enum relay_end end)
{
	struct session *s = container_of(relay, struct session, relay);

	s->error = relay->error;
	switch (end) {
	case RELAY_DONE:
		session_close(s, CLOSE_DONE);
		return;
	case RELAY_CLIENT_ERROR:
		session_close(s, CLOSE_CLIENT_RESET);
		return;
	case RELAY_TARGET_ERROR:
		session_close(s, CLOSE_TARGET_RESET);
		return;
	}
}

static const struct relay_owner relay_owner = {
	.on_end = on_relay_end,
	.on_active = on_relay_active,
};

static void
on_dialed(enum close_reason reason, int error, struct outsock *out,
    const struct addr *target, void *arg)
{
	struct session *s = arg;
	uint8_t reply[SOCKS5_REPLY_MAX];
	size_t reply_len;

	must(s->state == SESSION_DIALING);
	s->dial = NULL;
	timeout_cancel(&s->timer);
	s->resolved = *target;
	outsock_move(&s->out, out);
	if (reason != CLOSE_NONE) {
		s->error = error;
		session_refuse(s, reason);
		return;
	}
	session_enter(s, SESSION_RELAYING);
	reply_len = socks5_put_reply(reply, SOCKS5_SUCCEEDED, &s->out.source);
	if (relay_start(&s->relay, &s->env->relays, &s->client, &s->target,
		s->ahead, s->ahead_len, reply, reply_len, &relay_owner) != 0) {
		session_close(s, CLOSE_MEMORY);
		return;
	}
	free(s->ahead);
	s->ahead = NULL;
	s->ahead_len = 0;
}

/* The time in a target's queue does not count as connecting. */
static void
on_dial_waits(bool waits, void *arg)
{
	struct session *s = arg;
	uint64_t now_ms = loop_now(s->env->loop);

	if (waits) {
		s->wait_began_ms = now_ms;
		timeout_cancel(&s->timer);
		return;
	}
	s->waited_ms += (uint32_t)(now_ms - s->wait_began_ms);
	s->wait_began_ms = 0;
	wait_for(s, &s->env->connecting, s->env->config->connect_ms);
}

static void
on_target_ready(struct stream *stream)
{
	struct session *s = container_of(stream, struct session, target);

	if (s->state == SESSION_DIALING)
		dial_ready(s->dial);
	else
		relay_pump(&s->relay);
}

/* No TCP_USER_TIMEOUT: it would also end those who read slowly but live. */
static void
set_keepalive(int fd, uint64_t keepalive_ms)
{
	static const int on = 1, probes = 5, interval = 10;
	int seconds = (int)((keepalive_ms + 999) / 1000);

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void
on_settled(struct timeout *t)
{
	struct session *s = container_of(t, struct session, timer);
	struct session_env *env = s->env;

	must(s->state == SESSION_RELAYING);
	if (!s->settled && env->config->keepalive_ms != 0) {
		set_keepalive(s->out.fd, env->config->keepalive_ms);
		if (!s->door->is_unix)
			set_keepalive(s->fd, env->config->keepalive_ms);
	}
	s->settled = true;
	if (relay_is_half_closed(&s->relay) && env->half_closed.after_ms != 0)
		loop_arm(env->loop, &env->half_closed, t);
	else if (env->idle.after_ms != 0)
		loop_arm(env->loop, &env->idle, t);
}

static void
on_half_closed_timeout(struct timeout *t)
{
	session_close(
	    container_of(t, struct session, timer), CLOSE_HALF_CLOSED_TIMEOUT);
}

static void
on_idle_timeout(struct timeout *t)
{
	session_close(
	    container_of(t, struct session, timer), CLOSE_IDLE_TIMEOUT);
}

/* ---- from the request to the target ---- */

static bool
is_permitted(struct session *s, const struct addr *target)
{
	enum rules_verdict verdict =
	    rules_judge(&s->env->rules, &s->client_addr, target);

	if (verdict == RULES_ALLOW)
		return true;
	log_begin(s->env->log, LOG_LEVEL_INFO, "denied");
	log_hex(s->env->log, "session", s->id);
	log_addr(s->env->log, "resolved", target);
	log_text(s->env->log, "rule", rules_verdict_name(verdict));
	log_end(s->env->log);
	return false;
}

static void
dial(struct session *s, const struct addr *targets, size_t count)
{
	const struct config_user *users = s->env->config->users;
	struct ledger_holder holder = { .client = s->client_addr,
		.session = s->id,
		.user = s->user != 0 ? users[s->user - 1].id : 0,
		.worker = s->env->worker };
	struct addr permitted[RESOLVE_ADDRESSES_MAX];
	size_t n = 0;

	must(count <= ARRAY_LEN(permitted));
	for (size_t i = 0; i < count; i++) {
		if (!is_permitted(s, &targets[i]))
			continue;
		permitted[n] = targets[i];
		/* It matters for link-local addresses, which are not permitted;
		 * elsewhere it would make many targets of one. */
		permitted[n++].scope = 0;
	}
	if (n == 0) {
		s->resolved = targets[0];
		session_refuse(s, CLOSE_DENIED);
		return;
	}
	s->dial = dial_start(&s->env->dialer, s->door->pool, permitted, n,
	    &holder, &s->target, on_target_ready, on_dialed, s);
	if (s->dial == NULL)
		session_refuse(s, CLOSE_MEMORY);
	else
		session_enter(s, SESSION_DIALING);
}

static void
on_resolved(enum resolve_result result, const struct addr *addrs, size_t count,
    void *arg)
{
	struct session *s = arg;

	must(s->state == SESSION_RESOLVING);
	s->resolve = NULL;
	switch (result) {
	case RESOLVE_OK:
		dial(s, addrs, count);
		return;
	case RESOLVE_NOT_FOUND:
		session_refuse(s, CLOSE_NAME_NOT_FOUND);
		return;
	case RESOLVE_FAILED:
		session_refuse(s, CLOSE_RESOLVE_FAILED);
		return;
	case RESOLVE_BUSY:
		session_refuse(s, CLOSE_RESOLVE_BUSY);
		return;
	}
}

/* Begins a wait of `ms` in all, of which `rest` is what comes after EARLY_MS.
 */
static void
wait_for(struct session *s, struct timeout_class *rest, uint64_t ms)
{
	loop_arm(
	    s->env->loop, ms > EARLY_MS ? &s->env->early : rest, &s->timer);
}

static uint64_t
rest_of(uint64_t ms)
{
	return ms > EARLY_MS ? ms - EARLY_MS : ms;
}

static void
on_early(struct timeout *t)
{
	struct session *s = container_of(t, struct session, timer);
	struct session_env *env = s->env;

	if (s->state == SESSION_RESOLVING || s->state == SESSION_DIALING)
		loop_arm(env->loop, &env->connecting, t);
	else
		loop_arm(env->loop, &env->handshake, t);
	s->client.readable = s->client.failed = true;
	on_client_ready(&s->client);
}

void
session_seek_target(struct session *s, const struct socks5_request *request)
{
	struct addr target = addr_unmap(&request->addr);

	wait_for(s, &s->env->connecting, s->env->config->connect_ms);
	target.port = request->port;
	s->asked = target;
	if (request->name[0] != '\0') {
		s->name = strdup(request->name);
		if (s->name == NULL) {
			session_refuse(s, CLOSE_MEMORY);
			return;
		}
	}
	if (request->command != SOCKS5_CONNECT) {
		session_refuse(s, CLOSE_COMMAND_UNSUPPORTED);
		return;
	}
	if (!session_admit(s))
		return;
	if (s->name == NULL) {
		dial(s, &target, 1);
		return;
	}
	s->resolve = resolve_start(s->env->resolver, &s->client_addr, s->name,
	    request->port, on_resolved, s);
	if (s->resolve == NULL) {
		session_refuse(s, CLOSE_MEMORY);
		return;
	}
	session_enter(s, SESSION_RESOLVING);
}

/* The time from the request to the target is over. */
static void
on_connecting_timeout(struct timeout *t)
{
	struct session *s = container_of(t, struct session, timer);

	s->error = ETIMEDOUT;
	if (s->state == SESSION_RESOLVING) {
		resolve_cancel(&s->resolve);
		session_refuse(s, CLOSE_RESOLVE_FAILED);
		return;
	}
	must(s->state == SESSION_DIALING);
	give_up_dial(s);
	session_refuse(s, CLOSE_CONNECT_TIMEOUT);
}

static void
on_client_ready(struct stream *stream)
{
	struct session *s = container_of(stream, struct session, client);

	switch (s->state) {
	case SESSION_GREETING:
	case SESSION_LOGIN:
	case SESSION_REQUEST:
		handshake_read(s);
		return;
	case SESSION_VERIFYING:
	case SESSION_RESOLVING:
	case SESSION_DIALING:
		handshake_watch(s);
		return;
	case SESSION_RELAYING:
		relay_pump(&s->relay);
		return;
	case SESSION_REFUSING:
		drain_client(s);
		return;
	case SESSION_CLOSED:
	case SESSION_STATE_COUNT:
		break;
	}
	must_never("an event of a stream that was stopped");
}

static void
on_handshake_timeout(struct timeout *t)
{
	session_close(
	    container_of(t, struct session, timer), CLOSE_HANDSHAKE_TIMEOUT);
}

static void
on_lingered(struct timeout *t)
{
	struct session *s = container_of(t, struct session, timer);

	session_close(s, s->reason);
}

/* ---- the beginning ---- */

static bool
is_welcome(const struct session_door *door, const struct addr *client)
{
	const struct config_listen *listen = door->listen;

	if (door->is_unix || listen->client_count == 0)
		return true;
	for (size_t i = 0; i < listen->client_count; i++)
		if (prefix_contains(&listen->clients[i], client))
			return true;
	return false;
}

static void
session_init(struct session *s, struct session_env *env,
    const struct session_door *door, int fd, const struct addr *client)
{
	*s = (struct session){ .env = env,
		.door = door,
		.fd = fd,
		.state = SESSION_GREETING,
		.reason = CLOSE_NONE,
		.id = env->next_id++,
		.start_ms = loop_now(env->loop),
		.client_addr = addr_unmap(client) };
	task_init(&s->place, on_buried);
	timeout_init(&s->timer);
	stream_init(&s->client);
	stream_init(&s->target);
	outsock_init(&s->out);
	relay_init(&s->relay);
}

void
session_start(struct session_env *env, const struct session_door *door, int fd,
    const struct addr *client)
{
	struct session *s = malloc(sizeof(*s));

	stats_add(&env->stats->counters[STATS_ACCEPTED], 1);
	if (s == NULL) {
		stats_add(&env->stats->closed[CLOSE_MEMORY], 1);
		close(fd);
		return;
	}
	session_init(s, env, door, fd, client);
	list_append(&env->sessions, &s->place.link);
	env->count++;
	stats_set(&env->stats->sessions, env->count);
	if (!is_welcome(door, &s->client_addr)) {
		session_close(s, CLOSE_CLIENT_DENIED);
		return;
	}
	if (!session_arrive(s)) {
		session_close(s, CLOSE_QUOTA_ARRIVALS);
		return;
	}
	if (stream_start(&s->client, env->loop, fd, on_client_ready) != 0) {
		session_close(s, CLOSE_MEMORY);
		return;
	}
	/* Inherited from the listening socket, or of no use. */
	s->client.nodelay = true;
	wait_for(s, &env->handshake, env->config->handshake_ms);
}

void
session_stop_all(struct session_env *env)
{
	struct link *i, *following;

	LIST_EACH_SAFE (i, following, &env->sessions)
		session_close(
		    container_of(i, struct session, place.link), CLOSE_STOPPED);
}

bool
session_kill(struct session_env *env, uint64_t id)
{
	struct link *i, *following;

	LIST_EACH_SAFE (i, following, &env->sessions) {
		struct session *s = container_of(i, struct session, place.link);

		if (s->id != id)
			continue;
		session_close(s, CLOSE_KILLED);
		return true;
	}
	return false;
}

/* ---- what sessions share ---- */

static void
tell_hostnet_failed(struct session_env *env, int error)
{
	uint64_t now_ms = loop_now(env->loop);

	if (env->hostnet_told_ms != 0 &&
	    now_ms - env->hostnet_told_ms < HOSTNET_TELL_MS)
		return;
	env->hostnet_told_ms = now_ms;
	log_event(env->log, LOG_LEVEL_ERROR, "hostnet",
	    "this host's addresses cannot be read: %s", strerror(-error));
}

static struct hostnet *
fresh_hostnet(struct session_env *env)
{
	int error =
	    hostnet_refresh(&env->hostnet, loop_now(env->loop), HOSTNET_AGE_MS);

	if (error != 0)
		tell_hostnet_failed(env, error);
	return &env->hostnet;
}

static bool
is_local(void *arg, const struct addr *a)
{
	struct hostnet *h = fresh_hostnet(arg);

	/* Nothing known: what cannot be judged is not permitted. */
	return h->read_ms == 0 || hostnet_is_local(h, a);
}

static bool
is_broadcast(void *arg, const struct addr *a)
{
	struct hostnet *h = fresh_hostnet(arg);

	return hostnet_is_broadcast(h, a);
}

static struct resolver *
make_resolver(const struct session_env *env)
{
	const struct config *c = env->config;
	uint64_t first_ms = c->connect_ms / RESOLVE_SHARE;
	struct resolver_options options = { .tries = RESOLVE_TRIES,
		.client_bits_v4 = c->client_bits_v4,
		.client_bits_v6 = c->client_bits_v6 };

	options.timeout_ms =
	    (int)(first_ms < RESOLVE_FIRST_MAX_MS ? first_ms
						  : RESOLVE_FIRST_MAX_MS);
	return resolver_new(env->loop->base, &options);
}

int
session_env_init(struct session_env *env)
{
	const struct config *c = env->config;
	struct relay_limits limits = { .buffer = c->buffer_bytes,
		.all = c->max_buffer_bytes,
		.splice = (enum relay_splice)c->splice };

	list_init(&env->sessions);
	env->count = 0;
	hostnet_init(&env->hostnet);
	env->rules.is_local = is_local;
	env->rules.is_broadcast = is_broadcast;
	env->rules.arg = env;
	loop_class_init(env->loop, &env->early, EARLY_MS, on_early);
	loop_class_init(env->loop, &env->handshake, rest_of(c->handshake_ms),
	    on_handshake_timeout);
	loop_class_init(env->loop, &env->connecting, rest_of(c->connect_ms),
	    on_connecting_timeout);
	loop_class_init(env->loop, &env->lingering, LINGER_MS, on_lingered);
	loop_class_init(env->loop, &env->settle, SETTLE_MS, on_settled);
	loop_class_init(env->loop, &env->half_closed, c->half_closed_ms,
	    on_half_closed_timeout);
	loop_class_init(env->loop, &env->idle, c->idle_ms, on_idle_timeout);
	relays_init(&env->relays, env->loop, &limits);
	dialer_init(&env->dialer, env->loop, &env->egress, c->connect_ms);
	env->dialer.on_wait = on_dial_waits;
	env->resolver = make_resolver(env);
	env->logins = login_service_new(env->loop->base, c);
	if (env->resolver == NULL || env->logins == NULL) {
		session_env_fini(env);
		return -ENOMEM;
	}
	return 0;
}

void
session_env_fini(struct session_env *env)
{
	must(list_is_empty(&env->sessions));
	if (env->resolver != NULL)
		resolver_free(env->resolver);
	if (env->logins != NULL)
		login_service_free(env->logins);
	dialer_fini(&env->dialer);
	relays_fini(&env->relays);
	hostnet_fini(&env->hostnet);
}

void
session_publish_stats(struct session_env *env)
{
	_Atomic uint64_t *counters = env->stats->counters;
	struct egress *e = &env->egress;

	stats_add(&counters[STATS_CONNECTS], e->connects);
	stats_add(&counters[STATS_TUPLES_TAKEN], e->tuples_taken);
	stats_add(&counters[STATS_PORTS_BLOCKED], e->ports_blocked);
	e->connects = e->tuples_taken = e->ports_blocked = 0;
}

size_t
session_bytes(void)
{
	return sizeof(struct session);
}
