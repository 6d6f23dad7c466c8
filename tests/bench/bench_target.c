/* SPDX-License-Identifier: ISC */
#include "bench_target.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/addr.h"

#define EVENTS_MAX 256

static void
accept_all(int epoll, int listener)
{
	for (;;) {
		int fd =
		    accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
			close(fd);
	}
}

/* The messages are small: what does not go out at once is an error. */
static void
echo(int fd)
{
	char buffer[4096];
	ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0 || send(fd, buffer, (size_t)got, MSG_NOSIGNAL) != got)
		close(fd);
}

static void
serve(int listener)
{
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
		_exit(1);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS_MAX, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(epoll, listener);
			else
				echo(events[i].data.fd);
		}
	}
}

static int
open_listener(uint16_t *port)
{
	struct sockaddr_storage ss;
	struct addr any = addr_v4(0, 0);
	socklen_t len = addr_to_sockaddr(&any, &ss);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&ss, len) != 0 ||
	    listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
	    addr_from_sockaddr((struct sockaddr *)&ss, &any) != 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	*port = any.port;
	return fd;
}

int
bench_target_start(struct bench_target *out)
{
	uint16_t port = 0;
	int listener = open_listener(&port);

	if (listener < 0)
		return listener;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	close(listener);
	if (pid < 0)
		return -errno;
	*out = (struct bench_target){ .pid = pid, .port = port };
	return 0;
}

void
bench_target_stop(struct bench_target *target)
{
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
}
