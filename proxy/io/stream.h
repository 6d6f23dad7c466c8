/* SPDX-License-Identifier: ISC */
/*
 * stream: one side of a session: a connected socket, what the kernel last said
 * of it, and one registration with the loop.
 *
 * It borrows its descriptor and never closes it. The registration is edge
 * triggered: `readable` and `writable` say what is worth trying; a try that
 * the kernel answers with less clears them, an event sets them again.
 */
#ifndef FOURFOLD_STREAM_H
#define FOURFOLD_STREAM_H

#include <sys/types.h>

#include "io/loop.h"

struct stream;
typedef void stream_ready_fn(struct stream *stream);

struct stream {
	struct watch watch; /* its `fd` is the stream's */
	bool readable : 1;
	bool writable : 1;
	bool fin : 1;    /* an end or an error is in the queue: read until it */
	bool urgent : 1; /* urgent data came: a read ends before it, and
			    nothing is moved past it into a pipe */
	bool failed : 1; /* an event came that carries an error (SO_ERROR) */
	bool second_write : 1; /* a write was done: the next sets TCP_NODELAY */
	bool nodelay : 1;      /* TCP_NODELAY is on, or is of no use */
	struct loop *loop;
	stream_ready_fn *on_ready; /* whose turn it is; may change */
};

void stream_init(struct stream *s);

/* Registers `fd`; `on_ready` is called when something changed. -ENOMEM,
 * -ENOSPC. */
MUST_USE int stream_start(
    struct stream *s, struct loop *l, int fd, stream_ready_fn *on_ready);

/* Forgets the descriptor. May be called any number of times. */
void stream_stop(struct stream *s);

/* The same, where the owner closes the descriptor at once. */
void stream_abandon(struct stream *s);

/*
 * Reads at most `len` bytes. The number, 0 at the peer's end of stream, -EAGAIN
 * when there is nothing now, or another negative errno.
 */
ssize_t stream_read(struct stream *s, void *bytes, size_t len);

/* Writes. The number taken, which may be 0, or a negative errno but EAGAIN. */
ssize_t stream_write(struct stream *s, const void *bytes, size_t len);

/* Acknowledges what was read at once: a peer that sends in small pieces keeps
 * the next one back until then (RFC 896). */
void stream_acknowledge(struct stream *s);

/* Looks at the next bytes: as stream_read(), but they stay. */
ssize_t stream_peek(struct stream *s, void *bytes, size_t len);

/* Moves bytes into a pipe that is empty: as stream_read(), but that a pipe has
 * room for so many pieces, so that only -EAGAIN says that there is no more, and
 * that 0 may be an end of stream or urgent data before it. */
ssize_t stream_read_to_pipe(struct stream *s, int pipe, size_t len);

/* Moves `len` bytes out of a pipe that holds them: as stream_write(). */
ssize_t stream_write_from_pipe(struct stream *s, int pipe, size_t len);

/* How many bytes the send buffer has room for now; one system call. */
size_t stream_room(const struct stream *s);

#endif
