/* SPDX-License-Identifier: ISC */
/*
 * snapshot: a configuration together with what this host makes of it.
 */
#ifndef FOURFOLD_SNAPSHOT_H
#define FOURFOLD_SNAPSHOT_H

#include <stdio.h>

#include "egress/preflight.h"
#include "policy/config.h"

struct snapshot {
	struct config *config;
	struct preflight_host host;
	struct pool
	    *pools; /* one an egress; NULL until snapshot_make_pools() */
};

/* Reads `path`; NULL: the built-in defaults. On error every complaint was
 * written to `errors` as lines. */
MUST_USE int snapshot_load(
    const char *path, FILE *errors, struct snapshot *out);

/*
 * The control socket that the file names, "": none. Where the file cannot be
 * read or has errors, `why` says so (otherwise it is ""), and it is the one
 * that can be made out, or the default.
 */
#define SNAPSHOT_WHY_MAX 4352 /* a path, and some words */
void snapshot_find_control(const char *path, char control[CONFIG_PATH_MAX + 1],
    char why[SNAPSHOT_WHY_MAX]);

/*
 * Makes the pools, which must not hold one of `own` listening ports. Errors and
 * warnings are written as lines, and so is to `hints` (NULL: nowhere) what is
 * not as well as it could be, but as the file asks for it. May be called again.
 */
MUST_USE int snapshot_make_pools(struct snapshot *s, const uint16_t *own,
    size_t own_count, FILE *errors, FILE *warnings, FILE *hints);

void snapshot_fini(struct snapshot *s);

#endif
