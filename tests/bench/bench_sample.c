/* SPDX-License-Identifier: ISC */
#include "bench_sample.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

void
bench_add(struct bench_samples *s, double value)
{
	if (s->count == s->room) {
		s->room = 2 * s->room + 64;
		s->values = realloc(s->values, s->room * sizeof(*s->values));
		must(s->values != NULL);
	}
	s->values[s->count++] = value;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double
bench_median(struct bench_samples *s)
{
	if (s->count == 0)
		return NAN;
	qsort(s->values, s->count, sizeof(*s->values), compare);
	return (s->values[(s->count - 1) / 2] + s->values[s->count / 2]) / 2;
}

void
bench_samples_fini(struct bench_samples *s)
{
	free(s->values);
	*s = (struct bench_samples){ 0 };
}

static uint64_t
read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t
bench_clock_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t
bench_cpu_ns(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

uint32_t
bench_random(uint64_t *seed, uint32_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	/* As even as the multiplication is quick. */
	return (uint32_t)((*seed >> 32) * below >> 32);
}
