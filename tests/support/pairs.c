/* SPDX-License-Identifier: ISC */
#include "pairs.h"

#include <sys/socket.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

int
pairs_listen(struct addr *at)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(at, &ss);
	int fd = socket(addr_domain(at), SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, 64) == 0 &&
	    getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	    addr_from_sockaddr((struct sockaddr *)&ss, at) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool
set_nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

bool
pairs_tcp(int *ours, int *theirs)
{
	struct addr at = addr_v4(INADDR_LOOPBACK, 0);
	int listener = pairs_listen(&at);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);

	if (listener < 0)
		return false;
	*theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*ours = -1;
	if (connect(*theirs, (struct sockaddr *)&ss, len) == 0)
		*ours = accept(listener, NULL, NULL);
	close(listener);
	return *ours >= 0 && set_nonblocking(*ours) && set_nonblocking(*theirs);
}

bool
pairs_unix(int *ours, int *theirs)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		fds) != 0)
		return false;
	*ours = fds[0];
	*theirs = fds[1];
	return true;
}

bool
pairs_wait(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, PAIRS_PATIENCE_MS) == 1;
}

bool
pairs_send(int fd, const void *bytes, size_t len)
{
	const char *from = bytes;

	while (len > 0) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n < 0 && (errno != EAGAIN || !pairs_wait(fd, POLLOUT)))
			return false;
		if (n > 0) {
			from += n;
			len -= (size_t)n;
		}
	}
	return true;
}

size_t
pairs_recv(int fd, void *bytes, size_t len)
{
	size_t have = 0;

	while (have < len && pairs_wait(fd, POLLIN)) {
		ssize_t n = recv(fd, (char *)bytes + have, len - have, 0);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

enum pairs_end
pairs_look(int fd, enum pairs_end expected)
{
	char byte;
	ssize_t n;

	if (expected != PAIRS_OPEN && !pairs_wait(fd, POLLIN | POLLRDHUP))
		return PAIRS_OPEN;
	n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0)
		return PAIRS_FIN;
	if (n < 0 && errno == EAGAIN)
		return PAIRS_OPEN;
	return n < 0 && errno == ECONNRESET ? PAIRS_RESET : PAIRS_OTHER;
}

void
pairs_reset(int fd)
{
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	close(fd);
}

int
pairs_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int count = 0;

	while (d != NULL && readdir(d) != NULL)
		count++;
	if (d != NULL)
		closedir(d);
	return count;
}
