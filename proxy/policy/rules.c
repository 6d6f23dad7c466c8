/* SPDX-License-Identifier: ISC */
#include "policy/rules.h"

#include <string.h>

static bool
is_multicast(const struct addr *a)
{
	if (a->family == ADDR_V4)
		return (a->ip[0] & 0xf0) == 224;
	return a->ip[0] == 0xff;
}

/* 169.254.0.0/16 and fe80::/10, where most clouds keep their metadata. */
static bool
is_link_local(const struct addr *a)
{
	if (a->family == ADDR_V4)
		return a->ip[0] == 169 && a->ip[1] == 254;
	return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

#define V4(...)                                                       \
	{                                                             \
		.base = { .family = ADDR_V4, .ip = { __VA_ARGS__ } }, \
		.bits = 32                                            \
	}
#define V6(n, ...)                                                    \
	{                                                             \
		.base = { .family = ADDR_V6, .ip = { __VA_ARGS__ } }, \
		.bits = (n)                                           \
	}

/* Where the other clouds have it, and what else tells an instance's secrets. */
static bool
is_metadata(const struct addr *a)
{
	static const struct prefix services[] = {
		V4(100, 100, 100, 200), /* Alibaba */
		V4(168, 63, 129, 16),   /* Azure */
		V4(192, 0, 0, 192),     /* Oracle, Classic */
		/* Amazon: fd00:ec2::/32 */
		V6(32, 0xfd, 0x00, 0x0e, 0xc2),
		/* Google: fd20:ce::254 */
		V6(128, 0xfd, 0x20, 0x00, 0xce, [14] = 0x02, 0x54),
		/* Oracle: fd00:c1::a9fe:a9fe */
		V6(128, 0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe),
		/* Alibaba: fd00:100::100:200 */
		V6(128, 0xfd, 0x00, 0x01, 0x00, [12] = 0x01, 0x00, 0x02, 0x00),
		/* Scaleway: fd00:42::42 */
		V6(128, 0xfd, 0x00, 0x00, 0x42, [15] = 0x42),
		/* Akamai: fd00:a9fe:a9fe::1 */
		V6(128, 0xfd, 0x00, 0xa9, 0xfe, 0xa9, 0xfe, [15] = 0x01),
	};

	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (prefix_contains(&services[i], a))
			return true;
	return false;
}

/* 0.0.0.0/8 is "this network" (RFC 1122): Linux takes 0.0.0.0 for itself. */
static bool
is_unspecified(const struct addr *a)
{
	if (a->family == ADDR_V4)
		return a->ip[0] == 0;
	return addr_is_unspecified_ip(a);
}

static bool
is_broadcast(const struct rules_host *host, const struct addr *a)
{
	static const uint8_t limited[4] = { 255, 255, 255, 255 };

	if (a->family == ADDR_V4 && memcmp(a->ip, limited, 4) == 0)
		return true;
	return host->is_broadcast(host->arg, a);
}

static bool
is_own(const struct rules_host *host, const struct addr *a)
{
	return addr_is_loopback(a) || host->is_local(host->arg, a);
}

/*
 * An unspecified listener counts for both families: [::] takes IPv4 as well
 * unless it was told not to.
 */
static bool
listens_at(const struct rules_host *host, const struct addr *listener,
    const struct addr *a)
{
	struct addr l = addr_unmap(listener);

	if (l.port != a->port)
		return false;
	if (addr_is_unspecified_ip(&l))
		return is_own(host, a);
	return l.family == a->family && memcmp(l.ip, a->ip, sizeof(l.ip)) == 0;
}

static bool
is_listener(const struct rules_host *host, const struct addr *a)
{
	for (size_t i = 0; i < host->listener_count; i++)
		if (listens_at(host, &host->listeners[i], a))
			return true;
	return false;
}

static enum rules_verdict
judge_form(
    const struct rules_host *host, bool client_here, const struct addr *target)
{
	if (is_unspecified(target) || is_multicast(target) ||
	    is_link_local(target) || is_metadata(target) ||
	    is_broadcast(host, target))
		return RULES_NEVER;
	if (is_listener(host, target))
		return RULES_LISTENER;
	if (!client_here && is_own(host, target))
		return RULES_HOST;
	return RULES_ALLOW;
}

/*
 * Only a mapped address is unwrapped here: it is IPv4 that came to a dual
 * listener, while 2002:7f00:1:: comes from afar.
 */
static bool
is_client_here(const struct addr *client)
{
	struct addr plain = addr_unmap(client);

	return plain.family == ADDR_NONE || addr_is_loopback(&plain);
}

enum rules_verdict
rules_judge(const struct rules_host *host, const struct addr *client,
    const struct addr *target)
{
	bool here = is_client_here(client);
	struct addr wrapped = addr_unmap(target);
	struct addr plain = addr_unwrap(target);
	enum rules_verdict v;

	must(target->family == ADDR_V4 || target->family == ADDR_V6);
	v = judge_form(host, here, &wrapped);
	if (v != RULES_ALLOW || addr_equal(&wrapped, &plain))
		return v;
	return judge_form(host, here, &plain);
}

const char *
rules_verdict_name(enum rules_verdict v)
{
	static const char *const names[] = {
		[RULES_ALLOW] = "allow",
		[RULES_NEVER] = "never",
		[RULES_LISTENER] = "own_listener",
		[RULES_HOST] = "this_host",
	};

	must((size_t)v < ARRAY_LEN(names));
	return names[v];
}
