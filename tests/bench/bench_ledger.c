/* SPDX-License-Identifier: ISC */
/*
 * What a lease and its return cost, towards 1, 10,000 and 1,000,000 targets in
 * random order, in CPU time. Not a test: run it by hand, on a release build.
 *
 *   cc -O2 -std=gnu11 -D_GNU_SOURCE -Iproxy tests/bench/bench_ledger.c \
 *     proxy/egress/pool.c proxy/egress/ledger*.c proxy/base/addr.c \
 *     proxy/base/base.c -o bench_ledger
 */
#include <sys/mman.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "egress/ledger.h"

#define ROUNDS 4000000
#define CELLS  4000000

static uint64_t
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint32_t
next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static struct addr
target_number(uint32_t n)
{
	return addr_v4(UINT32_C(0x0a000000) + n, 443);
}

static struct ledger_lease
lease_one(struct ledger *l, const struct addr *target)
{
	struct ledger_holder holder = { .session = 1, .worker = 1 };
	struct ledger_lease lease;

	holder.client = addr_v4(UINT32_C(0x7f000001), 5);
	must(ledger_lease(l, 0, target, &holder, 1, &lease) == 0);
	return lease;
}

/* `kept` leases towards each target stay, so that its entry does. */
static void
run(uint32_t targets, uint32_t kept)
{
	size_t bytes = ledger_bytes(CELLS, CELLS);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t key[LEDGER_KEY_BYTES] = { 1 };
	struct prefix source;
	struct ledger *l;
	struct pool pool;
	uint64_t seed = 1, start;

	must(memory != MAP_FAILED);
	must(ledger_init(memory, CELLS, CELLS, key, &l) == 0);
	pool_init(&pool, "bench");
	must(prefix_parse("192.0.2.1", &source) == 0);
	must(pool_add_source(&pool, &source) == 0);
	must(pool_add_ports(&pool, 20000, 59999, POOL_RANGE) == 0);
	must(ledger_set_pool(l, 0, &pool) == 0);
	for (uint32_t i = 0; i < targets * kept; i++) {
		struct addr target = target_number(i % targets);

		lease_one(l, &target);
	}
	start = cpu_ns();
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct addr target =
		    target_number(next_random(&seed) % targets);
		struct ledger_lease lease = lease_one(l, &target);

		ledger_return(l, &lease, LEDGER_HOT, 1);
	}
	printf("%8u targets, %u kept leases each: %4.0f ns a lease and "
	       "return\n",
	    targets, kept, (double)(cpu_ns() - start) / ROUNDS);
	munmap(memory, bytes);
}

/* Only for the number of targets that is given, if any. */
int
main(int argc, char **argv)
{
	static const uint32_t targets[] = { 1, 10000, 1000000 };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		if (argc > 1 && atol(argv[1]) != targets[i])
			continue;
		run(targets[i], 0);
		run(targets[i], 1);
	}
	return 0;
}
