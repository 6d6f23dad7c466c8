/* SPDX-License-Identifier: ISC */
#include "service/master.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "service/crew.h"
#include "service/snapshot.h"

/* Descriptors of a worker that are not sessions': libraries, logs, lookups. */
#define SPARE_DESCRIPTORS 128

/* The ledger is sized for more than the sessions at start: for what cools, and
 * for a reload that raises max-sessions. It is not reserved. */
#define LEDGER_FACTOR     4
#define LEDGER_LEASES_MIN (1u << 18)

/* What one configuration put in force; two of them during a reload. */
struct reign {
	struct snapshot snapshot;
	struct sockets sockets;
	struct identity identity;
	unsigned pools[LEDGER_POOLS_MAX]; /* ledger's id of each egress */
	unsigned workers;
	struct crew_order order;
};

struct master {
	const char *path;
	struct loop loop;
	struct log log;
	struct event signals[4];
	struct event drain_end;
	struct shared *shared;
	void *ledger_memory;
	size_t ledger_bytes;
	struct ledger *ledger;
	char pool_names[LEDGER_POOLS_MAX][POOL_NAME_MAX + 1]; /* by id */
	struct crew crew;
	struct reign *reign;
	uint64_t descriptors;
	bool announced; /* READY=1 was said once */
	bool reloading, reload_waits;
	bool stopping;
	int status;
};

static const int signal_numbers[] = { SIGHUP, SIGTERM, SIGINT, SIGCHLD };

/* ---- lines of a FILE into the log ---- */

struct lines {
	char *text;
	size_t size;
	FILE *file;
};

static void
lines_open(struct lines *l)
{
	*l = (struct lines){ 0 };
	l->file = open_memstream(&l->text, &l->size);
	must(l->file != NULL);
}

/* Logs each line as one event and closes. */
static void
lines_log(struct lines *l, struct log *log, enum log_level level,
    const char *event, const char *key)
{
	char *rest, *line;

	fclose(l->file);
	rest = l->text;
	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
		if (*line == '\0')
			continue;
		log_begin(log, level, event);
		log_text(log, key, line);
		log_end(log);
	}
	free(l->text);
}

/* ---- sizes ---- */

static unsigned
processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > SLOTS_MAX ? SLOTS_MAX : (unsigned)n;
}

static uint64_t
endpoints_of(const struct config *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->listen_count; i++)
		for (size_t a = 0; a < c->listens[i].address_count; a++) {
			const struct config_address *at =
			    &c->listens[i].addresses[a];

			n += at->ports.last - at->ports.first + 1u;
		}
	return n;
}

/* Two descriptors a session; each worker also has the sockets of every slot
 * and an eventfd for each. */
static uint64_t
sessions_of_worker(
    const struct master *m, const struct config *c, unsigned workers)
{
	uint64_t others = SPARE_DESCRIPTORS + (endpoints_of(c) + 1) * workers;

	return m->descriptors > others + 2 ? (m->descriptors - others) / 2 : 0;
}

/* As many workers as processors, or as the descriptors of max-sessions ask
 * for. */
static int
size_reign(const struct master *m, struct reign *r, FILE *errors)
{
	const struct config *c = r->snapshot.config;
	unsigned workers = c->workers != 0 ? c->workers : processors();
	uint64_t here;

	if (workers > SLOTS_MAX)
		workers = SLOTS_MAX;
	here = sessions_of_worker(m, c, workers);
	while (c->workers == 0 && here * workers < c->max_sessions &&
	       workers < SLOTS_MAX) {
		workers++;
		here = sessions_of_worker(m, c, workers);
	}
	if (here == 0) {
		fprintf(errors,
		    "a process may have %ju descriptors only, too few for %u "
		    "workers: raise LimitNOFILE, or lower workers\n",
		    (uintmax_t)m->descriptors, workers);
		return -EMFILE;
	}
	if (here * workers < c->max_sessions) {
		fprintf(errors,
		    "max-sessions = %u needs two descriptors a session, more "
		    "than %u workers may have (%ju each): raise LimitNOFILE, "
		    "or "
		    "set workers = auto\n",
		    c->max_sessions, workers, (uintmax_t)m->descriptors);
		return -EMFILE;
	}
	r->workers = workers;
	r->order.max_sessions =
	    c->max_sessions != 0 ? c->max_sessions : here * workers;
	return 0;
}

/* ---- making a reign ---- */

static void
reign_free(struct reign *r)
{
	if (r == NULL)
		return;
	snapshot_fini(&r->snapshot);
	free(r);
}

static size_t
own_ports(const struct sockets *s, uint16_t *ports, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count && n < max; i++)
		if (s->endpoints[i].actual.family != ADDR_NONE)
			ports[n++] = s->endpoints[i].actual.port;
	return n;
}

static int
make_pools(struct master *m, struct reign *r, FILE *errors)
{
	size_t count = r->sockets.count;
	uint16_t *ports = calloc(count + 1, sizeof(*ports));
	struct lines warnings;
	int error;

	if (ports == NULL)
		return -ENOMEM;
	lines_open(&warnings);
	error = snapshot_make_pools(&r->snapshot, ports,
	    own_ports(&r->sockets, ports, count), errors, warnings.file);
	lines_log(
	    &warnings, &m->log, LOG_LEVEL_WARNING, "bind_fallback", "msg");
	free(ports);
	return error;
}

static int
pool_id(struct master *m, const char *name, unsigned *out)
{
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		if (m->pool_names[id][0] != '\0' &&
		    strcmp(m->pool_names[id], name) != 0)
			continue;
		*out = id;
		return 0;
	}
	return -ENOSPC;
}

/* A port in use is bound one way; the other way would fail beside it. */
static bool
changes_bind_in_use(
    struct master *m, unsigned id, const struct pool *next, FILE *errors)
{
	uint64_t now_ms = loop_now(&m->loop);
	struct pool now;
	bool found = false;

	if (!ledger_get_pool(m->ledger, id, &now))
		return false;
	for (unsigned a = 0; a < now.range_count && !found; a++) {
		for (unsigned b = 0; b < next->range_count && !found; b++) {
			const struct pool_range *x = &now.ranges[a];
			const struct pool_range *y = &next->ranges[b];
			uint16_t first =
			    x->first > y->first ? x->first : y->first;
			uint16_t last = x->last < y->last ? x->last : y->last;

			found = first <= last && x->bind != y->bind &&
				ledger_uses_ports(
				    m->ledger, id, first, last, now_ms);
			if (found)
				fprintf(errors,
				    "[egress %s] ports %u-%u are in use and "
				    "would be bound another way: wait until "
				    "their sessions have ended, or restart\n",
				    next->name, first, last);
		}
	}
	return found;
}

static int
assign_pools(struct master *m, struct reign *r, FILE *errors)
{
	for (size_t i = 0; i < r->snapshot.config->egress_count; i++) {
		const struct pool *pool = &r->snapshot.pools[i];

		if (pool_id(m, pool->name, &r->pools[i]) != 0) {
			fprintf(errors,
			    "[egress %s] there have been %d names of pools "
			    "since the start; restart to add more\n",
			    pool->name, LEDGER_POOLS_MAX);
			return -ENOSPC;
		}
		if (changes_bind_in_use(m, r->pools[i], pool, errors))
			return -EBUSY;
		/* Reserved here, so that the next one gets another id. */
		strcpy_bounded(
		    m->pool_names[r->pools[i]], POOL_NAME_MAX + 1, pool->name);
	}
	return 0;
}

/* Slots of sockets are never taken away from the workers that have them. */
static unsigned
slots_for(const struct master *m, const struct reign *r)
{
	return r->workers > m->crew.slots ? r->workers : m->crew.slots;
}

/* The whole of a reload that can fail, without changing what is in force. */
static int
prepare(struct master *m, struct reign *r, FILE *errors)
{
	struct sockets *old = m->reign != NULL ? &m->reign->sockets : NULL;
	char why[512];
	int error = size_reign(m, r, errors);

	if (error != 0)
		return error;
	if (privileges_find(r->snapshot.config->user, &r->identity) != 0) {
		fprintf(errors,
		    "user = %s: no such user, or not started as "
		    "root\n",
		    r->snapshot.config->user);
		return -EINVAL;
	}
	error = sockets_open(&r->sockets, r->snapshot.config, slots_for(m, r),
	    old, why, sizeof(why));
	if (error != 0) {
		fprintf(errors, "%s\n", why);
		return error;
	}
	error = make_pools(m, r, errors);
	if (error == 0)
		error = assign_pools(m, r, errors);
	if (error != 0)
		sockets_abandon(&r->sockets, old);
	return error;
}

static int
put_pools(struct master *m, struct reign *r, FILE *errors)
{
	for (size_t i = 0; i < r->snapshot.config->egress_count; i++) {
		const struct pool *pool = &r->snapshot.pools[i];
		struct pool now;
		int error = 0;

		/* What has not changed keeps its entries as they are. */
		if (!ledger_get_pool(m->ledger, r->pools[i], &now) ||
		    !pool_equal(&now, pool))
			error = ledger_set_pool(m->ledger, r->pools[i], pool);

		if (error != 0) {
			fprintf(errors,
			    "[egress %s] the table of source addresses is "
			    "full: restart\n",
			    pool->name);
			return error;
		}
	}
	return 0;
}

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
	return put_pools(m, r, errors);
}

static void
start_workers(struct master *m, struct reign *r)
{
	r->order.config = r->snapshot.config;
	r->order.sockets = &r->sockets;
	r->order.pools = r->pools;
	r->order.identity = &r->identity;
	r->order.tw_reuse = r->snapshot.host.tw_reuse;
	m->log.level = r->snapshot.config->log_level;
	m->reign = r;
	crew_start(&m->crew, &r->order, slots_for(m, r));
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
	    key, &m->ledger);
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
	error = size_reign(m, r, errors.file);
	if (error == 0)
		error = make_ledger(m, r->order.max_sessions);
	m->crew.ledger = m->ledger;
	if (error == 0)
		error = prepare(m, r, errors.file);
	if (error == 0) {
		error = put_in_force(m, r, errors.file);
		if (error != 0)
			sockets_abandon(&r->sockets, NULL);
	}
	if (error != 0) {
		fflush(errors.file);
		if (errors.size == 0)
			fprintf(errors.file, "%s\n", strerror(-error));
		reign_free(r);
		return fail_start(m, &errors, error == -EINVAL ? 2 : 1);
	}
	lines_log(&errors, &m->log, LOG_LEVEL_ERROR, "start_failed", "reason");
	start_workers(m, r);
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
	if (prepare(m, r, errors.file) != 0) {
		reload_failed(m, r, &errors);
		return;
	}
	if (put_in_force(m, r, errors.file) != 0) {
		struct lines ignored;

		/* The pools of before, which fitted. */
		lines_open(&ignored);
		must(put_pools(m, m->reign, ignored.file) == 0);
		fclose(ignored.file);
		free(ignored.text);
		sockets_abandon(&r->sockets, &m->reign->sockets);
		reload_failed(m, r, &errors);
		return;
	}
	lines_log(&errors, &m->log, LOG_LEVEL_ERROR, "reload_failed", "reason");
	sockets_commit(&m->reign->sockets);
	old = m->reign;
	start_workers(m, r);
	reign_free(old);
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

static void
on_crew_empty(void *arg)
{
	struct master *m = arg;

	loop_stop(&m->loop);
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
		crew_reap(&m->crew);
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

	*m = (struct master){ .path = path };
	log_init(&m->log, fd, LOG_LEVEL_INFO,
	    log_style_of(STDERR_FILENO, getenv("JOURNAL_STREAM")));
	signal(SIGPIPE, SIG_IGN);
	m->descriptors = privileges_raise_descriptors();
	m->shared = map_shared("fourfold-shared", sizeof(*m->shared));
	if (m->shared == NULL || loop_init(&m->loop) != 0)
		return -ENOMEM;
	m->loop.on_pass = on_pass;
	m->loop.on_pass_arg = m;
	event_assign(&m->drain_end, m->loop.base, -1, 0, on_drain_end, m);
	for (size_t i = 0; i < ARRAY_LEN(signal_numbers); i++) {
		event_assign(&m->signals[i], m->loop.base, signal_numbers[i],
		    EV_SIGNAL | EV_PERSIST, on_signal, m);
		event_add(&m->signals[i], NULL);
	}
	m->crew = (struct crew){ .loop = &m->loop,
		.log = &m->log,
		.shared = m->shared,
		.on_ready = on_crew_ready,
		.on_failure = on_crew_failure,
		.on_closed = on_crew_closed,
		.on_empty = on_crew_empty,
		.arg = m };
	return crew_init(&m->crew);
}

static void
fini(struct master *m)
{
	crew_fini(&m->crew);
	if (m->reign != NULL)
		sockets_close(&m->reign->sockets, true);
	reign_free(m->reign);
	if (m->loop.base != NULL) {
		for (size_t i = 0; i < ARRAY_LEN(signal_numbers); i++)
			event_del(&m->signals[i]);
		event_del(&m->drain_end);
	}
	loop_fini(&m->loop);
	if (m->ledger_memory != NULL)
		munmap(m->ledger_memory, m->ledger_bytes);
	if (m->shared != NULL)
		munmap(m->shared, sizeof(*m->shared));
	(void)log_flush(&m->log);
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
