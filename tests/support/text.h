/* SPDX-License-Identifier: ISC */
/*
 * text: bytes that grow by lines of "key=value" pairs, and finding lines.
 */
#ifndef FOURFOLD_TESTS_TEXT_H
#define FOURFOLD_TESTS_TEXT_H

#include "base/base.h"

struct text {
	char *bytes; /* ends in a NUL behind `len` */
	size_t len, room;
};

/* How far one has looked, and the line found last. */
struct text_scan {
	size_t next, line, line_len;
};

void text_append(struct text *t, const char *bytes, size_t len);
void text_fini(struct text *t);

/* The next whole line that has each of the `words`, NULL-terminated. */
bool text_next_match(
    const struct text *t, struct text_scan *scan, const char *const words[]);
void text_copy_line(
    const struct text *t, const struct text_scan *scan, char *out, size_t size);

/* The value of `key` in `line`, without quotes; "" when it is not there. */
void text_value(const char *line, const char *key, char *value, size_t size);

#endif
