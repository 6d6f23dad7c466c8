/* SPDX-License-Identifier: ISC */
#include "io/stream.h"

#include <sys/socket.h>

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	if (what & (EV_READ | EV_CLOSED))
		s->readable = true;
	if (what & EV_WRITE)
		s->writable = true;
	if (what & EV_CLOSED)
		s->fin = true;
	/* libevent reports EPOLLERR and EPOLLHUP as both at once. */
	s->failed = (what & EV_READ) && (what & EV_WRITE);
	s->on_ready(s);
}

void
stream_init(struct stream *s)
{
	*s = (struct stream){ .fd = -1 };
}

int
stream_start(
    struct stream *s, struct loop *l, int fd, stream_ready_fn *on_ready)
{
	must(s->fd == -1 && fd >= 0);
	*s = (struct stream){ .fd = fd, .on_ready = on_ready };
	if (event_assign(&s->event, l->base, fd,
		EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event,
		s) != 0 ||
	    event_add(&s->event, NULL) != 0) {
		s->fd = -1;
		return -ENOMEM;
	}
	return 0;
}

void
stream_stop(struct stream *s)
{
	if (s->fd == -1)
		return;
	event_del(&s->event);
	s->fd = -1;
	s->readable = s->writable = false;
}

ssize_t
stream_read(struct stream *s, void *bytes, size_t len)
{
	ssize_t n;

	do
		n = recv(s->fd, bytes, len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		s->readable = false;
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	/* A short read empties the queue, unless a FIN is behind the bytes. */
	if (n == 0 || ((size_t)n < len && !s->fin))
		s->readable = false;
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
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		s->nodelay = true;
	}
	s->second_write = true;
}

ssize_t
stream_write(struct stream *s, const void *bytes, size_t len)
{
	ssize_t n;

	if (!s->nodelay)
		write_promptly(s);
	do
		n = send(s->fd, bytes, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		return -errno;
	if (n < 0)
		n = 0;
	if ((size_t)n < len)
		s->writable = false;
	return n;
}

size_t
stream_room(const struct stream *s)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);
	uint32_t used;

	if (getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
		return 0;
	/* What is queued is the one with TCP and the other with unix. */
	used = info[SK_MEMINFO_WMEM_QUEUED];
	if (used < info[SK_MEMINFO_WMEM_ALLOC])
		used = info[SK_MEMINFO_WMEM_ALLOC];
	if (used >= info[SK_MEMINFO_SNDBUF])
		return 0;
	return info[SK_MEMINFO_SNDBUF] - used;
}
