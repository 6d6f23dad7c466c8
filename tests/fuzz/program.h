/* SPDX-License-Identifier: ISC */
/*
 * program: a fuzzer's input as a sequence of choices. What is read behind its
 * end is zeros.
 */
#ifndef FOURFOLD_FUZZ_PROGRAM_H
#define FOURFOLD_FUZZ_PROGRAM_H

#include <string.h>

#include "base/base.h"

struct program {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t
program_byte(struct program *p)
{
	if (p->left == 0)
		return 0;
	p->left--;
	return *p->at++;
}

/* 0 .. below-1; `below` is 256 at most. */
static inline unsigned
program_pick(struct program *p, unsigned below)
{
	return program_byte(p) % below;
}

static inline uint32_t
program_word(struct program *p)
{
	uint32_t word = 0;

	for (unsigned i = 0; i < sizeof(word); i++)
		word = word << 8 | program_byte(p);
	return word;
}

/* What is before the next byte of 0xff, or all that is left. That byte is
 * skipped. */
static inline struct program
program_part(struct program *p)
{
	const uint8_t *end = p->left == 0 ? NULL : memchr(p->at, 0xff, p->left);
	struct program part = { p->at,
		end == NULL ? p->left : (size_t)(end - p->at) };
	size_t used = part.left + (end != NULL);

	if (used != 0)
		p->at += used;
	p->left -= used;
	return part;
}

#endif
