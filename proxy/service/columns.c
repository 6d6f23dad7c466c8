/* SPDX-License-Identifier: ISC */
#include "service/columns.h"

#include <stdlib.h>
#include <string.h>

void
columns_init(struct columns *c, const char *sides)
{
	must(strlen(sides) <= COLUMNS_MAX);
	*c = (struct columns){ .sides = sides };
}

void
columns_fini(struct columns *c)
{
	free(c->rows);
	*c = (struct columns){ 0 };
}

struct columns_row *
columns_add(struct columns *c)
{
	struct columns_row *rows =
	    reallocarray(c->rows, c->count + 1, sizeof(*rows));

	must(rows != NULL);
	c->rows = rows;
	rows[c->count] = (struct columns_row){ 0 };
	return &rows[c->count++];
}

static size_t
width_of(const struct columns *c, size_t column)
{
	size_t width = 0;

	for (size_t i = 0; i < c->count; i++) {
		size_t len = strlen(c->rows[i].text[column]);

		width = len > width ? len : width;
	}
	return width;
}

/* No blanks are left at the end of a line. */
static void
print_row(const struct columns *c, const struct columns_row *row,
    const int widths[COLUMNS_MAX], FILE *out)
{
	size_t last = strlen(c->sides);

	while (last > 0 && row->text[last - 1][0] == '\0')
		last--;
	for (size_t i = 0; i < last; i++) {
		if (c->sides[i] == 'r')
			fprintf(out, "  %*s", widths[i], row->text[i]);
		else if (i + 1 < last)
			fprintf(out, "  %-*s", widths[i], row->text[i]);
		else
			fprintf(out, "  %s", row->text[i]);
	}
	fputc('\n', out);
}

void
columns_print(const struct columns *c, FILE *out)
{
	int widths[COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < strlen(c->sides); i++)
		widths[i] = (int)width_of(c, i);
	for (size_t i = 0; i < c->count; i++)
		print_row(c, &c->rows[i], widths, out);
}
