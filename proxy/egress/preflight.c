/* SPDX-License-Identifier: ISC */
#include "egress/preflight.h"

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostnet.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

#define SYSCTL_DIR "/proc/sys/net/ipv4/"

/* The list of reserved ports has 384 KiB at its longest. */
#define SYSCTL_BYTES (512 * 1024)

/* What Linux has where nothing else was set. */
#define PORT_FIRST         32768
#define PORT_LAST          60999
#define UNPRIVILEGED_FIRST 1024
#define TW_REUSE           2

/* The whole of the file, to be freed; NULL when there is none. */
static char *
read_sysctl(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	size_t used = 0;
	ssize_t len = 1;

	if (fd < 0)
		return NULL;
	text = malloc(SYSCTL_BYTES);
	while (text != NULL && len > 0 && used < SYSCTL_BYTES - 1) {
		len = read(fd, text + used, SYSCTL_BYTES - 1 - used);
		if (len > 0)
			used += (size_t)len;
	}
	close(fd);
	if (text != NULL)
		text[used] = '\0';
	return text;
}

static int
read_number(const char *path, int otherwise)
{
	char *text = read_sysctl(path);
	int value;

	if (text == NULL || sscanf(text, "%d", &value) != 1)
		value = otherwise;
	free(text);
	return value;
}

static void
read_port_range(struct preflight_host *host)
{
	char *text = read_sysctl(SYSCTL_DIR "ip_local_port_range");
	unsigned first, last;

	if (text != NULL && sscanf(text, "%u %u", &first, &last) == 2 &&
	    first <= last && last <= UINT16_MAX) {
		host->port_first = (uint16_t)first;
		host->port_last = (uint16_t)last;
	}
	free(text);
}

static void
read_reserved(struct preflight_host *host)
{
	char *text = read_sysctl(SYSCTL_DIR "ip_local_reserved_ports");

	/* What cannot be read reserves nothing; connect() will tell. */
	if (text != NULL && preflight_parse_ports(text, host->reserved) != 0)
		memset(host->reserved, 0, sizeof(host->reserved));
	free(text);
}

static void
probe_options(struct preflight_host *host)
{
	const uint32_t range = host->port_first | (uint32_t)host->port_last
						      << 16;
	const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	host->range_option = setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE,
				 &range, sizeof(range)) == 0;
	host->no_port_option =
	    setsockopt(
		fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) == 0;
	close(fd);
}

void
preflight_read(struct preflight_host *host)
{
	memset(host, 0, sizeof(*host));
	host->port_first = PORT_FIRST;
	host->port_last = PORT_LAST;
	read_port_range(host);
	read_reserved(host);
	host->unprivileged_first = (uint16_t)read_number(
	    SYSCTL_DIR "ip_unprivileged_port_start", UNPRIVILEGED_FIRST);
	host->tw_reuse = read_number(SYSCTL_DIR "tcp_tw_reuse", TW_REUSE);
	host->timestamps = read_number(SYSCTL_DIR "tcp_timestamps", 1) != 0;
	probe_options(host);
}

static int
try_bind(const struct addr *a, bool freebind)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(addr_domain(a), SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;
	int error = 0;

	if (fd < 0)
		return -errno;
	/* Without this the bind would take a port, and could lack one. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (freebind &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on)) != 0)
		error = -errno;
	if (error == 0 && bind(fd, (const struct sockaddr *)&ss, len) != 0)
		error = -errno;
	close(fd);
	return error;
}

static bool
is_single(const struct prefix *p)
{
	return p->bits == (p->base.family == ADDR_V4 ? 32 : 128);
}

/*
 * A single address: what bind() says, which is also right for one that
 * ip_nonlocal_bind lets through on purpose. Of an IPv6 route of type local
 * bind() wants IPV6_FREEBIND, which lets anything through: so the routes
 * decide there, as they do for all addresses of a prefix at once.
 */
static int
check_source(const struct hostnet *net, const struct prefix *p)
{
	bool is_v6 = p->base.family == ADDR_V6;
	int error = 0;

	if (addr_is_unspecified_ip(&p->base))
		return 0;
	if (is_single(p)) {
		error = try_bind(&p->base, false);
		if (error == 0 || !is_v6)
			return error;
	}
	if (!hostnet_covers(net, p))
		return error != 0 ? error : -EADDRNOTAVAIL;
	return try_bind(&p->base, is_v6);
}

static int
fail_source(const struct preflight_wish *wish, const struct prefix *p,
    int error, char *text, size_t size)
{
	bool is_v6 = p->base.family == ADDR_V6;
	char what[ADDR_TEXT_MAX], prefix[ADDR_TEXT_MAX];

	prefix_format(p, prefix);
	addr_format_ip(&p->base, what);
	if (error != -EADDRNOTAVAIL)
		snprintf(text, size, "egress %s: %s cannot be bound: %s",
		    wish->name, is_single(p) ? what : prefix, strerror(-error));
	else if (is_single(p))
		snprintf(text, size,
		    "egress %s: %s is not an address of this host;"
		    " this mends it: ip address add %s dev lo",
		    wish->name, what, prefix);
	else
		snprintf(text, size,
		    "egress %s: not all of %s is local to this host;"
		    " this mends it: ip%s route add local %s dev lo",
		    wish->name, prefix, is_v6 ? " -6" : "", prefix);
	return -EINVAL;
}

static int
check_sources(const struct preflight_wish *wish, char *text, size_t size)
{
	struct hostnet net;
	int error, result = 0;

	hostnet_init(&net);
	error = hostnet_refresh(&net, 0, 0);
	if (error != 0) {
		snprintf(text, size,
		    "egress %s: the local routing table cannot be read: %s",
		    wish->name, strerror(-error));
		return -EINVAL;
	}
	for (size_t i = 0; i < wish->address_count && result == 0; i++) {
		error = check_source(&net, &wish->addresses[i]);
		if (error != 0)
			result = fail_source(
			    wish, &wish->addresses[i], error, text, size);
	}
	hostnet_fini(&net);
	return result;
}

int
preflight_pool(const struct preflight_host *host,
    const struct preflight_wish *wish, struct pool *out, char *error,
    char *warning, size_t size)
{
	struct pool pool;
	int result = preflight_plan(host, wish, &pool, error, warning, size);

	if (result == 0 && wish->address_count != 0)
		result = check_sources(wish, error, size);
	if (result == 0)
		*out = pool;
	return result;
}
