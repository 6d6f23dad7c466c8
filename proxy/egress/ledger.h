/* SPDX-License-Identifier: ISC */
/*
 * ledger: which source ports are taken towards which target, by whom.
 *
 * One flat block without pointers, in memory shared by all workers, that
 * outlives them and every reload. It knows nothing of sockets: outsock binds
 * what is leased here. The kernel is the judge; an entry is a guess that is
 * nearly always right, and a wrong one costs one failed connect().
 *
 * 64 shards by the target's keyed hash, each under a robust process-shared
 * mutex. Records and targets live in two global arrays, handed to the shards in
 * chunks. A record's `state` is the truth: it is written last on entry and
 * first on exit; every link and count is derived from it, so that the death of
 * a process at any point is mended by rebuilding the shard (EOWNERDEAD).
 *
 * A target's entry keeps: fresh (the first slot never used), what is held, a
 * FIFO of slots free at once (hot), and two FIFOs of cooling slots, each in
 * order of the time at which it is free. Lease = hot, else cooled, else
 * fresh++. An entry with nothing held or cooling goes away, but for a few small
 * ones, since many targets come back. In a sticky pool
 * each source address has lists of its own.
 *
 * Whoever finds a target full may queue for it, fairly: clients (by prefix, or
 * by user) take turns, and each of them is served oldest first. A slot that
 * becomes free is held for the one whose turn it is from that moment on, and
 * that one's worker is to be woken.
 *
 * Time is CLOCK_MONOTONIC in ms, an argument, shared by all processes.
 */
#ifndef FOURFOLD_LEDGER_H
#define FOURFOLD_LEDGER_H

#include "egress/pool.h"

#define LEDGER_POOLS_MAX   64
#define LEDGER_WORKERS_MAX 255
#define LEDGER_KEY_BYTES   16

/*
 * How long a slot cools, in ms from the moment of close(). Briefly: Linux gives
 * a TIME_WAIT away when more than a second has gone since it began, which may
 * be a pass of the loop later than the time that we know.
 */
#define LEDGER_PASS_MS  100
#define LEDGER_BRIEF_MS (1000 + LEDGER_PASS_MS)
#define LEDGER_LONG_MS  62000

struct ledger; /* the shared block, as mapped in this process */

/* Why a lease ends: what the kernel may still hold of it. */
enum ledger_release {
	LEDGER_HOT,      /* reset or never connected: free at once */
	LEDGER_BRIEF,    /* the target closed first: cools LEDGER_BRIEF_MS */
	LEDGER_LONG,     /* we closed first: cools LEDGER_LONG_MS */
	LEDGER_REUSABLE, /* we closed first, but the kernel gives the tuple away
			    after a while: see ledger_set_reuse_delay() */
	LEDGER_REFUSED,  /* the kernel had it all the time: cools
			    LEDGER_BRIEF_MS, and counts for nobody meanwhile */
};

/* Who has a lease; what `who`, `sessions` and the log say of it. */
struct ledger_holder {
	struct addr client; /* family NONE for a unix socket's client */
	uint64_t session;
	uint16_t user;  /* its id, the same over reloads; 0: nobody */
	uint8_t worker; /* 1 .. LEDGER_WORKERS_MAX */
};

/* A slot held towards a target. A value; it is live until it is returned. */
struct ledger_lease {
	uint32_t record; /* UINT32_MAX: empty */
	uint32_t gen;
	uint32_t target;    /* its cell: a hint, of where to look early */
	struct addr source; /* what to bind; unspecified ip: by route;
			       port 0: the kernel chooses */
	enum pool_bind bind;
};

/* A place in the queue of a full target. A value; it is live until it was
 * claimed or cancelled. */
struct ledger_ticket {
	uint32_t cell; /* UINT32_MAX: empty */
	uint32_t gen;
};

/* Bytes of memory for so many leases and targets at once. */
MUST_USE size_t ledger_bytes(uint32_t leases, uint32_t targets);

/*
 * Makes a ledger in `memory`, which is zeroed, page-aligned, mapped shared and
 * of ledger_bytes(). `key` keys the hash of targets. Pages that are not used
 * are not touched.
 */
MUST_USE int ledger_init(void *memory, uint32_t leases, uint32_t targets,
    const uint8_t key[LEDGER_KEY_BYTES], struct ledger **out);

/* A pool, and its place: no two of one change have the same. */
struct ledger_new_pool {
	unsigned id;
	const struct pool *pool;
};

/*
 * Puts the pools at their places for all workers, at once; they are copied, and
 * address ids are set in the copies. Entries made before are made anew, once
 * for all of these: what the new pool does not have any more stays held until
 * returned and then goes. A pool that is what it was changes nothing. One
 * caller at a time (the master). -ENOSPC when the table of source addresses is
 * full; nothing is changed then.
 */
MUST_USE int ledger_set_pools(
    struct ledger *l, const struct ledger_new_pool *pools, size_t count);

/* One of them. */
MUST_USE int ledger_set_pool(
    struct ledger *l, unsigned id, const struct pool *pool);

/* The pool at place `id` into `out`; false when there is none. */
bool ledger_get_pool(struct ledger *l, unsigned id, struct pool *out);

/*
 * Leases a slot of pool `id` towards `target` (unmapped; scope matters).
 *  0            `out` is held and must end in one ledger_return()
 *  -EADDRINUSE  every slot is held, cooling or kept for others: the target is
 *               full; also when others wait for it already, who may have
 *               what comes free
 *  -EDQUOT      the client or user holds its share of the target's slots
 *  -ENFILE      the ledger's memory is full, and little in it is only
 *               remembered
 *  -EAFNOSUPPORT the pool has no address of the target's family
 *  -ENOENT      there is no such pool
 * Never leases the slot that equals the target itself, nor one whose reverse
 * tuple is leased, nor one whose port rests.
 */
MUST_USE int ledger_lease(struct ledger *l, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint64_t now_ms, struct ledger_lease *out);

/*
 * The same, but waits in the target's queue when that is full.
 *  0             `out` is held after all
 *  -EINPROGRESS  `ticket` is in the queue; it must end in ledger_claim() or
 *                ledger_cancel()
 *  -ENOBUFS      `queue` wait already, and the client or user has its fair
 *                share of those places
 */
MUST_USE int ledger_queue(struct ledger *l, unsigned pool,
    const struct addr *target, const struct ledger_holder *holder,
    uint32_t queue, uint64_t now_ms, struct ledger_ticket *ticket,
    struct ledger_lease *out);

/* Is there a reason to claim? Takes no lock. */
bool ledger_is_granted(struct ledger *l, const struct ledger_ticket *ticket);

/*
 * Takes what was granted to the ticket, and empties it. 0; -EAGAIN: nothing
 * yet, and it waits on; -ENOENT: the ticket is lost, or what was granted could
 * not be used: begin anew; -ENOBUFS: the queue was full, and the place went to
 * a client that had less than its share.
 */
MUST_USE int ledger_claim(struct ledger *l, struct ledger_ticket *ticket,
    uint64_t now_ms, struct ledger_lease *out);

/* Leaves the queue; what was granted goes to the next. Empties `ticket`, and
 * accepts an empty one. */
void ledger_cancel(
    struct ledger *l, struct ledger_ticket *ticket, uint64_t now_ms);

/* Grants what has cooled to those who wait: nobody returns that. To be called
 * now and then by whoever waits. */
void ledger_serve(struct ledger *l, uint64_t now_ms);

/* Workers to be told that something was granted to them, a bit each; each is
 * named once until it takes its mail. False when there is none: a question to
 * be asked after each return, cancel, serve and queue. */
#define LEDGER_WAKE_WORDS ((LEDGER_WORKERS_MAX + 64) / 64)
bool ledger_take_wakes(struct ledger *l, uint64_t workers[LEDGER_WAKE_WORDS]);

/* Was anything granted to the worker since it last asked? */
bool ledger_take_mail(struct ledger *l, uint8_t worker);

/* How long the kernel keeps a TIME_WAIT that may be taken over, in ms
 * (net.ipv4.tcp_tw_reuse_delay, Linux 6.14); at first a second. LEDGER_REUSABLE
 * cools a little longer. */
void ledger_set_reuse_delay(struct ledger *l, uint64_t delay_ms);

/* What a user may have of each target's slots: `share` percent at most (0: no
 * limit), and `reserve` of them are kept for it. It counts from the next
 * ledger_set_pool() on, with the pool's rules. The master's alone. */
void ledger_set_user(
    struct ledger *l, uint16_t id, unsigned share, uint32_t reserve);

/* Ends the lease, after close(); empties `lease`. Unknown or already returned
 * leases (the master was faster) are ignored. */
void ledger_return(struct ledger *l, struct ledger_lease *lease,
    enum ledger_release how, uint64_t now_ms);

/* In a pool by_kernel: says which source the kernel chose. Also for by-route
 * sources in other pools, where only the ip is new. For `who` only. */
void ledger_name_source(struct ledger *l, const struct ledger_lease *lease,
    const struct addr *source);

/*
 * No slot with this port is leased before `until_ms`, towards any target: a
 * stranger holds it. True for the one caller that finds it so first: not while
 * it rests, nor when the last rest ended less than LEDGER_REST_TIMES the length
 * of this one ago, for then the stranger has most likely been there all along.
 */
#define LEDGER_REST_TIMES 10
bool ledger_rest_port(
    struct ledger *l, uint16_t port, uint64_t now_ms, uint64_t until_ms);

/* Returns what a dead worker held, as LEDGER_HOT; how many. It waits for
 * nothing any more, and what it may not have told others is to be told again.
 * Short holds. */
uint32_t ledger_return_worker(
    struct ledger *l, uint8_t worker, uint64_t now_ms);

/* Does anything of pool `id` (held or cooling) use a port first..last? */
bool ledger_uses_ports(struct ledger *l, unsigned pool, uint16_t first,
    uint16_t last, uint64_t now_ms);

struct ledger_totals {
	uint64_t held, hot, cooling, targets, waiting;
	uint64_t records_free, targets_free; /* never handed out included */
	uint64_t rebuilds;                   /* shards mended after a death */
};
void ledger_totals(struct ledger *l, struct ledger_totals *out);

struct ledger_target {
	uint32_t held, hot, cooling, slots, high_water, waiting;
};
/* Zeros in `out` when the target has no entry. */
void ledger_target(struct ledger *l, unsigned pool, const struct addr *target,
    uint64_t now_ms, struct ledger_target *out);

/* Every invariant of every shard, for tests: 0, or -EUCLEAN with the words of
 * the first that is broken in `why`. */
MUST_USE int ledger_check(struct ledger *l, char *why, size_t size);

#endif
