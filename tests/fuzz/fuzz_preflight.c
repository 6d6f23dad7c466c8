/* SPDX-License-Identifier: ISC */
/*
 * The host's files from any text, and what is planned on such a host: only what
 * it allows, or the reasons why not.
 *
 * Input: whether to plan and what the section wishes, in bytes, then the files'
 * texts, each up to the next byte of 0xff.
 */
#include <errno.h>

#include "egress/hostfile.h"
#include "egress/preflight.h"
#include "files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WISHES   3
#define RESERVED 1  /* of the files, the one with a list */
#define LOOKED   64 /* ports of a range that are looked at */
/* "65535," of each port. */
#define LIST_MAX (6 * 65536)

static bool
bit_is_set(const uint8_t *bits, uint32_t port)
{
	return bits[port / 8] >> port % 8 & 1;
}

/* ---- a list of ports ---- */

/* The ports in words are the same ports. */
static void
check_words(const uint8_t bits[PREFLIGHT_PORT_BYTES])
{
	uint8_t again[PREFLIGHT_PORT_BYTES];
	char *text = malloc(LIST_MAX), cut[40];

	must(text != NULL);
	must(preflight_format_ports(bits, text, LIST_MAX));
	must(preflight_parse_ports(text, again) == 0);
	must(memcmp(bits, again, sizeof(again)) == 0);
	if (preflight_format_ports(bits, cut, sizeof(cut)))
		must(strcmp(text, cut) == 0);
	else
		must(strncmp(text, cut, strlen(cut) - strlen("...")) == 0);
	free(text);
}

static void
check_list(struct program part)
{
	uint8_t bits[PREFLIGHT_PORT_BYTES];
	char *text = malloc(part.left + 1);

	must(text != NULL);
	if (part.left != 0)
		memcpy(text, part.at, part.left);
	text[part.left] = '\0';
	if (preflight_parse_ports(text, bits) == 0) {
		must(text[strspn(text, "0123456789,-")] == '\0' ||
		     text[strspn(text, "0123456789,-")] == '\n');
		check_words(bits);
	}
	free(text);
}

/* ---- the host ---- */

static void
read_host(struct program *p, const char *root, struct preflight_host *host)
{
	static const char *const files[] = {
		"/proc/sys/net/ipv4/ip_local_port_range",
		"/proc/sys/net/ipv4/ip_local_reserved_ports",
		"/proc/sys/net/ipv4/ip_unprivileged_port_start",
		"/proc/self/limits",
		"/proc/meminfo",
		"/proc/sys/kernel/osrelease",
		"/proc/sys/net/ipv4/tcp_tw_reuse_delay",
	};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct program part = program_part(p);

		if (i == RESERVED)
			check_list(part);
		files_put_part(root, files[i], part);
	}
	preflight_read_from(root, host);
	must(host->port_first <= host->port_last);
	must(memchr(host->release, '\0', sizeof(host->release)) != NULL);
	must(strchr(host->release, '\n') == NULL);
}

static void
check_text(const char *root, const char *name)
{
	char *text = hostfile_read(root, name);
	int64_t number = hostfile_number(root, name, -7);
	char *end;

	must(text != NULL);
	/* What is a number to one is one to the other. */
	if (number != -7)
		must(strtoll(text, &end, 10) == number && end != text);
	free(text);
}

/* ---- the plan ---- */

struct wish {
	struct preflight_wish wish;
	struct preflight_ports ports[WISHES];
	struct prefix addresses[WISHES];
	uint16_t own[WISHES];
};

static uint16_t
pick_port(struct program *p)
{
	uint16_t port = (uint16_t)(program_byte(p) << 8);

	return (uint16_t)(port | program_byte(p));
}

static void
make_wish(struct program *p, struct wish *w)
{
	*w = (struct wish){ .wish = { .name = "fuzz",
				.ports = w->ports,
				.addresses = w->addresses,
				.own_ports = w->own } };
	w->wish.bind = program_pick(p, 4);
	w->wish.port_count = program_pick(p, WISHES + 1);
	w->wish.own_port_count = program_pick(p, WISHES + 1);
	w->wish.address_count = program_pick(p, WISHES + 1);
	for (unsigned i = 0; i < WISHES; i++) {
		uint16_t a = pick_port(p), b = pick_port(p);

		/* As the file's parser has it. */
		a = a == 0 ? 1 : a;
		b = b == 0 ? 1 : b;
		w->ports[i] =
		    (struct preflight_ports){ a < b ? a : b, a < b ? b : a };
		w->own[i] = pick_port(p);
		w->addresses[i].base =
		    addr_v4(UINT32_C(0xc0000200) + (program_byte(p) & 0xfc), 0);
		w->addresses[i].bits = (uint8_t)(30 + program_pick(p, 3));
	}
}

static bool
is_wished(
    const struct wish *w, const struct preflight_host *host, uint32_t port)
{
	if (w->wish.port_count == 0)
		return port >= host->port_first && port <= host->port_last;
	for (size_t i = 0; i < w->wish.port_count; i++) {
		if (port >= w->ports[i].first && port <= w->ports[i].last)
			return true;
	}
	return false;
}

static void
check_port(const struct wish *w, const struct preflight_host *host,
    const struct pool_range *r, uint32_t port)
{
	must(is_wished(w, host, port));
	/* The kernel keeps its own range out of these. */
	must(w->wish.port_count == 0 || port >= host->unprivileged_first);
	if (r->bind != POOL_RANGE)
		return;
	must(host->range_option && !bit_is_set(host->reserved, port));
	must(port >= host->port_first && port <= host->port_last);
}

static void
check_range(const struct wish *w, const struct preflight_host *host,
    const struct pool_range *r)
{
	must(r->first > 0 && r->first <= r->last);
	must(r->bind == POOL_RANGE || r->bind == POOL_EXPLICIT);
	must(w->wish.bind != PREFLIGHT_RANGE || r->bind == POOL_RANGE);
	must(w->wish.bind != PREFLIGHT_EXPLICIT || r->bind == POOL_EXPLICIT);
	for (size_t i = 0; i < w->wish.own_port_count; i++)
		must(w->own[i] < r->first || w->own[i] > r->last);
	for (uint32_t i = 0; i <= LOOKED; i++)
		check_port(w, host, r,
		    r->first + ((uint32_t)r->last - r->first) * i / LOOKED);
}

/* Each line is about the section. */
static void
check_lines(const char *text)
{
	while (*text != '\0') {
		must(strncmp(text, "egress fuzz: ", 13) == 0);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
}

static void
check_plan(const struct wish *w, const struct preflight_host *host)
{
	char error[4096], warning[4096];
	struct pool pool;
	int result = preflight_plan(
	    host, &w->wish, &pool, error, warning, sizeof(error));

	check_lines(error);
	check_lines(warning);
	must((result == 0) == (error[0] == '\0'));
	if (result != 0) {
		must(result == -EINVAL);
		return;
	}
	must(pool.by_kernel == (w->wish.bind == PREFLIGHT_KERNEL));
	must(pool_has_family(&pool, ADDR_V4));
	must(pool.by_kernel || pool.ports > 0);
	for (unsigned i = 0; i < pool.range_count; i++)
		check_range(w, host, &pool.ranges[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program program = { data, size };
	struct preflight_host host;
	char root[FILES_ROOT_MAX];
	bool plans, has_options[2];
	struct wish wish;

	files_root(root);
	/* A plan looks at all ports many times: so not for each. */
	plans = program_pick(&program, 4) == 1;
	has_options[0] = program_pick(&program, 4) != 0;
	has_options[1] = program_pick(&program, 4) != 0;
	make_wish(&program, &wish);
	read_host(&program, root, &host);
	check_text(root, "/proc/sys/net/ipv4/ip_unprivileged_port_start");
	host.range_option = has_options[0];
	host.no_port_option = has_options[1];
	if (plans)
		check_plan(&wish, &host);
	return 0;
}
