/* SPDX-License-Identifier: ISC */
/*
 * crowd: more sessions at once than one process has descriptors for.
 *
 * Clients and targets are several processes, told by a pipe what to do. The
 * targets share one listening socket: a group of SO_REUSEPORT listeners would
 * have all of one source port on one of them.
 *
 * Every session is checked from both sides. Client and target each make a word
 * of the session's four numbers, the client of the reply and of what it asked
 * for, the target of what it sees; they exchange it, and so have the same in
 * mind. A target says as well whether the source is one that the test expects.
 */
#ifndef FOURFOLD_TESTS_CROWD_H
#define FOURFOLD_TESTS_CROWD_H

#include "target.h"

#define CROWD_CLIENT_MAX 18000U /* sessions of one process */
#define CROWD_TARGET_MAX 18000U

/* What the processes know. The functions are called in them. */
struct crowd_setup {
	uint32_t sessions;
	unsigned clients, targets; /* processes of each kind */
	const struct target *target;
	/* Of the `n`th session: whence and where to the client connects (NULL:
	 * crowd_client() as full as can be, and 127.0.0.1:1080), and what it
	 * asks for. */
	struct addr (*from)(uint32_t n);
	struct addr (*proxy)(uint32_t n);
	struct addr (*to)(const struct target *t, uint32_t n);
	/* May a target see this source? */
	bool (*is_source)(const struct addr *source);
};

struct crowd;

/* Starts the processes, before the daemon: its log's thread must not be
 * copied. */
struct crowd *crowd_start(const struct crowd_setup *setup);

/* Opens all sessions, and returns when the targets hold all of them at once;
 * how long the clients took until the last reply. */
uint64_t crowd_open(struct crowd *c);

/* The word of each session goes both ways. */
void crowd_exchange(struct crowd *c);

/* The clients end all sessions, in order, and the processes end. */
void crowd_finish(struct crowd *c);

/* An address for the client of session `n`: `each` of them have an address of
 * 127.1.0.0/16 of their own, with ports from 2000 up, below those of listeners
 * and pools (namespace.h). */
struct addr crowd_client(uint32_t n, uint32_t each);

#endif
