/* SPDX-License-Identifier: ISC */
/*
 * The part of preflight that reads the host.
 */
#include <sys/socket.h>

#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostfile.h"
#include "egress/preflight.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define IPV4_DIR "/proc/sys/net/ipv4/"

/* What Linux has where nothing else was set. */
#define PORT_FIRST         32768
#define PORT_LAST          60999
#define UNPRIVILEGED_FIRST 1024
#define TW_REUSE           2
#define TW_REUSE_MS        1000
#define TW_BUCKETS         131072
#define SOMAXCONN_LINUX    4096
#define FILES_ALLOWED      1048576

static void
read_port_range(const char *root, struct preflight_host *host)
{
	char *text = hostfile_read(root, IPV4_DIR "ip_local_port_range");
	unsigned first, last;

	if (text != NULL && sscanf(text, "%u %u", &first, &last) == 2 &&
	    first <= last && last <= UINT16_MAX) {
		host->port_first = (uint16_t)first;
		host->port_last = (uint16_t)last;
	}
	free(text);
}

static void
read_reserved(const char *root, struct preflight_host *host)
{
	char *text = hostfile_read(root, IPV4_DIR "ip_local_reserved_ports");

	/* What cannot be read reserves nothing; connect() will tell. */
	if (text != NULL && preflight_parse_ports(text, host->reserved) != 0)
		memset(host->reserved, 0, sizeof(host->reserved));
	free(text);
}

/* The words behind `name`, at the beginning of a line; "" when there are none.
 */
static const char *
find_line(const char *text, const char *name)
{
	size_t len = strlen(name);

	while (text != NULL && strncmp(text, name, len) != 0) {
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	return text != NULL ? text + len : "";
}

static uint64_t
parse_limit(const char *word)
{
	uint64_t value;

	return sscanf(word, "%" SCNu64, &value) == 1 ? value : UINT64_MAX;
}

static void
read_limits(const char *root, struct preflight_host *host)
{
	char *text = hostfile_read(root, "/proc/self/limits");
	char soft[32], hard[32];

	host->files_soft = host->files_hard = UINT64_MAX;
	if (sscanf(find_line(text, "Max open files"), "%31s %31s", soft,
		hard) == 2) {
		host->files_soft = parse_limit(soft);
		host->files_hard = parse_limit(hard);
	}
	free(text);
}

static void
read_memory(const char *root, struct preflight_host *host)
{
	char *text = hostfile_read(root, "/proc/meminfo");
	uint64_t kb;

	if (sscanf(find_line(text, "MemAvailable:"), "%" SCNu64, &kb) == 1)
		host->memory = kb * 1024;
	free(text);
}

static void
read_release(const char *root, struct preflight_host *host)
{
	char *text = hostfile_read(root, "/proc/sys/kernel/osrelease");

	if (text != NULL)
		text[strcspn(text, "\n")] = '\0';
	strcpy_bounded(
	    host->release, sizeof(host->release), text != NULL ? text : "");
	free(text);
}

void
preflight_read_from(const char *root, struct preflight_host *host)
{
	memset(host, 0, sizeof(*host));
	host->port_first = PORT_FIRST;
	host->port_last = PORT_LAST;
	read_port_range(root, host);
	read_reserved(root, host);
	host->unprivileged_first = (uint16_t)hostfile_number(
	    root, IPV4_DIR "ip_unprivileged_port_start", UNPRIVILEGED_FIRST);
	host->tw_reuse =
	    (int)hostfile_number(root, IPV4_DIR "tcp_tw_reuse", TW_REUSE);
	host->tw_reuse_ms =
	    hostfile_number(root, IPV4_DIR "tcp_tw_reuse_delay", TW_REUSE_MS);
	host->tw_buckets =
	    hostfile_number(root, IPV4_DIR "tcp_max_tw_buckets", TW_BUCKETS);
	host->timestamps =
	    hostfile_number(root, IPV4_DIR "tcp_timestamps", 1) != 0;
	host->somaxconn = hostfile_number(
	    root, "/proc/sys/net/core/somaxconn", SOMAXCONN_LINUX);
	host->conntrack_max = hostfile_number(
	    root, "/proc/sys/net/netfilter/nf_conntrack_max", -1);
	host->files_max =
	    hostfile_number(root, "/proc/sys/fs/file-max", INT64_MAX);
	host->files_allowed =
	    hostfile_number(root, "/proc/sys/fs/nr_open", FILES_ALLOWED);
	read_limits(root, host);
	read_memory(root, host);
	read_release(root, host);
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
	preflight_read_from("", host);
	probe_options(host);
}
