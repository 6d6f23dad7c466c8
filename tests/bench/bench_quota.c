/* SPDX-License-Identifier: ISC */
/*
 * What it costs to count a session and to count it no more, of 1, 10,000 and
 * 1,000,000 clients in random order, in CPU time. Not a test: run it by hand,
 * on a release build.
 *
 *   cc -O2 -std=gnu11 -D_GNU_SOURCE -Iproxy tests/bench/bench_quota.c \
 *     proxy/policy/quota.c proxy/base/addr.c proxy/base/base.c -o bench_quota
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "policy/quota.h"

#define ROUNDS   2000000
#define SUBJECTS 2000000

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

static struct quota_subject
client_number(uint32_t n)
{
	struct addr a = addr_v4(UINT32_C(0x0a000000) + n, 1);

	return quota_client(&a, 32, 64);
}

/* Enters and leaves; the nanoseconds of both. */
static double
work(struct quota *q, uint8_t worker, uint32_t clients, uint32_t rate)
{
	uint64_t seed = worker, start = cpu_ns();

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct quota_subject s =
		    client_number(next_random(&seed) % clients);
		uint64_t now_ms = 1000 + i / 1000;

		if (quota_enter(q, worker, &s, 1000, rate, now_ms) == QUOTA_OK)
			quota_leave(q, worker, &s, now_ms);
	}
	return (double)(cpu_ns() - start) / ROUNDS;
}

/* With `kept` each client has a session all the time. */
static void
run(uint32_t clients, uint32_t rate, bool kept, bool two_processes)
{
	size_t bytes = quota_bytes(SUBJECTS);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t key[QUOTA_KEY_BYTES] = { 1 };
	struct quota *q;
	pid_t pid = -1;

	must(memory != MAP_FAILED);
	must(quota_init(memory, SUBJECTS, key, &q) == 0);
	for (uint32_t i = 0; i < clients && kept; i++) {
		struct quota_subject s = client_number(i);

		must(quota_enter(q, 1, &s, 0, 0, 0) == QUOTA_OK);
	}
	if (two_processes) {
		pid = fork();
		must(pid >= 0);
	}
	if (pid == 0) {
		work(q, 3, clients, rate);
		_exit(0);
	}
	printf("%7u clients%s%s%s: %.0f ns\n", clients,
	    rate != 0 ? ", with a rate" : "", kept ? "" : ", no other session",
	    two_processes ? ", two processes" : "", work(q, 2, clients, rate));
	if (pid > 0)
		waitpid(pid, NULL, 0);
	munmap(memory, bytes);
}

int
main(void)
{
	run(1, 0, true, false);
	run(1, 1000000, true, false);
	run(1, 0, false, false);
	run(10000, 0, true, false);
	run(10000, 1000000, true, false);
	run(10000, 0, false, false);
	run(1000000, 0, true, false);
	run(1, 0, true, true);
	run(10000, 0, true, true);
	return 0;
}
