/* SPDX-License-Identifier: ISC */
/*
 * it: what every integration test stands on: what a test binary needs of the
 * machine, deadlines, failing with words, programs run to their end.
 *
 * Nothing sleeps for a time that was guessed: a test waits for an event, and
 * the deadline is only reached by a failure.
 */
#ifndef FOURFOLD_TESTS_IT_H
#define FOURFOLD_TESTS_IT_H

#include <sys/types.h>

#include <criterion/criterion.h>

#include "base/base.h"

#define IT_DEADLINE_MS 60000

/* What ctest takes as "skipped" (SKIP_RETURN_CODE). */
#define IT_SKIPPED 77

/* What a test binary cannot do without. */
enum it_needs {
	IT_ANY_HOST = 0,
	IT_NAMESPACES = 1, /* own network namespaces, and their sysctls */
	IT_RELEASE = 2,    /* the release build */
	IT_FILES = 4,      /* 12,000 descriptors a process */
	IT_MANY_FILES = 8, /* 19,000 */
	IT_IPV6 = 16,      /* ::1 */
	IT_TRACING = 32,   /* of descendants, by ptrace() */
};

/* Each test binary says it once; or'ed. */
unsigned it_needs(void);

/* CLOCK_MONOTONIC. */
uint64_t it_now_ms(void);

/* Ends the test as failed, with these words. */
void it_fail(const char *format, ...) __attribute__((noreturn))
PRINTF_LIKE(1, 2);

/* Fails with `words` when `ok` does not hold. */
#define IT_MUST(ok, ...) ((ok) ? (void)0 : it_fail(__VA_ARGS__))

/* fork() for a child that helps the test: where it_fail() would leave a test,
 * the child says why and exits with 1. It has to end in _exit(). */
pid_t it_fork(void);

/* Lets the machine go on before something is looked at again which has no
 * event to wait for (a number in /proc). Fails after the deadline. */
void it_again(uint64_t since_ms, const char *what);

/* Looks until `ok` holds. */
#define IT_EVENTUALLY(ok)                                   \
	do {                                                \
		for (uint64_t since_ = it_now_ms(); !(ok);) \
			it_again(since_, #ok);              \
	} while (0)

/* Paths: the build under test, the release build (may not be there). */
const char *it_binary(void);
const char *it_release_binary(void);

/* The name of the user who runs this. */
const char *it_user(void);

/* Makes an empty folder and writes its name to `path`. */
#define IT_PATH_MAX 64
void it_make_folder(char path[IT_PATH_MAX]);
/* Removes it with the files in it. */
void it_remove_folder(const char *path);

/* Raises the soft limit of descriptors to the hard one; what it is now. */
unsigned long it_raise_files(void);

/* A program that ran to its end. */
struct it_outcome {
	int status; /* exit status; -1: by a signal */
	char out[16384], err[16384];
};

/*
 * Runs `argv` (argv[0] is a path) with `input` as stdin (NULL: empty). Fails
 * when it takes longer than the deadline.
 */
void it_run(const char *const argv[], const char *input, struct it_outcome *o);

#endif
