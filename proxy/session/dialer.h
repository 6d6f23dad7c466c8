/* SPDX-License-Identifier: ISC */
/*
 * dialer: connects to the first of a target's addresses that answers, each in
 * turn with a lease of its own.
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

/* What the dials of a worker share. */
struct dialer {
	struct loop *loop;
	struct egress *egress;
	/* An address's time while there are others to try. The last one has
	 * all that the owner gives it. */
	struct timeout_class timeouts;
};

/* `connect_ms` is the owner's time for a whole dial. */
void dialer_init(
    struct dialer *d, struct loop *l, struct egress *e, uint64_t connect_ms);

/*
 * CLOSE_NONE: `out` is connected to `target`, move it. Otherwise why the last
 * address failed, with `error` its errno or 0; `target` is that address.
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
void dial_cancel(struct dial **dial);

#endif
