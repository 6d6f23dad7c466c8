/* SPDX-License-Identifier: ISC */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
must_failed(const char *what, const char *file, int line, const char *func)
{
	fprintf(stderr, "fourfold: %s:%d: %s: broken invariant: %s\n", file,
	    line, func, what);
	abort();
}

void
strcpy_bounded(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size)
		len = size - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}
