/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define PAYLOAD_BYTES 64
#define ERRORS_MAX    1000
#define STUCK_US      5000000 /* without a session done */

struct rates;

struct client {
	struct session session;
	struct rates *run;
	uint64_t began_us;
	unsigned got;
};

struct rates {
	const struct options *options;
	struct rate *out;
	int set;
	unsigned started;
	uint64_t done, done_at_us;
	int error; /* the last one */
	struct client *clients;
};

static void start(struct client *c);

static void
finish(struct client *c)
{
	struct rates *run = c->run;
	uint64_t now_us = net_now_us();

	run->done++;
	run->done_at_us = now_us;
	latency_add(&run->out->latencies, now_us - c->began_us);
	session_close(&c->session);
	start(c);
}

static void
on_failed(struct session *s, int error)
{
	struct client *c = container_of(s, struct client, session);

	c->run->error = error;
	c->run->out->errors++;
	if (c->run->out->errors > ERRORS_MAX) {
		fprintf(
		    stderr, "bench: error %d, %u times\n", error, ERRORS_MAX);
		exit(1);
	}
	start(c);
}

static void
on_echo(struct side *side, uint32_t events)
{
	struct session *s = container_of(side, struct session, side);
	struct client *c = container_of(s, struct client, session);
	uint8_t bytes[PAYLOAD_BYTES];
	ssize_t n;

	(void)events;
	n = recv(side->fd, bytes, sizeof(bytes) - c->got, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		session_close(s);
		on_failed(s, n < 0 ? errno : ECONNABORTED);
		return;
	}
	c->got += (unsigned)n;
	if (c->got == PAYLOAD_BYTES)
		finish(c);
}

static void
on_opened(struct session *s)
{
	static const uint8_t bytes[PAYLOAD_BYTES] = "fourfold";

	s->side.ready = on_echo;
	if (send(s->side.fd, bytes, sizeof(bytes), MSG_NOSIGNAL) !=
	    sizeof(bytes)) {
		session_close(s);
		on_failed(s, errno);
	}
}

static void
start(struct client *c)
{
	struct rates *run = c->run;

	c->session.opened = on_opened;
	c->session.failed = on_failed;
	c->got = 0;
	c->began_us = net_now_us();
	session_open(&c->session, run->set, &run->options->way, SERVICE_ECHO,
	    run->started++, true);
}

static void
run_until(struct rates *run, uint64_t end_us)
{
	uint64_t now_us;

	while ((now_us = net_now_us()) < end_us) {
		net_turn(run->set, 50);
		if (now_us > run->done_at_us + STUCK_US) {
			fprintf(stderr, "bench: no session is done; error %d\n",
			    run->error);
			exit(1);
		}
	}
}

void
bench_rate(const struct options *o, struct rate *out)
{
	struct rates run = { .options = o,
		.out = out,
		.set = net_open_set(),
		.done_at_us = net_now_us(),
		.clients = calloc(o->concurrent, sizeof(*run.clients)) };
	uint64_t start_us, warm;

	if (run.clients == NULL)
		net_die("memory", ENOMEM);
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < o->concurrent; i++) {
		run.clients[i].run = &run;
		start(&run.clients[i]);
	}
	run_until(&run, net_now_us() + WARM_UP_MS * 1000);
	struct bench_usage before = bench_look(o, BENCH_TIME);

	memset(&out->latencies, 0, sizeof(out->latencies));
	warm = run.done;
	start_us = net_now_us();
	run_until(&run, start_us + o->seconds * UINT64_C(1000000));
	out->took_us = net_now_us() - start_us;
	struct bench_usage after = bench_look(o, BENCH_TIME);

	out->sessions = run.done - warm;
	if (out->sessions > 0)
		out->cpu_us = (double)(after.cpu_us - before.cpu_us) /
			      (double)out->sessions;
	for (unsigned i = 0; i < o->concurrent; i++)
		session_close(&run.clients[i].session);
	close(run.set);
	free(run.clients);
}

void
bench_print_rate(const struct options *o)
{
	static struct rate r;

	bench_rate(o, &r);
	printf("sessions_per_s=%" PRIu64 " cpu_us_per_session=%.1f"
	       " p50_us=%" PRIu64 " p99_us=%" PRIu64 " sessions=%" PRIu64
	       " errors=%" PRIu64 "\n",
	    r.sessions * 1000000 / r.took_us, r.cpu_us,
	    latency_at(&r.latencies, 500), latency_at(&r.latencies, 990),
	    r.sessions, r.errors);
}
