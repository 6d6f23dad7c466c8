/* SPDX-License-Identifier: ISC */
/*
 * bench: what the workloads are given and what they share.
 */
#ifndef FOURFOLD_BENCH_H
#define FOURFOLD_BENCH_H

#include "bench_session.h"
#include "bench_usage.h"

#define WARM_UP_MS 500

enum direction { DOWN, UP, BOTH_WAYS };

struct options {
	struct way way;
	pid_t pid; /* the proxy's; 0: none */
	unsigned concurrent, sessions, seconds, streams;
	enum direction direction;
	struct targets *targets;
};

/* Sessions of 64 bytes each way, ended by the client's reset, so many at a
 * time, for a while. */
struct rate {
	uint64_t sessions, took_us;
	double cpu_us; /* of the proxy, a session; 0 without one */
	uint64_t errors;
	struct latencies latencies; /* from connect() to the last byte */
};
void bench_rate(const struct options *o, struct rate *out);

/* Each prints a line of figures. */
void bench_print_rate(const struct options *o);
void bench_requests(const struct options *o);
void bench_bulk(const struct options *o);
void bench_mixed(const struct options *o);
void bench_idle(const struct options *o);
void bench_hold(const struct options *o);

void bench_end_child(pid_t pid);

/* The proxy's; zero without one. */
struct bench_usage bench_look(const struct options *o, unsigned what);

#endif
