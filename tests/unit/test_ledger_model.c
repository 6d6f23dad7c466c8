/* SPDX-License-Identifier: ISC */
/*
 * The ledger against a naive model of it: random leases, returns, resting
 * ports, changes of pools and deaths, in one process; after each step the two
 * must agree on what is taken.
 */
#include <sys/wait.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "egress/ledger_shard.h"
#include "ledger_fixture.h"

#define STEPS   300000
#define POOLS   3
#define SOURCES 6  /* addresses that a pool may have */
#define PORTS   16 /* of each */
#define TARGETS 24
#define LEASES  1500
#define WORKERS 5
#define CLIENTS 4
#define WAITERS 40 /* in queues at once, at most */

/* A source and port of a pool towards a target. */
struct spot {
	bool held;
	uint64_t cools_until;
	uint64_t maybe_until; /* may be refused until then */
	unsigned client;      /* who had it when it began to cool */
};

struct held {
	struct ledger_lease lease;
	unsigned pool, target, source, port, client;
	uint8_t worker;
	bool live;
};

/* Somebody in a queue; `place` is where the lease goes that it gets. */
struct waiter {
	struct ledger_ticket ticket;
	struct held *place;
};

struct model {
	struct ledger *l;
	uint64_t seed, now_ms;
	bool has_source[POOLS][SOURCES], has_port[POOLS][PORTS];
	struct spot spots[POOLS][TARGETS][SOURCES][PORTS];
	uint64_t rests_until[POOLS][PORTS];
	struct held held[LEASES];
	unsigned share[POOLS]; /* percent of a target's slots; 0: no limit */
	struct waiter waiters[WAITERS];
	unsigned waiting;
	/* Granted, and given back at the last claim: the reverse was held. */
	const struct held *vain[WAITERS];
	unsigned vain_count;
	unsigned full, reversed, deaths, quotas, queued, granted, cancelled;
	unsigned displaced; /* from a full queue */
	unsigned forgotten;
	unsigned passed; /* leases past those who may not have them */
};

static uint32_t
pick(struct model *m, uint32_t below)
{
	m->seed = m->seed * UINT64_C(6364136223846793005) +
		  UINT64_C(1442695040888963407);
	return (uint32_t)(m->seed >> 33) % below;
}

/* 2001:db8:NET::HOST */
static struct addr
v6_at(uint8_t net, uint8_t host, uint16_t port)
{
	uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, net, [15] = host };

	return addr_from_bytes(ADDR_V6, ip, port);
}

/* Pool 0: 192.0.2.x; pool 1: 2001:db8::x; pool 2: by route. */
static struct addr
source_at(unsigned pool, unsigned source, unsigned port)
{
	uint16_t number = (uint16_t)(1000 * (pool + 1) + port);
	struct addr a = addr_v4(UINT32_C(0xc0000200) + source, number);

	if (pool == 1)
		a = v6_at(0, (uint8_t)source, number);
	return pool < 2 ? a : addr_v4(0, number);
}

/* A third of them can be sources of the pools themselves. */
static struct addr
target_at(unsigned n)
{
	if (n % 3 == 0)
		return source_at(n / 3 % 2, n / 6, n / 3 % 4);
	if (n % 3 == 1)
		return addr_v4(UINT32_C(0x0a000000) + n, 443);
	return v6_at(9, 1, (uint16_t)n);
}

static unsigned
source_count(unsigned pool)
{
	return pool == 2 ? 1 : SOURCES;
}

static bool
in_pool(const struct model *m, unsigned pool, unsigned source, unsigned port)
{
	return m->has_source[pool][source] && m->has_port[pool][port];
}

/* Is target -> source held? */
static bool
is_reversed(
    const struct model *m, const struct addr *source, const struct addr *target)
{
	for (unsigned i = 0; i < LEASES; i++) {
		const struct held *h = &m->held[i];
		struct addr a, b;

		if (!h->live)
			continue;
		a = source_at(h->pool, h->source, h->port);
		b = target_at(h->target);
		if (addr_equal(&a, target) && addr_equal(&b, source))
			return true;
	}
	return false;
}

/* Must a lease of this spot be refused (1), granted (0), or may it be either
 * (-1)? */
static int
must_refuse(struct model *m, unsigned pool, unsigned target, unsigned source,
    unsigned port)
{
	struct spot *s = &m->spots[pool][target][source][port];
	struct addr from = source_at(pool, source, port);
	struct addr to = target_at(target);

	if (!in_pool(m, pool, source, port) || s->held ||
	    s->cools_until > m->now_ms || addr_equal(&from, &to) ||
	    m->rests_until[pool][port] > m->now_ms)
		return 1;
	if (target % 3 == 0 && is_reversed(m, &from, &to)) {
		m->reversed++;
		return 1;
	}
	return s->maybe_until > m->now_ms ? -1 : 0;
}

static void
expect_full(struct model *m, unsigned pool, unsigned target)
{
	m->full++;
	for (unsigned i = 0; i < source_count(pool); i++) {
		for (unsigned j = 0; j < PORTS; j++)
			cr_assert(must_refuse(m, pool, target, i, j) != 0,
			    "pool %u, target %u: source %u, port %u is free",
			    pool, target, i, j);
	}
}

/* Which spot of its pool has the lease's source? */
static bool
find_source(struct held *h)
{
	for (h->source = 0; h->source < source_count(h->pool); h->source++) {
		for (h->port = 0; h->port < PORTS; h->port++) {
			struct addr a = source_at(h->pool, h->source, h->port);

			if (addr_equal(&a, &h->lease.source))
				return true;
		}
	}
	return false;
}

static void
excuse(struct spot *s, uint64_t until)
{
	if (s->maybe_until < until)
		s->maybe_until = until;
}

/* A lease may pass over spots whose reverse is held; they cool briefly then. */
static void
pass_over_reversed(struct model *m, unsigned pool, unsigned target)
{
	struct addr to = target_at(target);

	for (unsigned i = 0; i < LEASES; i++) {
		struct held *h = &m->held[i], back = { .pool = pool };
		struct addr source;

		if (!h->live || h->target % 3 != 0)
			continue;
		source = source_at(h->pool, h->source, h->port);
		back.lease.source = target_at(h->target);
		if (addr_equal(&source, &to) && find_source(&back))
			excuse(&m->spots[pool][target][back.source][back.port],
			    m->now_ms + LEDGER_BRIEF_MS);
	}
}

static bool
anybody_waits(const struct model *m, unsigned pool, unsigned target)
{
	for (unsigned i = 0; i < m->waiting; i++) {
		if (m->waiters[i].place->pool == pool &&
		    m->waiters[i].place->target == target)
			return true;
	}
	return false;
}

static bool
are_of_one_party(const struct held *a, const struct held *b)
{
	return a->pool == b->pool && a->target == b->target &&
	       a->client == b->client;
}

/* Has the client its share of the target's slots, `more` added to what it holds
 * and what cools since it did?
 */
static bool
has_share_with(const struct model *m, const struct held *h, unsigned more)
{
	unsigned slots = 0, used = more, most;

	if (m->share[h->pool] == 0)
		return false;
	for (unsigned i = 0; i < source_count(h->pool) * PORTS; i++) {
		const struct spot *s =
		    &m->spots[h->pool][h->target][i / PORTS][i % PORTS];

		if (!in_pool(m, h->pool, i / PORTS, i % PORTS))
			continue;
		slots++;
		used += !s->held && s->client == h->client &&
			s->cools_until > m->now_ms;
	}
	for (unsigned i = 0; i < LEASES; i++)
		used += m->held[i].live && are_of_one_party(&m->held[i], h);
	most = slots * m->share[h->pool] / 100;
	return used >= (most == 0 ? 1 : most);
}

static bool
has_share(const struct model *m, const struct held *h)
{
	return has_share_with(m, h, 0);
}

/* Had it until the last claim, or with what may cool since a lease was given
 * back whose reverse is held? */
static bool
had_share(const struct model *m, const struct held *h)
{
	unsigned more = 0;

	for (unsigned i = 0; i < m->vain_count; i++)
		more += are_of_one_party(m->vain[i], h);
	for (unsigned i = 0; i < source_count(h->pool) * PORTS; i++)
		more += m->spots[h->pool][h->target][i / PORTS][i % PORTS]
			    .maybe_until > m->now_ms;
	return has_share_with(m, h, more);
}

/* The lease has been had: it is one that could be. */
static void
note_lease(struct model *m, struct held *h)
{
	cr_assert(find_source(h));
	cr_assert_leq(must_refuse(m, h->pool, h->target, h->source, h->port), 0,
	    "pool %u, target %u: source %u, port %u is not free", h->pool,
	    h->target, h->source, h->port);
	cr_assert(!has_share(m, h), "client %u has its share of target %u",
	    h->client, h->target);
	h->live = true;
	m->spots[h->pool][h->target][h->source][h->port].held = true;
}

static struct ledger_holder
holder_of(const struct held *h)
{
	return (struct ledger_holder){ .session = 1,
		.worker = h->worker,
		.client = addr_v4(UINT32_C(0xc6336400) + h->client, 9) };
}

static bool
is_waiting(const struct model *m, const struct held *h)
{
	for (unsigned i = 0; i < m->waiting; i++) {
		if (m->waiters[i].place == h)
			return true;
	}
	return false;
}

/* Takes what was granted. */
static void
claim_all(struct model *m)
{
	m->vain_count = 0;
	for (unsigned i = 0; i < m->waiting;) {
		struct waiter *w = &m->waiters[i];
		int error;

		if (!ledger_is_granted(m->l, &w->ticket)) {
			i++;
			continue;
		}
		if (w->place->target % 3 == 0)
			pass_over_reversed(m, w->place->pool, w->place->target);
		error =
		    ledger_claim(m->l, &w->ticket, m->now_ms, &w->place->lease);
		if (error == 0) {
			note_lease(m, w->place);
		} else if (error == -ENOBUFS) {
			m->displaced++;
		} else {
			cr_assert_eq(error, -ENOENT, "%d", error);
			m->vain[m->vain_count++] = w->place;
		}
		m->granted++;
		*w = m->waiters[--m->waiting];
	}
}

/* Who waits for the target of `h`: all, those of its client, clients. */
static void
count_waiting(const struct model *m, const struct held *h, unsigned count[3])
{
	bool seen[CLIENTS] = { false };

	count[0] = count[1] = count[2] = 0;
	for (unsigned i = 0; i < m->waiting; i++) {
		const struct held *w = m->waiters[i].place;

		if (w->pool != h->pool || w->target != h->target)
			continue;
		count[0]++;
		count[1] += w->client == h->client;
		count[2] += !seen[w->client];
		seen[w->client] = true;
	}
}

static void
step_queue(struct model *m, struct held *h)
{
	struct ledger_holder holder = holder_of(h);
	struct addr to = target_at(h->target);
	unsigned limit = WAITERS / 8, displaced, count[3];
	struct waiter *w;
	bool has_part; /* of a full queue */
	int error;

	claim_all(m);
	count_waiting(m, h, count);
	has_part = count[1] >= limit / (count[2] + (count[1] == 0));
	displaced = m->displaced;
	w = &m->waiters[m->waiting];
	error = ledger_queue(m->l, h->pool, &to, &holder, limit, m->now_ms,
	    &w->ticket, &h->lease);
	if (error == -EINPROGRESS) {
		w->place = h;
		m->waiting++;
		m->queued++;
		if (m->share[h->pool] == 0 && count[0] >= limit) {
			cr_assert(!has_part);
			claim_all(m);
			cr_assert_eq(m->displaced, displaced + 1);
		}
	} else if (error == 0) {
		note_lease(m, h);
	} else {
		cr_assert(error == -ENOBUFS || error == -EDQUOT ||
			      error == -EADDRINUSE,
		    "%d", error);
		if (m->share[h->pool] == 0 && error == -ENOBUFS)
			cr_assert(count[0] >= limit && has_part);
	}
}

static void
step_cancel(struct model *m)
{
	struct waiter *w = &m->waiters[pick(m, m->waiting)];

	ledger_cancel(m->l, &w->ticket, m->now_ms);
	*w = m->waiters[--m->waiting];
	m->cancelled++;
}

/* A lease was had though others wait: they had come first, and who waits still
 * may not have it. */
static void
expect_none_passed(struct model *m, const struct held *h)
{
	claim_all(m);
	for (unsigned i = 0; i < m->waiting; i++) {
		const struct held *w = m->waiters[i].place;

		if (w->pool == h->pool && w->target == h->target)
			cr_assert(had_share(m, w),
			    "target %u: past those who wait", h->target);
	}
	m->passed++;
}

static void
step_lease(struct model *m, struct held *h)
{
	struct ledger_holder holder;
	struct addr to;
	bool waits;
	int error;

	h->pool = pick(m, POOLS);
	h->target = pick(m, 4) == 0 ? pick(m, TARGETS) : pick(m, TARGETS / 4);
	h->worker = (uint8_t)(1 + pick(m, WORKERS));
	h->client = pick(m, CLIENTS);
	holder = holder_of(h);
	to = target_at(h->target);
	if (h->target % 3 == 0)
		pass_over_reversed(m, h->pool, h->target);
	waits = anybody_waits(m, h->pool, h->target);
	error = ledger_lease(m->l, h->pool, &to, &holder, m->now_ms, &h->lease);
	if (error == -EAFNOSUPPORT) {
		cr_assert_neq(to.family, h->pool == 1 ? ADDR_V6 : ADDR_V4);
		return;
	}
	if (error == -EDQUOT) {
		claim_all(m); /* what others of the client were given first */
		cr_assert(had_share(m, h));
		m->quotas++;
		return;
	}
	if (error == -EADDRINUSE) {
		if (!waits)
			expect_full(m, h->pool, h->target);
		if (m->waiting < WAITERS && pick(m, 2) == 0)
			step_queue(m, h);
		return;
	}
	cr_assert_eq(error, 0, "%d", error);
	if (waits)
		expect_none_passed(m, h);
	note_lease(m, h);
}

static void
forget_lease(struct model *m, struct held *h, uint32_t cools_ms)
{
	struct spot *s = &m->spots[h->pool][h->target][h->source][h->port];

	h->live = s->held = false;
	/* What is not in the pool any more is not remembered. */
	if (cools_ms != 0 && in_pool(m, h->pool, h->source, h->port))
		s->cools_until = m->now_ms + cools_ms;
	s->client = h->client;
}

static void
step_return(struct model *m, struct held *h)
{
	static const uint32_t cools_ms[] = { [LEDGER_HOT] = 0,
		[LEDGER_BRIEF] = LEDGER_BRIEF_MS,
		[LEDGER_LONG] = LEDGER_LONG_MS,
		[LEDGER_REUSABLE] = LEDGER_BRIEF_MS };
	enum ledger_release how = pick(m, 4);

	ledger_return(m->l, &h->lease, how, m->now_ms);
	forget_lease(m, h, cools_ms[how]);
}

static void
step_rest(struct model *m)
{
	unsigned pool = pick(m, POOLS), port = pick(m, PORTS);
	uint64_t until = m->now_ms + 1 + pick(m, 40000);
	uint64_t last = m->rests_until[pool][port];
	bool is_new =
	    last == 0 ||
	    last + LEDGER_REST_TIMES * (until - m->now_ms) <= m->now_ms;

	cr_assert_eq(ledger_rest_port(
			 m->l, source_at(pool, 0, port).port, m->now_ms, until),
	    is_new);
	if (until > m->rests_until[pool][port])
		m->rests_until[pool][port] = until;
	until = m->rests_until[pool][port];
	/* The slot may wait as long as what it was put behind on the list: an
	 * end that cools long, or another rest. */
	for (unsigned i = 0; i < TARGETS; i++) {
		for (unsigned j = 0; j < SOURCES; j++)
			excuse(&m->spots[pool][i][j][port],
			    until + 2 * LEDGER_LONG_MS);
	}
}

static void
step_pool(struct model *m, unsigned pool)
{
	struct pool p;

	pool_init(&p, "model");
	p.rules.order = pick(m, 3) == 0 ? POOL_HASHED : POOL_PACKED;
	p.rules.sticky =
	    pick(m, 3) == 0 ? POOL_STICKY_CLIENT : POOL_STICKY_NONE;
	p.rules.client_bits_v4 = 32;
	m->share[pool] = pick(m, 3) == 0 ? 1 + pick(m, 100) : 0;
	p.rules.client_share = (uint8_t)m->share[pool];
	for (unsigned i = 0; i < SOURCES; i++) {
		struct prefix prefix = { .base = source_at(pool, i, 0) };

		prefix.base.port = 0;
		prefix.bits = prefix.base.family == ADDR_V4 ? 32 : 128;
		m->has_source[pool][i] =
		    i < source_count(pool) && (i == 0 || pick(m, 3) == 0);
		if (m->has_source[pool][i])
			cr_assert_eq(pool_add_source(&p, &prefix), 0);
	}
	for (unsigned i = 0; i < PORTS; i++) {
		uint16_t port = source_at(pool, 0, i).port;

		m->has_port[pool][i] = i == 0 || pick(m, 4) != 0;
		if (m->has_port[pool][i])
			cr_assert_eq(
			    pool_add_ports(&p, port, port, POOL_RANGE), 0);
	}
	cr_assert_eq(ledger_set_pool(m->l, pool, &p), 0);
	for (unsigned t = 0; t < TARGETS; t++) {
		for (unsigned i = 0; i < SOURCES * PORTS; i++) {
			if (!in_pool(m, pool, i / PORTS, i % PORTS))
				m->spots[pool][t][i / PORTS][i % PORTS]
				    .cools_until = 0;
		}
	}
}

static void
step_worker_dies(struct model *m)
{
	uint8_t worker = (uint8_t)(1 + pick(m, WORKERS));
	uint32_t count = 0;

	for (unsigned i = 0; i < m->waiting;) {
		if (m->waiters[i].place->worker == worker)
			m->waiters[i] = m->waiters[--m->waiting];
		else
			i++;
	}
	for (unsigned i = 0; i < LEASES; i++) {
		if (m->held[i].live && m->held[i].worker == worker) {
			forget_lease(m, &m->held[i], 0);
			count++;
		}
	}
	cr_assert_eq(ledger_return_worker(m->l, worker, m->now_ms), count);
}

/* Makes nonsense of all that is derived in the shard. */
static void
spoil(struct hold *h)
{
	struct ledger *l = h->l;
	struct slab_part nonsense = { 77, 777, 77 };

	for (uint32_t i = 1; i < l->records.chunks * LEDGER_CHUNK; i++) {
		struct record *r = ledger_record(l, i);

		if (slab_owner(l, &l->records, i / LEDGER_CHUNK) ==
		    (int)h->shard)
			r->link.next = r->link.prev = r->skip_next = 0xdead;
	}
	for (uint32_t i = 1; i < l->targets.chunks * LEDGER_CHUNK; i++) {
		struct target *t = ledger_target_at(l, i);

		if (slab_owner(l, &l->targets, i / LEDGER_CHUNK) !=
		    (int)h->shard)
			continue;
		t->link.next = t->link.prev = t->chain = 0xdead;
		t->held = t->lane.fresh = t->lane.skip = 0xdead;
		memset(t->lane.list, 7, sizeof(t->lane.list));
	}
	for (uint32_t i = 1; i < l->extras.chunks * LEDGER_CHUNK; i++) {
		struct extra *e = ledger_extra(l, i);

		if (slab_owner(l, &l->extras, i / LEDGER_CHUNK) ==
		    (int)h->shard)
			e->link.next = e->link.prev = e->chain = 0xdead;
	}
	h->s->records = h->s->targets = h->s->extras = nonsense;
	h->s->idle = h->s->idle_desks = h->s->waited = h->s->dying = 99;
	memset(&h->s->spares, 8, sizeof(h->s->spares));
	h->s->waiting = 77;
	memset(h->s->count, 3, sizeof(h->s->count));
	for (uint32_t i = 0; i <= l->bucket_mask; i++)
		*shard_bucket(h, i) = 0xdead;
}

/* A process dies inside the lock. */
static void
step_owner_dies(struct model *m)
{
	uint32_t shard = pick(m, LEDGER_SHARDS);
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		struct hold h = shard_lock(m->l, shard);

		spoil(&h);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	m->deaths++;
}

/* As if there were no memory. Not where what cools would be forgotten too. */
static void
step_forget(struct model *m)
{
	struct hold h = shard_lock(m->l, pick(m, LEDGER_SHARDS));

	if (h.s->count[RECORD_HOT] * 8 >= h.s->records.used)
		m->forgotten += shard_forget(&h, m->now_ms);
	shard_unlock(&h);
}

static void
check(struct model *m)
{
	struct ledger_totals totals;
	uint64_t held = 0;

	ledger_serve(m->l, m->now_ms);
	claim_all(m);
	/* Nobody waits for what could be had. */
	for (unsigned i = 0; i < m->waiting; i++) {
		struct held *h = m->waiters[i].place;

		if (!has_share(m, h))
			expect_full(m, h->pool, h->target);
	}
	fixture_check(m->l);
	for (unsigned i = 0; i < LEASES; i++)
		held += m->held[i].live;
	ledger_totals(m->l, &totals);
	cr_assert_eq(totals.held, held);
	cr_assert_eq(totals.waiting, m->waiting);
	for (unsigned i = 0; i < POOLS * TARGETS; i++) {
		struct addr to = target_at(i % TARGETS);
		struct ledger_target t;
		uint32_t count = 0;

		for (unsigned j = 0; j < LEASES; j++)
			count += m->held[j].live &&
				 m->held[j].pool == i / TARGETS &&
				 m->held[j].target == i % TARGETS;
		ledger_target(m->l, i / TARGETS, &to, m->now_ms, &t);
		cr_assert_eq(t.held, count);
		cr_assert_geq(t.high_water, t.held);
	}
}

static void
step(struct model *m)
{
	struct held *h = &m->held[pick(m, LEASES)];

	claim_all(m);
	m->now_ms += pick(m, 20);
	if (pick(m, 3000) == 0)
		m->now_ms += pick(m, 2 * LEDGER_LONG_MS);
	if (pick(m, 500) == 0)
		step_rest(m);
	if (pick(m, 1000) == 0)
		step_pool(m, pick(m, POOLS));
	if (pick(m, 1000) == 0)
		step_worker_dies(m);
	if (pick(m, 3000) == 0)
		step_owner_dies(m);
	if (pick(m, 500) == 0)
		step_forget(m);
	if (pick(m, 50) == 0)
		ledger_serve(m->l, m->now_ms);
	if (m->waiting > 0 && pick(m, 200) == 0)
		step_cancel(m);
	claim_all(m);
	if (h->live)
		step_return(m, h);
	else if (!is_waiting(m, h))
		step_lease(m, h);
}

Test(ledger_model, a_naive_model_and_the_ledger_agree, .timeout = 500)
{
	struct model *m = calloc(1, sizeof(*m));
	struct ledger_totals totals;
	const char *given = getenv("LEDGER_SEED");
	uint64_t seed = given != NULL
			    ? strtoull(given, NULL, 10)
			    : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();

	cr_assert_not_null(m);
	fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	m->seed = seed;
	m->now_ms = 1000;
	m->l = fixture_ledger(4000, 1000);
	for (unsigned i = 0; i < POOLS; i++)
		step_pool(m, i);
	for (unsigned i = 0; i < STEPS; i++) {
		step(m);
		if (i % 2000 == 0)
			check(m);
	}
	check(m);
	ledger_totals(m->l, &totals);
	cr_log_info("%u times full, %u reversed, %u deaths, %llu rebuilds, "
		    "%u shares, %u queued, %u granted, %u cancelled",
	    m->full, m->reversed, m->deaths,
	    (unsigned long long)totals.rebuilds, m->quotas, m->queued,
	    m->granted, m->cancelled);
	cr_expect_eq(totals.rebuilds, m->deaths);
	cr_expect_gt(m->full, 0);
	cr_expect_gt(m->forgotten, 0);
	cr_expect_gt(m->reversed, 0);
	cr_expect_gt(m->quotas, 0);
	cr_expect_gt(m->granted, 0);
	cr_expect_gt(m->cancelled, 0);
	cr_expect_gt(m->displaced, 0);
	cr_expect_gt(m->passed, 0);
	free(m);
}
