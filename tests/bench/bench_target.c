/* SPDX-License-Identifier: ISC */
#include "bench_target.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_net.h"

#define SOURCE_BYTES (4 * 1024 * 1024)
#define LOW_WATER    (256 * 1024)
#define ECHO_BYTES   4096
/* A process that has so many accepts no more: it has 20,000 descriptors on some
 * hosts, and a backlog may still be there. */
#define ENDS_ENOUGH 15000
#define SLACK       1000

struct process {
	int set, source;
	_Atomic uint64_t *taken;
	struct end *listeners[SERVICE_COUNT];
	unsigned ends; /* accepted */
	bool listens;
};

/* A listener, or what it has accepted. */
struct end {
	struct side side;
	struct process *process;
	enum service service;
	off_t at; /* in the source */
};

static void
listen_or_not(struct process *p, bool on)
{
	for (unsigned i = 0; i < SERVICE_COUNT; i++) {
		struct side *side =
		    p->listeners[i] == NULL ? NULL : &p->listeners[i]->side;

		if (side != NULL && on)
			net_watch_listener(p->set, side);
		else if (side != NULL)
			net_unwatch(p->set, side);
	}
	p->listens = on;
}

int
flow_open_source(void)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);
	char *bytes;

	if (fd < 0 || ftruncate(fd, SOURCE_BYTES) != 0)
		net_die("memfd", errno);
	bytes =
	    mmap(NULL, SOURCE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		net_die("mmap", errno);
	for (size_t i = 0; i < SOURCE_BYTES; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	munmap(bytes, SOURCE_BYTES);
	return fd;
}

bool
flow_send(int fd, int source, off_t *at)
{
	for (;;) {
		ssize_t n;

		if (*at == SOURCE_BYTES)
			*at = 0;
		n = sendfile(fd, source, at, (size_t)(SOURCE_BYTES - *at));
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
	}
}

bool
flow_take(int fd, uint64_t *taken)
{
	for (;;) {
		ssize_t n = recv(fd, NULL, FLOW_STEP, MSG_TRUNC);

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		*taken += (uint64_t)n;
	}
}

void
flow_prepare_sink(int fd)
{
	int bytes = LOW_WATER;

	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

/* The messages are small: what does not go out at once is an error. */
static bool
echo(int fd)
{
	char buffer[ECHO_BYTES];

	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n)
			return false;
		/* It was all, unless an end is behind it, which has an event
		 * of its own. */
		if (n < ECHO_BYTES)
			return true;
	}
}

static bool
take(struct end *e)
{
	uint64_t taken = 0;
	bool open = flow_take(e->side.fd, &taken);

	atomic_fetch_add(e->process->taken, taken);
	return open;
}

static bool
serve(struct end *e, uint32_t events)
{
	bool has_bytes = (events & EPOLLIN) != 0;
	bool open = (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) == 0;

	if (e->service == SERVICE_ECHO)
		return (!has_bytes || echo(e->side.fd)) && open;
	if (e->service != SERVICE_SOURCE && has_bytes)
		open = take(e) && open;
	if (e->service != SERVICE_SINK && open && (events & EPOLLOUT) != 0)
		open = flow_send(e->side.fd, e->process->source, &e->at);
	return open;
}

static void
on_ready(struct side *side, uint32_t events)
{
	struct end *e = container_of(side, struct end, side);

	struct process *p = e->process;

	if (serve(e, events))
		return;
	close(side->fd);
	free(e);
	p->ends--;
	if (!p->listens && p->ends < ENDS_ENOUGH - SLACK)
		listen_or_not(p, true);
}

static struct end *
new_end(struct process *p, enum service service)
{
	struct end *e = calloc(1, sizeof(*e));

	if (e == NULL)
		net_die("a target's memory", ENOMEM);
	e->process = p;
	e->service = service;
	return e;
}

static void
on_acceptable(struct side *side, uint32_t events)
{
	struct end *listener = container_of(side, struct end, side);
	struct process *p = listener->process;
	int fd;

	(void)events;
	while ((fd = accept4(
		    side->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct end *e = new_end(p, listener->service);

		e->side.ready = on_ready;
		if (e->service == SERVICE_SINK || e->service == SERVICE_BOTH)
			flow_prepare_sink(fd);
		net_watch(p->set, &e->side, fd);
		p->ends++;
	}
	/* Not before all is accepted: the others were not told of it. */
	if (p->listens && p->ends >= ENDS_ENOUGH)
		listen_or_not(p, false);
}

static void
run_process(const int *listeners, enum service first, enum service end,
    _Atomic uint64_t *taken)
{
	struct process p = { .set = net_open_set(),
		.source = flow_open_source(),
		.taken = taken };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = first; i < end; i++) {
		struct end *e = new_end(&p, (enum service)i);

		e->side.ready = on_acceptable;
		e->side.fd = listeners[i];
		p.listeners[i] = e;
	}
	listen_or_not(&p, true);
	for (;;)
		net_turn(p.set, -1);
}

static void
fork_process(struct targets *t, const int *listeners, enum service first,
    enum service end)
{
	unsigned i = t->count++;

	t->pids[i] = fork();
	if (t->pids[i] < 0)
		net_die("fork", errno);
	if (t->pids[i] == 0)
		run_process(listeners, first, end, &t->taken[i]);
}

void
targets_start(struct targets *t, uint16_t port, unsigned echoes)
{
	int listeners[SERVICE_COUNT];

	must(echoes < TARGET_PROCESSES_MAX);
	*t = (struct targets){ .port = port };
	t->taken = mmap(NULL, (echoes + 1) * sizeof(*t->taken),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t->taken == MAP_FAILED)
		net_die("mmap", errno);
	for (unsigned i = 0; i < SERVICE_COUNT; i++)
		listeners[i] = net_listen((uint16_t)(port + i));
	for (unsigned i = 0; i < echoes; i++)
		fork_process(t, listeners, SERVICE_ECHO, SERVICE_SINK);
	fork_process(t, listeners, SERVICE_SINK, SERVICE_COUNT);
	for (unsigned i = 0; i < SERVICE_COUNT; i++)
		close(listeners[i]);
}

void
targets_stop(struct targets *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		kill(t->pids[i], SIGKILL);
		waitpid(t->pids[i], NULL, 0);
	}
}

uint64_t
targets_taken(const struct targets *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->count; i++)
		sum += atomic_load(&t->taken[i]);
	return sum;
}
