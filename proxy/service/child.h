/* SPDX-License-Identifier: ISC */
/*
 * child: a process that the master forks, a worker or the observer: its clean
 * start, its control socket, its end, and the delay before the next try.
 *
 * The owner embeds the child. The family knows all of them, so that none keeps
 * the master's end of another one's control socket, which would hide the death
 * of the master.
 */
#ifndef FOURFOLD_CHILD_H
#define FOURFOLD_CHILD_H

#include "io/loop.h"
#include "service/privileges.h"
#include "service/shared.h"

/* All children of the master. */
struct family {
	struct loop *loop; /* the master's */
	struct log *log;
	struct list children;
};

struct child {
	struct link link; /* family->children, from child_start() to its end */
	const char *name; /* for the log: "worker" */
	struct family *family;
	struct event event;
	pid_t pid;
	int control; /* the master's end */
	uint64_t started_ms;
	void (*on_message)(struct child *, const struct message *);
	/* It has ended, and nothing of it is left but the struct. `status` is
	 * waitpid()'s. */
	void (*on_death)(struct child *, int status);
};

void family_init(struct family *f, struct loop *loop, struct log *log);

/* Calls on_death() of those that have ended; to be called on SIGCHLD. */
void family_reap(struct family *f);

/*
 * Forks. In the child, which is `identity` and has nothing of the master's loop
 * any more, `run` gets its end of the control socket and returns the exit
 * status. `c` has its name and callbacks set.
 */
typedef int child_run_fn(void *arg, int control);
MUST_USE int child_start(struct family *f, struct child *c,
    const struct identity *identity, child_run_fn *run, void *arg);

/* False when it cannot be told now: it is ending, or does not read. */
bool child_send(struct child *c, const struct message *m);

/* Begins the line of its end, event NAME_ended or NAME_died; fields of the
 * caller's may follow. */
void child_log_end(const struct child *c, int status);

/* How long to wait before something is started again that has lived for
 * `lived_ms`: what ends at once, or cannot be started, waits longer each
 * time. */
struct backoff {
	unsigned delay_ms;
};
struct timeval backoff_next(struct backoff *b, uint64_t lived_ms);

#endif
