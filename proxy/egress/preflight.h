/* SPDX-License-Identifier: ISC */
/*
 * preflight: does this host let us? Reads the sysctls and tries the socket
 * options that source ports depend on, and makes pools of [egress] sections'
 * words: which port is bound how.
 */
#ifndef FOURFOLD_PREFLIGHT_H
#define FOURFOLD_PREFLIGHT_H

#include "egress/pool.h"

/* A bit for each port, number % 8 of byte number / 8. */
#define PREFLIGHT_PORT_BYTES (65536 / 8)

#define PREFLIGHT_RELEASE_MAX 64

struct preflight_host {
	uint16_t port_first, port_last; /* net.ipv4.ip_local_port_range */
	uint16_t unprivileged_first; /* net.ipv4.ip_unprivileged_port_start */
	uint8_t reserved[PREFLIGHT_PORT_BYTES]; /* ip_local_reserved_ports */
	int tw_reuse;          /* net.ipv4.tcp_tw_reuse: 0, 1, 2 */
	int64_t tw_reuse_ms;   /* tcp_tw_reuse_delay, Linux 6.14 and later */
	int64_t tw_buckets;    /* tcp_max_tw_buckets */
	bool timestamps;       /* net.ipv4.tcp_timestamps */
	bool range_option;     /* IP_LOCAL_PORT_RANGE: Linux 6.3 and later */
	bool no_port_option;   /* IP_BIND_ADDRESS_NO_PORT: 4.2 and later */
	int64_t somaxconn;     /* net.core.somaxconn */
	int64_t conntrack_max; /* nf_conntrack_max; 0: no limit; -1: not there
				*/
	int64_t files_max;     /* fs.file-max, of all processes together */
	int64_t files_allowed; /* fs.nr_open: what a hard limit can be */
	/* Descriptors of this process; UINT64_MAX: no limit. */
	uint64_t files_soft, files_hard;
	uint64_t memory; /* MemAvailable, in bytes; 0: not known */
	char release[PREFLIGHT_RELEASE_MAX + 1]; /* of the kernel; "" */
};

/* Reads the host: its files, and which options its kernel takes. Missing files
 * leave the kernel's defaults. */
void preflight_read(struct preflight_host *host);

/* The files alone, below the folder `root` ("": the real ones). */
void preflight_read_from(const char *root, struct preflight_host *host);

/* How an [egress] section wants its ports bound. */
enum preflight_bind {
	PREFLIGHT_AUTO,
	PREFLIGHT_RANGE,
	PREFLIGHT_EXPLICIT,
	PREFLIGHT_KERNEL,
};

struct preflight_ports {
	uint16_t first, last;
};

/* What an [egress] section says, borrowed. */
struct preflight_wish {
	const char *name;
	const struct prefix *addresses; /* none: by route, both families */
	size_t address_count;
	const struct preflight_ports *ports; /* none: auto */
	size_t port_count;
	enum preflight_bind bind;
	/* Own listening ports, which no pool may hold. */
	const uint16_t *own_ports;
	size_t own_port_count;
};

/*
 * Makes the pool. 0, or -EINVAL with a sentence in `error` for each thing that
 * stands in the way, one a line, with the command which mends it behind "this
 * mends it: ". `warning` gets such lines, too, or "". Both have `size` bytes;
 * 2048 is plenty.
 *
 * range option there, port inside ip_local_port_range and not reserved: RANGE.
 * Otherwise bind=range is an error, bind=auto takes EXPLICIT with a warning.
 * ports=auto: the host's range without reserved and own ports. An own
 * listening port inside named ports is an error, and so is a port that takes
 * privileges, since workers have none. An address that is not local
 * (bind() tried; for prefixes, a look at the local routes and bind() to the
 * first and the last address, with IPV6_FREEBIND for IPv6) is an error that
 * names the command which makes it so; and so is one that is a broadcast
 * address, since the kernel would take another one in its place. An
 * unspecified address is "by route" for its family.
 */
MUST_USE int preflight_pool(const struct preflight_host *host,
    const struct preflight_wish *wish, struct pool *out, char *error,
    char *warning, size_t size);

/* The pure part of it: decides by `host` alone, takes any address as local. */
MUST_USE int preflight_plan(const struct preflight_host *host,
    const struct preflight_wish *wish, struct pool *out, char *error,
    char *warning, size_t size);

/* Adds the line "egress NAME: ..." to `text` of `size` bytes, cut where it does
 * not fit. */
void preflight_say(char *text, size_t size, const char *name,
    const char *format, ...) PRINTF_LIKE(4, 5);

/* "20000-29999,40000" of all ports whose bit is set; false, and "..." at the
 * end, when it does not fit. `size` is more than 20. */
bool preflight_format_ports(
    const uint8_t bits[PREFLIGHT_PORT_BYTES], char *text, size_t size);

/* A list as in ip_local_reserved_ports, "8080,9000-9010\n", to a bit a port;
 * -EINVAL when it is none. */
MUST_USE int preflight_parse_ports(
    const char *text, uint8_t bits[PREFLIGHT_PORT_BYTES]);

#endif
