/* SPDX-License-Identifier: ISC */
/*
 * The table of options, and what follows from it: sections with their values
 * and defaults, the snapshot made of them, the description.
 */
#include "policy/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config_parse.h"
#include "policy/quota.h"

#define MINUTE_MS UINT64_C(60000)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* Elements are compared with those before: a list has to end somewhere. */
#define CLIENTS_MAX   4096
#define ADDRESSES_MAX 256 /* as a pool holds */

#define PROXY_FIELD(m)  offsetof(struct config, m)
#define LISTEN_FIELD(m) offsetof(struct config_listen, m)
#define EGRESS_FIELD(m) offsetof(struct config_egress, m)
#define USER_FIELD(m)   offsetof(struct config_user, m)

static const struct kind kinds[SECTION_KINDS] = {
	[SECTION_PROXY] = { "proxy", OPTION_WORKERS, OPTION_ADDRESS, 0,
	    "The process as a whole." },
	[SECTION_LISTEN] = { "listen", OPTION_ADDRESS, OPTION_ADDRESSES,
	    sizeof(struct config_listen),
	    "Where clients connect, and which clients may; any number." },
	[SECTION_EGRESS] = { "egress", OPTION_ADDRESSES, OPTION_PASSWORD,
	    sizeof(struct config_egress),
	    "The source addresses and ports towards targets; up to 64." },
	[SECTION_USER] = { "user", OPTION_PASSWORD, OPTION_CLIENT_PREFIX_V4,
	    sizeof(struct config_user),
	    "Who may log in where auth=password; up to 65,534." },
	[SECTION_LIMITS] = { "limits", OPTION_CLIENT_PREFIX_V4,
	    OPTION_HANDSHAKE, 0,
	    "What each client and each user may have at most." },
	[SECTION_TIMEOUTS] = { "timeouts", OPTION_HANDSHAKE, OPTION_SPLICE, 0,
	    "How long things may take (500ms, 10s, 5m, 2h, 1d)." },
	[SECTION_RELAY] = { "relay", OPTION_SPLICE, OPTION_ALARM_TARGET, 0,
	    "How bytes are passed on; sizes have a unit (64K, 8M, 2G)." },
	[SECTION_ALARMS] = { "alarms", OPTION_ALARM_TARGET,
	    OPTION_CONTROL_SOCKET, 0,
	    "What is reported before it runs out, and when it has recovered." },
	[SECTION_CONTROL] = { "control", OPTION_CONTROL_SOCKET, OPTION_LEVEL, 0,
	    "The socket that fourfold status, who and top ask." },
	[SECTION_LOG] = { "log", OPTION_LEVEL, OPTION_COUNT, 0,
	    "What is written to standard error." },
};

static const struct option options[OPTION_COUNT] = {
	[OPTION_WORKERS] = { SECTION_PROXY, "workers", "auto|1..127", "auto",
	    NULL,
	    "Worker processes; auto: one a processor, and as many as the "
	    "descriptor limit demands for max-sessions.",
	    config_value_auto_number, PROXY_FIELD(workers), .min = 1,
	    .max = CONFIG_WORKERS_MAX },
	[OPTION_MAX_SESSIONS] = { SECTION_PROXY, "max-sessions",
	    "auto|1..10000000", "auto", NULL,
	    "Sessions held at once by all workers together; auto: what the "
	    "descriptor limit allows.",
	    config_value_auto_number, PROXY_FIELD(max_sessions), .min = 1,
	    .max = CONFIG_SESSIONS_MAX },
	[OPTION_PROXY_USER] = { SECTION_PROXY, "user", "auto|NAME", "auto",
	    NULL,
	    "The account the workers run under when started as root; auto: "
	    "fourfold if it exists, else nobody; unchanged when not root.",
	    config_value_account, .offset = PROXY_FIELD(user) },
	[OPTION_DRAIN_TIMEOUT] = { SECTION_PROXY, "drain-timeout",
	    "DURATION (0s..7d)", "30s", NULL,
	    "How long sessions may go on after a stop before they are cut; a "
	    "reload cuts none.",
	    config_value_duration, PROXY_FIELD(drain_ms), .max = 7 * DAY_MS },

	[OPTION_ADDRESS] = { SECTION_LISTEN, "address",
	    "list of IP:PORT, IP:FIRST-LAST, [IPV6]:PORT, unix:/PATH",
	    "127.0.0.1:1080", NULL,
	    "Where to listen; 0.0.0.0 and [::] are all addresses of their "
	    "family, port 0 is any free port.",
	    config_value_address, LISTEN_FIELD(addresses),
	    LISTEN_FIELD(address_count), .max = ADDRESSES_MAX, .list = true },
	[OPTION_AUTH] = { SECTION_LISTEN, "auth", "none|password", "none", NULL,
	    "Whether a client has to log in as one of the [user] sections.",
	    config_value_bool, LISTEN_FIELD(password), .secret = true },
	[OPTION_CLIENTS] = { SECTION_LISTEN, "clients", "list of IP, IP/LENGTH",
	    NULL, "all clients", "Who may connect; others are closed at once.",
	    config_value_client, LISTEN_FIELD(clients),
	    LISTEN_FIELD(client_count), .max = CLIENTS_MAX, .list = true },
	[OPTION_OPEN] = { SECTION_LISTEN, "open", "no|yes", "no", NULL,
	    "Whether it may be open to everybody: beyond loopback with "
	    "neither auth=password nor clients=.",
	    config_value_bool, .offset = LISTEN_FIELD(open) },
	[OPTION_BACKLOG] = { SECTION_LISTEN, "backlog", "1..65535", "4096",
	    NULL,
	    "Clients that may wait to be accepted on each socket "
	    "(net.core.somaxconn may allow less).",
	    config_value_number, LISTEN_FIELD(backlog), .min = 1,
	    .max = 65535 },
	[OPTION_DEFER_ACCEPT] = { SECTION_LISTEN, "defer-accept", "no|yes",
	    "no", NULL,
	    "Whether a client is accepted only when its first bytes are there "
	    "(TCP_DEFER_ACCEPT): less work for each of many short sessions.",
	    config_value_bool, .offset = LISTEN_FIELD(defer_accept) },
	[OPTION_SOCKET_MODE] = { SECTION_LISTEN, "socket-mode", "0000..0777",
	    "0666", NULL, "The file mode of unix sockets, octal.",
	    config_value_mode, .offset = LISTEN_FIELD(socket_mode) },
	[OPTION_EGRESS] = { SECTION_LISTEN, "egress", "NAME", NULL,
	    "the first [egress]",
	    "The [egress] section its sessions leave through.",
	    config_value_reference, .offset = LISTEN_FIELD(egress) },

	[OPTION_ADDRESSES] = { SECTION_EGRESS, "addresses",
	    "list of IP, IP/LENGTH", NULL, "by route: the kernel chooses",
	    "The source addresses; each must be this host's.",
	    config_value_source, EGRESS_FIELD(addresses),
	    EGRESS_FIELD(address_count), .max = ADDRESSES_MAX, .list = true },
	[OPTION_PORTS] = { SECTION_EGRESS, "ports",
	    "auto or a list of PORT, FIRST-LAST", "auto", NULL,
	    "The source ports; auto: net.ipv4.ip_local_port_range without "
	    "reserved ports and own listeners.",
	    config_value_ports, EGRESS_FIELD(ports), EGRESS_FIELD(port_count),
	    .max = ADDRESSES_MAX, .list = true },
	[OPTION_BIND] = { SECTION_EGRESS, "bind", "auto|range|explicit|kernel",
	    "auto", NULL,
	    "How a port is taken: range (Linux 6.3), explicit (any port, "
	    "slower with many sessions), kernel (the kernel chooses the port); "
	    "auto: the best that works.",
	    config_value_choice, .offset = EGRESS_FIELD(bind) },
	[OPTION_ORDER] = { SECTION_EGRESS, "order", "packed|hashed", "packed",
	    NULL,
	    "Which port comes next: packed (the first that is free: fewest "
	    "ports), hashed (hard to guess, another order for each target, "
	    "RFC 6056).",
	    config_value_choice, .offset = EGRESS_FIELD(order) },
	[OPTION_STICKY] = { SECTION_EGRESS, "sticky", "none|client|user",
	    "none", NULL,
	    "Whose sessions to a target leave from one source address, while "
	    "that has ports.",
	    config_value_choice, .offset = EGRESS_FIELD(sticky) },
	[OPTION_COOLDOWN] = { SECTION_EGRESS, "cooldown",
	    "auto or DURATION (0s..10m)", "auto", NULL,
	    "How long a source port rests towards a target after Fourfold "
	    "closed first; auto: what the kernel needs, 62s, or 1s where it "
	    "allows reuse.",
	    config_value_auto_duration, EGRESS_FIELD(cooldown_ms),
	    .max = 10 * MINUTE_MS },
	[OPTION_WAIT] = { SECTION_EGRESS, "wait", "off or DURATION (1ms..1h)",
	    "5s", NULL,
	    "How long a session waits when all source ports towards its "
	    "target are taken; off: it is refused at once.",
	    config_value_duration_or_off, EGRESS_FIELD(wait_ms), .min = 1,
	    .max = HOUR_MS },
	[OPTION_QUEUE] = { SECTION_EGRESS, "queue", "1..1000000", "1000", NULL,
	    "Sessions that may wait for one target; more are refused.",
	    config_value_number, EGRESS_FIELD(queue), .min = 1,
	    .max = 1000000 },

	[OPTION_PASSWORD] = { SECTION_USER, "password",
	    "HASH (by fourfold passwd)", NULL, "none: it must be set",
	    "The hash of the password, as fourfold passwd prints it.",
	    config_value_hash, USER_FIELD(password), .required = true,
	    .secret = true },
	[OPTION_USER_SESSIONS] = { SECTION_USER, "max-sessions",
	    "off|1..10000000", NULL, "as in [limits]",
	    "Sessions the user may hold at once.", config_value_number_or_off,
	    USER_FIELD(limit.sessions), .min = 1, .max = CONFIG_SESSIONS_MAX },
	[OPTION_USER_RATE] = { SECTION_USER, "max-rate", "off|1..1000000", NULL,
	    "as in [limits]", "New sessions of the user a second.",
	    config_value_number_or_off, USER_FIELD(limit.rate), .min = 1,
	    .max = QUOTA_RATE_MAX },
	[OPTION_USER_SHARE] = { SECTION_USER, "max-share", "off|1%..100%", NULL,
	    "as in [limits]", "Of each target's slots, the user's share.",
	    config_value_percent_or_off, USER_FIELD(limit.share), .min = 1,
	    .max = 100 },
	[OPTION_RESERVE] = { SECTION_USER, "reserve", "0..1000000", "0", NULL,
	    "Slots of each target that are kept free for the user.",
	    config_value_number, USER_FIELD(reserve), .max = 1000000 },

	[OPTION_CLIENT_PREFIX_V4] = { SECTION_LIMITS, "client-prefix-v4",
	    "1..32", "32", NULL,
	    "IPv4 clients that agree in so many bits count as one.",
	    config_value_number, PROXY_FIELD(client_bits_v4), .min = 1,
	    .max = 32 },
	[OPTION_CLIENT_PREFIX_V6] = { SECTION_LIMITS, "client-prefix-v6",
	    "1..128", "64", NULL,
	    "IPv6 clients that agree in so many bits count as one.",
	    config_value_number, PROXY_FIELD(client_bits_v6), .min = 1,
	    .max = 128 },
	[OPTION_CLIENT_SESSIONS] = { SECTION_LIMITS, "client-max-sessions",
	    "off|1..10000000", "off", NULL,
	    "Sessions each client may hold at once.",
	    config_value_number_or_off, PROXY_FIELD(client_limit.sessions),
	    .min = 1, .max = CONFIG_SESSIONS_MAX },
	[OPTION_CLIENT_RATE] = { SECTION_LIMITS, "client-max-rate",
	    "off|1..1000000", "off", NULL,
	    "New sessions of each client a second.", config_value_number_or_off,
	    PROXY_FIELD(client_limit.rate), .min = 1, .max = QUOTA_RATE_MAX },
	[OPTION_CLIENT_SHARE] = { SECTION_LIMITS, "client-max-share",
	    "off|1%..100%", "off", NULL,
	    "Of each target's slots, each client's share.",
	    config_value_percent_or_off, PROXY_FIELD(client_limit.share),
	    .min = 1, .max = 100 },
	[OPTION_LIMITS_USER_SESSIONS] = { SECTION_LIMITS, "user-max-sessions",
	    "off|1..10000000", "off", NULL,
	    "Sessions each user may hold at once who has no max-sessions of "
	    "its own.",
	    config_value_number_or_off, PROXY_FIELD(user_limit.sessions),
	    .min = 1, .max = CONFIG_SESSIONS_MAX },
	[OPTION_LIMITS_USER_RATE] = { SECTION_LIMITS, "user-max-rate",
	    "off|1..1000000", "off", NULL,
	    "New sessions a second of each user who has no max-rate of its "
	    "own.",
	    config_value_number_or_off, PROXY_FIELD(user_limit.rate), .min = 1,
	    .max = QUOTA_RATE_MAX },
	[OPTION_LIMITS_USER_SHARE] = { SECTION_LIMITS, "user-max-share",
	    "off|1%..100%", "off", NULL,
	    "Of each target's slots, the share of each user who has no "
	    "max-share of its own.",
	    config_value_percent_or_off, PROXY_FIELD(user_limit.share),
	    .min = 1, .max = 100 },

	[OPTION_HANDSHAKE] = { SECTION_TIMEOUTS, "handshake",
	    "DURATION (100ms..1h)", "10s", NULL,
	    "From a client's connection to its complete request.",
	    config_value_duration, PROXY_FIELD(handshake_ms), .min = 100,
	    .max = HOUR_MS },
	[OPTION_CONNECT] = { SECTION_TIMEOUTS, "connect",
	    "DURATION (100ms..1h)", "10s", NULL,
	    "For the connection to the target, its name's lookup included.",
	    config_value_duration, PROXY_FIELD(connect_ms), .min = 100,
	    .max = HOUR_MS },
	[OPTION_HALF_CLOSED] = { SECTION_TIMEOUTS, "half-closed",
	    "DURATION (100ms..365d)", "5m", NULL,
	    "Without a byte, when one side has ended and the other has not.",
	    config_value_duration, PROXY_FIELD(half_closed_ms), .min = 100,
	    .max = 365 * DAY_MS },
	[OPTION_IDLE] = { SECTION_TIMEOUTS, "idle",
	    "off or DURATION (100ms..365d)", "off", NULL,
	    "Without a byte either way, before a session is ended.",
	    config_value_duration_or_off, PROXY_FIELD(idle_ms), .min = 100,
	    .max = 365 * DAY_MS },
	[OPTION_KEEPALIVE] = { SECTION_TIMEOUTS, "keepalive",
	    "off or DURATION (1s..9h)", "60s", NULL,
	    "Of silence, before TCP asks whether the other side still lives.",
	    config_value_duration_or_off, PROXY_FIELD(keepalive_ms),
	    .min = 1000, .max = 9 * HOUR_MS },

	[OPTION_SPLICE] = { SECTION_RELAY, "splice", "no|yes|auto", "auto",
	    NULL,
	    "Whether bytes go through pipes within the kernel (splice) in "
	    "place "
	    "of a copy; auto: where much is under way.",
	    config_value_choice, .offset = PROXY_FIELD(splice) },
	[OPTION_BUFFER] = { SECTION_RELAY, "buffer", "SIZE (4K..1M)", "64K",
	    NULL,
	    "What is kept at most for a side that reads slowly, each "
	    "direction of a session.",
	    config_value_size, PROXY_FIELD(buffer_bytes), .min = 4 * KIB,
	    .max = MIB },
	[OPTION_MAX_BUFFER_MEMORY] = { SECTION_RELAY, "max-buffer-memory",
	    "SIZE (64K..64G)", "64M", NULL,
	    "What a worker keeps at most for all slow sides together; then it "
	    "reads for them no more than they take.",
	    config_value_size, PROXY_FIELD(max_buffer_bytes), .min = 64 * KIB,
	    .max = 64 * GIB },

	[OPTION_ALARM_TARGET] = { SECTION_ALARMS, "target", "off|1%..100%",
	    "80%", NULL, "Of a target's slots in use.",
	    config_value_percent_or_off, PROXY_FIELD(alarms.target), .min = 1,
	    .max = 100 },
	[OPTION_ALARM_CRITICAL] = { SECTION_ALARMS, "target-critical",
	    "off|1%..100%", "95%", NULL,
	    "Of a target's slots in use, what is critical; not below target.",
	    config_value_percent_or_off, PROXY_FIELD(alarms.target_critical),
	    .min = 1, .max = 100 },
	[OPTION_ALARM_EXHAUSTION] = { SECTION_ALARMS, "exhaustion",
	    "off or DURATION (1s..1d)", "1m", NULL,
	    "A target that will be full sooner than this at its present rate.",
	    config_value_duration_or_off, PROXY_FIELD(alarms.exhaustion_ms),
	    .min = 1000, .max = DAY_MS },
	[OPTION_ALARM_COOLING] = { SECTION_ALARMS, "cooling", "off|1%..100%",
	    "50%", NULL, "Of a pool's slots in use, those that cool down.",
	    config_value_percent_or_off, PROXY_FIELD(alarms.cooling), .min = 1,
	    .max = 100 },
	[OPTION_ALARM_STRANGERS] = { SECTION_ALARMS, "strangers",
	    "off|1%..100%", "50%", NULL,
	    "Of a pool's ports, those that other programs hold.",
	    config_value_percent_or_off, PROXY_FIELD(alarms.strangers),
	    .min = 1, .max = 100 },
	[OPTION_ALARM_DESCRIPTORS] = { SECTION_ALARMS, "descriptors",
	    "off|1%..100%", "90%", NULL,
	    "Of the descriptors a worker may have, those in use.",
	    config_value_percent_or_off, PROXY_FIELD(alarms.descriptors),
	    .min = 1, .max = 100 },

	[OPTION_CONTROL_SOCKET] = { SECTION_CONTROL, "socket",
	    "off|unix:/PATH|/PATH", "/run/fourfold/control.sock", NULL,
	    "Where it is; without a line in the file it is only made where "
	    "that is possible.",
	    config_value_path_or_off, .offset = PROXY_FIELD(control_path) },
	[OPTION_CONTROL_MODE] = { SECTION_CONTROL, "mode", "0000..0777", "0660",
	    NULL, "Its file mode, octal.", config_value_mode,
	    .offset = PROXY_FIELD(control_mode) },
	[OPTION_CONTROL_GROUP] = { SECTION_CONTROL, "group", "auto|NAME",
	    "auto", NULL,
	    "The group it belongs to; auto: fourfold where there is one.",
	    config_value_account, .offset = PROXY_FIELD(control_group) },

	[OPTION_LEVEL] = { SECTION_LOG, "level", "error|warning|info|debug",
	    "info", NULL, "What is less urgent is not written.",
	    config_value_choice, .offset = PROXY_FIELD(log_level) },
	[OPTION_ACCESS] = { SECTION_LOG, "access", "no|yes", "yes", NULL,
	    "Whether each session's end is a line.", config_value_bool,
	    .offset = PROXY_FIELD(log_access) },
};

void *
config_append(void *array, size_t *count, size_t size)
{
	void *old, *new;

	memcpy(&old, array, sizeof(old));
	/* Room doubles whenever the count is a power of two. */
	if ((*count & (*count - 1)) == 0) {
		size_t room = *count == 0 ? 1 : *count * 2;

		new = reallocarray(old, room, size);
		if (new == NULL)
			return NULL;
		memcpy(array, &new, sizeof(new));
		old = new;
	}
	new = (char *)old + *count *size;
	memset(new, 0, size);
	(*count)++;
	return new;
}

void
config_error(struct parse *p, unsigned line, const char *format, ...)
{
	struct config_error *e;
	va_list args;
	char *text;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		p->no_memory = true;
		return;
	}
	/* Names and paths are what the file says: no escapes to a terminal. */
	for (char *c = text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	e = config_append(&p->errors, &p->error_count, sizeof(*e));
	if (e == NULL) {
		p->no_memory = true;
		free(text);
		return;
	}
	e->line = line;
	e->order = p->error_count;
	e->text = text;
}

const struct option *
config_option(enum option_id id)
{
	must(id < OPTION_COUNT);
	return &options[id];
}

const struct kind *
config_kind(enum section_kind kind)
{
	must(kind < SECTION_KINDS);
	return &kinds[kind];
}

struct setting *
config_setting(struct section *s, enum option_id id)
{
	must(id >= kinds[s->kind].first && id < kinds[s->kind].end);
	return &s->settings[id - kinds[s->kind].first];
}

static void
name_data(struct section *s)
{
	struct config_listen *listen = s->data;
	struct config_egress *egress = s->data;
	struct config_user *user = s->data;

	if (s->kind == SECTION_LISTEN) {
		strcpy_bounded(listen->name, sizeof(listen->name), s->name);
		listen->line = s->line;
	} else if (s->kind == SECTION_EGRESS) {
		strcpy_bounded(egress->name, sizeof(egress->name), s->name);
		egress->line = s->line;
	} else if (s->kind == SECTION_USER) {
		strcpy_bounded(user->name, sizeof(user->name), s->name);
		user->line = s->line;
	}
}

struct section *
config_add_section(
    struct parse *p, enum section_kind kind, const char *name, unsigned line)
{
	struct section_list *list = &p->kinds[kind];
	size_t settings = kinds[kind].end - kinds[kind].first;
	struct section *s, **place;

	s = calloc(1, sizeof(*s) + settings * sizeof(s->settings[0]));
	if (s == NULL)
		goto no_memory;
	s->kind = kind;
	s->line = line;
	strcpy_bounded(s->name, sizeof(s->name), name);
	/* A second [proxy] is an error: its options are read, and go. */
	s->duplicate = kinds[kind].bytes == 0 && list->count > 0;
	s->data = p->config;
	if (kinds[kind].bytes != 0 || s->duplicate)
		s->data = calloc(
		    1, s->duplicate ? sizeof(*p->config) : kinds[kind].bytes);
	if (s->data == NULL)
		goto no_memory;
	place =
	    config_append(&list->items, &list->count, sizeof(struct section *));
	if (place == NULL)
		goto no_memory;
	*place = s;
	name_data(s);
	return s;

no_memory:
	p->no_memory = true;
	if (s != NULL && s->data != p->config)
		free(s->data);
	free(s);
	return NULL;
}

/* Parses one value, or one element of a list. */
static void
set_one(struct parse *p, struct section *s, enum option_id id, const char *text,
    unsigned line)
{
	const struct option *o = &options[id];
	struct setting *setting = config_setting(s, id);
	char words[WORDS_MAX];
	struct value v = { .option = o,
		.text = text,
		.line = line,
		.elements = setting->elements,
		.field = (char *)s->data + o->offset,
		.reference = s->reference,
		.words = words };
	char quote[QUOTE_MAX];
	const char *wrong;

	if (o->list)
		v.count = (void *)((char *)s->data + o->count_offset);
	if (o->list && setting->elements >= o->max)
		wrong = "is one too many";
	else
		wrong = o->parse(&v);
	if (wrong == NULL) {
		setting->elements++;
		return;
	}
	setting->failed = true;
	config_error(p, line, "%s: %s %s; expected %s", o->key,
	    o->secret ? "the value" : config_quote(text, quote), wrong,
	    o->form);
}

void
config_set_option(struct parse *p, struct section *s, enum option_id id,
    const char *text, unsigned line)
{
	char *copy, *word, *rest;

	if (!options[id].list) {
		set_one(p, s, id, text, line);
		return;
	}
	copy = rest = strdup(text);
	p->no_memory |= copy == NULL;
	while ((word = strsep(&rest, " \t")) != NULL)
		if (*word != '\0')
			set_one(p, s, id, word, line);
	free(copy);
}

/* The sections that are not in the file, by their defaults. */
static void
add_missing_sections(struct parse *p)
{
	for (unsigned kind = 0; kind < SECTION_KINDS; kind++)
		if (p->kinds[kind].count == 0 && kind != SECTION_USER)
			config_add_section(p, kind,
			    kinds[kind].bytes != 0 ? "default" : "", 0);
}

/* All of the section is read: what was left out, and what was left empty. */
static void
finish_section(struct parse *p, struct section *s)
{
	for (unsigned i = kinds[s->kind].first; i < kinds[s->kind].end; i++) {
		const struct option *o = &options[i];
		struct setting *setting = config_setting(s, i);

		if (setting->line == 0 && o->fallback != NULL) {
			config_set_option(p, s, i, o->fallback, s->line);
			must(!setting->failed || p->no_memory);
		} else if (setting->line == 0 && o->required) {
			config_error(p, s->line, "[%s NAME] without %s = %s",
			    kinds[s->kind].word, o->key, o->form);
		} else if (setting->line != 0 && setting->elements == 0 &&
			   !setting->failed) {
			setting->failed = true;
			config_error(p, setting->line,
			    "%s is empty; expected %s", o->key, o->form);
		}
	}
}

static void
finish_sections(struct parse *p)
{
	for (unsigned kind = 0; kind < SECTION_KINDS; kind++)
		for (size_t i = 0; i < p->kinds[kind].count; i++)
			finish_section(p, p->kinds[kind].items[i]);
}

static int
by_user_name(const void *a, const void *b)
{
	const struct config_user *one = a, *two = b;

	return strcmp(one->name, two->name);
}

/* Moves the sections' data into an array; NULL without memory. */
static void *
move_sections(struct parse *p, enum section_kind kind, size_t *count)
{
	const struct section_list *list = &p->kinds[kind];
	size_t bytes = kinds[kind].bytes;
	char *array = calloc(list->count == 0 ? 1 : list->count, bytes);

	if (array == NULL) {
		p->no_memory = true;
		return NULL;
	}
	for (size_t i = 0; i < list->count; i++) {
		struct section *s = list->items[i];

		memcpy(array + i * bytes, s->data, bytes);
		free(s->data);
		s->data = NULL;
	}
	*count = list->count;
	return array;
}

static void
fill_snapshot(struct parse *p)
{
	struct config *c = p->config;

	c->listens = move_sections(p, SECTION_LISTEN, &c->listen_count);
	c->egresses = move_sections(p, SECTION_EGRESS, &c->egress_count);
	c->users = move_sections(p, SECTION_USER, &c->user_count);
	if (c->user_count > 1)
		qsort(c->users, c->user_count, sizeof(*c->users), by_user_name);
}

static void
free_listen(struct config_listen *l)
{
	free(l->addresses);
	free(l->clients);
}

static void
free_egress(struct config_egress *e)
{
	free(e->addresses);
	free(e->ports);
}

static void
free_section(struct parse *p, struct section *s)
{
	if (s->data != NULL && s->kind == SECTION_LISTEN)
		free_listen(s->data);
	else if (s->data != NULL && s->kind == SECTION_EGRESS)
		free_egress(s->data);
	else if (s->data != NULL && s->kind == SECTION_USER)
		free(((struct config_user *)s->data)->password);
	if (s->data != p->config)
		free(s->data);
	free(s);
}

static int
by_line(const void *a, const void *b)
{
	const struct config_error *one = a, *two = b;

	if (one->line != two->line)
		return one->line < two->line ? -1 : 1;
	return one->order < two->order ? -1 : one->order > two->order;
}

static void
print_errors(struct parse *p, FILE *errors)
{
	if (p->error_count > 1)
		qsort(p->errors, p->error_count, sizeof(*p->errors), by_line);
	for (size_t i = 0; i < p->error_count; i++)
		fprintf(errors, "%s:%u: %s\n", p->file, p->errors[i].line,
		    p->errors[i].text);
	if (p->no_memory)
		fprintf(errors, "%s: not read: out of memory\n", p->file);
}

/* Frees all but the snapshot. */
static void
parse_fini(struct parse *p)
{
	for (unsigned kind = 0; kind < SECTION_KINDS; kind++) {
		for (size_t i = 0; i < p->kinds[kind].count; i++)
			free_section(p, p->kinds[kind].items[i]);
		free(p->kinds[kind].items);
	}
	for (size_t i = 0; i < p->error_count; i++)
		free(p->errors[i].text);
	free(p->errors);
}

int
config_parse(const char *file, const char *text, size_t len, FILE *errors,
    struct config **out)
{
	struct parse p = { .file = file, .option = OPTION_NONE };

	p.config = calloc(1, sizeof(*p.config));
	if (p.config == NULL) {
		p.no_memory = true;
		print_errors(&p, errors);
		return -ENOMEM;
	}
	if (text != NULL)
		config_read(&p, text, len);
	add_missing_sections(&p);
	finish_sections(&p);
	if (!p.no_memory)
		config_check(&p);
	if (p.error_count == 0 && !p.no_memory)
		fill_snapshot(&p);
	print_errors(&p, errors);
	parse_fini(&p);
	if (p.error_count == 0 && !p.no_memory) {
		*out = p.config;
		return 0;
	}
	config_free(p.config);
	return p.no_memory ? -ENOMEM : -EINVAL;
}

void
config_find_control(
    const char *text, size_t len, char path[CONFIG_PATH_MAX + 1])
{
	const struct section_list *list;
	struct parse p = { .option = OPTION_NONE };
	const struct setting *found;

	strcpy_bounded(
	    path, CONFIG_PATH_MAX + 1, options[OPTION_CONTROL_SOCKET].fallback);
	p.config = calloc(1, sizeof(*p.config));
	if (p.config == NULL)
		return;
	if (text != NULL)
		config_read(&p, text, len);
	add_missing_sections(&p);
	finish_sections(&p);
	list = &p.kinds[SECTION_CONTROL];
	found = list->count == 0
		    ? NULL
		    : config_setting(list->items[0], OPTION_CONTROL_SOCKET);
	if (found != NULL && found->elements > 0 && !found->failed)
		strcpy_bounded(
		    path, CONFIG_PATH_MAX + 1, p.config->control_path);
	parse_fini(&p);
	config_free(p.config);
}

void
config_free(struct config *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->listen_count; i++)
		free_listen(&c->listens[i]);
	for (size_t i = 0; i < c->egress_count; i++)
		free_egress(&c->egresses[i]);
	for (size_t i = 0; i < c->user_count; i++)
		free(c->users[i].password);
	free(c->listens);
	free(c->egresses);
	free(c->users);
	free(c);
}

const struct config_user *
config_find_user(const struct config *c, const char *name, size_t len)
{
	struct config_user key;

	if (len == 0 || len >= sizeof(key.name) || c->user_count == 0 ||
	    memchr(name, '\0', len) != NULL)
		return NULL;
	memcpy(key.name, name, len);
	key.name[len] = '\0';
	return bsearch(
	    &key, c->users, c->user_count, sizeof(key), by_user_name);
}

void
config_describe(FILE *out)
{
	for (unsigned kind = 0; kind < SECTION_KINDS; kind++) {
		fprintf(out, "%s[%s%s]  %s\n", kind == 0 ? "" : "\n",
		    kinds[kind].word, kinds[kind].bytes != 0 ? " NAME" : "",
		    kinds[kind].meaning);
		for (unsigned i = kinds[kind].first; i < kinds[kind].end; i++) {
			const struct option *o = &options[i];

			must(o->kind == kind);
			fprintf(out, "  %s = %s\n      %s\n      Default: %s\n",
			    o->key, o->form, o->meaning,
			    o->fallback != NULL ? o->fallback : o->absent);
		}
	}
}
