/* SPDX-License-Identifier: ISC */
#include "io/stream.h"

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

/* Urgent data becomes bytes like all others, in their place; otherwise the
 * kernel drops it. */
static void
read_urgent_data(struct stream *s)
{
	static const int on = 1;

	setsockopt(s->watch.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	s->urgent = true;
}

/*
 * What the kernel says of an error and of an end goes together with bytes that
 * came before it, in one event: `fin` says that there is more than bytes to
 * read. Of unix sockets EPOLLHUP alone is a peer that is gone.
 */
static void
on_events(struct watch *watch, uint32_t events)
{
	struct stream *s = container_of(watch, struct stream, watch);
	bool failed = (events & EPOLLERR) != 0 ||
		      ((events & EPOLLHUP) != 0 && (events & EPOLLRDHUP) == 0);

	if (failed || (events & EPOLLRDHUP) != 0)
		s->fin = true;
	if ((events & EPOLLPRI) != 0 && !s->urgent)
		read_urgent_data(s);
	if (s->fin || (events & (EPOLLIN | EPOLLPRI)) != 0)
		s->readable = true;
	if (failed || (events & EPOLLOUT) != 0)
		s->writable = true;
	s->failed = failed;
	s->on_ready(s);
}

void
stream_init(struct stream *s)
{
	*s = (struct stream){ .watch.fd = -1 };
}

int
stream_start(
    struct stream *s, struct loop *l, int fd, stream_ready_fn *on_ready)
{
	must(s->watch.fd == -1 && fd >= 0);
	*s = (struct stream){ .watch = { .run = on_events, .fd = -1 },
		.loop = l,
		.on_ready = on_ready };
	return poller_add(&l->poller, &s->watch, fd);
}

void
stream_stop(struct stream *s)
{
	if (s->watch.fd == -1)
		return;
	poller_remove(&s->loop->poller, &s->watch);
	s->readable = s->writable = false;
}

void
stream_abandon(struct stream *s)
{
	if (s->watch.fd == -1)
		return;
	poller_forget(&s->loop->poller, &s->watch);
	s->readable = s->writable = false;
}

ssize_t
stream_read(struct stream *s, void *bytes, size_t len)
{
	ssize_t n;

	do
		n = recv(s->watch.fd, bytes, len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		s->readable = false;
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	/* A short read empties the queue, unless a FIN or urgent data is behind
	 * the bytes. */
	if (n == 0 || ((size_t)n < len && !s->fin && !s->urgent))
		s->readable = false;
	return n;
}

ssize_t
stream_peek(struct stream *s, void *bytes, size_t len)
{
	ssize_t n;

	do
		n = recv(s->watch.fd, bytes, len, MSG_PEEK);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		s->readable = false;
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return n;
}

ssize_t
stream_read_to_pipe(struct stream *s, int pipe, size_t len)
{
	ssize_t n;

	do
		n = splice(s->watch.fd, NULL, pipe, NULL, len,
		    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		s->readable = false;
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return n;
}

/*
 * Without TCP_NODELAY the first write of a session goes out at once all the
 * same, so that short sessions do without the call.
 */
static void
write_promptly(struct stream *s)
{
	static const int on = 1;

	if (s->second_write) {
		setsockopt(
		    s->watch.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		s->nodelay = true;
	}
	s->second_write = true;
}

void
stream_acknowledge(struct stream *s)
{
	static const int on = 1;

	setsockopt(s->watch.fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

ssize_t
stream_write(struct stream *s, const void *bytes, size_t len)
{
	ssize_t n;

	if (!s->nodelay)
		write_promptly(s);
	do
		n = send(s->watch.fd, bytes, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		return -errno;
	if (n < 0)
		n = 0;
	if ((size_t)n < len)
		s->writable = false;
	return n;
}

ssize_t
stream_write_from_pipe(struct stream *s, int pipe, size_t len)
{
	size_t done = 0;

	if (!s->nodelay)
		write_promptly(s);
	while (done < len) {
		ssize_t n = splice(pipe, NULL, s->watch.fd, NULL, len - done,
		    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		if (n <= 0) {
			s->writable = false;
			break;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

size_t
stream_room(const struct stream *s)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);
	uint32_t used;

	if (getsockopt(s->watch.fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
		return 0;
	/* What is queued is the one with TCP and the other with unix. */
	used = info[SK_MEMINFO_WMEM_QUEUED];
	if (used < info[SK_MEMINFO_WMEM_ALLOC])
		used = info[SK_MEMINFO_WMEM_ALLOC];
	if (used >= info[SK_MEMINFO_SNDBUF])
		return 0;
	return info[SK_MEMINFO_SNDBUF] - used;
}
