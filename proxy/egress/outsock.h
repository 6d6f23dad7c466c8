/* SPDX-License-Identifier: ISC */
/*
 * outsock: a socket towards a target and the source port leased for it, as one
 * object from the first moment: whoever closes the one returns the other.
 *
 * Three ways to bind, fixed for each port by its pool:
 *   range     IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE(P, P), bind(source,
 *             0), connect(). Linux 6.3; 1.5 us however many sockets share P.
 *   explicit  SO_REUSEADDR, bind(source, P), connect(). Everywhere, but since
 *             Linux 6.8 its cost grows with the sockets on P.
 *   kernel    IP_BIND_ADDRESS_NO_PORT, bind(source, 0): the kernel chooses.
 * A source "by route" is not bound; the port still is, by range.
 *
 * The socket lives with SO_LINGER {1, 0}: if this process dies, the target sees
 * a reset, not an end of stream, and the kernel keeps nothing of the tuple.
 */
#ifndef FOURFOLD_OUTSOCK_H
#define FOURFOLD_OUTSOCK_H

#include "base/log.h"
#include "egress/ledger.h"

/* What a worker's outgoing sockets share. Borrowed by each outsock. */
struct egress {
	struct ledger *ledger;
	struct log *log;
	int tw_reuse; /* net.ipv4.tcp_tw_reuse, read at start and on reload */
	uint64_t connects, tuples_taken, ports_blocked;
	uint64_t sample;              /* counts range connects */
	uint8_t port_seen[65536 / 8]; /* a bit: this port was checked once */
	uint64_t ignored_logged_ms;
	/* Tells a worker to look for what it was granted; NULL: nobody is told,
	 * and who waits looks now and then. */
	void (*wake)(void *arg, uint8_t worker);
	void *wake_arg;
	uint64_t looked_ms; /* at all sockets, for a stranger */
};

struct outsock {
	int fd; /* -1: none */
	struct ledger_lease lease;
	struct ledger_ticket ticket; /* while it waits for a lease */
	struct addr source; /* once connecting: what the target sees of us, but
			       by route only after outsock_connected() */
	/* The time of day, in ms, after the lease was taken: what is noted
	 * before it is given back is before what its next holder notes. */
	uint64_t since_epoch_ms;
	/* Closed after it began to connect: when the lease was given back, a
	 * moment before. `source` and `since_epoch_ms` are of that one then. */
	uint64_t until_epoch_ms;
};

/* How a socket ended, which decides how long its tuple must rest. */
enum outsock_end {
	OUTSOCK_RESET,      /* never connected, or either side reset */
	OUTSOCK_RESET_LATE, /* we reset after our FIN: the target's may be here
			       already, unread, and then nothing is reset */
	OUTSOCK_TARGET_FIRST, /* the target's FIN came before ours */
	OUTSOCK_WE_FIRST,     /* ours came first, or it is not clear */
};

void outsock_init(struct outsock *o);

/*
 * Leases a slot of `pool` towards `target` and begins to connect, without
 * blocking. 0: connecting; the descriptor becomes writable. -EAGAIN: the slots
 * tried were taken; call again in the next pass (what is in `o` is kept).
 * Otherwise `o` is empty: errors of ledger_lease(), -EMFILE (also for ENFILE of
 * the kernel, as -ENFILE says the ledger is full), -ENOMEM (also for its
 * ENOBUFS and EAGAIN), -EADDRNOTAVAIL where the kernel chooses the port and
 * finds none, -ENXIO when the source address is not this host's (any more), and
 * connect()'s.
 */
MUST_USE int outsock_open(struct outsock *o, struct egress *e, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms);

/*
 * The same, but waits in the queue of a target that is full. -EINPROGRESS: it
 * waits, until outsock_claim() or outsock_close(). -ENOBUFS: `queue` wait
 * already, and this client has its part of those. Otherwise as outsock_open().
 */
MUST_USE int outsock_queue(struct outsock *o, struct egress *e, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint32_t queue, uint64_t now_ms);

/* Is there a reason to claim? */
bool outsock_is_granted(const struct outsock *o, const struct egress *e);

/* Begins to connect with what was granted. As outsock_open(); -EAGAIN also when
 * nothing is granted, or was lost: then it does not wait any more; -ENOBUFS:
 * its place in the queue went to another client. */
MUST_USE int outsock_claim(struct outsock *o, struct egress *e,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms);

/* Grants what has cooled to whoever waits. */
void outsock_serve(struct egress *e, uint64_t now_ms);

/* Completes `o->source` once connected. */
void outsock_connected(struct outsock *o, struct egress *e, uint64_t now_ms);

/* Closes, then returns the lease. Any number of times: what was said of the
 * first is kept for the log, until it connects anew. */
void outsock_close(
    struct outsock *o, struct egress *e, enum outsock_end how, uint64_t now_ms);

/* `from` is left empty; `to` must be empty. */
void outsock_move(struct outsock *to, struct outsock *from);

/* SO_LINGER {1, 0}: close() resets. Off: close() ends in order. */
void outsock_set_abortive(int fd, bool abortive);

#endif
