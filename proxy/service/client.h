/* SPDX-License-Identifier: ISC */
/*
 * client: asks the observer of a running Fourfold, over its control socket, and
 * waits for the answer.
 */
#ifndef FOURFOLD_CLIENT_H
#define FOURFOLD_CLIENT_H

#include <stdio.h>

#include "base/base.h"

#define CLIENT_WHY_MAX 512

/*
 * Asks for `page`, a path with its query, by `method`. The answer's body goes
 * to `out` as it arrives. Otherwise a negative errno, and `why` says in words
 * what is wrong: -EINVAL: the question.
 */
MUST_USE int client_ask(const char *socket_path, const char *method,
    const char *page, FILE *out, char why[CLIENT_WHY_MAX]);

/* Appends NAME=VALUE, the value as a query has it (RFC 3986). */
void client_put_param(FILE *page, const char *name, const char *value);

#endif
