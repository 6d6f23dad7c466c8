/* SPDX-License-Identifier: ISC */
/*
 * rules: may this client reach this address? For now the rules that hold
 * before there are any of the operator's: safe by default.
 *
 * Judged on the address that will be dialled, after names were resolved and
 * IPv4-mapped, NAT64 and 6to4 forms unwrapped (both forms of it are judged).
 */
#ifndef FOURFOLD_RULES_H
#define FOURFOLD_RULES_H

#include "base/addr.h"

/* What the rules need to know of this host, borrowed. */
struct rules_host {
	/* Own listening addresses; an unspecified ip is every own address. */
	const struct addr *listeners;
	size_t listener_count;
	/* Own addresses (hostnet); not looked at for ALLOW by other tests. */
	bool (*is_local)(void *arg, const struct addr *a);
	bool (*is_broadcast)(void *arg, const struct addr *a);
	void *arg;
};

enum rules_verdict {
	RULES_ALLOW,
	RULES_NEVER,    /* 0.0.0.0/8, ::, multicast, broadcast, link-local,
			   and where clouds keep their metadata services */
	RULES_LISTENER, /* one of Fourfold's own listeners */
	RULES_HOST,     /* loopback or own address, and the client is not on
			   loopback */
};

/*
 * `client` with family NONE is on a unix socket. A client is on this host when
 * it is on a unix socket or its address is a loopback one.
 */
enum rules_verdict rules_judge(const struct rules_host *host,
    const struct addr *client, const struct addr *target);

/* "never", "own_listener", "this_host"; for the log. */
const char *rules_verdict_name(enum rules_verdict v);

#endif
