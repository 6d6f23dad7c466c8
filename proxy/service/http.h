/* SPDX-License-Identifier: ISC */
/*
 * http: the observer's server of HTTP on the control socket: pages with their
 * parameters, JSON, replies that are made while they are sent, and bounds on
 * what a client may cost. One question a connection.
 */
#ifndef FOURFOLD_HTTP_H
#define FOURFOLD_HTTP_H

#include <jansson.h>

#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "base/list.h"

struct http_page {
	const char *path;
	bool post;                 /* asked for by POST; else by GET */
	const char *const *params; /* what may be in the query; ends in NULL */
	/* Has to answer, now or later, by one of the functions below. What a
	 * client that has gone is told is dropped. */
	void (*serve)(struct evhttp_request *req, const struct evkeyvalq *query,
	    void *arg);
};

/* Embedded; it must stay where it is. */
struct http {
	struct evhttp *server; /* NULL: not open */
	struct evconnlistener *listener;
	struct event resume; /* after accepting failed; each second */
	const struct http_page *pages;
	size_t page_count;
	void *arg;
	struct list streams;
};

/* Serves what comes by `fd`, a listening socket, which is copied. */
MUST_USE int http_open(struct http *h, struct event_base *base, int fd,
    const struct http_page *pages, size_t count, void *arg);

/* Accepts no more. */
void http_stop_accepting(struct http *h);

/* Ends every connection. May be called when it was never opened. */
void http_close(struct http *h);

/* The parameter's value; NULL: it is not in the query. */
const char *http_param(const struct evkeyvalq *query, const char *name);

/* Answers; takes the body over. NULL: there was no memory for it. */
void http_reply(struct evhttp_request *req, int status, json_t *body);

/* {"error": "..."} */
void http_refuse(struct evhttp_request *req, int status, const char *format,
    ...) PRINTF_LIKE(3, 4);

/* Puts a part of the reply into `out`; false when it was the last. */
typedef bool http_more_fn(void *arg, struct evbuffer *out);

/*
 * Answers with what `more` makes, part by part as the client takes it, and
 * calls `done` at the end, also where the client has gone before. Few at a
 * time: false, and nothing was begun, when there are too many.
 */
bool http_stream(struct http *h, struct evhttp_request *req, const char *type,
    http_more_fn *more, void (*done)(void *arg), void *arg);

#endif
