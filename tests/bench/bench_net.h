/* SPDX-License-Identifier: ISC */
/*
 * bench_net: what the load generator's processes are made of: descriptors that
 * are watched, the clock, latencies, an end with words.
 */
#ifndef FOURFOLD_BENCH_NET_H
#define FOURFOLD_BENCH_NET_H

#include <sys/epoll.h>

#include "base/addr.h"

/* A connection that is watched, edge triggered. Embedded. */
struct side {
	void (*ready)(struct side *side, uint32_t events);
	int fd; /* -1: none */
};

/* Opens the set of this process; again after a fork. */
int net_open_set(void);
void net_watch(int set, struct side *side, int fd);

/* A listening socket that other processes watch too: a connection wakes one of
 * them. */
void net_watch_listener(int set, struct side *side);
void net_unwatch(int set, struct side *side);

/* Runs those that are ready, waiting for the first one so long. */
void net_turn(int set, int wait_ms);

/* A socket bound to the address of client `n`. `reset`: its close() resets. */
int net_client_socket(unsigned n, bool reset);

/* A listening socket on the port, on every address. */
int net_listen(uint16_t port);

/* As many descriptors as may be. */
void net_raise_descriptors(void);

uint64_t net_now_us(void);

void net_die(const char *what, int error) __attribute__((noreturn));

/* Latencies: how many were in which class of some 1.5 %. */
#define LATENCY_CLASSES 2048

struct latencies {
	uint64_t count;
	uint32_t classes[LATENCY_CLASSES];
};

void latency_add(struct latencies *l, uint64_t us);

/* The latency that so many of a thousand were not above. */
uint64_t latency_at(const struct latencies *l, unsigned permille);

#endif
