/* SPDX-License-Identifier: ISC */
/*
 * status: the page of figures: sessions, counters, the source ports' budget by
 * pool, address and target, what alarms there are.
 */
#ifndef FOURFOLD_STATUS_H
#define FOURFOLD_STATUS_H

#include <jansson.h>

#include "service/view.h"

#define STATUS_TOP           20
#define STATUS_TOP_MAX       1000
#define STATUS_ADDRESSES     256 /* of all pools together */
#define STATUS_ADDRESSES_MAX 65536

/* At most so many targets and source addresses. NULL without memory. */
json_t *status_json(const struct view *v, size_t top, size_t addresses);

#endif
