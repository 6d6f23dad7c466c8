/* SPDX-License-Identifier: ISC */
/*
 * base: the few words that every module uses. It owns nothing.
 */
#ifndef FOURFOLD_BASE_H
#define FOURFOLD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The result must be looked at. */
#define MUST_USE __attribute__((warn_unused_result))
/* Of a function that is called rarely: it stays out of those that call it. */
#define COLD __attribute__((cold, noinline))

/* The function is like printf: argument `format` is the format. */
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The struct of type `type` whose `member` is at `ptr`. */
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/*
 * States what only a bug can break. It stays on in release builds and is never
 * applied to input: when it does not hold the process says where and aborts.
 */
#define must(x) ((x) ? (void)0 : must_failed(#x, __FILE__, __LINE__, __func__))

/*
 * Copies `from` with its NUL into `to` of `size` bytes, cutting what does not
 * fit. (strlcpy, which glibc has since 2.38 only.)
 */
void strcpy_bounded(char *to, size_t size, const char *from);

/* Writes the digits of `n`, without a NUL; how many. For what is written a
 * hundred thousand times a second, as snprintf() costs ten times as much. */
#define DECIMAL_MAX 20
size_t decimal_put(char *to, uint64_t n);

/* States that this line is never reached. */
#define must_never(why) must_failed(why, __FILE__, __LINE__, __func__)

void must_failed(const char *what, const char *file, int line, const char *func)
    __attribute__((noreturn, cold));

#endif
