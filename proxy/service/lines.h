/* SPDX-License-Identifier: ISC */
/*
 * lines: what a function writes to a FILE as lines, made events of the log.
 */
#ifndef FOURFOLD_LINES_H
#define FOURFOLD_LINES_H

#include <stdio.h>

#include "base/log.h"

struct lines {
	char *text; /* valid after fflush(file) */
	size_t size;
	FILE *file; /* to write to */
};

void lines_open(struct lines *l);

/* Logs each line as one event, the line under `key`, and closes. */
void lines_log(struct lines *l, struct log *log, enum log_level level,
    const char *event, const char *key);

#endif
