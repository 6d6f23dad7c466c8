/* SPDX-License-Identifier: ISC */
/*
 * sockets: the listening sockets, held by the master for as long as the
 * configuration wants them, so that what the kernel has queued on them survives
 * workers and reloads.
 *
 * An address has one SO_REUSEPORT socket a worker slot; a unix socket has one
 * for all workers. Slots are never taken away from a set that is in use.
 */
#ifndef FOURFOLD_SOCKETS_H
#define FOURFOLD_SOCKETS_H

#include "policy/config.h"
#include "service/unixpath.h"

struct endpoint {
	struct addr asked;  /* the ip and port of the file; port may be 0 */
	struct addr actual; /* with the real port; family NONE: a unix socket */
	char path[CONFIG_PATH_MAX + 1];
	struct unixpath file; /* of the unix socket */
	size_t listen;        /* index in the configuration's listens */
	int *fds;             /* one a slot; a unix socket has one */
	size_t fd_count;
	bool kept; /* taken over by the set that comes after this one */
};

struct sockets {
	struct endpoint *endpoints;
	size_t count;
};

/*
 * Makes the set that `config` wants for `slots` slots: endpoints of `old` that
 * are still wanted are shared with it, others are opened: bound, which reserves
 * the address, but not listening. On error nothing is changed, and `error` says
 * in words what failed (address and reason).
 */
MUST_USE int sockets_open(struct sockets *out, const struct config *config,
    unsigned slots, struct sockets *old, char *error, size_t size);

/* Listens on the sockets of `slot`, and on the unix sockets, as `config` says:
 * somebody is there to accept. Once more does no harm. A negative errno. */
MUST_USE int sockets_listen(
    const struct sockets *s, const struct config *config, unsigned slot);

/* `new` stays; what `old` alone has is closed, and its unix sockets removed. */
void sockets_commit(struct sockets *old);

/* The opposite: what `new` opened is closed and `old` is as it was. */
void sockets_abandon(struct sockets *new, struct sockets *old);

/* Closes everything; `remove_paths`: unix sockets are also removed. */
void sockets_close(struct sockets *s, bool remove_paths);

size_t sockets_fd_count(const struct sockets *s);

#endif
