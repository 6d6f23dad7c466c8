/* SPDX-License-Identifier: ISC */
/*
 * pairs: both ends of a connection in one process, and what an end sees. What
 * waits gives up after PAIRS_PATIENCE_MS, which no working machine needs.
 */
#ifndef FOURFOLD_TEST_PAIRS_H
#define FOURFOLD_TEST_PAIRS_H

#include "base/addr.h"

#define PAIRS_PATIENCE_MS 20000

/* How a stream stands, as the end that reads it sees. */
enum pairs_end { PAIRS_OPEN, PAIRS_FIN, PAIRS_RESET, PAIRS_OTHER };

/* Non-blocking, connected over loopback; false with errno. */
bool pairs_tcp(int *ours, int *theirs);
bool pairs_unix(int *ours, int *theirs);

/* Listens on `at` (port 0: any, written back); -1 with errno. */
int pairs_listen(struct addr *at);

/* Waits until poll() reports one of `events`. */
bool pairs_wait(int fd, short events);

/* Writes it all. */
bool pairs_send(int fd, const void *bytes, size_t len);

/* Reads until there are `len` bytes or the stream stands otherwise; how many.
 */
size_t pairs_recv(int fd, void *bytes, size_t len);

/* Waits for the stream's end when `expected` is one, and looks. Bytes that
 * are still there are PAIRS_OTHER. */
enum pairs_end pairs_look(int fd, enum pairs_end expected);

/* Closes with a reset. */
void pairs_reset(int fd);

/* Open descriptors of this process. */
int pairs_open_fds(void);

#endif
