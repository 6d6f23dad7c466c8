/* SPDX-License-Identifier: ISC */
#include "peer.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "it.h"

/* IP_LOCAL_PORT_RANGE; older headers lack it. */
#define OPTION_LOCAL_PORT_RANGE 51

#define FIRST_NUMBERED 10000

static void
set_deadline(int fd)
{
	struct timeval limit = { .tv_sec = IT_DEADLINE_MS / 1000 };
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int
make_socket(const struct addr *a)
{
	int fd = socket(addr_domain(a), SOCK_STREAM | SOCK_CLOEXEC, 0);

	IT_MUST(fd >= 0, "socket: %s", strerror(errno));
	set_deadline(fd);
	return fd;
}

int
peer_try_bind(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int on = 1, fd = socket(addr_domain(a), SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	set_deadline(fd);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int
peer_bind(const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	int fd = peer_try_bind(a);

	IT_MUST(fd >= 0, "bind %s: %s", addr_format(a, text), strerror(-fd));
	return fd;
}

int
peer_try_connect(const struct addr *to, int *out)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	int fd = make_socket(to);

	if (connect(fd, (struct sockaddr *)&ss, len) != 0) {
		int error = errno;

		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

static int
connect_socket(int fd, const struct addr *to)
{
	char text[ADDR_TEXT_MAX];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);

	IT_MUST(connect(fd, (struct sockaddr *)&ss, len) == 0,
	    "connect to %s: %s", addr_format(to, text), strerror(errno));
	return fd;
}

int
peer_connect(const struct addr *to)
{
	return connect_socket(make_socket(to), to);
}

int
peer_connect_from(const struct addr *from, const struct addr *to)
{
	return connect_socket(peer_bind(from), to);
}

int
peer_connect_numbered(uint32_t number, const struct addr *to)
{
	struct addr from =
	    addr_v4(0x7f000001, (uint16_t)(FIRST_NUMBERED + number));

	must(number < 20000 - FIRST_NUMBERED);
	return peer_connect_from(&from, to);
}

int
peer_try_connect_unix(const char *path, int *out)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	IT_MUST(fd >= 0, "socket: %s", strerror(errno));
	strcpy_bounded(un.sun_path, sizeof(un.sun_path), path);
	set_deadline(fd);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
		int error = errno;

		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

int
peer_connect_unix(const char *path)
{
	int fd = -1, error = peer_try_connect_unix(path, &fd);

	IT_MUST(error == 0, "connect to %s: %s", path, strerror(error));
	return fd;
}

int
peer_begin_connect(const struct addr *to)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	int fd = make_socket(to);

	peer_set_blocking(fd, false);
	if (connect(fd, (struct sockaddr *)&ss, len) != 0)
		IT_MUST(errno == EINPROGRESS, "connect: %s", strerror(errno));
	return fd;
}

int
peer_try_connect_sharing(uint16_t port, const struct addr *to, int *out)
{
	uint32_t range = (uint32_t)port << 16 | port;
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	int fd = make_socket(to);

	IT_MUST(setsockopt(fd, IPPROTO_IP, OPTION_LOCAL_PORT_RANGE, &range,
		    sizeof(range)) == 0,
	    "IP_LOCAL_PORT_RANGE: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&ss, len) != 0) {
		int error = errno;

		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

struct addr
peer_local(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr a;

	IT_MUST(getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
		    addr_from_sockaddr((struct sockaddr *)&ss, &a) == 0,
	    "getsockname: %s", strerror(errno));
	return a;
}

struct addr
peer_remote(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr a;

	IT_MUST(getpeername(fd, (struct sockaddr *)&ss, &len) == 0 &&
		    addr_from_sockaddr((struct sockaddr *)&ss, &a) == 0,
	    "getpeername: %s", strerror(errno));
	return a;
}

void
peer_send(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		IT_MUST(n > 0, "send: %s", strerror(errno));
		at += n;
		len -= (size_t)n;
	}
}

void
peer_recv(int fd, void *out, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(fd, (char *)out + got, len - got, 0);

		IT_MUST(n > 0, "%s after %zu of %zu bytes",
		    n == 0 ? "end of stream" : strerror(errno), got, len);
		got += (size_t)n;
	}
}

void
peer_expect(int fd, const void *bytes, size_t len)
{
	char got[4096];

	must(len <= sizeof(got));
	peer_recv(fd, got, len);
	IT_MUST(memcmp(got, bytes, len) == 0, "%zu other bytes arrived", len);
}

enum peer_end
peer_drain(int fd, void *out, size_t size, size_t *len)
{
	char bytes[4096];
	ssize_t n;

	*len = 0;
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		size_t fits = size - *len;

		fits = fits < (size_t)n ? fits : (size_t)n;
		if (fits > 0)
			memcpy((char *)out + *len, bytes, fits);
		*len += fits;
	}
	IT_MUST(n == 0 || errno == ECONNRESET || errno == EPIPE, "recv: %s",
	    strerror(errno));
	return n == 0 ? PEER_EOF : PEER_RESET;
}

static void
expect_end(int fd, enum peer_end wanted)
{
	size_t len;
	char byte;
	enum peer_end end = peer_drain(fd, &byte, 1, &len);

	close(fd);
	IT_MUST(len == 0, "bytes arrived where an end was due");
	IT_MUST(end == wanted, "%s arrived where %s was due",
	    end == PEER_EOF ? "an end of stream" : "a reset",
	    wanted == PEER_EOF ? "an end of stream" : "a reset");
}

void
peer_expect_eof(int fd)
{
	expect_end(fd, PEER_EOF);
}

void
peer_expect_reset(int fd)
{
	expect_end(fd, PEER_RESET);
}

bool
peer_is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

void
peer_finish(int fd)
{
	IT_MUST(shutdown(fd, SHUT_WR) == 0, "shutdown: %s", strerror(errno));
}

void
peer_reset(int fd)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

void
peer_set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

void
peer_exchange(int a, int b, uint32_t number)
{
	uint32_t back = ~number;

	peer_send(a, &number, sizeof(number));
	peer_expect(b, &number, sizeof(number));
	peer_send(b, &back, sizeof(back));
	peer_expect(a, &back, sizeof(back));
}
