/* SPDX-License-Identifier: ISC */
/*
 * dialer: connects to the first of a target's addresses that answers, each in
 * turn with a lease of its own. When none can be had since the target is full,
 * the dial waits in the queue of the first address that was.
 *
 * A dial is an operation: `done` runs at most once, never from inside
 * dial_start(), never after dial_cancel(), as its last act; the handle is dead
 * when it begins. On success the socket and its registered stream are the
 * owner's: the stream was the owner's all along and is only borrowed here.
 */
#ifndef FOURFOLD_DIALER_H
#define FOURFOLD_DIALER_H

#include "egress/outsock.h"
#include "io/stream.h"
#include "session/lifecycle.h"

struct dial;

/* How long a dial of a pool waits at a full target, and how many may. */
struct dial_queue {
	uint64_t wait_ms; /* 0: it does not */
	uint32_t length;
};

/* The dial begins to wait, or goes on: the time for connecting stands still
 * meanwhile. Called from within the dialer; the dial must not be cancelled. */
typedef void dial_wait_fn(bool waits, void *arg);

/* What the dials of a worker share. */
struct dialer {
	struct loop *loop;
	struct egress *egress;
	struct dial_queue queues[LEDGER_POOLS_MAX]; /* by the pool's id */
	dial_wait_fn *on_wait; /* with the dial's own `arg`; may be NULL */
	struct list waiting;   /* dials in a queue */
	struct event poll;     /* pending while there are any */
	/* An address's time while there are others to try. The last one has
	 * all that the owner gives it. */
	struct timeout_class timeouts;
};

/* `connect_ms` is the owner's time for a whole dial. Nobody waits until
 * `queues` are filled. */
void dialer_init(
    struct dialer *d, struct loop *l, struct egress *e, uint64_t connect_ms);

/* All dials must be done or cancelled. */
void dialer_fini(struct dialer *d);

/* Something was granted to this worker: looks at those who wait. */
void dialer_serve(struct dialer *d);

/*
 * CLOSE_NONE: `out` is connected to `target`, move it. Otherwise why the last
 * address failed, with `error` its errno or 0; `target` is that address, and
 * `out` is closed, for the log.
 */
typedef void dial_done_fn(enum close_reason reason, int error,
    struct outsock *out, const struct addr *target, void *arg);

/* `targets` is copied. NULL: no memory, and nothing was begun. While the dial
 * lives the stream's owner passes its on_ready to dial_ready(). */
struct dial *dial_start(struct dialer *d, unsigned pool,
    const struct addr *targets, size_t count,
    const struct ledger_holder *holder, struct stream *stream,
    stream_ready_fn *on_ready, dial_done_fn *done, void *arg);

/* The address that is tried now. */
const struct addr *dial_target(const struct dial *dial);

void dial_ready(struct dial *dial);

/* What was tried last goes to `out`, closed, for the log; NULL: nobody asks. */
void dial_cancel(struct dial **dial, struct outsock *out);

#endif
