/* SPDX-License-Identifier: ISC */
/*
 * The part of preflight that decides: a host's facts and a section's wish to a
 * pool, or to the sentence that says why not. It touches nothing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "egress/preflight.h"

#define PORT_COUNT 65536

/* Ports in words, cut where they get too long to read. */
#define LIST_SIZE 120

/* Ports for a command line, which may not be cut. */
#define COMMAND_SIZE 512

/* How each port is to be bound. */
enum way { WAY_NONE, WAY_RANGE, WAY_EXPLICIT };

struct plan {
	const struct preflight_host *host;
	const struct preflight_wish *wish;
	char *error, *warning;
	size_t size;
	uint8_t ways[PORT_COUNT]; /* enum way */
};

/* Is `port` one of those meant? */
typedef bool port_test(const struct plan *p, uint32_t port);

static bool
bit_is_set(const uint8_t *bits, uint32_t port)
{
	return bits[port / 8] >> port % 8 & 1;
}

static void say(char *text, size_t size, const char *name, const char *format,
    va_list args) PRINTF_LIKE(4, 0);

static void
say(char *text, size_t size, const char *name, const char *format, va_list args)
{
	size_t used = strlen(text);

	if (used != 0 && used + 1 < size)
		strcpy_bounded(text + used, size - used, "\n");
	used = strlen(text);
	snprintf(text + used, size - used, "egress %s: ", name);
	used = strlen(text);
	vsnprintf(text + used, size - used, format, args);
}

void
preflight_say(
    char *text, size_t size, const char *name, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(text, size, name, format, args);
	va_end(args);
}

static int fail(struct plan *p, const char *format, ...) PRINTF_LIKE(2, 3);

static int
fail(struct plan *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(p->error, p->size, p->wish->name, format, args);
	va_end(args);
	return -EINVAL;
}

static void warn(struct plan *p, const char *format, ...) PRINTF_LIKE(2, 3);

static void
warn(struct plan *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(p->warning, p->size, p->wish->name, format, args);
	va_end(args);
}

static bool
is_taken(const struct plan *p, uint32_t port)
{
	return p->ways[port] != WAY_NONE;
}

static bool
is_inside(const struct plan *p, uint32_t port)
{
	return port >= p->host->port_first && port <= p->host->port_last;
}

static bool
is_taken_outside(const struct plan *p, uint32_t port)
{
	return is_taken(p, port) && !is_inside(p, port);
}

static bool
is_taken_reserved(const struct plan *p, uint32_t port)
{
	return is_taken(p, port) && is_inside(p, port) &&
	       bit_is_set(p->host->reserved, port);
}

/* Nor can ip_local_port_range be widened to these. */
static bool
is_taken_privileged(const struct plan *p, uint32_t port)
{
	return is_taken(p, port) && port < p->host->unprivileged_first;
}

/* What has to stay reserved when our ports are not any more. */
static bool
is_reserved_by_others(const struct plan *p, uint32_t port)
{
	return bit_is_set(p->host->reserved, port) && !is_taken(p, port);
}

/* Explicit, where the kernel also puts other programs' connections. */
static bool
is_shared_explicit(const struct plan *p, uint32_t port)
{
	return p->ways[port] == WAY_EXPLICIT && is_inside(p, port) &&
	       !bit_is_set(p->host->reserved, port);
}

/* What has to be reserved for explicit ports to be ours alone. */
static bool
is_reserved_or_shared(const struct plan *p, uint32_t port)
{
	return bit_is_set(p->host->reserved, port) ||
	       is_shared_explicit(p, port);
}

/* The first port from `from` on that passes (PORT_COUNT: none); `end` is the
 * first behind it that does not. */
static uint32_t
next_run(const struct plan *p, port_test *test, uint32_t from, uint32_t *end)
{
	while (from < PORT_COUNT && !test(p, from))
		from++;
	*end = from;
	while (*end < PORT_COUNT && test(p, *end))
		(*end)++;
	return from;
}

static bool
any_port(const struct plan *p, port_test *test)
{
	uint32_t end;

	return next_run(p, test, 0, &end) < PORT_COUNT;
}

/* preflight_format_ports() of all that pass. */
static bool
list_ports(const struct plan *p, port_test *test, char *text, size_t size)
{
	uint8_t bits[PREFLIGHT_PORT_BYTES] = { 0 };

	for (uint32_t port = 0; port < PORT_COUNT; port++) {
		if (test(p, port))
			bits[port / 8] |= (uint8_t)(1 << port % 8);
	}
	return preflight_format_ports(bits, text, size);
}

/* "sysctl -w net.ipv4.ip_local_reserved_ports=...", or in words when the list
 * is too long for a command. */
static void
reserve_command(const struct plan *p, port_test *test, char *text, size_t size)
{
	char list[COMMAND_SIZE - 64];

	if (list_ports(p, test, list, sizeof(list)))
		snprintf(text, size,
		    "sysctl -w net.ipv4.ip_local_reserved_ports=\"%s\"", list);
	else
		strcpy_bounded(text, size,
		    "edit the list in net.ipv4.ip_local_reserved_ports");
}

/* The host's range, made wide enough for all ports taken. */
static void
widen_command(const struct plan *p, char *text, size_t size)
{
	uint32_t first = p->host->port_first, last = p->host->port_last;

	for (uint32_t port = 0; port < PORT_COUNT; port++) {
		if (!is_taken(p, port))
			continue;
		first = port < first ? port : first;
		last = port > last ? port : last;
	}
	snprintf(text, size, "sysctl -w net.ipv4.ip_local_port_range=\"%u %u\"",
	    first, last);
}

static int
fail_overlap(struct plan *p, size_t n)
{
	const struct preflight_ports *a = &p->wish->ports[n], *b;
	size_t i = 0;

	while (p->wish->ports[i].last < a->first ||
	       p->wish->ports[i].first > a->last)
		i++;
	b = &p->wish->ports[i];
	return fail(p,
	    "ports %u-%u and %u-%u overlap; each port may be named once",
	    b->first, b->last, a->first, a->last);
}

static int
fail_privileged(struct plan *p)
{
	char list[LIST_SIZE];
	uint32_t end;

	list_ports(p, is_taken_privileged, list, sizeof(list));
	return fail(p,
	    "ports %s are below net.ipv4.ip_unprivileged_port_start (%u) and"
	    " take privileges that workers do not have; name others, or this"
	    " mends it: sysctl -w net.ipv4.ip_unprivileged_port_start=%u",
	    list, p->host->unprivileged_first,
	    next_run(p, is_taken_privileged, 0, &end));
}

static int
take_named(struct plan *p)
{
	for (size_t i = 0; i < p->wish->port_count; i++) {
		const struct preflight_ports *r = &p->wish->ports[i];

		if (r->first == 0 || r->first > r->last)
			return fail(p,
			    "ports %u-%u are none: a range goes from 1 or more"
			    " to at most 65535, the smaller port first",
			    r->first, r->last);
		for (uint32_t port = r->first; port <= r->last; port++) {
			if (is_taken(p, port))
				return fail_overlap(p, i);
			p->ways[port] = WAY_RANGE;
		}
	}
	for (size_t i = 0; i < p->wish->own_port_count; i++) {
		uint16_t own = p->wish->own_ports[i];

		if (is_taken(p, own))
			return fail(p,
			    "port %u is one that a [listen] section listens"
			    " on; take it out of ports=, or listen elsewhere",
			    own);
	}
	if (any_port(p, is_taken_privileged))
		return fail_privileged(p);
	return 0;
}

static int
take_auto(struct plan *p)
{
	for (uint32_t port = p->host->port_first; port <= p->host->port_last;
	     port++) {
		if (port != 0 && !bit_is_set(p->host->reserved, port))
			p->ways[port] = WAY_RANGE;
	}
	for (size_t i = 0; i < p->wish->own_port_count; i++)
		p->ways[p->wish->own_ports[i]] = WAY_NONE;
	if (!any_port(p, is_taken))
		return fail(p,
		    "ports=auto leaves none: net.ipv4.ip_local_port_range is"
		    " %u-%u, and all of it is reserved or listened on;"
		    " this mends it: sysctl -w"
		    " net.ipv4.ip_local_port_range=\"32768 60999\"",
		    p->host->port_first, p->host->port_last);
	return 0;
}

/* IP_LOCAL_PORT_RANGE alone would do by route; it came later than the other. */
static bool
range_works(const struct plan *p)
{
	return p->host->range_option && p->host->no_port_option;
}

/* bind=range: each port must be fit for it. */
static int
demand_range(struct plan *p)
{
	char list[LIST_SIZE], command[COMMAND_SIZE];

	if (!range_works(p))
		return fail(p,
		    "bind=range needs IP_LOCAL_PORT_RANGE, which Linux 6.3 and"
		    " later have and this kernel refuses (%s); take bind=auto",
		    p->host->release);
	if (any_port(p, is_taken_outside)) {
		list_ports(p, is_taken_outside, list, sizeof(list));
		widen_command(p, command, sizeof(command));
		return fail(p,
		    "bind=range cannot have ports %s, outside"
		    " net.ipv4.ip_local_port_range (%u-%u); this mends it: %s",
		    list, p->host->port_first, p->host->port_last, command);
	}
	if (any_port(p, is_taken_reserved)) {
		list_ports(p, is_taken_reserved, list, sizeof(list));
		reserve_command(
		    p, is_reserved_by_others, command, sizeof(command));
		return fail(p,
		    "bind=range cannot have ports %s, which are in"
		    " net.ipv4.ip_local_reserved_ports; this mends it: %s",
		    list, command);
	}
	return 0;
}

static void
make_explicit(struct plan *p, port_test *test)
{
	for (uint32_t port = 1; port < PORT_COUNT; port++) {
		if (test(p, port))
			p->ways[port] = WAY_EXPLICIT;
	}
}

/* bind=auto: explicit where range would not work, and a word about it. */
static void
allow_explicit(struct plan *p)
{
	char list[LIST_SIZE], command[COMMAND_SIZE];

	if (!range_works(p)) {
		warn(p,
		    "this kernel (%s) has no IP_LOCAL_PORT_RANGE; ports are"
		    " bound explicitly, which gets slow with many connections"
		    " on a port; Linux 6.3 and later have it",
		    p->host->release);
		make_explicit(p, is_taken);
		return;
	}
	if (any_port(p, is_taken_outside)) {
		list_ports(p, is_taken_outside, list, sizeof(list));
		widen_command(p, command, sizeof(command));
		warn(p,
		    "ports %s are outside net.ipv4.ip_local_port_range (%u-%u)"
		    " and bound explicitly, which gets slow with many"
		    " connections on a port; this mends it: %s",
		    list, p->host->port_first, p->host->port_last, command);
	}
	if (any_port(p, is_taken_reserved)) {
		list_ports(p, is_taken_reserved, list, sizeof(list));
		reserve_command(
		    p, is_reserved_by_others, command, sizeof(command));
		warn(p,
		    "ports %s are in net.ipv4.ip_local_reserved_ports and bound"
		    " explicitly, which gets slow with many connections on a"
		    " port; this mends it: %s",
		    list, command);
	}
	make_explicit(p, is_taken_outside);
	make_explicit(p, is_taken_reserved);
}

/*
 * A port that is bound explicitly and one that connect() chose exclude each
 * other, for all programs of the host.
 */
static void
warn_of_sharing(struct plan *p)
{
	char list[LIST_SIZE], command[COMMAND_SIZE];

	if (!any_port(p, is_shared_explicit))
		return;
	list_ports(p, is_shared_explicit, list, sizeof(list));
	if (p->wish->port_count == 0) {
		warn(p,
		    "explicit ports %s are in net.ipv4.ip_local_port_range,"
		    " where they and other programs' connections keep each"
		    " other out; name ports= outside of it",
		    list);
		return;
	}
	reserve_command(p, is_reserved_or_shared, command, sizeof(command));
	warn(p,
	    "explicit ports %s are in net.ipv4.ip_local_port_range, where they"
	    " and other programs' connections keep each other out; this mends"
	    " it: %s",
	    list, command);
}

static int
plan_ports(struct plan *p)
{
	int error = p->wish->port_count != 0 ? take_named(p) : take_auto(p);

	if (error != 0)
		return error;
	if (p->wish->bind == PREFLIGHT_RANGE)
		return demand_range(p);
	if (p->wish->bind == PREFLIGHT_EXPLICIT)
		make_explicit(p, is_taken);
	else
		allow_explicit(p);
	warn_of_sharing(p);
	return 0;
}

static int
plan_kernel(struct plan *p)
{
	if (p->wish->port_count != 0)
		return fail(p,
		    "bind=kernel lets the kernel choose among all of"
		    " net.ipv4.ip_local_port_range; leave out ports=, or take"
		    " bind=auto");
	if (p->wish->address_count != 0 && !p->host->no_port_option)
		return fail(p,
		    "bind=kernel with addresses= needs IP_BIND_ADDRESS_NO_PORT,"
		    " which Linux 4.2 and later have and this kernel refuses;"
		    " take bind=explicit");
	return 0;
}

/* Runs of the same way become ranges, in order. */
static int
add_ranges(struct plan *p, struct pool *pool)
{
	for (uint32_t at = 1, end; at < PORT_COUNT; at = end) {
		enum way way = p->ways[at];
		int error = 0;

		end = at;
		while (end < PORT_COUNT && p->ways[end] == way)
			end++;
		if (way != WAY_NONE)
			error = pool_add_ports(pool, (uint16_t)at,
			    (uint16_t)(end - 1),
			    way == WAY_RANGE ? POOL_RANGE : POOL_EXPLICIT);
		if (error != 0 && p->wish->port_count != 0)
			return fail(p,
			    "ports= falls into more than %d ranges; name fewer",
			    POOL_RANGES_MAX);
		if (error != 0) {
			warn(p,
			    "ports=auto stops before port %u: reserved ports"
			    " cut the rest into more than %d ranges",
			    at, POOL_RANGES_MAX);
			return 0;
		}
	}
	return 0;
}

static int
fail_source(struct plan *p, size_t n, int error)
{
	const struct prefix *a = &p->wish->addresses[n];
	char one[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];

	prefix_format(a, one);
	if (error == -ENOSPC)
		return fail(
		    p, "addresses= has more than %d entries", POOL_SOURCES_MAX);
	for (size_t i = 0; i < n; i++) {
		const struct prefix *b = &p->wish->addresses[i];

		if (prefix_overlaps(a, b))
			return fail(p,
			    "addresses %s and %s overlap; each address may be"
			    " named once",
			    prefix_format(b, other), one);
	}
	return fail(p,
	    "address %s and an unspecified one exclude each other: that means"
	    " any address, by route",
	    one);
}

static int
add_sources(struct plan *p, struct pool *pool)
{
	const struct prefix by_route[] = {
		{ .base = { .family = ADDR_V4 }, .bits = 32 },
		{ .base = { .family = ADDR_V6 }, .bits = 128 },
	};
	bool named = p->wish->address_count != 0;
	size_t count = named ? p->wish->address_count : ARRAY_LEN(by_route);
	const struct prefix *all = named ? p->wish->addresses : by_route;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		unsigned whole = all[i].base.family == ADDR_V4 ? 32 : 128;
		int error;

		if (addr_is_unspecified_ip(&all[i].base) &&
		    all[i].bits != whole)
			return fail(p, "%s cannot be source addresses",
			    prefix_format(&all[i], text));
		error = pool_add_source(pool, &all[i]);
		if (error != 0)
			return fail_source(p, i, error);
	}
	return 0;
}

int
preflight_plan(const struct preflight_host *host,
    const struct preflight_wish *wish, struct pool *out, char *error,
    char *warning, size_t size)
{
	struct plan p = { .host = host,
		.wish = wish,
		.error = error,
		.warning = warning,
		.size = size };
	struct pool pool;
	int result;

	must(size > 0);
	error[0] = warning[0] = '\0';
	pool_init(&pool, wish->name);
	pool.by_kernel = wish->bind == PREFLIGHT_KERNEL;
	result = pool.by_kernel ? plan_kernel(&p) : plan_ports(&p);
	if (result == 0 && !pool.by_kernel)
		result = add_ranges(&p, &pool);
	/* Whatever is wrong is told at once. */
	if (add_sources(&p, &pool) != 0)
		result = -EINVAL;
	if (result == 0)
		*out = pool;
	return result;
}

static bool
parse_port(const char **text, uint32_t *out)
{
	uint32_t value = 0;
	const char *at = *text;

	while (*at >= '0' && *at <= '9' && value < PORT_COUNT)
		value = value * 10 + (uint32_t)(*at++ - '0');
	if (at == *text || value >= PORT_COUNT)
		return false;
	*text = at;
	*out = value;
	return true;
}

int
preflight_parse_ports(const char *text, uint8_t bits[PREFLIGHT_PORT_BYTES])
{
	memset(bits, 0, PREFLIGHT_PORT_BYTES);
	while (*text != '\0' && *text != '\n') {
		uint32_t first, last;

		if (!parse_port(&text, &first))
			return -EINVAL;
		last = first;
		if (*text == '-') {
			text++;
			if (!parse_port(&text, &last))
				return -EINVAL;
		}
		if (*text == ',')
			text++;
		else if (*text != '\0' && *text != '\n')
			return -EINVAL;
		for (; first <= last; first++)
			bits[first / 8] |= (uint8_t)(1 << first % 8);
	}
	return 0;
}

bool
preflight_format_ports(
    const uint8_t bits[PREFLIGHT_PORT_BYTES], char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t at = 0, end; at < PORT_COUNT; at = end + 1) {
		const char *comma = used == 0 ? "" : ",";

		end = at;
		if (!bit_is_set(bits, at))
			continue;
		while (end + 1 < PORT_COUNT && bit_is_set(bits, end + 1))
			end++;
		if (size - used < sizeof(",65534-65535,...")) {
			strcpy_bounded(text + used, size - used, ",...");
			return false;
		}
		if (end == at)
			used += (size_t)snprintf(
			    text + used, size - used, "%s%u", comma, at);
		else
			used += (size_t)snprintf(text + used, size - used,
			    "%s%u-%u", comma, at, end);
	}
	return true;
}
