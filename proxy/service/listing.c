/* SPDX-License-Identifier: ISC */
#include "service/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#define PART_ROWS 500

/* A row's text at most: a name of 255 bytes of which each is escaped, and the
 * rest. */
#define ROW_MAX 2560

/* Of the table, and the blanks between two of them. */
#define COLUMNS 7
#define GAP     2

struct listing {
	struct view view; /* of the moment at which it was made */
	struct listing_filter filter;
	enum listing_form form;
	struct ledger_record_row *rows;
	size_t count, room, limit;
	size_t next;            /* to be written */
	uint64_t more;          /* rows beyond the limit */
	size_t widths[COLUMNS]; /* of the table, in characters */
	bool no_memory, begun;
};

/* ---- what agrees ---- */

static bool
agrees_source(const struct listing_filter *f, const struct addr *source)
{
	/* By route and not known yet: perhaps. */
	return source->port == f->source.port &&
	       (addr_equal_ip(source, &f->source) ||
		   (addr_is_unspecified_ip(source) &&
		       source->family == f->source.family));
}

static bool
agrees_client(const struct listing_filter *f, const struct addr *client)
{
	if (f->is_unix || client->family == ADDR_NONE)
		return f->is_unix && client->family == ADDR_NONE;
	return prefix_contains(&f->client, client);
}

static bool
agrees(const struct listing_filter *f, const struct ledger_record_row *row)
{
	if (f->by_source && !agrees_source(f, &row->source))
		return false;
	if (f->by_target &&
	    (!addr_equal_ip(&row->target, &f->target) ||
		(!f->any_target_port && row->target.port != f->target.port)))
		return false;
	if (f->by_client && !agrees_client(f, &row->holder.client))
		return false;
	return !f->by_user || row->holder.user == f->user;
}

static void
on_record(void *arg, const struct ledger_record_row *row)
{
	struct listing *l = arg;

	if (row->use != LEDGER_HELD || l->no_memory || !agrees(&l->filter, row))
		return;
	if (l->count == l->limit) {
		l->more++;
		return;
	}
	if (l->count == l->room) {
		size_t room = l->room == 0 ? 64 : l->room * 2;
		struct ledger_record_row *grown =
		    reallocarray(l->rows, room, sizeof(*grown));

		if (grown == NULL) {
			l->no_memory = true;
			return;
		}
		l->rows = grown;
		l->room = room;
	}
	l->rows[l->count++] = *row;
}

/* ---- rows of text ---- */

/* Printing a hundred thousand rows by printf() takes longer than finding
 * them. */
struct row_text {
	char text[ROW_MAX];
	size_t len;
};

static void
put(struct row_text *t, const char *words)
{
	size_t len = strlen(words);

	must(t->len + len <= sizeof(t->text));
	memcpy(t->text + t->len, words, len);
	t->len += len;
}

static void
put_char(struct row_text *t, char c)
{
	must(t->len < sizeof(t->text));
	t->text[t->len++] = c;
}

static void
put_number(struct row_text *t, uint64_t n, unsigned base)
{
	char digits[24];
	size_t i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n != 0);
	put(t, digits + i);
}

static void
put_addr(struct row_text *t, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];

	if (a->family != ADDR_V4) {
		put(t, addr_format(a, text));
		return;
	}
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			put_char(t, '.');
		put_number(t, a->ip[i], 10);
	}
	put_char(t, ':');
	put_number(t, a->port, 10);
}

/* The length of the UTF-8 sequence that begins here (RFC 3629); 0: none. */
static unsigned
utf8_length(const unsigned char *c)
{
	unsigned n = c[0] < 0x80   ? 1
		     : c[0] < 0xc2 ? 0
		     : c[0] < 0xe0 ? 2
		     : c[0] < 0xf0 ? 3
		     : c[0] < 0xf5 ? 4
				   : 0;

	for (unsigned i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
	    (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return n;
}

/* Of a string in JSON (RFC 8259, section 7); bytes that are not UTF-8 become
 * the code points of the same numbers. */
static void
put_json_string(struct row_text *t, const char *words)
{
	const unsigned char *c = (const unsigned char *)words;

	put_char(t, '"');
	while (*c != '\0') {
		unsigned n = utf8_length(c);

		if (n == 0 || *c < ' ' || *c == 0x7f) {
			put(t, "\\u00");
			put_number(t, *c / 16, 16);
			put_number(t, *c % 16, 16);
			n = 1;
		} else {
			if (*c == '"' || *c == '\\')
				put_char(t, '\\');
			for (unsigned i = 0; i < n; i++)
				put_char(t, (char)c[i]);
		}
		c += n;
	}
	put_char(t, '"');
}

static const char *
user_name(const struct listing *l, const struct ledger_record_row *row)
{
	return names_get(l->view.names, row->holder.user);
}

static void
put_client(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	(void)l;
	if (row->holder.client.family == ADDR_NONE)
		put(t, "unix");
	else
		put_addr(t, &row->holder.client);
}

static void
put_json_row(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	const char *user = user_name(l, row);
	char since[VIEW_TIME_MAX];

	put(t, "{\"session\":\"");
	put_number(t, row->holder.session, 16);
	put(t, "\",\"client\":\"");
	put_client(l, row, t);
	put(t, "\",\"user\":");
	if (user == NULL)
		put(t, "null");
	else
		put_json_string(t, user);
	put(t, ",\"target\":\"");
	put_addr(t, &row->target);
	put(t, "\",\"source\":\"");
	put_addr(t, &row->source);
	put(t, "\",\"egress\":\"");
	put(t, view_pool(&l->view, row->pool));
	put(t, "\",\"worker\":");
	put_number(t, row->holder.worker, 10);
	put(t, ",\"since\":\"");
	put(t, view_time(&l->view, row->when_ms, since));
	put(t, "\",\"age_ms\":");
	/* It may have begun after the moment of the view. */
	put_number(t,
	    l->view.now_ms > row->when_ms ? l->view.now_ms - row->when_ms : 0,
	    10);
	put(t, "}");
}

/* Puts a cell of the table. */
typedef void put_fn(const struct listing *l,
    const struct ledger_record_row *row, struct row_text *t);

static void
put_session(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	(void)l;
	put_number(t, row->holder.session, 16);
}

/* It goes to a terminal. */
static void
put_user(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	const char *user = user_name(l, row);

	for (const char *c = user != NULL ? user : "-"; *c != '\0'; c++)
		put_char(t, (unsigned char)*c <= ' ' || *c == 0x7f ? '?' : *c);
}

static void
put_target(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	(void)l;
	put_addr(t, &row->target);
}

static void
put_source(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	(void)l;
	put_addr(t, &row->source);
}

static void
put_egress(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	put(t, view_pool(&l->view, row->pool));
}

static void
put_since(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	char since[VIEW_TIME_MAX];

	put(t, view_time(&l->view, row->when_ms, since));
}

static const struct {
	const char *title;
	put_fn *put;
} columns[COLUMNS] = {
	{ "SESSION", put_session },
	{ "CLIENT", put_client },
	{ "USER", put_user },
	{ "TARGET", put_target },
	{ "SOURCE", put_source },
	{ "EGRESS", put_egress },
	{ "SINCE", put_since },
};

/* Characters from `start` on, as UTF-8 has them. */
static size_t
width_from(const struct row_text *t, size_t start)
{
	size_t width = 0;

	for (size_t i = start; i < t->len; i++)
		width += ((unsigned char)t->text[i] & 0xc0) != 0x80;
	return width;
}

/* Of the last column none is wanted. */
static void
measure(struct listing *l)
{
	for (size_t c = 0; c + 1 < COLUMNS; c++)
		l->widths[c] = strlen(columns[c].title);
	for (size_t i = 0; i < l->count; i++) {
		for (size_t c = 0; c + 1 < COLUMNS; c++) {
			struct row_text t;
			size_t width;

			t.len = 0;
			columns[c].put(l, &l->rows[i], &t);
			width = width_from(&t, 0);
			if (width > l->widths[c])
				l->widths[c] = width;
		}
	}
}

/* Behind the cell of column `c` that began at `start`. */
static void
end_cell(const struct listing *l, size_t c, size_t start, struct row_text *t)
{
	size_t width = width_from(t, start);

	if (c + 1 == COLUMNS) {
		put_char(t, '\n');
		return;
	}
	for (size_t i = width; i < l->widths[c] + GAP; i++)
		put_char(t, ' ');
}

/* NULL: the titles. */
static void
put_text_row(const struct listing *l, const struct ledger_record_row *row,
    struct row_text *t)
{
	for (size_t c = 0; c < COLUMNS; c++) {
		size_t start = t->len;

		if (row != NULL)
			columns[c].put(l, row, t);
		else
			put(t, columns[c].title);
		end_cell(l, c, start, t);
	}
}

/* ---- all of it ---- */

struct listing *
listing_new(const struct view *v, const struct listing_filter *filter,
    enum listing_form form, size_t limit)
{
	struct listing *l = malloc(sizeof(*l));

	if (l == NULL)
		return NULL;
	*l = (struct listing){
		.view = *v, .filter = *filter, .form = form, .limit = limit
	};
	ledger_each_record(v->ledger, v->now_ms, on_record, l);
	if (l->no_memory) {
		listing_free(l);
		return NULL;
	}
	if (form == LISTING_TEXT)
		measure(l);
	return l;
}

void
listing_free(void *listing)
{
	struct listing *l = listing;

	free(l->rows);
	free(l);
}

static void
add_head(const struct listing *l, struct evbuffer *out)
{
	struct row_text t = { .len = 0 };

	if (l->form == LISTING_JSON)
		put(&t, "{\"sessions\":[");
	else
		put_text_row(l, NULL, &t);
	evbuffer_add(out, t.text, t.len);
}

static void
add_tail(const struct listing *l, struct evbuffer *out)
{
	struct row_text t = { .len = 0 };

	put(&t, l->form == LISTING_JSON ? "],\"shown\":" : "");
	put_number(&t, l->count, 10);
	if (l->form == LISTING_JSON) {
		put(&t, ",\"not_shown\":");
		put_number(&t, l->more, 10);
		put(&t, "}\n");
	} else {
		put(&t, l->count == 1 ? " session" : " sessions");
		if (l->more > 0) {
			put(&t, ", and ");
			put_number(&t, l->more, 10);
			put(&t, " more that are not shown");
		}
		put(&t, "\n");
	}
	evbuffer_add(out, t.text, t.len);
}

bool
listing_more(void *listing, struct evbuffer *out)
{
	struct listing *l = listing;
	size_t end =
	    l->count - l->next > PART_ROWS ? l->next + PART_ROWS : l->count;

	if (!l->begun)
		add_head(l, out);
	l->begun = true;
	for (; l->next < end; l->next++) {
		struct row_text t;

		t.len = 0;
		if (l->form == LISTING_JSON) {
			put(&t, l->next == 0 ? "\n" : ",\n");
			put_json_row(l, &l->rows[l->next], &t);
		} else {
			put_text_row(l, &l->rows[l->next], &t);
		}
		evbuffer_add(out, t.text, t.len);
	}
	if (l->next < l->count)
		return true;
	add_tail(l, out);
	return false;
}
