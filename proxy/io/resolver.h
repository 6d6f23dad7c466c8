/* SPDX-License-Identifier: ISC */
/*
 * resolver: names to addresses, by c-ares on the worker's event base
 * (/etc/hosts, resolv.conf, TCP fallback, both families).
 *
 * A resolve is an operation: `done` runs at most once, never from inside
 * resolve_start(), never after resolve_cancel(), and as its last act; the
 * handle is dead when `done` begins. c-ares itself calls back whenever it
 * likes; the contract is kept here.
 *
 * Resolves of one name at a time share a query. A query outlives those who
 * cancel, until it is answered or all tries have failed, and 16,384 is all
 * there may be. So a client may have as many as are free: one alone half of
 * them, and some are left to others whatever it does.
 */
#ifndef FOURFOLD_RESOLVER_H
#define FOURFOLD_RESOLVER_H

#include "base/addr.h"

#define RESOLVE_ADDRESSES_MAX 16

struct event_base;
struct resolver;
struct resolve;

enum resolve_result {
	RESOLVE_OK,
	RESOLVE_NOT_FOUND, /* NXDOMAIN, or a name without addresses */
	RESOLVE_FAILED,    /* SERVFAIL, no answer, no memory ... */
	RESOLVE_BUSY,      /* the client has as many as it may have */
};

/* Whom to ask, and how long; of these a zero field is as resolv.conf says. And
 * what makes one client. */
struct resolver_options {
	const char *servers; /* "127.0.0.1:53,[::1]:53"; borrowed */
	int timeout_ms; /* of the first try; the next waits twice as long */
	int tries;      /* of each server */
	unsigned client_bits_v4, client_bits_v6;
};

/* `addrs` (with the port that was asked for, IPv4-mapped ones unmapped, no
 * duplicates, in c-ares' order) live until `done` returns. */
typedef void resolve_done_fn(enum resolve_result result,
    const struct addr *addrs, size_t count, void *arg);

/* NULL comes back when c-ares cannot start or the servers are none. The base
 * must outlive the resolver. */
struct resolver *resolver_new(
    struct event_base *base, const struct resolver_options *options);

/* All resolves must have been cancelled or be done. */
void resolver_free(struct resolver *r);

/* `name` is copied; one with a zone ("fe80::1%eth0") is never found. Clients on
 * unix sockets (family NONE) are one. NULL: no memory, and nothing was begun.
 */
struct resolve *resolve_start(struct resolver *r, const struct addr *client,
    const char *name, uint16_t port, resolve_done_fn *done, void *arg);

/* Accepts a NULL in *resolve; sets it to NULL. */
void resolve_cancel(struct resolve **resolve);

#endif
