/* SPDX-License-Identifier: ISC */
#include "service/worker.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/session.h"

/* Accepted in one wakeup, so that sessions get their turn. */
#define ACCEPTS_PER_WAKEUP 64

static const struct timeval accept_pause = { 0, 100 * 1000 };

struct worker;

/* A listening socket, watched or not. */
struct gate {
	struct event event;
	struct worker *worker;
	const struct session_door *door;
	int fd;
	unsigned slot;
	bool watched;
};

struct worker {
	const struct worker_setup *setup;
	struct loop loop;
	struct session_env env;
	struct session_door *doors; /* one a listen section */
	struct gate *gates;
	size_t gate_count;
	struct addr *own; /* listening addresses, for the rules */
	struct event control, wake, mail, resume;
	struct task serve; /* something was granted to one of ours */
	bool paused;       /* out of descriptors; `resume` is pending */
	bool draining;     /* accepts no more */
};

static void
wake_siblings(struct worker *w)
{
	for (unsigned i = 0; i < w->setup->slots; i++)
		if (i != w->setup->slot && w->setup->wake[i] != -1)
			eventfd_write(w->setup->wake[i], 1);
}

static bool
has_room(const struct worker *w)
{
	return w->env.count < w->setup->max_sessions;
}

static void
watch(struct gate *g, bool want)
{
	if (g->watched == want)
		return;
	g->watched = want;
	if (want)
		event_add(&g->event, NULL);
	else
		event_del(&g->event);
}

static bool
is_ours(const struct worker *w, const struct gate *g)
{
	return g->door->is_unix || g->slot == w->setup->slot;
}

/* Watches what is ours, and what nobody else attends to, while there is room;
 * tells the siblings when that changes for ours. */
static void
update_gates(struct worker *w)
{
	_Atomic bool *attended = w->setup->attended;
	bool accepting = !w->draining && !w->paused && has_room(w);
	bool before;

	for (size_t i = 0; i < w->gate_count; i++) {
		struct gate *g = &w->gates[i];

		watch(g, accepting && (is_ours(w, g) ||
					  !atomic_load(&attended[g->slot])));
	}
	/* While it drains, the slot is another worker's. */
	if (w->draining)
		return;
	before = atomic_exchange(&attended[w->setup->slot], accepting);
	if (before != accepting)
		wake_siblings(w);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	eventfd_t value;

	(void)what;
	(void)eventfd_read(fd, &value);
	update_gates(w);
}

static void
on_serve(struct task *task)
{
	struct worker *w = container_of(task, struct worker, serve);

	(void)ledger_take_mail(w->setup->ledger, w->setup->id);
	dialer_serve(&w->env.dialer);
}

static void
on_mail(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	eventfd_t value;

	(void)what;
	(void)eventfd_read(fd, &value);
	loop_again(&w->loop, &w->serve);
}

/* A worker was granted something by us. */
static void
wake_worker(void *arg, uint8_t id)
{
	struct worker *w = arg;

	if (id == w->setup->id)
		loop_again(&w->loop, &w->serve);
	else if (w->setup->mail[id] != -1)
		eventfd_write(w->setup->mail[id], 1);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	w->paused = false;
	update_gates(w);
}

/* Descriptors or memory have run out, or the like: the queue waits, nothing
 * spins. */
static void
pause_accepting(struct worker *w, int error)
{
	w->paused = true;
	event_add(&w->resume, &accept_pause);
	stats_add(&w->env.stats->counters[STATS_ACCEPT_PAUSED], 1);
	log_event(w->env.log, LOG_LEVEL_WARNING, "accept_paused", "%s",
	    strerror(error));
	update_gates(w);
}

static int
accept_one(struct gate *g)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr client = { 0 };
	int fd = accept4(
	    g->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (!g->door->is_unix)
		must(addr_from_sockaddr((struct sockaddr *)&ss, &client) == 0);
	session_start(&g->worker->env, g->door, fd, &client);
	return 0;
}

/* Of the one connection, which is gone; the next may be well. accept(2). */
static bool
is_of_connection(int error)
{
	return error == -ECONNABORTED || error == -EINTR || error == -EPROTO ||
	       error == -ENETDOWN || error == -ENOPROTOOPT ||
	       error == -EHOSTDOWN || error == -ENONET ||
	       error == -EHOSTUNREACH || error == -EOPNOTSUPP ||
	       error == -ENETUNREACH;
}

static void
accept_some(struct gate *g, unsigned limit)
{
	struct worker *w = g->worker;

	for (unsigned i = 0; i < limit && has_room(w); i++) {
		int error = accept_one(g);

		if (error == 0 || is_of_connection(error))
			continue;
		/* A reload has taken the listener away. */
		if (error == -EINVAL || error == -EBADF)
			watch(g, false);
		else if (error != -EAGAIN)
			pause_accepting(w, -error);
		return;
	}
}

/* Does none of us accept from its own sockets? */
static bool
nobody_accepts(const struct worker *w)
{
	for (unsigned i = 0; i < w->setup->slots; i++)
		if (atomic_load(&w->setup->attended[i]))
			return false;
	return true;
}

/* Of workers that are full at once, the last one at least sees the others. */
static void
became_full(struct worker *w)
{
	update_gates(w);
	if (nobody_accepts(w))
		stats_add(&w->env.stats->counters[STATS_SESSIONS_FULL], 1);
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct gate *g = arg;

	(void)fd;
	(void)what;
	accept_some(g, ACCEPTS_PER_WAKEUP);
	if (!has_room(g->worker))
		became_full(g->worker);
}

static void
on_session_end(void *arg)
{
	struct worker *w = arg;

	if (w->draining && w->env.count == 0)
		loop_stop(&w->loop);
	else if (!w->draining && w->env.count + 1 == w->setup->max_sessions)
		update_gates(w);
}

/* Accepts no more; a listener that is not wanted any more must not live on in
 * a worker that drains for hours. */
static void
close_gates(struct worker *w)
{
	for (size_t i = 0; i < w->gate_count; i++) {
		watch(&w->gates[i], false);
		close(w->gates[i].fd);
	}
	w->gate_count = 0;
	event_del(&w->resume);
}

static void
drain(struct worker *w)
{
	w->draining = true;
	atomic_store(&w->setup->shared->draining[w->setup->id], true);
	close_gates(w);
	if (w->env.count == 0)
		loop_stop(&w->loop);
}

/* Nobody comes after us: what is queued is ours. */
static void
accept_the_rest(struct worker *w)
{
	struct message closed = { .what = WORKER_CLOSED };

	for (size_t i = 0; i < w->gate_count; i++) {
		struct gate *g = &w->gates[i];

		if (g->watched)
			accept_some(g, g->door->listen->backlog);
	}
	(void)send(w->setup->control, &closed, sizeof(closed), MSG_NOSIGNAL);
}

static void
kill_session(struct worker *w, const struct message *m)
{
	struct message answer = { .what = WORKER_KILLED,
		.error = session_kill(&w->env, m->session) ? 0 : -ENOENT,
		.ticket = m->ticket };

	(void)send(w->setup->control, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct message m;
	ssize_t n = recv(fd, &m, sizeof(m), 0);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(m) && m.what == WORKER_DRAIN) {
		drain(w);
	} else if (n == sizeof(m) && m.what == WORKER_FINISH) {
		accept_the_rest(w);
		drain(w);
	} else if (n == sizeof(m) && m.what == WORKER_KILL) {
		kill_session(w, &m);
	} else {
		/* WORKER_STOP, or the master is gone. */
		w->draining = true;
		session_stop_all(&w->env);
		loop_stop(&w->loop);
	}
}

static void
on_pass(void *arg)
{
	struct worker *w = arg;

	session_publish_stats(&w->env);
	if (!log_flush(w->env.log))
		loop_come_back(&w->loop);
}

static int
make_doors(struct worker *w)
{
	const struct config *c = w->setup->config;

	w->doors = calloc(c->listen_count * 2, sizeof(*w->doors));
	if (w->doors == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->listen_count * 2; i++) {
		const struct config_listen *l = &c->listens[i / 2];

		w->doors[i] = (struct session_door){ .listen = l,
			.pool = w->setup->pools[l->egress],
			.is_unix = i % 2 == 1 };
	}
	return 0;
}

static int
make_gates(struct worker *w)
{
	const struct sockets *s = w->setup->sockets;

	w->gates = calloc(sockets_fd_count(s), sizeof(*w->gates));
	w->own = calloc(s->count, sizeof(*w->own));
	if (w->gates == NULL || w->own == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++) {
		const struct endpoint *e = &s->endpoints[i];
		bool is_unix = e->path[0] != '\0';

		if (!is_unix)
			w->own[w->env.rules.listener_count++] = e->actual;
		for (size_t f = 0; f < e->fd_count; f++) {
			struct gate *g = &w->gates[w->gate_count++];

			*g = (struct gate){ .worker = w,
				.fd = e->fds[f],
				.slot = (unsigned)f,
				.door = &w->doors[e->listen * 2 + is_unix] };
			event_assign(&g->event, w->loop.base, g->fd,
			    EV_READ | EV_PERSIST, on_acceptable, g);
		}
	}
	w->env.rules.listeners = w->own;
	return 0;
}

static void
watch_mail(struct worker *w)
{
	int fd = w->setup->mail[w->setup->id];

	if (fd == -1)
		return;
	event_assign(
	    &w->mail, w->loop.base, fd, EV_READ | EV_PERSIST, on_mail, w);
	event_add(&w->mail, NULL);
}

static void
watch_master(struct worker *w)
{
	int wake = w->setup->wake[w->setup->slot];

	event_assign(&w->control, w->loop.base, w->setup->control,
	    EV_READ | EV_PERSIST, on_control, w);
	event_assign(
	    &w->wake, w->loop.base, wake, EV_READ | EV_PERSIST, on_wake, w);
	event_add(&w->control, NULL);
	event_add(&w->wake, NULL);
}

static void
set_queues(struct worker *w)
{
	const struct config *c = w->setup->config;

	for (size_t i = 0; i < c->egress_count; i++)
		w->env.dialer.queues[w->setup->pools[i]] =
		    (struct dial_queue){ .wait_ms = c->egresses[i].wait_ms,
			    .length = c->egresses[i].queue };
}

static int
worker_init(struct worker *w, const struct worker_setup *setup)
{
	int error;

	*w = (struct worker){ .setup = setup };
	error = loop_init(&w->loop);
	if (error != 0)
		return error;
	event_assign(&w->resume, w->loop.base, -1, 0, on_resume, w);
	task_init(&w->serve, on_serve);
	w->loop.on_pass = on_pass;
	w->loop.on_pass_arg = w;
	w->env = (struct session_env){ .loop = &w->loop,
		.log = setup->log,
		.config = setup->config,
		.egress = { .ledger = setup->ledger,
		    .log = setup->log,
		    .tw_reuse = setup->tw_reuse,
		    .wake = wake_worker,
		    .wake_arg = w },
		.quota = setup->quota,
		.stats = &setup->shared->stats[setup->id],
		.next_id = setup->first_session,
		.worker = setup->id,
		.on_end = on_session_end,
		.on_end_arg = w };
	error = session_env_init(&w->env);
	if (error != 0) {
		w->env.loop = NULL; /* nothing of it is left to end */
		return error;
	}
	error = make_doors(w);
	if (error == 0)
		error = make_gates(w);
	if (error == 0) {
		set_queues(w);
		watch_mail(w);
		watch_master(w);
	}
	return error;
}

static void
worker_fini(struct worker *w)
{
	if (w->loop.base != NULL)
		close_gates(w);
	if (w->env.loop != NULL)
		session_env_fini(&w->env);
	if (w->loop.base != NULL && event_initialized(&w->control)) {
		event_del(&w->control);
		event_del(&w->wake);
	}
	if (w->loop.base != NULL && event_initialized(&w->mail))
		event_del(&w->mail);
	loop_fini(&w->loop);
	free(w->gates);
	free(w->doors);
	free(w->own);
}

int
worker_run(const struct worker_setup *setup)
{
	struct worker w;
	struct message ready = { .what = WORKER_READY };
	int error;

	signal(SIGPIPE, SIG_IGN);
	error = worker_init(&w, setup);
	if (error != 0) {
		log_event(setup->log, LOG_LEVEL_ERROR, "worker_failed", "%s",
		    strerror(-error));
	} else {
		update_gates(&w);
		if (send(setup->control, &ready, sizeof(ready), MSG_NOSIGNAL) ==
		    sizeof(ready))
			loop_run(&w.loop);
	}
	worker_fini(&w);
	log_flush(setup->log);
	return error == 0 ? 0 : 1;
}
