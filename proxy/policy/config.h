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

/* What max-sessions and limits on sessions can be. */
#define CONFIG_SESSIONS_MAX 10000000

/* Workers of one generation. A reload starts as many beside those that are
 * there, and all have ids of their own, of 8 bits. */
#define CONFIG_WORKERS_MAX 127

enum config_bind {
	CONFIG_BIND_AUTO,
	CONFIG_BIND_RANGE,
	CONFIG_BIND_EXPLICIT,
	CONFIG_BIND_KERNEL,
};

enum config_order { CONFIG_ORDER_PACKED, CONFIG_ORDER_HASHED };

enum config_sticky {
	CONFIG_STICKY_NONE,
	CONFIG_STICKY_CLIENT,
	CONFIG_STICKY_USER,
};

enum config_splice {
	CONFIG_SPLICE_NO,
	CONFIG_SPLICE_YES,
	CONFIG_SPLICE_AUTO,
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
	bool defer_accept;
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
	enum config_order order;
	enum config_sticky sticky;
	uint64_t cooldown_ms; /* CONFIG_AUTO_MS: by what the kernel does */
	uint64_t wait_ms;     /* for a full target; 0: refused at once */
	unsigned queue;       /* waiting sessions a target */
};

#define CONFIG_AUTO_MS UINT64_MAX

/* What one client or user may have; 0: no limit. */
struct config_limit {
	unsigned sessions; /* at once */
	unsigned rate;     /* new ones a second */
	unsigned share;    /* of each target's slots, in percent */
};

struct config_user {
	char name[256];
	unsigned line;
	char *password;            /* as in the file: an auth hash */
	struct config_limit limit; /* its own, or what [limits] says */
	unsigned reserve; /* slots of each target that are kept for it */
	uint16_t id; /* set by the master: a name keeps its id while it runs */
};

/* What raises an alarm, in percent; 0: off. */
struct config_alarms {
	unsigned target, target_critical; /* of a target's slots */
	unsigned cooling;                 /* of a pool's slots in use */
	unsigned strangers;               /* of a pool's ports */
	unsigned descriptors;             /* of what a worker may have */
	uint64_t exhaustion_ms; /* a target full sooner than this; 0: off */
};

struct config {
	unsigned workers;               /* 0: auto */
	unsigned max_sessions;          /* 0: auto */
	char user[CONFIG_NAME_MAX + 1]; /* "": auto */
	uint64_t drain_ms;

	uint64_t handshake_ms, connect_ms, half_closed_ms;
	uint64_t idle_ms;      /* 0: off */
	uint64_t keepalive_ms; /* 0: off */

	enum config_splice splice;
	uint64_t buffer_bytes;     /* kept for a slow side, a direction */
	uint64_t max_buffer_bytes; /* for all of a worker */

	enum log_level log_level;
	bool log_access;

	/* Clients whose addresses agree in so many bits are one client. */
	unsigned client_bits_v4, client_bits_v6;
	struct config_limit client_limit; /* of each client */
	struct config_limit user_limit; /* of users without one of their own */

	struct config_alarms alarms;

	/* The control socket; "": none. Without a line in the file it is only
	 * made where that is possible. */
	char control_path[CONFIG_PATH_MAX + 1];
	unsigned control_mode;
	char control_group[CONFIG_NAME_MAX + 1]; /* "": auto */
	bool control_asked;                      /* the file names the path */

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

/*
 * The control socket alone ("": off), whatever else is wrong with the text: for
 * those who ask a Fourfold that runs by an earlier one. The default, where it
 * cannot be made out.
 */
void config_find_control(
    const char *text, size_t len, char path[CONFIG_PATH_MAX + 1]);

/* The user of that name, or NULL; names are compared as bytes. */
const struct config_user *config_find_user(
    const struct config *c, const char *name, size_t len);

/* For --help-options: every section and option, its form, default, meaning. */
void config_describe(FILE *out);

#endif
