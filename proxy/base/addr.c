/* SPDX-License-Identifier: ISC */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t
ip_bytes(const struct addr *a)
{
	return a->family == ADDR_V4 ? 4 : 16;
}

struct addr
addr_v4(uint32_t ip, uint16_t port)
{
	uint32_t net = htonl(ip);

	return addr_from_bytes(ADDR_V4, &net, port);
}

struct addr
addr_from_bytes(enum addr_family family, const void *ip, uint16_t port)
{
	struct addr a = { .family = (uint8_t)family, .port = port };

	memcpy(a.ip, ip, ip_bytes(&a));
	return a;
}

int
addr_from_sockaddr(const struct sockaddr *sa, struct addr *out)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		*out =
		    addr_from_bytes(ADDR_V4, &in.sin_addr, ntohs(in.sin_port));
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		*out = addr_from_bytes(
		    ADDR_V6, &in6.sin6_addr, ntohs(in6.sin6_port));
		out->scope = in6.sin6_scope_id;
		return 0;
	}
	return -EAFNOSUPPORT;
}

socklen_t
addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	must(a->family == ADDR_V4 || a->family == ADDR_V6);
	if (a->family == ADDR_V4) {
		struct sockaddr_in in = { .sin_family = AF_INET,
			.sin_port = htons(a->port) };

		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(ss, &in, sizeof(in));
		return sizeof(in);
	}
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_port = htons(a->port),
		.sin6_scope_id = a->scope };

	memcpy(&in6.sin6_addr, a->ip, 16);
	memcpy(ss, &in6, sizeof(in6));
	return sizeof(in6);
}

int
addr_domain(const struct addr *a)
{
	return a->family == ADDR_V6 ? PF_INET6 : PF_INET;
}

/* A scope behind '%': an interface's name or number. */
static int
parse_scope(const char *text, uint32_t *out)
{
	char *end;
	unsigned long number;

	if (*text == '\0')
		return -EINVAL;
	*out = if_nametoindex(text);
	if (*out != 0)
		return 0;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 ||
	    number > UINT32_MAX)
		return -EINVAL;
	*out = (uint32_t)number;
	return 0;
}

int
addr_parse_ip(const char *text, struct addr *out)
{
	char buf[ADDR_TEXT_MAX];
	uint8_t ip[16];
	uint32_t scope = 0;
	char *percent;

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	if (inet_pton(AF_INET, text, ip) == 1) {
		*out = addr_from_bytes(ADDR_V4, ip, 0);
		return 0;
	}
	strcpy_bounded(buf, sizeof(buf), text);
	percent = strchr(buf, '%');
	if (percent != NULL) {
		*percent = '\0';
		if (parse_scope(percent + 1, &scope) != 0)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, buf, ip) != 1)
		return -EINVAL;
	*out = addr_from_bytes(ADDR_V6, ip, 0);
	out->scope = scope;
	return 0;
}

static int
parse_number(const char *text, unsigned max, unsigned *out)
{
	unsigned value = 0;

	if (*text == '\0' || strlen(text) > 5)
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (unsigned)(*text - '0');
	}
	if (value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

int
addr_parse(const char *text, struct addr *out)
{
	char buf[ADDR_TEXT_MAX];
	char *ip = buf, *colon;
	struct addr a;
	unsigned port;
	bool bracket = text[0] == '[';

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	strcpy_bounded(buf, sizeof(buf), text);
	colon = strrchr(buf, ':');
	if (colon == NULL || parse_number(colon + 1, 65535, &port) != 0)
		return -EINVAL;
	*colon = '\0';
	if (bracket) {
		if (colon[-1] != ']')
			return -EINVAL;
		colon[-1] = '\0';
		ip++;
	}
	if (addr_parse_ip(ip, &a) != 0 || (a.family == ADDR_V6) != bracket)
		return -EINVAL;
	a.port = (uint16_t)port;
	*out = a;
	return 0;
}

/* Clears the bits of `ip` from number `bits` on. */
static void
clear_tail(uint8_t *ip, size_t bytes, unsigned bits)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned from = (unsigned)i * 8;

		if (from >= bits)
			ip[i] = 0;
		else if (from + 8 > bits)
			ip[i] &= (uint8_t)(0xff << (from + 8 - bits));
	}
}

int
prefix_parse(const char *text, struct prefix *out)
{
	char buf[ADDR_TEXT_MAX];
	struct prefix p = { 0 };
	struct addr whole;
	unsigned bits;
	char *slash;

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	strcpy_bounded(buf, sizeof(buf), text);
	slash = strchr(buf, '/');
	if (slash != NULL)
		*slash = '\0';
	if (addr_parse_ip(buf, &p.base) != 0)
		return -EINVAL;
	bits = (unsigned)ip_bytes(&p.base) * 8;
	if (slash != NULL && parse_number(slash + 1, bits, &bits) != 0)
		return -EINVAL;
	p.bits = (uint8_t)bits;
	whole = p.base;
	clear_tail(p.base.ip, ip_bytes(&p.base), bits);
	if (!addr_equal(&whole, &p.base))
		return -EINVAL;
	*out = p;
	return 0;
}

/* The end of what was written. */
static char *
put_v4(char *to, const uint8_t *ip)
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*to++ = '.';
		to += decimal_put(to, ip[i]);
	}
	return to;
}

/* The first of the longest runs of zero groups, which is written "::"; none
 * when it is of one group (RFC 5952, section 4.2). */
static unsigned
find_zeros(const unsigned groups[8], unsigned *first)
{
	unsigned longest = 1, run = 0;

	for (unsigned i = 0; i < 8; i++) {
		run = groups[i] == 0 ? run + 1 : 0;
		if (run > longest) {
			longest = run;
			*first = i + 1 - run;
		}
	}
	return longest > 1 ? longest : 0;
}

/* The end of what was written. */
static char *
put_hex(char *to, unsigned group)
{
	for (int shift = 12; shift >= 0; shift -= 4)
		if (shift == 0 || group >> shift != 0)
			*to++ = "0123456789abcdef"[group >> shift & 15];
	return to;
}

/* As inet_ntop(), which takes 3 us. The end of what was written. */
static char *
put_v6(char *to, const uint8_t *ip)
{
	unsigned groups[8], zero = 8, zeros;
	bool embeds;

	for (unsigned i = 0; i < 8; i++)
		groups[i] = (unsigned)(ip[2 * i] << 8 | ip[2 * i + 1]);
	zeros = find_zeros(groups, &zero);
	embeds =
	    zero == 0 && (zeros == 6 || (zeros == 5 && groups[5] == 0xffff));
	for (unsigned i = 0; i < 8; i++) {
		if (i == zero) {
			*to++ = ':';
			if (zero + zeros == 8)
				*to++ = ':';
		}
		if (i >= zero && i < zero + zeros)
			continue;
		if (i > 0)
			*to++ = ':';
		if (embeds && i == 6)
			return put_v4(to, ip + 12);
		to = put_hex(to, groups[i]);
	}
	return to;
}

/* The end of what was written, without a NUL. */
static char *
put_ip(char *to, const struct addr *a)
{
	if (a->family == ADDR_V4)
		return put_v4(to, a->ip);
	to = put_v6(to, a->ip);
	if (a->scope != 0) {
		*to++ = '%';
		to += decimal_put(to, a->scope);
	}
	return to;
}

const char *
addr_format_ip(const struct addr *a, char *text)
{
	if (a->family == ADDR_NONE)
		strcpy_bounded(text, ADDR_TEXT_MAX, "-");
	else
		*put_ip(text, a) = '\0';
	return text;
}

const char *
addr_format(const struct addr *a, char *text)
{
	char *end = text;

	if (a->family == ADDR_NONE)
		return addr_format_ip(a, text);
	if (a->family == ADDR_V6)
		*end++ = '[';
	end = put_ip(end, a);
	if (a->family == ADDR_V6)
		*end++ = ']';
	*end++ = ':';
	end += decimal_put(end, a->port);
	*end = '\0';
	return text;
}

const char *
prefix_format(const struct prefix *p, char *text)
{
	char ip[ADDR_TEXT_MAX];

	snprintf(text, ADDR_TEXT_MAX, "%.62s/%u", addr_format_ip(&p->base, ip),
	    p->bits);
	return text;
}

bool
addr_equal(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool
addr_equal_ip(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->scope == b->scope &&
	       memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

bool
prefix_contains(const struct prefix *p, const struct addr *a)
{
	struct addr cut = *a;

	if (a->family != p->base.family)
		return false;
	clear_tail(cut.ip, ip_bytes(a), p->bits);
	return memcmp(cut.ip, p->base.ip, sizeof(cut.ip)) == 0 &&
	       (p->base.scope == 0 || p->base.scope == a->scope);
}

bool
prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	struct prefix wide = a->bits <= b->bits ? *a : *b;
	const struct addr *base = a->bits <= b->bits ? &b->base : &a->base;

	/* Without a scope it is of every interface. */
	if (base->scope == 0)
		wide.base.scope = 0;
	return prefix_contains(&wide, base);
}

struct addr
prefix_address(const struct prefix *p, uint64_t n)
{
	struct addr a = p->base;

	for (size_t i = ip_bytes(&a); i-- > 0 && n != 0; n >>= 8) {
		unsigned sum = a.ip[i] + (unsigned)(n & 0xff);

		/* Base and number share no bit, so there is no carry. */
		must(sum <= 0xff);
		a.ip[i] = (uint8_t)sum;
	}
	return a;
}

static bool
in_prefix(const struct addr *a, const uint8_t *head, size_t bytes)
{
	return a->family == ADDR_V6 && memcmp(a->ip, head, bytes) == 0;
}

struct addr
addr_unmap(const struct addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (in_prefix(a, mapped, sizeof(mapped)))
		return addr_from_bytes(ADDR_V4, a->ip + 12, a->port);
	return *a;
}

/*
 * The local network says how long its prefix is, /48 to /96, and that says
 * where the address is: behind it are zeros, and bits 64 to 71 are none of its
 * (RFC 6052, 2.2).
 */
static struct addr
unwrap_local_nat64(const struct addr *a)
{
	static const uint8_t places[][4] = { { 6, 7, 9, 10 }, { 7, 9, 10, 11 },
		{ 9, 10, 11, 12 }, { 12, 13, 14, 15 } };
	size_t end = sizeof(a->ip), place = 0;
	uint8_t ip[4];

	while (end > 0 && a->ip[end - 1] == 0)
		end--;
	while (places[place][3] + 1u < end)
		place++;
	for (size_t i = 0; i < sizeof(ip); i++)
		ip[i] = a->ip[places[place][i]];
	return addr_from_bytes(ADDR_V4, ip, a->port);
}

struct addr
addr_unwrap(const struct addr *a)
{
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	static const uint8_t local_nat64[6] = { 0x00, 0x64, 0xff, 0x9b, 0, 1 };
	static const uint8_t compatible[12] = { 0 };
	static const uint8_t sixtofour[2] = { 0x20, 0x02 };
	struct addr plain = addr_unmap(a);

	if (plain.family == ADDR_V4)
		return plain;
	if (in_prefix(a, nat64, sizeof(nat64)))
		return addr_from_bytes(ADDR_V4, a->ip + 12, a->port);
	if (in_prefix(a, local_nat64, sizeof(local_nat64)))
		return unwrap_local_nat64(a);
	if (in_prefix(a, sixtofour, sizeof(sixtofour)))
		return addr_from_bytes(ADDR_V4, a->ip + 2, a->port);
	/* ::1 and :: are themselves; the rest of ::/96 is IPv4-compatible. */
	if (in_prefix(a, compatible, sizeof(compatible)) &&
	    !addr_is_unspecified_ip(a) && !addr_is_loopback(a))
		return addr_from_bytes(ADDR_V4, a->ip + 12, a->port);
	return *a;
}

bool
addr_is_unspecified_ip(const struct addr *a)
{
	static const uint8_t zero[16] = { 0 };

	return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

bool
addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (a->family == ADDR_V4)
		return a->ip[0] == 127;
	return a->family == ADDR_V6 && memcmp(a->ip, one, sizeof(one)) == 0;
}
