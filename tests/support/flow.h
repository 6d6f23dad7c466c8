/* SPDX-License-Identifier: ISC */
/*
 * flow: many ends of connections that send and receive at once, one thread.
 *
 * What is sent is a stream that its seed determines, and each byte that arrives
 * is compared with what the other end's seed says, which is more than a
 * checksum.
 */
#ifndef FOURFOLD_TESTS_FLOW_H
#define FOURFOLD_TESTS_FLOW_H

#include "base/base.h"

/* What an end does when it has sent all. */
enum flow_last {
	FLOW_STAY,   /* nothing */
	FLOW_FINISH, /* shutdown(SHUT_WR) */
	FLOW_RESET,  /* closes with a reset */
};

enum flow_end { FLOW_OPEN, FLOW_EOF, FLOW_BROKEN };

struct flow {
	int fd; /* -1 once it has reset */
	enum flow_last last;
	uint32_t out_seed, in_seed;
	uint64_t out_total, out_sent;
	/* With FLOW_STAY: how much has to arrive. Otherwise what arrives is
	 * counted up to the end. */
	uint64_t in_total, in_got;
	enum flow_end in_end;
	bool finished;      /* `last` is done */
	bool out_broken;    /* the other side has reset before all was sent */
	bool reset_early;   /* FLOW_RESET: at once, when all is handed to the
			       kernel; else when `in_total` has arrived, too */
	uint32_t largest;   /* bytes a write; 0: as many as fit */
	uint32_t dawdle;    /* one in so many turns it does nothing; 0: never */
	bool waits_for_end; /* sends nothing before the end has arrived */
};

/*
 * Runs until every end is done: one that stays when all was sent and has
 * arrived, one that finishes when the end of its input has come as well, one
 * that resets when it has. A wrong byte, and a minute without any progress,
 * fail the test. `seed` decides who dawdles when.
 */
void flows_run(struct flow *flows, size_t count, uint32_t seed);

/* Send until nothing more was taken for half a second, or all is sent; how
 * many bytes. The rest may be sent by flows_run(). */
uint64_t flow_push(struct flow *flow);
uint64_t flows_push(struct flow *flows, size_t count);

/* A small generator for tests: the next of a sequence. */
uint32_t flow_random(uint32_t *state);

#endif
