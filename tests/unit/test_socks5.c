/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "wire/socks5.h"

/* What a message of a client turns into, of whichever kind it is. */
union message {
	struct socks5_greeting greeting;
	struct socks5_login login;
	struct socks5_request request;
};

enum kind { GREETING, LOGIN, REQUEST };

struct sample {
	enum kind kind;
	const char *bytes;
	size_t len;
	int result; /* of the whole; the length when it is a message */
	size_t at;  /* bytes after which an error is plain */
};

/* A literal with NULs inside. */
#define BYTES(text) (text), sizeof(text) - 1
#define WHOLE(k, text)                                \
	{                                             \
		(k), BYTES(text), sizeof(text) - 1, 0 \
	}
#define BAD(k, text, why, after)                 \
	{                                        \
		(k), BYTES(text), (why), (after) \
	}

#define NAME_63 \
	"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"
#define NAME_255 NAME_63 "." NAME_63 "." NAME_63 "." NAME_63
#define CONNECT  "\x05\x01\x00"

static const struct sample samples[] = {
	WHOLE(GREETING, "\x05\x00"),
	WHOLE(GREETING, "\x05\x01\x00"),
	WHOLE(GREETING, "\x05\x01\x02"),
	WHOLE(GREETING, "\x05\x04\x00\x01\x02\x80"),
	WHOLE(GREETING, "\x05\x03\xff\x05\x06"),
	BAD(GREETING, "\x04\x01\x00\x50", SOCKS5_NOT_SOCKS5, 1),
	BAD(GREETING, "GET / HTTP/1.1\r\n", SOCKS5_NOT_SOCKS5, 1),
	BAD(GREETING, "\x16\x03\x01", SOCKS5_NOT_SOCKS5, 1),
	BAD(GREETING, "\x00", SOCKS5_NOT_SOCKS5, 1),

	WHOLE(LOGIN, "\x01\x04user\x06secret"),
	WHOLE(LOGIN, "\x01\x00\x00"),
	WHOLE(LOGIN, "\x01\x01u\x00"),
	WHOLE(LOGIN, "\x01\x00\x01p"),
	WHOLE(LOGIN, "\x01\xff" NAME_255 "\xff" NAME_255),
	BAD(LOGIN, "\x05\x04user\x06secret", SOCKS5_NOT_SOCKS5, 1),
	BAD(LOGIN, "\x00\x04user", SOCKS5_NOT_SOCKS5, 1),
	BAD(LOGIN, "\x01\x04us\x00r\x06secret", SOCKS5_MALFORMED, 5),
	BAD(LOGIN, "\x01\x04user\x06secre\x00", SOCKS5_MALFORMED, 13),

	WHOLE(REQUEST, CONNECT "\x01\xc0\x00\x02\x01\x00\x50"),
	WHOLE(REQUEST, "\x05\x01\x7f\x01\xc0\x00\x02\x01\xff\xff"),
	WHOLE(REQUEST, "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"),
	WHOLE(REQUEST, "\x05\x03\x00\x03\x01x\x00\x00"),
	WHOLE(REQUEST, "\x05\xee\x00\x01\x00\x00\x00\x00\x00\x00"),
	WHOLE(REQUEST,
	    CONNECT "\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		    "\x00\x00\x01\x01\xbb"),
	WHOLE(REQUEST, CONNECT "\x03\x0b"
			       "example.com\x01\xbb"),
	WHOLE(REQUEST, CONNECT "\x03\x01"
			       "a\x00\x01"),
	WHOLE(REQUEST, CONNECT "\x03\xff" NAME_255 "\x00\x50"),
	WHOLE(REQUEST, CONNECT "\x03\x07"
			       "1.2.3.4\x00\x50"),
	WHOLE(REQUEST, CONNECT "\x03\x05"
			       "[::1]\x00\x50"),
	WHOLE(REQUEST, CONNECT "\x03\x04\xc3\xa4\xc3\xb6\x00\x50"),
	BAD(REQUEST, "\x04\x01\x00\x01", SOCKS5_NOT_SOCKS5, 1),
	BAD(REQUEST, "\x01\x01\x00\x01", SOCKS5_NOT_SOCKS5, 1),
	BAD(REQUEST, CONNECT "\x00", SOCKS5_BAD_ADDRESS_TYPE, 4),
	BAD(REQUEST, CONNECT "\x02", SOCKS5_BAD_ADDRESS_TYPE, 4),
	BAD(REQUEST, CONNECT "\x05", SOCKS5_BAD_ADDRESS_TYPE, 4),
	BAD(REQUEST, CONNECT "\xff", SOCKS5_BAD_ADDRESS_TYPE, 4),
	BAD(REQUEST, CONNECT "\x03\x00\x00\x50", SOCKS5_MALFORMED, 5),
	BAD(REQUEST,
	    CONNECT "\x03\x04"
		    "a\x00"
		    "bc\x00\x50",
	    SOCKS5_MALFORMED, 7),
	BAD(REQUEST,
	    CONNECT "\x03\x04"
		    "a bc\x00\x50",
	    SOCKS5_MALFORMED, 7),
	BAD(REQUEST,
	    CONNECT "\x03\x04"
		    "abc\n\x00\x50",
	    SOCKS5_MALFORMED, 9),
	BAD(REQUEST, CONNECT "\x03\x01\x7f\x00\x50", SOCKS5_MALFORMED, 6),
	BAD(REQUEST, CONNECT "\x01\xc0\x00\x02\x01\x00\x00", SOCKS5_MALFORMED,
	    10),
	BAD(REQUEST,
	    CONNECT "\x03\x01"
		    "a\x00\x00",
	    SOCKS5_MALFORMED, 8),
};

static int
parse(enum kind kind, const uint8_t *bytes, size_t len, union message *out)
{
	switch (kind) {
	case GREETING:
		return socks5_parse_greeting(bytes, len, &out->greeting);
	case LOGIN:
		return socks5_parse_login(bytes, len, &out->login);
	case REQUEST:
		return socks5_parse_request(bytes, len, &out->request);
	}
	cr_assert_fail("no such kind");
	return 0;
}

/* Parses a copy that ends where its bytes end, so that ASan sees the end. */
static int
parse_exact(enum kind kind, const void *bytes, size_t len, union message *out)
{
	uint8_t *copy = malloc(len == 0 ? 1 : len);
	int result;

	cr_assert_not_null(copy);
	memcpy(copy, bytes, len);
	result = parse(kind, len == 0 ? NULL : copy, len, out);
	free(copy);
	return result;
}

static struct socks5_request
request_of(const char *bytes, size_t len)
{
	union message m;

	memset(&m, 0xa5, sizeof(m));
	cr_assert_eq(parse_exact(REQUEST, bytes, len, &m), (int)len);
	return m.request;
}

/* A CONNECT to `name`, port 443. */
static struct socks5_request
request_for_name(const char *name)
{
	uint8_t bytes[4 + 1 + 255 + 2] = { 5, 1, 0, 3 };
	size_t len = strlen(name);

	cr_assert_leq(len, 255);
	bytes[4] = (uint8_t)len;
	memcpy(bytes + 5, name, len);
	bytes[5 + len] = 443 >> 8;
	bytes[6 + len] = 443 & 0xff;
	return request_of((const char *)bytes, len + 7);
}

static void
expect_literal(const char *name, const char *want)
{
	struct socks5_request r = request_for_name(name);
	char text[ADDR_TEXT_MAX];

	cr_assert_neq(r.addr.family, ADDR_NONE, "%s is a name", name);
	cr_expect_str_eq(addr_format(&r.addr, text), want);
	cr_expect_str_eq(r.name, "");
}

static void
expect_name(const char *name)
{
	struct socks5_request r = request_for_name(name);

	cr_expect_str_eq(r.name, name);
	cr_expect_eq(r.addr.family, ADDR_NONE, "%s is no name", name);
	cr_expect_eq(r.port, 443);
}

Test(socks5, every_prefix_of_a_message_wants_more_until_it_is_whole)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		size_t end = s->result > 0 ? s->len : s->at;

		for (size_t len = 0; len < end; len++) {
			union message m;

			cr_expect_eq(parse_exact(s->kind, s->bytes, len, &m),
			    SOCKS5_MORE, "sample %zu, %zu bytes", i, len);
		}
	}
}

Test(socks5, a_whole_message_is_taken_and_a_bad_one_refused_at_once)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		size_t from = s->result > 0 ? s->len : s->at;

		for (size_t len = from; len <= s->len; len++) {
			union message m;

			cr_expect_eq(parse_exact(s->kind, s->bytes, len, &m),
			    s->result, "sample %zu, %zu bytes", i, len);
		}
	}
}

Test(socks5, output_is_left_alone_without_a_whole_message)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		size_t end = s->result > 0 ? s->len - 1 : s->len;

		for (size_t len = 0; len <= end; len++) {
			union message m, before;

			memset(&m, 0xa5, sizeof(m));
			memcpy(&before, &m, sizeof(m));
			parse_exact(s->kind, s->bytes, len, &m);
			cr_expect_arr_eq(&m, &before, sizeof(m),
			    "sample %zu, %zu bytes", i, len);
		}
	}
}

Test(socks5, what_follows_a_message_is_left_alone)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t alone[SOCKS5_MESSAGE_MAX], merged[2 * 1024];
		union message one, two;

		memcpy(alone, s->bytes, s->len);
		memcpy(merged, s->bytes, s->len);
		memset(&one, 0, sizeof(one));
		memset(&two, 0, sizeof(two));
		for (size_t j = 0; j < ARRAY_LEN(samples); j++) {
			const struct sample *next = &samples[j];

			memcpy(merged + s->len, next->bytes, next->len);
			cr_expect_eq(
			    parse(s->kind, alone, s->len, &one), s->result);
			cr_expect_eq(parse_exact(s->kind, merged,
					 s->len + next->len, &two),
			    s->result);
			cr_expect_arr_eq(&one, &two, sizeof(one));
		}
	}
}

Test(socks5, a_conversation_parses_whatever_the_segments)
{
	static const char all[] = "\x05\x02\x00\x02"
				  "\x01\x02me\x02pw" CONNECT "\x03\x0b"
				  "example.com\x01\xbb"
				  "payload";
	static const size_t lens[] = { 4, 7, 18 };
	size_t whole = sizeof(all) - 1;

	/* Two cuts, at each pair of places; three reads. */
	for (size_t a = 0; a <= whole; a++) {
		for (size_t b = a; b <= whole; b++) {
			size_t reads[] = { a, b, whole }, at = 0, stage = 0;

			for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
				union message m;
				int n = 1;

				while (stage < 3 && n > 0) {
					n = parse_exact((enum kind)stage,
					    all + at, reads[i] - at, &m);
					cr_assert_geq(n, 0);
					if (n == 0)
						break;
					cr_expect_eq((size_t)n, lens[stage]);
					at += (size_t)n;
					stage++;
				}
			}
			cr_assert_eq(stage, 3);
			cr_expect_str_eq(all + at, "payload");
		}
	}
}

Test(socks5, a_greeting_tells_which_known_methods_it_offers)
{
	union message m;

	cr_assert_eq(parse_exact(GREETING, "\x05\x00", 2, &m), 2);
	cr_expect(!m.greeting.no_auth && !m.greeting.password);
	cr_assert_eq(parse_exact(GREETING, "\x05\x01\x00", 3, &m), 3);
	cr_expect(m.greeting.no_auth && !m.greeting.password);
	cr_assert_eq(parse_exact(GREETING, "\x05\x02\x01\x02", 4, &m), 4);
	cr_expect(!m.greeting.no_auth && m.greeting.password);
	cr_assert_eq(parse_exact(GREETING, "\x05\x03\x02\x00\x02", 5, &m), 5);
	cr_expect(m.greeting.no_auth && m.greeting.password);
}

Test(socks5, a_greeting_may_offer_255_methods)
{
	uint8_t bytes[2 + 255] = { 5, 255 };
	union message m;

	memset(bytes + 2, 0x80, 255);
	bytes[256] = SOCKS5_PASSWORD;
	cr_assert_eq(parse_exact(GREETING, bytes, 256, &m), SOCKS5_MORE);
	cr_assert_eq(parse_exact(GREETING, bytes, 257, &m), 257);
	cr_expect(!m.greeting.no_auth && m.greeting.password);
}

Test(socks5, a_login_gives_both_fields)
{
	union message m;

	cr_assert_eq(parse_exact(LOGIN, "\x01\x02me\x03p\xffw", 8, &m), 8);
	cr_expect_str_eq(m.login.user, "me");
	cr_expect_eq(m.login.user_len, 2);
	cr_expect_str_eq(m.login.password, "p\xffw");
	cr_expect_eq(m.login.password_len, 3);
	cr_assert_eq(parse_exact(LOGIN, "\x01\x00\x00", 3, &m), 3);
	cr_expect_str_eq(m.login.user, "");
	cr_expect_str_eq(m.login.password, "");
	cr_expect_eq(m.login.user_len + m.login.password_len, 0);
}

Test(socks5, the_longest_message_is_a_login)
{
	uint8_t bytes[SOCKS5_MESSAGE_MAX];
	union message m;

	memset(bytes, 'x', sizeof(bytes));
	bytes[0] = 1;
	bytes[1] = bytes[257] = 255;
	cr_assert_eq(
	    parse_exact(LOGIN, bytes, sizeof(bytes), &m), SOCKS5_MESSAGE_MAX);
	cr_expect_eq(strlen(m.login.user), 255);
	cr_expect_eq(strlen(m.login.password), 255);
}

Test(socks5, a_request_gives_command_address_and_port)
{
	struct socks5_request r =
	    request_of(BYTES("\x05\x02\x00\x01\xc0\x00\x02\x01\x1f\x90"));
	char text[ADDR_TEXT_MAX];

	cr_expect_eq(r.command, SOCKS5_BIND);
	cr_expect_str_eq(addr_format(&r.addr, text), "192.0.2.1:8080");
	cr_expect_eq(r.port, 8080);
	cr_expect_str_eq(r.name, "");
	r = request_of(BYTES("\x05\x03\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00"
			     "\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00"));
	cr_expect_eq(r.command, SOCKS5_UDP_ASSOCIATE);
	cr_expect_str_eq(addr_format(&r.addr, text), "[2001:db8::2]:0");
	r = request_of(BYTES("\x05\x09\x00\x01\xc0\x00\x02\x01\x1f\x90"));
	cr_expect_eq(r.command, 9);
}

Test(socks5, a_mapped_address_is_ipv4)
{
	struct socks5_request r = request_of(
	    BYTES(CONNECT "\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
			  "\x7f\x00\x00\x01\x00\x50"));
	struct addr want = addr_v4(0x7f000001, 80);

	cr_expect(addr_equal(&r.addr, &want));
}

Test(socks5, a_name_that_is_a_literal_becomes_an_address)
{
	expect_literal("1.2.3.4", "1.2.3.4:443");
	expect_literal("1.2.3.4.", "1.2.3.4:443");
	expect_literal("::1", "[::1]:443");
	expect_literal("[::1]", "[::1]:443");
	expect_literal("[2001:db8::1]", "[2001:db8::1]:443");
	expect_literal("::ffff:10.0.0.1", "10.0.0.1:443");
	expect_literal("[::ffff:a00:1]", "10.0.0.1:443");
	expect_literal("1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:443");
}

Test(socks5, what_is_nearly_a_literal_stays_a_name)
{
	expect_name("example.com");
	expect_name("example.com.");
	expect_name("1.2.3.4..");
	expect_name("1.2.3");
	expect_name("1.2.3.256");
	expect_name("0x7f.1");
	expect_name("2130706433");
	expect_name("[1.2.3.4]");
	expect_name("[1.2.3.4].");
	expect_name("::1.");
	expect_name("[::1].");
	expect_name("[::1");
	expect_name("::1]");
	expect_name("[]");
	expect_name("[");
	expect_name(".");
	expect_name("fe80::1%lo");
	expect_name("fe80::1%1");
	expect_name("[fe80::1%1]");
	expect_name("\xc3\xa4.example");
	expect_name(NAME_255);
}

Test(socks5, no_byte_below_the_space_and_no_delete_is_in_a_name)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint8_t bytes[] = { 5, 1, 0, 3, 3, 'a', (uint8_t)byte, 'b', 0,
			80 };
		bool fine = byte > ' ' && byte != 0x7f;
		union message m;

		cr_expect_eq(parse_exact(REQUEST, bytes, sizeof(bytes), &m),
		    fine ? (int)sizeof(bytes) : SOCKS5_MALFORMED, "byte %#x",
		    byte);
	}
}

Test(socks5, random_bytes_never_give_more_than_there_are)
{
	uint32_t seed = 1;

	for (unsigned round = 0; round < 30000; round++) {
		uint8_t bytes[600];
		size_t len;
		union message m;

		for (size_t i = 0; i < 8; i++) {
			seed = seed * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(seed >> 24);
		}
		memset(bytes + 8, bytes[7], sizeof(bytes) - 8);
		bytes[0] = (uint8_t)(bytes[0] & 1 ? 5 : 1);
		len = (seed >> 8) % sizeof(bytes);
		for (int kind = GREETING; kind <= REQUEST; kind++) {
			int n = parse_exact((enum kind)kind, bytes, len, &m);

			cr_assert_leq(n, (int)len);
			cr_assert_leq(n, SOCKS5_MESSAGE_MAX);
			cr_assert_geq(n, SOCKS5_BAD_ADDRESS_TYPE);
		}
	}
}

Test(socks5, answers_are_as_the_rfcs_have_them)
{
	uint8_t out[SOCKS5_REPLY_MAX];

	cr_assert_eq(socks5_put_method(out, SOCKS5_PASSWORD), 2);
	cr_expect_arr_eq(out, "\x05\x02", 2);
	cr_assert_eq(socks5_put_method(out, SOCKS5_NO_ACCEPTABLE), 2);
	cr_expect_arr_eq(out, "\x05\xff", 2);
	cr_assert_eq(socks5_put_login_status(out, true), 2);
	cr_expect_arr_eq(out, "\x01\x00", 2);
	cr_assert_eq(socks5_put_login_status(out, false), 2);
	cr_expect_arr_eq(out, "\x01\x01", 2);
}

Test(socks5, a_reply_carries_the_bound_address)
{
	uint8_t out[SOCKS5_REPLY_MAX];
	struct addr none = { 0 }, v4 = addr_v4(0xc0000201, 40000), v6;
	uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };
	uint8_t mapped[16] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };

	cr_assert_eq(socks5_put_reply(out, SOCKS5_SUCCEEDED, &v4), 10);
	cr_expect_arr_eq(out, "\x05\x00\x00\x01\xc0\x00\x02\x01\x9c\x40", 10);
	cr_assert_eq(socks5_put_reply(out, SOCKS5_REFUSED, &none), 10);
	cr_expect_arr_eq(out, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", 10);
	v6 = addr_from_bytes(ADDR_V6, ip, 1);
	cr_assert_eq(socks5_put_reply(out, SOCKS5_SUCCEEDED, &v6), 22);
	cr_expect_arr_eq(out, "\x05\x00\x00\x04", 4);
	cr_expect_arr_eq(out + 4, ip, 16);
	cr_expect_arr_eq(out + 20, "\x00\x01", 2);
	v6 = addr_from_bytes(ADDR_V6, mapped, 1);
	cr_assert_eq(socks5_put_reply(out, SOCKS5_SUCCEEDED, &v6), 10);
	cr_expect_arr_eq(out + 3, "\x01\x0a\x00\x00\x01\x00\x01", 7);
}
