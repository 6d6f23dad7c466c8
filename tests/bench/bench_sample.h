/* SPDX-License-Identifier: ISC */
/*
 * bench_sample: times, and what is typical of many of them.
 */
#ifndef FOURFOLD_BENCH_SAMPLE_H
#define FOURFOLD_BENCH_SAMPLE_H

#include "base/base.h"

/* Grows as it is filled; zeroed, it is empty. */
struct bench_samples {
	double *values;
	size_t count, room;
};

void bench_add(struct bench_samples *s, double value);

/* NAN when there is none. Sorts the values. */
double bench_median(struct bench_samples *s);

void bench_samples_fini(struct bench_samples *s);

/* CLOCK_MONOTONIC, and what this process has used of processors. */
uint64_t bench_clock_ns(void);
uint64_t bench_cpu_ns(void);

/* A small generator: the next number below `below`. */
uint32_t bench_random(uint64_t *seed, uint32_t below);

#endif
