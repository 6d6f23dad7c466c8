/* SPDX-License-Identifier: ISC */
#include "bench_net.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLIENT_NET   0x7f0a0000u /* 127.10.0.0 */
#define CLIENT_HOSTS 64u
#define EVENTS_MAX   256
#define BACKLOG      4096

uint64_t
net_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void
net_die(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error));
	exit(1);
}

int
net_open_set(void)
{
	int set = epoll_create1(EPOLL_CLOEXEC);

	if (set < 0)
		net_die("epoll", errno);
	return set;
}

static void
watch(int set, struct side *side, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = side };

	if (epoll_ctl(set, EPOLL_CTL_ADD, side->fd, &event) != 0)
		net_die("epoll_ctl", errno);
}

void
net_watch(int set, struct side *side, int fd)
{
	side->fd = fd;
	watch(set, side, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void
net_watch_listener(int set, struct side *side)
{
	watch(set, side, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
}

void
net_unwatch(int set, struct side *side)
{
	if (epoll_ctl(set, EPOLL_CTL_DEL, side->fd, NULL) != 0)
		net_die("epoll_ctl", errno);
}

void
net_turn(int set, int wait_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(set, events, EVENTS_MAX, wait_ms);

	for (int i = 0; i < n; i++) {
		struct side *side = events[i].data.ptr;

		side->ready(side, events[i].events);
	}
}

int
net_client_socket(unsigned n, bool reset)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	int on = 1;
	struct sockaddr_storage ss;
	struct addr source = addr_v4(CLIENT_NET + 1 + n % CLIENT_HOSTS, 0);
	socklen_t len = addr_to_sockaddr(&source, &ss);

	if (fd < 0)
		net_die("socket", errno);
	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0)
		net_die("bind", errno);
	return fd;
}

int
net_listen(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;
	struct sockaddr_storage ss;
	struct addr any = addr_v4(0, port);
	socklen_t len = addr_to_sockaddr(&any, &ss);

	if (fd < 0)
		net_die("socket", errno);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0 ||
	    listen(fd, BACKLOG) != 0)
		net_die("listening for the targets", errno);
	return fd;
}

void
net_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Exact below 64 us; then 64 classes each time that it doubles. */
void
latency_add(struct latencies *l, uint64_t us)
{
	unsigned shift = 0;
	size_t class;

	while (us >> shift >= 128)
		shift++;
	class = shift * 64 + (size_t)(us >> shift);
	if (class >= LATENCY_CLASSES)
		class = LATENCY_CLASSES - 1;
	l->classes[class]++;
	l->count++;
}

uint64_t
latency_at(const struct latencies *l, unsigned permille)
{
	uint64_t wanted = (l->count * permille + 999) / 1000, seen = 0;

	for (size_t class = 0; class < LATENCY_CLASSES; class ++) {
		seen += l->classes[class];
		if (seen >= wanted && seen > 0) {
			size_t shift = class < 128 ? 0 : class / 64 - 1;

			return (uint64_t)(class - shift * 64) << shift;
		}
	}
	return 0;
}
