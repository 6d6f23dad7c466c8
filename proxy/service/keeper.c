/* SPDX-License-Identifier: ISC */
#include "service/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct watcher {
	struct child child;
	struct link link; /* keeper->observers */
	struct keeper *keeper;
	uint32_t number;
	bool retired; /* another one has taken over */
};

static struct watcher *
from_link(struct link *l)
{
	return container_of(l, struct watcher, link);
}

static struct watcher *
from_child(struct child *c)
{
	return container_of(c, struct watcher, child);
}

static void
command(struct watcher *w, enum observer_command what)
{
	struct message m = { .what = (char)what };

	/* If it cannot be told it is dead, and SIGCHLD is on its way. */
	(void)child_send(&w->child, &m);
}

static void
retire_others(struct watcher *ready)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &ready->keeper->observers) {
		struct watcher *w = from_link(l);

		if (w->number >= ready->number || w->retired)
			continue;
		w->retired = true;
		command(w, OBSERVER_RETIRE);
	}
}

static void
on_message(struct child *c, const struct message *m)
{
	struct watcher *w = from_child(c);
	struct keeper *k = w->keeper;

	switch ((enum observer_word)m->what) {
	case OBSERVER_READY:
		retire_others(w);
		return;
	case OBSERVER_KILL:
		k->on_kill(m->session, m->ticket, k->arg);
		return;
	}
}

void
keeper_answer(struct keeper *k, uint64_t ticket, int error)
{
	struct message m = {
		.what = OBSERVER_KILLED, .error = error, .ticket = ticket
	};
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &k->observers)
		if (from_link(l)->number == ticket >> OBSERVER_TICKET_SHIFT)
			(void)child_send(&from_link(l)->child, &m);
}

static void
restart_later(struct keeper *k, uint64_t lived_ms)
{
	struct timeval delay = backoff_next(&k->backoff, lived_ms);

	event_add(&k->restart, &delay);
}

static void
on_death(struct child *c, int status)
{
	struct watcher *w = from_child(c);
	struct keeper *k = w->keeper;
	uint64_t lived_ms = loop_now(k->family->loop) - c->started_ms;
	bool newest = w->number == k->started;

	child_log_end(c, status);
	log_end(k->family->log);
	link_remove(&w->link);
	free(w);
	if (newest && !k->stopping)
		restart_later(k, lived_ms);
	if (k->stopping && list_is_empty(&k->observers))
		k->on_empty(k->arg);
}

static int
run_observer(void *arg, int control)
{
	struct observer_setup *setup = arg;

	setup->control = control;
	return observer_run(setup);
}

static int
start(struct keeper *k)
{
	struct observer_setup setup = *k->setup;
	struct watcher *w = calloc(1, sizeof(*w));
	int error;

	if (w == NULL)
		return -ENOMEM;
	w->keeper = k;
	w->number = setup.number = ++k->started;
	w->child.name = "observer";
	w->child.on_message = on_message;
	w->child.on_death = on_death;
	error = child_start(
	    k->family, &w->child, k->identity, run_observer, &setup);
	if (error != 0) {
		free(w);
		return error;
	}
	list_append(&k->observers, &w->link);
	log_begin(k->family->log, LOG_LEVEL_INFO, "observer_started");
	log_number(k->family->log, "pid", (uint64_t)w->child.pid);
	log_end(k->family->log);
	return 0;
}

static void
start_or_retry(struct keeper *k)
{
	int error = start(k);

	if (error == 0)
		return;
	log_event(k->family->log, LOG_LEVEL_ERROR, "observer_failed",
	    "cannot be started: %s", strerror(-error));
	restart_later(k, 0);
}

static void
on_restart(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	start_or_retry(arg);
}

static void
on_last_resort(evutil_socket_t fd, short what, void *arg)
{
	struct keeper *k = arg;
	struct link *l, *following;

	(void)fd;
	(void)what;
	LIST_EACH_SAFE (l, following, &k->observers)
		kill(from_link(l)->child.pid, SIGKILL);
}

void
keeper_init(struct keeper *k)
{
	struct event_base *base = k->family->loop->base;

	list_init(&k->observers);
	k->backoff = (struct backoff){ 0 };
	k->started = 0;
	k->stopping = false;
	event_assign(&k->restart, base, -1, 0, on_restart, k);
	event_assign(&k->last_resort, base, -1, 0, on_last_resort, k);
}

void
keeper_fini(struct keeper *k)
{
	must(list_is_empty(&k->observers));
	event_del(&k->restart);
	event_del(&k->last_resort);
}

void
keeper_start(struct keeper *k, const struct observer_setup *setup,
    const struct identity *identity)
{
	k->setup = setup;
	k->identity = identity;
	k->backoff = (struct backoff){ 0 };
	event_del(&k->restart);
	start_or_retry(k);
}

void
keeper_stop(struct keeper *k)
{
	static const struct timeval patience = { 5, 0 };
	struct link *l, *following;

	k->stopping = true;
	event_del(&k->restart);
	LIST_EACH_SAFE (l, following, &k->observers)
		command(from_link(l), OBSERVER_STOP);
	event_add(&k->last_resort, &patience);
	if (list_is_empty(&k->observers))
		k->on_empty(k->arg);
}
