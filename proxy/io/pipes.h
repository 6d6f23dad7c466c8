/* SPDX-License-Identifier: ISC */
/*
 * pipes: a few pipes that the relays of a worker splice(2) through, each in
 * turn. They are opened when they are asked for and closed again when they have
 * not been for a while.
 *
 * A pipe that is lent out has one user; it comes back empty, or is thrown away
 * with what is in it.
 */
#ifndef FOURFOLD_PIPES_H
#define FOURFOLD_PIPES_H

#include "io/loop.h"

/* Lent out at once at most: two descriptors each, so that they do not take
 * those of the sessions. */
#define PIPES_MAX 16

/* Asked for; the kernel may give less (fs.pipe-max-size,
 * fs.pipe-user-pages-soft), and below the least a copy is faster. */
#define PIPE_BYTES       (1024 * 1024)
#define PIPE_LEAST_BYTES (256 * 1024)

struct pipe {
	struct link link; /* in pipes->spare */
	int in, out;      /* written to, read from */
	size_t bytes;     /* it holds so many at most */
};

struct pipes {
	struct loop *loop;
	struct list spare;
	size_t open; /* spare or lent out */
	size_t used; /* spare ones taken in one go since the last look, most */
	size_t lent;
	size_t least;           /* bytes of a pipe that is worth it */
	uint64_t poor_until_ms; /* the kernel gave less: not asked before */
	struct timeout_class look;
	struct timeout timer; /* armed while there is a spare one */
};

void pipes_init(struct pipes *p, struct loop *l);

/* All must have come back. */
void pipes_fini(struct pipes *p);

/* An empty one; NULL when there is none to be had now. */
struct pipe *pipes_take(struct pipes *p);

/* It is empty. */
void pipes_give_back(struct pipes *p, struct pipe *pipe);

/* It is not: closed with its bytes. */
void pipes_throw_away(struct pipes *p, struct pipe *pipe);

#endif
