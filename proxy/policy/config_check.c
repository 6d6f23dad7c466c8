/* SPDX-License-Identifier: ISC */
/*
 * What holds between the sections of a file. Where an option had an error of
 * its own, nothing is concluded from it: each mistake is reported once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "egress/ledger.h"
#include "policy/config_parse.h"

/* A user's place in the file fits the ledger's 16 bits, 0 being nobody. */
#define USERS_MAX 65534
/* Of all listeners together: each is a socket for every worker. */
#define LISTEN_ADDRESSES_MAX 1024

#define WHERE_MAX 128

/* "[listen web]" */
static const char *
title(const struct section *s, char out[WHERE_MAX])
{
	snprintf(out, WHERE_MAX, "[%s%s%.64s]", config_kind(s->kind)->word,
	    s->name[0] == '\0' ? "" : " ", s->name);
	return out;
}

/* "[listen web] of line 7", for a message about another section. */
static const char *
where(const struct section *s, char out[WHERE_MAX])
{
	size_t len;

	if (s->line == 0) {
		snprintf(out, WHERE_MAX, "the built-in [%s default]",
		    config_kind(s->kind)->word);
		return out;
	}
	title(s, out);
	len = strlen(out);
	snprintf(out + len, WHERE_MAX - len, " of line %u", s->line);
	return out;
}

static int
by_name_and_line(const void *a, const void *b)
{
	const struct section *one = *(struct section *const *)a;
	const struct section *two = *(struct section *const *)b;
	int order = strcmp(one->name, two->name);

	if (order != 0)
		return order;
	return one->line < two->line ? -1 : one->line > two->line;
}

/* Marks and reports the sections that repeat a name. */
static void
check_duplicates(struct parse *p, enum section_kind kind)
{
	const struct section_list *list = &p->kinds[kind];
	const char *word = config_kind(kind)->word;
	struct section **sorted;
	char quote[QUOTE_MAX];

	if (list->count < 2)
		return;
	sorted = calloc(list->count, sizeof(struct section *));
	if (sorted == NULL) {
		p->no_memory = true;
		return;
	}
	memcpy(sorted, list->items, list->count * sizeof(struct section *));
	qsort(sorted, list->count, sizeof(struct section *), by_name_and_line);
	for (size_t i = 1; i < list->count; i++) {
		/* A missing name, or a name on [proxy], was reported. */
		if (config_kind(kind)->bytes != 0 &&
		    (sorted[i]->name[0] == '\0' ||
			strcmp(sorted[i - 1]->name, sorted[i]->name) != 0))
			continue;
		sorted[i]->duplicate = true;
		config_error(p, sorted[i]->line,
		    "a second [%s] section%s%s: line %u has the first", word,
		    sorted[i]->name[0] == '\0' ? "" : " named ",
		    sorted[i]->name[0] == '\0'
			? ""
			: config_quote(sorted[i]->name, quote),
		    sorted[i - 1]->line);
	}
	free(sorted);
}

static void
check_count(struct parse *p, enum section_kind kind, size_t max)
{
	const struct section_list *list = &p->kinds[kind];

	if (list->count > max)
		config_error(p, list->items[max]->line,
		    "too many [%s NAME] sections: at most %zu",
		    config_kind(kind)->word, max);
}

static bool
failed(struct section *s, enum option_id id)
{
	return config_setting(s, id)->failed;
}

static const char *
format_address(const struct config_address *a, char out[WHERE_MAX])
{
	char ip[ADDR_TEXT_MAX];

	if (a->ip.family == ADDR_NONE) {
		snprintf(out, WHERE_MAX, "unix:%s", a->path);
		return out;
	}
	addr_format_ip(&a->ip, ip);
	snprintf(out, WHERE_MAX, a->ip.family == ADDR_V6 ? "[%s]:%u" : "%s:%u",
	    ip, a->ports.first);
	if (a->ports.first != a->ports.last) {
		size_t len = strlen(out);

		snprintf(out + len, WHERE_MAX - len, "-%u", a->ports.last);
	}
	return out;
}

/* Refuses a listener that would be a proxy for everybody by mistake. */
static void
check_open(struct parse *p, struct section *s)
{
	const struct config_listen *l = s->data;
	char text[WHERE_MAX], name[WHERE_MAX];

	if (failed(s, OPTION_AUTH) || failed(s, OPTION_CLIENTS) ||
	    failed(s, OPTION_OPEN))
		return;
	if (l->password || l->client_count > 0 || l->open)
		return;
	for (size_t i = 0; i < l->address_count; i++) {
		const struct config_address *a = &l->addresses[i];

		if (a->ip.family == ADDR_NONE || addr_is_loopback(&a->ip))
			continue;
		config_error(p, a->line,
		    "%s would be open to everybody: expected auth=password or "
		    "clients= in %s, or open=yes if that is meant",
		    format_address(a, text), title(s, name));
		return;
	}
}

static void
check_auth(struct parse *p, struct section *s)
{
	const struct config_listen *l = s->data;

	if (!failed(s, OPTION_AUTH) && l->password &&
	    p->kinds[SECTION_USER].count == 0)
		config_error(p, config_setting(s, OPTION_AUTH)->line,
		    "auth=password, and nobody could log in: expected a "
		    "[user NAME] section");
}

static void
resolve_egress(struct parse *p, struct section *s)
{
	const struct section_list *list = &p->kinds[SECTION_EGRESS];
	struct config_listen *l = s->data;
	unsigned best = CONFIG_DISTANCE_MAX + 1;
	const char *near = NULL;

	if (s->reference[0] == '\0')
		return;
	for (size_t i = 0; i < list->count; i++) {
		const char *name = list->items[i]->name;
		unsigned distance = config_distance(s->reference, name);

		if (strcmp(name, s->reference) == 0) {
			l->egress = i;
			return;
		}
		if (distance < best) {
			best = distance;
			near = name;
		}
	}
	config_error(p, config_setting(s, OPTION_EGRESS)->line,
	    "egress: there is no [egress %s]%s%s%s", s->reference,
	    near == NULL ? "" : "; did you mean ", near == NULL ? "" : near,
	    near == NULL ? "" : "?");
}

static bool
addresses_overlap(
    const struct config_address *a, const struct config_address *b)
{
	if (a->ip.family != b->ip.family)
		return false;
	if (a->ip.family == ADDR_NONE)
		return strcmp(a->path, b->path) == 0;
	/* Port 0 becomes one that is free. */
	if (a->ports.first == 0 || b->ports.first == 0)
		return false;
	return config_ports_overlap(a->ports, b->ports) &&
	       (addr_equal_ip(&a->ip, &b->ip) ||
		   addr_is_unspecified_ip(&a->ip) ||
		   addr_is_unspecified_ip(&b->ip));
}

struct place {
	const struct config_address *address;
	const struct section *section;
};

/* Reports `places[i]` if it overlaps with one before. */
static void
check_place(struct parse *p, const struct place *places, size_t i)
{
	const struct place *new = &places[i];
	char one[WHERE_MAX], two[WHERE_MAX], other[WHERE_MAX];

	for (size_t j = 0; j < i; j++) {
		const struct place *old = &places[j];

		if (!addresses_overlap(old->address, new->address))
			continue;
		format_address(new->address, one);
		format_address(old->address, two);
		if (strcmp(one, two) == 0)
			config_error(p, new->address->line,
			    "address: %s is listened on twice, first in %s",
			    one, where(old->section, other));
		else
			config_error(p, new->address->line,
			    "address: %s overlaps with %s in %s", one, two,
			    where(old->section, other));
		return;
	}
}

static void
check_listen_addresses(struct parse *p)
{
	const struct section_list *list = &p->kinds[SECTION_LISTEN];
	struct place *places, *place;
	size_t count = 0;

	places = calloc(LISTEN_ADDRESSES_MAX, sizeof(*places));
	if (places == NULL) {
		p->no_memory = true;
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		const struct config_listen *l = list->items[i]->data;

		for (size_t j = 0; j < l->address_count; j++) {
			if (list->items[i]->duplicate)
				break;
			if (count == LISTEN_ADDRESSES_MAX) {
				config_error(p, l->addresses[j].line,
				    "address: too many in all [listen NAME] "
				    "sections together: at most %d (a range "
				    "counts as one)",
				    LISTEN_ADDRESSES_MAX);
				goto out;
			}
			place = &places[count++];
			place->address = &l->addresses[j];
			place->section = list->items[i];
			check_place(p, places, count - 1);
		}
	}
out:
	free(places);
}

/* By family, address and scope. */
static int
by_prefix(const void *a, const void *b)
{
	const struct addr *one = &((const struct prefix *)a)->base;
	const struct addr *two = &((const struct prefix *)b)->base;
	int order = one->family - two->family;

	if (order == 0)
		order = memcmp(one->ip, two->ip, sizeof(one->ip));
	if (order == 0)
		order = one->scope < two->scope ? -1 : one->scope > two->scope;
	return order;
}

/* The addresses of an [egress] in order. */
struct sources {
	size_t count;
	struct prefix prefixes[POOL_SOURCES_MAX];
};

/* The first address that both have, or NULL. Those of one are disjoint, so the
 * smaller of two that do not overlap cannot overlap with what follows. */
static const struct prefix *
find_common(const struct sources *a, const struct sources *b)
{
	size_t i = 0, j = 0;

	while (i < a->count && j < b->count) {
		const struct prefix *one = &a->prefixes[i];
		const struct prefix *two = &b->prefixes[j];

		if (prefix_overlaps(one, two))
			return one->bits > two->bits ? one : two;
		if (by_prefix(one, two) < 0)
			i++;
		else
			j++;
	}
	return NULL;
}

/* Ports of both, as text, or NULL. The host alone knows what auto is. */
static const char *
find_common_ports(const struct config_egress *a, const struct config_egress *b,
    char out[WHERE_MAX])
{
	if (a->port_count == 0 && b->port_count == 0)
		return "ports=auto";
	for (size_t i = 0; i < a->port_count; i++)
		for (size_t j = 0; j < b->port_count; j++) {
			struct config_ports one = a->ports[i],
					    two = b->ports[j];

			if (!config_ports_overlap(one, two))
				continue;
			snprintf(out, WHERE_MAX, "port %u",
			    one.first > two.first ? one.first : two.first);
			return out;
		}
	return NULL;
}

static bool
is_judged(struct section *s)
{
	return !s->duplicate && !failed(s, OPTION_ADDRESSES) &&
	       !failed(s, OPTION_PORTS);
}

/* Reports the later of two sections that share a source port. */
static void
check_pool_pair(struct parse *p, struct section *old, struct section *new,
    const struct sources *old_sources, const struct sources *new_sources)
{
	char name[WHERE_MAX], other[WHERE_MAX], ports[WHERE_MAX];
	char address[ADDR_TEXT_MAX];
	const struct prefix *common;
	const char *common_ports;

	common_ports = find_common_ports(old->data, new->data, ports);
	if (common_ports == NULL)
		return;
	if (old_sources->count == 0 || new_sources->count == 0) {
		strcpy_bounded(address, sizeof(address), "addresses by route");
	} else {
		common = find_common(old_sources, new_sources);
		if (common == NULL)
			return;
		prefix_format(common, address);
	}
	config_error(p, new->line,
	    "%s overlaps with %s (%s, %s): expected addresses= or "
	    "ports= of its own",
	    title(new, name), where(old, other), address, common_ports);
}

static void
check_pools(struct parse *p)
{
	const struct section_list *list = &p->kinds[SECTION_EGRESS];
	size_t count = list->count;
	struct sources *all;

	/* More are an error already. */
	if (count > LEDGER_POOLS_MAX)
		count = LEDGER_POOLS_MAX;
	all = calloc(count + 1, sizeof(*all));
	if (all == NULL) {
		p->no_memory = true;
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const struct config_egress *e = list->items[i]->data;

		if (!is_judged(list->items[i]))
			continue;
		must(e->address_count <= POOL_SOURCES_MAX);
		all[i].count = e->address_count;
		if (e->address_count > 0)
			memcpy(all[i].prefixes, e->addresses,
			    e->address_count * sizeof(*e->addresses));
		qsort(all[i].prefixes, all[i].count, sizeof(struct prefix),
		    by_prefix);
		for (size_t j = 0; j < i; j++)
			if (is_judged(list->items[j]))
				check_pool_pair(p, list->items[j],
				    list->items[i], &all[j], &all[i]);
	}
	free(all);
}

/* Is there a port of `l` among those that `e` names? */
static bool
find_own_port(const struct config_egress *e, const struct config_listen *l,
    unsigned *port)
{
	for (size_t i = 0; i < l->address_count; i++) {
		const struct config_address *a = &l->addresses[i];

		if (a->ip.family == ADDR_NONE || a->ports.first == 0)
			continue;
		for (size_t j = 0; j < e->port_count; j++) {
			if (!config_ports_overlap(a->ports, e->ports[j]))
				continue;
			*port = a->ports.first > e->ports[j].first
				    ? a->ports.first
				    : e->ports[j].first;
			return true;
		}
	}
	return false;
}

/* A port we listen on would be blocked for the pool. */
static void
check_own_ports(struct parse *p, struct section *s)
{
	const struct section_list *list = &p->kinds[SECTION_LISTEN];
	char other[WHERE_MAX];
	unsigned port;

	for (size_t i = 0; i < list->count; i++)
		if (!list->items[i]->duplicate &&
		    find_own_port(s->data, list->items[i]->data, &port))
			config_error(p, config_setting(s, OPTION_PORTS)->line,
			    "ports: %u is a port to listen on in %s: expected "
			    "others",
			    port, where(list->items[i], other));
}

/* The file's section of a kind that there is one of; a second is an error. */
static struct section *
the_section(struct parse *p, enum section_kind kind)
{
	must(p->kinds[kind].count > 0);
	return p->kinds[kind].items[0];
}

/* What a user says nothing of is as [limits] says. */
static void
resolve_limits(struct parse *p, struct section *s)
{
	const struct config_limit *all = &p->config->user_limit;
	struct config_user *u = s->data;

	if (config_setting(s, OPTION_USER_SESSIONS)->line == 0)
		u->limit.sessions = all->sessions;
	if (config_setting(s, OPTION_USER_RATE)->line == 0)
		u->limit.rate = all->rate;
	if (config_setting(s, OPTION_USER_SHARE)->line == 0)
		u->limit.share = all->share;
}

static void
check_alarms(struct parse *p)
{
	struct section *s = the_section(p, SECTION_ALARMS);
	const struct config_alarms *a = &p->config->alarms;
	unsigned line = config_setting(s, OPTION_ALARM_CRITICAL)->line;

	if (failed(s, OPTION_ALARM_TARGET) || failed(s, OPTION_ALARM_CRITICAL))
		return;
	if (a->target == 0 || a->target_critical == 0 ||
	    a->target_critical >= a->target)
		return;
	if (line == 0)
		line = config_setting(s, OPTION_ALARM_TARGET)->line;
	config_error(p, line,
	    "target-critical: %u%% is below target = %u%%: expected as much "
	    "or more, or off",
	    a->target_critical, a->target);
}

/* Whether it listens on the control socket's path; reported where the file
 * names that, or else where it names the listener's. */
static void
check_control_of(struct parse *p, struct section *control, struct section *s)
{
	unsigned line = config_setting(control, OPTION_CONTROL_SOCKET)->line;
	const struct config_listen *l = s->data;
	char name[WHERE_MAX];

	for (size_t i = 0; i < l->address_count; i++) {
		const struct config_address *a = &l->addresses[i];

		if (a->ip.family != ADDR_NONE ||
		    strcmp(a->path, p->config->control_path) != 0)
			continue;
		if (line != 0)
			config_error(p, line,
			    "socket: unix:%s is listened on in %s: expected "
			    "another path",
			    a->path, where(s, name));
		else
			config_error(p, a->line,
			    "address: unix:%s is the control socket: expected "
			    "another path, or another socket= in [control]",
			    a->path);
		return;
	}
}

static void
check_control(struct parse *p)
{
	const struct section_list *listens = &p->kinds[SECTION_LISTEN];
	struct section *s = the_section(p, SECTION_CONTROL);
	struct config *c = p->config;

	if (failed(s, OPTION_CONTROL_SOCKET) || c->control_path[0] == '\0')
		return;
	c->control_asked = config_setting(s, OPTION_CONTROL_SOCKET)->line != 0;
	for (size_t i = 0; i < listens->count; i++)
		if (!listens->items[i]->duplicate)
			check_control_of(p, s, listens->items[i]);
}

void
config_check(struct parse *p)
{
	const struct section_list *listens = &p->kinds[SECTION_LISTEN];
	const struct section_list *egresses = &p->kinds[SECTION_EGRESS];

	for (unsigned kind = 0; kind < SECTION_KINDS; kind++)
		check_duplicates(p, kind);
	check_count(p, SECTION_EGRESS, LEDGER_POOLS_MAX);
	check_count(p, SECTION_USER, USERS_MAX);
	for (size_t i = 0; i < listens->count; i++) {
		if (listens->items[i]->duplicate)
			continue;
		check_open(p, listens->items[i]);
		check_auth(p, listens->items[i]);
		resolve_egress(p, listens->items[i]);
	}
	check_listen_addresses(p);
	check_pools(p);
	for (size_t i = 0; i < egresses->count; i++)
		if (!egresses->items[i]->duplicate)
			check_own_ports(p, egresses->items[i]);
	for (size_t i = 0; i < p->kinds[SECTION_USER].count; i++)
		resolve_limits(p, p->kinds[SECTION_USER].items[i]);
	check_alarms(p);
	check_control(p);
}
