/* SPDX-License-Identifier: ISC */
/*
 * dashboard: the status page's figures as text for people.
 */
#ifndef FOURFOLD_DASHBOARD_H
#define FOURFOLD_DASHBOARD_H

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"

/* `status` is what GET /status answers; what is missing in it is left out. */
void dashboard_print(const json_t *status, FILE *out);

/* "3d 4h", "5m 10s": the two largest units. Returns `text`. */
#define DASHBOARD_TIME_MAX 32
const char *dashboard_time(uint64_t seconds, char *text);

#endif
