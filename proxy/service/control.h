/* SPDX-License-Identifier: ISC */
/*
 * control: the control socket, on which the observer answers. The master makes
 * it, so that what needs privileges is done before they are given up, and holds
 * it, so that it outlives observers and reloads.
 */
#ifndef FOURFOLD_CONTROL_H
#define FOURFOLD_CONTROL_H

#include <stdio.h>

#include "base/log.h"
#include "policy/config.h"
#include "service/unixpath.h"

struct control {
	int fd; /* listening; -1: there is none */
	char path[CONFIG_PATH_MAX + 1];
	struct unixpath file;
};

void control_init(struct control *c);

/*
 * Makes what `config` wants, or takes it over from `old` (NULL: none), which
 * then has it too until one of the two is given up. Where the file did not ask
 * for a socket, and there can be none, that is logged and `out` is without.
 * Otherwise a negative errno, and a line to `errors`.
 */
MUST_USE int control_open(struct control *out, const struct config *config,
    const struct control *old, struct log *log, FILE *errors);

/* May this process give the socket to the group of the file? -ENOENT: there is
 * no such group; -EPERM: it is neither root nor a member. */
MUST_USE int control_check_group(const struct config *config);

/* Gives up what `other` (NULL: nobody) has not: for the old one of two when the
 * new one stays, for the new one when it does not, for the last at the end. */
void control_close(struct control *c, const struct control *other);

#endif
