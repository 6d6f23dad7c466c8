/* SPDX-License-Identifier: ISC */
/*
 * The kernel's answers over netlink from any bytes: dumps of sockets and of
 * routes. Each message is read from memory of its own length.
 *
 * Input: how much a datagram holds, in words of 16 bytes (0: all), and the
 * bytes. Every dump is answered by all of them.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "egress/hostnet.h"
#include "egress/netlink.h"
#include "egress/strangers.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The linker gives these in the place of those of netlink.h. */
int __wrap_netlink_open(int protocol);
int __wrap_netlink_dump(
    int fd, const struct nlmsghdr *request, netlink_take *take, void *arg);
int __real_netlink_dump(
    int fd, const struct nlmsghdr *request, netlink_take *take, void *arg);

/* What the kernel answers, and where the questions go. */
static struct {
	struct program words;
	size_t datagram;
	int kernel; /* the other end; -1: none */
} answer = { .kernel = -1 };

static void
answer_end(void)
{
	if (answer.kernel >= 0)
		close(answer.kernel);
	answer.kernel = -1;
}

int
__wrap_netlink_open(int protocol)
{
	struct program p = answer.words;
	int ends[2];

	(void)protocol;
	answer_end();
	must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		 ends) == 0);
	answer.kernel = ends[1];
	while (p.left > 0) {
		size_t len =
		    p.left < answer.datagram ? p.left : answer.datagram;

		/* What does not fit is lost, as it would be. */
		if (send(ends[1], p.at, len, 0) != (ssize_t)len)
			break;
		p.at += len;
		p.left -= len;
	}
	return ends[0];
}

struct exact {
	netlink_take *take;
	void *arg;
};

static int
take_exact(struct nlmsghdr *message, void *arg)
{
	const struct exact *e = arg;
	struct nlmsghdr *copy = malloc(message->nlmsg_len);
	int error;

	must(copy != NULL && message->nlmsg_len >= sizeof(*message));
	memcpy(copy, message, message->nlmsg_len);
	error = e->take(copy, e->arg);
	free(copy);
	return error;
}

int
__wrap_netlink_dump(
    int fd, const struct nlmsghdr *request, netlink_take *take, void *arg)
{
	struct exact e = { take, arg };
	int error = __real_netlink_dump(fd, request, take_exact, &e);

	must(error <= 0);
	return error;
}

/* ---- sockets ---- */

static void
check_stranger(const struct stranger *s)
{
	must(s->local.family == ADDR_V4 || s->local.family == ADDR_V6);
	must(stranger_state_name(s->state)[0] != '\0');
	must(s->pid == 0 && s->program[0] == '\0');
	must(s->state != STRANGER_GONE || s->inode == 0);
}

static void
check_sockets(size_t size)
{
	struct strangers_ports ports;
	const struct addr source = addr_v4(0, 2);
	struct stranger one;
	struct strangers s;
	int error;

	memset(ports.any, 0x55, sizeof(ports.any));
	memset(ports.listens, 0xaa, sizeof(ports.listens));
	strangers_init(&s);
	error = strangers_ask(&ports, &s);
	must(error <= 0);
	must(s.count <= size / sizeof(struct nlmsghdr));
	for (size_t i = 0; i < s.count; i++) {
		check_stranger(&s.items[i]);
		must(s.items[i].local.port % 2 == 0 ||
		     s.items[i].state == STRANGER_LISTENS);
	}
	strangers_fini(&s);
	error = strangers_find(&source, true, UINT64_MAX, &one);
	must(error <= 0);
	if (error == 0) {
		check_stranger(&one);
		must(one.local.port == source.port);
	}
}

/* ---- routes ---- */

static void
check_routes(size_t size)
{
	static const struct prefix all = { .base = { .family = ADDR_V4 } };
	struct hostnet h;
	struct addr a;

	hostnet_init(&h);
	if (hostnet_refresh(&h, 1000, 0) != 0) {
		must(h.local_count == 0 && h.read_ms == 0);
		return;
	}
	must(h.local_count + h.broadcast_count <=
	     size / sizeof(struct nlmsghdr));
	for (size_t i = 0; i < h.local_count; i++) {
		const struct prefix *p = &h.local[i];

		must(p->bits <= (p->base.family == ADDR_V4 ? 32 : 128));
		must(hostnet_is_local(&h, &p->base));
		must(hostnet_covers(&h, p));
	}
	for (size_t i = 0; i < h.broadcast_count; i++)
		must(hostnet_is_broadcast(&h, &h.broadcast[i].base));
	if (hostnet_find_broadcast(&h, &all, &a))
		must(hostnet_is_broadcast(&h, &a));
	if (hostnet_covers(&h, &all)) {
		a = addr_v4(UINT32_C(0xcb007109), 0);
		must(hostnet_is_local(&h, &a));
	}
	hostnet_fini(&h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program program = { data, size };

	answer.datagram = program_byte(&program) * (size_t)16;
	if (answer.datagram == 0)
		answer.datagram = SIZE_MAX;
	answer.words = program;
	check_sockets(size);
	check_routes(size);
	answer_end();
	return 0;
}
