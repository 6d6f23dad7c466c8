/* SPDX-License-Identifier: ISC */
/*
 * The part that asks the kernel by sock_diag, and by trying.
 */
#include "egress/strangers.h"

#include <sys/socket.h>

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostfile.h"
#include "egress/netlink.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* TCP_BOUND_INACTIVE: bound-only sockets, Linux 6.8. */
#define BOUND_INACTIVE 13

#define STATE(n)  (UINT32_C(1) << (n))
#define LISTENING STATE(TCP_LISTEN)
#define BOUND     STATE(BOUND_INACTIVE)
/* Not the clients that have not come through to a listener yet. */
#define CONNECTED                                                    \
	(STATE(TCP_CLOSING + 1) - 1 - LISTENING - STATE(TCP_CLOSE) - \
	    STATE(TCP_SYN_RECV) - STATE(0))

struct request {
	struct nlmsghdr head;
	struct inet_diag_req body;
};

/* The sockets in `states`, of both families, with the local port `port` in
 * network order; 0: any. Of those that are only bound the kernel shows all,
 * whatever their port. (The newer request takes one family, and the kernel
 * would look at all sockets twice.) */
static int
dump(uint32_t states, uint16_t net_port, netlink_take *take, void *arg)
{
	struct request request = {
		.head = { .nlmsg_len = sizeof(request),
		    .nlmsg_type = TCPDIAG_GETSOCK,
		    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .idiag_family = AF_UNSPEC,
		    .idiag_states = states,
		    .id = { .idiag_sport = net_port } },
	};
	int fd = netlink_open(NETLINK_SOCK_DIAG);
	int error;

	if (fd < 0)
		return fd;
	error = netlink_dump(fd, &request.head, take, arg);
	close(fd);
	/* Sockets come and go. */
	return error == -ESTALE ? 0 : error;
}

static enum stranger_state
state_of(const struct inet_diag_msg *m)
{
	if (m->idiag_state == TCP_LISTEN)
		return STRANGER_LISTENS;
	if (m->idiag_state == BOUND_INACTIVE || m->idiag_state == TCP_CLOSE)
		return STRANGER_BOUND;
	return m->idiag_inode == 0 ? STRANGER_GONE : STRANGER_CONNECTED;
}

static bool
read_socket(struct nlmsghdr *message, struct stranger *out)
{
	const struct inet_diag_msg *m = NLMSG_DATA(message);
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	const struct sockaddr *sa = (const void *)&v4;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return false;
	*out = (struct stranger){ .state = state_of(m),
		.uid = m->idiag_uid,
		.inode = m->idiag_inode };
	if (m->idiag_family == AF_INET6) {
		v6.sin6_port = m->id.idiag_sport;
		memcpy(&v6.sin6_addr, m->id.idiag_src, sizeof(v6.sin6_addr));
		sa = (const void *)&v6;
	} else {
		v4.sin_port = m->id.idiag_sport;
		memcpy(&v4.sin_addr, m->id.idiag_src, sizeof(v4.sin_addr));
	}
	return addr_from_sockaddr(sa, &out->local) == 0;
}

/* The best answer so far. */
struct search {
	struct addr source;
	bool anywhere;
	struct stranger best;
	bool found, found_here;
	uid_t we;
};

/* Is it at the address of `source`, or at all of them? [::] may be those of
 * IPv4, too. */
static bool
is_here(const struct addr *local, const struct addr *source)
{
	struct addr ip = addr_unmap(local);

	ip.scope = source->scope; /* which the kernel does not show */
	if (addr_is_unspecified_ip(&ip))
		return ip.family == ADDR_V6 || ip.family == source->family;
	return addr_is_unspecified_ip(source) || addr_equal_ip(&ip, source);
}

static int
on_candidate(struct nlmsghdr *message, void *arg)
{
	struct search *s = arg;
	struct stranger one;
	bool here;

	if (!read_socket(message, &one) || one.local.port != s->source.port)
		return 0;
	here = is_here(&one.local, &s->source);
	if (!here && (s->found_here || !s->anywhere))
		return 0;
	/* Our own sessions may be on the port, too. */
	if (one.state == STRANGER_CONNECTED && one.uid == s->we)
		return 0;
	if (!s->found || here > s->found_here || one.state < s->best.state)
		s->best = one;
	s->found = true;
	s->found_here = here;
	return 0;
}

/* All of the kernel's TCP sockets; `otherwise` when it does not say. */
static uint64_t
count_sockets(uint64_t otherwise)
{
	char *text = hostfile_read("", "/proc/net/sockstat");
	const char *tcp = text != NULL ? strstr(text, "\nTCP: ") : NULL;
	unsigned alloc, tw;

	if (tcp == NULL ||
	    sscanf(tcp, "\nTCP: inuse %*u orphan %*u tw %u alloc %u", &tw,
		&alloc) != 2)
		alloc = tw = 0;
	else
		otherwise = (uint64_t)alloc + tw;
	free(text);
	return otherwise;
}

int
strangers_find(const struct addr *source, bool anywhere, uint64_t look_max,
    struct stranger *out)
{
	struct addr a = addr_v4(0, source->port);
	struct sockaddr_storage ss;
	struct search s = {
		.source = *source, .anywhere = anywhere, .we = geteuid()
	};
	int error;

	addr_to_sockaddr(&a, &ss);
	const struct sockaddr_in *in = (const void *)&ss;

	error = dump(LISTENING, in->sin_port, on_candidate, &s);
	if (error == 0 && !s.found && count_sockets(UINT64_MAX) <= look_max)
		error = dump(BOUND | CONNECTED, in->sin_port, on_candidate, &s);
	if (error != 0)
		return error;
	if (!s.found)
		return -ENOENT;
	*out = s.best;
	return 0;
}

/* Those of `ports` go into `all`. */
struct gathering {
	const struct strangers_ports *ports;
	struct strangers *all;
};

static int
on_socket(struct nlmsghdr *message, void *arg)
{
	struct gathering *g = arg;
	struct stranger one;

	if (!read_socket(message, &one) ||
	    !strangers_want(g->ports, one.local.port, one.state))
		return 0;
	return strangers_add(g->all, &one);
}

int
strangers_ask(const struct strangers_ports *ports, struct strangers *s)
{
	struct gathering g = { .ports = ports, .all = s };

	return dump(LISTENING | BOUND | CONNECTED, 0, on_socket, &g);
}

/* Nobody listens on these, and no worker's probes go to this address. */
#define PROBE_ADDRESS 0x7f00004d
#define PROBE_TRIES   3

/* connect() of a socket that shares `port`, to `to`; it stays on this host. */
static int
try_connect(uint16_t port, uint16_t to)
{
	const uint32_t range = (uint32_t)port | (uint32_t)port << 16;
	const struct linger reset = { .l_onoff = 1 };
	const int on = 1;
	struct addr source = addr_v4(INADDR_LOOPBACK, 0);
	struct addr target = addr_v4(PROBE_ADDRESS, to);
	struct sockaddr_storage from, at;
	socklen_t from_len = addr_to_sockaddr(&source, &from);
	socklen_t at_len = addr_to_sockaddr(&target, &at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
		sizeof(on)) != 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range,
		sizeof(range)) != 0 ||
	    bind(fd, (const struct sockaddr *)&from, from_len) != 0 ||
	    (connect(fd, (const struct sockaddr *)&at, at_len) != 0 &&
		errno != EINPROGRESS))
		error = -errno;
	close(fd);
	return error;
}

bool
strangers_block(uint16_t port)
{
	for (uint16_t to = 1; to <= PROBE_TRIES; to++) {
		if (try_connect(port, to) != -EADDRNOTAVAIL)
			return false;
	}
	return true;
}
