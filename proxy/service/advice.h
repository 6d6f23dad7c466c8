/* SPDX-License-Identifier: ISC */
/*
 * advice: what of this host, and of what else runs on it, stands in the way of
 * a configuration that is right as such, and what mends it. Pure: it judges
 * what others have read.
 */
#ifndef FOURFOLD_ADVICE_H
#define FOURFOLD_ADVICE_H

#include <stdio.h>

#include "egress/preflight.h"
#include "egress/strangers.h"
#include "service/capacity.h"

/* All borrowed. */
struct advice_facts {
	const struct config *config;
	const struct preflight_host *host;
	const struct pool *pools; /* one an egress */
	const struct capacity *capacity;
	unsigned processors;
	/* On ports of the pools and in their way: not ours, and none that
	 * shares its port. */
	const struct strangers *strangers;
};

/*
 * Writes a line for each thing: "what it is; what that means; this mends it:
 * command", the last part where there is a command or an option for it. How
 * many lines.
 */
unsigned advice_write(const struct advice_facts *f, FILE *out);

/* Can `s`, on a port of `pool`, be in the way of its sessions? A port that is
 * shared by range is blocked whatever the address. */
bool advice_concerns(const struct pool *pool, const struct stranger *s);

/* Is `port` one that `pool` shares with others, by range? */
bool advice_shares(const struct pool *pool, uint16_t port);

#endif
