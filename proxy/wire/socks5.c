/* SPDX-License-Identifier: ISC */
#include "wire/socks5.h"

#include <string.h>

#define VERSION       0x05
#define LOGIN_VERSION 0x01 /* of RFC 1929, not of SOCKS */

/* ATYP, RFC 1928 section 5. */
#define ATYP_V4   0x01
#define ATYP_NAME 0x03
#define ATYP_V6   0x04

/* VER CMD RSV ATYP, in front of every address. */
#define HEAD_BYTES 4

int
socks5_parse_greeting(
    const uint8_t *bytes, size_t len, struct socks5_greeting *out)
{
	struct socks5_greeting greeting = { 0 };
	size_t whole;

	if (len >= 1 && bytes[0] != VERSION)
		return SOCKS5_NOT_SOCKS5;
	if (len < 2)
		return SOCKS5_MORE;
	whole = 2 + (size_t)bytes[1];
	if (len < whole)
		return SOCKS5_MORE;
	for (size_t i = 2; i < whole; i++) {
		greeting.no_auth |= bytes[i] == SOCKS5_NO_AUTH;
		greeting.password |= bytes[i] == SOCKS5_PASSWORD;
	}
	*out = greeting;
	return (int)whole;
}

/*
 * A field of RFC 1929 at the front of `bytes`: its length in one byte, then so
 * many bytes. Returns the length of both, SOCKS5_MORE or SOCKS5_MALFORMED.
 */
static int
check_field(const uint8_t *bytes, size_t len)
{
	size_t have = len;

	if (len == 0)
		return SOCKS5_MORE;
	if (have > 1 + (size_t)bytes[0])
		have = 1 + (size_t)bytes[0];
	/* A NUL would end the field early for whoever compares strings. */
	if (memchr(bytes + 1, '\0', have - 1) != NULL)
		return SOCKS5_MALFORMED;
	return have == 1 + (size_t)bytes[0] ? (int)have : SOCKS5_MORE;
}

static uint8_t
copy_field(const uint8_t *bytes, char *out)
{
	memcpy(out, bytes + 1, bytes[0]);
	out[bytes[0]] = '\0';
	return bytes[0];
}

int
socks5_parse_login(const uint8_t *bytes, size_t len, struct socks5_login *out)
{
	const uint8_t *user;
	int user_bytes, password_bytes;

	if (len == 0)
		return SOCKS5_MORE;
	if (bytes[0] != LOGIN_VERSION)
		return SOCKS5_NOT_SOCKS5;
	user = bytes + 1;
	user_bytes = check_field(user, len - 1);
	if (user_bytes <= 0)
		return user_bytes;
	password_bytes =
	    check_field(user + user_bytes, len - 1 - (size_t)user_bytes);
	if (password_bytes <= 0)
		return password_bytes;
	out->user_len = copy_field(user, out->user);
	out->password_len = copy_field(user + user_bytes, out->password);
	return 1 + user_bytes + password_bytes;
}

/* Bytes that no name has, but logs and zone files give a meaning to. */
static bool
is_name_byte(uint8_t byte)
{
	return byte > ' ' && byte != 0x7f;
}

/* Takes "[...]" off `text`, which is changed. */
static char *
strip_brackets(char *text)
{
	size_t len = strlen(text);

	if (len < 2 || text[0] != '[' || text[len - 1] != ']')
		return text;
	text[len - 1] = '\0';
	return text + 1;
}

/*
 * Is `name` an IP literal in any spelling that clients use? One with a scope
 * is not: interfaces are this host's, and no client has a say in them.
 */
static bool
name_is_literal(const char *name, struct addr *out)
{
	char buf[ADDR_TEXT_MAX];
	size_t len = strlen(name);
	char *ip;

	if (len >= sizeof(buf) || strchr(name, '%') != NULL)
		return false;
	strcpy_bounded(buf, sizeof(buf), name);
	ip = strip_brackets(buf);
	if (addr_parse_ip(ip, out) == 0)
		return ip == buf || out->family == ADDR_V6;
	if (buf[len - 1] != '.')
		return false;
	buf[len - 1] = '\0';
	return addr_parse_ip(buf, out) == 0 && out->family == ADDR_V4;
}

/* The bytes of address and port behind the head; <= 0: enum socks5_parse. */
static int
check_address(const uint8_t *head, size_t len)
{
	const uint8_t *at = head + HEAD_BYTES;
	size_t have;

	switch (head[3]) {
	case ATYP_V4:
		return 4 + 2;
	case ATYP_V6:
		return 16 + 2;
	case ATYP_NAME:
		break;
	default:
		return SOCKS5_BAD_ADDRESS_TYPE;
	}
	if (len == HEAD_BYTES)
		return SOCKS5_MORE;
	if (at[0] == 0)
		return SOCKS5_MALFORMED;
	have = len - HEAD_BYTES - 1;
	for (size_t i = 0; i < have && i < at[0]; i++)
		if (!is_name_byte(at[1 + i]))
			return SOCKS5_MALFORMED;
	return 1 + at[0] + 2;
}

/* Fills address or name from `bytes`, a whole request of `whole` bytes. */
static void
read_address(const uint8_t *bytes, size_t whole, struct socks5_request *out)
{
	const uint8_t *at = bytes + HEAD_BYTES;
	const uint8_t *port = bytes + whole - 2;
	struct addr literal;

	out->port = (uint16_t)(port[0] << 8 | port[1]);
	if (bytes[3] == ATYP_NAME) {
		copy_field(at, out->name);
		if (!name_is_literal(out->name, &literal))
			return;
		memset(out->name, 0, sizeof(out->name));
	} else {
		literal = addr_from_bytes(
		    bytes[3] == ATYP_V4 ? ADDR_V4 : ADDR_V6, at, 0);
	}
	out->addr = addr_unmap(&literal);
	out->addr.port = out->port;
}

int
socks5_parse_request(
    const uint8_t *bytes, size_t len, struct socks5_request *out)
{
	struct socks5_request request = { 0 };
	size_t whole;
	int address;

	if (len >= 1 && bytes[0] != VERSION)
		return SOCKS5_NOT_SOCKS5;
	if (len < HEAD_BYTES)
		return SOCKS5_MORE;
	address = check_address(bytes, len);
	if (address <= 0)
		return address;
	whole = HEAD_BYTES + (size_t)address;
	if (len < whole)
		return SOCKS5_MORE;
	request.command = bytes[1];
	read_address(bytes, whole, &request);
	if (request.port == 0 && request.command == SOCKS5_CONNECT)
		return SOCKS5_MALFORMED;
	*out = request;
	return (int)whole;
}

size_t
socks5_put_method(uint8_t *out, enum socks5_method method)
{
	out[0] = VERSION;
	out[1] = (uint8_t)method;
	return 2;
}

size_t
socks5_put_login_status(uint8_t *out, bool accepted)
{
	out[0] = LOGIN_VERSION;
	out[1] = accepted ? 0x00 : 0x01;
	return 2;
}

size_t
socks5_put_reply(
    uint8_t *out, enum socks5_reply reply, const struct addr *bound)
{
	struct addr a = addr_unmap(bound);
	size_t ip_bytes = a.family == ADDR_V6 ? 16 : 4;

	out[0] = VERSION;
	out[1] = (uint8_t)reply;
	out[2] = 0;
	out[3] = a.family == ADDR_V6 ? ATYP_V6 : ATYP_V4;
	/* The bytes of an address without family are all zero. */
	memcpy(out + HEAD_BYTES, a.ip, ip_bytes);
	out[HEAD_BYTES + ip_bytes] = (uint8_t)(a.port >> 8);
	out[HEAD_BYTES + ip_bytes + 1] = (uint8_t)(a.port & 0xff);
	return HEAD_BYTES + ip_bytes + 2;
}
