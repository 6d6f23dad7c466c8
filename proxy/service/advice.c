/* SPDX-License-Identifier: ISC */
#include "service/advice.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Ports in words, and ports for a command or an option. */
#define LIST_SIZE    120
#define COMMAND_SIZE 480

/* Programs told of in one pool. */
#define PROGRAMS_MAX 20

struct advisor {
	const struct advice_facts *f;
	FILE *out;
	unsigned count;
};

static void say(struct advisor *a, const char *format, ...) PRINTF_LIKE(2, 3);

static void
say(struct advisor *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(a->out, format, args);
	va_end(args);
	fputc('\n', a->out);
	a->count++;
}

/* Are there pools whose ports rest by what the kernel needs? */
static bool
any_rests_by_kernel(const struct advisor *a)
{
	for (size_t i = 0; i < a->f->config->egress_count; i++) {
		if (!a->f->pools[i].by_kernel &&
		    a->f->config->egresses[i].cooldown_ms == CONFIG_AUTO_MS)
			return true;
	}
	return false;
}

static bool
any_shared(const struct pool *p)
{
	for (unsigned i = 0; i < p->range_count && !p->by_kernel; i++) {
		if (p->ranges[i].bind == POOL_RANGE)
			return true;
	}
	return false;
}

/* What the file says of a rest, against what the kernel does. (A port that is
 * bound explicitly is free at once.) */
static void
judge_cooldown(struct advisor *a, size_t egress)
{
	const struct preflight_host *h = a->f->host;
	uint64_t cooldown = a->f->config->egresses[egress].cooldown_ms;
	bool reuses = h->timestamps && h->tw_reuse == 1;
	uint64_t needed = reuses ? (uint64_t)h->tw_reuse_ms : 60000;

	if (cooldown < needed && any_shared(&a->f->pools[egress]))
		say(a,
		    "[egress %s] cooldown is %ju ms, and the kernel keeps a "
		    "connection that we closed first for %ju ms (tcp_tw_reuse "
		    "is %d); ports given out sooner cost failed attempts; this "
		    "mends it: cooldown = auto",
		    a->f->pools[egress].name, (uintmax_t)cooldown,
		    (uintmax_t)needed, h->tw_reuse);
}

static void
judge_tw_reuse(struct advisor *a)
{
	const struct preflight_host *h = a->f->host;

	if (!h->timestamps)
		say(a,
		    "net.ipv4.tcp_timestamps is 0; without timestamps no port "
		    "whose connection we closed first is used again for the "
		    "same target within 60 s, whatever tcp_tw_reuse says; this "
		    "mends it: sysctl -w net.ipv4.tcp_timestamps=1");
	if (h->tw_reuse != 1)
		say(a,
		    "net.ipv4.tcp_tw_reuse is %d; a port whose connection we "
		    "closed first rests 62 s before the same target gets it "
		    "again%s, where 1 s would do; this mends it: sysctl -w "
		    "net.ipv4.tcp_tw_reuse=1",
		    h->tw_reuse,
		    h->tw_reuse == 2 ? " (targets on loopback aside)" : "");
	if (h->tw_reuse != 0 && h->tw_reuse_ms > 1000)
		say(a,
		    "net.ipv4.tcp_tw_reuse_delay is %jd ms; for so long a port "
		    "whose connection we closed first rests before the same "
		    "target gets it again; this mends it: sysctl -w "
		    "net.ipv4.tcp_tw_reuse_delay=1000",
		    (intmax_t)h->tw_reuse_ms);
}

/* How long what is closed first by us rests. */
static void
judge_time_wait(struct advisor *a)
{
	const struct preflight_host *h = a->f->host;

	if (any_rests_by_kernel(a))
		judge_tw_reuse(a);
	for (size_t i = 0; i < a->f->config->egress_count; i++)
		judge_cooldown(a, i);
	if (h->tw_buckets >= 0 &&
	    (uint64_t)h->tw_buckets < a->f->capacity->sessions)
		say(a,
		    "net.ipv4.tcp_max_tw_buckets is %jd; of more sessions than "
		    "that which end within a minute, closed first by us, the "
		    "kernel forgets the rest at once, and late packets may "
		    "meet a new one; this mends it: sysctl -w "
		    "net.ipv4.tcp_max_tw_buckets=%ju",
		    (intmax_t)h->tw_buckets,
		    (uintmax_t)a->f->capacity->sessions);
}

/* The listener that asks for most. */
static void
judge_backlog(struct advisor *a)
{
	const struct config *c = a->f->config;
	const struct config_listen *most = &c->listens[0];
	int64_t allowed = a->f->host->somaxconn;

	for (size_t i = 1; i < c->listen_count; i++) {
		if (c->listens[i].backlog > most->backlog)
			most = &c->listens[i];
	}
	if (allowed < (int64_t)most->backlog)
		say(a,
		    "net.core.somaxconn is %jd; backlog = %u of [listen %s] is "
		    "cut to it, and more clients than that at once wait or "
		    "fail; this mends it: sysctl -w net.core.somaxconn=%u",
		    (intmax_t)allowed, most->backlog, most->name,
		    most->backlog);
}

static void
judge_conntrack(struct advisor *a)
{
	int64_t max = a->f->host->conntrack_max;
	uint64_t wanted = 2 * a->f->capacity->sessions;

	if (max > 0 && (uint64_t)max < wanted)
		say(a,
		    "net.netfilter.nf_conntrack_max is %jd; a session is two "
		    "connections, and where rules track them the kernel drops "
		    "what is more: %ju for %ju sessions; this mends it: sysctl "
		    "-w net.netfilter.nf_conntrack_max=%ju",
		    (intmax_t)max, (uintmax_t)wanted,
		    (uintmax_t)a->f->capacity->sessions, (uintmax_t)wanted);
}

/* How to let a process have descriptors for so many sessions of all workers. */
static void
files_command(const struct advisor *a, unsigned workers, uint64_t sessions,
    char *text, size_t size)
{
	const struct preflight_host *h = a->f->host;
	uint64_t files = capacity_descriptors(
	    a->f->config, workers, (sessions + workers - 1) / workers);

	if (h->files_allowed > 0 && files > (uint64_t)h->files_allowed)
		files = (uint64_t)h->files_allowed;
	snprintf(text, size,
	    "LimitNOFILE=%ju in the unit, or ulimit -n %ju before the start",
	    (uintmax_t)files, (uintmax_t)files);
}

/* What the memory would do for, if all sessions were idle. */
static uint64_t
idle_sessions(const struct advisor *a)
{
	return a->f->host->memory / CAPACITY_SESSION_BYTES;
}

/* What to ask for: a quarter is left for those that are not. */
static uint64_t
wise_sessions(const struct advisor *a)
{
	return idle_sessions(a) / 4 * 3;
}

/* Descriptors of a process, where they are what holds sessions back. */
static void
judge_files(struct advisor *a)
{
	const struct capacity *c = a->f->capacity;
	const struct preflight_host *h = a->f->host;
	uint64_t most = capacity_most(a->f->config, h->files_hard);
	uint64_t wise = wise_sessions(a);
	unsigned usual = a->f->processors;
	char command[COMMAND_SIZE];

	if (h->files_allowed > 0 && h->files_hard >= (uint64_t)h->files_allowed)
		return;
	if (a->f->config->max_sessions == 0 && wise > c->sessions) {
		files_command(a, c->workers, wise, command, sizeof(command));
		say(a,
		    "a process may have %ju descriptors; with them %u workers "
		    "hold %ju sessions, and the memory would do for %ju; this "
		    "mends it: max-sessions = %ju, which starts more workers, "
		    "or %s",
		    (uintmax_t)h->files_hard, c->workers,
		    (uintmax_t)c->sessions, (uintmax_t)idle_sessions(a),
		    (uintmax_t)(wise < most ? wise : most), command);
	}
	if (a->f->config->workers == 0 && c->workers > usual) {
		files_command(a, usual, c->sessions, command, sizeof(command));
		say(a,
		    "a process may have %ju descriptors; max-sessions = %ju "
		    "takes %u workers with them, more than the %u processors; "
		    "this mends it: %s",
		    (uintmax_t)h->files_hard, (uintmax_t)c->sessions,
		    c->workers, usual, command);
	}
}

static void
judge_all_files(struct advisor *a)
{
	uint64_t wanted = capacity_descriptors(
	    a->f->config, a->f->capacity->workers, a->f->capacity->sessions);

	if ((uint64_t)a->f->host->files_max < wanted)
		say(a,
		    "fs.file-max is %jd; all processes of the host share it, "
		    "and %ju sessions alone take %ju; this mends it: sysctl -w "
		    "fs.file-max=%ju",
		    (intmax_t)a->f->host->files_max,
		    (uintmax_t)a->f->capacity->sessions, (uintmax_t)wanted,
		    (uintmax_t)(2 * wanted));
}

static void
judge_memory(struct advisor *a)
{
	uint64_t sessions = a->f->capacity->sessions;
	uint64_t there = a->f->host->memory;

	if (there != 0 && idle_sessions(a) < sessions)
		say(a,
		    "%ju MB of memory are available; %ju sessions take %ju MB "
		    "when they are idle, and the kernel kills what does not "
		    "fit; this mends it: max-sessions = %ju",
		    (uintmax_t)(there >> 20), (uintmax_t)sessions,
		    (uintmax_t)(sessions * CAPACITY_SESSION_BYTES >> 20),
		    (uintmax_t)wise_sessions(a));
}

static bool
bit_is_set(const uint8_t *bits, uint32_t port)
{
	return bits[port / 8] >> port % 8 & 1;
}

static void
set_bit(uint8_t *bits, uint32_t port, bool value)
{
	uint8_t bit = (uint8_t)(1 << port % 8);

	bits[port / 8] =
	    (uint8_t)(value ? bits[port / 8] | bit : bits[port / 8] & ~bit);
}

/* ports = auto, which takes the host's range as it is. */
static void
judge_auto_ports(struct advisor *a)
{
	const struct preflight_host *h = a->f->host;
	uint8_t rest[PREFLIGHT_PORT_BYTES];
	char list[COMMAND_SIZE];
	unsigned reserved = 0;

	memcpy(rest, h->reserved, sizeof(rest));
	for (uint32_t port = h->port_first; port <= h->port_last; port++) {
		reserved += bit_is_set(rest, port);
		set_bit(rest, port, false);
	}
	if (h->port_last - h->port_first < 60999 - 32768)
		say(a,
		    "net.ipv4.ip_local_port_range is %u-%u; ports = auto has "
		    "no others; this mends it: sysctl -w "
		    "net.ipv4.ip_local_port_range=\"32768 60999\"",
		    h->port_first, h->port_last);
	if (reserved == 0)
		return;
	if (!preflight_format_ports(rest, list, sizeof(list)))
		strcpy_bounded(list, sizeof(list), "...");
	say(a,
	    "net.ipv4.ip_local_reserved_ports holds %u ports of "
	    "ip_local_port_range; ports = auto does without them; where "
	    "nothing needs them, this mends it: sysctl -w "
	    "net.ipv4.ip_local_reserved_ports=\"%s\"",
	    reserved, list);
}

static void
judge_ports(struct advisor *a)
{
	for (size_t i = 0; i < a->f->config->egress_count; i++) {
		if (a->f->config->egresses[i].port_count == 0) {
			judge_auto_ports(a);
			return;
		}
	}
}

/* ---- strangers ---- */

static const struct pool_range *
find_range(const struct pool *pool, uint16_t port)
{
	for (unsigned i = 0; i < pool->range_count; i++) {
		const struct pool_range *r = &pool->ranges[i];

		if (port >= r->first && port <= r->last)
			return r;
	}
	return NULL;
}

static bool
has_address(const struct pool *pool, const struct addr *local)
{
	uint32_t at;

	if (addr_is_unspecified_ip(local))
		return true;
	for (unsigned i = 0; i < pool->source_count; i++) {
		const struct pool_source *s = &pool->sources[i];

		if (s->first.family == local->family &&
		    (addr_is_unspecified_ip(&s->first) ||
			pool_source_contains(s, local, &at)))
			return true;
	}
	return false;
}

bool
advice_shares(const struct pool *pool, uint16_t port)
{
	const struct pool_range *r =
	    pool->by_kernel ? NULL : find_range(pool, port);

	return r != NULL && r->bind == POOL_RANGE;
}

bool
advice_concerns(const struct pool *pool, const struct stranger *s)
{
	const struct pool_range *r =
	    pool->by_kernel ? NULL : find_range(pool, s->local.port);

	if (r == NULL)
		return false;
	return r->bind == POOL_RANGE || has_address(pool, &s->local);
}

/* Those of one program in one state come together. */
static int
compare(const void *a, const void *b)
{
	const struct stranger *x = a, *y = b;
	int order = strcmp(x->program, y->program);

	if (order != 0)
		return order;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->uid != y->uid)
		return x->uid < y->uid ? -1 : 1;
	return (int)x->state - (int)y->state;
}

static const char *
words_of(enum stranger_state state)
{
	switch (state) {
	case STRANGER_LISTENS:
		return "listens on";
	case STRANGER_BOUND:
		return "has bound";
	case STRANGER_CONNECTED:
		return "has connections from sockets that it bound to";
	case STRANGER_GONE:
		return "has just left";
	}
	must_never("a state that is none");
}

static void
name_of(const struct stranger *s, char *text, size_t size)
{
	if (s->pid != 0)
		snprintf(text, size, "%s (pid %d, uid %u)", s->program, s->pid,
		    s->uid);
	else if (s->state == STRANGER_GONE)
		strcpy_bounded(text, size, "a program");
	else
		snprintf(text, size, "a program of uid %u (root sees which)",
		    s->uid);
}

/* What takes the ports of all `count` strangers that stay out of the pool. */
static void
leave_out(const struct advisor *a, size_t egress, const struct stranger *s,
    size_t count, char *text, size_t size)
{
	const struct pool *pool = &a->f->pools[egress];
	bool named = a->f->config->egresses[egress].port_count != 0;
	uint8_t all[PREFLIGHT_PORT_BYTES] = { 0 };
	char list[COMMAND_SIZE - 64];

	if (!named)
		memcpy(all, a->f->host->reserved, sizeof(all));
	for (unsigned i = 0; named && i < pool->range_count; i++) {
		for (uint32_t port = pool->ranges[i].first;
		     port <= pool->ranges[i].last; port++)
			set_bit(all, port, true);
	}
	for (size_t i = 0; i < count; i++) {
		if (s[i].state != STRANGER_GONE)
			set_bit(all, s[i].local.port, !named);
	}
	if (!preflight_format_ports(all, list, sizeof(list))) {
		strcpy_bounded(text, size, "name ports = without them");
		return;
	}
	for (char *comma = list; named && (comma = strchr(comma, ',')) != NULL;)
		*comma = ' ';
	snprintf(text, size,
	    named ? "ports = %s"
		  : "sysctl -w net.ipv4.ip_local_reserved_ports=\"%s\"",
	    list);
}

/* `count` sockets of one program in one state. */
static void
judge_program(struct advisor *a, size_t egress, const struct stranger *s,
    size_t count, const char *command)
{
	uint8_t bits[PREFLIGHT_PORT_BYTES] = { 0 };
	char list[LIST_SIZE], who[80];

	for (size_t i = 0; i < count; i++)
		set_bit(bits, s[i].local.port, true);
	preflight_format_ports(bits, list, sizeof(list));
	name_of(s, who, sizeof(who));
	if (s->state == STRANGER_GONE) {
		say(a,
		    "[egress %s] %s %s port%s %s; no session gets %s for a "
		    "minute at most",
		    a->f->pools[egress].name, who, words_of(s->state),
		    count == 1 ? "" : "s", list, count == 1 ? "it" : "them");
		return;
	}
	say(a,
	    "[egress %s] %s %s port%s %s; no session gets %s meanwhile; end "
	    "that program, or this mends it: %s",
	    a->f->pools[egress].name, who, words_of(s->state),
	    count == 1 ? "" : "s", list, count == 1 ? "it" : "them", command);
}

/* Those in the way of one pool, in order; how many. */
static size_t
gather(const struct advisor *a, size_t egress, struct stranger *out)
{
	const struct strangers *all = a->f->strangers;
	size_t count = 0;

	for (size_t i = 0; i < all->count; i++) {
		if (advice_concerns(&a->f->pools[egress], &all->items[i]))
			out[count++] = all->items[i];
	}
	if (count > 0)
		qsort(out, count, sizeof(*out), compare);
	return count;
}

static void
judge_strangers(struct advisor *a, size_t egress, struct stranger *room)
{
	size_t count = gather(a, egress, room);
	unsigned programs = 0;
	char command[COMMAND_SIZE];

	leave_out(a, egress, room, count, command, sizeof(command));
	for (size_t i = 0, end; i < count; i = end) {
		for (end = i + 1;
		     end < count && compare(&room[i], &room[end]) == 0; end++)
			;
		if (++programs <= PROGRAMS_MAX)
			judge_program(a, egress, &room[i], end - i, command);
	}
	if (programs > PROGRAMS_MAX)
		say(a, "[egress %s] and %u more programs are in the way",
		    a->f->pools[egress].name, programs - PROGRAMS_MAX);
}

static void
judge_all_strangers(struct advisor *a)
{
	struct stranger *room;

	if (a->f->strangers->count == 0)
		return;
	room = calloc(a->f->strangers->count, sizeof(*room));
	must(room != NULL);
	for (size_t i = 0; i < a->f->config->egress_count; i++)
		judge_strangers(a, i, room);
	free(room);
}

unsigned
advice_write(const struct advice_facts *f, FILE *out)
{
	struct advisor a = { .f = f, .out = out };

	judge_ports(&a);
	judge_time_wait(&a);
	judge_backlog(&a);
	judge_conntrack(&a);
	judge_files(&a);
	judge_all_files(&a);
	judge_memory(&a);
	judge_all_strangers(&a);
	return a.count;
}
