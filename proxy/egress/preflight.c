/* SPDX-License-Identifier: ISC */
#include "egress/preflight.h"

#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostnet.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

/* Of more addresses that are not to be had, only how many is told. */
#define FAILED_SOURCES_TOLD 8

static int
try_bind(const struct addr *a, bool freebind)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(addr_domain(a), SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;
	int error = 0;

	if (fd < 0)
		return -errno;
	/* Without this the bind would take a port, and could lack one. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (freebind &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on)) != 0)
		error = -errno;
	if (error == 0 && bind(fd, (const struct sockaddr *)&ss, len) != 0)
		error = -errno;
	close(fd);
	return error;
}

static bool
is_single(const struct prefix *p)
{
	return p->bits == (p->base.family == ADDR_V4 ? 32 : 128);
}

/* A longer prefix counts as its first so many addresses: see pool.c. */
static struct addr
last_source(const struct prefix *p)
{
	unsigned bits = (p->base.family == ADDR_V4 ? 32 : 128) - p->bits;

	return prefix_address(p, (UINT64_C(1) << (bits < 24 ? bits : 24)) - 1);
}

/*
 * A single address: what bind() says, which is also right for one that
 * ip_nonlocal_bind lets through on purpose. Of an IPv6 route of type local
 * bind() wants IPV6_FREEBIND, which lets anything through: so the routes
 * decide there, as they do for all addresses of a prefix at once.
 */
static int
check_source(const struct hostnet *net, const struct prefix *p)
{
	bool is_v6 = p->base.family == ADDR_V6;
	struct addr last = last_source(p);
	int error = 0;

	if (is_single(p)) {
		error = try_bind(&p->base, false);
		if (error == 0 || !is_v6)
			return error;
	}
	if (!hostnet_covers(net, p))
		return error != 0 ? error : -EADDRNOTAVAIL;
	error = try_bind(&p->base, is_v6);
	return error == 0 ? try_bind(&last, is_v6) : error;
}

/* What is being checked, and where words of it go. */
struct sources {
	struct hostnet net;
	const struct preflight_wish *wish;
	char *text;
	size_t size;
	unsigned failed;
};

static void
fail_source(struct sources *s, const struct prefix *p, int error)
{
	const char *name = s->wish->name;
	bool is_v6 = p->base.family == ADDR_V6;
	char what[ADDR_TEXT_MAX], prefix[ADDR_TEXT_MAX];

	prefix_format(p, prefix);
	addr_format_ip(&p->base, what);
	if (error != -EADDRNOTAVAIL)
		preflight_say(s->text, s->size, name, "%s cannot be bound: %s",
		    is_single(p) ? what : prefix, strerror(-error));
	else if (is_single(p))
		preflight_say(s->text, s->size, name,
		    "%s is not an address of this host;"
		    " this mends it: ip address add %s dev lo",
		    what, prefix);
	else
		preflight_say(s->text, s->size, name,
		    "not all of %s is local to this host;"
		    " this mends it: ip%s route add local %s dev lo",
		    prefix, is_v6 ? " -6" : "", prefix);
}

/* bind() takes it, and connect() then another source address. */
static void
fail_broadcast(
    struct sources *s, const struct prefix *p, const struct addr *broadcast)
{
	char prefix[ADDR_TEXT_MAX], ip[ADDR_TEXT_MAX];

	addr_format_ip(broadcast, ip);
	preflight_say(s->text, s->size, s->wish->name,
	    "%s of %s is a broadcast address and no source; name addresses"
	    " without it, or this mends it: ip route del table local"
	    " broadcast %s",
	    ip, prefix_format(p, prefix), ip);
}

static void
check_one(struct sources *s, const struct prefix *p)
{
	struct addr broadcast;
	bool is_broadcast;
	int error;

	if (addr_is_unspecified_ip(&p->base))
		return;
	is_broadcast = hostnet_find_broadcast(&s->net, p, &broadcast);
	error = is_broadcast ? 0 : check_source(&s->net, p);
	if (!is_broadcast && error == 0)
		return;
	if (++s->failed > FAILED_SOURCES_TOLD)
		return;
	if (is_broadcast)
		fail_broadcast(s, p, &broadcast);
	else
		fail_source(s, p, error);
}

static int
check_sources(const struct preflight_wish *wish, char *text, size_t size)
{
	struct sources s = { .wish = wish, .text = text, .size = size };
	int error;

	hostnet_init(&s.net);
	error = hostnet_refresh(&s.net, 0, 0);
	if (error != 0) {
		preflight_say(text, size, wish->name,
		    "the local routing table cannot be read: %s",
		    strerror(-error));
		return -EINVAL;
	}
	for (size_t i = 0; i < wish->address_count; i++)
		check_one(&s, &wish->addresses[i]);
	if (s.failed > FAILED_SOURCES_TOLD)
		preflight_say(text, size, wish->name,
		    "and %u more of addresses= are not to be had",
		    s.failed - FAILED_SOURCES_TOLD);
	hostnet_fini(&s.net);
	return s.failed == 0 ? 0 : -EINVAL;
}

int
preflight_pool(const struct preflight_host *host,
    const struct preflight_wish *wish, struct pool *out, char *error,
    char *warning, size_t size)
{
	struct pool pool;
	int result = preflight_plan(host, wish, &pool, error, warning, size);

	/* Whatever is wrong is told at once. */
	if (wish->address_count != 0 && check_sources(wish, error, size) != 0)
		result = -EINVAL;
	if (result == 0)
		*out = pool;
	return result;
}
