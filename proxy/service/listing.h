/* SPDX-License-Identifier: ISC */
/*
 * listing: the leases that are held and agree with what is asked for, as JSON
 * or as a table. What was found is kept as rows and written part by part.
 */
#ifndef FOURFOLD_LISTING_H
#define FOURFOLD_LISTING_H

#include "egress/ledger_read.h"
#include "service/view.h"

struct evbuffer;

/* Of several, all must agree. */
struct listing_filter {
	bool by_source, by_target, by_client, by_user;
	bool any_target_port;
	struct addr source; /* ip:port */
	struct addr target; /* ip:port, or without port */
	struct prefix client;
	bool is_unix;  /* by_client: those of unix sockets, not `client` */
	unsigned user; /* id; 0: those of nobody */
};

enum listing_form { LISTING_JSON, LISTING_TEXT };

#define LISTING_MAX 100000 /* rows, unless more are asked for */

struct listing;

/* NULL without memory. `limit` rows are kept, the others are counted. `v` and
 * what it borrows must live as long. */
struct listing *listing_new(const struct view *v,
    const struct listing_filter *filter, enum listing_form form, size_t limit);
void listing_free(void *listing);

/* Appends the next part; false when it was the last. An http_more_fn. */
bool listing_more(void *listing, struct evbuffer *out);

#endif
