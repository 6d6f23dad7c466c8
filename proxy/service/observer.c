/* SPDX-License-Identifier: ISC */
#include "service/observer.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/loop.h"
#include "service/pages.h"
#include "service/sampler.h"

/* How long a worker may take to end a session, and a retired observer to give
 * its last answers. */
#define PATIENCE_MS 2000

/* Which bounds the connections that wait for an answer. */
#define DESCRIPTORS 1024

struct observer {
	const struct observer_setup *setup;
	struct loop loop;
	struct pages pages;
	struct event control, retired, second;
	struct sampler sampler;
	struct board_writer board;
	struct list kills;
	struct timeout_class kill_timeouts;
	uint32_t kill_count; /* so far */
};

/* A session that is to be ended: who asked waits for the worker's word. */
struct kill {
	struct link link; /* observer->kills */
	struct timeout timeout;
	struct evhttp_request *req;
	uint64_t session, ticket;
};

/* ---- ending sessions ---- */

static void
answer_kill(struct kill *k, int error)
{
	link_remove(&k->link);
	timeout_cancel(&k->timeout);
	if (error == 0)
		http_reply(k->req, HTTP_OK, json_pack("{s:b}", "killed", 1));
	else if (error == -ENOENT)
		http_refuse(k->req, HTTP_NOTFOUND, "no such session");
	else
		http_refuse(
		    k->req, HTTP_SERVUNAVAIL, "its worker does not answer");
	free(k);
}

static void
on_kill_timeout(struct timeout *t)
{
	answer_kill(container_of(t, struct kill, timeout), -ETIMEDOUT);
}

/* The master knows whose session it is, and tells that worker. */
static void
begin_kill(void *arg, struct evhttp_request *req, uint64_t session)
{
	struct observer *o = arg;
	struct kill *k = calloc(1, sizeof(*k));
	struct message m = { .what = OBSERVER_KILL, .session = session };

	if (k == NULL) {
		http_refuse(req, HTTP_INTERNAL, "out of memory");
		return;
	}
	k->req = req;
	k->session = session;
	k->ticket = (uint64_t)o->setup->number << OBSERVER_TICKET_SHIFT |
		    ++o->kill_count;
	m.ticket = k->ticket;
	list_append(&o->kills, &k->link);
	timeout_init(&k->timeout);
	loop_arm(&o->loop, &o->kill_timeouts, &k->timeout);
	if (send(o->setup->control, &m, sizeof(m),
		MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(m))
		answer_kill(k, -EAGAIN);
}

static void
on_killed(struct observer *o, const struct message *m)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &o->kills) {
		struct kill *k = container_of(l, struct kill, link);

		if (k->ticket != m->ticket)
			continue;
		answer_kill(k, m->error);
		return;
	}
}

/* ---- alarms ---- */

static void
on_alarm(void *arg, const struct alarm_event *event)
{
	struct observer *o = arg;

	board_event(&o->board, event, loop_now(&o->loop));
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct observer *o = arg;
	uint64_t now_ms = loop_now(&o->loop);

	(void)fd;
	(void)what;
	if (sampler_round(&o->sampler, now_ms))
		board_round(&o->board, now_ms);
}

static int
start_sampling(struct observer *o)
{
	static const struct timeval second = { 1, 0 };
	const struct config_alarms *c = &o->setup->config->alarms;
	struct alarm_levels levels = { .target = c->target,
		.target_critical = c->target_critical,
		.cooling = c->cooling,
		.strangers = c->strangers,
		.descriptors = c->descriptors,
		.exhaustion_ms = c->exhaustion_ms };

	board_writer_init(&o->board, &o->setup->shared->board, o->setup->log,
	    o->setup->pool_names);
	o->sampler.setup = o->setup;
	o->sampler.alarms = alarms_new(&levels, on_alarm, o);
	if (o->sampler.alarms == NULL)
		return -ENOMEM;
	event_assign(&o->second, o->loop.base, -1, EV_PERSIST, on_second, o);
	event_add(&o->second, &second);
	return 0;
}

/* ---- life ---- */

/* Another one has taken over. */
static void
retire(struct observer *o)
{
	static const struct timeval patience = { PATIENCE_MS / 1000,
		PATIENCE_MS % 1000 * 1000 };

	event_del(&o->second);
	http_stop_accepting(&o->pages.http);
	event_add(&o->retired, &patience);
}

static void
on_retired(evutil_socket_t fd, short what, void *arg)
{
	struct observer *o = arg;

	(void)fd;
	(void)what;
	loop_stop(&o->loop);
}

static void
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct observer *o = arg;
	struct message m;
	ssize_t n = recv(fd, &m, sizeof(m), 0);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(m) && m.what == OBSERVER_KILLED)
		on_killed(o, &m);
	else if (n == sizeof(m) && m.what == OBSERVER_RETIRE)
		retire(o);
	else
		loop_stop(&o->loop); /* told so, or the master is gone */
}

static void
on_pass(void *arg)
{
	struct observer *o = arg;

	if (!log_flush(o->setup->log))
		loop_come_back(&o->loop);
}

static void
on_libevent_log(int severity, const char *words)
{
	/* What clients do wrong is told to them. */
	(void)severity;
	(void)words;
}

static void
bound_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
	    limit.rlim_cur <= DESCRIPTORS)
		return;
	limit.rlim_cur = DESCRIPTORS;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void
leave_sockets(const struct sockets *s)
{
	for (size_t i = 0; i < s->count; i++)
		for (size_t f = 0; f < s->endpoints[i].fd_count; f++)
			close(s->endpoints[i].fds[f]);
}

static int
observer_init(struct observer *o, const struct observer_setup *setup)
{
	int error;

	*o = (struct observer){ .setup = setup };
	list_init(&o->kills);
	leave_sockets(setup->sockets);
	bound_descriptors();
	event_set_log_callback(on_libevent_log);
	error = loop_init(&o->loop);
	if (error != 0)
		return error;
	o->loop.on_pass = on_pass;
	o->loop.on_pass_arg = o;
	loop_class_init(
	    &o->loop, &o->kill_timeouts, PATIENCE_MS, on_kill_timeout);
	event_assign(&o->control, o->loop.base, setup->control,
	    EV_READ | EV_PERSIST, on_control, o);
	event_assign(&o->retired, o->loop.base, -1, 0, on_retired, o);
	event_add(&o->control, NULL);
	error = start_sampling(o);
	o->pages.setup = setup;
	o->pages.alarms = o->sampler.alarms;
	o->pages.kill = begin_kill;
	o->pages.arg = o;
	if (error == 0 && setup->listener != -1)
		error = pages_open(&o->pages, o->loop.base, setup->listener);
	return error;
}

static void
observer_fini(struct observer *o)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &o->kills)
		answer_kill(container_of(l, struct kill, link), -ETIMEDOUT);
	pages_close(&o->pages);
	if (o->sampler.alarms != NULL)
		alarms_free(o->sampler.alarms);
	loop_fini(&o->loop);
}

int
observer_run(const struct observer_setup *setup)
{
	struct message ready = { .what = OBSERVER_READY };
	struct observer *o = malloc(sizeof(*o));
	int error;

	signal(SIGPIPE, SIG_IGN);
	must(o != NULL);
	error = observer_init(o, setup);
	if (error != 0)
		log_event(setup->log, LOG_LEVEL_ERROR, "observer_failed", "%s",
		    strerror(-error));
	else if (send(setup->control, &ready, sizeof(ready), MSG_NOSIGNAL) ==
		 sizeof(ready))
		loop_run(&o->loop);
	observer_fini(o);
	free(o);
	(void)log_flush(setup->log);
	return error == 0 ? 0 : 1;
}
