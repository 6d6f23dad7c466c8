/* SPDX-License-Identifier: ISC */
#include "service/lines.h"

#include <stdlib.h>
#include <string.h>

void
lines_open(struct lines *l)
{
	*l = (struct lines){ 0 };
	l->file = open_memstream(&l->text, &l->size);
	must(l->file != NULL);
}

void
lines_log(struct lines *l, struct log *log, enum log_level level,
    const char *event, const char *key)
{
	char *rest, *line;

	fclose(l->file);
	rest = l->text;
	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
		if (*line == '\0')
			continue;
		log_begin(log, level, event);
		log_text(log, key, line);
		log_end(log);
	}
	free(l->text);
}
