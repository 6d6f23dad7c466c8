/* SPDX-License-Identifier: ISC */
/*
 * config_parse: what the files of config share, and nobody else includes.
 *
 * config.c has the table of options and all that follows from it, config_read.c
 * reads a text into sections, config_values.c turns a value's text into what
 * the snapshot holds, and config_check.c judges the sections together. A
 * section is a draft: it owns its data until all are found good and are moved
 * into the snapshot.
 */
#ifndef FOURFOLD_CONFIG_PARSE_H
#define FOURFOLD_CONFIG_PARSE_H

#include "policy/config.h"

enum section_kind {
	SECTION_PROXY,
	SECTION_LISTEN,
	SECTION_EGRESS,
	SECTION_USER,
	SECTION_LIMITS,
	SECTION_TIMEOUTS,
	SECTION_RELAY,
	SECTION_ALARMS,
	SECTION_CONTROL,
	SECTION_LOG,
	SECTION_KINDS,
};

/* Those of a section follow each other, as in the table. */
enum option_id {
	OPTION_WORKERS,
	OPTION_MAX_SESSIONS,
	OPTION_PROXY_USER,
	OPTION_DRAIN_TIMEOUT,
	OPTION_ADDRESS,
	OPTION_AUTH,
	OPTION_CLIENTS,
	OPTION_OPEN,
	OPTION_BACKLOG,
	OPTION_DEFER_ACCEPT,
	OPTION_SOCKET_MODE,
	OPTION_EGRESS,
	OPTION_ADDRESSES,
	OPTION_PORTS,
	OPTION_BIND,
	OPTION_ORDER,
	OPTION_STICKY,
	OPTION_COOLDOWN,
	OPTION_WAIT,
	OPTION_QUEUE,
	OPTION_PASSWORD,
	OPTION_USER_SESSIONS, /* of one user; LIMITS_USER_: of all */
	OPTION_USER_RATE,
	OPTION_USER_SHARE,
	OPTION_RESERVE,
	OPTION_CLIENT_PREFIX_V4,
	OPTION_CLIENT_PREFIX_V6,
	OPTION_CLIENT_SESSIONS,
	OPTION_CLIENT_RATE,
	OPTION_CLIENT_SHARE,
	OPTION_LIMITS_USER_SESSIONS,
	OPTION_LIMITS_USER_RATE,
	OPTION_LIMITS_USER_SHARE,
	OPTION_HANDSHAKE,
	OPTION_CONNECT,
	OPTION_HALF_CLOSED,
	OPTION_IDLE,
	OPTION_KEEPALIVE,
	OPTION_SPLICE,
	OPTION_BUFFER,
	OPTION_MAX_BUFFER_MEMORY,
	OPTION_ALARM_TARGET,
	OPTION_ALARM_CRITICAL,
	OPTION_ALARM_EXHAUSTION,
	OPTION_ALARM_COOLING,
	OPTION_ALARM_STRANGERS,
	OPTION_ALARM_DESCRIPTORS,
	OPTION_CONTROL_SOCKET,
	OPTION_CONTROL_MODE,
	OPTION_CONTROL_GROUP,
	OPTION_LEVEL,
	OPTION_ACCESS,
	OPTION_COUNT,
	OPTION_NONE = OPTION_COUNT,
};

struct option;

#define WORDS_MAX 160

/* One value, or one element of a list, on its way into the snapshot. */
struct value {
	const struct option *option;
	const char *text;
	unsigned line;
	unsigned elements; /* of the list, accepted before this one */
	void *field;       /* of a list: the pointer to its elements */
	size_t *count;     /* of a list */
	char *reference;   /* CONFIG_NAME_MAX + 1 bytes of the section */
	char *words;       /* WORDS_MAX bytes, for a parser's own message */
};

/* NULL, or what is wrong with the text, to be read behind it: "has no unit".
 * It never repeats the text. It is constant, or in `words`. */
typedef const char *value_parser(const struct value *v);

struct option {
	enum section_kind kind;
	const char *key;
	const char *form;     /* what a value looks like; drives the choices */
	const char *fallback; /* the default, parsed like any text, or NULL */
	const char *absent;   /* without a fallback: what absence means */
	const char *meaning;
	value_parser *parse;
	size_t offset;
	size_t count_offset; /* of a list */
	uint64_t min, max;   /* of numbers, percent, ms; max of a list's
				elements */
	bool list;
	bool required;
	bool secret; /* its value is never repeated in a message */
};

struct kind {
	const char *word;
	enum option_id first, end; /* its options */
	size_t bytes; /* of its data; 0: it is in the config itself, and the
			 section has no name */
	const char *meaning;
};

/* What became of an option in a section. */
struct setting {
	unsigned line;     /* 0: not set */
	unsigned elements; /* accepted; 1 for a scalar */
	bool failed;       /* an error was reported: draw no conclusions */
};

struct section {
	enum section_kind kind;
	unsigned line; /* 0: built in */
	bool duplicate;
	char name[256];
	char reference[CONFIG_NAME_MAX + 1]; /* the text of egress= */
	/* What the options' offsets are in: the config, or its own listen,
	 * egress or user. */
	void *data;
	struct setting settings[]; /* those of its kind, see config_setting() */
};

struct section_list {
	struct section **items;
	size_t count;
};

struct config_error {
	unsigned line;
	size_t order; /* in which it was found */
	char *text;
};

struct parse {
	const char *file;
	struct config *config;
	struct section_list kinds[SECTION_KINDS];
	struct config_error *errors;
	size_t error_count;
	bool no_memory;

	/* The reader: what is left of the text, and the line before it. */
	const char *next, *end;
	unsigned line;
	bool indented;
	bool awaited; /* the line was handed to inih, its handler must come */
	bool cut;     /* the line is too long: its value is not to be used */

	struct section *section; /* NULL: none yet, or unknown */
	bool in_unknown;         /* section: its lines are not looked at */
	bool has_key;            /* an indented line continues something */
	enum option_id option;   /* what it continues; NONE: not looked at */
};

/* The text of a value for a message: printable, bounded, no hash. */
#define QUOTE_MAX 72
const char *config_quote(const char *text, char out[QUOTE_MAX]);

void config_error(struct parse *p, unsigned line, const char *format, ...)
    PRINTF_LIKE(3, 4);

const struct option *config_option(enum option_id id);
const struct kind *config_kind(enum section_kind kind);

/* A section with its data, at the end of its kind's; NULL without memory. */
struct section *config_add_section(
    struct parse *p, enum section_kind kind, const char *name, unsigned line);

/* Parses the value, or the elements of a list in it. */
void config_set_option(struct parse *p, struct section *s, enum option_id id,
    const char *text, unsigned line);

struct setting *config_setting(struct section *s, enum option_id id);

/* One more element of `size` bytes, zeroed, at the end of the array whose
 * pointer is at `array`; NULL without memory, and nothing is changed. */
void *config_append(void *array, size_t *count, size_t size);

/* How likely `a` was meant to be `b`: edits between them, case aside. */
unsigned config_distance(const char *a, const char *b);
#define CONFIG_DISTANCE_MAX 2 /* more is not a spelling mistake */

bool config_ports_overlap(struct config_ports a, struct config_ports b);

value_parser config_value_auto_number, config_value_number,
    config_value_number_or_off, config_value_percent_or_off, config_value_mode,
    config_value_duration, config_value_duration_or_off,
    config_value_auto_duration, config_value_size, config_value_bool,
    config_value_choice, config_value_account, config_value_reference,
    config_value_address, config_value_path_or_off, config_value_client,
    config_value_source, config_value_ports, config_value_hash;

/* A name of a [listen] or [egress]: what is wrong with it, or NULL. */
const char *config_check_name(const char *name);

/* Reads `text` into sections. */
void config_read(struct parse *p, const char *text, size_t len);

/* Judges the sections together; resolves egress=, gives users the limits that
 * they have none of their own of. */
void config_check(struct parse *p);

#endif
