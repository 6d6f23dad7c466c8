/* SPDX-License-Identifier: ISC */
#include "target.h"

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "it.h"
#include "peer.h"

#define BACKLOG 4096

void
target_listen_on(struct target *t, const char *address)
{
	struct addr a;

	IT_MUST(addr_parse(address, &a) == 0, "%s is no address", address);
	t->fd = peer_bind(&a);
	IT_MUST(listen(t->fd, BACKLOG) == 0, "listen: %s", strerror(errno));
	t->port = peer_local(t->fd).port;
}

void
target_listen(struct target *t)
{
	target_listen_on(t, "0.0.0.0:0");
}

void
target_close(struct target *t)
{
	close(t->fd);
	t->fd = -1;
}

struct addr
target_at(const struct target *t, const char *ip)
{
	struct addr a;

	IT_MUST(addr_parse_ip(ip, &a) == 0, "%s is no address", ip);
	a.port = t->port;
	return a;
}

struct addr
target_number(const struct target *t, uint32_t n)
{
	return addr_v4(0x7f400000U + n, t->port);
}

int
target_accept(const struct target *t)
{
	int on = 1, fd = accept4(t->fd, NULL, NULL, SOCK_CLOEXEC);

	IT_MUST(fd >= 0, "accept: %s", strerror(errno));
	/* Deadlines are inherited from the listener. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

bool
target_is_waiting(const struct target *t)
{
	return peer_is_readable(t->fd);
}

void
target_make_silent(struct target_silent *s)
{
	struct addr any = addr_v4(0x7f000001, 0);

	s->fds[0] = peer_bind(&any);
	IT_MUST(listen(s->fds[0], 0) == 0, "listen: %s", strerror(errno));
	s->address = peer_local(s->fds[0]);
	/* A backlog of 0 holds one; the SYN of the next is dropped. */
	s->fds[1] = peer_connect(&s->address);
	s->fds[2] = peer_begin_connect(&s->address);
}

void
target_close_silent(struct target_silent *s)
{
	for (size_t i = 0; i < ARRAY_LEN(s->fds); i++)
		close(s->fds[i]);
}

struct addr
target_refusing(void)
{
	/* Bound and not listening would be a taken port; closed is free, and
	 * nobody takes it soon since the kernel goes on from there. */
	struct addr a = addr_v4(0x7f000001, 0);
	int fd = peer_bind(&a);

	a = peer_local(fd);
	close(fd);
	return a;
}
