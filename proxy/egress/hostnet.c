/* SPDX-License-Identifier: ISC */
#include "egress/hostnet.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel fills what the reader offers, up to 32 KiB a message. */
#define DUMP_BYTES 32768

/* A dump that the table changed under is begun again, so often at most. */
#define DUMP_TRIES 5

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

struct request {
	struct nlmsghdr head;
	struct rtmsg route;
};

struct prefixes {
	struct prefix *items;
	size_t count, room;
};

/* What one dump gathers. */
struct table {
	struct prefixes local, broadcast;
	bool interrupted; /* the table changed meanwhile */
	bool done;
};

void
hostnet_init(struct hostnet *h)
{
	memset(h, 0, sizeof(*h));
}

void
hostnet_fini(struct hostnet *h)
{
	free(h->local);
	free(h->broadcast);
	hostnet_init(h);
}

static int
prefixes_add(struct prefixes *p, const struct prefix *item)
{
	if (p->count == p->room) {
		size_t room = p->room == 0 ? 16 : p->room * 2;
		struct prefix *items =
		    reallocarray(p->items, room, sizeof(*items));

		if (items == NULL)
			return -ENOMEM;
		p->items = items;
		p->room = room;
	}
	p->items[p->count++] = *item;
	return 0;
}

static void
table_clear(struct table *t)
{
	free(t->local.items);
	free(t->broadcast.items);
	memset(t, 0, sizeof(*t));
}

static struct prefixes *
prefixes_of_type(struct table *t, unsigned type)
{
	switch (type) {
	case RTN_LOCAL:
		return &t->local;
	case RTN_BROADCAST:
	case RTN_ANYCAST:
		return &t->broadcast;
	default:
		return NULL;
	}
}

static int
add_route(struct table *t, struct nlmsghdr *head)
{
	struct rtmsg *route = NLMSG_DATA(head);
	struct prefixes *to = prefixes_of_type(t, route->rtm_type);
	uint32_t table = route->rtm_table;
	uint8_t ip[16] = { 0 };
	size_t ip_len = route->rtm_family == AF_INET ? 4 : 16;
	struct prefix p;
	int left = (int)RTM_PAYLOAD(head);

	for (struct rtattr *a = RTM_RTA(route); RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_DST && RTA_PAYLOAD(a) == ip_len)
			memcpy(ip, RTA_DATA(a), ip_len);
		if (a->rta_type == RTA_TABLE && RTA_PAYLOAD(a) == sizeof(table))
			memcpy(&table, RTA_DATA(a), sizeof(table));
	}
	/* Kernels before 4.20 do not filter by table. */
	if (to == NULL || table != RT_TABLE_LOCAL ||
	    route->rtm_dst_len > ip_len * 8)
		return 0;
	p.base = addr_from_bytes(ip_len == 4 ? ADDR_V4 : ADDR_V6, ip, 0);
	p.bits = route->rtm_dst_len;
	return prefixes_add(to, &p);
}

static int
add_message(struct table *t, struct nlmsghdr *head)
{
	if (head->nlmsg_flags & NLM_F_DUMP_INTR)
		t->interrupted = true;
	if (head->nlmsg_type == NLMSG_DONE) {
		t->done = true;
		return 0;
	}
	if (head->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(head);

		if (head->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
			return -EPROTO;
		return e->error < 0 ? e->error : -EPROTO;
	}
	if (head->nlmsg_type != RTM_NEWROUTE ||
	    head->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg)))
		return 0;
	return add_route(t, head);
}

static int
read_replies(int fd, uint8_t *buf, struct table *t)
{
	while (!t->done) {
		ssize_t len = recv(fd, buf, DUMP_BYTES, MSG_TRUNC);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		if (len == 0 || len > DUMP_BYTES)
			return -EMSGSIZE;
		for (struct nlmsghdr *head = (void *)buf;
		     NLMSG_OK(head, len) && !t->done;
		     head = NLMSG_NEXT(head, len)) {
			int error = add_message(t, head);

			if (error != 0)
				return error;
		}
	}
	return 0;
}

/* One family's local table, added to `t`. */
static int
dump(int fd, uint8_t family, struct table *t)
{
	struct request request = {
		.head = { .nlmsg_len = sizeof(request),
		    .nlmsg_type = RTM_GETROUTE,
		    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.route = { .rtm_family = family, .rtm_table = RT_TABLE_LOCAL },
	};
	uint8_t *buf;
	int error;

	if (send(fd, &request, sizeof(request), 0) < 0)
		return -errno;
	buf = malloc(DUMP_BYTES);
	if (buf == NULL)
		return -ENOMEM;
	t->done = false;
	error = read_replies(fd, buf, t);
	free(buf);
	return error;
}

/* The descriptor, or a negative errno. */
static int
open_netlink(void)
{
	/* The kernel answers a dump inside the call: this is for the day it
	 * does not. */
	const struct timeval patience = { .tv_sec = 1 };
	const int on = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return fd;
}

/* A socket a try: what a broken-off dump left must not be read by the next. */
static int
read_table(struct table *t)
{
	int fd = open_netlink();
	int error;

	if (fd < 0)
		return fd;
	error = dump(fd, AF_INET, t);
	if (error == 0)
		error = dump(fd, AF_INET6, t);
	/* A kernel without IPv6, or with it switched off, has no such table. */
	if (error == -EOPNOTSUPP || error == -ENOENT || error == -EAFNOSUPPORT)
		error = 0;
	close(fd);
	return error;
}

int
hostnet_refresh(struct hostnet *h, uint64_t now_ms, uint64_t max_age_ms)
{
	struct table t = { 0 };
	int error;

	if (h->read_ms != 0 && now_ms - h->read_ms <= max_age_ms)
		return 0;
	for (int tries = 0; tries < DUMP_TRIES; tries++) {
		table_clear(&t);
		error = read_table(&t);
		if (error != 0 || !t.interrupted)
			break;
	}
	if (error != 0) {
		table_clear(&t);
		return error;
	}
	hostnet_fini(h);
	h->local = t.local.items;
	h->local_count = t.local.count;
	h->broadcast = t.broadcast.items;
	h->broadcast_count = t.broadcast.count;
	h->read_ms = now_ms;
	return 0;
}

static bool
any_contains(const struct prefix *p, size_t count, const struct addr *a)
{
	for (size_t i = 0; i < count; i++) {
		if (prefix_contains(&p[i], a))
			return true;
	}
	return false;
}

bool
hostnet_is_local(const struct hostnet *h, const struct addr *a)
{
	return any_contains(h->local, h->local_count, a);
}

bool
hostnet_is_broadcast(const struct hostnet *h, const struct addr *a)
{
	return any_contains(h->broadcast, h->broadcast_count, a);
}

bool
hostnet_find_broadcast(
    const struct hostnet *h, const struct prefix *p, struct addr *out)
{
	for (size_t i = 0; i < h->broadcast_count; i++) {
		const struct prefix *b = &h->broadcast[i];

		if (b->base.family == ADDR_V4 && prefix_overlaps(b, p)) {
			*out = b->base;
			return true;
		}
	}
	return false;
}

/* `p` cut in two; it has more than one address. */
static void
halves(const struct prefix *p, struct prefix out[2])
{
	out[0] = out[1] = *p;
	out[0].bits = out[1].bits = (uint8_t)(p->bits + 1);
	out[1].base.ip[p->bits / 8] |= (uint8_t)(0x80 >> p->bits % 8);
}

/* Goes down only where a route ends inside of `p`: at most a path of 128
 * steps for each route. */
bool
hostnet_covers(const struct hostnet *h, const struct prefix *p)
{
	bool inside = false;
	struct prefix half[2];

	for (size_t i = 0; i < h->local_count; i++) {
		const struct prefix *route = &h->local[i];

		if (route->bits <= p->bits && prefix_contains(route, &p->base))
			return true;
		inside |= prefix_overlaps(route, p);
	}
	if (!inside)
		return false;
	halves(p, half);
	return hostnet_covers(h, &half[0]) && hostnet_covers(h, &half[1]);
}
