/* SPDX-License-Identifier: ISC */
/*
 * target: a server that clients ask the proxy for. It listens on 0.0.0.0 and
 * so is as many targets as there are addresses in 127.0.0.0/8.
 */
#ifndef FOURFOLD_TESTS_TARGET_H
#define FOURFOLD_TESTS_TARGET_H

#include "base/addr.h"

struct target {
	int fd; /* listening */
	uint16_t port;
};

/* On a port that is free. */
void target_listen(struct target *t);
/* On this address, port 0: any. */
void target_listen_on(struct target *t, const char *address);
void target_close(struct target *t);

/* The target at this ip ("127.1.2.3"); the `n`th of 127.64.0.0/10. */
struct addr target_at(const struct target *t, const char *ip);
struct addr target_number(const struct target *t, uint32_t n);

/* The next connection, in the order in which they were made. */
int target_accept(const struct target *t);
/* Is one waiting to be accepted at this moment? */
bool target_is_waiting(const struct target *t);

/* An address on which SYNs stay without an answer: a listener whose queue is
 * full. Closing the three descriptors ends it. */
struct target_silent {
	int fds[3];
	struct addr address;
};
void target_make_silent(struct target_silent *s);
void target_close_silent(struct target_silent *s);

/* An address where nobody listens. */
struct addr target_refusing(void);

#endif
