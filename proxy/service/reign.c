/* SPDX-License-Identifier: ISC */
#include "service/reign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "service/capacity.h"
#include "service/lines.h"

int
reign_size(const struct reign_base *base, struct reign *r, FILE *errors)
{
	const struct capacity_host host = { .descriptors = base->descriptors,
		.processors = capacity_processors(),
		.slots = base->slots };
	struct capacity c;
	int error = capacity_find(r->snapshot.config, &host, errors, &c);

	if (error != 0)
		return error;
	r->workers = c.workers;
	r->order.max_sessions = c.sessions;
	return 0;
}

void
reign_free(struct reign *r)
{
	if (r == NULL)
		return;
	snapshot_fini(&r->snapshot);
	free(r);
}

static size_t
own_ports(const struct sockets *s, uint16_t *ports, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count && n < max; i++)
		if (s->endpoints[i].actual.family != ADDR_NONE)
			ports[n++] = s->endpoints[i].actual.port;
	return n;
}

static int
make_pools(const struct reign_base *base, struct reign *r, FILE *errors)
{
	size_t count = r->sockets.count;
	uint16_t *ports = calloc(count + 1, sizeof(*ports));
	struct lines warnings;
	int error;

	if (ports == NULL)
		return -ENOMEM;
	lines_open(&warnings);
	error = snapshot_make_pools(&r->snapshot, ports,
	    own_ports(&r->sockets, ports, count), errors, warnings.file, NULL);
	lines_log(
	    &warnings, base->log, LOG_LEVEL_WARNING, "bind_fallback", "msg");
	free(ports);
	return error;
}

static int
pool_id(const struct reign *r, const char *name, unsigned *out)
{
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		if (r->pool_names[id][0] != '\0' &&
		    strcmp(r->pool_names[id], name) != 0)
			continue;
		*out = id;
		return 0;
	}
	return -ENOSPC;
}

/* The ledger's pool that holds a port first..last; NULL: none does. */
static const char *
user_of_ports(const struct reign_base *base, uint16_t first, uint16_t last,
    struct pool *out)
{
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++)
		if (ledger_get_pool(base->ledger, id, out) &&
		    ledger_uses_ports(
			base->ledger, id, first, last, base->now_ms))
			return out->name;
	return NULL;
}

/* A port in use is bound one way, whichever pool it is in; the other way would
 * fail beside it. */
static bool
range_changes_bind_in_use(const struct reign_base *base, const char *name,
    const struct pool_range *r, FILE *errors)
{
	bool is_explicit = r->bind == POOL_EXPLICIT;
	unsigned first, last;
	struct pool pool;

	for (first = r->first; first <= r->last; first = last + 1) {
		const char *user;

		last = first;
		if (base->explicit_ports[first] == is_explicit)
			continue;
		while (last < r->last &&
		       base->explicit_ports[last + 1] != is_explicit)
			last++;
		user =
		    user_of_ports(base, (uint16_t)first, (uint16_t)last, &pool);
		if (user == NULL)
			continue;
		fprintf(errors,
		    "[egress %s] ports %u-%u are in use by sessions of [egress "
		    "%s] and would be bound another way: wait until these "
		    "have ended, or restart\n",
		    name, first, last, user);
		return true;
	}
	return false;
}

static bool
changes_bind_in_use(
    const struct reign_base *base, const struct pool *next, FILE *errors)
{
	for (unsigned i = 0; i < next->range_count && !next->by_kernel; i++)
		if (range_changes_bind_in_use(
			base, next->name, &next->ranges[i], errors))
			return true;
	return false;
}

static int
assign_pools(const struct reign_base *base, struct reign *r, FILE *errors)
{
	memcpy(r->pool_names, base->pool_names, sizeof(r->pool_names));
	for (size_t i = 0; i < r->snapshot.config->egress_count; i++) {
		const struct pool *pool = &r->snapshot.pools[i];

		if (pool_id(r, pool->name, &r->pools[i]) != 0) {
			fprintf(errors,
			    "[egress %s] there have been %d names of pools "
			    "since the start; restart to add more\n",
			    pool->name, LEDGER_POOLS_MAX);
			return -ENOSPC;
		}
		if (changes_bind_in_use(base, pool, errors))
			return -EBUSY;
		/* Reserved here, so that the next one gets another id. */
		strcpy_bounded(
		    r->pool_names[r->pools[i]], POOL_NAME_MAX + 1, pool->name);
	}
	return 0;
}

/* Slots of sockets are never taken away from the workers that have them. */
unsigned
reign_slots(const struct reign_base *base, const struct reign *r)
{
	return r->workers > base->slots ? r->workers : base->slots;
}

static int
find_user(struct reign *r, FILE *errors)
{
	const char *user = r->snapshot.config->user;

	if (privileges_find(user, &r->identity) == 0)
		return 0;
	fprintf(
	    errors, "user = %s: no such user, or not started as root\n", user);
	return -EINVAL;
}

/* A user keeps its id over reloads: leases and counts are by it. */
static int
name_users(const struct reign_base *base, struct reign *r, FILE *errors)
{
	struct config *c = r->snapshot.config;
	int error = names_assign(base->names, c->users, c->user_count);

	if (error != 0)
		fprintf(errors, "%s\n",
		    error == -ENOSPC ? "there have been too many names of "
				       "users since the start: restart"
				     : strerror(-error));
	return error;
}

void
reign_abandon(struct reign *r, struct reign *now)
{
	sockets_abandon(&r->sockets, now != NULL ? &now->sockets : NULL);
	control_close(&r->control, now != NULL ? &now->control : NULL);
}

/* The whole of a reload that can fail, without changing what is in force. */
int
reign_prepare(const struct reign_base *base, struct reign *r, struct reign *now,
    FILE *errors)
{
	const struct config *c = r->snapshot.config;
	char why[512];
	int error = reign_size(base, r, errors);

	control_init(&r->control);
	if (error == 0)
		error = find_user(r, errors);
	if (error != 0)
		return error;
	error = sockets_open(&r->sockets, c, reign_slots(base, r),
	    now != NULL ? &now->sockets : NULL, why, sizeof(why));
	if (error != 0) {
		fprintf(errors, "%s\n", why);
		return error;
	}
	error = control_open(&r->control, c, now != NULL ? &now->control : NULL,
	    base->log, errors);
	if (error == 0)
		error = name_users(base, r, errors);
	if (error == 0)
		error = make_pools(base, r, errors);
	if (error == 0)
		error = assign_pools(base, r, errors);
	if (error != 0)
		reign_abandon(r, now);
	return error;
}

/* The users' parts are in force with the pools that count them. Who is none any
 * more may have sessions still. */
static void
put_users(const struct reign_base *base, const struct config *c)
{
	uint8_t put[(NAMES_MAX + 8) / 8] = { 0 };

	for (size_t i = 0; i < c->user_count; i++) {
		const struct config_user *u = &c->users[i];

		put[u->id / 8] |= (uint8_t)(1 << u->id % 8);
		ledger_set_user(
		    base->ledger, u->id, u->limit.share, u->reserve);
	}
	for (unsigned id = 1; names_get(base->names, id) != NULL; id++) {
		if ((put[id / 8] >> id % 8 & 1) == 0)
			ledger_set_user(base->ledger, (uint16_t)id, 0, 0);
	}
}

static void
note_binds(struct reign_base *base, const struct pool *pool)
{
	for (unsigned i = 0; i < pool->range_count && !pool->by_kernel; i++)
		memset(&base->explicit_ports[pool->ranges[i].first],
		    pool->ranges[i].bind == POOL_EXPLICIT,
		    pool->ranges[i].last - pool->ranges[i].first + 1u);
}

int
reign_put_pools(struct reign_base *base, struct reign *r, FILE *errors)
{
	struct ledger_new_pool pools[LEDGER_POOLS_MAX];
	size_t count = r->snapshot.config->egress_count;
	int error;

	must(count <= ARRAY_LEN(pools));
	put_users(base, r->snapshot.config);
	for (size_t i = 0; i < count; i++)
		pools[i] = (struct ledger_new_pool){ r->pools[i],
			&r->snapshot.pools[i] };
	error = ledger_set_pools(base->ledger, pools, count);
	if (error != 0) {
		fputs(
		    "the table of source addresses is full: restart\n", errors);
		return error;
	}
	for (size_t i = 0; i < count; i++)
		note_binds(base, pools[i].pool);
	return 0;
}
