/* SPDX-License-Identifier: ISC */
/*
 * check: looks at a file and at this host, and says what the one gives on the
 * other. It starts nothing and changes nothing.
 */
#ifndef FOURFOLD_CHECK_H
#define FOURFOLD_CHECK_H

#include <stdio.h>

/*
 * NULL: the built-in defaults. 0: the file is right and Fourfold would start;
 * the report is in `out`. 2: it would not; why is in `errors`, a line for each
 * reason.
 */
int check_run(const char *path, FILE *out, FILE *errors);

#endif
