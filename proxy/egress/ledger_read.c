/* SPDX-License-Identifier: ISC */
#include "egress/ledger_read.h"

#include <string.h>

#include "egress/ledger_queue.h"

/* Locks the shard that has a chunk; false, and nothing locked, when none has.
 */
static bool
lock_chunk(
    struct ledger *l, const struct slab *slab, uint32_t chunk, struct hold *out)
{
	int owner = slab_owner(l, slab, chunk);

	if (owner < 0)
		return false;
	*out = shard_lock(l, (uint32_t)owner);
	if (slab_owner(l, slab, chunk) == owner)
		return true;
	shard_unlock(out);
	return false;
}

/* ---- targets ---- */

/* Lanes of a sticky pool that are looked at, so that a hold is short. */
#define LANES_MAX 64

struct target_rows {
	uint32_t count;
	struct ledger_target_row rows[LEDGER_CHUNK];
};

/* At most so many records are of a lane: slots before `fresh` have one each,
 * and how many are on the chain behind it is not known without a walk. */
static uint32_t
records_of(const struct lane *lane, uint32_t slots)
{
	return lane->skip != 0 ? slots : lane->fresh;
}

/* In a sticky pool each source address in use has a lane. */
static uint32_t
records_of_lanes(const struct hold *h, const struct target *t,
    const struct pool *p, uint32_t slots)
{
	uint32_t desk = target_desk(t);
	uint32_t first = desk == 0 ? 0 : ledger_extra(h->l, desk)->desk.lanes;
	uint32_t records = 0, n = first;

	if (first == 0)
		return 0;
	for (unsigned i = 0; i < LANES_MAX; i++) {
		const struct extra *e = ledger_extra(h->l, n);

		records += records_of(&e->lane, p->ports);
		n = e->link.next;
		if (n == first)
			return records;
	}
	return slots;
}

/* At most so many slots are held, cooling or used before. Strays are held
 * beside them. */
static uint32_t
touched_of(const struct hold *h, const struct target *t, const struct pool *p,
    uint32_t slots)
{
	uint32_t strays = h->s->count[RECORD_STRAY];

	return records_of(&t->lane, slots) + records_of_lanes(h, t, p, slots) +
	       (strays < t->held ? strays : t->held);
}

static void
copy_target(struct hold *h, uint32_t n, struct ledger_target_row *out)
{
	const struct target *t = ledger_target_at(h->l, n);
	const struct pool *p = shard_pool(h, target_pool(t));
	struct ledger_target_row row = { .target = target_addr(t),
		.pool = target_pool(t),
		.cell = n,
		.held = t->held,
		.waiting = queue_length(h, n),
		.high_water = t->high_water,
		.was_full = (target_word(t) & TARGET_WAS_FULL) != 0 };

	if (p != NULL && !p->by_kernel) {
		row.slots = pool_slots(p, target_family(t));
		if (shard_has_self(p, &row.target))
			row.slots--;
	}
	row.touched = touched_of(h, t, p, row.slots);
	*out = row;
}

static void
copy_targets(struct hold *h, uint32_t chunk, bool take, struct target_rows *out)
{
	uint32_t first = chunk * LEDGER_CHUNK;
	for (uint32_t n = first + (first == 0); n < first + LEDGER_CHUNK; n++) {
		struct target *t = ledger_target_at(h->l, n);

		/* Pages of cells that were never used stay so. */
		if (slab_is_free(h->l, &h->l->targets, n) || !target_is_used(t))
			continue;
		copy_target(h, n, &out->rows[out->count++]);
		if (take)
			target_flag(t, TARGET_WAS_FULL, false);
	}
}

static void
each_target(struct ledger *l, bool take, ledger_target_fn *fn, void *arg)
{
	struct target_rows found;

	for (uint32_t chunk = 0; chunk < l->targets.chunks; chunk++) {
		struct hold h;

		if (!lock_chunk(l, &l->targets, chunk, &h))
			continue;
		found.count = 0;
		copy_targets(&h, chunk, take, &found);
		shard_unlock(&h);
		for (uint32_t i = 0; i < found.count; i++)
			fn(arg, &found.rows[i]);
	}
}

void
ledger_each_target(struct ledger *l, ledger_target_fn *fn, void *arg)
{
	each_target(l, false, fn, arg);
}

void
ledger_take_targets(struct ledger *l, ledger_target_fn *fn, void *arg)
{
	each_target(l, true, fn, arg);
}

/* ---- records ---- */

/* What has to be copied under the lock: the rest of a row follows from it and
 * from tables that only grow. */
struct record_copy {
	struct record record;
	struct target target;
};

struct record_copies {
	uint32_t count;
	struct record_copy copies[LEDGER_CHUNK];
};

static void
copy_records(struct hold *h, uint32_t chunk, struct record_copies *out)
{
	uint32_t first = chunk * LEDGER_CHUNK;
	for (uint32_t n = first + (first == 0); n < first + LEDGER_CHUNK; n++) {
		const struct record *r = ledger_record(h->l, n);
		struct record_copy *copy = &out->copies[out->count];
		const struct target *t;

		if (slab_is_free(h->l, &h->l->records, n))
			continue;
		t = ledger_target_at(h->l, r->target);
		if (!target_is_used(t)) /* ended, soon free */
			continue;
		memcpy(&copy->record, r, sizeof(*r));
		memcpy(&copy->target, t, sizeof(*t));
		out->count++;
	}
}

static enum ledger_use
use_of(const struct record *r, uint64_t now_ms)
{
	switch ((enum record_state)record_state(r)) {
	case RECORD_HELD:
	case RECORD_STRAY:
		return LEDGER_HELD;
	case RECORD_BRIEF:
	case RECORD_LONG:
		return record_when(r) > now_ms ? LEDGER_COOLING : LEDGER_USABLE;
	case RECORD_HOT:
		return LEDGER_USABLE;
	case RECORD_FREE:
	case RECORD_STATES:
		break;
	}
	must_never("a free record was copied");
}

/* As the record has it: IPv4 as ::ffff:a.b.c.d, zeros for none. */
static struct addr
client_of(const struct record *r)
{
	struct addr a = addr_from_bytes(ADDR_V6, r->client, r->client_port);

	if (addr_is_unspecified_ip(&a) && r->client_port == 0)
		return (struct addr){ .family = ADDR_NONE };
	return addr_unmap(&a);
}

static struct ledger_record_row
record_row(struct ledger *l, const struct record_copy *copy, uint64_t now_ms)
{
	const struct record *r = &copy->record;
	struct ledger_record_row row = { .use = use_of(r, now_ms),
		.target = target_addr(&copy->target),
		.source = source_named(l, r),
		.pool = target_pool(&copy->target),
		.cell = r->target,
		.when_ms = record_when(r) };

	if (row.use == LEDGER_HELD) {
		row.holder.client = client_of(r);
		row.holder.session = r->session;
		row.holder.user = r->user;
		row.holder.worker = r->worker;
	}
	return row;
}

void
ledger_each_record(
    struct ledger *l, uint64_t now_ms, ledger_record_fn *fn, void *arg)
{
	struct record_copies found;

	for (uint32_t chunk = 0; chunk < l->records.chunks; chunk++) {
		struct hold h;

		if (!lock_chunk(l, &l->records, chunk, &h))
			continue;
		found.count = 0;
		copy_records(&h, chunk, &found);
		shard_unlock(&h);
		for (uint32_t i = 0; i < found.count; i++) {
			struct ledger_record_row row =
			    record_row(l, &found.copies[i], now_ms);

			fn(arg, &row);
		}
	}
}

/* ---- ports ---- */

void
ledger_each_resting(
    struct ledger *l, uint64_t now_ms, ledger_rest_fn *fn, void *arg)
{
	_Atomic uint64_t *rest = ledger_at(l, l->rest_at);

	if (atomic_load(&l->rest_until) <= now_ms)
		return;
	for (unsigned port = 1; port < LEDGER_PORT_COUNT; port++) {
		uint64_t until = atomic_load(&rest[port]);

		if (until > now_ms)
			fn(arg, (uint16_t)port, until);
	}
}
