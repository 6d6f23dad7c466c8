/* SPDX-License-Identifier: ISC */
#include "service/crew.h"

#include <sys/eventfd.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service/worker.h"

/* The number of the worker that began a session; from the start, all workers
 * have numbers of their own. */
#define SESSION_WORKER_SHIFT 40

struct crew_worker {
	struct child child;
	struct link link; /* crew->workers */
	struct crew *crew;
	unsigned slot, generation;
	uint64_t number; /* of all workers ever: in its sessions' ids */
	uint8_t id;
	bool ready, draining, closed;
};

static void on_death(struct child *c, int status);

struct crew_slot {
	struct crew *crew;
	struct event restart; /* pending while it waits to be started */
	struct backoff backoff;
	bool ready;
	const struct crew_order *order;
};

static struct crew_worker *
from_link(struct link *l)
{
	return container_of(l, struct crew_worker, link);
}

static struct crew_worker *
from_child(struct child *c)
{
	return container_of(c, struct crew_worker, child);
}

static bool
is_present(const struct crew_worker *w)
{
	return w->generation == w->crew->generation;
}

static _Atomic bool *
attended(struct crew *crew)
{
	return crew->shared->attended[crew->generation % ATTENDED_GENERATIONS];
}

static void
wake_all(struct crew *crew)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (crew->wake[i] != -1)
			eventfd_write(crew->wake[i], 1);
}

static uint8_t
free_id(struct crew *crew)
{
	bool used[LEDGER_WORKERS_MAX + 1] = { false };
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &crew->workers)
		used[from_link(l)->id] = true;
	for (unsigned id = 1; id <= LEDGER_WORKERS_MAX; id++)
		if (!used[id])
			return (uint8_t)id;
	return 0;
}

static void
command(struct crew_worker *w, enum worker_command what)
{
	struct message m = { .what = (char)what };

	/* If it cannot be told it is dead, and SIGCHLD is on its way. */
	(void)child_send(&w->child, &m);
}

static void
drain_others(struct crew *crew)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &crew->workers) {
		struct crew_worker *w = from_link(l);

		if (is_present(w) || w->draining)
			continue;
		w->draining = true;
		command(w, WORKER_DRAIN);
	}
}

static bool
is_whole(const struct crew *crew)
{
	for (unsigned i = 0; i < crew->wanted; i++)
		if (!crew->slot[i].ready)
			return false;
	return true;
}

/* While it stops: the sockets go once nobody accepts from them. */
static void
note_closed(struct crew *crew)
{
	struct link *l, *following;

	if (!crew->stopping || crew->closed)
		return;
	LIST_EACH_SAFE (l, following, &crew->workers)
		if (!from_link(l)->closed && !from_link(l)->draining)
			return;
	crew->closed = true;
	crew->on_closed(crew->arg);
}

static void
on_worker_ready(struct crew_worker *w)
{
	struct crew *crew = w->crew;

	if (w->ready)
		return;
	w->ready = true;
	if (!is_present(w))
		return;
	crew->slot[w->slot].ready = true;
	crew->on_slot_ready(w->slot, crew->arg);
	wake_all(crew);
	if (!crew->was_ready && is_whole(crew)) {
		crew->was_ready = true;
		drain_others(crew);
		crew->on_ready(crew->arg);
	}
}

static void
on_message(struct child *c, const struct message *m)
{
	struct crew_worker *w = from_child(c);
	struct crew *crew = w->crew;

	switch ((enum worker_answer)m->what) {
	case WORKER_READY:
		on_worker_ready(w);
		return;
	case WORKER_CLOSED:
		w->closed = true;
		note_closed(crew);
		return;
	case WORKER_KILLED:
		crew->on_killed(m->ticket, m->error, crew->arg);
		return;
	}
}

int
crew_kill(struct crew *crew, uint64_t session, uint64_t ticket)
{
	struct message m = {
		.what = WORKER_KILL, .session = session, .ticket = ticket
	};
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &crew->workers) {
		struct crew_worker *w = from_link(l);

		if (w->number == session >> SESSION_WORKER_SHIFT)
			return child_send(&w->child, &m) ? 0 : -EAGAIN;
	}
	return -ENOENT;
}

/* ---- starting ---- */

/* Exactly `all` in the sum of the slots. */
static uint64_t
share_of(uint64_t all, unsigned slots, unsigned slot)
{
	return all / slots + (slot < all % slots);
}

static int
run_worker(void *arg, int control)
{
	struct worker_setup *setup = arg;

	setup->control = control;
	/* The observer's alone: nobody must seem to listen when it is gone. */
	if (setup->control_socket != -1)
		close(setup->control_socket);
	return worker_run(setup);
}

static int
fork_worker(
    struct crew *crew, struct crew_worker *w, const struct crew_order *order)
{
	struct worker_setup setup = { .config = order->config,
		.log = crew->family->log,
		.ledger = crew->ledger,
		.quota = crew->quota,
		.shared = crew->shared,
		.attended = attended(crew),
		.sockets = order->sockets,
		.pools = order->pools,
		.control_socket = order->control_socket,
		.tw_reuse = order->tw_reuse,
		.slot = w->slot,
		.slots = crew->slots,
		.wake = crew->wake,
		.mail = crew->mail,
		.id = w->id,
		.first_session = w->number << SESSION_WORKER_SHIFT | 1,
		.max_sessions =
		    share_of(order->max_sessions, crew->wanted, w->slot) };
	int error;

	atomic_store(&crew->shared->draining[w->id], false);
	error = child_start(
	    crew->family, &w->child, order->identity, run_worker, &setup);
	if (error == 0)
		stats_set(
		    &crew->shared->max_sessions[w->id], setup.max_sessions);
	return error;
}

static int
start_worker(struct crew *crew, unsigned slot)
{
	struct crew_worker *w = calloc(1, sizeof(*w));
	int error;

	if (w == NULL)
		return -ENOMEM;
	w->crew = crew;
	w->slot = slot;
	w->generation = crew->generation;
	w->number = ++crew->started;
	w->id = free_id(crew);
	w->child.name = "worker";
	w->child.on_message = on_message;
	w->child.on_death = on_death;
	error =
	    w->id == 0 ? -ENOSPC : fork_worker(crew, w, crew->slot[slot].order);
	if (error != 0) {
		free(w);
		return error;
	}
	list_append(&crew->workers, &w->link);
	log_begin(crew->family->log, LOG_LEVEL_INFO, "worker_started");
	log_number(crew->family->log, "worker", w->id);
	log_number(crew->family->log, "pid", (uint64_t)w->child.pid);
	log_end(crew->family->log);
	return 0;
}

static void
restart_later(struct crew *crew, unsigned slot, uint64_t lived_ms)
{
	struct timeval delay =
	    backoff_next(&crew->slot[slot].backoff, lived_ms);

	event_add(&crew->slot[slot].restart, &delay);
}

static void
start_or_retry(struct crew *crew, unsigned slot)
{
	int error = start_worker(crew, slot);

	if (error == 0)
		return;
	log_event(crew->family->log, LOG_LEVEL_ERROR, "worker_failed",
	    "cannot be started: %s", strerror(-error));
	restart_later(crew, slot, 0);
}

static void
on_restart(evutil_socket_t fd, short what, void *arg)
{
	struct crew_slot *slot = arg;

	(void)fd;
	(void)what;
	start_or_retry(slot->crew, (unsigned)(slot - slot->crew->slot));
}

static void
log_death(struct crew_worker *w, int status, uint32_t returned)
{
	struct log *log = w->crew->family->log;

	child_log_end(&w->child, status);
	log_number(log, "worker", w->id);
	log_number(log, "leases_returned", returned);
	log_end(log);
}

/* What the dead held may have been granted to somebody. */
static void
wake_granted(struct crew *crew)
{
	uint64_t workers[LEDGER_WAKE_WORDS];

	if (!ledger_take_wakes(crew->ledger, workers))
		return;
	for (unsigned id = 1; id <= LEDGER_WORKERS_MAX; id++)
		if ((workers[id / 64] >> id % 64 & 1) != 0 &&
		    crew->mail[id] != -1)
			eventfd_write(crew->mail[id], 1);
}

static void
on_death(struct child *c, int status)
{
	struct crew_worker *w = from_child(c);
	struct crew *crew = w->crew;
	struct stats *stats = &crew->shared->stats[w->id];
	bool present = is_present(w);
	unsigned slot = w->slot;
	uint64_t now_ms = loop_now(crew->family->loop);
	uint64_t lived_ms = now_ms - c->started_ms;
	uint32_t returned;

	/* Siblings take its clients at once, before anything else. */
	if (present && !crew->stopping) {
		atomic_store(&attended(crew)[slot], false);
		wake_all(crew);
	}
	stats_set(&stats->sessions, 0);
	stats_set(&crew->shared->max_sessions[w->id], 0);
	quota_drop_worker(crew->quota, w->id);
	returned = ledger_return_worker(crew->ledger, w->id, now_ms);
	wake_granted(crew);
	log_death(w, status, returned);
	link_remove(&w->link);
	free(w);
	if (present && !crew->stopping) {
		crew->slot[slot].ready = false;
		restart_later(crew, slot, lived_ms);
		if (!crew->was_ready)
			crew->on_failure(crew->arg);
	}
	note_closed(crew);
	if (crew->stopping && list_is_empty(&crew->workers))
		crew->on_empty(crew->arg);
}

/* ---- generations ---- */

static void
on_last_resort(evutil_socket_t fd, short what, void *arg)
{
	struct crew *crew = arg;
	struct link *l, *following;

	(void)fd;
	(void)what;
	LIST_EACH_SAFE (l, following, &crew->workers)
		kill(from_link(l)->child.pid, SIGKILL);
}

int
crew_init(struct crew *crew)
{
	event_assign(&crew->last_resort, crew->family->loop->base, -1, 0,
	    on_last_resort, crew);
	list_init(&crew->workers);
	crew->generation = 0;
	crew->slots = crew->wanted = 0;
	crew->stopping = crew->was_ready = false;
	crew->started = 0;
	crew->closed = false;
	crew->prepared = 0;
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		crew->wake[i] = crew->next_wake[i] = -1;
	for (unsigned i = 0; i <= LEDGER_WORKERS_MAX; i++)
		crew->mail[i] = -1;
	crew->slot = calloc(SLOTS_MAX, sizeof(*crew->slot));
	if (crew->slot == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		crew->slot[i].crew = crew;
		event_assign(&crew->slot[i].restart, crew->family->loop->base,
		    -1, 0, on_restart, &crew->slot[i]);
	}
	return 0;
}

static void
close_all(int *fds)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		if (fds[i] != -1)
			close(fds[i]);
		fds[i] = -1;
	}
}

void
crew_fini(struct crew *crew)
{
	must(list_is_empty(&crew->workers));
	if (crew->slot == NULL)
		return;
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		event_del(&crew->slot[i].restart);
	close_all(crew->wake);
	close_all(crew->next_wake);
	for (unsigned i = 0; i <= LEDGER_WORKERS_MAX; i++)
		if (crew->mail[i] != -1)
			close(crew->mail[i]);
	event_del(&crew->last_resort);
	free(crew->slot);
	crew->slot = NULL;
}

static int
open_wakes(unsigned count, int *fds)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		fds[i] = -1;
	for (unsigned i = 0; i < count; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fds[i] == -1) {
			int error = -errno;

			close_all(fds);
			return error;
		}
	}
	return 0;
}

static size_t
count_workers(struct crew *crew)
{
	struct link *l, *following;
	size_t n = 0;

	LIST_EACH_SAFE (l, following, &crew->workers)
		n++;
	return n;
}

/* Nobody attends to a slot until its new worker does; the old workers go on
 * meanwhile, and are not woken by this generation. */
static void
reset_slots(struct crew *crew, const struct crew_order *order)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		event_del(&crew->slot[i].restart);
		crew->slot[i].backoff = (struct backoff){ 0 };
		crew->slot[i].ready = false;
		crew->slot[i].order = order;
		atomic_store(&attended(crew)[i], false);
	}
}

/* For the workers to come and those of the next generation, so that these know
 * the fds of those. Whose is missing looks by itself. */
static void
open_mail(struct crew *crew, unsigned wanted)
{
	size_t last = count_workers(crew) + 2 * (size_t)wanted;

	for (size_t id = 1; id <= last && id <= LEDGER_WORKERS_MAX; id++)
		if (crew->mail[id] == -1)
			crew->mail[id] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

/* Who has the ids that the next generation would need. */
static void
log_no_ids(struct crew *crew, size_t workers, unsigned wanted)
{
	struct log *log = crew->family->log;
	struct link *l, *following;
	size_t draining = 0;

	LIST_EACH_SAFE (l, following, &crew->workers)
		draining += from_link(l)->draining;
	log_begin(log, LOG_LEVEL_ERROR, "workers_beyond");
	log_number(log, "workers", workers);
	log_number(log, "draining", draining);
	log_number(log, "wanted", wanted);
	log_number(log, "max", LEDGER_WORKERS_MAX);
	log_text(log, "msg",
	    "old workers drain until their sessions end: wait for it (fourfold "
	    "status shows them), end sessions (fourfold kill), or restart");
	log_end(log);
}

int
crew_prepare(struct crew *crew, unsigned wanted)
{
	size_t workers = count_workers(crew);

	must(wanted > 0 && wanted <= SLOTS_MAX);
	if (workers + wanted > LEDGER_WORKERS_MAX) {
		log_no_ids(crew, workers, wanted);
		return -ENOSPC;
	}
	close_all(crew->next_wake);
	open_mail(crew, wanted);
	crew->prepared = wanted;
	return open_wakes(wanted, crew->next_wake);
}

void
crew_start(struct crew *crew, const struct crew_order *order, unsigned slots)
{
	must(crew->prepared > 0 && crew->prepared <= slots);
	must(slots <= SLOTS_MAX);
	close_all(crew->wake);
	memcpy(crew->wake, crew->next_wake, sizeof(crew->wake));
	memset(crew->next_wake, 0xff, sizeof(crew->next_wake)); /* all -1 */
	crew->generation++;
	crew->was_ready = false;
	crew->wanted = crew->prepared;
	crew->prepared = 0;
	crew->slots = slots;
	reset_slots(crew, order);
	for (unsigned i = 0; i < crew->wanted; i++)
		start_or_retry(crew, i);
}

void
crew_stop(struct crew *crew, bool now)
{
	static const struct timeval patience = { 2, 0 };
	struct link *l, *following;

	crew->stopping = true;
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		event_del(&crew->slot[i].restart);
	LIST_EACH_SAFE (l, following, &crew->workers)
		command(from_link(l), now ? WORKER_STOP : WORKER_FINISH);
	if (now && !event_pending(&crew->last_resort, EV_TIMEOUT, NULL))
		event_add(&crew->last_resort, &patience);
	if (list_is_empty(&crew->workers))
		crew->on_empty(crew->arg);
}
