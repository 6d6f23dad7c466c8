/* SPDX-License-Identifier: ISC */
/*
 * The reading of a text: lines into sections and their options.
 *
 * inih splits a line into key and value. It cuts lines at 200 bytes, names no
 * line, and passes over empty sections and some comments; so the reader here
 * counts the lines, takes the section headers itself, and refuses what is too
 * long.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "policy/config_parse.h"

const char *
config_quote(const char *text, char out[QUOTE_MAX])
{
	size_t len = 0;

	/* Only hashes have a $; one in a wrong place is still a secret. */
	if (strchr(text, '$') != NULL)
		return "(not shown)";
	out[len++] = '"';
	while (*text != '\0' && len < QUOTE_MAX - 6) {
		out[len++] = *text++;
	}
	strcpy_bounded(
	    out + len, QUOTE_MAX - len, *text == '\0' ? "\"" : "...\"");
	return out;
}

unsigned
config_distance(const char *a, const char *b)
{
	unsigned row[CONFIG_NAME_MAX + 2];
	size_t len = strlen(b);

	if (len > CONFIG_NAME_MAX || strlen(a) > CONFIG_NAME_MAX)
		return UINT32_MAX;
	for (unsigned j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			bool same = tolower((unsigned char)a[i - 1]) ==
				    tolower((unsigned char)b[j - 1]);
			unsigned best = corner + !same;

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	/* Of a short word nothing would be left. */
	return row[len] < len ? row[len] : UINT32_MAX;
}

/* "; did you mean WORD?", or "; expected" and all words where none is near. */
#define HINT_MAX 240

static void
add_word(char hint[HINT_MAX], const char *word, bool named)
{
	size_t len = strlen(hint);

	snprintf(hint + len, HINT_MAX - len, "%s %s%s",
	    len == 0 ? "; expected" : ",", word, named ? " NAME" : "");
}

static void
hint_key(enum section_kind kind, const char *key, char out[HINT_MAX])
{
	const struct kind *k = config_kind(kind);
	unsigned best = CONFIG_DISTANCE_MAX + 1;
	const char *near = NULL;

	out[0] = '\0';
	for (unsigned i = k->first; i < k->end; i++) {
		const char *word = config_option(i)->key;
		unsigned distance = config_distance(key, word);

		add_word(out, word, false);
		if (distance >= best)
			continue;
		best = distance;
		near = word;
	}
	if (near != NULL)
		snprintf(out, HINT_MAX, "; did you mean %s?", near);
}

static void
hint_section(const char *word, char out[HINT_MAX])
{
	unsigned best = CONFIG_DISTANCE_MAX + 1;
	const struct kind *near = NULL;

	out[0] = '\0';
	for (unsigned i = 0; i < SECTION_KINDS; i++) {
		const struct kind *k = config_kind(i);
		unsigned distance = config_distance(word, k->word);

		add_word(out, k->word, k->bytes != 0);
		if (distance >= best)
			continue;
		best = distance;
		near = k;
	}
	if (near != NULL)
		snprintf(out, HINT_MAX, "; did you mean [%s%s]?", near->word,
		    near->bytes != 0 ? " NAME" : "");
}

/* The name behind the kind's word, or "" where it should not be used. */
static const char *
check_section_name(struct parse *p, enum section_kind kind, const char *name)
{
	char quote[QUOTE_MAX];
	const char *wrong = NULL;

	if (config_kind(kind)->bytes == 0) {
		if (*name != '\0')
			config_error(p, p->line,
			    "[%s] takes no name: expected [%s]",
			    config_kind(kind)->word, config_kind(kind)->word);
		return "";
	}
	if (*name == '\0') {
		config_error(p, p->line, "[%s] has no name: expected [%s NAME]",
		    config_kind(kind)->word, config_kind(kind)->word);
		return "";
	}
	if (kind != SECTION_USER)
		wrong = config_check_name(name);
	else if (strlen(name) > 255)
		wrong = "is longer than 255 bytes";
	else if (strcmp(name, "-") == 0)
		wrong = "means those who did not log in: expected another";
	if (wrong == NULL)
		return name;
	config_error(p, p->line, "the name %s of [%s NAME] %s",
	    config_quote(name, quote), config_kind(kind)->word, wrong);
	return "";
}

/* `head` is what is between the brackets; it is written to. */
static void
begin_section(struct parse *p, char *head)
{
	char *word = head + strspn(head, " \t"), *rest;
	const char *name;
	char quote[QUOTE_MAX], hint[HINT_MAX];
	unsigned kind = 0;

	for (size_t len = strlen(word); len > 0; len--) {
		if (word[len - 1] != ' ' && word[len - 1] != '\t')
			break;
		word[len - 1] = '\0';
	}
	rest = word + strcspn(word, " \t");
	if (*rest != '\0')
		*rest++ = '\0';
	name = rest + strspn(rest, " \t");
	while (
	    kind < SECTION_KINDS && strcmp(config_kind(kind)->word, word) != 0)
		kind++;
	p->has_key = false;
	p->option = OPTION_NONE;
	p->in_unknown = kind == SECTION_KINDS;
	p->section = NULL;
	if (p->in_unknown) {
		hint_section(word, hint);
		config_error(p, p->line, "%s is no section%s",
		    config_quote(word, quote), hint);
		return;
	}
	name = check_section_name(p, kind, name);
	p->section = config_add_section(p, kind, name, p->line);
	p->in_unknown = p->section == NULL;
}

/* A line that begins with '['. */
static void
read_header(struct parse *p, const char *line, size_t len)
{
	const char *close = memchr(line, ']', len);
	size_t end = close == NULL ? len : (size_t)(close - line), tail;
	char *head;

	if (close == NULL) {
		config_error(p, p->line,
		    "a section without ]: expected [NAME] alone on the line");
	} else {
		tail = end + 1;
		while (tail < len && (line[tail] == ' ' || line[tail] == '\t'))
			tail++;
		if (tail < len && line[tail] != ';' && line[tail] != '#')
			config_error(p, p->line,
			    "a section with something behind the ]: expected "
			    "it alone on the line");
	}
	head = strndup(line + 1, end - 1);
	if (head == NULL) {
		p->no_memory = true;
		return;
	}
	begin_section(p, head);
	free(head);
}

/* inih passes over a line without = or :, and does not say so. */
static void
check_last_line(struct parse *p)
{
	if (p->awaited && !p->cut && !p->in_unknown)
		config_error(p, p->line,
		    "neither a section nor an option: expected KEY = VALUE");
	p->awaited = p->cut = false;
}

static bool
has_control(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((line[i] > 0 && line[i] < ' ' && line[i] != '\t') ||
		    line[i] == 0x7f)
			return true;
	return false;
}

/* Up to a comment: inih knows none in a line that continues an option. */
static size_t
comment_start(const char *line, size_t len)
{
	for (size_t i = 1; i < len; i++)
		if (line[i] == ';' &&
		    (line[i - 1] == ' ' || line[i - 1] == '\t'))
			return i;
	return len;
}

/* Copies a line to `buf` for inih, unless there is nothing in it for inih. */
static void
read_line(struct parse *p, const char *line, size_t len, char *buf, size_t size)
{
	size_t blank = 0;

	while (blank < len && (line[blank] == ' ' || line[blank] == '\t'))
		blank++;
	if (blank == len || line[blank] == ';' || line[blank] == '#')
		return;
	if (has_control(line, len)) {
		config_error(p, p->line, "a control character in the line");
		return;
	}
	p->indented = blank > 0;
	if (!p->indented && *line == '[') {
		read_header(p, line, len);
		/* For inih too the key before has ended. */
		strcpy_bounded(buf, size, "[s]");
		return;
	}
	if (p->indented && !p->has_key) {
		if (!p->in_unknown)
			config_error(p, p->line,
			    "begins with a blank, which continues the option "
			    "above, and there is none: expected KEY = VALUE "
			    "at the start of the line");
		return;
	}
	len = comment_start(line, len);
	p->awaited = true;
	p->cut = len >= size;
	if (p->cut && !p->in_unknown)
		config_error(p, p->line,
		    "longer than %zu bytes: continue a list on the next line, "
		    "which then begins with a blank",
		    size - 1);
	if (p->cut)
		len = size - 1;
	memcpy(buf, line, len);
	buf[len] = '\0';
}

/* inih's reader: the next line, without its end. */
static char *
on_read(char *buf, int size, void *stream)
{
	struct parse *p = stream;
	const char *line = p->next, *end;
	size_t len;

	check_last_line(p);
	if (line == p->end)
		return NULL;
	end = memchr(line, '\n', (size_t)(p->end - line));
	p->next = end == NULL ? p->end : end + 1;
	len = (size_t)((end == NULL ? p->end : end) - line);
	if (len > 0 && line[len - 1] == '\r')
		len--;
	p->line++;
	buf[0] = '\0';
	read_line(p, line, len, buf, (size_t)size);
	return buf;
}

static void
on_unknown_key(struct parse *p, const char *key)
{
	const struct section *s = p->section;
	const char *word = config_kind(s->kind)->word;
	char quote[QUOTE_MAX], hint[HINT_MAX];

	if (*key == '\0') {
		config_error(
		    p, p->line, "no key before the =: expected KEY = VALUE");
		return;
	}
	hint_key(s->kind, key, hint);
	/* What is written in the wrong place may well be a password. */
	if (s->kind == SECTION_USER)
		config_error(
		    p, p->line, "unknown option of [%s NAME]%s", word, hint);
	else
		config_error(p, p->line, "%s is no option of [%s]%s",
		    config_quote(key, quote), word, hint);
}

static void
on_key(struct parse *p, const char *key, const char *value)
{
	struct section *s = p->section;
	struct setting *setting;
	unsigned id = config_kind(s->kind)->first;

	p->has_key = *key != '\0';
	p->option = OPTION_NONE;
	while (id < config_kind(s->kind)->end &&
	       strcmp(config_option(id)->key, key) != 0)
		id++;
	if (id == config_kind(s->kind)->end) {
		on_unknown_key(p, key);
		return;
	}
	setting = config_setting(s, id);
	if (setting->line != 0) {
		config_error(p, p->line,
		    "%s is set twice in its section: line %u did already", key,
		    setting->line);
		return;
	}
	p->option = id;
	setting->line = p->line;
	if (p->cut)
		setting->failed = true;
	else if (*value != '\0')
		config_set_option(p, s, id, value, p->line);
}

/* A line that begins with a blank. */
static void
on_continuation(struct parse *p, const char *value)
{
	const struct option *o;
	struct setting *setting;

	if (p->option == OPTION_NONE)
		return;
	o = config_option(p->option);
	setting = config_setting(p->section, p->option);
	if (p->cut) {
		setting->failed = true;
	} else if (!o->list || strchr(value, '=') != NULL) {
		config_error(p, p->line,
		    "begins with a blank, which continues %s%s", o->key,
		    o->list ? ": expected options at the start of "
			      "their line"
			    : ", and that takes one value on one line");
		setting->failed = true;
	} else {
		config_set_option(p, p->section, p->option, value, p->line);
	}
}

static int
on_option(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;

	(void)section; /* the reader knows better */
	/* inih can be built to call for a section too. */
	if (name == NULL || value == NULL)
		return 1;
	p->awaited = false;
	if (p->in_unknown)
		p->has_key = true;
	else if (p->section == NULL)
		config_error(p, p->line,
		    "an option before any section: expected [SECTION] first");
	else if (p->indented)
		on_continuation(p, value);
	else
		on_key(p, name, value);
	return 1;
}

void
config_read(struct parse *p, const char *text, size_t len)
{
	const char *nul = memchr(text, '\0', len);

	p->next = text;
	p->end = text + len;
	if (nul != NULL) {
		unsigned line = 1;

		for (const char *c = text; c < nul; c++)
			line += *c == '\n';
		config_error(p, line,
		    "a NUL byte: expected a text file in ASCII or UTF-8");
		return;
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		p->next += 3;
	if (ini_parse_stream(on_read, p, on_option, p) < 0)
		p->no_memory = true;
}
