/* SPDX-License-Identifier: ISC */
#include "service/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A configuration file is not bigger; what is, is another kind of file. */
#define FILE_MAX_BYTES (16 * 1024 * 1024)

static int
read_file(const char *path, FILE *errors, char **text, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *bytes = NULL;
	size_t used = 0, size = 0;
	int error = f == NULL ? -errno : 0;

	while (error == 0) {
		if (used == size) {
			char *grown;

			size = size == 0 ? 64 * 1024 : size * 2;
			grown =
			    size > FILE_MAX_BYTES ? NULL : realloc(bytes, size);
			if (grown == NULL) {
				error = -EFBIG;
				break;
			}
			bytes = grown;
		}
		size_t n = fread(bytes + used, 1, size - used, f);

		used += n;
		if (n == 0) {
			/* Such as EISDIR, which open() does not mind. */
			error = ferror(f) ? -errno : 0;
			break;
		}
	}
	if (f != NULL)
		fclose(f);
	if (error != 0) {
		free(bytes);
		fprintf(
		    errors, "%s: cannot be read: %s\n", path, strerror(-error));
		return error;
	}
	*text = bytes;
	*len = used;
	return 0;
}

int
snapshot_load(const char *path, FILE *errors, struct snapshot *out)
{
	struct snapshot s = { 0 };
	char *text = NULL;
	size_t len = 0;
	int error = 0;

	if (path != NULL)
		error = read_file(path, errors, &text, &len);
	if (error == 0)
		error = config_parse(path != NULL ? path : "built-in", text,
		    len, errors, &s.config);
	free(text);
	if (error != 0)
		return error;
	preflight_read(&s.host);
	*out = s;
	return 0;
}

void
snapshot_find_control(const char *path, char control[CONFIG_PATH_MAX + 1],
    char why[SNAPSHOT_WHY_MAX])
{
	char *text = NULL, *errors = NULL;
	struct config *c = NULL;
	size_t len = 0, size = 0;
	FILE *f = open_memstream(&errors, &size);

	must(f != NULL);
	why[0] = '\0';
	if (path != NULL && read_file(path, f, &text, &len) != 0) {
		fflush(f);
		snprintf(why, SNAPSHOT_WHY_MAX, "%.*s",
		    (int)strcspn(errors, "\n"), errors);
	} else if (config_parse("", text, len, f, &c) != 0) {
		snprintf(why, SNAPSHOT_WHY_MAX,
		    "%s: has errors (fourfold check says which)",
		    path != NULL ? path : "built-in");
	}
	config_find_control(text, len, control);
	config_free(c);
	fclose(f);
	free(errors);
	free(text);
}

static enum preflight_bind
bind_wish(enum config_bind bind)
{
	switch (bind) {
	case CONFIG_BIND_AUTO:
		return PREFLIGHT_AUTO;
	case CONFIG_BIND_RANGE:
		return PREFLIGHT_RANGE;
	case CONFIG_BIND_EXPLICIT:
		return PREFLIGHT_EXPLICIT;
	case CONFIG_BIND_KERNEL:
		return PREFLIGHT_KERNEL;
	}
	must_never("a bind that the parser does not make");
}

/* Each line of `text`, which begins with "egress NAME: ". */
static void
write_lines(FILE *out, const char *name, const char *text)
{
	const size_t said = strlen("egress : ") + strlen(name);

	while (*text != '\0') {
		size_t len = strcspn(text, "\n");
		size_t skip = len < said ? len : said;

		fprintf(out, "[egress %s] %.*s\n", name, (int)(len - skip),
		    text + skip);
		text += len + (text[len] == '\n');
	}
}

/* Changes when any user's part does. (FNV-1a) */
static uint64_t
version_of_users(const struct config *c)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < c->user_count; i++) {
		const struct config_user *u = &c->users[i];
		uint64_t words[] = { u->id, u->limit.share, u->reserve };

		for (size_t w = 0; w < ARRAY_LEN(words); w++)
			hash = (hash ^ words[w]) * UINT64_C(0x100000001b3);
	}
	return hash;
}

static struct pool_rules
rules_of(const struct config *c, const struct config_egress *egress)
{
	struct pool_rules rules = {
		.order = egress->order == CONFIG_ORDER_HASHED ? POOL_HASHED
							      : POOL_PACKED,
		.client_share = (uint8_t)c->client_limit.share,
		.client_bits_v4 = (uint8_t)c->client_bits_v4,
		.client_bits_v6 = (uint8_t)c->client_bits_v6,
		.cooldown_ms = egress->cooldown_ms == CONFIG_AUTO_MS
				   ? POOL_COOLDOWN_AUTO
				   : (uint32_t)egress->cooldown_ms
	};
	uint64_t reserved = 0;

	switch (egress->sticky) {
	case CONFIG_STICKY_NONE:
		rules.sticky = POOL_STICKY_NONE;
		break;
	case CONFIG_STICKY_CLIENT:
		rules.sticky = POOL_STICKY_CLIENT;
		break;
	case CONFIG_STICKY_USER:
		rules.sticky = POOL_STICKY_USER;
		break;
	}
	for (size_t i = 0; i < c->user_count; i++) {
		const struct config_user *u = &c->users[i];

		reserved += u->reserve;
		if (u->limit.share != 0 || u->reserve != 0)
			rules.users_limited = 1;
	}
	rules.reserved =
	    reserved < UINT32_MAX ? (uint32_t)reserved : UINT32_MAX;
	if (rules.users_limited)
		rules.users_version = version_of_users(c);
	return rules;
}

/* Who has no reserve could have nothing at all. */
static void
warn_of_reserves(const struct pool *p, FILE *warnings)
{
	static const enum addr_family families[] = { ADDR_V4, ADDR_V6 };

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		uint32_t slots = pool_slots(p, families[i]);

		if (slots == 0 || p->rules.reserved < slots)
			continue;
		fprintf(warnings,
		    "[egress %s] the users' reserves of %u are all of a "
		    "target's %u slots over IPv%u: nothing is left for "
		    "others\n",
		    p->name, p->rules.reserved, slots, families[i]);
	}
}

static int
make_pool(const struct snapshot *s, const struct config_egress *egress,
    const uint16_t *own, size_t own_count, struct pool *out, FILE *errors,
    FILE *warnings, FILE *hints)
{
	struct preflight_ports *ports =
	    calloc(egress->port_count + 1, sizeof(*ports));
	struct preflight_wish wish = { .name = egress->name,
		.addresses = egress->addresses,
		.address_count = egress->address_count,
		.ports = ports,
		.port_count = egress->port_count,
		.bind = bind_wish(egress->bind),
		.own_ports = own,
		.own_port_count = own_count };
	char error_text[2048], warning[2048] = "";
	int error;

	if (ports == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < egress->port_count; i++)
		ports[i] = (struct preflight_ports){ egress->ports[i].first,
			egress->ports[i].last };
	error = preflight_pool(
	    &s->host, &wish, out, error_text, warning, sizeof(warning));
	free(ports);
	if (error != 0) {
		write_lines(errors, egress->name, error_text);
		return error;
	}
	if (wish.bind != PREFLIGHT_EXPLICIT)
		write_lines(warnings, egress->name, warning);
	else if (hints != NULL)
		write_lines(hints, egress->name, warning);
	out->rules = rules_of(s->config, egress);
	warn_of_reserves(out, warnings);
	return 0;
}

static bool
are_apart(const struct pool *a, const struct pool *b, FILE *errors)
{
	uint16_t port;

	if (pool_overlaps(a, b)) {
		fprintf(errors,
		    "[egress %s] and [egress %s] share a source "
		    "address and port; pools must be apart\n",
		    a->name, b->name);
		return false;
	}
	if (pool_mixes_binds(a, b, &port)) {
		fprintf(errors,
		    "[egress %s] and [egress %s] bind port %u, one by range "
		    "and one explicitly, which fails beside each other on any "
		    "addresses; give both one bind\n",
		    a->name, b->name, port);
		return false;
	}
	return true;
}

static bool
are_disjoint(const struct pool *pools, size_t count, FILE *errors)
{
	bool disjoint = true;

	for (size_t a = 0; a < count; a++)
		for (size_t b = a + 1; b < count; b++)
			disjoint &= are_apart(&pools[a], &pools[b], errors);
	return disjoint;
}

int
snapshot_make_pools(struct snapshot *s, const uint16_t *own, size_t own_count,
    FILE *errors, FILE *warnings, FILE *hints)
{
	size_t count = s->config->egress_count;
	int first_error = 0;

	free(s->pools);
	s->pools = calloc(count, sizeof(*s->pools));
	if (s->pools == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int error = make_pool(s, &s->config->egresses[i], own,
		    own_count, &s->pools[i], errors, warnings, hints);

		if (first_error == 0)
			first_error = error;
	}
	if (first_error == 0 && !are_disjoint(s->pools, count, errors))
		first_error = -EINVAL;
	return first_error;
}

void
snapshot_fini(struct snapshot *s)
{
	config_free(s->config);
	free(s->pools);
	*s = (struct snapshot){ 0 };
}
