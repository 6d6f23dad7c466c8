/* SPDX-License-Identifier: ISC */
#include "service/status.h"

#include "service/census.h"

static json_int_t
integer(uint64_t n)
{
	return (json_int_t)n;
}

static uint64_t
sum_of(const struct view *v, size_t offset)
{
	uint64_t sum = 0;

	for (size_t id = 0; id < ARRAY_LEN(v->shared->stats); id++) {
		const char *stats = (const char *)&v->shared->stats[id];

		sum += stats_get(
		    (const _Atomic uint64_t *)(const void *)(stats + offset));
	}
	return sum;
}

static json_t *
counters_json(const struct view *v)
{
	json_t *o = json_object();

	for (int c = 0; c < STATS_COUNT; c++)
		json_object_set_new(o, stats_label((enum stats_counter)c),
		    json_integer(
			integer(sum_of(v, offsetof(struct stats, counters) +
					      (size_t)c * sizeof(uint64_t)))));
	return o;
}

static json_t *
closed_json(const struct view *v)
{
	json_t *o = json_object();

	for (int c = 0; c < CLOSE_REASON_COUNT; c++)
		json_object_set_new(o, close_row((enum close_reason)c)->label,
		    json_integer(
			integer(sum_of(v, offsetof(struct stats, closed) +
					      (size_t)c * sizeof(uint64_t)))));
	return o;
}

static json_t *
workers_json(const struct view *v)
{
	json_t *all = json_array();

	for (size_t id = 1; id <= LEDGER_WORKERS_MAX; id++) {
		uint64_t most = stats_get(&v->shared->max_sessions[id]);

		if (most == 0)
			continue;
		json_array_append_new(
		    all, json_pack("{s:I, s:I, s:I}", "worker", integer(id),
			     "sessions",
			     integer(stats_get(&v->shared->stats[id].sessions)),
			     "max_sessions", integer(most)));
	}
	return all;
}

static json_t *
sharing_json(const struct census *c)
{
	double factor =
	    c->sources == 0 ? 0 : (double)c->held / (double)c->sources;

	return json_pack("{s:I, s:I, s:f}", "connections", integer(c->held),
	    "sources", integer(c->sources), "factor", factor);
}

static json_t *
address_json(const struct census_address *a)
{
	char ip[ADDR_TEXT_MAX];

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "address",
	    addr_is_unspecified_ip(&a->ip) ? "by route"
					   : addr_format_ip(&a->ip, ip),
	    "family", a->ip.family == ADDR_V4 ? "IPv4" : "IPv6", "held",
	    integer(a->held), "cooling", integer(a->cooling), "ports_used",
	    integer(a->used), "rested", integer(a->rested), "free",
	    integer(a->free), "slots", integer(a->slots));
}

/* Those of the pool, `*left` at most; how many are not among them. */
static json_t *
addresses_json(
    const struct census *c, unsigned pool, size_t *left, uint64_t *more)
{
	json_t *all = json_array();

	*more = 0;
	for (size_t i = 0; i < c->address_count; i++) {
		if (c->addresses[i].pool != pool)
			continue;
		if (*left == 0) {
			(*more)++;
			continue;
		}
		(*left)--;
		json_array_append_new(all, address_json(&c->addresses[i]));
	}
	return all;
}

static json_t *
pool_json(const struct view *v, const struct census *c, unsigned id,
    size_t *addresses_left)
{
	const struct census_pool *p = &c->pools[id];
	const struct pool *d = p->definition;
	uint64_t more;
	json_t *addresses = addresses_json(c, id, addresses_left, &more);

	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:I, s:o, s:I}",
	    "egress", view_pool(v, id), "by_kernel", d->by_kernel, "ports",
	    integer(d->by_kernel ? 0 : d->ports), "held", integer(p->held),
	    "cooling", integer(p->cooling), "rested", integer(p->rested),
	    "free", integer(p->free), "slots", integer(p->slots), "slots_ipv4",
	    integer(d->by_kernel ? 0 : pool_slots(d, ADDR_V4)), "slots_ipv6",
	    integer(d->by_kernel ? 0 : pool_slots(d, ADDR_V6)), "targets",
	    integer(p->targets), "addresses", addresses, "addresses_not_shown",
	    integer(more));
}

static json_t *
pools_json(const struct view *v, const struct census *c, size_t addresses)
{
	json_t *all = json_array();

	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++) {
		const struct census_pool *p = &c->pools[id];
		bool wanted = v->wanted >> id & 1;

		/* One that was taken out of the file goes when it is idle. */
		if (p->definition != NULL &&
		    (wanted || p->held > 0 || p->cooling > 0))
			json_array_append_new(
			    all, pool_json(v, c, id, &addresses));
	}
	return all;
}

/* UINT64_MAX: never, or not known. What is full is so now, whatever the last
 * sample was. */
static uint64_t
full_in_ms(const struct view *v, const struct census_target *t)
{
	if (census_used_percent(t) >= 100)
		return 0;
	if (v->alarms == NULL)
		return UINT64_MAX;
	return alarms_full_in_ms(v->alarms, &t->row.target, t->row.pool);
}

static json_t *
target_json(const struct view *v, const struct census_target *t)
{
	const struct ledger_target_row *row = &t->row;
	uint64_t full_ms = full_in_ms(v, t);
	char target[ADDR_TEXT_MAX];
	json_t *o;

	o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "target",
	    addr_format(&row->target, target), "egress",
	    view_pool(v, row->pool), "held", integer(row->held), "cooling",
	    integer(t->cooling), "waiting", integer(row->waiting), "high_water",
	    integer(row->high_water), "rested", integer(t->rested), "slots",
	    integer(row->slots));
	json_object_set_new(o, "percent",
	    row->slots == 0 ? json_null()
			    : json_integer(integer(census_used_percent(t))));
	json_object_set_new(o, "full_in_s",
	    full_ms == UINT64_MAX ? json_null()
				  : json_integer(integer(full_ms / 1000)));
	return o;
}

static json_t *
targets_json(const struct view *v, const struct census *c)
{
	json_t *all = json_array();

	for (size_t i = 0; i < c->top_count; i++)
		json_array_append_new(all, target_json(v, &c->top[i]));
	return all;
}

static json_t *
ledger_json(const struct view *v, const struct census *c)
{
	struct ledger_totals t;

	ledger_totals(v->ledger, &t);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "held",
	    integer(c->held), "cooling", integer(c->cooling), "waiting",
	    integer(t.waiting), "targets", integer(c->targets), "records_free",
	    integer(t.records_free), "targets_free", integer(t.targets_free),
	    "rebuilds", integer(t.rebuilds));
}

static json_t *
alarm_json(const struct view *v, const struct board_entry *e)
{
	char target[ADDR_TEXT_MAX], since[VIEW_TIME_MAX];
	json_t *o = json_pack("{s:s, s:I, s:I, s:i, s:s}", "alarm",
	    alarm_label((enum alarm_kind)e->kind), "used", integer(e->used),
	    "of", integer(e->of), "percent",
	    (int)census_percent(e->used, e->of), "since",
	    view_time(v, e->since_ms, since));

	if (e->kind == ALARM_DESCRIPTORS)
		json_object_set_new(
		    o, "worker", json_integer(integer(e->subject.id)));
	else if (e->kind != ALARM_SESSIONS_FULL)
		json_object_set_new(
		    o, "egress", json_string(view_pool(v, e->subject.id)));
	if (e->subject.target.family != ADDR_NONE)
		json_object_set_new(o, "target",
		    json_string(addr_format(&e->subject.target, target)));
	return o;
}

/* Those that are active, as they began. */
static json_t *
alarms_json(const struct view *v)
{
	json_t *all = json_array();

	for (size_t i = 0; i < BOARD_MAX; i++) {
		const struct board_entry *e = &v->shared->board.entries[i];

		if (atomic_load_explicit(&e->active, memory_order_acquire))
			json_array_append_new(all, alarm_json(v, e));
	}
	return all;
}

static json_t *
alarms_begun_json(const struct view *v)
{
	json_t *o = json_object();

	for (int k = 0; k < ALARM_KINDS; k++)
		json_object_set_new(o, alarm_label((enum alarm_kind)k),
		    json_integer(
			integer(stats_get(&v->shared->board.begun[k]))));
	return o;
}

json_t *
status_json(const struct view *v, size_t top, size_t addresses)
{
	struct census c;
	char started[VIEW_TIME_MAX];
	json_t *o;

	if (census_take(&c, v->ledger, v->now_ms, top) != 0)
		return NULL;
	o = json_pack("{s:s, s:i, s:s, s:I, s:{s:I, s:I}, s:o, s:o, s:o, s:o, "
		      "s:o, s:o, s:o, s:o, s:o, s:I}",
	    "version", FOURFOLD_VERSION, "pid", (int)v->master, "started",
	    view_time(v, v->started_ms, started), "uptime_s",
	    integer((v->now_ms - v->started_ms) / 1000), "sessions", "now",
	    integer(sum_of(v, offsetof(struct stats, sessions))), "max",
	    integer(v->max_sessions), "workers", workers_json(v), "counters",
	    counters_json(v), "closed", closed_json(v), "sharing",
	    sharing_json(&c), "ledger", ledger_json(v, &c), "egresses",
	    pools_json(v, &c, addresses), "targets", targets_json(v, &c),
	    "alarms", alarms_json(v), "alarms_begun", alarms_begun_json(v),
	    "alarms_beyond", integer(stats_get(&v->shared->board.beyond)));
	census_fini(&c);
	return o;
}
