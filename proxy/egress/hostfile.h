/* SPDX-License-Identifier: ISC */
/*
 * hostfile: the kernel's files in /proc as text. Paths begin with a root
 * folder, "" on the real host, so that a test can read a host of its own
 * making. It owns nothing.
 */
#ifndef FOURFOLD_HOSTFILE_H
#define FOURFOLD_HOSTFILE_H

#include <stdio.h>

#include "base/base.h"

/* root + path has to fit. */
#define HOSTFILE_PATH_MAX 512

/* The whole of the file, to be freed; what is beyond 512 KiB is left out. NULL
 * when it cannot be read. */
char *hostfile_read(const char *root, const char *path);

/* The number a file begins with; `otherwise` when it has none. */
int64_t hostfile_number(const char *root, const char *path, int64_t otherwise);

/* For reading line by line, or NULL. */
FILE *hostfile_open(const char *root, const char *path);

#endif
