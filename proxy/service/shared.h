/* SPDX-License-Identifier: ISC */
/*
 * shared: what the master and its workers tell each other in memory, and what
 * a worker is given when it is forked.
 */
#ifndef FOURFOLD_SHARED_H
#define FOURFOLD_SHARED_H

#include "egress/ledger.h"
#include "policy/config.h"
#include "policy/quota.h"
#include "service/board.h"
#include "service/sockets.h"
#include "session/stats.h"

#define SLOTS_MAX CONFIG_WORKERS_MAX
_Static_assert(2 * SLOTS_MAX <= LEDGER_WORKERS_MAX,
    "a reload has ids for its workers beside those that are there");

#define ATTENDED_GENERATIONS 16

struct shared {
	/* The slot's own worker accepts from the slot's sockets. While it does
	 * not (none yet, dead, full, out of descriptors) its siblings do. Each
	 * generation has its own flags, those of long ago are used again. */
	_Atomic bool attended[ATTENDED_GENERATIONS][SLOTS_MAX];
	struct stats stats[LEDGER_WORKERS_MAX + 1]; /* by worker id */
	/* By worker id: what it may hold; 0: there is no such worker. The
	 * master's. */
	_Atomic uint64_t max_sessions[LEDGER_WORKERS_MAX + 1];
	/* By worker id: it accepts no more, whatever it may hold. */
	_Atomic bool draining[LEDGER_WORKERS_MAX + 1];
	struct board board; /* the observer's */
};

/* From the master to a worker. */
enum worker_command {
	WORKER_DRAIN = 'D',  /* others accept: end when the sessions have */
	WORKER_FINISH = 'F', /* nobody will: accept what is queued, drain */
	WORKER_STOP = 'S',   /* end now */
	WORKER_KILL = 'K',   /* end `session` */
};

/* From a worker to the master. */
enum worker_answer {
	WORKER_READY = 'R',
	WORKER_CLOSED = 'C', /* to FINISH: what was queued is accepted */
	WORKER_KILLED = 'K', /* to KILL */
};

/* From the master to an observer. */
enum observer_command {
	OBSERVER_RETIRE = 'R', /* another one answers: finish, then end */
	OBSERVER_STOP = 'S',   /* end now */
	OBSERVER_KILLED = 'K', /* to KILL */
};

/* From an observer to the master. */
enum observer_word {
	OBSERVER_READY = 'R',
	OBSERVER_KILL = 'K', /* end `session` */
};

/* What goes over the control socket of a child, either way. */
struct message {
	char what;
	int32_t error; /* of a KILL: 0, -ENOENT: no such session, -EAGAIN */
	uint64_t session;
	uint64_t ticket; /* of a KILL, repeated in its answer */
};

/* Everything is borrowed from the master, and so lives in the fork's copy. */
struct worker_setup {
	const struct config *config;
	struct log *log;
	struct ledger *ledger;
	struct quota *quota;
	struct shared *shared;
	_Atomic bool *attended; /* of this generation, by slot */
	const struct sockets *sockets;
	const unsigned *pools; /* ledger's id of each egress */
	int control_socket;    /* not a worker's; -1: there is none */
	int tw_reuse;
	unsigned slot, slots; /* slots of sockets; `wake` has as many */
	const int *wake;      /* an eventfd a slot, -1: no worker has it */
	const int *mail;      /* an eventfd a worker's id: it was granted
				 something; -1: it is not told */
	uint8_t id;
	uint64_t first_session;
	uint64_t max_sessions; /* of this worker */
	int control;
};

#endif
