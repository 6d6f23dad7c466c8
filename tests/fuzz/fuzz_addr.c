/* SPDX-License-Identifier: ISC */
/*
 * Addresses and prefixes from any text: what parses must format to text that
 * parses to the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_addr(const char *text)
{
	struct addr a, b;
	char out[ADDR_TEXT_MAX];

	if (addr_parse(text, &a) != 0)
		return;
	must(addr_parse(addr_format(&a, out), &b) == 0);
	must(addr_equal(&a, &b));
}

static void
check_ip(const char *text)
{
	struct addr a, b;
	struct sockaddr_storage ss;
	char out[ADDR_TEXT_MAX];

	if (addr_parse_ip(text, &a) != 0)
		return;
	must(addr_parse_ip(addr_format_ip(&a, out), &b) == 0);
	must(addr_equal(&a, &b));
	must(addr_to_sockaddr(&a, &ss) <= sizeof(ss));
	must(addr_from_sockaddr((struct sockaddr *)&ss, &b) == 0);
	must(addr_equal(&a, &b));
	b = addr_unwrap(&a);
	a = addr_unwrap(&b);
	must(addr_equal(&a, &b));
}

static void
check_prefix(const char *text)
{
	struct prefix p, q;
	char out[ADDR_TEXT_MAX];

	if (prefix_parse(text, &p) != 0)
		return;
	must(prefix_parse(prefix_format(&p, out), &q) == 0);
	must(addr_equal(&p.base, &q.base) && p.bits == q.bits);
	must(prefix_contains(&p, &p.base));
	must(prefix_overlaps(&p, &q));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	must(text != NULL);
	if (size != 0)
		memcpy(text, data, size);
	text[size] = '\0';
	check_addr(text);
	check_ip(text);
	check_prefix(text);
	free(text);
	return 0;
}
