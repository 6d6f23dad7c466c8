/* SPDX-License-Identifier: ISC */
#include "egress/ledger.h"

#include <errno.h>
#include <string.h>

#include "egress/ledger_queue.h"

/* A shard may keep two chunks of which it uses little: so many more are there.
 */
#define SPARE_CHUNKS (2 * LEDGER_SHARDS)

#define PAGE 4096

static uint32_t
chunks_for(uint32_t cells)
{
	return (uint32_t)(((uint64_t)cells + LEDGER_CHUNK) / LEDGER_CHUNK) +
	       SPARE_CHUNKS;
}

/* A power of two. The ledger is made several times larger than what is in use:
 * a bucket for each four targets is short enough, and fewer pages. */
static uint32_t
buckets_for(uint32_t cells)
{
	uint32_t buckets = 16;

	while (
	    buckets < cells / LEDGER_SHARDS / 4 && buckets < UINT32_C(1) << 26)
		buckets *= 2;
	return buckets;
}

/* For each lease one that waits, and the turn, lane and counts that it may
 * need; for each target a desk. */
static uint32_t
extras_for(uint32_t leases, uint32_t targets)
{
	uint64_t extras = (uint64_t)leases * 5 + targets;

	return extras < UINT32_MAX / 2 ? (uint32_t)extras : UINT32_MAX / 2;
}

/* Puts `bytes` at the end of the block, at the begin of a page. */
static uint64_t
place(uint64_t *end, uint64_t bytes)
{
	uint64_t at = *end;

	*end += (bytes + PAGE - 1) / PAGE * PAGE;
	return at;
}

static void
lay_slab(struct slab *slab, uint32_t cells, uint64_t *end)
{
	slab->chunks = chunks_for(cells);
	slab->owners_at = place(end, slab->chunks);
	slab->chunks_at = place(end, slab->chunks * sizeof(struct chunk));
	slab->cells_at =
	    place(end, (uint64_t)slab->chunks * LEDGER_CHUNK * LEDGER_CELL);
}

/* Where everything is; what is not a place is not touched. */
static void
lay_out(struct ledger *l, uint32_t leases, uint32_t targets)
{
	uint64_t end = 0;

	uint32_t extras = extras_for(leases, targets);

	place(&end, sizeof(*l));
	l->pools_at = place(&end, LEDGER_POOLS_MAX * sizeof(struct pool_place));
	l->addresses_at =
	    place(&end, LEDGER_ADDRESSES * sizeof(struct pool_source));
	l->named_at = place(&end, LEDGER_NAMED * sizeof(struct addr));
	l->users_at =
	    place(&end, (UINT16_MAX + 1) * sizeof(struct ledger_user));
	l->rest_at = place(&end, LEDGER_PORT_COUNT * sizeof(uint64_t));
	l->ports_at = place(&end, LEDGER_PORT_COUNT / 8);
	l->bucket_mask = buckets_for(targets) - 1;
	l->buckets_at = place(&end,
	    (uint64_t)LEDGER_SHARDS * (l->bucket_mask + 1) * sizeof(uint32_t));
	l->extra_bucket_mask = buckets_for(extras) - 1;
	l->extra_buckets_at =
	    place(&end, (uint64_t)LEDGER_SHARDS * (l->extra_bucket_mask + 1) *
			    sizeof(uint32_t));
	lay_slab(&l->targets, targets, &end);
	lay_slab(&l->records, leases, &end);
	lay_slab(&l->extras, extras, &end);
	l->bytes = end;
}

size_t
ledger_bytes(uint32_t leases, uint32_t targets)
{
	struct ledger l;

	lay_out(&l, leases, targets);
	return l.bytes;
}

static int
init_mutexes(struct ledger *l)
{
	int error = robust_init(&l->named_mutex);

	for (unsigned i = 0; i < LEDGER_SHARDS && error == 0; i++)
		error = robust_init(&l->shards[i].mutex);
	return error;
}

int
ledger_init(void *memory, uint32_t leases, uint32_t targets,
    const uint8_t key[LEDGER_KEY_BYTES], struct ledger **out)
{
	struct ledger *l = memory;
	int error;

	must((uintptr_t)memory % PAGE == 0);
	/* Cells are numbered in 32 bits. */
	if (leases > UINT32_MAX / 2 || targets > UINT32_MAX / 2)
		return -EINVAL;
	lay_out(l, leases, targets);
	memcpy(l->key, key, sizeof(l->key));
	/* Another key of the same secret. */
	for (unsigned i = 0; i < 2; i++) {
		uint64_t words[3] = { i, 0, 0 };

		l->order_key[i] = hash_words(l->key, words);
	}
	hash_spread_keys(l->key, l->place_keys);
	error = init_mutexes(l);
	if (error != 0)
		return error;
	atomic_init(&l->reusable_ms, LEDGER_BRIEF_MS);
	*out = l;
	return 0;
}

static struct pool_place *
place_of(struct ledger *l, unsigned id)
{
	return (struct pool_place *)ledger_at(l, l->pools_at) + id;
}

static bool
is_same(const struct pool *a, const struct pool *b)
{
	return strcmp(a->name, b->name) == 0 && pool_equal(a, b);
}

/* Writes the spare copy, which counts from no epoch yet, unless the pool is
 * what it was: then `*written` stays as it is. */
static int
write_copy(
    struct ledger *l, const struct ledger_new_pool *new, uint64_t *written)
{
	struct pool_place *place = place_of(l, new->id);
	unsigned newest =
	    atomic_load(&place->since[1]) > atomic_load(&place->since[0]);
	unsigned spare = 1 - newest;

	must(new->id < LEDGER_POOLS_MAX);
	if (atomic_load(&place->since[newest]) != 0 &&
	    is_same(&place->copy[newest], new->pool))
		return 0;
	/* No shard is at the epoch of the spare copy any more; from now on none
	 * takes it, until it is whole. */
	atomic_store(&place->since[spare], UINT64_MAX);
	*written |= UINT64_C(1) << new->id;
	place->copy[spare] = *new->pool;
	return source_name_pool(l, &place->copy[spare]);
}

/* The copies that were written count from `epoch` on, or, with 0, never. */
static void
publish_copies(struct ledger *l, uint64_t written, uint64_t epoch)
{
	for (; written != 0; written &= written - 1) {
		struct pool_place *place =
		    place_of(l, (unsigned)__builtin_ctzll(written));

		for (unsigned i = 0; i < 2; i++) {
			if (atomic_load(&place->since[i]) == UINT64_MAX)
				atomic_store(&place->since[i], epoch);
		}
	}
}

int
ledger_set_pools(
    struct ledger *l, const struct ledger_new_pool *pools, size_t count)
{
	uint64_t epoch = atomic_load(&l->epoch) + 1, written = 0;
	uint32_t addresses = atomic_load(&l->address_count);
	int error = 0;

	for (size_t i = 0; i < count && error == 0; i++)
		error = write_copy(l, &pools[i], &written);
	publish_copies(l, written, error == 0 ? epoch : 0);
	if (error != 0)
		atomic_store(&l->address_count, addresses);
	if (error != 0 || written == 0)
		return error;
	atomic_store(&l->epoch, epoch);
	/* Brings each shard to the new epoch, so that the old copies are free.
	 */
	for (uint32_t i = 0; i < LEDGER_SHARDS; i++) {
		struct hold h = shard_lock(l, i);

		shard_unlock(&h);
	}
	return 0;
}

int
ledger_set_pool(struct ledger *l, unsigned id, const struct pool *pool)
{
	const struct ledger_new_pool one = { id, pool };

	return ledger_set_pools(l, &one, 1);
}

bool
ledger_get_pool(struct ledger *l, unsigned id, struct pool *out)
{
	struct hold h = shard_lock(l, 0);
	const struct pool *p = shard_pool(&h, id);

	if (p != NULL)
		*out = *p;
	shard_unlock(&h);
	return p != NULL;
}

/* Is `target` the source of a held record of cell `n`? */
static bool
holds_source(const struct hold *h, uint32_t n, const struct addr *target)
{
	const struct target *t = ledger_target_at(h->l, n);
	uint32_t head = t->held > 0 ? t->link.next : 0;
	uint32_t at = head;

	if (at == 0)
		return false;
	do {
		const struct record *r = ledger_record(h->l, at);

		if (r->port == target->port) {
			struct addr ip = source_named(h->l, r);

			if (addr_is_unspecified_ip(&ip) ||
			    addr_equal_ip(&ip, target))
				return true;
		}
		at = r->link.next;
	} while (at != head);
	return false;
}

/* Is target -> source leased in one of `pools`? Towards `source` the shard is
 * another one; its lock is taken while the caller holds none. Where the two are
 * equal it is this lease that would be found. */
static bool
is_leased_back(struct ledger *l, uint64_t pools, const struct addr *source,
    const struct addr *target)
{
	if (addr_equal(source, target))
		return false;
	for (; pools != 0; pools &= pools - 1) {
		struct ledger_key k;
		struct hold h;
		uint32_t n;

		ledger_key_make(
		    l, (unsigned)__builtin_ctzll(pools), source, &k);
		h = shard_lock(l, k.shard);
		n = shard_find(&h, &k);
		if (n != 0 && !holds_source(&h, n, target))
			n = 0;
		shard_unlock(&h);
		if (n != 0)
			return true;
	}
	return false;
}

/* The source may be chosen by the route: towards loopback it is 127.0.0.1 or
 * ::1, towards another address of this host that address. */
static bool
is_reverse_leased(struct ledger *l, uint64_t pools, const struct addr *source,
    const struct addr *target)
{
	struct addr s = *target;

	if (!addr_is_unspecified_ip(source))
		return is_leased_back(l, pools, source, target);
	s.port = source->port;
	if (is_leased_back(l, pools, &s, target))
		return true;
	if (target->family != ADDR_V4 ||
	    !(addr_is_loopback(target) || addr_is_unspecified_ip(target)))
		return false;
	s = addr_v4(UINT32_C(0x7f000001), source->port);
	return is_leased_back(l, pools, &s, target);
}

bool
ledger_confirm(struct ledger *l, uint64_t pools, const struct addr *target,
    uint64_t now_ms, struct ledger_lease *lease)
{
	if (pools == 0 || lease->source.port == 0 ||
	    !is_reverse_leased(l, pools, &lease->source, target))
		return true;
	ledger_return(l, lease, LEDGER_REFUSED, now_ms);
	return false;
}

uint64_t
shard_mirrors(const struct hold *h, uint32_t target)
{
	return target_mirrored(ledger_target_at(h->l, target)) ? h->s->present
							       : 0;
}

/* Leases, and looks at the way back: -EAGAIN when that one is leased, or when
 * there may be more slots now. */
static int
lease_once(struct ledger *l, const struct ledger_key *k,
    const struct addr *target, const struct tenant *tenant, uint64_t now_ms,
    struct ledger_lease *out)
{
	struct hold h = shard_lock(l, k->shard);
	int error = shard_lease(&h, k, target, tenant, now_ms, out);
	uint64_t pools = 0; /* where the reverse may be leased */

	if (error == 0)
		pools = shard_mirrors(&h, out->target);
	else if (error == -EADDRINUSE && shard_recall(&h, now_ms))
		error = -EAGAIN;
	shard_unlock(&h);
	if (error != 0)
		return error;
	return ledger_confirm(l, pools, target, now_ms, out) ? 0 : -EAGAIN;
}

/* The same when there was no memory: one shard after the other forgets, from
 * the target's own on, until there is. */
static int
lease_in_want(struct ledger *l, const struct ledger_key *k,
    const struct addr *target, const struct tenant *tenant, uint64_t now_ms,
    struct ledger_lease *out)
{
	int error = -ENFILE;

	for (uint32_t i = 0; i < LEDGER_SHARDS && error == -ENFILE; i++) {
		struct hold h = shard_lock(l, (k->shard + i) % LEDGER_SHARDS);
		bool any = shard_forget(&h, now_ms);

		shard_unlock(&h);
		if (any)
			error = lease_once(l, k, target, tenant, now_ms, out);
	}
	return error;
}

int
ledger_lease(struct ledger *l, unsigned pool, const struct addr *target,
    const struct ledger_holder *holder, uint64_t now_ms,
    struct ledger_lease *out)
{
	struct tenant tenant;
	struct ledger_key k;
	int error;

	if (pool >= LEDGER_POOLS_MAX)
		return -ENOENT;
	must(holder->worker != 0);
	tenant_make(holder, &tenant);
	ledger_key_make(l, pool, target, &k);
	shard_prefetch(l, &k);
	do {
		error = lease_once(l, &k, target, &tenant, now_ms, out);
		if (error == -ENFILE)
			error =
			    lease_in_want(l, &k, target, &tenant, now_ms, out);
	} while (error == -EAGAIN);
	return error;
}

/* Into the queue of a target that is full or has one. */
static int
enqueue(struct hold *h, const struct ledger_key *k, const struct addr *target,
    const struct tenant *tenant, uint32_t queue, uint64_t now_ms,
    struct ledger_ticket *ticket)
{
	const struct pool *p = shard_pool_of_key(h, k);
	uint32_t n, cell = 0, victim = 0;
	int error = shard_enter(h, k, target, now_ms, &n);

	if (error != 0)
		return error;
	target_flag(ledger_target_at(h->l, n), TARGET_WAS_FULL, true);
	if (pool_counts(p))
		error = shard_admit(h, n, p, tenant, now_ms);
	if (error == 0 || error == -EBUSY)
		error =
		    queue_has_room(h, n, tenant, queue, &victim) ? 0 : -ENOBUFS;
	if (error == 0) {
		cell = queue_enter(h, n, tenant);
		error = cell == 0 ? -ENFILE : -EINPROGRESS;
	}
	if (cell != 0 && victim != 0)
		queue_displace(h, victim);
	if (cell != 0) {
		ticket->cell = cell;
		ticket->gen = ledger_extra(h->l, cell)->wait.gen;
		/* What is free may be kept for this one. */
		queue_grant(h, n, now_ms);
	}
	shard_settle(h, n, now_ms);
	return error;
}

int
ledger_queue(struct ledger *l, unsigned pool, const struct addr *target,
    const struct ledger_holder *holder, uint32_t queue, uint64_t now_ms,
    struct ledger_ticket *ticket, struct ledger_lease *out)
{
	struct tenant tenant;
	struct ledger_key k;
	int error = ledger_lease(l, pool, target, holder, now_ms, out);
	struct hold h;

	if (error != -EADDRINUSE)
		return error;
	tenant_make(holder, &tenant);
	ledger_key_make(l, pool, target, &k);
	h = shard_lock(l, k.shard);
	error = enqueue(&h, &k, target, &tenant, queue, now_ms, ticket);
	shard_unlock(&h);
	if (error != -EINPROGRESS || !ledger_is_granted(l, ticket))
		return error;
	/* A slot has come free meanwhile. */
	error = ledger_claim(l, ticket, now_ms, out);
	if (error == -EAGAIN) /* and was taken back: its giver has died */
		return -EINPROGRESS;
	return error == -ENOENT ? -EADDRINUSE : error;
}

void
ledger_set_reuse_delay(struct ledger *l, uint64_t delay_ms)
{
	uint64_t cools_ms = delay_ms + LEDGER_PASS_MS;

	atomic_store(&l->reusable_ms,
	    cools_ms < LEDGER_LONG_MS ? cools_ms : LEDGER_LONG_MS);
}

void
ledger_set_user(struct ledger *l, uint16_t id, unsigned share, uint32_t reserve)
{
	struct ledger_user *users = ledger_at(l, l->users_at);

	users[id] = (struct ledger_user){ .share = share, .reserve = reserve };
}

/* Locks the shard of a lease that is live still. */
static bool
lock_lease(struct ledger *l, const struct ledger_lease *lease, struct hold *out)
{
	const struct record *r;

	if (!shard_lock_cell(l, &l->records, lease->record, out))
		return false;
	r = ledger_record(l, lease->record);
	if (record_is_held(r) && r->gen == lease->gen)
		return true;
	shard_unlock(out);
	return false;
}

void
ledger_return(struct ledger *l, struct ledger_lease *lease,
    enum ledger_release how, uint64_t now_ms)
{
	struct hold h;

	__builtin_prefetch(ledger_target_at(l, lease->target), 1);
	if (lock_lease(l, lease, &h)) {
		shard_return(&h, lease->record, how, now_ms);
		shard_unlock(&h);
	}
	lease->record = LEDGER_EMPTY_LEASE;
}

void
ledger_name_source(struct ledger *l, const struct ledger_lease *lease,
    const struct addr *source)
{
	uint64_t named = source_intern(l, source);
	struct record *r;
	struct hold h;

	if (!lock_lease(l, lease, &h))
		return;
	r = ledger_record(l, lease->record);
	r->when_named = record_when(r) | named << 48;
	if (record_state(r) == RECORD_STRAY && r->port == 0)
		r->port = source->port;
	shard_unlock(&h);
}

/* Raises `*a` to `value`. */
static void
raise_to(_Atomic uint64_t *a, uint64_t value)
{
	uint64_t old = atomic_load(a);

	while (old < value && !atomic_compare_exchange_weak(a, &old, value))
		;
}

/* Is a rest from `now_ms` on another matter than the last one? */
static bool
is_new_rest(uint64_t last_until_ms, uint64_t now_ms, uint64_t until_ms)
{
	if (last_until_ms == 0)
		return true;
	return last_until_ms <= now_ms &&
	       now_ms - last_until_ms >=
		   LEDGER_REST_TIMES * (until_ms - now_ms);
}

bool
ledger_rest_port(
    struct ledger *l, uint16_t port, uint64_t now_ms, uint64_t until_ms)
{
	_Atomic uint64_t *rest = ledger_at(l, l->rest_at);
	uint64_t old = atomic_load(&rest[port]);

	if (until_ms <= now_ms)
		return false;
	raise_to(&l->rest_until, until_ms);
	while (old < until_ms) {
		if (atomic_compare_exchange_weak(&rest[port], &old, until_ms))
			return is_new_rest(old, now_ms, until_ms);
	}
	return false;
}

/* Calls `visit` for the used cells of each chunk of the slab in turn, under the
 * lock of the chunk's shard; ends when it says true. */
static bool
each_cell(struct ledger *l, const struct slab *slab, void *arg,
    bool (*visit)(struct hold *h, uint32_t n, void *arg))
{
	bool found = false;

	for (uint32_t chunk = 0; chunk < slab->chunks && !found; chunk++) {
		uint32_t n = chunk * LEDGER_CHUNK + (chunk == 0);
		uint32_t end = (chunk + 1) * LEDGER_CHUNK;
		struct hold h;

		if (!shard_lock_cell(l, slab, n, &h))
			continue;
		/* `visit` may give the chunk back. */
		for (; n < end && !found &&
		       slab_owner(l, slab, chunk) == (int)h.shard;
		     n++) {
			if (!slab_is_free(l, slab, n))
				found = visit(&h, n, arg);
		}
		shard_unlock(&h);
	}
	return found;
}

struct return_all {
	uint64_t now_ms;
	uint32_t count;
	uint8_t worker;
};

static bool
return_if_worker(struct hold *h, uint32_t n, void *arg)
{
	struct return_all *all = arg;
	const struct record *r = ledger_record(h->l, n);

	if (record_is_held(r) && r->worker == all->worker) {
		shard_return(h, n, LEDGER_HOT, all->now_ms);
		all->count++;
	}
	return false;
}

/* What was granted already is a held record like any other. */
static bool
leave_if_worker(struct hold *h, uint32_t n, void *arg)
{
	const struct return_all *all = arg;
	const struct extra *e = ledger_extra(h->l, n);
	enum extra_state state = extra_state(e);
	uint32_t target = e->target;

	if ((state != EXTRA_WAITING && state != EXTRA_GRANTED) ||
	    e->worker != all->worker)
		return false;
	if (state == EXTRA_WAITING)
		queue_remove(h, n);
	extra_free(h, n);
	if (state == EXTRA_WAITING)
		shard_settle(h, target, all->now_ms);
	return false;
}

/* The dead may have taken wakes that they did not pass on: a worker whose mail
 * waits would not be named again. */
static void
wake_again(struct ledger *l)
{
	for (unsigned id = 1; id <= LEDGER_WORKERS_MAX; id++) {
		if (atomic_load(&l->mail[id]) != 0)
			queue_wake(l, id);
	}
}

uint32_t
ledger_return_worker(struct ledger *l, uint8_t worker, uint64_t now_ms)
{
	struct return_all all = { .now_ms = now_ms, .worker = worker };

	/* First, so that nothing is granted to the dead. */
	each_cell(l, &l->extras, &all, leave_if_worker);
	each_cell(l, &l->records, &all, return_if_worker);
	atomic_store(&l->mail[worker], 0);
	wake_again(l);
	return all.count;
}

struct port_use {
	uint64_t now_ms;
	unsigned pool;
	uint16_t first, last;
};

static bool
uses_port(struct hold *h, uint32_t n, void *arg)
{
	const struct port_use *use = arg;
	const struct record *r = ledger_record(h->l, n);
	const struct target *t = ledger_target_at(h->l, r->target);

	if (r->port < use->first || r->port > use->last)
		return false;
	switch ((enum record_state)record_state(r)) {
	case RECORD_HELD:
	case RECORD_STRAY:
		break;
	case RECORD_BRIEF:
	case RECORD_LONG:
		if (record_when(r) > use->now_ms)
			break;
		return false;
	default:
		return false;
	}
	return target_is_used(t) && target_pool(t) == use->pool;
}

bool
ledger_uses_ports(struct ledger *l, unsigned pool, uint16_t first,
    uint16_t last, uint64_t now_ms)
{
	struct port_use use = { now_ms, pool, first, last };

	return each_cell(l, &l->records, &use, uses_port);
}

void
ledger_totals(struct ledger *l, struct ledger_totals *out)
{
	struct ledger_totals t = { 0 };
	uint64_t records = 0;

	for (uint32_t i = 0; i < LEDGER_SHARDS; i++) {
		struct hold h = shard_lock(l, i);
		const uint32_t *count = h.s->count;

		t.held += count[RECORD_HELD] + count[RECORD_STRAY];
		t.hot += count[RECORD_HOT];
		t.cooling += count[RECORD_BRIEF] + count[RECORD_LONG];
		t.targets += h.s->targets.used;
		records += h.s->records.used;
		t.rebuilds += h.s->rebuilds;
		t.waiting += atomic_load(&h.s->waiting);
		shard_unlock(&h);
	}
	t.records_free =
	    (uint64_t)l->records.chunks * LEDGER_CHUNK - 1 - records;
	t.targets_free =
	    (uint64_t)l->targets.chunks * LEDGER_CHUNK - 1 - t.targets;
	*out = t;
}

static uint32_t
count_ring(
    const struct hold *h, uint32_t head, uint64_t now_ms, uint32_t *cooled)
{
	uint32_t n = head, count = 0;

	if (head == 0)
		return 0;
	do {
		const struct record *r = ledger_record(h->l, n);

		count++;
		if (record_when(r) <= now_ms)
			(*cooled)++;
		n = r->link.next;
	} while (n != head);
	return count;
}

static uint32_t
slots_of(const struct pool *p, const struct addr *target)
{
	uint32_t slots = pool_slots(p, target->family);

	return slots - (shard_has_self(p, target) ? 1 : 0);
}

static void
count_lane(const struct hold *h, const struct lane *lane, uint64_t now_ms,
    struct ledger_target *out)
{
	uint32_t cooled = 0;

	out->cooling += count_ring(h, lane->list[LIST_BRIEF], now_ms, &cooled);
	out->cooling += count_ring(h, lane->list[LIST_LONG], now_ms, &cooled);
	out->cooling -= cooled;
	/* What has cooled can be had at once, too. */
	out->hot += cooled;
	out->hot += count_ring(h, lane->list[LIST_HOT], now_ms, &cooled);
}

static void
count_lanes(const struct hold *h, const struct target *t, uint64_t now_ms,
    struct ledger_target *out)
{
	uint32_t desk = target_desk(t);
	uint32_t first = desk == 0 ? 0 : ledger_extra(h->l, desk)->desk.lanes;
	uint32_t n = first;

	count_lane(h, &t->lane, now_ms, out);
	while (n != 0) {
		count_lane(h, &ledger_extra(h->l, n)->lane, now_ms, out);
		n = ledger_extra(h->l, n)->link.next;
		if (n == first)
			break;
	}
}

void
ledger_target(struct ledger *l, unsigned pool, const struct addr *target,
    uint64_t now_ms, struct ledger_target *out)
{
	struct ledger_key k;
	struct hold h;
	uint32_t n;

	*out = (struct ledger_target){ 0 };
	if (pool >= LEDGER_POOLS_MAX)
		return;
	ledger_key_make(l, pool, target, &k);
	h = shard_lock(l, k.shard);
	n = shard_find(&h, &k);
	if (n != 0) {
		const struct target *t = ledger_target_at(l, n);

		count_lanes(&h, t, now_ms, out);
		out->held = t->held;
		out->high_water = t->high_water;
		out->waiting = queue_length(&h, n);
		out->slots = slots_of(shard_pool(&h, pool), target);
	}
	shard_unlock(&h);
}
