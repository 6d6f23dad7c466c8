/* SPDX-License-Identifier: ISC */
/*
 * The parsers of socks5 on any bytes: how they are cut must not matter, and
 * what comes out must be as the header says.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

union message {
	struct socks5_greeting greeting;
	struct socks5_login login;
	struct socks5_request request;
};

typedef int parse_fn(const uint8_t *bytes, size_t len, union message *out);

static int
parse_greeting(const uint8_t *bytes, size_t len, union message *out)
{
	return socks5_parse_greeting(bytes, len, &out->greeting);
}

static int
parse_login(const uint8_t *bytes, size_t len, union message *out)
{
	int n = socks5_parse_login(bytes, len, &out->login);

	if (n > 0) {
		must(strlen(out->login.user) == out->login.user_len);
		must(strlen(out->login.password) == out->login.password_len);
		must(n == 3 + out->login.user_len + out->login.password_len);
	}
	return n;
}

/* A reply is laid out like a request: what is written must read the same. */
static void
check_reply(const struct socks5_request *r)
{
	uint8_t bytes[SOCKS5_REPLY_MAX];
	struct socks5_request back;
	size_t len =
	    socks5_put_reply(bytes, (enum socks5_reply)r->command, &r->addr);

	must(socks5_parse_request(bytes, len, &back) == (int)len);
	must(addr_equal(&back.addr, &r->addr));
}

static int
parse_request(const uint8_t *bytes, size_t len, union message *out)
{
	const struct socks5_request *r = &out->request;
	int n = socks5_parse_request(bytes, len, &out->request);

	if (n > 0) {
		must((r->name[0] == '\0') == (r->addr.family != ADDR_NONE));
		must(memchr(r->name, '\0', sizeof(r->name)) != NULL);
		must(r->port != 0 || r->command != SOCKS5_CONNECT);
		must(r->addr.scope == 0);
		if (r->name[0] == '\0') {
			must(r->addr.port == r->port);
			check_reply(r);
		}
	}
	return n;
}

/* Through a copy of the very length, so that reading past it is seen. */
static int
parse_exact(
    parse_fn *parse, const uint8_t *data, size_t len, union message *out)
{
	uint8_t *copy = malloc(len + (len == 0));
	int n;

	must(copy != NULL);
	if (len != 0)
		memcpy(copy, data, len);
	memset(out, 0xa5, sizeof(*out));
	n = parse(copy, len, out);
	free(copy);
	return n;
}

static void
check(parse_fn *parse, const uint8_t *data, size_t size)
{
	union message whole, part;
	int result = parse_exact(parse, data, size, &whole);
	int last = SOCKS5_MORE;

	must(result >= SOCKS5_BAD_ADDRESS_TYPE);
	must(result <= SOCKS5_MESSAGE_MAX && result <= (int)size);
	for (size_t len = 0; len <= size; len++) {
		int n = parse_exact(parse, data, len, &part);

		/* Once it is decided more bytes do not change it. */
		must(last == SOCKS5_MORE || n == last);
		must(n <= 0 || len >= (size_t)n);
		if (n == result)
			must(memcmp(&whole, &part, sizeof(whole)) == 0);
		last = n;
	}
	must(last == result);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > SOCKS5_MESSAGE_MAX + 64)
		return 0;
	check(parse_greeting, data, size);
	check(parse_login, data, size);
	check(parse_request, data, size);
	return 0;
}
