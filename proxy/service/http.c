/* SPDX-License-Identifier: ISC */
#include "service/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/listener.h>

#define HEADERS_MAX 8192
#define BODY_MAX    4096
#define TIMEOUT_S   10 /* of silence, both ways */
#define STREAMS_MAX 4

static const struct timeval accept_pause = { 1, 0 };

struct stream_reply {
	struct link link; /* http->streams */
	struct http *http;
	struct evhttp_request *req;
	http_more_fn *more;
	void (*done)(void *arg);
	void *arg;
};

static struct stream_reply *
from_link(struct link *l)
{
	return container_of(l, struct stream_reply, link);
}

/* ---- replies ---- */

static void
add_headers(struct evhttp_request *req, const char *type)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Connection", "close");
	evhttp_add_header(headers, "Cache-Control", "no-store");
}

void
http_reply(struct evhttp_request *req, int status, json_t *body)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	struct evbuffer *out = evbuffer_new();

	json_decref(body);
	if (text != NULL && out != NULL &&
	    evbuffer_add_printf(out, "%s\n", text) >= 0) {
		add_headers(req, "application/json");
		evhttp_send_reply(req, status, NULL, out);
	} else {
		add_headers(req, "application/json");
		evhttp_send_reply(req, HTTP_INTERNAL, NULL, NULL);
	}
	if (out != NULL)
		evbuffer_free(out);
	free(text);
}

void
http_refuse(struct evhttp_request *req, int status, const char *format, ...)
{
	char words[512];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	/* It may repeat what the client said. */
	for (char *c = words; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	http_reply(req, status, json_pack("{s:s}", "error", words));
}

static void
end_stream(struct stream_reply *s)
{
	link_remove(&s->link);
	s->done(s->arg);
	free(s);
}

static void
send_more(struct evhttp_connection *connection, void *arg)
{
	struct stream_reply *s = arg;
	struct evbuffer *out = evbuffer_new();
	bool more = out != NULL && s->more(s->arg, out);

	if (more) {
		evhttp_send_reply_chunk_with_cb(s->req, out, send_more, s);
	} else {
		/* What goes out from here on is the connection's. */
		evhttp_connection_set_closecb(connection, NULL, NULL);
		if (out != NULL)
			evhttp_send_reply_chunk(s->req, out);
		evhttp_send_reply_end(s->req);
		end_stream(s);
	}
	if (out != NULL)
		evbuffer_free(out);
}

/* The client has gone, and the request is left to us, without it. */
static void
on_stream_closed(struct evhttp_connection *connection, void *arg)
{
	struct stream_reply *s = arg;

	evhttp_connection_set_closecb(connection, NULL, NULL);
	if (evhttp_request_get_connection(s->req) == NULL)
		evhttp_send_reply_end(s->req);
	end_stream(s);
}

static size_t
count_streams(struct http *h)
{
	struct link *l, *following;
	size_t n = 0;

	LIST_EACH_SAFE (l, following, &h->streams)
		n++;
	return n;
}

bool
http_stream(struct http *h, struct evhttp_request *req, const char *type,
    http_more_fn *more, void (*done)(void *arg), void *arg)
{
	struct evhttp_connection *connection =
	    evhttp_request_get_connection(req);
	struct stream_reply *s;

	if (count_streams(h) >= STREAMS_MAX)
		return false;
	s = malloc(sizeof(*s));
	if (s == NULL)
		return false;
	*s = (struct stream_reply){
		.http = h, .req = req, .more = more, .done = done, .arg = arg
	};
	list_append(&h->streams, &s->link);
	add_headers(req, type);
	evhttp_connection_set_closecb(connection, on_stream_closed, s);
	evhttp_send_reply_start(req, HTTP_OK, NULL);
	send_more(connection, s);
	return true;
}

/* ---- requests ---- */

const char *
http_param(const struct evkeyvalq *query, const char *name)
{
	return evhttp_find_header(query, name);
}

/* A parameter that the page does not know, or that is there twice. */
static const char *
find_odd_param(const struct http_page *page, const struct evkeyvalq *query)
{
	for (const struct evkeyval *kv = query->tqh_first; kv != NULL;
	     kv = kv->next.tqe_next) {
		const char *const *known = page->params;

		while (*known != NULL && strcmp(*known, kv->key) != 0)
			known++;
		if (*known == NULL || http_param(query, kv->key) != kv->value)
			return kv->key;
	}
	return NULL;
}

static void
serve(struct http *h, struct evhttp_request *req, const struct http_page *page)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *text = evhttp_uri_get_query(uri);
	struct evkeyvalq query = { 0 };
	const char *odd;

	if (evhttp_parse_query_str(text != NULL ? text : "", &query) != 0) {
		http_refuse(req, HTTP_BADREQUEST, "the query is malformed");
		return;
	}
	odd = find_odd_param(page, &query);
	if (odd != NULL)
		http_refuse(req, HTTP_BADREQUEST,
		    "%.64s: no such parameter, or twice", odd);
	else
		page->serve(req, &query, h->arg);
	evhttp_clear_headers(&query);
}

static void
on_request(struct evhttp_request *req, void *arg)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	bool post = evhttp_request_get_command(req) == EVHTTP_REQ_POST;
	struct http *h = arg;

	for (size_t i = 0; i < h->page_count; i++) {
		const struct http_page *page = &h->pages[i];

		if (path == NULL || strcmp(path, page->path) != 0)
			continue;
		if (page->post != post)
			http_refuse(req, HTTP_BADMETHOD,
			    "%s is asked for by %s", path,
			    page->post ? "POST" : "GET");
		else
			serve(h, req, page);
		return;
	}
	http_refuse(req, HTTP_NOTFOUND, "no such page");
}

/* ---- connections ---- */

/* The listener would call without an end while it cannot accept: there are too
 * many connections, or the master has given it up. */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	(void)arg; /* the server's own */
	evconnlistener_disable(listener);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct http *h = arg;

	(void)fd;
	(void)what;
	evconnlistener_enable(h->listener);
}

int
http_open(struct http *h, struct event_base *base, int fd,
    const struct http_page *pages, size_t count, void *arg)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	*h = (struct http){ .pages = pages, .page_count = count, .arg = arg };
	list_init(&h->streams);
	if (copy < 0)
		return -errno;
	h->server = evhttp_new(base);
	h->listener = evconnlistener_new(base, NULL, NULL,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, copy);
	if (h->listener == NULL)
		close(copy);
	if (h->server == NULL || h->listener == NULL ||
	    evhttp_bind_listener(h->server, h->listener) == NULL) {
		if (h->listener != NULL)
			evconnlistener_free(h->listener);
		h->listener = NULL;
		http_close(h);
		return -ENOMEM;
	}
	event_assign(&h->resume, base, -1, EV_PERSIST, on_resume, h);
	event_add(&h->resume, &accept_pause);
	evconnlistener_set_error_cb(h->listener, on_accept_error);
	evhttp_set_allowed_methods(h->server, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_max_headers_size(h->server, HEADERS_MAX);
	evhttp_set_max_body_size(h->server, BODY_MAX);
	evhttp_set_timeout(h->server, TIMEOUT_S);
	evhttp_set_gencb(h->server, on_request, h);
	return 0;
}

void
http_stop_accepting(struct http *h)
{
	if (h->listener == NULL)
		return;
	event_del(&h->resume);
	evconnlistener_disable(h->listener);
}

void
http_close(struct http *h)
{
	struct link *l, *following;

	if (h->server == NULL)
		return;
	http_stop_accepting(h);
	/* The requests end with their connections. */
	LIST_EACH_SAFE (l, following, &h->streams) {
		struct stream_reply *s = from_link(l);

		evhttp_connection_set_closecb(
		    evhttp_request_get_connection(s->req), NULL, NULL);
		end_stream(s);
	}
	evhttp_free(h->server);
	h->server = NULL;
	h->listener = NULL;
}
