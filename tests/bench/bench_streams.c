/* SPDX-License-Identifier: ISC */
/* Requests and answers, bulk streams, and both at once. */
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define REQUEST_BYTES  64
#define OPENING_US     20000000 /* for all streams to stand */
#define MIXED_REQUESTS 100
#define MIXED_STREAMS  8

struct streams;

struct stream {
	struct session session;
	struct streams *run;
	bool is_bulk;
	uint64_t sent_us; /* a request */
	unsigned got;     /* of its answer */
	off_t at;         /* in the source */
};

/* Everything that is open in this process. */
struct streams {
	int set, source;
	unsigned open, wanted;
	uint64_t requests;
	uint64_t taken; /* bytes that the clients of bulk streams got */
	struct latencies latencies;
	struct stream *all;
};

static void
on_failed(struct session *s, int error)
{
	(void)s;
	net_die("a stream has ended", error);
}

static void
ask(struct stream *s)
{
	static const uint8_t bytes[REQUEST_BYTES] = "fourfold";

	s->got = 0;
	s->sent_us = net_now_us();
	if (send(s->session.side.fd, bytes, sizeof(bytes), MSG_NOSIGNAL) !=
	    sizeof(bytes))
		net_die("a request", errno);
}

static struct stream *
stream_of(struct side *side)
{
	return container_of(
	    container_of(side, struct session, side), struct stream, session);
}

static void
on_answer(struct side *side, uint32_t events)
{
	struct stream *s = stream_of(side);
	uint8_t bytes[REQUEST_BYTES];
	ssize_t n = recv(side->fd, bytes, sizeof(bytes) - s->got, 0);

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		net_die("an answer", n < 0 ? errno : ECONNABORTED);
	s->got += (unsigned)n;
	if (s->got < REQUEST_BYTES)
		return;
	s->run->requests++;
	latency_add(&s->run->latencies, net_now_us() - s->sent_us);
	ask(s);
}

static void
on_flow(struct side *side, uint32_t events)
{
	struct stream *s = stream_of(side);
	enum service service = s->session.service;
	bool open = true;

	if (service != SERVICE_SINK && (events & EPOLLIN) != 0)
		open = flow_take(side->fd, &s->run->taken);
	if (open && service != SERVICE_SOURCE && (events & EPOLLOUT) != 0)
		open = flow_send(side->fd, s->run->source, &s->at);
	if (!open)
		net_die("a bulk stream", ECONNABORTED);
}

static void
on_opened(struct session *session)
{
	struct stream *s = container_of(session, struct stream, session);

	s->run->open++;
	if (s->is_bulk) {
		session->side.ready = on_flow;
		flow_prepare_sink(session->side.fd);
		on_flow(&session->side, EPOLLIN | EPOLLOUT);
	} else {
		session->side.ready = on_answer;
		ask(s);
	}
}

static void
open_streams(struct streams *run, const struct options *o, unsigned count,
    enum service service)
{
	struct stream *first = run->all + run->wanted;

	for (unsigned i = 0; i < count; i++) {
		struct stream *s = &first[i];

		s->run = run;
		s->is_bulk = service != SERVICE_ECHO;
		s->session.opened = on_opened;
		s->session.failed = on_failed;
		session_open(&s->session, run->set, &o->way, service,
		    run->wanted + i, true);
	}
	run->wanted += count;
}

static void
wait_until_open(struct streams *run)
{
	uint64_t deadline_us = net_now_us() + OPENING_US;

	while (run->open < run->wanted) {
		net_turn(run->set, 50);
		if (net_now_us() > deadline_us)
			net_die("opening the streams", ETIMEDOUT);
	}
}

static void
run_for(struct streams *run, uint64_t us)
{
	uint64_t end_us = net_now_us() + us;

	while (net_now_us() < end_us)
		net_turn(run->set, 50);
}

static void
streams_init(struct streams *run, unsigned count)
{
	memset(run, 0, sizeof(*run));
	run->set = net_open_set();
	run->source = flow_open_source();
	run->all = calloc(count, sizeof(*run->all));
	if (run->all == NULL)
		net_die("memory", ENOMEM);
}

static void
streams_fini(struct streams *run)
{
	for (unsigned i = 0; i < run->wanted; i++)
		session_close(&run->all[i].session);
	close(run->set);
	close(run->source);
	free(run->all);
}

void
bench_requests(const struct options *o)
{
	static struct streams run;

	streams_init(&run, o->concurrent);
	open_streams(&run, o, o->concurrent, SERVICE_ECHO);
	wait_until_open(&run);
	run_for(&run, WARM_UP_MS * 1000);
	struct bench_usage before = bench_look(o, BENCH_TIME);
	uint64_t start_us = net_now_us(), warm = run.requests;

	memset(&run.latencies, 0, sizeof(run.latencies));
	run_for(&run, o->seconds * UINT64_C(1000000));
	uint64_t took_us = net_now_us() - start_us;
	struct bench_usage after = bench_look(o, BENCH_TIME);
	uint64_t requests = run.requests - warm;

	printf("requests_per_s=%" PRIu64 " cpu_us_per_request=%.2f"
	       " p50_us=%" PRIu64 " p99_us=%" PRIu64 "\n",
	    requests * 1000000 / took_us,
	    (double)(after.cpu_us - before.cpu_us) /
		(double)(requests == 0 ? 1 : requests),
	    latency_at(&run.latencies, 500), latency_at(&run.latencies, 990));
	streams_fini(&run);
}

void
bench_bulk(const struct options *o)
{
	static const enum service services[] = { [DOWN] = SERVICE_SOURCE,
		[UP] = SERVICE_SINK,
		[BOTH_WAYS] = SERVICE_BOTH };
	static struct streams run;

	streams_init(&run, o->streams);
	open_streams(&run, o, o->streams, services[o->direction]);
	wait_until_open(&run);
	run_for(&run, WARM_UP_MS * 1000);
	struct bench_usage before = bench_look(o, BENCH_TIME);
	uint64_t start_us = net_now_us();
	uint64_t down = run.taken, up = targets_taken(o->targets);

	run_for(&run, o->seconds * UINT64_C(1000000));
	uint64_t took_us = net_now_us() - start_us;

	down = run.taken - down;
	up = targets_taken(o->targets) - up;
	struct bench_usage after = bench_look(o, BENCH_TIME);
	double bytes = (double)(down + up);

	printf("gbit_per_s=%.2f cpu_s_per_gb=%.3f down_gbit=%.2f"
	       " up_gbit=%.2f\n",
	    bytes * 8 / 1000 / (double)took_us,
	    bytes == 0 ? 0.0
		       : (double)(after.cpu_us - before.cpu_us) * 1000 / bytes,
	    (double)down * 8 / 1000 / (double)took_us,
	    (double)up * 8 / 1000 / (double)took_us);
	streams_fini(&run);
}

/* How much later answers come while bulk streams run. The streams are another
 * process's: it is the proxy that is to share its time, not the generator. */
static pid_t
start_bulk(const struct options *o)
{
	static struct streams run;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) != 0 || (pid = fork()) < 0)
		net_die("fork", errno);
	if (pid == 0) {
		streams_init(&run, o->streams);
		open_streams(&run, o, o->streams, SERVICE_SOURCE);
		wait_until_open(&run);
		(void)!write(ready[1], "r", 1);
		for (;;)
			net_turn(run.set, -1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		net_die("the bulk streams", ECONNABORTED);
	close(ready[0]);
	return pid;
}

void
bench_mixed(const struct options *o)
{
	static struct streams run;
	uint64_t quiet_us, us = o->seconds * UINT64_C(1000000);

	streams_init(&run, o->concurrent);
	open_streams(&run, o, o->concurrent, SERVICE_ECHO);
	wait_until_open(&run);
	run_for(&run, WARM_UP_MS * 1000);
	memset(&run.latencies, 0, sizeof(run.latencies));
	run_for(&run, us);
	quiet_us = latency_at(&run.latencies, 990);
	pid_t bulk = start_bulk(o);

	run_for(&run, WARM_UP_MS * 1000);
	memset(&run.latencies, 0, sizeof(run.latencies));
	run_for(&run, us);
	printf("quiet_p99_us=%" PRIu64 " loaded_p99_us=%" PRIu64
	       " times=%.2f\n",
	    quiet_us, latency_at(&run.latencies, 990),
	    (double)latency_at(&run.latencies, 990) / (double)quiet_us);
	bench_end_child(bulk);
	streams_fini(&run);
}
