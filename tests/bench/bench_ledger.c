/* SPDX-License-Identifier: ISC */
/*
 * What the ledger costs by itself: a lease and its return, no socket. Each
 * figure is the median of rounds, after one that does not count; in a round all
 * of them take short turns, so that what else the machine does falls on all
 * alike. Setting up is in none of them. Beside each are the
 * least of the rounds, as a busy machine makes the others longer, and the most
 * that the median may be.
 *
 * Times are processor time; where two processes get in each other's way it is
 * the clock's, for one operation as one of them sees it.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_sample.h"
#include "egress/ledger_shard.h"

#define ROUNDS       11
#define OPERATIONS   200000 /* of a round */
#define TURNS        10     /* in which those are done */
#define MILLION      1000000U
#define FIRST_PORT   32768
#define LAST_PORT    60999
#define PORTS        (LAST_PORT - FIRST_PORT + 1)
#define BYTES_LIMIT  64
#define FIRST_TARGET UINT32_C(0x0a000000) /* 10.0.0.0 */

static struct addr
target_number(uint32_t n)
{
	return addr_v4(FIRST_TARGET + n, 443);
}

struct scene {
	struct ledger *ledger;
	size_t bytes;
};

static void
scene_open(struct scene *s, uint32_t leases, enum pool_order order)
{
	static const uint8_t key[LEDGER_KEY_BYTES] = { 1 };
	struct prefix source;
	struct pool pool;
	void *memory;

	s->bytes = ledger_bytes(leases, leases);
	memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(memory != MAP_FAILED);
	must(ledger_init(memory, leases, leases, key, &s->ledger) == 0);
	pool_init(&pool, "bench");
	pool.rules.order = (uint8_t)order;
	must(prefix_parse("192.0.2.1", &source) == 0);
	must(pool_add_source(&pool, &source) == 0);
	must(pool_add_ports(&pool, FIRST_PORT, LAST_PORT, POOL_RANGE) == 0);
	must(ledger_set_pool(s->ledger, 0, &pool) == 0);
}

static void
scene_close(struct scene *s)
{
	munmap(s->ledger, s->bytes);
}

static void
lease_one(struct ledger *l, const struct addr *target, struct ledger_lease *out)
{
	static const struct ledger_holder holder = {
		.session = 1,
		.worker = 1,
		.client = { .ip = { 127, 0, 0, 1 },
		    .port = 5,
		    .family = ADDR_V4 },
	};

	must(ledger_lease(l, 0, target, &holder, 1, out) == 0);
}

static void
lease_and_return(struct ledger *l, const struct addr *target)
{
	struct ledger_lease lease;

	lease_one(l, target, &lease);
	ledger_return(l, &lease, LEDGER_HOT, 1);
}

static void
hold(struct ledger *l, uint32_t target, uint32_t count)
{
	const struct addr a = target_number(target);
	struct ledger_lease lease;

	while (count-- > 0)
		lease_one(l, &a, &lease);
}

/* A figure and what it may be at most; 0: nobody says. */
struct figure {
	const char *name;
	double limit;
	struct bench_samples samples;
	uint64_t ns; /* of this round's turns */
};

static void
end_round(struct figure *f)
{
	bench_add(&f->samples, (double)f->ns / OPERATIONS);
	f->ns = 0;
}

static double
show(struct figure *f)
{
	double median = bench_median(&f->samples);

	printf("%-42s %7.0f %7.0f", f->name, median, f->samples.values[0]);
	if (f->limit != 0)
		printf("   at most %4.0f%s", f->limit,
		    median <= f->limit ? "" : "   MISSED");
	putchar('\n');
	return median;
}

/* ---- alone ---- */

struct alone {
	struct figure figure;
	uint32_t targets;
	uint32_t kept; /* leases towards each that stay */
	struct scene scene;
};

static void
alone_open(struct alone *a)
{
	scene_open(&a->scene, 1 << 17, POOL_PACKED);
	for (uint32_t i = 0; i < a->targets; i++)
		hold(a->scene.ledger, i, a->kept);
}

/* The target is made, not looked up, and as one word, which is read as one:
 * what is waited for is the ledger. */
static void
alone_use(struct alone *a, struct addr *target, uint32_t n)
{
	uint32_t ip = htobe32(FIRST_TARGET + n);
	uint64_t word = 0;

	memcpy(&word, &ip, sizeof(ip));
	memcpy(target->ip, &word, sizeof(word));
	lease_and_return(a->scene.ledger, target);
}

static void
alone_turn(struct alone *a)
{
	struct addr target = target_number(0);
	uint64_t seed = 1, start;

	/* The other figures have had the cache since the last turn. */
	for (uint32_t i = 0; i < a->targets; i++)
		alone_use(a, &target, i);
	start = bench_cpu_ns();
	for (uint32_t i = 0; i < OPERATIONS / TURNS; i++)
		alone_use(a, &target, bench_random(&seed, a->targets));
	a->figure.ns += bench_cpu_ns() - start;
}

/* ---- two processes on one shard ---- */

struct pair {
	struct figure figure;
	uint32_t targets[2]; /* one of each process; both in one shard */
	struct scene scene;
	pid_t pids[2];
	int tell[2], hear[2];
	_Atomic unsigned *ready; /* shared: those who have begun the round */
};

static uint32_t
shard_of(struct ledger *l, uint32_t target)
{
	const struct addr a = target_number(target);
	struct ledger_key k;

	ledger_key_make(l, 0, &a, &k);
	return k.shard;
}

static void
pair_work(struct pair *p, unsigned who, unsigned round)
{
	const struct addr target = target_number(p->targets[who]);
	struct ledger *l = p->scene.ledger;
	uint64_t start;

	(*p->ready)++;
	while (*p->ready < 2 * round)
		;
	start = bench_clock_ns();
	for (uint32_t i = 0; i < OPERATIONS; i++)
		lease_and_return(l, &target);
	start = bench_clock_ns() - start;
	if (write(p->hear[1], &start, sizeof(start)) != sizeof(start))
		_exit(1);
}

static void
pair_child(struct pair *p, unsigned who)
{
	char word;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned round = 1; read(p->tell[0], &word, 1) == 1; round++)
		pair_work(p, who, round);
	_exit(0);
}

static void
pair_open(struct pair *p)
{
	void *page = mmap(NULL, sizeof(*p->ready), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(page != MAP_FAILED);
	p->ready = page;
	scene_open(&p->scene, 1 << 17, POOL_PACKED);
	while (shard_of(p->scene.ledger, p->targets[0]) !=
	       shard_of(p->scene.ledger, p->targets[1]))
		p->targets[1]++;
	for (unsigned i = 0; i < 2; i++)
		hold(p->scene.ledger, p->targets[i], 1);
	must(pipe(p->tell) == 0 && pipe(p->hear) == 0);
	fflush(stdout);
	for (unsigned i = 0; i < 2; i++) {
		p->pids[i] = fork();
		must(p->pids[i] >= 0);
		if (p->pids[i] == 0) {
			close(p->tell[1]);
			pair_child(p, i);
		}
	}
}

static void
pair_round(struct pair *p)
{
	uint64_t ns, sum = 0;

	must(write(p->tell[1], "..", 2) == 2);
	for (unsigned i = 0; i < 2; i++) {
		must(read(p->hear[0], &ns, sizeof(ns)) == sizeof(ns));
		sum += ns;
	}
	bench_add(&p->figure.samples, (double)sum / 2 / OPERATIONS);
}

static void
pair_close(struct pair *p)
{
	close(p->tell[1]);
	for (unsigned i = 0; i < 2; i++)
		waitpid(p->pids[i], NULL, 0);
	scene_close(&p->scene);
}

/* ---- a million leases towards a million targets ---- */

struct million {
	struct figure lease, give, both, on_top;
	struct scene scene;
	struct addr *targets; /* in random order */
	struct ledger_lease *leases;
};

static void
million_open(struct million *m)
{
	/* What a target has used stays its own while it holds anything. */
	scene_open(&m->scene, 3 * MILLION, POOL_PACKED);
	m->targets = calloc(MILLION, sizeof(*m->targets));
	m->leases = calloc(MILLION, sizeof(*m->leases));
	must(m->targets != NULL && m->leases != NULL);
	for (uint32_t i = 0; i < MILLION; i++)
		m->targets[i] = target_number(i);
}

static void
shuffle(struct million *m, uint64_t *seed)
{
	for (uint32_t i = MILLION - 1; i > 0; i--) {
		uint32_t j = bench_random(seed, i + 1);
		struct addr t = m->targets[i];
		struct ledger_lease lease = m->leases[i];

		m->targets[i] = m->targets[j];
		m->targets[j] = t;
		m->leases[i] = m->leases[j];
		m->leases[j] = lease;
	}
}

/* Both arrays are walked from end to end: what misses the cache is the
 * ledger. */
static void
million_round(struct million *m, uint64_t *seed)
{
	struct ledger *l = m->scene.ledger;
	double lease, give;
	uint64_t start;

	shuffle(m, seed);
	start = bench_cpu_ns();
	for (uint32_t i = 0; i < MILLION; i++)
		lease_one(l, &m->targets[i], &m->leases[i]);
	lease = (double)(bench_cpu_ns() - start) / MILLION;
	bench_add(&m->lease.samples, lease);
	shuffle(m, seed);
	start = bench_cpu_ns();
	for (uint32_t i = 0; i < OPERATIONS; i++)
		lease_and_return(l, &m->targets[i]);
	bench_add(
	    &m->on_top.samples, (double)(bench_cpu_ns() - start) / OPERATIONS);
	start = bench_cpu_ns();
	for (uint32_t i = 0; i < MILLION; i++)
		ledger_return(l, &m->leases[i], LEDGER_HOT, 1);
	give = (double)(bench_cpu_ns() - start) / MILLION;
	bench_add(&m->give.samples, give);
	bench_add(&m->both.samples, lease + give);
}

static void
million_close(struct million *m)
{
	free(m->targets);
	free(m->leases);
	scene_close(&m->scene);
}

/* ---- one target that fills up ---- */

struct filled {
	struct figure figure;
	enum pool_order order;
	uint32_t taken;
	struct scene scene;
};

static void
filled_open(struct filled *f)
{
	scene_open(&f->scene, 1 << 17, f->order);
	hold(f->scene.ledger, 1, f->taken);
}

static void
filled_turn(struct filled *f)
{
	const struct addr target = target_number(1);
	uint64_t start = bench_cpu_ns();

	for (uint32_t i = 0; i < OPERATIONS / TURNS; i++)
		lease_and_return(f->scene.ledger, &target);
	f->figure.ns += bench_cpu_ns() - start;
}

/* ---- one full target that clients wait for ---- */

struct queued {
	struct figure figure;
	uint32_t clients; /* each waits once */
	uint32_t next;    /* whose turn it is */
	struct scene scene;
	struct ledger_lease lease; /* what goes from one to the next */
	struct ledger_ticket *tickets;
};

static void
wait_as(struct queued *q, uint32_t client)
{
	const struct addr target = target_number(1);
	const struct ledger_holder holder = { .session = client,
		.worker = 1,
		.client = addr_v4(UINT32_C(0x0b000000) + client, 5) };
	struct ledger_lease lease;

	must(ledger_queue(q->scene.ledger, 0, &target, &holder, UINT32_MAX, 1,
		 &q->tickets[client], &lease) == -EINPROGRESS);
}

static void
queued_open(struct queued *q)
{
	const struct addr target = target_number(1);

	scene_open(&q->scene, 1 << 18, POOL_PACKED);
	hold(q->scene.ledger, 1, PORTS - 1);
	lease_one(q->scene.ledger, &target, &q->lease);
	q->tickets = calloc(q->clients, sizeof(*q->tickets));
	must(q->tickets != NULL);
	for (uint32_t i = 0; i < q->clients; i++)
		wait_as(q, i);
}

/* A return, which is a grant; its claim; and who had it waits again. */
static void
queued_turn(struct queued *q)
{
	struct ledger *l = q->scene.ledger;
	uint64_t start = bench_cpu_ns();

	for (uint32_t i = 0; i < OPERATIONS / TURNS / 10; i++) {
		ledger_return(l, &q->lease, LEDGER_HOT, 1);
		must(ledger_claim(l, &q->tickets[q->next], 1, &q->lease) == 0);
		wait_as(q, q->next);
		q->next = (q->next + 1) % q->clients;
	}
	q->figure.ns += 10 * (bench_cpu_ns() - start);
}

static void
queued_close(struct queued *q)
{
	free(q->tickets);
	scene_close(&q->scene);
}

/* ---- memory ---- */

static size_t
resident(const struct scene *s)
{
	size_t pages = (s->bytes + 4095) / 4096, count = 0;
	unsigned char *map = malloc(pages);

	must(map != NULL && mincore(s->ledger, s->bytes, map) == 0);
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * 4096;
}

/* Bytes of memory that a million leases towards so many targets take. */
static double
bytes_of(uint32_t targets)
{
	struct scene s;
	size_t before;

	scene_open(&s, MILLION + MILLION / 8, POOL_PACKED);
	before = resident(&s);
	for (uint32_t i = 0; i < MILLION; i++)
		hold(s.ledger, i % targets, 1);
	size_t bytes = resident(&s) - before;

	scene_close(&s);
	return (double)bytes;
}

/* What one takes itself, and with what is kept of all: which cells are free,
 * whose they are, and pages that were begun. */
static void
show_one(const char *name, size_t cell, double touched)
{
	printf("%-42s %7zu           at most %4d%s\n", name, cell, BYTES_LIMIT,
	    cell <= BYTES_LIMIT ? "" : "   MISSED");
	printf("%-42s %7.1f\n", "  as memory that is touched", touched);
}

static void
show_bytes(void)
{
	const uint32_t few = 50; /* whose own memory is nothing */
	double lease = bytes_of(few) / MILLION;
	double both = bytes_of(MILLION) / MILLION;

	printf("\nbytes, of a million\n");
	show_one("a lease", sizeof(struct record), lease);
	show_one(
	    "a target, its lease aside", sizeof(struct target), both - lease);
}

/* ---- all of it ---- */

static void
show_filled(struct filled *f, size_t count, const char *order)
{
	double least = 1e99, most = 0;

	printf("\none target, of whose %d slots so many are taken; %s order\n",
	    PORTS, order);
	for (size_t i = 0; i < count; i++) {
		double ns = show(&f[i].figure);

		least = ns < least ? ns : least;
		most = ns > most ? ns : most;
	}
	printf("%-42s %7.2f           at most  1.3%s\n",
	    "the most by the least", most / least,
	    most / least <= 1.3 ? "" : "   MISSED");
}

struct all {
	struct alone alone[6];
	struct pair shard, target;
	struct filled packed[6], hashed[6];
	struct queued queued[3];
	struct million million;
};

static void
open_all(struct all *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++)
		alone_open(&a->alone[i]);
	pair_open(&a->shard);
	pair_open(&a->target);
	for (size_t i = 0; i < ARRAY_LEN(a->packed); i++) {
		filled_open(&a->packed[i]);
		filled_open(&a->hashed[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		queued_open(&a->queued[i]);
	million_open(&a->million);
}

static void
take_turns(struct all *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++)
		alone_turn(&a->alone[i]);
	for (size_t i = 0; i < ARRAY_LEN(a->packed); i++) {
		filled_turn(&a->packed[i]);
		filled_turn(&a->hashed[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		queued_turn(&a->queued[i]);
}

static void
run_round(struct all *a, uint64_t *seed)
{
	for (unsigned i = 0; i < TURNS; i++)
		take_turns(a);
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++)
		end_round(&a->alone[i].figure);
	for (size_t i = 0; i < ARRAY_LEN(a->packed); i++) {
		end_round(&a->packed[i].figure);
		end_round(&a->hashed[i].figure);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		end_round(&a->queued[i].figure);
	pair_round(&a->shard);
	pair_round(&a->target);
	million_round(&a->million, seed);
}

/* The first round touches the memory. */
static void
forget_all(struct all *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++)
		a->alone[i].figure.samples.count = 0;
	a->shard.figure.samples.count = 0;
	a->target.figure.samples.count = 0;
	for (size_t i = 0; i < ARRAY_LEN(a->packed); i++) {
		a->packed[i].figure.samples.count = 0;
		a->hashed[i].figure.samples.count = 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		a->queued[i].figure.samples.count = 0;
	a->million.lease.samples.count = a->million.give.samples.count = 0;
	a->million.both.samples.count = a->million.on_top.samples.count = 0;
}

static void
show_all(struct all *a)
{
	printf("%-42s %7s %7s\n", "a lease and its return, in ns", "median",
	    "least");
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++)
		show(&a->alone[i].figure);
	show(&a->shard.figure);
	show(&a->target.figure);
	printf(
	    "\n1,000,000 leases towards 1,000,000 targets in random order\n");
	show(&a->million.lease);
	show(&a->million.give);
	show(&a->million.both);
	show(&a->million.on_top);
	show_filled(a->packed, ARRAY_LEN(a->packed), "packed");
	show_filled(a->hashed, ARRAY_LEN(a->hashed), "hashed");
	printf("\none full target for which so many clients wait: a return,\n"
	       "its grant and claim, and one more that waits\n");
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		show(&a->queued[i].figure);
}

static void
close_all(struct all *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->alone); i++) {
		scene_close(&a->alone[i].scene);
	}
	/* The later one's processes have the earlier one's pipe too. */
	pair_close(&a->target);
	pair_close(&a->shard);
	for (size_t i = 0; i < ARRAY_LEN(a->packed); i++) {
		scene_close(&a->packed[i].scene);
		scene_close(&a->hashed[i].scene);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->queued); i++)
		queued_close(&a->queued[i]);
	million_close(&a->million);
}

#define ALONE(label, targets_, kept_)                      \
	{                                                  \
		.figure = { .name = label, .limit = 150 }, \
		.targets = (targets_), .kept = (kept_)     \
	}
#define FILLED(order_, percent, taken_)                                \
	{                                                              \
		.figure = { .name = percent " %" }, .order = (order_), \
		.taken = (uint32_t)(PORTS * UINT64_C(taken_) / 1000)   \
	}
#define FILLED_ALL(order)                                                \
	{                                                                \
		FILLED(order, "0", 0), FILLED(order, "10", 100),         \
		    FILLED(order, "50", 500), FILLED(order, "90", 900),  \
		    FILLED(order, "99", 990), FILLED(order, "99.9", 999) \
	}

int
main(void)
{
	struct all all = {
		.alone = {
		    ALONE("1 target, nothing else held", 1, 0),
		    ALONE("1 target with one lease held", 1, 1),
		    ALONE("100 targets, nothing else held", 100, 0),
		    ALONE("100 targets with one lease held each", 100, 1),
		    ALONE("10,000 targets, nothing else held", 10000, 0),
		    ALONE("10,000 targets with one lease held each", 10000, 1),
		},
		.shard = { .figure = { "two processes on one shard, by the clock",
			       250, { 0 }, 0 },
		    .targets = { 1, 2 } },
		.target = { .figure = { "the same at one target", 0, { 0 }, 0 },
		    .targets = { 1, 1 } },
		.packed = FILLED_ALL(POOL_PACKED),
		.hashed = FILLED_ALL(POOL_HASHED),
		.queued = { { .figure.name = "10", .clients = 10 },
		    { .figure.name = "1,000", .clients = 1000 },
		    { .figure.name = "100,000", .clients = 100000 } },
		.million = { .lease.name = "a lease",
		    .give.name = "a return",
		    .both = { "both together", 1000, { 0 }, 0 },
		    .on_top = { "one more lease and its return", 1000,
			{ 0 }, 0 } },
	};
	uint64_t seed = 1;

	open_all(&all);
	for (unsigned i = 0; i <= ROUNDS; i++) {
		run_round(&all, &seed);
		if (i == 0)
			forget_all(&all);
	}
	show_all(&all);
	close_all(&all);
	show_bytes();
	return 0;
}
