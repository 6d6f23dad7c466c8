/* SPDX-License-Identifier: ISC */
/*
 * columns: rows of words, printed one below the other. It knows nothing of what
 * they say.
 */
#ifndef FOURFOLD_COLUMNS_H
#define FOURFOLD_COLUMNS_H

#include <stdio.h>

#include "base/base.h"

#define COLUMNS_MAX      10
#define COLUMNS_TEXT_MAX 127

struct columns_row {
	char text[COLUMNS_MAX][COLUMNS_TEXT_MAX + 1];
};

struct columns {
	const char *sides; /* of each column: 'l' left, 'r' right */
	struct columns_row *rows;
	size_t count;
};

void columns_init(struct columns *c, const char *sides);
void columns_fini(struct columns *c);

/* A new row at the end, empty; valid until the next one. */
struct columns_row *columns_add(struct columns *c);

/* Indented by two blanks, columns two blanks apart; nothing without rows. */
void columns_print(const struct columns *c, FILE *out);

#endif
