/* SPDX-License-Identifier: ISC */
/*
 * relay: passes bytes between a session's two sides until both have ended.
 *
 * An end of stream is passed on in its direction alone, after all bytes before
 * it; an error ends both. No buffer belongs to a quiet relay: bytes go through
 * the loop's scratch memory or a pipe, and only what the other side did not
 * take is kept, while nothing more is read in that direction. What all relays
 * of a worker keep is bounded; at the bound, bytes stay in the kernel until the
 * other side takes them.
 *
 * Embedded in the session. `on_end` is called at most once, never from inside
 * relay_start() and never after relay_cancel(), as the relay's last act.
 */
#ifndef FOURFOLD_RELAY_H
#define FOURFOLD_RELAY_H

#include "io/pipes.h"
#include "io/stream.h"

enum relay_end {
	/* Both directions ended, all bytes were passed on, and the end that
	 * came last will be by closing both sides in order. */
	RELAY_DONE,
	RELAY_CLIENT_ERROR, /* `relay->error` says which */
	RELAY_TARGET_ERROR,
};

enum relay_splice {
	RELAY_SPLICE_NO,
	RELAY_SPLICE_YES,
	RELAY_SPLICE_AUTO, /* where much is under way */
};

/* How much may be read for one slow reader before it has taken it, a direction;
 * for all slow readers together; and how bytes are moved. */
struct relay_limits {
	size_t buffer; /* 1 .. LOOP_SCRATCH_BYTES */
	uint64_t all;
	enum relay_splice splice;
};

/* What the relays of a worker share. */
struct relays {
	struct loop *loop;
	struct relay_limits limits;
	uint64_t kept;            /* bytes of memory, by all relays, now */
	uint64_t peak;            /* most, since memory was given back */
	uint64_t shared_until_ms; /* small messages pass, too */
	struct pipes pipes;
	struct timeout_class look;
	struct timeout timer; /* armed while something was kept lately */
};

/* One direction. 0 .. kept_from: passed on; kept_from .. kept_to: to be. */
struct relay_half {
	uint8_t *kept;     /* NULL: nothing kept, or in the pipe */
	struct pipe *pipe; /* NULL: none is lent */
	uint32_t kept_from, kept_to;
	uint64_t bytes; /* passed on so far */
	bool fin : 1;   /* the end of stream was read */
	bool ended : 1; /* and passed on */
	bool bulk : 1;  /* the last read was big: so is the next one */
};

struct relay;

struct relay_owner {
	void (*on_end)(struct relay *relay, enum relay_end end);
	/* Bytes or an end were passed on. */
	void (*on_active)(struct relay *relay);
};

struct relay {
	struct relays *env;
	struct stream *client, *target; /* borrowed */
	struct relay_half up, down;     /* from the client, from the target */
	struct task again;
	const struct relay_owner *owner; /* NULL: not running */
	int error;                       /* positive errno of an error */
	uint16_t reply_len; /* of `down.bytes`, what is not the target's */
	bool target_first;  /* the target's FIN came before we passed one on */
};

void relays_init(
    struct relays *env, struct loop *l, const struct relay_limits *limits);

/* All relays have been cancelled or have ended. */
void relays_fini(struct relays *env);

/* Fields before the start, so that relay_cancel() may be called. */
void relay_init(struct relay *r);

/*
 * Begins. `early_up` goes to the target first, `reply` to the client; both are
 * copied. From now on the owner calls relay_pump() whenever one of the streams
 * is ready. -ENOMEM, and nothing was begun.
 */
MUST_USE int relay_start(struct relay *r, struct relays *env,
    struct stream *client, struct stream *target, const void *early_up,
    size_t early_up_len, const void *reply, size_t reply_len,
    const struct relay_owner *owner);

/* What the owner's stream callbacks call: pass on what can be. */
void relay_pump(struct relay *r);

/* Stops and frees what was kept. Any number of times. */
void relay_cancel(struct relay *r);

/* The target's bytes that the client has got. */
uint64_t relay_bytes_down(const struct relay *r);

/* Is exactly one direction at its end? */
bool relay_is_half_closed(const struct relay *r);

#endif
