/* SPDX-License-Identifier: ISC */
/*
 * hostnet: which addresses are this host's own: the kernel's local routing
 * table (addresses of interfaces and routes of type local), by rtnetlink.
 *
 * Owns its copy of the table. Refreshed on demand, since addresses come and go.
 */
#ifndef FOURFOLD_HOSTNET_H
#define FOURFOLD_HOSTNET_H

#include "base/addr.h"

struct hostnet {
	struct prefix *local; /* type local: delivered to this host */
	size_t local_count;
	struct prefix *broadcast; /* type broadcast, anycast */
	size_t broadcast_count;
	uint64_t read_ms; /* when; 0: never */
};

void hostnet_init(struct hostnet *h);
void hostnet_fini(struct hostnet *h);

/* Reads the table anew when it is older than `max_age_ms`. A negative errno
 * leaves the copy as it was. One dump is about 50 us. */
MUST_USE int hostnet_refresh(
    struct hostnet *h, uint64_t now_ms, uint64_t max_age_ms);

bool hostnet_is_local(const struct hostnet *h, const struct addr *a);
bool hostnet_is_broadcast(const struct hostnet *h, const struct addr *a);

/* The broadcast address of IPv4 that `p` has in it, if there is one. */
bool hostnet_find_broadcast(
    const struct hostnet *h, const struct prefix *p, struct addr *out);

/* Is each address of `p` local? Several routes may share the prefix. */
bool hostnet_covers(const struct hostnet *h, const struct prefix *p);

#endif
