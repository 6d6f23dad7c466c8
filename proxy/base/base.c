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

size_t
decimal_put(char *to, uint64_t n)
{
	char digits[DECIMAL_MAX];
	size_t len = 0;

	do {
		digits[DECIMAL_MAX - ++len] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	memcpy(to, digits + DECIMAL_MAX - len, len);
	return len;
}
