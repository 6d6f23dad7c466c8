/* SPDX-License-Identifier: ISC */
/*
 * report: what a configuration gives on this host, for people to read. Pure:
 * it counts what others have read.
 */
#ifndef FOURFOLD_REPORT_H
#define FOURFOLD_REPORT_H

#include "service/advice.h"

/* Source ports, clients, sessions: a table each. */
void report_write(const struct advice_facts *f, FILE *out);

#endif
