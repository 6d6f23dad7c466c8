/* SPDX-License-Identifier: ISC */
/*
 * peer: one end of a connection in a test: a client's or a target's.
 *
 * Descriptors are plain and blocking, with the deadline of it.h; whatever does
 * not go as stated fails the test.
 */
#ifndef FOURFOLD_TESTS_PEER_H
#define FOURFOLD_TESTS_PEER_H

#include "base/addr.h"

/* A TCP socket bound to `a`, with SO_REUSEADDR, or a negative errno. */
MUST_USE int peer_try_bind(const struct addr *a);
int peer_bind(const struct addr *a);

int peer_connect(const struct addr *to);
/* From this source ip and port (0: any). */
int peer_connect_from(const struct addr *from, const struct addr *to);
/* From 127.0.0.1 and a port below 20000, so that the client's port is none of
 * those that the test is about. For namespaces. */
int peer_connect_numbered(uint32_t number, const struct addr *to);
int peer_connect_unix(const char *path);
/* 0 or the errno of connect(). */
MUST_USE int peer_try_connect(const struct addr *to, int *out);
MUST_USE int peer_try_connect_unix(const char *path, int *out);
/* Begins to connect and does not wait. */
int peer_begin_connect(const struct addr *to);

/* From source port `port` in the way that shares it with others
 * (IP_LOCAL_PORT_RANGE). 0 or the errno of connect(). */
MUST_USE int peer_try_connect_sharing(
    uint16_t port, const struct addr *to, int *out);

struct addr peer_local(int fd);
struct addr peer_remote(int fd);

void peer_send(int fd, const void *bytes, size_t len);
void peer_recv(int fd, void *out, size_t len);
void peer_expect(int fd, const void *bytes, size_t len);

enum peer_end { PEER_EOF, PEER_RESET };

/* Reads up to the end and keeps what fits of it; how it ended. */
enum peer_end peer_drain(int fd, void *out, size_t size, size_t *len);

/* Nothing but a clean end of stream, or nothing but ECONNRESET, comes. Both
 * close the descriptor. */
void peer_expect_eof(int fd);
void peer_expect_reset(int fd);

/* Is there a byte, an end or an error to read at this moment? */
bool peer_is_readable(int fd);

void peer_finish(int fd); /* shutdown(SHUT_WR) */
void peer_reset(int fd);  /* closes with a reset */
void peer_set_blocking(int fd, bool blocking);

/* Sends a number and checks it at the other end, in both directions. */
void peer_exchange(int a, int b, uint32_t number);

#endif
