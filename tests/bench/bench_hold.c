/* SPDX-License-Identifier: ISC */
/* Many sessions that do nothing: what they take, and what they cost others. */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define PAYLOAD_BYTES 64
/* One process has not descriptors for all. */
#define HOLDER_SESSIONS 18000u
#define HOLDERS_MAX     16u
#define HOLD_LIMIT_US   300000000 /* for all of them to stand */
#define WINDOW          64u       /* on their way at once, of a process */

struct holder;

struct held {
	struct session session;
	struct holder *holder;
	unsigned got;
};

struct holder {
	int set;
	unsigned held, opening;
	struct held *all;
};

static void
on_failed(struct session *s, int error)
{
	(void)s;
	net_die("a session that is held", error);
}

static void
on_echo(struct side *side, uint32_t events)
{
	struct held *h = container_of(
	    container_of(side, struct session, side), struct held, session);
	uint8_t bytes[PAYLOAD_BYTES];
	ssize_t n = recv(side->fd, bytes, sizeof(bytes), 0);

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		net_die("a session that is held", n < 0 ? errno : ECONNABORTED);
	h->got += (unsigned)n;
	if (h->got == PAYLOAD_BYTES) {
		h->holder->held++;
		h->holder->opening--;
	}
}

static void
on_opened(struct session *s)
{
	static const uint8_t bytes[PAYLOAD_BYTES] = "fourfold";

	s->side.ready = on_echo;
	if (send(s->side.fd, bytes, sizeof(bytes), MSG_NOSIGNAL) !=
	    sizeof(bytes))
		net_die("a session to hold", errno);
}

static void
open_one(struct holder *h, const struct options *o, unsigned i, unsigned number)
{
	struct held *one = &h->all[i];

	one->holder = h;
	one->session.opened = on_opened;
	one->session.failed = on_failed;
	h->opening++;
	session_open(
	    &one->session, h->set, &o->way, SERVICE_ECHO, number, true);
}

/* In a process of its own: opens them, says so, and holds them. */
static void
hold(const struct options *o, unsigned first, unsigned count, int ready)
{
	struct holder h = { .set = net_open_set(),
		.all = calloc(count, sizeof(*h.all)) };
	uint64_t deadline_us = net_now_us() + HOLD_LIMIT_US;
	unsigned begun = 0;

	if (h.all == NULL)
		net_die("memory", ENOMEM);
	while (h.held < count) {
		while (begun < count && h.opening < WINDOW) {
			open_one(&h, o, begun, first + begun);
			begun++;
		}
		net_turn(h.set, 50);
		if (net_now_us() > deadline_us)
			net_die("sessions to hold", ETIMEDOUT);
	}
	(void)!write(ready, "h", 1);
	for (;;)
		net_turn(h.set, -1);
}

struct holders {
	unsigned count;
	pid_t pids[HOLDERS_MAX];
};

/* Returns when all sessions stand. */
static void
holders_start(struct holders *h, const struct options *o, unsigned sessions)
{
	unsigned share = (sessions + HOLDER_SESSIONS - 1) / HOLDER_SESSIONS;
	unsigned first = 0;
	int ready[2];
	char byte;

	must(share <= HOLDERS_MAX);
	h->count = share;
	if (pipe(ready) != 0)
		net_die("pipe", errno);
	for (unsigned i = 0; i < h->count; i++) {
		unsigned count = (sessions - first) / (h->count - i);

		h->pids[i] = fork();
		if (h->pids[i] < 0)
			net_die("fork", errno);
		if (h->pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			hold(o, first, count, ready[1]);
		}
		first += count;
	}
	close(ready[1]);
	for (unsigned i = 0; i < h->count; i++)
		if (read(ready[0], &byte, 1) != 1)
			net_die("sessions to hold", ECONNABORTED);
	close(ready[0]);
}

static void
holders_stop(struct holders *h)
{
	for (unsigned i = 0; i < h->count; i++)
		bench_end_child(h->pids[i]);
}

static int64_t
bytes_a_session(const struct options *o, const struct bench_usage *before,
    const struct bench_usage *after)
{
	return ((int64_t)after->memory_bytes - (int64_t)before->memory_bytes) /
	       (int64_t)o->sessions;
}

void
bench_idle(const struct options *o)
{
	struct bench_usage before =
			       bench_look(o, BENCH_MEMORY | BENCH_DESCRIPTORS),
			   after;
	struct holders h;

	holders_start(&h, o, o->sessions);
	after = bench_look(o, BENCH_MEMORY | BENCH_DESCRIPTORS);
	printf("bytes_per_session=%" PRId64 " descriptors_per_session=%.2f"
	       " sessions=%u\n",
	    bytes_a_session(o, &before, &after),
	    (double)(after.descriptors - before.descriptors) / o->sessions,
	    o->sessions);
	holders_stop(&h);
}

static double
rate_of(const struct rate *r)
{
	return (double)r->sessions / (double)r->took_us;
}

void
bench_hold(const struct options *o)
{
	static struct rate alone, r;
	struct bench_usage before, after;
	uint64_t start_us, open_us;
	struct holders h;

	bench_rate(o, &alone);
	before = bench_look(o, BENCH_MEMORY);
	start_us = net_now_us();
	holders_start(&h, o, o->sessions);
	open_us = net_now_us() - start_us;
	after = bench_look(o, BENCH_MEMORY);
	bench_rate(o, &r);
	printf("held=%u opened_per_s=%" PRIu64 " bytes_per_session=%" PRId64
	       " sessions_per_s=%" PRIu64 " of_alone=%.2f"
	       " cpu_us_per_session=%.1f p99_us=%" PRIu64 " errors=%" PRIu64
	       " processes=%u\n",
	    o->sessions, o->sessions * UINT64_C(1000000) / open_us,
	    bytes_a_session(o, &before, &after),
	    r.sessions * 1000000 / r.took_us, rate_of(&r) / rate_of(&alone),
	    r.cpu_us, latency_at(&r.latencies, 990), r.errors, after.processes);
	holders_stop(&h);
}
