/* SPDX-License-Identifier: ISC */
/*
 * socks: a scripted SOCKS5 client, written from RFC 1928 and RFC 1929 and not
 * from the proxy's codec. What is not said otherwise fails the test.
 */
#ifndef FOURFOLD_TESTS_SOCKS_H
#define FOURFOLD_TESTS_SOCKS_H

#include "target.h"

/* Messages: each writes to `out` and returns the length. */
#define SOCKS_MESSAGE_MAX 520
size_t socks_put_greeting(uint8_t *out);
size_t socks_put_login(uint8_t *out, const char *user, const char *password);
size_t socks_put_request(uint8_t *out, uint8_t command, const struct addr *to);
size_t socks_put_name(
    uint8_t *out, uint8_t command, const char *name, uint16_t port);

/* A connection to the proxy with "no authentication" agreed. */
int socks_connect(const struct addr *proxy);
void socks_greet(int fd);

/* Agrees on user and password and says them; the status (0: accepted). */
uint8_t socks_login(int fd, const char *user, const char *password);

struct socks_reply {
	uint8_t code;
	struct addr bound;
};

void socks_request(int fd, const struct addr *to);
void socks_request_name(int fd, const char *name, uint16_t port);
struct socks_reply socks_reply(int fd);
/* The reply is this one. A refusal carries no address, and the end follows;
 * the descriptor is closed then. */
void socks_expect(int fd, uint8_t code);

/* A session in one go: greeting and request in one segment; the code. A
 * refusal closes the descriptor (*fd is -1). */
uint8_t socks_try(const struct addr *proxy, const struct addr *to, int *fd);
/* The same on a connection just made. */
struct socks_reply socks_ask(int fd, const struct addr *to);

/* A session with both of its ends. */
struct pair {
	int client, target;
	struct addr source; /* what the target saw */
};

/* Opens one towards `to`, which `t` accepts. */
void pair_open(struct pair *p, const struct addr *proxy, const struct target *t,
    const struct addr *to);
/* The same by a connection just made to the proxy. */
void pair_open_by(
    struct pair *p, int client, const struct target *t, const struct addr *to);
void pair_exchange(const struct pair *p, uint32_t number);
/* The client ends it with a reset; returns when the target has seen it. */
void pair_reset(struct pair *p);
/* The same of `n` of them, all towards `to`; and of them all, one by one. */
void pair_open_all(struct pair *pairs, size_t n, const struct addr *proxy,
    const struct target *t, const struct addr *to);
void pair_reset_all(struct pair *pairs, size_t n);
/* Both end it in order. */
void pair_finish(struct pair *p);

#endif
