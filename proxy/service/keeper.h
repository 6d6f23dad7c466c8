/* SPDX-License-Identifier: ISC */
/*
 * keeper: keeps one observer running: starts it anew when it dies, and with a
 * reload starts the next one beside it, which takes over once it is ready.
 */
#ifndef FOURFOLD_KEEPER_H
#define FOURFOLD_KEEPER_H

#include "service/child.h"
#include "service/observer.h"

struct keeper {
	struct family *family;
	struct list observers; /* all that run, the newest is last */
	const struct observer_setup *setup;
	const struct identity *identity;
	struct event restart, last_resort;
	struct backoff backoff;
	uint32_t started; /* observers so far */
	bool stopping;
	/* An observer was asked to end a session. Answered, at once or later,
	 * by keeper_answer(). */
	void (*on_kill)(uint64_t session, uint64_t ticket, void *arg);
	/* Stopping, and the last observer has ended. */
	void (*on_empty)(void *arg);
	void *arg;
};

/* `k` has family and the callbacks set. */
void keeper_init(struct keeper *k);
void keeper_fini(struct keeper *k);

/* Starts an observer of `setup`, which must stay until the next call; what
 * cannot be forked now is tried again. */
void keeper_start(struct keeper *k, const struct observer_setup *setup,
    const struct identity *identity);

/* 0, or why the session was not ended; to an observer that has gone, nothing.
 */
void keeper_answer(struct keeper *k, uint64_t ticket, int error);

/* Tells all to end, and ends by force those who have not in five seconds. */
void keeper_stop(struct keeper *k);

#endif
