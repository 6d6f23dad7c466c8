/* SPDX-License-Identifier: ISC */
/*
 * bench_session: a client's connection to a target: through a SOCKS5 proxy,
 * through a relay that has a port for each service, or without any.
 *
 * Clients have addresses in 127.10.0.0/16 and ask for targets in
 * 127.20.0.0/16, so that neither runs out of ports.
 */
#ifndef FOURFOLD_BENCH_SESSION_H
#define FOURFOLD_BENCH_SESSION_H

#include "bench_net.h"
#include "bench_target.h"

enum way_kind {
	WAY_SOCKS,
	WAY_RELAY, /* its port + a service's number leads to that service */
	WAY_DIRECT,
};

/* How clients get to their targets. */
struct way {
	enum way_kind kind;
	struct addr proxy;
	uint16_t target_port; /* the first one */
};

enum step { STEP_CONNECT, STEP_METHOD, STEP_REPLY, STEP_OPEN };

struct session {
	struct side side;
	const struct way *way;
	enum step step;
	enum service service;
	unsigned number; /* picks the addresses */
	unsigned got;    /* bytes of what the step waits for */
	uint8_t in[32];
	/* The target is there: sets `side.ready` anew. */
	void (*opened)(struct session *s);
	/* It was refused, or has ended; it is closed. `error` is an errno or
	 * the reply's code. */
	void (*failed)(struct session *s, int error);
};

/* Begins; `opened` and `failed` are set. `reset`: its close() resets. */
void session_open(struct session *s, int set, const struct way *way,
    enum service service, unsigned number, bool reset);

void session_close(struct session *s);

/* For the proxy to listen: it was started a moment ago. */
void way_wait(const struct way *way);

#endif
