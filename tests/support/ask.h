/* SPDX-License-Identifier: ISC */
/*
 * ask: what a running daemon says on its control socket: by the program's own
 * commands, and by bytes that are not of its client.
 */
#ifndef FOURFOLD_TESTS_ASK_H
#define FOURFOLD_TESTS_ASK_H

#include <jansson.h>

#include "daemon.h"
#include "it.h"

/* Runs `fourfold WORDS... -c FILE` with the daemon's file. */
void ask_run(struct daemon *d, const char *const words[], struct it_outcome *o);
#define ask(d, o, ...) ask_run(d, (const char *const[]){ __VA_ARGS__, NULL }, o)

/* The same, and its output must be JSON. */
json_t *ask_json_of(struct daemon *d, const char *const words[]);
#define ask_json(d, ...) \
	ask_json_of(d, (const char *const[]){ __VA_ARGS__, NULL })

/* A member of members, by their names joined with "."; "#3" is a place in an
 * array. Fails when it is not there. */
const json_t *ask_get(const json_t *o, const char *path);
long long ask_number(const json_t *o, const char *path);
const char *ask_text(const json_t *o, const char *path);

/* Sends these bytes on a connection of its own, and reads the answer up to the
 * end; its HTTP status, or 0 when there is none. `body` may be NULL. */
int ask_raw(const struct daemon *d, const void *bytes, size_t len, char *body,
    size_t size);

/* The body of a page, however long, and how long that took from the connection
 * to the last byte. It is to be freed. */
char *ask_page(const struct daemon *d, const char *page, uint64_t *took_ms);

#endif
