/* SPDX-License-Identifier: ISC */
#include "bench_session.h"

#include <sys/socket.h>

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define TARGET_NET   0x7f140000u /* 127.20.0.0 */
#define TARGET_HOSTS 4096u
#define STARTING_US  10000000

static struct addr
target_of(const struct session *s)
{
	return addr_v4(TARGET_NET + 1 + s->number % TARGET_HOSTS,
	    (uint16_t)(s->way->target_port + s->service));
}

static struct addr
first_hop(const struct session *s)
{
	struct addr hop = s->way->proxy;

	if (s->way->kind == WAY_DIRECT)
		return target_of(s);
	if (s->way->kind == WAY_RELAY)
		hop.port = (uint16_t)(hop.port + s->service);
	return hop;
}

void
session_close(struct session *s)
{
	if (s->side.fd >= 0)
		close(s->side.fd);
	s->side.fd = -1;
}

static void
fail(struct session *s, int error)
{
	session_close(s);
	s->failed(s, error);
}

/* Says what the next step begins with. */
static bool
say(struct session *s, enum step next)
{
	static const uint8_t greeting[] = { 5, 1, 0 };
	struct addr to = target_of(s);
	const uint8_t request[] = { 5, 1, 0, 1, to.ip[0], to.ip[1], to.ip[2],
		to.ip[3], (uint8_t)(to.port >> 8), (uint8_t)to.port };
	const uint8_t *bytes = next == STEP_METHOD ? greeting : request;
	size_t len = next == STEP_METHOD ? sizeof(greeting) : sizeof(request);

	s->step = next;
	s->got = 0;
	if (send(s->side.fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len)
		return true;
	fail(s, errno);
	return false;
}

/* The bytes that the step waits for; a reply's length shows in its fourth. */
static unsigned
wanted(const struct session *s)
{
	if (s->step == STEP_METHOD)
		return 2;
	return s->got >= 4 && s->in[3] == 4 ? 22 : 10;
}

static void
open_now(struct session *s)
{
	s->step = STEP_OPEN;
	s->opened(s);
}

/* The step's message is whole; true when there is another one to wait for. */
static bool
heard(struct session *s)
{
	if (s->in[1] != 0) {
		fail(s, s->in[1]);
		return false;
	}
	if (s->step == STEP_METHOD)
		return say(s, STEP_REPLY);
	open_now(s);
	return false;
}

static void
hear(struct session *s)
{
	for (;;) {
		ssize_t n =
		    recv(s->side.fd, s->in + s->got, wanted(s) - s->got, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			fail(s, n < 0 ? errno : ECONNABORTED);
			return;
		}
		s->got += (unsigned)n;
		if (s->got == wanted(s) && !heard(s))
			return;
	}
}

static void
on_ready(struct side *side, uint32_t events)
{
	struct session *s = container_of(side, struct session, side);

	if (s->step != STEP_CONNECT) {
		hear(s);
	} else if ((events & EPOLLERR) != 0) {
		fail(s, ECONNREFUSED);
	} else if ((events & EPOLLOUT) != 0) {
		if (s->way->kind != WAY_SOCKS)
			open_now(s);
		else
			(void)say(s, STEP_METHOD);
	}
}

void
session_open(struct session *s, int set, const struct way *way,
    enum service service, unsigned number, bool reset)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd = net_client_socket(number, reset);

	s->way = way;
	s->service = service;
	s->number = number;
	s->step = STEP_CONNECT;
	s->side.ready = on_ready;
	struct addr hop = first_hop(s);

	len = addr_to_sockaddr(&hop, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 &&
	    errno != EINPROGRESS)
		net_die("connect", errno);
	net_watch(set, &s->side, fd);
}

void
way_wait(const struct way *way)
{
	struct sockaddr_storage ss;
	uint64_t deadline_us = net_now_us() + STARTING_US;
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	if (way->kind == WAY_DIRECT)
		return;
	socklen_t len = addr_to_sockaddr(&way->proxy, &ss);

	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			net_die("socket", errno);
		int error = connect(fd, (struct sockaddr *)&ss, len);

		close(fd);
		if (error == 0)
			return;
		if (net_now_us() > deadline_us)
			net_die("no proxy listens", ETIMEDOUT);
		nanosleep(&pause, NULL);
	}
}
