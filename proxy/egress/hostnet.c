/* SPDX-License-Identifier: ISC */
#include "egress/hostnet.h"

#include <sys/socket.h>

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/netlink.h"

/* A dump that the table changed under is begun again, so often at most. */
#define DUMP_TRIES 5

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
on_route(struct nlmsghdr *message, void *arg)
{
	if (message->nlmsg_type != RTM_NEWROUTE ||
	    message->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg)))
		return 0;
	return add_route(arg, message);
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

	return netlink_dump(fd, &request.head, on_route, t);
}

/* -ESTALE as of netlink_dump(). */
static int
read_table(struct table *t)
{
	int fd = netlink_open(NETLINK_ROUTE);
	int v4, v6;

	if (fd < 0)
		return fd;
	v4 = dump(fd, AF_INET, t);
	v6 = v4 == 0 || v4 == -ESTALE ? dump(fd, AF_INET6, t) : 0;
	/* A kernel without IPv6, or with it switched off, has no such table. */
	if (v6 == -EOPNOTSUPP || v6 == -ENOENT || v6 == -EAFNOSUPPORT)
		v6 = 0;
	close(fd);
	return v6 != 0 ? v6 : v4;
}

int
hostnet_refresh(struct hostnet *h, uint64_t now_ms, uint64_t max_age_ms)
{
	struct table t = { 0 };
	int error = -ESTALE;

	if (h->read_ms != 0 && now_ms - h->read_ms <= max_age_ms)
		return 0;
	for (int tries = 0; tries < DUMP_TRIES && error == -ESTALE; tries++) {
		table_clear(&t);
		error = read_table(&t);
	}
	/* A table that changes all the time is taken as it was seen. */
	if (error != 0 && error != -ESTALE) {
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
