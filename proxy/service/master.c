/* SPDX-License-Identifier: ISC */
#include "service/master.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "service/keeper.h"
#include "service/lines.h"
#include "service/reign.h"

/* The ledger is sized for more than the sessions at start: for what cools, and
 * for a reload that raises max-sessions. It is not reserved. */
#define LEDGER_FACTOR     4
#define LEDGER_LEASES_MIN (1u << 18)

struct master {
	const char *path;
	struct loop loop;
	struct log log;
	struct event signals[4];
	struct event drain_end;
	struct shared *shared;
	void *ledger_memory, *quota_memory;
	size_t ledger_bytes, quota_bytes;
	struct names *names;
	struct reign_base base;
	struct family family;
	struct crew crew;
	struct keeper keeper;
	uint64_t started_ms;
	struct reign *reign;
	bool announced; /* READY=1 was said once */
	bool reloading, reload_waits;
	bool stopping;
	int status;
};

static const int signal_numbers[] = { SIGHUP, SIGTERM, SIGINT, SIGCHLD };

/* The last that can fail. From here on the workers' copies of the old sockets
 * may go. */
static int
put_in_force(struct master *m, struct reign *r, FILE *errors)
{
	int error = crew_prepare(&m->crew, r->workers);

	if (error != 0) {
		fprintf(errors, "workers cannot be started: %s\n",
		    error == -ENOSPC ? "too many old ones are draining"
				     : strerror(-error));
		return error;
	}
	return reign_put_pools(&m->base, r, errors);
}

static void
start_observer(struct master *m, struct reign *r)
{
	r->observer = (struct observer_setup){ .config = r->snapshot.config,
		.log = &m->log,
		.ledger = m->base.ledger,
		.shared = m->shared,
		.names = m->names,
		.pool_names = (const char(*)[POOL_NAME_MAX + 1]) r->pool_names,
		.pools = r->pools,
		.sockets = &r->sockets,
		.listener = r->control.fd,
		.started_ms = m->started_ms,
		.max_sessions = r->order.max_sessions,
		.descriptors = m->base.descriptors,
		.slots = m->base.slots,
		.master = getpid() };
	keeper_start(&m->keeper, &r->observer, &r->identity);
}

static void
start_children(struct master *m, struct reign *r)
{
	r->order.config = r->snapshot.config;
	r->order.sockets = &r->sockets;
	r->order.pools = r->pools;
	r->order.identity = &r->identity;
	r->order.control_socket = r->control.fd;
	r->order.tw_reuse = r->snapshot.host.tw_reuse;
	ledger_set_reuse_delay(
	    m->base.ledger, (uint64_t)r->snapshot.host.tw_reuse_ms);
	m->log.level = r->snapshot.config->log_level;
	m->reign = r;
	memcpy(m->base.pool_names, r->pool_names, sizeof(m->base.pool_names));
	m->base.slots = reign_slots(&m->base, r);
	crew_start(&m->crew, &r->order, m->base.slots);
	start_observer(m, r);
}

static void
log_identity(struct master *m, const struct reign *r)
{
	if (r->identity.unwanted)
		log_event(&m->log, LOG_LEVEL_WARNING, "workers_are_root",
		    "this root may not become another user, so the workers "
		    "stay root; start Fourfold as another user, or with "
		    "CAP_SETUID and CAP_SETGID");
}

static void
log_listening(struct master *m, const struct reign *r)
{
	for (size_t i = 0; i < r->sockets.count; i++) {
		const struct endpoint *e = &r->sockets.endpoints[i];

		log_begin(&m->log, LOG_LEVEL_INFO, "listening");
		log_text(&m->log, "listen",
		    r->snapshot.config->listens[e->listen].name);
		if (e->path[0] != '\0')
			log_format(&m->log, "address", "unix:%s", e->path);
		else
			log_addr(&m->log, "address", &e->actual);
		log_end(&m->log);
	}
}

/* ---- start ---- */

static void *
map_shared(const char *name, size_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	void *memory = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)bytes) == 0)
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	return memory == MAP_FAILED ? NULL : memory;
}

static int
make_ledger(struct master *m, uint64_t sessions)
{
	uint8_t key[LEDGER_KEY_BYTES];
	uint64_t leases = sessions * LEDGER_FACTOR;

	if (leases < LEDGER_LEASES_MIN)
		leases = LEDGER_LEASES_MIN;
	if (leases > UINT32_MAX / 4)
		leases = UINT32_MAX / 4;
	m->ledger_bytes = ledger_bytes((uint32_t)leases, (uint32_t)leases);
	m->ledger_memory = map_shared("fourfold-ledger", m->ledger_bytes);
	if (m->ledger_memory == NULL ||
	    getrandom(key, sizeof(key), 0) != sizeof(key))
		return -ENOMEM;
	return ledger_init(m->ledger_memory, (uint32_t)leases, (uint32_t)leases,
	    key, &m->base.ledger);
}

/* As many clients and users as there may be sessions. */
static int
make_quota(struct master *m, uint64_t sessions)
{
	uint8_t key[QUOTA_KEY_BYTES];
	/* A client and a user for each; a reload may raise max-sessions. */
	uint64_t subjects = 2 * LEDGER_FACTOR * sessions;

	if (subjects > UINT32_MAX / 4)
		subjects = UINT32_MAX / 4;
	m->quota_bytes = quota_bytes((uint32_t)subjects);
	m->quota_memory = map_shared("fourfold-quota", m->quota_bytes);
	if (m->quota_memory == NULL ||
	    getrandom(key, sizeof(key), 0) != sizeof(key))
		return -ENOMEM;
	return quota_init(
	    m->quota_memory, (uint32_t)subjects, key, &m->crew.quota);
}

static int
fail_start(struct master *m, struct lines *errors, int status)
{
	lines_log(errors, &m->log, LOG_LEVEL_ERROR, "start_failed", "reason");
	(void)log_flush(&m->log);
	return status;
}

/* Sizes of the shared memory come from the first configuration. */
static int
start(struct master *m)
{
	struct reign *r = calloc(1, sizeof(*r));
	struct lines errors;
	int error;

	must(r != NULL);
	lines_open(&errors);
	if (snapshot_load(m->path, errors.file, &r->snapshot) != 0) {
		free(r);
		return fail_start(m, &errors, 2);
	}
	m->log.level = r->snapshot.config->log_level;
	error = reign_size(&m->base, r, errors.file);
	if (error == 0)
		error = make_ledger(m, r->order.max_sessions);
	if (error == 0)
		error = make_quota(m, r->order.max_sessions);
	m->crew.ledger = m->base.ledger;
	if (error == 0)
		error = reign_prepare(&m->base, r, m->reign, errors.file);
	if (error == 0) {
		error = put_in_force(m, r, errors.file);
		if (error != 0)
			reign_abandon(r, NULL);
	}
	if (error != 0) {
		fflush(errors.file);
		if (errors.size == 0)
			fprintf(errors.file, "%s\n", strerror(-error));
		reign_free(r);
		return fail_start(m, &errors, error == -EINVAL ? 2 : 1);
	}
	lines_log(&errors, &m->log, LOG_LEVEL_WARNING, "start_warning", "msg");
	log_identity(m, r);
	start_children(m, r);
	return 0;
}

/* ---- reload ---- */

static void
reload_failed(struct master *m, struct reign *r, struct lines *errors)
{
	lines_log(errors, &m->log, LOG_LEVEL_ERROR, "reload_failed", "reason");
	reign_free(r);
	m->reloading = false;
	sd_notify(0, "READY=1");
}

static void
reload(struct master *m)
{
	struct reign *r = calloc(1, sizeof(*r));
	struct reign *old;
	struct lines errors;
	struct timespec ts;

	must(r != NULL);
	m->reloading = true;
	m->base.now_ms = loop_now(&m->loop);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	log_event(&m->log, LOG_LEVEL_INFO, "reloading", "%s",
	    m->path != NULL ? m->path : "built-in defaults");
	lines_open(&errors);
	if (snapshot_load(m->path, errors.file, &r->snapshot) != 0) {
		reload_failed(m, r, &errors);
		return;
	}
	if (reign_prepare(&m->base, r, m->reign, errors.file) != 0) {
		reload_failed(m, r, &errors);
		return;
	}
	if (put_in_force(m, r, errors.file) != 0) {
		struct lines ignored;

		/* The pools of before, which fitted. */
		lines_open(&ignored);
		must(reign_put_pools(&m->base, m->reign, ignored.file) == 0);
		fclose(ignored.file);
		free(ignored.text);
		reign_abandon(r, m->reign);
		reload_failed(m, r, &errors);
		return;
	}
	lines_log(&errors, &m->log, LOG_LEVEL_WARNING, "reload_warning", "msg");
	sockets_commit(&m->reign->sockets);
	control_close(&m->reign->control, &r->control);
	old = m->reign;
	start_children(m, r);
	reign_free(old);
}

static void
on_slot_ready(unsigned slot, void *arg)
{
	struct master *m = arg;
	int error =
	    sockets_listen(&m->reign->sockets, m->reign->snapshot.config, slot);

	if (error != 0 && !m->stopping)
		log_event(&m->log, LOG_LEVEL_ERROR, "listen_failed", "%s",
		    strerror(-error));
}

static void
on_crew_ready(void *arg)
{
	struct master *m = arg;

	log_listening(m, m->reign);
	log_begin(&m->log, LOG_LEVEL_INFO, m->announced ? "reloaded" : "ready");
	log_number(&m->log, "workers", m->reign->workers);
	log_number(&m->log, "max_sessions", m->reign->order.max_sessions);
	log_number(&m->log, "pid", (uint64_t)getpid());
	log_end(&m->log);
	(void)log_flush(&m->log);
	m->announced = true;
	m->reloading = false;
	sd_notify(0, "READY=1");
	if (m->reload_waits && !m->stopping) {
		m->reload_waits = false;
		reload(m);
	}
}

/* The old workers go on, and the next file may mend it. */
static void
reload_stalled(struct master *m)
{
	if (!m->reloading)
		return;
	log_event(&m->log, LOG_LEVEL_ERROR, "reload_failed",
	    "a new worker ended before it was ready; the old workers go on, "
	    "and "
	    "new ones are tried");
	m->reloading = false;
	sd_notify(0, "READY=1");
	if (m->reload_waits) {
		m->reload_waits = false;
		reload(m);
	}
}

/* ---- stop ---- */

static void
on_crew_failure(void *arg)
{
	struct master *m = arg;

	if (m->stopping)
		return;
	if (m->announced) {
		reload_stalled(m);
		return;
	}
	log_event(&m->log, LOG_LEVEL_ERROR, "start_failed",
	    "a worker ended before it was ready");
	m->status = 1;
	m->stopping = true;
	crew_stop(&m->crew, true);
}

/* Clients are refused from now on, and another instance may take over. */
static void
on_crew_closed(void *arg)
{
	struct master *m = arg;

	sockets_close(&m->reign->sockets, true);
}

/* The observer looks on until the last session has ended. */
static void
on_crew_empty(void *arg)
{
	struct master *m = arg;

	if (!m->keeper.stopping)
		keeper_stop(&m->keeper);
}

static void
on_keeper_empty(void *arg)
{
	struct master *m = arg;

	loop_stop(&m->loop);
}

static void
on_kill(uint64_t session, uint64_t ticket, void *arg)
{
	struct master *m = arg;
	int error = crew_kill(&m->crew, session, ticket);

	if (error != 0)
		keeper_answer(&m->keeper, ticket, error);
}

static void
on_crew_killed(uint64_t ticket, int error, void *arg)
{
	struct master *m = arg;

	keeper_answer(&m->keeper, ticket, error);
}

static void
on_drain_end(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;

	(void)fd;
	(void)what;
	crew_stop(&m->crew, true);
}

static uint64_t
count_sessions(const struct master *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(m->shared->stats); i++)
		n += stats_get(&m->shared->stats[i].sessions);
	return n;
}

static void
stop(struct master *m)
{
	uint64_t drain_ms = m->reign->snapshot.config->drain_ms;
	struct timeval drain = { (time_t)(drain_ms / 1000),
		(suseconds_t)(drain_ms % 1000 * 1000) };
	bool again = m->stopping;

	if (!again) {
		sd_notify(0, "STOPPING=1");
		log_begin(&m->log, LOG_LEVEL_INFO, "stopping");
		log_number(&m->log, "sessions", count_sessions(m));
		log_number(&m->log, "drain_ms", drain_ms);
		log_end(&m->log);
		m->stopping = true;
		event_add(&m->drain_end, &drain);
	}
	crew_stop(&m->crew, again);
}

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
	struct master *m = arg;

	(void)what;
	if (number == SIGCHLD) {
		family_reap(&m->family);
	} else if (number != SIGHUP) {
		stop(m);
	} else if (!m->stopping) {
		/* One at a time; the one that waits reads the newest file. */
		if (m->reloading || !m->announced)
			m->reload_waits = true;
		else
			reload(m);
	}
}

static void
log_counters(struct master *m)
{
	struct log *log = &m->log;
	char key[64];

	log_begin(log, LOG_LEVEL_INFO, "counters");
	for (int c = 0; c < STATS_COUNT; c++) {
		uint64_t sum = 0;

		for (size_t i = 0; i < ARRAY_LEN(m->shared->stats); i++)
			sum += stats_get(&m->shared->stats[i].counters[c]);
		if (sum != 0)
			log_number(
			    log, stats_label((enum stats_counter)c), sum);
	}
	for (int c = 0; c < CLOSE_REASON_COUNT; c++) {
		uint64_t sum = 0;

		for (size_t i = 0; i < ARRAY_LEN(m->shared->stats); i++)
			sum += stats_get(&m->shared->stats[i].closed[c]);
		snprintf(key, sizeof(key), "closed_%s",
		    close_row((enum close_reason)c)->label);
		if (sum != 0)
			log_number(log, key, sum);
	}
	log_end(log);
}

/* ---- life ---- */

static void
on_pass(void *arg)
{
	struct master *m = arg;

	if (!log_flush(&m->log))
		loop_come_back(&m->loop);
}

/* Where whoever gave us the descriptor writes to the same file, it goes on
 * behind our lines, not over them. */
static void
append_to_file(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags != -1 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		(void)fcntl(fd, F_SETFL, flags | O_APPEND);
}

/* A log that blocks must not stop the workers: our own description of the same
 * file, so that the flag does not reach whoever gave us the descriptor. Of a
 * socket there is none to be had; log sees to that. */
static int
own_stderr(void)
{
	int fd = open("/proc/self/fd/2",
	    O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? STDERR_FILENO : fd;
}

static int
init(struct master *m, const char *path)
{
	int fd = own_stderr();

	append_to_file(STDERR_FILENO);
	*m = (struct master){ .path = path };
	log_init(&m->log, fd, LOG_LEVEL_INFO,
	    log_style_of(STDERR_FILENO, getenv("JOURNAL_STREAM")));
	signal(SIGPIPE, SIG_IGN);
	/* Without a meaning, and what others take them for ends no session. */
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	m->base.log = &m->log;
	m->base.descriptors = privileges_raise_descriptors();
	m->shared = map_shared("fourfold-shared", sizeof(*m->shared));
	m->names = map_shared("fourfold-names", sizeof(*m->names));
	m->base.names = m->names;
	if (m->shared == NULL || m->names == NULL || loop_init(&m->loop) != 0)
		return -ENOMEM;
	m->started_ms = loop_now(&m->loop);
	m->loop.on_pass = on_pass;
	m->loop.on_pass_arg = m;
	event_assign(&m->drain_end, m->loop.base, -1, 0, on_drain_end, m);
	for (size_t i = 0; i < ARRAY_LEN(signal_numbers); i++) {
		event_assign(&m->signals[i], m->loop.base, signal_numbers[i],
		    EV_SIGNAL | EV_PERSIST, on_signal, m);
		event_add(&m->signals[i], NULL);
	}
	family_init(&m->family, &m->loop, &m->log);
	m->crew = (struct crew){ .family = &m->family,
		.shared = m->shared,
		.on_slot_ready = on_slot_ready,
		.on_ready = on_crew_ready,
		.on_failure = on_crew_failure,
		.on_closed = on_crew_closed,
		.on_empty = on_crew_empty,
		.on_killed = on_crew_killed,
		.arg = m };
	m->keeper = (struct keeper){ .family = &m->family,
		.on_kill = on_kill,
		.on_empty = on_keeper_empty,
		.arg = m };
	keeper_init(&m->keeper);
	return crew_init(&m->crew);
}

static void
fini(struct master *m)
{
	if (m->family.loop != NULL) {
		crew_fini(&m->crew);
		keeper_fini(&m->keeper);
	}
	if (m->reign != NULL) {
		sockets_close(&m->reign->sockets, true);
		control_close(&m->reign->control, NULL);
	}
	reign_free(m->reign);
	if (m->loop.base != NULL) {
		for (size_t i = 0; i < ARRAY_LEN(signal_numbers); i++)
			event_del(&m->signals[i]);
		event_del(&m->drain_end);
	}
	loop_fini(&m->loop);
	if (m->ledger_memory != NULL)
		munmap(m->ledger_memory, m->ledger_bytes);
	if (m->quota_memory != NULL)
		munmap(m->quota_memory, m->quota_bytes);
	if (m->names != NULL)
		munmap(m->names, sizeof(*m->names));
	if (m->shared != NULL)
		munmap(m->shared, sizeof(*m->shared));
	(void)log_flush(&m->log);
	log_fini(&m->log);
	if (m->log.fd != STDERR_FILENO)
		close(m->log.fd);
}

int
master_run(const char *path)
{
	struct master *m = malloc(sizeof(*m));
	int status;

	must(m != NULL);
	if (init(m, path) != 0) {
		log_event(
		    &m->log, LOG_LEVEL_ERROR, "start_failed", "out of memory");
		fini(m);
		free(m);
		return 1;
	}
	/* The ledger comes with the sizes of the first configuration. */
	status = start(m);
	if (status == 0) {
		loop_run(&m->loop);
		status = m->status;
		log_counters(m);
		log_event(&m->log, LOG_LEVEL_INFO, "stopped", "bye");
	}
	fini(m);
	free(m);
	return status;
}
