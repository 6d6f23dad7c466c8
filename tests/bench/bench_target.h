/* SPDX-License-Identifier: ISC */
/*
 * bench_target: the targets: some processes that listen on every address of the
 * host, on a port for each of the things that a target may do.
 */
#ifndef FOURFOLD_BENCH_TARGET_H
#define FOURFOLD_BENCH_TARGET_H

#include <sys/types.h>

#include <stdatomic.h>

#include "base/base.h"

/* Each has the port `first port` + its number. */
enum service {
	SERVICE_ECHO,   /* sends back what it gets */
	SERVICE_SINK,   /* takes all */
	SERVICE_SOURCE, /* sends all the time */
	SERVICE_BOTH,   /* does both */
	SERVICE_COUNT,
};

#define TARGET_PROCESSES_MAX 22

struct targets {
	uint16_t port; /* the first one */
	unsigned count;
	pid_t pids[TARGET_PROCESSES_MAX];
	/* Bytes that SINK and BOTH have taken, of each process. */
	_Atomic uint64_t *taken;
};

/* Forks `echoes` processes for ECHO and one for the rest, so that it is the
 * proxy whose answers wait while bulk streams run. targets_stop() ends them. */
void targets_start(struct targets *t, uint16_t port, unsigned echoes);
void targets_stop(struct targets *t);

uint64_t targets_taken(const struct targets *t);

/* Ends of bulk streams, also the clients': neither copies what it sends or
 * gets, so that the proxy is what is measured. */
#define FLOW_STEP (1024 * 1024)

/* A file in memory to send from; of this process. */
int flow_open_source(void);
/* Sends until nothing more is taken; false when the connection has ended. */
bool flow_send(int fd, int source, off_t *at);
/* Takes what is there; false at the end. */
bool flow_take(int fd, uint64_t *taken);
/* Fewer and bigger wakeups for who takes. */
void flow_prepare_sink(int fd);

#endif
