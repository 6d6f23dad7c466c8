/* SPDX-License-Identifier: ISC */
#include "namespace.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "it.h"
#include "target.h"

static bool
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Into a user namespace where we are root; true when we are already. */
static bool
become_root(void)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();

	if (uid == 0)
		return true;
	if (unshare(CLONE_NEWUSER) != 0)
		return false;
	if (!write_file("/proc/self/setgroups", "deny"))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!write_file("/proc/self/uid_map", map))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

bool
namespace_available(void)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(
		    become_root() && unshare(CLONE_NEWNET) == 0 &&
			    write_file("/proc/sys/net/ipv4/ip_local_port_range",
				"20000 29999")
			? 0
			: 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void
namespace_become_able(void)
{
	must(become_root());
}

void
namespace_sysctl(const char *name, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	IT_MUST(write_file(path, value), "%s: %s", path, strerror(errno));
}

void
namespace_port_range(unsigned first, unsigned last)
{
	char value[32];

	snprintf(value, sizeof(value), "%u %u", first, last);
	namespace_sysctl("ipv4/ip_local_port_range", value);
}

/* A message of rtnetlink, built from front to back. */
struct message {
	union {
		struct nlmsghdr head;
		char bytes[1024];
	};
};

static void *
message_start(struct message *m, uint16_t type, uint16_t flags, size_t body)
{
	memset(m, 0, sizeof(*m));
	m->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	m->head.nlmsg_type = type;
	m->head.nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK);
	return NLMSG_DATA(&m->head);
}

/* Appends an attribute; it may be filled further until message_end(). */
static struct rtattr *
message_put(struct message *m, uint16_t type, const void *value, size_t len)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);
	struct rtattr *a = (struct rtattr *)(void *)(m->bytes + at);

	must(at + RTA_SPACE(len) <= sizeof(m->bytes));
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len > 0)
		memcpy(RTA_DATA(a), value, len);
	m->head.nlmsg_len = (uint32_t)(at + RTA_ALIGN(a->rta_len));
	return a;
}

static void
message_end(struct message *m, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)(m->bytes + m->head.nlmsg_len - (char *)nest);
}

static void
message_send(struct message *m, const char *what)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[1024];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	IT_MUST(fd >= 0, "rtnetlink: %s", strerror(errno));
	IT_MUST(send(fd, m, m->head.nlmsg_len, 0) == m->head.nlmsg_len &&
		    recv(fd, &answer, sizeof(answer), 0) > 0 &&
		    answer.head.nlmsg_type == NLMSG_ERROR,
	    "%s: rtnetlink does not answer", what);
	close(fd);
	IT_MUST(answer.error.error == 0, "%s: %s", what,
	    strerror(-answer.error.error));
}

static void
link_up(const char *name)
{
	struct message m;
	struct ifinfomsg *link =
	    message_start(&m, RTM_NEWLINK, 0, sizeof(*link));

	link->ifi_index = (int)if_nametoindex(name);
	link->ifi_flags = IFF_UP;
	link->ifi_change = IFF_UP;
	message_send(&m, "link up");
}

static void
add_address(const char *device, const char *ip, uint8_t bits)
{
	struct message m;
	struct addr a;
	struct ifaddrmsg *body = message_start(
	    &m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(*body));

	IT_MUST(addr_parse_ip(ip, &a) == 0 && a.family == ADDR_V4,
	    "%s is no IPv4 address", ip);
	body->ifa_family = AF_INET;
	body->ifa_prefixlen = bits;
	body->ifa_index = if_nametoindex(device);
	message_put(&m, IFA_LOCAL, a.ip, 4);
	message_put(&m, IFA_ADDRESS, a.ip, 4);
	message_send(&m, "add address");
}

void
namespace_enter(void)
{
	IT_MUST(unshare(CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
	link_up("lo");
	namespace_port_range(20000, 29999);
}

void
namespace_enter_with_ports(struct target *t, unsigned first, unsigned last)
{
	namespace_enter();
	target_listen(t);
	namespace_port_range(first, last);
}

int
namespace_here(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	IT_MUST(fd >= 0, "namespace: %s", strerror(errno));
	return fd;
}

void
namespace_go(int ns)
{
	IT_MUST(setns(ns, CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
}

void
namespace_veth(
    const char *name, const char *here, int there_ns, const char *there)
{
	int here_ns = namespace_here();
	struct ifinfomsg none = { 0 };
	struct message m;

	message_start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(none));
	message_put(&m, IFLA_IFNAME, name, strlen(name) + 1);
	struct rtattr *info = message_put(&m, IFLA_LINKINFO, NULL, 0);

	message_put(&m, IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = message_put(&m, IFLA_INFO_DATA, NULL, 0);
	struct rtattr *peer =
	    message_put(&m, VETH_INFO_PEER, &none, sizeof(none));

	message_put(&m, IFLA_IFNAME, name, strlen(name) + 1);
	message_put(&m, IFLA_NET_NS_FD, &there_ns, sizeof(there_ns));
	message_end(&m, peer);
	message_end(&m, data);
	message_end(&m, info);
	message_send(&m, "veth");
	add_address(name, here, 24);
	link_up(name);
	namespace_go(there_ns);
	add_address(name, there, 24);
	link_up(name);
	namespace_go(here_ns);
	close(here_ns);
}

void
namespace_add_address(const char *ip)
{
	add_address("lo", ip, 32);
}

/* A route to `to` (NULL: everywhere). */
static void
add_route(struct rtmsg kind, const char *to, const char *device)
{
	struct message m;
	struct rtmsg *route = message_start(
	    &m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*route));
	struct prefix prefix;

	*route = kind;
	route->rtm_family = AF_INET;
	route->rtm_protocol = RTPROT_STATIC;
	if (to != NULL) {
		IT_MUST(prefix_parse(to, &prefix) == 0, "%s is no prefix", to);
		route->rtm_family = (uint8_t)addr_domain(&prefix.base);
		route->rtm_dst_len = prefix.bits;
		message_put(&m, RTA_DST, prefix.base.ip,
		    prefix.base.family == ADDR_V4 ? 4 : 16);
	}
	if (device != NULL) {
		unsigned index = if_nametoindex(device);

		message_put(&m, RTA_OIF, &index, sizeof(index));
	}
	message_send(&m, "add route");
}

void
namespace_unreachable(const char *ip)
{
	add_route((struct rtmsg){ .rtm_table = RT_TABLE_MAIN,
		      .rtm_scope = RT_SCOPE_UNIVERSE,
		      .rtm_type = RTN_UNREACHABLE },
	    ip, NULL);
}

void
namespace_default_by(const char *device)
{
	add_route((struct rtmsg){ .rtm_table = RT_TABLE_MAIN,
		      .rtm_scope = RT_SCOPE_LINK,
		      .rtm_type = RTN_UNICAST },
	    NULL, device);
}

void
namespace_make_local(const char *prefix)
{
	add_route((struct rtmsg){ .rtm_table = RT_TABLE_LOCAL,
		      .rtm_scope = RT_SCOPE_HOST,
		      .rtm_type = RTN_LOCAL },
	    prefix, "lo");
}

static bool
own_mounts(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

void
namespace_hide(const char *path)
{
	IT_MUST(own_mounts() && mount("none", path, "tmpfs", 0, NULL) == 0,
	    "mount on %s: %s", path, strerror(errno));
}

void
namespace_replace_file(const char *path, const char *text)
{
	char name[] = "/tmp/fourfold-file-XXXXXX";
	int fd = mkstemp(name);

	IT_MUST(fd >= 0 &&
		    write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
		    fchmod(fd, 0644) == 0,
	    "%s: %s", name, strerror(errno));
	close(fd);
	IT_MUST(own_mounts() && mount(name, path, NULL, MS_BIND, NULL) == 0,
	    "mount on %s: %s", path, strerror(errno));
	unlink(name);
}
