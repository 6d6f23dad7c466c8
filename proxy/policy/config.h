/* SPDX-License-Identifier: ISC */
/*
 * config: the configuration file as one immutable snapshot.
 *
 * One table of options drives the parser, the defaults, --help-options and the
 * tests. Pure: it reads text, not files. All errors of a file are found in one
 * run; a snapshot comes out only when there is none.
 */
#ifndef FOURFOLD_CONFIG_H
#define FOURFOLD_CONFIG_H

#include <stdio.h>

#include "base/addr.h"
#include "base/log.h"

#define CONFIG_NAME_MAX 32
#define CONFIG_PATH_MAX 107 /* sun_path without its NUL */

enum config_bind {
	CONFIG_BIND_AUTO,
	CONFIG_BIND_RANGE,
	CONFIG_BIND_EXPLICIT,
	CONFIG_BIND_KERNEL,
};

struct config_ports {
	uint16_t first, last;
};

/* Where a listener listens: an ip and one or more ports, or a path. */
struct config_address {
	struct addr ip;            /* family NONE: `path` */
	struct config_ports ports; /* 0-0: any one port that is free */
	char path[CONFIG_PATH_MAX + 1];
	unsigned line;
};

struct config_listen {
	char name[CONFIG_NAME_MAX + 1];
	unsigned line; /* of the section; 0: built in */
	struct config_address *addresses;
	size_t address_count;
	bool password; /* auth=password; else none */
	struct prefix *clients;
	size_t client_count; /* 0: all */
	bool open;
	unsigned backlog;
	unsigned socket_mode; /* of unix sockets */
	size_t egress;        /* index in `egresses` */
};

struct config_egress {
	char name[CONFIG_NAME_MAX + 1];
	unsigned line;
	struct prefix *addresses;
	size_t address_count; /* 0: by route */
	struct config_ports *ports;
	size_t port_count; /* 0: auto */
	enum config_bind bind;
};

struct config_user {
	char name[256];
	unsigned line;
	char *password; /* as in the file: an auth hash */
};

struct config {
	unsigned workers;               /* 0: auto */
	unsigned max_sessions;          /* 0: auto */
	char user[CONFIG_NAME_MAX + 1]; /* "": auto */
	uint64_t drain_ms;

	uint64_t handshake_ms, connect_ms, half_closed_ms;
	uint64_t idle_ms;      /* 0: off */
	uint64_t keepalive_ms; /* 0: off */

	enum log_level log_level;
	bool log_access;

	struct config_listen *listens; /* at least one */
	size_t listen_count;
	struct config_egress *egresses; /* at least one */
	size_t egress_count;
	struct config_user *users; /* sorted by name */
	size_t user_count;
};

/*
 * Parses `text` (the file `file`, for messages). NULL text: the built-in
 * defaults alone. On success 0 and a snapshot for config_free(). Otherwise
 * -EINVAL, and every error of the file was written to `errors` as a line
 * "FILE:LINE: what is wrong, and what was expected". A password never is.
 * -ENOMEM, and a line that says so, without memory.
 */
MUST_USE int config_parse(const char *file, const char *text, size_t len,
    FILE *errors, struct config **out);

void config_free(struct config *c);

/* The user of that name, or NULL; names are compared as bytes. */
const struct config_user *config_find_user(
    const struct config *c, const char *name, size_t len);

/* For --help-options: every section and option, its form, default, meaning. */
void config_describe(FILE *out);

#endif
