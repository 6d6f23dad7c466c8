/* SPDX-License-Identifier: ISC */
#include "service/sockets.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0
		   ? 0
		   : -errno;
}

static int
bind_addr(int fd, const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);

	return bind(fd, (struct sockaddr *)&ss, len) == 0 ? 0 : -errno;
}

static int
open_tcp(const struct addr *a, bool shared_port, int *out)
{
	int fd = socket(addr_domain(a),
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (a->family == ADDR_V6)
		error = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (error == 0)
		error = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (error == 0 && shared_port)
		error = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (error == 0)
		error = bind_addr(fd, a);
	if (error != 0)
		close(fd);
	else
		*out = fd;
	return error;
}

/* Options which accepted sockets inherit, so that no session sets them. The
 * linger makes the death of a worker a reset for its clients. */
static void
set_options(int fd)
{
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	(void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* Without SO_REUSEPORT the bind fails while another instance listens. */
static int
probe_free(const struct addr *a)
{
	int fd;
	int error = open_tcp(a, false, &fd);

	if (error == 0)
		close(fd);
	return error;
}

static int
read_port(int fd, struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr bound;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return -errno;
	must(addr_from_sockaddr((struct sockaddr *)&ss, &bound) == 0);
	a->port = bound.port;
	return 0;
}

static int
add_fd(struct endpoint *e, int fd)
{
	int *fds = realloc(e->fds, (e->fd_count + 1) * sizeof(*fds));

	if (fds == NULL) {
		close(fd);
		return -ENOMEM;
	}
	e->fds = fds;
	e->fds[e->fd_count++] = fd;
	return 0;
}

static int
open_slots(struct endpoint *e, unsigned slots)
{
	int error = 0;

	while (error == 0 && e->fd_count < slots) {
		int fd;

		error = open_tcp(&e->actual, true, &fd);
		if (error == 0)
			error = add_fd(e, fd);
		if (error == 0 && e->actual.port == 0)
			error = read_port(fd, &e->actual);
		if (error == 0)
			set_options(fd);
	}
	return error;
}

static int
set_mode(const struct endpoint *e, const struct config_listen *listen_config)
{
	return chmod(e->path, listen_config->socket_mode) == 0 ? 0 : -errno;
}

static int
open_unix(struct endpoint *e, const struct config_listen *listen_config)
{
	int error, fd;

	error = unixpath_bind(e->path, &e->file, &fd);
	if (error != 0)
		return error;
	set_options(fd);
	error = add_fd(e, fd);
	return error != 0 ? error : set_mode(e, listen_config);
}

/* Workers have copies: what ends the listening at once is shutdown(). */
static void
close_endpoint(struct endpoint *e, size_t from)
{
	for (size_t i = from; i < e->fd_count; i++) {
		shutdown(e->fds[i], SHUT_RDWR);
		close(e->fds[i]);
	}
	e->fd_count = from;
}

static bool
same_place(const struct endpoint *a, const struct endpoint *b)
{
	return addr_equal(&a->asked, &b->asked) &&
	       strcmp(a->path, b->path) == 0;
}

static struct endpoint *
find_old(struct sockets *old, const struct endpoint *wanted)
{
	for (size_t i = 0; old != NULL && i < old->count; i++)
		if (!old->endpoints[i].kept &&
		    same_place(&old->endpoints[i], wanted))
			return &old->endpoints[i];
	return NULL;
}

/* Does the set listen on the port, on whatever address? Then what a probe would
 * find is ourselves: 0.0.0.0:1080 becomes 127.0.0.1:1080. */
static bool
has_port(const struct sockets *old, uint16_t port)
{
	for (size_t i = 0; old != NULL && i < old->count; i++)
		if (old->endpoints[i].path[0] == '\0' &&
		    old->endpoints[i].actual.port == port)
			return true;
	return false;
}

/* The new endpoint gets duplicates of the numbers: both sets name the same
 * descriptors until one of them is given up. */
static int
take_over(struct endpoint *e, struct endpoint *old)
{
	e->actual = old->actual;
	e->file = old->file;
	if (old->fd_count > 0) {
		e->fds = malloc(old->fd_count * sizeof(*e->fds));
		if (e->fds == NULL)
			return -ENOMEM;
		memcpy(e->fds, old->fds, old->fd_count * sizeof(*e->fds));
	}
	e->fd_count = old->fd_count;
	old->kept = true;
	return 0;
}

static int
fill_endpoint(struct endpoint *e, const struct config_listen *listen_config,
    unsigned slots, struct sockets *old)
{
	struct endpoint *before = find_old(old, e);
	int error = 0;

	e->actual = e->asked;
	if (before != NULL)
		error = take_over(e, before);
	else if (e->path[0] == '\0' && e->asked.port != 0 &&
		 !has_port(old, e->asked.port))
		error = probe_free(&e->asked);
	if (error != 0)
		return error;
	if (e->path[0] == '\0')
		return open_slots(e, slots);
	return before != NULL ? set_mode(e, listen_config)
			      : open_unix(e, listen_config);
}

static int
add_endpoint(struct sockets *s, const struct config *config, size_t listen_i,
    const struct config_address *address, uint16_t port, unsigned slots,
    struct sockets *old)
{
	struct endpoint *grown =
	    realloc(s->endpoints, (s->count + 1) * sizeof(*s->endpoints));
	struct endpoint *e;

	if (grown == NULL)
		return -ENOMEM;
	s->endpoints = grown;
	e = &s->endpoints[s->count++];
	*e = (struct endpoint){ .asked = address->ip, .listen = listen_i };
	e->asked.port = port;
	strcpy_bounded(e->path, sizeof(e->path), address->path);
	return fill_endpoint(e, &config->listens[listen_i], slots, old);
}

static int
add_address(struct sockets *s, const struct config *config, size_t listen_i,
    const struct config_address *address, unsigned slots, struct sockets *old)
{
	int error = 0;

	for (unsigned port = address->ports.first;
	     error == 0 && port <= address->ports.last; port++)
		error = add_endpoint(
		    s, config, listen_i, address, (uint16_t)port, slots, old);
	return error;
}

static void
explain(const struct sockets *s, const struct config *config, int error,
    char *text, size_t size)
{
	const struct endpoint *e = &s->endpoints[s->count - 1];
	char where[ADDR_TEXT_MAX];

	snprintf(text, size, "[listen %s] cannot listen on %s%s: %s",
	    config->listens[e->listen].name, e->path[0] != '\0' ? "unix:" : "",
	    e->path[0] != '\0' ? e->path : addr_format(&e->asked, where),
	    strerror(-error));
}

int
sockets_open(struct sockets *out, const struct config *config, unsigned slots,
    struct sockets *old, char *error_text, size_t size)
{
	struct sockets s = { 0 };
	int error = 0;

	for (size_t i = 0; error == 0 && i < config->listen_count; i++) {
		const struct config_listen *l = &config->listens[i];

		for (size_t a = 0; error == 0 && a < l->address_count; a++)
			error = add_address(
			    &s, config, i, &l->addresses[a], slots, old);
	}
	if (error == 0) {
		*out = s;
		return 0;
	}
	if (s.count == 0)
		snprintf(error_text, size, "out of memory");
	else
		explain(&s, config, error, error_text, size);
	sockets_abandon(&s, old);
	return error;
}

/* Who sends nothing is shown to us in the end, to be timed out. */
static void
set_deferred(int fd, const struct config *c, bool deferred)
{
	int seconds = (int)((c->handshake_ms + 999) / 1000);

	(void)set_int(
	    fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, deferred ? seconds : 0);
}

int
sockets_listen(
    const struct sockets *s, const struct config *config, unsigned slot)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct endpoint *e = &s->endpoints[i];
		size_t n = e->path[0] != '\0' ? 0 : slot;
		const struct config_listen *l = &config->listens[e->listen];

		if (n >= e->fd_count)
			continue;
		if (e->path[0] == '\0')
			set_deferred(e->fds[n], config, l->defer_accept);
		if (listen(e->fds[n], (int)l->backlog) != 0)
			return -errno;
		/* What a client says first is acknowledged by the answer to it.
		 * Set after listen(), accepted sockets inherit it. */
		if (e->path[0] == '\0')
			(void)set_int(e->fds[n], IPPROTO_TCP, TCP_QUICKACK, 0);
	}
	return 0;
}

static void
free_set(struct sockets *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->endpoints[i].fds);
	free(s->endpoints);
	*s = (struct sockets){ 0 };
}

void
sockets_commit(struct sockets *old)
{
	for (size_t i = 0; i < old->count; i++) {
		if (old->endpoints[i].kept)
			continue;
		unixpath_remove(
		    old->endpoints[i].path, &old->endpoints[i].file);
		close_endpoint(&old->endpoints[i], 0);
	}
	free_set(old);
}

void
sockets_abandon(struct sockets *new, struct sockets *old)
{
	for (size_t i = 0; i < new->count; i++) {
		struct endpoint *e = &new->endpoints[i];
		struct endpoint *before = NULL;

		for (size_t o = 0; old != NULL && o < old->count; o++)
			if (old->endpoints[o].kept &&
			    same_place(&old->endpoints[o], e))
				before = &old->endpoints[o];
		if (before == NULL)
			unixpath_remove(e->path, &e->file);
		close_endpoint(e, before == NULL ? 0 : before->fd_count);
	}
	for (size_t o = 0; old != NULL && o < old->count; o++)
		old->endpoints[o].kept = false;
	free_set(new);
}

void
sockets_close(struct sockets *s, bool remove_paths)
{
	for (size_t i = 0; i < s->count; i++) {
		if (remove_paths)
			unixpath_remove(
			    s->endpoints[i].path, &s->endpoints[i].file);
		close_endpoint(&s->endpoints[i], 0);
	}
	free_set(s);
}

size_t
sockets_fd_count(const struct sockets *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++)
		n += s->endpoints[i].fd_count;
	return n;
}
