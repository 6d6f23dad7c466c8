/* SPDX-License-Identifier: ISC */
/*
 * crew: the worker processes: forks them, knows which slot each has, starts the
 * dead ones again, and returns what the dead held.
 *
 * A generation is the workers of one configuration, one a slot. With a reload a
 * new generation starts beside the old one, which drains once the new one is
 * ready.
 */
#ifndef FOURFOLD_CREW_H
#define FOURFOLD_CREW_H

#include "service/child.h"

struct crew_worker;

struct crew {
	struct family *family;
	struct ledger *ledger;
	struct quota *quota;
	struct shared *shared;
	struct list workers; /* all processes, of every generation */
	unsigned generation;
	unsigned slots;    /* of sockets: never fewer than before */
	unsigned wanted;   /* workers of the present generation */
	unsigned prepared; /* workers of the next one; 0: none prepared */
	int next_wake[SLOTS_MAX];
	int wake[SLOTS_MAX]; /* eventfds of the present generation */
	int mail[LEDGER_WORKERS_MAX + 1]; /* eventfds by worker id */
	struct crew_slot *slot;   /* SLOTS_MAX, the present generation's */
	struct event last_resort; /* ends those who do not stop */
	bool stopping;
	bool closed;      /* on_closed was called */
	uint64_t started; /* workers so far: numbers their sessions */
	bool was_ready;   /* this generation was whole once */
	/* The worker of a slot of this generation is ready to accept. */
	void (*on_slot_ready)(unsigned slot, void *arg);
	/* All workers of the generation are ready, for the first time. */
	void (*on_ready)(void *arg);
	/* A worker ended before its generation was ready for the first time. It
	 * is started again all the same. */
	void (*on_failure)(void *arg);
	/* Stopping, and no worker accepts any more: nobody listens. */
	void (*on_closed)(void *arg);
	/* Stopping, and the last worker has ended. */
	void (*on_empty)(void *arg);
	/* The answer to crew_kill(): 0, the session has ended; -ENOENT: there
	 * was none. */
	void (*on_killed)(uint64_t ticket, int error, void *arg);
	void *arg;
};

/* What a generation works on; borrowed until the next one has taken over and
 * the old workers have been forked from their own copy. */
struct crew_order {
	const struct config *config;
	const struct sockets *sockets;
	const unsigned *pools;
	const struct identity *identity;
	int control_socket; /* not theirs; -1: none */
	int tw_reuse;
	uint64_t max_sessions; /* of all together: each has its part */
};

/* `crew` has family, ledger, shared and the callbacks set. */
MUST_USE int crew_init(struct crew *crew);
void crew_fini(struct crew *crew);

/* Makes ready for a generation of `wanted` workers. On error nothing has
 * changed; -ENOSPC: too many old ones are draining still. */
MUST_USE int crew_prepare(struct crew *crew, unsigned wanted);

/* Starts the generation that was prepared, with `slots` slots of sockets; what
 * cannot be forked now is tried again. `order` must stay until the next call.
 */
void crew_start(
    struct crew *crew, const struct crew_order *order, unsigned slots);

/* Ends a session, whosever it is; on_killed() says what became of it. -ENOENT:
 * no worker has it; -EAGAIN: its worker does not listen. */
MUST_USE int crew_kill(struct crew *crew, uint64_t session, uint64_t ticket);

/* Tells all workers to finish; `now`: to stop, and ends by force those who have
 * not in two seconds. */
void crew_stop(struct crew *crew, bool now);

#endif
