/* SPDX-License-Identifier: ISC */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "ledger_fixture.h"
#include "service/listing.h"

#define NOW UINT64_C(1000000)
/* 2026-11-22T10:41:52.004Z */
#define NOW_EPOCH UINT64_C(1795344112004)

struct scene {
	struct ledger *ledger;
	struct names *names;
	char pool_names[LEDGER_POOLS_MAX][POOL_NAME_MAX + 1];
	struct view view;
};

static struct scene *
scene_new(void)
{
	struct scene *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	s->ledger = fixture_ledger(4000, 4000);
	s->names = mmap(NULL, sizeof(*s->names), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(s->names, MAP_FAILED);
	fixture_set(s->ledger, 0, "192.0.2.1", 100, 199);
	fixture_set(s->ledger, 1, "2001:db8::1", 100, 199);
	strcpy_bounded(s->pool_names[0], POOL_NAME_MAX + 1, "main");
	strcpy_bounded(s->pool_names[1], POOL_NAME_MAX + 1, "six");
	s->view = (struct view){ .ledger = s->ledger,
		.names = s->names,
		.pool_names = (const char(*)[POOL_NAME_MAX + 1]) s->pool_names,
		.now_ms = NOW,
		.now_epoch_ms = NOW_EPOCH };
	return s;
}

static uint16_t
user(struct scene *s, const char *name)
{
	struct config_user u = { 0 };

	strcpy_bounded(u.name, sizeof(u.name), name);
	cr_assert_eq(names_assign(s->names, &u, 1), 0);
	return u.id;
}

static void
hold(struct scene *s, unsigned pool, const char *target, const char *client,
    uint16_t id, uint64_t session)
{
	struct ledger_holder holder = {
		.session = session, .user = id, .worker = 2
	};
	struct addr a = fixture_at(target);
	struct ledger_lease lease;

	if (client != NULL)
		holder.client = fixture_at(client);
	cr_assert_eq(
	    ledger_lease(s->ledger, pool, &a, &holder, NOW - 60000, &lease), 0);
}

/* The whole of it, made part by part. */
static char *
write_all(struct scene *s, const struct listing_filter *filter,
    enum listing_form form, size_t limit, unsigned *parts)
{
	struct listing *l = listing_new(&s->view, filter, form, limit);
	struct evbuffer *out = evbuffer_new();
	size_t len;
	char *text;

	cr_assert_not_null(l);
	*parts = 1;
	while (listing_more(l, out))
		(*parts)++;
	listing_free(l);
	len = evbuffer_get_length(out);
	text = calloc(1, len + 1);
	evbuffer_remove(out, text, len);
	evbuffer_free(out);
	return text;
}

static json_t *
list(struct scene *s, const struct listing_filter *filter, size_t limit)
{
	unsigned parts;
	char *text = write_all(s, filter, LISTING_JSON, limit, &parts);
	json_error_t error;
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	cr_assert_not_null(o, "%s: %s", error.text, text);
	free(text);
	return o;
}

/* The ids of the sessions that agree, in order, as a bit each. */
static unsigned
found(struct scene *s, const struct listing_filter *filter)
{
	json_t *o = list(s, filter, 100), *row;
	unsigned bits = 0;
	size_t i;

	json_array_foreach(json_object_get(o, "sessions"), i, row) bits |=
	    1U << strtoul(
		json_string_value(json_object_get(row, "session")), NULL, 16);
	json_decref(o);
	return bits;
}

static void
expect_text(json_t *row, const char *key, const char *words)
{
	const char *value = json_string_value(json_object_get(row, key));

	cr_assert_not_null(value, "%s", key);
	cr_expect_str_eq(value, words, "%s is %s", key, value);
}

Test(listing, nothing_held_is_an_empty_list)
{
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	json_t *o = list(s, &all, 10);

	cr_expect_eq(json_array_size(json_object_get(o, "sessions")), 0);
	cr_expect(json_is_array(json_object_get(o, "sessions")));
	cr_expect_eq(json_integer_value(json_object_get(o, "shown")), 0);
	json_decref(o);
	free(s);
}

Test(listing, a_row_says_all_that_is_known_of_a_lease)
{
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	json_t *o, *row;

	hold(s, 0, "203.0.113.9:443", "198.51.100.7:5000", user(s, "alice"),
	    0x20000000001);
	o = list(s, &all, 10);
	row = json_array_get(json_object_get(o, "sessions"), 0);
	expect_text(row, "session", "20000000001");
	expect_text(row, "client", "198.51.100.7:5000");
	expect_text(row, "user", "alice");
	expect_text(row, "target", "203.0.113.9:443");
	expect_text(row, "source", "192.0.2.1:100");
	expect_text(row, "egress", "main");
	expect_text(row, "since", "2026-11-22T10:40:52.004Z");
	cr_expect_eq(json_integer_value(json_object_get(row, "age_ms")), 60000);
	cr_expect_eq(json_integer_value(json_object_get(row, "worker")), 2);
	json_decref(o);
	free(s);
}

Test(listing, what_is_asked_for_is_found_and_nothing_else)
{
	struct scene *s = scene_new();
	uint16_t alice = user(s, "alice"), bob = user(s, "bob");
	struct addr a;

	hold(s, 0, "203.0.113.9:443", "198.51.100.7:5000", alice, 0);
	hold(s, 0, "203.0.113.9:80", "198.51.100.7:5001", bob, 1);
	hold(s, 0, "203.0.113.8:443", "198.51.101.7:5000", bob, 2);
	hold(s, 1, "[2001:db8:1::9]:443", "[2001:db8:2::7]:9", 0, 3);
	hold(s, 0, "203.0.113.9:443", NULL, 0, 4);

	struct listing_filter none = { 0 };

	cr_expect_eq(found(s, &none), 0x1f);

	struct listing_filter f = { .by_user = true, .user = bob };

	cr_expect_eq(found(s, &f), 0x06);
	f.user = 0;
	cr_expect_eq(found(s, &f), 0x18);

	struct listing_filter t = { .by_target = true,
		.target = fixture_at("203.0.113.9:443") };

	cr_expect_eq(found(s, &t), 0x11);
	t.any_target_port = true;
	cr_expect_eq(found(s, &t), 0x13);
	cr_assert_eq(addr_parse_ip("2001:db8:1::9", &t.target), 0);
	cr_expect_eq(found(s, &t), 0x08);

	struct listing_filter c = { .by_client = true };

	cr_assert_eq(prefix_parse("198.51.100.0/24", &c.client), 0);
	cr_expect_eq(found(s, &c), 0x03);
	cr_assert_eq(prefix_parse("2001:db8:2::/48", &c.client), 0);
	cr_expect_eq(found(s, &c), 0x08);
	cr_assert_eq(prefix_parse("0.0.0.0/0", &c.client), 0);
	cr_expect_eq(found(s, &c), 0x07);
	c.is_unix = true;
	cr_expect_eq(found(s, &c), 0x10);

	/* The first port of each of three IPv4 targets; and all together. */
	struct listing_filter p = { .by_source = true,
		.source = fixture_at("192.0.2.1:100") };

	cr_expect_eq(found(s, &p), 0x07);
	p.by_target = true;
	p.target = fixture_at("203.0.113.9:80");
	cr_expect_eq(found(s, &p), 0x02);
	p.by_user = true;
	p.user = alice;
	cr_expect_eq(found(s, &p), 0);
	a = fixture_at("192.0.2.2:100");
	p = (struct listing_filter){ .by_source = true, .source = a };
	cr_expect_eq(found(s, &p), 0);
	free(s);
}

Test(listing, by_route_a_lease_may_be_of_any_address_until_it_is_known)
{
	struct scene *s = scene_new();
	struct addr named = fixture_at("192.0.2.77:300");
	struct listing_filter f = { .by_source = true,
		.source = fixture_at("192.0.2.78:300") };
	struct ledger_lease lease;

	fixture_set(s->ledger, 2, "0.0.0.0", 300, 300);
	cr_assert_eq(
	    fixture_lease(s->ledger, 2, "203.0.113.9:443", NOW, &lease), 0);
	cr_expect_eq(found(s, &f), 1U << 7);
	ledger_name_source(s->ledger, &lease, &named);
	cr_expect_eq(found(s, &f), 0);
	f.source = named;
	cr_expect_eq(found(s, &f), 1U << 7);
	free(s);
}

Test(listing, what_cools_is_nobodys)
{
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	struct ledger_lease lease;

	cr_assert_eq(
	    fixture_lease(s->ledger, 0, "203.0.113.9:443", NOW, &lease), 0);
	ledger_return(s->ledger, &lease, LEDGER_LONG, NOW);
	cr_expect_eq(found(s, &all), 0);
	free(s);
}

Test(listing, rows_beyond_the_limit_are_counted)
{
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	unsigned parts;
	json_t *o;
	char *text;

	for (uint64_t i = 0; i < 1700; i++) {
		struct ledger_holder holder = { .session = i, .worker = 1 };
		struct addr a = addr_v4(0xcb007100 + (uint32_t)i, 443);
		struct ledger_lease lease;

		cr_assert_eq(
		    ledger_lease(s->ledger, 0, &a, &holder, NOW, &lease), 0);
	}
	o = list(s, &all, 1600);
	cr_expect_eq(json_array_size(json_object_get(o, "sessions")), 1600);
	cr_expect_eq(json_integer_value(json_object_get(o, "shown")), 1600);
	cr_expect_eq(json_integer_value(json_object_get(o, "not_shown")), 100);
	json_decref(o);
	text = write_all(s, &all, LISTING_TEXT, 1600, &parts);
	cr_expect_eq(parts, 4);
	cr_expect_not_null(
	    strstr(text, "\n1600 sessions, and 100 more that are not shown\n"));
	free(text);
	free(s);
}

Test(listing, any_name_is_json)
{
	static const char *const names[] = { "plain", "quo\"te", "back\\slash",
		"new\nline", "\x7f\x1b[2J", "gr\xc3\xbc\xc3\x9f",
		"\xe2\x82\xac \xf0\x9f\x98\x80", "\xff\xfe", "\xc3", "\xc0\xaf",
		"\xed\xa0\x80", "\xf4\x90\x80\x80" };
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	json_t *o, *row;
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		hold(s, 0, "203.0.113.9:443", NULL, user(s, names[i]), i);
	o = list(s, &all, 100);
	json_array_foreach(json_object_get(o, "sessions"), i, row)
	{
		size_t n =
		    strtoul(json_string_value(json_object_get(row, "session")),
			NULL, 16);

		cr_assert_lt(n, ARRAY_LEN(names));
		if (n < 7)
			expect_text(row, "user", names[n]);
		else if (n == 7)
			expect_text(row, "user", "\xc3\xbf\xc3\xbe");
	}
	cr_expect_eq(i, ARRAY_LEN(names));
	json_decref(o);
	free(s);
}

Test(listing, a_table_has_a_line_a_session_and_nothing_a_terminal_obeys)
{
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	unsigned parts;
	char *text;

	hold(s, 0, "203.0.113.9:443", "198.51.100.7:5000",
	    user(s, "al\x1b[1m ice"), 0x20000000001);
	hold(s, 1, "[2001:db8:1::9]:443", NULL, 0, 0x20000000002);
	text = write_all(s, &all, LISTING_TEXT, 100, &parts);
	cr_expect_eq(parts, 1);
	cr_expect_not_null(
	    strstr(text, "SESSION      CLIENT             USER "), "%s", text);
	cr_expect_not_null(strstr(text, "20000000001  198.51.100.7:5000  "
					"al?[1m?ice  203.0.113.9:443      "
					"192.0.2.1:100      main    "
					"2026-11-22T10:40:52.004Z\n"),
	    "%s", text);
	cr_expect_not_null(strstr(text, " unix "), "%s", text);
	cr_expect_not_null(strstr(text, "\n2 sessions\n"), "%s", text);
	free(text);
	free(s);
}

/* Where each word of a line begins, in characters. */
static unsigned
word_places(const char *line, size_t *places, unsigned max)
{
	unsigned count = 0;
	size_t at = 0;

	for (const char *c = line; *c != '\n' && *c != '\0'; c++) {
		if (((unsigned char)*c & 0xc0) == 0x80)
			continue;
		if (*c != ' ' && (c == line || c[-1] == ' ') && count < max)
			places[count++] = at;
		at++;
	}
	return count;
}

Test(listing, a_tables_columns_are_as_wide_as_what_is_in_them)
{
	static const char v6[] =
	    "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
	char user_name[256], pool[POOL_NAME_MAX + 1], *text;
	size_t first[8], places[8];
	struct listing_filter all = { 0 };
	struct scene *s = scene_new();
	unsigned parts, rows = 0;

	memset(user_name, 'u', sizeof(user_name));
	user_name[sizeof(user_name) - 1] = '\0';
	memset(pool, 'p', sizeof(pool));
	pool[POOL_NAME_MAX] = '\0';
	memcpy(s->pool_names[1], pool, sizeof(pool));
	fixture_set(
	    s->ledger, 1, "2001:db8:9999:aaaa:bbbb:cccc:dddd:eeee", 100, 199);
	hold(s, 0, "203.0.113.9:443", NULL, 0, 1);
	hold(s, 1, v6, v6, user(s, user_name), UINT64_MAX);
	hold(s, 0, "203.0.113.9:443", "198.51.100.7:5000",
	    user(s, "gr\xc3\xbc\xc3\x9f"), 2);
	text = write_all(s, &all, LISTING_TEXT, 100, &parts);
	cr_assert_eq(word_places(text, first, 8), 7);
	for (char *line = text; rows < 4; line = strchr(line, '\n') + 1) {
		cr_assert_eq(word_places(line, places, 8), 7, "%s", text);
		cr_expect_arr_eq(
		    places, first, sizeof(first[0]) * 7, "%s", text);
		rows++;
	}
	cr_expect_not_null(
	    strstr(text, "ffffffffffffffff  [2001:"), "%s", text);
	cr_expect_not_null(strstr(text, "]:65535  uuu"), "%s", text);
	free(text);
	free(s);
}
