/* SPDX-License-Identifier: ISC */
/*
 * addr: an IP address with a port, and prefixes of addresses.
 *
 * The one place where byte order changes: a port is host order everywhere
 * else. Values, owned by whoever holds them.
 */
#ifndef FOURFOLD_ADDR_H
#define FOURFOLD_ADDR_H

#include <sys/socket.h>

#include "base/base.h"

enum addr_family { ADDR_NONE = 0, ADDR_V4 = 4, ADDR_V6 = 6 };

/*
 * No padding, and unused bytes are zero: two addresses are equal when their
 * bytes are, and the bytes can be hashed.
 */
struct addr {
	uint8_t ip[16]; /* network order; IPv4 in the first four */
	uint32_t scope; /* interface of a link-local IPv6 address, else 0 */
	uint16_t port;  /* host order */
	uint8_t family; /* enum addr_family */
	uint8_t zero;
};
_Static_assert(sizeof(struct addr) == 24, "struct addr has no padding");

/* Addresses that agree with `base` in the first `bits` bits. */
struct prefix {
	struct addr base; /* port 0; bits behind `bits` are zero */
	uint8_t bits;
};

/* "[ffff:...:255.255.255.255%4294967295]:65535" and its NUL fit. */
#define ADDR_TEXT_MAX 80

struct addr addr_v4(uint32_t ip, uint16_t port); /* `ip` in host order */
struct addr addr_from_bytes(
    enum addr_family family, const void *ip, uint16_t port);

/* -EAFNOSUPPORT when it is neither AF_INET nor AF_INET6. */
MUST_USE int addr_from_sockaddr(const struct sockaddr *sa, struct addr *out);

/* Fills `ss` and returns its length. `a` must have a family. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

/* PF_INET or PF_INET6. */
int addr_domain(const struct addr *a);

/* An IP literal without port or brackets; -EINVAL when it is none. */
MUST_USE int addr_parse_ip(const char *text, struct addr *out);

/* "1.2.3.4:80" or "[::1]:80"; -EINVAL when it is not one. */
MUST_USE int addr_parse(const char *text, struct addr *out);

/* "10.0.0.0/8", "::1" (all bits); -EINVAL when bits behind the length are set.
 */
MUST_USE int prefix_parse(const char *text, struct prefix *out);

/* Writes the address, with the port ("1.2.3.4:80", "[::1]:80") or without it
 * ("::1"), to `text` of ADDR_TEXT_MAX bytes; returns `text`. "-" for none. */
const char *addr_format(const struct addr *a, char *text);
const char *addr_format_ip(const struct addr *a, char *text);
const char *prefix_format(const struct prefix *p, char *text);

bool addr_equal(const struct addr *a, const struct addr *b);
bool addr_equal_ip(const struct addr *a, const struct addr *b);
bool prefix_contains(const struct prefix *p, const struct addr *a);

/* Do the two share an address? */
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);

/* The `n`th address (from 0) of the prefix, without port. */
struct addr prefix_address(const struct prefix *p, uint64_t n);

/* ::ffff:a.b.c.d becomes a.b.c.d, all else stays: what the kernel dials. */
struct addr addr_unmap(const struct addr *a);

/*
 * The IPv4 address that a translator or tunnel makes of `a`: inside
 * ::ffff:0:0/96, ::/96, 64:ff9b::/96 (RFC 6052), 64:ff9b:1::/48 (RFC 8215),
 * 2002::/16 (RFC 3056).
 * Otherwise `a` itself. For judging, not for dialling.
 */
struct addr addr_unwrap(const struct addr *a);

bool addr_is_unspecified_ip(const struct addr *a);
bool addr_is_loopback(const struct addr *a);

#endif
