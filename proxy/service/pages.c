/* SPDX-License-Identifier: ISC */
#include "service/pages.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "egress/hostclock.h"
#include "service/listing.h"
#include "service/status.h"

#define LIMIT_MAX 10000000
#define NS_PER_MS 1000000

static struct view
view_now(const struct pages *p)
{
	const struct observer_setup *s = p->setup;
	struct view v = { .ledger = s->ledger,
		.shared = s->shared,
		.names = s->names,
		.pool_names = s->pool_names,
		.alarms = p->alarms,
		.master = s->master,
		.started_ms = s->started_ms,
		.max_sessions = s->max_sessions };
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
	uint64_t ahead_ns = clock_ns(CLOCK_REALTIME) - now_ns;

	/* What one clock is ahead of the other is the same each time, so that
	 * a moment has the same name each time. */
	v.now_ms = now_ns / NS_PER_MS;
	v.now_epoch_ms = v.now_ms + ahead_ns / NS_PER_MS;
	for (size_t i = 0; i < s->config->egress_count; i++)
		v.wanted |= UINT64_C(1) << s->pools[i];
	return v;
}

/* ---- parameters ---- */

/* Digits of the base and nothing else, up to `max`. */
static bool
parse_number(const char *text, int base, uint64_t max, uint64_t *out)
{
	char *end;

	if (!isxdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*out = strtoull(text, &end, base);
	return errno == 0 && *end == '\0' && *out <= max;
}

/* A number in the query, or its default; false, and the request is refused,
 * when it is none. */
static bool
get_number(struct evhttp_request *req, const struct evkeyvalq *query,
    const char *name, uint64_t max, uint64_t fallback, size_t *out)
{
	const char *text = http_param(query, name);
	uint64_t n = fallback;

	if (text != NULL && !parse_number(text, 10, max, &n)) {
		http_refuse(req, HTTP_BADREQUEST, "%s: expected 0..%llu", name,
		    (unsigned long long)max);
		return false;
	}
	*out = (size_t)n;
	return true;
}

static bool
parse_client(const char *text, struct listing_filter *f)
{
	f->by_client = true;
	f->is_unix = strcmp(text, "unix") == 0;
	return f->is_unix || prefix_parse(text, &f->client) == 0;
}

static bool
parse_target(const char *text, struct listing_filter *f)
{
	f->by_target = true;
	f->any_target_port = addr_parse(text, &f->target) != 0;
	return !f->any_target_port || addr_parse_ip(text, &f->target) == 0;
}

/* Somebody who is not known has no sessions. "-": who did not log in. */
static void
find_user(const struct pages *p, const char *name, struct listing_filter *f)
{
	f->by_user = true;
	f->user = names_find(p->setup->names, name);
	if (f->user == 0 && strcmp(name, "-") != 0)
		f->user = NAMES_MAX + 1;
}

static bool
get_form(struct evhttp_request *req, const struct evkeyvalq *query,
    enum listing_form *out)
{
	const char *text = http_param(query, "format");

	*out = LISTING_JSON;
	if (text == NULL || strcmp(text, "json") == 0)
		return true;
	*out = LISTING_TEXT;
	if (strcmp(text, "text") == 0)
		return true;
	http_refuse(req, HTTP_BADREQUEST, "format: expected json or text");
	return false;
}

/* ---- pages ---- */

static void
serve_status(
    struct evhttp_request *req, const struct evkeyvalq *query, void *arg)
{
	struct pages *p = arg;
	struct view v = view_now(p);
	size_t top, addresses;

	if (get_number(req, query, "top", STATUS_TOP_MAX, STATUS_TOP, &top) &&
	    get_number(req, query, "addresses", STATUS_ADDRESSES_MAX,
		STATUS_ADDRESSES, &addresses))
		http_reply(req, HTTP_OK, status_json(&v, top, addresses));
}

static void
serve_listing(struct pages *p, struct evhttp_request *req,
    const struct evkeyvalq *query, const struct listing_filter *f)
{
	struct view v = view_now(p);
	enum listing_form form;
	struct listing *l;
	size_t limit;

	if (!get_form(req, query, &form) ||
	    !get_number(req, query, "limit", LIMIT_MAX, LISTING_MAX, &limit))
		return;
	l = listing_new(&v, f, form, limit);
	if (l == NULL) {
		http_refuse(req, HTTP_INTERNAL, "out of memory");
		return;
	}
	if (http_stream(&p->http, req,
		form == LISTING_JSON ? "application/json"
				     : "text/plain; charset=utf-8",
		listing_more, listing_free, l))
		return;
	listing_free(l);
	http_refuse(req, HTTP_SERVUNAVAIL, "too many lists at once");
}

static void
serve_who(struct evhttp_request *req, const struct evkeyvalq *query, void *arg)
{
	const char *port = http_param(query, "port");
	const char *target = http_param(query, "target");
	struct listing_filter f = { .by_source = true };

	if (port == NULL || addr_parse(port, &f.source) != 0)
		http_refuse(
		    req, HTTP_BADREQUEST, "port: expected the source IP:PORT");
	else if (target != NULL && !parse_target(target, &f))
		http_refuse(
		    req, HTTP_BADREQUEST, "target: expected IP or IP:PORT");
	else
		serve_listing(arg, req, query, &f);
}

static void
serve_sessions(
    struct evhttp_request *req, const struct evkeyvalq *query, void *arg)
{
	const char *client = http_param(query, "client");
	const char *target = http_param(query, "target");
	const char *user = http_param(query, "user");
	struct listing_filter f = { 0 };

	if (client != NULL && !parse_client(client, &f)) {
		http_refuse(req, HTTP_BADREQUEST,
		    "client: expected an address, a prefix or unix");
		return;
	}
	if (target != NULL && !parse_target(target, &f)) {
		http_refuse(
		    req, HTTP_BADREQUEST, "target: expected IP or IP:PORT");
		return;
	}
	if (user != NULL)
		find_user(arg, user, &f);
	serve_listing(arg, req, query, &f);
}

static void
serve_kill(struct evhttp_request *req, const struct evkeyvalq *query, void *arg)
{
	const char *text = http_param(query, "session");
	struct pages *p = arg;
	uint64_t session;

	if (text == NULL || !parse_number(text, 16, UINT64_MAX, &session))
		http_refuse(req, HTTP_BADREQUEST,
		    "session: expected its id, as log and lists have it");
	else
		p->kill(p->arg, req, session);
}

/* ---- the table ---- */

static const char *const status_params[] = { "top", "addresses", NULL };
static const char *const who_params[] = { "port", "target", "format", "limit",
	NULL };
static const char *const sessions_params[] = { "client", "user", "target",
	"format", "limit", NULL };
static const char *const kill_params[] = { "session", NULL };

static const struct http_page pages[] = {
	{ "/status", false, status_params, serve_status },
	{ "/who", false, who_params, serve_who },
	{ "/sessions", false, sessions_params, serve_sessions },
	{ "/kill", true, kill_params, serve_kill },
};

int
pages_open(struct pages *p, struct event_base *base, int fd)
{
	return http_open(&p->http, base, fd, pages, ARRAY_LEN(pages), p);
}

void
pages_close(struct pages *p)
{
	http_close(&p->http);
}
