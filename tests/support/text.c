/* SPDX-License-Identifier: ISC */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
text_append(struct text *t, const char *bytes, size_t len)
{
	if (t->len + len + 1 > t->room) {
		t->room = 2 * (t->len + len) + 4096;
		t->bytes = realloc(t->bytes, t->room);
		must(t->bytes != NULL);
	}
	memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
	t->bytes[t->len] = '\0';
}

void
text_fini(struct text *t)
{
	free(t->bytes);
	*t = (struct text){ 0 };
}

/* Is `word` in the line, between blanks or its ends? */
static bool
has_word(const char *line, size_t len, const char *word)
{
	size_t word_len = strlen(word);
	const char *at = line, *end = line + len;

	while ((at = memmem(at, (size_t)(end - at), word, word_len)) != NULL) {
		const char *behind = at + word_len;

		if ((at == line || at[-1] == ' ') &&
		    (behind == end || *behind == ' '))
			return true;
		at++;
	}
	return false;
}

bool
text_next_match(
    const struct text *t, struct text_scan *scan, const char *const words[])
{
	while (scan->next < t->len) {
		const char *line = t->bytes + scan->next;
		const char *end = memchr(line, '\n', t->len - scan->next);
		size_t i = 0;

		if (end == NULL)
			return false;
		scan->line = scan->next;
		scan->line_len = (size_t)(end - line);
		scan->next += scan->line_len + 1;
		while (words[i] != NULL &&
		       has_word(line, scan->line_len, words[i]))
			i++;
		if (words[i] == NULL)
			return true;
	}
	return false;
}

void
text_copy_line(
    const struct text *t, const struct text_scan *scan, char *out, size_t size)
{
	size_t len = scan->line_len < size - 1 ? scan->line_len : size - 1;

	memcpy(out, t->bytes + scan->line, len);
	out[len] = '\0';
}

/* Where the value of `key` begins, or NULL. */
static const char *
find_value(const char *line, const char *key)
{
	size_t len = strlen(key);

	for (const char *at = line; (at = strstr(at, key)) != NULL; at++) {
		if ((at == line || at[-1] == ' ') && at[len] == '=')
			return at + len + 1;
	}
	return NULL;
}

void
text_value(const char *line, const char *key, char *value, size_t size)
{
	const char *from = find_value(line, key);
	size_t len = 0;

	if (from != NULL) {
		bool quoted = *from == '"';

		from += quoted;
		len = strcspn(from, quoted ? "\"" : " \n");
		len = len < size - 1 ? len : size - 1;
		memcpy(value, from, len);
	}
	value[len] = '\0';
}
