/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "io/stream.h"
#include "pairs.h"
#include "passes.h"

struct bench {
	struct loop loop;
	struct stream stream;
	int fd, peer; /* `peer` -1: closed */
	unsigned calls;
};

static void
on_ready(struct stream *s)
{
	container_of(s, struct bench, stream)->calls++;
}

static void
bench_open(struct bench *b, bool pair(int *, int *))
{
	*b = (struct bench){ 0 };
	cr_assert_eq(loop_init(&b->loop), 0);
	cr_assert(pair(&b->fd, &b->peer));
	stream_init(&b->stream);
	cr_assert_eq(stream_start(&b->stream, &b->loop, b->fd, on_ready), 0);
	cr_expect_eq(b->calls, 0, "called inside the start");
	pass(&b->loop);
}

static void
bench_close(struct bench *b)
{
	stream_stop(&b->stream);
	cr_expect_eq(b->stream.watch.fd, -1);
	close(b->fd);
	if (b->peer != -1)
		close(b->peer);
	loop_fini(&b->loop);
}

static void
told(struct bench *b, short events)
{
	cr_assert(pairs_wait(b->fd, events));
	passes(&b->loop, 2);
}

Test(stream, it_can_be_written_at_first_and_read_when_bytes_came)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	cr_expect(b.stream.writable);
	cr_expect_not(b.stream.readable);
	cr_expect_eq(b.calls, 1);
	cr_assert(pairs_send(b.peer, "x", 1));
	told(&b, POLLIN);
	cr_expect(b.stream.readable);
	cr_expect_not(b.stream.fin);
	cr_expect_eq(b.calls, 2);
	passes(&b.loop, 3);
	cr_expect_eq(b.calls, 2, "an edge is told once");
	bench_close(&b);
}

Test(stream, a_read_that_empties_the_queue_clears_readable)
{
	struct bench b;
	char got[8];

	bench_open(&b, pairs_tcp);
	cr_assert(pairs_send(b.peer, "abcdef", 6));
	told(&b, POLLIN);
	cr_expect_eq(stream_read(&b.stream, got, 4), 4);
	cr_expect(b.stream.readable, "there may be more");
	cr_expect_eq(stream_read(&b.stream, got, 4), 2);
	cr_expect_not(b.stream.readable);
	cr_expect_eq(memcmp(got, "ef", 2), 0);
	cr_expect_eq(stream_read(&b.stream, got, 4), -EAGAIN);
	cr_assert(pairs_send(b.peer, "g", 1));
	told(&b, POLLIN);
	cr_expect(b.stream.readable);
	bench_close(&b);
}

Test(stream, behind_a_fin_it_is_read_until_the_end)
{
	struct bench b;
	char got[8];

	bench_open(&b, pairs_tcp);
	cr_assert(pairs_send(b.peer, "abc", 3));
	shutdown(b.peer, SHUT_WR);
	told(&b, POLLRDHUP);
	cr_expect(b.stream.fin);
	cr_expect_eq(stream_read(&b.stream, got, 8), 3);
	cr_expect(b.stream.readable, "the end is still to be read");
	cr_expect_eq(stream_read(&b.stream, got, 8), 0);
	cr_expect_not(b.stream.readable);
	cr_expect(b.stream.writable, "the other direction goes on");
	bench_close(&b);
}

Test(stream, a_reset_is_told_and_is_an_error_to_readers)
{
	struct bench b;
	char got[8];

	bench_open(&b, pairs_tcp);
	pairs_reset(b.peer);
	b.peer = -1;
	told(&b, POLLERR);
	cr_expect(b.stream.failed);
	cr_expect(b.stream.readable);
	cr_expect_eq(stream_read(&b.stream, got, 8), -ECONNRESET);
	cr_expect_not(b.stream.readable);
	bench_close(&b);
}

Test(stream, behind_bytes_it_is_read_until_the_error)
{
	struct bench b;
	char got[8];

	bench_open(&b, pairs_tcp);
	cr_assert(pairs_send(b.peer, "abc", 3));
	cr_assert(pairs_wait(b.fd, POLLIN));
	pairs_reset(b.peer);
	b.peer = -1;
	told(&b, POLLERR);
	cr_expect(b.stream.failed);
	cr_expect_eq(stream_read(&b.stream, got, 8), 3);
	cr_expect(b.stream.readable, "the error is still to be read");
	cr_expect_eq(stream_read(&b.stream, got, 8), -ECONNRESET);
	cr_expect_not(b.stream.readable);
	bench_close(&b);
}

Test(stream, an_end_in_order_is_no_failure)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	shutdown(b.peer, SHUT_WR);
	told(&b, POLLRDHUP);
	cr_expect_not(b.stream.failed);
	shutdown(b.fd, SHUT_WR);
	told(&b, POLLHUP);
	cr_expect_not(b.stream.failed, "both directions ended");
	bench_close(&b);
}

/* And no signal. */
Test(stream, writing_to_who_went_is_an_error)
{
	struct bench b;

	bench_open(&b, pairs_unix);
	close(b.peer);
	b.peer = -1;
	cr_expect_eq(stream_write(&b.stream, "x", 1), -EPIPE);
	bench_close(&b);
}

static void
expect_backpressure(bool pair(int *, int *))
{
	enum { MUCH = 32 * 1024 * 1024 };
	char *bytes = calloc(1, MUCH);
	struct bench b;
	ssize_t n;

	cr_assert_not_null(bytes);
	bench_open(&b, pair);
	cr_expect_gt(stream_room(&b.stream), 0);
	n = stream_write(&b.stream, bytes, MUCH);
	cr_expect(n > 0 && n < MUCH, "%zd were taken", n);
	cr_expect_not(b.stream.writable);
	while (stream_write(&b.stream, bytes, MUCH) > 0)
		;
	cr_expect_eq(stream_write(&b.stream, bytes, 1), 0, "none, no error");
	while (recv(b.peer, bytes, MUCH, MSG_DONTWAIT) > 0)
		;
	told(&b, POLLOUT);
	cr_expect(b.stream.writable);
	bench_close(&b);
	free(bytes);
}

Test(stream, what_is_not_taken_is_told_when_there_is_room)
{
	expect_backpressure(pairs_tcp);
	expect_backpressure(pairs_unix);
}

static void
expect_no_room_when_full(bool pair(int *, int *))
{
	enum { PART = 64 * 1024 };
	char *bytes = calloc(1, PART);
	struct bench b;
	size_t room;

	cr_assert_not_null(bytes);
	bench_open(&b, pair);
	room = stream_room(&b.stream);
	cr_expect_gt(room, 0);
	while (stream_write(&b.stream, bytes, PART) > 0)
		;
	cr_expect_lt(stream_room(&b.stream), room / 4);
	bench_close(&b);
	free(bytes);
}

Test(stream, a_full_queue_has_no_room)
{
	expect_no_room_when_full(pairs_tcp);
	expect_no_room_when_full(pairs_unix);
}

static bool
has_nodelay(int fd)
{
	int on = 0;
	socklen_t len = sizeof(on);

	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	return on != 0;
}

Test(stream, nodelay_is_set_by_the_second_write)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	cr_expect_eq(stream_write(&b.stream, "x", 1), 1);
	cr_expect_not(has_nodelay(b.fd));
	cr_expect_eq(stream_write(&b.stream, "x", 1), 1);
	cr_expect(has_nodelay(b.fd));
	bench_close(&b);
}

Test(stream, nodelay_is_not_set_where_it_is_of_no_use)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	b.stream.nodelay = true;
	for (int i = 0; i < 3; i++)
		cr_expect_eq(stream_write(&b.stream, "x", 1), 1);
	cr_expect_not(has_nodelay(b.fd));
	bench_close(&b);
}

Test(stream, once_stopped_it_is_silent_and_can_start_anew)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	stream_stop(&b.stream);
	stream_stop(&b.stream);
	cr_assert(pairs_send(b.peer, "x", 1));
	cr_assert(pairs_wait(b.fd, POLLIN));
	passes(&b.loop, 2);
	cr_expect_eq(b.calls, 1);
	cr_expect_not(b.stream.readable || b.stream.writable);
	cr_assert_eq(stream_start(&b.stream, &b.loop, b.fd, on_ready), 0);
	pass(&b.loop);
	cr_expect(b.stream.readable);
	bench_close(&b);
}

Test(stream, once_abandoned_and_closed_it_is_silent)
{
	struct bench b;

	bench_open(&b, pairs_tcp);
	cr_assert(pairs_send(b.peer, "x", 1));
	cr_assert(pairs_wait(b.fd, POLLIN));
	stream_abandon(&b.stream);
	stream_abandon(&b.stream);
	close(b.fd);
	passes(&b.loop, 2);
	cr_expect_eq(b.calls, 1);
	cr_expect_not(b.stream.readable || b.stream.writable);
	b.fd = dup(b.peer);
	bench_close(&b);
}

Test(stream, the_descriptor_stays_its_owners)
{
	struct bench b;

	bench_open(&b, pairs_unix);
	stream_stop(&b.stream);
	cr_expect_eq(write(b.fd, "x", 1), 1);
	bench_close(&b);
}
