/* SPDX-License-Identifier: ISC */
/*
 * quota: how many sessions a client or user has and how fast new ones come, in
 * memory shared by all workers.
 *
 * One flat block without pointers, shards under robust process-shared mutexes.
 * What each worker counts of a subject is the truth; the sum over the workers
 * is derived and made anew when a lock's owner has died in it. Exact: of many
 * workers that enter at once none goes beyond the limit, and none is refused
 * below it.
 *
 * Time is CLOCK_MONOTONIC in ms, an argument.
 */
#ifndef FOURFOLD_QUOTA_H
#define FOURFOLD_QUOTA_H

#include "base/addr.h"

#define QUOTA_KEY_BYTES   16
#define QUOTA_WORKERS_MAX 255
#define QUOTA_RATE_MAX    1000000

struct quota; /* the shared block, as mapped in this process */

enum quota_kind { QUOTA_CLIENT = 1, QUOTA_USER, QUOTA_ARRIVALS };

/* Whose sessions are counted. A value, compared by its bytes. */
struct quota_subject {
	uint8_t ip[16]; /* of a client: its address, cut to the prefix */
	uint16_t user;  /* of a user: its id */
	uint8_t kind;   /* enum quota_kind */
	uint8_t family; /* of a client: ADDR_NONE is all of unix sockets */
};

struct quota_subject quota_client(
    const struct addr *client, unsigned bits_v4, unsigned bits_v6);
/* A client's connections that are no sessions, counted apart. */
struct quota_subject quota_arrivals(
    const struct addr *client, unsigned bits_v4, unsigned bits_v6);
struct quota_subject quota_user(uint16_t id);

enum quota_verdict {
	QUOTA_OK = 0,
	QUOTA_SESSIONS, /* as many as are allowed are there */
	QUOTA_RATE,     /* too many new ones within a second */
	QUOTA_NO_ROOM,  /* the table is full */
};

/* Bytes of memory for so many subjects at once. One that has sessions in more
 * than four workers counts as two, in more than twelve as three, and so on. */
MUST_USE size_t quota_bytes(uint32_t subjects);

/* Makes the table in `memory`, zeroed, page-aligned, mapped shared and of
 * quota_bytes(). `key` keys the hash of subjects. */
MUST_USE int quota_init(void *memory, uint32_t subjects,
    const uint8_t key[QUOTA_KEY_BYTES], struct quota **out);

/*
 * One more session of `subject` in worker `worker` (1 .. QUOTA_WORKERS_MAX), if
 * it has fewer than `sessions` and the rate allows it: `rate` a second, of
 * which those of one second may come at once; 0: no limit. After QUOTA_OK it
 * must end in one quota_leave() or quota_cancel(); after a refusal nothing has
 * changed: a refused one does not count against the rate. When the table is
 * full, the rates of subjects without sessions are forgotten first.
 */
MUST_USE enum quota_verdict quota_enter(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint32_t sessions, uint32_t rate,
    uint64_t now_ms);

/* Ends one of the subject's sessions in that worker, which has some. */
void quota_leave(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint64_t now_ms);

/* Takes back a quota_enter() of this moment: it does not count against the rate
 * either. */
void quota_cancel(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint64_t now_ms);

/* Forgets all that a dead worker counted. */
void quota_drop_worker(struct quota *q, uint8_t worker);

/* The subject's sessions now. */
uint32_t quota_count(struct quota *q, const struct quota_subject *subject);

/* Every invariant, for tests: 0, or -EUCLEAN with words in `why`. */
MUST_USE int quota_check(struct quota *q, char *why, size_t size);

#endif
