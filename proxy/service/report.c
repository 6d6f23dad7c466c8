/* SPDX-License-Identifier: ISC */
#include "service/report.h"

#include <stdarg.h>

#include "service/columns.h"

/* Where a client takes its ports from: Linux's own range, and all above 1024.
 */
#define CLIENT_PORTS     28232
#define CLIENT_PORTS_MAX 64511

static void put(struct columns_row *row, size_t column, const char *format, ...)
    PRINTF_LIKE(3, 4);

static void
put(struct columns_row *row, size_t column, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(row->text[column], sizeof(row->text[column]), format, args);
	va_end(args);
}

static void
put_heads(struct columns_row *row, const char *const heads[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		put(row, i, "%s", heads[i]);
}

/* ---- source ports ---- */

/* Addresses of a family; 0: none, `by_route`: whichever the route gives. */
static uint64_t
count_sources(const struct pool *p, enum addr_family family, bool *by_route)
{
	uint64_t n = 0;

	*by_route = false;
	for (unsigned i = 0; i < p->source_count; i++) {
		if (p->sources[i].first.family != family)
			continue;
		n += p->sources[i].count;
		*by_route |= addr_is_unspecified_ip(&p->sources[i].first);
	}
	return n;
}

static const char *
bind_of(const struct pool *p)
{
	bool range = false, explicit = false;

	if (p->by_kernel)
		return "kernel";
	for (unsigned i = 0; i < p->range_count; i++) {
		range |= p->ranges[i].bind == POOL_RANGE;
		explicit |= p->ranges[i].bind == POOL_EXPLICIT;
	}
	return range && explicit ? "range, explicit"
	       : range           ? "range"
				 : "explicit";
}

/* Where the kernel chooses: its range without what is reserved. */
static uint32_t
count_ports(const struct pool *p, const struct preflight_host *h)
{
	uint32_t n = 0;

	if (!p->by_kernel)
		return p->ports;
	for (uint32_t port = h->port_first; port <= h->port_last; port++)
		n += !(h->reserved[port / 8] >> port % 8 & 1);
	return n;
}

static void
add_pool(struct columns *c, const struct pool *p, enum addr_family family,
    const struct preflight_host *h)
{
	uint32_t ports = count_ports(p, h);
	bool by_route;
	uint64_t sources = count_sources(p, family, &by_route);
	uint64_t slots = sources * ports;
	struct columns_row *row;

	if (sources == 0)
		return;
	row = columns_add(c);
	put(row, 0, "%s", p->name);
	put(row, 1, family == ADDR_V4 ? "IPv4" : "IPv6");
	if (by_route)
		put(row, 2, "by route");
	else
		put(row, 2, "%ju", (uintmax_t)sources);
	put(row, 3, "%u", ports);
	put(row, 4, "%ju",
	    (uintmax_t)(slots < POOL_SLOTS_MAX ? slots : POOL_SLOTS_MAX));
	put(row, 5, "%s", bind_of(p));
}

static void
write_pools(const struct advice_facts *f, FILE *out)
{
	static const char *const heads[] = { "pool", "family", "addresses",
		"ports", "sessions", "bound by" };
	struct columns c;

	columns_init(&c, "llrrrl");
	put_heads(columns_add(&c), heads, ARRAY_LEN(heads));
	for (size_t i = 0; i < f->config->egress_count; i++) {
		add_pool(&c, &f->pools[i], ADDR_V4, f->host);
		add_pool(&c, &f->pools[i], ADDR_V6, f->host);
	}
	fputs("Source ports: sessions to ONE target at once, addresses x "
	      "ports\n",
	    out);
	columns_print(&c, out);
	columns_fini(&c);
}

/* ---- clients ---- */

struct doors {
	unsigned addresses;
	uint64_t ports; /* of all addresses together */
	bool wildcard;
};

static struct doors
count_doors(const struct config_listen *l, enum addr_family family)
{
	struct doors d = { 0 };

	for (size_t i = 0; i < l->address_count; i++) {
		const struct config_address *a = &l->addresses[i];

		if (a->ip.family != family)
			continue;
		d.addresses++;
		d.ports += a->ports.last - a->ports.first + 1u;
		d.wildcard |=
		    family != ADDR_NONE && addr_is_unspecified_ip(&a->ip);
	}
	return d;
}

/* The ports of all addresses count, since each address may have its own. */
static void
add_listener(
    struct columns *c, const struct config_listen *l, enum addr_family family)
{
	struct doors d = count_doors(l, family);
	const char *more = d.wildcard ? "+" : "";
	struct columns_row *row;

	if (d.addresses == 0)
		return;
	row = columns_add(c);
	put(row, 0, "%s", l->name);
	if (family == ADDR_NONE) {
		put(row, 1, "unix");
		put(row, 3, "no limit");
		put(row, 4, "no limit");
		return;
	}
	put(row, 1, family == ADDR_V4 ? "IPv4" : "IPv6");
	put(row, 2, "%ju%s", (uintmax_t)d.ports, more);
	put(row, 3, "%ju%s", (uintmax_t)(d.ports * CLIENT_PORTS), more);
	put(row, 4, "%ju%s", (uintmax_t)(d.ports * CLIENT_PORTS_MAX), more);
}

static void
write_listeners(const struct advice_facts *f, FILE *out)
{
	static const char *const heads[] = { "listener", "family",
		"addresses x ports", "connections", "at most" };
	struct columns c;

	columns_init(&c, "llrrr");
	put_heads(columns_add(&c), heads, ARRAY_LEN(heads));
	for (size_t i = 0; i < f->config->listen_count; i++) {
		add_listener(&c, &f->config->listens[i], ADDR_V4);
		add_listener(&c, &f->config->listens[i], ADDR_V6);
		add_listener(&c, &f->config->listens[i], ADDR_NONE);
	}
	fprintf(out,
	    "\nClients: connections from ONE client address, which has %d "
	    "ports by default, %d at most\n",
	    CLIENT_PORTS, CLIENT_PORTS_MAX);
	columns_print(&c, out);
	columns_fini(&c);
}

/* ---- sessions ---- */

static void
add_limit(struct columns *c, const char *what, uint64_t sessions)
{
	struct columns_row *row = columns_add(c);

	put(row, 0, "%s", what);
	put(row, 1, "%ju", (uintmax_t)sessions);
}

static void
write_sessions(const struct advice_facts *f, FILE *out)
{
	const struct capacity *have = f->capacity;
	const struct preflight_host *h = f->host;
	struct columns c;

	columns_init(&c, "lrl");
	add_limit(&c, "by descriptors", have->each * have->workers);
	put(&c.rows[0], 2, "%u worker%s of %ju descriptors, two a session",
	    have->workers, have->workers == 1 ? "" : "s",
	    (uintmax_t)h->files_hard);
	add_limit(&c, "by memory", h->memory / CAPACITY_SESSION_BYTES);
	put(&c.rows[1], 2,
	    "%ju MB available; an idle session is taken as %d KB of the "
	    "kernel's and %d KB of ours",
	    (uintmax_t)(h->memory >> 20), CAPACITY_KERNEL_BYTES / 1024,
	    CAPACITY_USER_BYTES / 1024);
	if (h->memory == 0) {
		put(&c.rows[1], 1, "-");
		put(&c.rows[1], 2, "how much is available is not known");
	}
	add_limit(&c, "max-sessions", have->sessions);
	if (f->config->max_sessions == 0)
		put(&c.rows[2], 2, "auto: what the descriptors allow");
	fputs("\nSessions: of all clients to all targets at once\n", out);
	columns_print(&c, out);
	columns_fini(&c);
}

void
report_write(const struct advice_facts *f, FILE *out)
{
	write_pools(f, out);
	write_listeners(f, out);
	write_sessions(f, out);
}
