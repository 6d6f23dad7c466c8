/* SPDX-License-Identifier: ISC */
/*
 * A ledger driven by a program: leases, queues, changes of pools and rules,
 * deaths of workers, and operations with what is not live any more. No slot is
 * held twice towards a target, none is the target itself or its way back,
 * nobody gets more than its share, and the ledger's own invariants hold.
 */
#include <sys/mman.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "egress/ledger_shard.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS   256
#define POOLS   3
#define TARGETS 8
#define USERS   4
#define WORKERS 3
#define HELD    96
#define QUEUED  32
#define STALE   8

/* Few enough cells that they run out. */
#define LEASES     500
#define CHUNKS     12
#define FEW_CHUNKS 4
#define START      UINT64_C(1000)

struct held {
	struct ledger_lease lease; /* empty: not used */
	struct addr target, client;
	unsigned pool;
	uint16_t user;
	uint8_t worker;
};

struct queued {
	struct ledger_ticket ticket; /* empty: not used */
	struct held who;
};

struct machine {
	struct program program;
	struct ledger *l;
	uint64_t now_ms;
	struct pool pools[POOLS]; /* as they were set */
	struct held held[HELD];
	struct queued queued[QUEUED];
	struct ledger_lease stale_leases[STALE];
	struct ledger_ticket stale_tickets[STALE];
	unsigned stale;
	uint64_t users_version;
	bool few; /* cells: not everything can be counted */
};

static unsigned
pick(struct machine *m, unsigned below)
{
	return program_pick(&m->program, below);
}

/* Some are sources of pools at the same time. */
static struct addr
target_of(unsigned n)
{
	uint8_t v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 1 };

	switch (n % 4) {
	case 0:
		return addr_v4(UINT32_C(0xcb007100) + n, 443);
	case 1:
		return addr_v4(UINT32_C(0xc0000201), (uint16_t)(1000 + n / 4));
	case 2:
		return addr_from_bytes(ADDR_V6, v6, (uint16_t)(2000 + n / 4));
	default:
		return addr_v4(UINT32_C(0x7f000001), (uint16_t)(3000 + n / 4));
	}
}

static struct held
pick_who(struct machine *m)
{
	struct held h = { .lease.record = LEDGER_EMPTY_LEASE };

	h.target = target_of(pick(m, TARGETS));
	h.pool = pick(m, POOLS);
	h.worker = (uint8_t)(1 + pick(m, WORKERS));
	h.user = (uint16_t)pick(m, USERS);
	h.client = addr_v4(UINT32_C(0xc6336400) + pick(m, 8), 9);
	if (pick(m, 16) == 0)
		h.client = (struct addr){ 0 };
	return h;
}

static struct ledger_holder
holder_of(const struct held *h)
{
	return (struct ledger_holder){ .client = h->client,
		.session = 7,
		.user = h->user,
		.worker = h->worker };
}

/* ---- what must hold of a new lease ---- */

static bool
is_live(const struct held *h)
{
	return h->lease.record != LEDGER_EMPTY_LEASE;
}

static bool
same_client(
    const struct pool_rules *r, const struct held *a, const struct held *b)
{
	struct prefix p = { .base = a->client, .bits = r->client_bits_v4 };

	if (a->client.family == ADDR_NONE || b->client.family == ADDR_NONE)
		return a->client.family == b->client.family;
	return prefix_contains(&p, &b->client);
}

static void
check_share(const struct machine *m, const struct held *h)
{
	const struct pool *p = &m->pools[h->pool];
	uint64_t most = pool_slots(p, h->target.family);
	uint64_t count = 1;

	most = most * p->rules.client_share / 100;
	for (unsigned i = 0; i < HELD; i++) {
		const struct held *o = &m->held[i];

		count += is_live(o) && o != h && o->pool == h->pool &&
			 addr_equal(&o->target, &h->target) &&
			 same_client(&p->rules, h, o);
	}
	must(count <= (most == 0 ? 1 : most));
}

static void
check_source(const struct machine *m, const struct held *h)
{
	const struct pool *p = &m->pools[h->pool];
	const struct addr *source = &h->lease.source;
	uint32_t slot;

	must(source->family == h->target.family);
	if (p->by_kernel) {
		must(source->port == 0 && h->lease.bind == POOL_KERNEL);
		return;
	}
	must(pool_find(p, source, &slot));
	must(!addr_equal(source, &h->target));
	for (unsigned i = 0; i < HELD; i++) {
		const struct held *o = &m->held[i];

		if (!is_live(o) || o == h)
			continue;
		must(o->lease.record != h->lease.record);
		must(!addr_equal(&o->lease.source, source) ||
		     !addr_equal(&o->target, &h->target));
		must(!addr_equal(&o->lease.source, &h->target) ||
		     !addr_equal(&o->target, source));
	}
}

static struct held *
free_place(struct machine *m)
{
	for (unsigned i = 0; i < HELD; i++) {
		if (!is_live(&m->held[i]))
			return &m->held[i];
	}
	return NULL;
}

/* A lease has just been given. */
static void
keep(struct machine *m, const struct held *who, bool is_new)
{
	struct held *h = free_place(m);
	struct ledger_lease lease = who->lease;

	if (h == NULL) {
		ledger_return(m->l, &lease, LEDGER_HOT, m->now_ms);
		return;
	}
	*h = *who;
	/* What was granted may be of a pool that has changed since. */
	if (!is_new)
		return;
	check_source(m, h);
	if (m->pools[h->pool].rules.client_share != 0 && !m->few)
		check_share(m, h);
}

/* ---- steps ---- */

static void
step_lease(struct machine *m)
{
	struct held who = pick_who(m);
	struct ledger_holder holder = holder_of(&who);
	int error = ledger_lease(
	    m->l, who.pool, &who.target, &holder, m->now_ms, &who.lease);

	if (error == 0)
		keep(m, &who, true);
	else
		must(error == -EADDRINUSE || error == -EDQUOT ||
		     error == -ENFILE || error == -EAFNOSUPPORT);
}

static struct queued *
free_queued(struct machine *m)
{
	for (unsigned i = 0; i < QUEUED; i++) {
		if (m->queued[i].ticket.cell == LEDGER_EMPTY_LEASE)
			return &m->queued[i];
	}
	return NULL;
}

static void
step_queue(struct machine *m)
{
	struct queued *q = free_queued(m);
	struct ledger_holder holder;
	struct held who = pick_who(m);
	int error;

	if (q == NULL)
		return;
	holder = holder_of(&who);
	error = ledger_queue(m->l, who.pool, &who.target, &holder,
	    1 + pick(m, QUEUED), m->now_ms, &q->ticket, &who.lease);
	if (error == -EINPROGRESS) {
		q->who = who;
		return;
	}
	q->ticket.cell = LEDGER_EMPTY_LEASE;
	if (error == 0)
		keep(m, &who, true);
	else
		must(error == -EADDRINUSE || error == -EDQUOT ||
		     error == -ENFILE || error == -EAFNOSUPPORT ||
		     error == -ENOBUFS);
}

static void
claim(struct machine *m, struct queued *q)
{
	bool granted = ledger_is_granted(m->l, &q->ticket);
	struct ledger_ticket ticket = q->ticket;
	int error = ledger_claim(m->l, &q->ticket, m->now_ms, &q->who.lease);

	if (error == -EAGAIN) {
		must(!granted && q->ticket.cell == ticket.cell);
		return;
	}
	must(error == 0 || error == -ENOENT || error == -ENOBUFS);
	must(q->ticket.cell == LEDGER_EMPTY_LEASE);
	m->stale_tickets[m->stale++ % STALE] = ticket;
	if (error == 0) {
		must(granted);
		keep(m, &q->who, false);
	}
}

static void
step_claim(struct machine *m)
{
	struct queued *q = &m->queued[pick(m, QUEUED)];

	if (q->ticket.cell != LEDGER_EMPTY_LEASE)
		claim(m, q);
}

static void
step_cancel(struct machine *m)
{
	struct queued *q = &m->queued[pick(m, QUEUED)];

	if (q->ticket.cell != LEDGER_EMPTY_LEASE)
		m->stale_tickets[m->stale++ % STALE] = q->ticket;
	ledger_cancel(m->l, &q->ticket, m->now_ms);
	must(q->ticket.cell == LEDGER_EMPTY_LEASE);
}

static void
step_return(struct machine *m)
{
	struct held *h = &m->held[pick(m, HELD)];
	enum ledger_release how = pick(m, 4);

	if (!is_live(h))
		return;
	m->stale_leases[m->stale++ % STALE] = h->lease;
	ledger_return(m->l, &h->lease, how, m->now_ms);
	must(!is_live(h));
}

static void
step_return_worker(struct machine *m)
{
	uint8_t worker = (uint8_t)(1 + pick(m, WORKERS));
	uint32_t count = 0, returned;

	for (unsigned i = 0; i < QUEUED; i++) {
		struct queued *q = &m->queued[i];

		if (q->ticket.cell == LEDGER_EMPTY_LEASE ||
		    q->who.worker != worker)
			continue;
		/* A grant, or that another one has the place. */
		if (ledger_is_granted(m->l, &q->ticket)) {
			claim(m, q);
			continue;
		}
		m->stale_tickets[m->stale++ % STALE] = q->ticket;
		q->ticket.cell = LEDGER_EMPTY_LEASE;
	}
	for (unsigned i = 0; i < HELD; i++) {
		struct held *h = &m->held[i];

		if (!is_live(h) || h->worker != worker)
			continue;
		count++;
		m->stale_leases[m->stale++ % STALE] = h->lease;
		h->lease.record = LEDGER_EMPTY_LEASE;
	}
	returned = ledger_return_worker(m->l, worker, m->now_ms);
	must(returned == count);
}

/* What has ended is ignored. */
static void
step_stale(struct machine *m)
{
	struct ledger_lease lease = m->stale_leases[pick(m, STALE)];
	struct ledger_ticket ticket = m->stale_tickets[pick(m, STALE)];
	struct addr source = addr_v4(UINT32_C(0xc0000201), 1000);
	struct ledger_totals before, after;

	ledger_totals(m->l, &before);
	if (pick(m, 2) == 0)
		must(ledger_claim(m->l, &ticket, m->now_ms, &lease) == -ENOENT);
	else
		ledger_cancel(m->l, &ticket, m->now_ms);
	ledger_name_source(m->l, &lease, &source);
	ledger_return(m->l, &lease, LEDGER_LONG, m->now_ms);
	ledger_totals(m->l, &after);
	must(before.held == after.held && before.waiting == after.waiting);
}

static void
step_name(struct machine *m)
{
	struct held *h = &m->held[pick(m, HELD)];
	struct addr source = target_of(pick(m, TARGETS));

	if (!is_live(h) || source.family != h->target.family)
		return;
	/* What is known of the source stays so. */
	if (h->lease.source.port != 0)
		source.port = h->lease.source.port;
	if (!addr_is_unspecified_ip(&h->lease.source))
		memcpy(source.ip, h->lease.source.ip, sizeof(source.ip));
	ledger_name_source(m->l, &h->lease, &source);
}

static void
add_sources(struct machine *m, struct pool *p, unsigned id)
{
	uint8_t v6[16] = { 0x20, 1, 0xd, 0xb8 };
	unsigned count = 1 + pick(m, 3);

	for (unsigned i = 0; i < count; i++) {
		struct prefix prefix = { .bits = 32 };

		v6[15] = (uint8_t)(16 * id + i + 1);
		prefix.base = addr_v4(UINT32_C(0xc0000201) + 16 * id + i, 0);
		if (id == POOLS - 1)
			prefix.base = addr_v4(0, 0);
		if (pick(m, 3) == 0) {
			prefix.base = addr_from_bytes(ADDR_V6, v6, 0);
			prefix.bits = 128;
		}
		(void)(pool_add_source(p, &prefix) == 0);
	}
}

static struct pool_rules
pick_rules(struct machine *m)
{
	return (struct pool_rules){ .order = (uint8_t)pick(m, 2),
		.sticky = (uint8_t)pick(m, 3),
		.client_share = pick(m, 2) ? 0 : (uint8_t)pick(m, 101),
		.client_bits_v4 = (uint8_t)(29 + pick(m, 4)),
		.client_bits_v6 = 64,
		.users_limited = (uint8_t)pick(m, 2),
		.cooldown_ms =
		    pick(m, 2) ? POOL_COOLDOWN_AUTO : 1000 * pick(m, 100),
		.reserved = pick(m, 3) ? 0 : pick(m, 8),
		.users_version = m->users_version };
}

static void
step_pool(struct machine *m, unsigned id)
{
	uint16_t first = (uint16_t)(1000 * (id + 1));
	struct pool p;

	pool_init(&p, "fuzz");
	p.rules = pick_rules(m);
	p.by_kernel = pick(m, 16) == 15;
	add_sources(m, &p, id);
	for (unsigned i = pick(m, 4) + 1; i > 0; i--) {
		uint16_t last = (uint16_t)(first + pick(m, 3));

		must(pool_add_ports(&p, first, last, POOL_RANGE) == 0);
		first = (uint16_t)(last + 1 + pick(m, 2));
	}
	must(ledger_set_pool(m->l, id, &p) == 0);
	m->pools[id] = p;
}

static void
step_user(struct machine *m)
{
	uint16_t id = (uint16_t)(1 + pick(m, USERS - 1));
	unsigned share = pick(m, 2) ? 0 : pick(m, 101);

	ledger_set_user(m->l, id, share, pick(m, 8));
	m->users_version++;
}

static void
step_rest(struct machine *m)
{
	uint16_t port = (uint16_t)(1000 * (1 + pick(m, POOLS)) + pick(m, 8));

	ledger_rest_port(
	    m->l, port, m->now_ms, m->now_ms + 1 + 100 * pick(m, 256));
}

/* The shard is mended at the next lock. */
static void
step_mend(struct machine *m)
{
	struct hold h = shard_lock(m->l, pick(m, LEDGER_SHARDS));

	h.s->epoch = UINT64_MAX;
	shard_unlock(&h);
}

static void
step_time(struct machine *m)
{
	static const unsigned steps[] = { 1, 20, 1000, LEDGER_BRIEF_MS,
		LEDGER_LONG_MS };

	m->now_ms += steps[pick(m, ARRAY_LEN(steps))];
}

static void
check_invariants(struct machine *m)
{
	char why[200] = "";

	if (ledger_check(m->l, why, sizeof(why)) != 0) {
		fprintf(stderr, "%s\n", why);
		must_never("an invariant is broken");
	}
}

/* Who is still waiting when all is given that there is. */
static void
step_check(struct machine *m)
{
	struct ledger_totals t;
	uint64_t held = 0, waiting = 0;

	check_invariants(m);
	ledger_serve(m->l, m->now_ms);
	for (unsigned i = 0; i < QUEUED; i++) {
		struct queued *q = &m->queued[i];

		if (q->ticket.cell == LEDGER_EMPTY_LEASE)
			continue;
		if (ledger_is_granted(m->l, &q->ticket))
			claim(m, q);
	}
	for (unsigned i = 0; i < QUEUED; i++)
		waiting += m->queued[i].ticket.cell != LEDGER_EMPTY_LEASE &&
			   !ledger_is_granted(m->l, &m->queued[i].ticket);
	for (unsigned i = 0; i < QUEUED; i++)
		held += m->queued[i].ticket.cell != LEDGER_EMPTY_LEASE &&
			ledger_is_granted(m->l, &m->queued[i].ticket);
	for (unsigned i = 0; i < HELD; i++)
		held += is_live(&m->held[i]);
	ledger_totals(m->l, &t);
	must(t.held == held && t.waiting == waiting);
}

static void
step(struct machine *m)
{
	switch (pick(m, 16)) {
	case 0:
	case 1:
	case 2:
		step_lease(m);
		return;
	case 3:
	case 4:
		step_queue(m);
		return;
	case 5:
		step_claim(m);
		return;
	case 6:
		step_cancel(m);
		return;
	case 7:
		step_return(m);
		return;
	case 8:
		ledger_serve(m->l, m->now_ms);
		return;
	case 9:
		step_return_worker(m);
		return;
	case 10:
		step_pool(m, pick(m, POOLS));
		return;
	case 11:
		step_time(m);
		return;
	case 12:
		step_rest(m);
		return;
	case 13:
		step_user(m);
		return;
	case 14:
		step_stale(m);
		return;
	default:
		if (pick(m, 3) == 0)
			step_mend(m);
		else if (pick(m, 2) == 0)
			step_name(m);
		else
			step_check(m);
	}
}

/* All of it is given back, and so nothing is left but what cools. */
static void
end(struct machine *m)
{
	struct ledger_totals t;

	step_check(m);
	for (unsigned i = 0; i < QUEUED; i++)
		ledger_cancel(m->l, &m->queued[i].ticket, m->now_ms);
	for (unsigned i = 0; i < HELD; i++)
		ledger_return(m->l, &m->held[i].lease, LEDGER_HOT, m->now_ms);
	check_invariants(m);
	ledger_totals(m->l, &t);
	must(t.held == 0 && t.waiting == 0);
}

static void
begin(struct machine *m)
{
	m->now_ms = START;
	for (unsigned i = 0; i < HELD; i++)
		m->held[i].lease.record = LEDGER_EMPTY_LEASE;
	for (unsigned i = 0; i < QUEUED; i++)
		m->queued[i].ticket.cell = LEDGER_EMPTY_LEASE;
	for (unsigned i = 0; i < STALE; i++) {
		m->stale_leases[i].record = LEDGER_EMPTY_LEASE;
		m->stale_tickets[i].cell = LEDGER_EMPTY_LEASE;
	}
	m->few = pick(m, 2) == 1;
	m->l->targets.chunks = CHUNKS;
	m->l->records.chunks = m->few ? FEW_CHUNKS : CHUNKS;
	/* Else a chunk for each pool's target, at most in a shard each. */
	m->l->extras.chunks = m->few ? FEW_CHUNKS : POOLS * TARGETS;
	for (unsigned i = 0; i < POOLS; i++)
		step_pool(m, i);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[LEDGER_KEY_BYTES] = { 4, 0, 4 };
	size_t bytes = ledger_bytes(LEASES, TARGETS);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct machine *m = calloc(1, sizeof(*m));

	must(memory != MAP_FAILED && m != NULL);
	must(ledger_init(memory, LEASES, TARGETS, key, &m->l) == 0);
	m->program = (struct program){ data, size };
	begin(m);
	for (unsigned i = 0; i < STEPS && m->program.left > 0; i++)
		step(m);
	end(m);
	free(m);
	munmap(memory, bytes);
	return 0;
}
