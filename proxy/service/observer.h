/* SPDX-License-Identifier: ISC */
/*
 * observer: the process that looks: answers on the control socket and watches
 * for what runs short. It has no privilege, touches no session, and the others
 * do not wait for it: it reads the shared memory in short holds.
 */
#ifndef FOURFOLD_OBSERVER_H
#define FOURFOLD_OBSERVER_H

#include "service/names.h"
#include "service/shared.h"

/* Everything is borrowed from the master, and so lives in the fork's copy. */
struct observer_setup {
	const struct config *config;
	struct log *log;
	struct ledger *ledger;
	struct shared *shared;
	const struct names *names;
	const char (*pool_names)[POOL_NAME_MAX + 1]; /* by the ledger's id */
	const unsigned *pools;         /* ledger's id of each egress */
	const struct sockets *sockets; /* none of its own: it closes them */
	int listener;                  /* of the control socket; -1: none */
	uint64_t started_ms;           /* the master */
	uint64_t max_sessions;         /* of all workers */
	uint64_t descriptors;          /* that a worker may have */
	unsigned slots;                /* of sockets: each worker has all */
	pid_t master;
	uint32_t number; /* of all observers ever: in its tickets */
	int control;
};

/* A ticket's observer. */
#define OBSERVER_TICKET_SHIFT 32

/* Runs to the end and returns the exit status. */
int observer_run(const struct observer_setup *setup);

#endif
