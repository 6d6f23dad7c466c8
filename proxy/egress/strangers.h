/* SPDX-License-Identifier: ISC */
/*
 * strangers: other programs' sockets on ports of ours: who they are, as far as
 * the kernel tells. It decides nothing and keeps nothing.
 *
 * A worker asks for one port, by sock_diag, which is quick. `fourfold check`
 * asks for all of them, and for the names of the programs, by /proc, which is
 * not.
 */
#ifndef FOURFOLD_STRANGERS_H
#define FOURFOLD_STRANGERS_H

#include "base/addr.h"

#define STRANGER_PROGRAM_MAX 15 /* the kernel's TASK_COMM_LEN, without NUL */

enum stranger_state {
	STRANGER_LISTENS,
	STRANGER_BOUND,     /* bound, neither listening nor connected */
	STRANGER_CONNECTED, /* blocks a port when it was bound to it first */
	STRANGER_GONE,      /* closed; the kernel keeps it for a minute */
};

struct stranger {
	struct addr local;
	enum stranger_state state;
	uint32_t uid; /* whose; 65534 also where a user namespace hides it */
	uint64_t inode;
	int pid;                                /* 0: not known */
	char program[STRANGER_PROGRAM_MAX + 1]; /* "": not known */
};

/* "listens", "bound", "connected", "gone". */
const char *stranger_state_name(enum stranger_state state);

/*
 * The socket that keeps us off the port of `source`, without pid and program:
 * one at its address or at all of them; `anywhere`: or else at another one,
 * which is in the way of who shares the port, and not of who binds it. One that
 * listens, found at once; or else one that is bound, one that another user has
 * connected, one that is gone. For these the kernel looks at every TCP socket,
 * 1.3 us each, and holds locks: so only where it has no more than `look_max`.
 * -ENOENT when there is none to be seen.
 */
MUST_USE int strangers_find(const struct addr *source, bool anywhere,
    uint64_t look_max, struct stranger *out);

/* What a worker may spend: 5 ms. */
#define STRANGERS_LOOK_MAX 4096

struct strangers {
	struct stranger *items;
	size_t count, room;
};

void strangers_init(struct strangers *s);
void strangers_fini(struct strangers *s);
MUST_USE int strangers_add(struct strangers *s, const struct stranger *one);

/* A bit for each port, number % 8 of byte number / 8. */
struct strangers_ports {
	uint8_t any[65536 / 8];     /* all sockets with this local port */
	uint8_t listens[65536 / 8]; /* those that listen */
};

bool strangers_want(const struct strangers_ports *ports, uint16_t port,
    enum stranger_state state);

/*
 * Adds all sockets on `ports`, ours among them, by sock_diag: 0.1 s for 100,000
 * sockets. Those that are only bound are shown by Linux 6.8 and later. A
 * negative errno where the kernel has no sock_diag.
 */
MUST_USE int strangers_ask(
    const struct strangers_ports *ports, struct strangers *s);

/* The same by /proc/net/tcp and tcp6 below `root` ("": the real ones), which is
 * slower and does not show those that are only bound. */
MUST_USE int strangers_read(
    const char *root, const struct strangers_ports *ports, struct strangers *s);

/* Takes those out for which `keep` says no. */
typedef bool strangers_test(const struct stranger *s, void *arg);
void strangers_filter(struct strangers *s, strangers_test *keep, void *arg);

/* Finds pids and programs by /proc/PID/fd, as far as it may be read: the first
 * `links` descriptors of each process, and not more than 50,000 in all. Changes
 * the order. */
void strangers_name(const char *root, struct strangers *s, unsigned links);

/* Does somebody's bind or listen keep connections off the port that would share
 * it? Tries one, on loopback; needs IP_LOCAL_PORT_RANGE with the port inside
 * net.ipv4.ip_local_port_range. */
bool strangers_block(uint16_t port);

#endif
