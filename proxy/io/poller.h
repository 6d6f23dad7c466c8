/* SPDX-License-Identifier: ISC */
/*
 * poller: an epoll set for descriptors of which there are very many, which is
 * one event of the loop's libevent base.
 *
 * Each session has two. libevent's own events would do, but take 208 bytes a
 * descriptor where a watch takes 16, and a system call to be taken back.
 *
 * Edge triggered: a watch runs when something changed, and is told all that
 * holds then. It is embedded in what it watches for, and borrows the
 * descriptor.
 */
#ifndef FOURFOLD_POLLER_H
#define FOURFOLD_POLLER_H

#include <sys/epoll.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/base.h"

struct watch {
	/* What happened is EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLRDHUP, EPOLLERR,
	 * EPOLLHUP. */
	void (*run)(struct watch *watch, uint32_t events);
	int fd; /* -1: not watched */
};

/* Looked at in one pass; the rest have the next one. */
#define POLLER_BATCH 256

struct poller {
	struct event_base *base;
	struct event ready; /* something in the set is */
	int epoll;          /* -1: nothing was watched yet */
	size_t count;       /* watched now */
	/* The events that run now: `next` .. `end` have their turn to come. */
	int next, end;
	struct epoll_event batch[POLLER_BATCH];
};

/* Opens nothing before there is something to watch. */
void poller_init(struct poller *p, struct event_base *base);

/* Nothing is watched any more. Before the base is freed. */
void poller_fini(struct poller *p);

/* Watches `fd`, which is open; a negative errno. */
MUST_USE int poller_add(struct poller *p, struct watch *w, int fd);

/* From now on `w` does not run. */
void poller_remove(struct poller *p, struct watch *w);

/* The same, where the caller closes the descriptor at once and has no copy of
 * it: that ends the watch, without a system call of its own. */
void poller_forget(struct poller *p, struct watch *w);

/* Runs what is ready at this moment, without waiting; how many events there
 * were. The base's loop does the same by itself. */
int poller_run(struct poller *p);

#endif
