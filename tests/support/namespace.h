/* SPDX-License-Identifier: ISC */
/*
 * namespace: network namespaces of a test's own, where every port is its own
 * and the sysctls can be set. As root, or as any user who may make user
 * namespaces.
 *
 * A namespace belongs to the calling thread and what it starts later; sockets
 * stay in the one they were made in.
 */
#ifndef FOURFOLD_TESTS_NAMESPACE_H
#define FOURFOLD_TESTS_NAMESPACE_H

#include "base/addr.h"

/* Can this process have them? Asks a child, changes nothing. */
bool namespace_available(void);

/* Enters a user namespace, unless root. Before there is a second thread. */
void namespace_become_able(void);

/*
 * Enters a new network namespace with lo up. Ports that the kernel chooses come
 * from 20000-29999, until namespace_port_range().
 */
void namespace_enter(void);

/* net.ipv4.ip_local_port_range. */
void namespace_port_range(unsigned first, unsigned last);

/*
 * A stage for source ports: a new namespace in which `t` listens (below 30000)
 * and ip_local_port_range is first-last.
 */
struct target;
void namespace_enter_with_ports(
    struct target *t, unsigned first, unsigned last);

/* Writes a file below /proc/sys/net. */
void namespace_sysctl(const char *name, const char *value);

/* The namespace of this thread, as a descriptor; and into that one. */
int namespace_here(void);
void namespace_go(int ns);

/*
 * Makes a veth pair: `name` here with address `here` of a /24, its peer under
 * the same name in namespace `there_ns` with address `there`; both up.
 */
void namespace_veth(
    const char *name, const char *here, int there_ns, const char *there);

/* Adds an address (IPv4 /32) to lo. */
void namespace_add_address(const char *ip);

/* A route on which the kernel says EHOSTUNREACH. */
void namespace_unreachable(const char *ip);

/* A local route by lo: all addresses of the prefix are this host's. */
void namespace_make_local(const char *prefix);

/* A default route by the device, so that foreign addresses have a route. */
void namespace_default_by(const char *device);

/* Replaces the file `path` for this thread and what it starts (a mount
 * namespace and a bind mount of a file with `text`). */
void namespace_replace_file(const char *path, const char *text);

/* Puts an empty folder over the folder `path`, in the same way. */
void namespace_hide(const char *path);

#endif
