/* SPDX-License-Identifier: ISC */
/*
 * pages: what the observer answers on the control socket.
 *
 *   GET /status?top=N&addresses=N
 *   GET /who?port=IP:PORT&target=IP:PORT
 *   GET /sessions?client=ADDRESS|PREFIX|unix&user=NAME&target=IP|IP:PORT
 *   POST /kill?session=ID
 *
 * All JSON; with format=text, who and sessions are tables. limit=N rows.
 */
#ifndef FOURFOLD_PAGES_H
#define FOURFOLD_PAGES_H

#include "service/http.h"
#include "service/observer.h"
#include "service/view.h"

/* Embedded; it must stay where it is. */
struct pages {
	const struct observer_setup *setup;
	const struct alarms *alarms; /* may be NULL */
	/* Ends the session and answers the request, now or later. */
	void (*kill)(void *arg, struct evhttp_request *req, uint64_t session);
	void *arg;
	struct http http;
};

/* setup, alarms, kill and arg are set. */
MUST_USE int pages_open(struct pages *p, struct event_base *base, int fd);
void pages_close(struct pages *p);

#endif
