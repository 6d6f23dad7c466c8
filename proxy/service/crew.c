/* SPDX-License-Identifier: ISC */
#include "service/crew.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service/worker.h"

/* A worker that dies sooner than this after its start is started again with
 * growing delay. */
#define STEADY_MS    1000
#define DELAY_MIN_MS 100
#define DELAY_MAX_MS 5000

struct crew_worker {
	struct link link; /* crew->workers */
	struct crew *crew;
	struct event control_event;
	pid_t pid;
	int control; /* our end */
	unsigned slot, generation;
	uint8_t id;
	bool ready, draining, closed;
	uint64_t started_ms;
};

struct crew_slot {
	struct crew *crew;
	struct event restart; /* pending while it waits to be started */
	unsigned delay_ms;
	bool ready;
	const struct crew_order *order;
};

static struct crew_worker *
from_link(struct link *l)
{
	return container_of(l, struct crew_worker, link);
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
forget(struct crew_worker *w)
{
	event_del(&w->control_event);
	close(w->control);
	link_remove(&w->link);
	free(w);
}

static void
command(struct crew_worker *w, enum worker_command what)
{
	char byte = (char)what;

	/* If it cannot be told it is dead, and SIGCHLD is on its way. */
	(void)send(w->control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
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
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct crew_worker *w = arg;
	struct crew *crew = w->crew;
	char byte;

	(void)what;
	if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1) {
		/* It is ending: waitpid() will say how. */
		event_del(&w->control_event);
		return;
	}
	if (byte == WORKER_CLOSED) {
		w->closed = true;
		note_closed(crew);
		return;
	}
	if (byte != WORKER_READY || w->ready)
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

/* ---- the child ---- */

/* The loop's base is the master's: its epoll set is shared by the fork and must
 * not be touched through this copy. */
static void
leave_master(struct crew *crew)
{
	struct link *l, *following;

	event_reinit(crew->loop->base);
	LIST_EACH_SAFE (l, following, &crew->workers)
		forget(from_link(l));
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		event_del(&crew->slot[i].restart);
	event_del(&crew->last_resort);
	loop_fini(crew->loop);
}

static int
run_child(struct crew *crew, const struct crew_order *order,
    const struct worker_setup *setup, const sigset_t *mask)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGUSR1,
		SIGUSR2 };
	int error;

	leave_master(crew);
	log_drop(crew->log);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	error = privileges_drop(order->identity);
	if (error != 0) {
		log_event(crew->log, LOG_LEVEL_ERROR, "worker_failed",
		    "cannot become user %s: %s", order->identity->name,
		    strerror(-error));
		return 1;
	}
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return worker_run(setup);
}

/* Exactly `all` in the sum of the slots. */
static uint64_t
share_of(uint64_t all, unsigned slots, unsigned slot)
{
	return all / slots + (slot < all % slots);
}

static pid_t
fork_worker(struct crew *crew, struct crew_worker *w,
    const struct crew_order *order, int theirs)
{
	struct worker_setup setup = { .config = order->config,
		.log = crew->log,
		.ledger = crew->ledger,
		.shared = crew->shared,
		.attended = attended(crew),
		.sockets = order->sockets,
		.pools = order->pools,
		.tw_reuse = order->tw_reuse,
		.slot = w->slot,
		.slots = crew->slots,
		.wake = crew->wake,
		.mail = crew->mail,
		.id = w->id,
		.first_session = ++crew->started << 40 | 1,
		.max_sessions =
		    share_of(order->max_sessions, crew->wanted, w->slot),
		.control = theirs };
	sigset_t all, before;
	pid_t pid;

	/* What is buffered must not be written twice. */
	log_flush(crew->log);
	/* No handler of the master may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		int status;

		close(w->control);
		w->control = -1;
		status = run_child(crew, order, &setup, &before);
		free(w);
		exit(status);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -errno : pid;
}

static int
start_worker(struct crew *crew, unsigned slot)
{
	const struct crew_order *order = crew->slot[slot].order;
	struct crew_worker *w = calloc(1, sizeof(*w));
	int pair[2];
	int error = 0;

	if (w == NULL)
		return -ENOMEM;
	w->crew = crew;
	w->slot = slot;
	w->generation = crew->generation;
	w->started_ms = loop_now(crew->loop);
	w->id = free_id(crew);
	if (w->id == 0)
		error = -ENOSPC;
	else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) !=
		 0)
		error = -errno;
	if (error != 0) {
		free(w);
		return error;
	}
	w->control = pair[0];
	w->pid = fork_worker(crew, w, order, pair[1]);
	close(pair[1]);
	if (w->pid < 0) {
		error = (int)w->pid;
		close(pair[0]);
		free(w);
		return error;
	}
	list_append(&crew->workers, &w->link);
	event_assign(&w->control_event, crew->loop->base, w->control,
	    EV_READ | EV_PERSIST, on_control, w);
	event_add(&w->control_event, NULL);
	log_begin(crew->log, LOG_LEVEL_INFO, "worker_started");
	log_number(crew->log, "worker", w->id);
	log_number(crew->log, "pid", (uint64_t)w->pid);
	log_end(crew->log);
	return 0;
}

static void
restart_later(struct crew *crew, unsigned slot)
{
	struct timeval delay = { crew->slot[slot].delay_ms / 1000,
		crew->slot[slot].delay_ms % 1000 * 1000 };

	event_add(&crew->slot[slot].restart, &delay);
}

static void
grow_delay(struct crew_slot *slot)
{
	slot->delay_ms =
	    slot->delay_ms == 0 ? DELAY_MIN_MS : slot->delay_ms * 2;
	if (slot->delay_ms > DELAY_MAX_MS)
		slot->delay_ms = DELAY_MAX_MS;
}

static void
start_or_retry(struct crew *crew, unsigned slot)
{
	int error = start_worker(crew, slot);

	if (error == 0)
		return;
	log_event(crew->log, LOG_LEVEL_ERROR, "worker_failed",
	    "cannot be started: %s", strerror(-error));
	grow_delay(&crew->slot[slot]);
	restart_later(crew, slot);
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
	struct log *log = w->crew->log;
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	log_begin(log, clean ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
	    clean ? "worker_ended" : "worker_died");
	log_number(log, "worker", w->id);
	log_number(log, "pid", (uint64_t)w->pid);
	if (WIFSIGNALED(status))
		log_number(log, "signal", (uint64_t)WTERMSIG(status));
	else
		log_number(log, "status", (uint64_t)WEXITSTATUS(status));
	log_number(log, "leases_returned", returned);
	log_end(log);
}

static void
replace(struct crew *crew, unsigned slot_index, uint64_t lived_ms)
{
	struct crew_slot *slot = &crew->slot[slot_index];

	slot->ready = false;
	if (lived_ms >= STEADY_MS)
		slot->delay_ms = 0;
	else
		grow_delay(slot);
	restart_later(crew, slot_index);
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
on_death(struct crew_worker *w, int status)
{
	struct crew *crew = w->crew;
	struct stats *stats = &crew->shared->stats[w->id];
	bool present = is_present(w);
	unsigned slot = w->slot;
	uint64_t lived_ms = loop_now(crew->loop) - w->started_ms;
	uint32_t returned;

	/* Siblings take its clients at once, before anything else. */
	if (present && !crew->stopping) {
		atomic_store(&attended(crew)[slot], false);
		wake_all(crew);
	}
	stats_set(&stats->sessions, 0);
	returned =
	    ledger_return_worker(crew->ledger, w->id, loop_now(crew->loop));
	wake_granted(crew);
	log_death(w, status, returned);
	forget(w);
	if (present && !crew->stopping) {
		replace(crew, slot, lived_ms);
		if (!crew->was_ready)
			crew->on_failure(crew->arg);
	}
	note_closed(crew);
	if (crew->stopping && list_is_empty(&crew->workers))
		crew->on_empty(crew->arg);
}

void
crew_reap(struct crew *crew)
{
	struct link *l, *following;

	/* By pid and not by -1: other children are not ours to reap. */
	LIST_EACH_SAFE (l, following, &crew->workers) {
		struct crew_worker *w = from_link(l);
		int status;

		if (waitpid(w->pid, &status, WNOHANG) == w->pid)
			on_death(w, status);
	}
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
		kill(from_link(l)->pid, SIGKILL);
}

int
crew_init(struct crew *crew)
{
	event_assign(
	    &crew->last_resort, crew->loop->base, -1, 0, on_last_resort, crew);
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
		event_assign(&crew->slot[i].restart, crew->loop->base, -1, 0,
		    on_restart, &crew->slot[i]);
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
		crew->slot[i].delay_ms = 0;
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

int
crew_prepare(struct crew *crew, unsigned wanted)
{
	must(wanted > 0 && wanted <= SLOTS_MAX);
	if (count_workers(crew) + wanted > LEDGER_WORKERS_MAX)
		return -ENOSPC;
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
