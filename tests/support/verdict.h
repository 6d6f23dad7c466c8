/* SPDX-License-Identifier: ISC */
/*
 * verdict: the facts that advice and report judge, made up: a host on which
 * nothing stands in the way, a file, its pools as preflight plans them.
 */
#ifndef FOURFOLD_TESTS_VERDICT_H
#define FOURFOLD_TESTS_VERDICT_H

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "service/advice.h"

#define VERDICT_PROCESSORS 2

struct verdict {
	struct preflight_host host;
	struct config *config;
	struct pool *pools;
	struct capacity capacity;
	struct strangers strangers;
	struct advice_facts
	    facts;        /* points to the rest, after verdict_make() */
	char text[16384]; /* what was written last */
};

/* The host may be changed before verdict_make(). */
static inline void
verdict_init(struct verdict *v, const char *file)
{
	memset(v, 0, sizeof(*v));
	v->host = (struct preflight_host){ .port_first = 32768,
		.port_last = 60999,
		.unprivileged_first = 1024,
		.tw_reuse = 1,
		.tw_reuse_ms = 1000,
		.tw_buckets = 10 * 1000 * 1000,
		.timestamps = true,
		.range_option = true,
		.no_port_option = true,
		.somaxconn = 4096,
		.conntrack_max = -1,
		.files_max = INT64_MAX,
		.files_allowed = 1048576,
		.files_soft = 1024,
		.files_hard = 1048576,
		.memory = UINT64_C(64) << 30,
		.release = "6.12.1" };
	strangers_init(&v->strangers);
	cr_assert_eq(
	    config_parse("x", file, strlen(file), stderr, &v->config), 0);
}

/* Sets the limit of descriptors to what so many workers need for so many
 * sessions each. */
static inline void
verdict_limit(struct verdict *v, unsigned workers, uint64_t each)
{
	v->host.files_hard = capacity_descriptors(v->config, workers, each);
}

static inline void
verdict_plan(struct verdict *v, const struct config_egress *e, struct pool *out)
{
	struct preflight_ports ports[16];
	char error[2048], warning[2048];
	struct preflight_wish wish = { .name = e->name,
		.addresses = e->addresses,
		.address_count = e->address_count,
		.ports = ports,
		.port_count = e->port_count,
		.bind = (enum preflight_bind)e->bind };

	cr_assert_leq(e->port_count, ARRAY_LEN(ports));
	for (size_t i = 0; i < e->port_count; i++)
		ports[i] = (struct preflight_ports){ e->ports[i].first,
			e->ports[i].last };
	cr_assert_eq(
	    preflight_plan(&v->host, &wish, out, error, warning, sizeof(error)),
	    0, "%s", error);
}

static inline void
verdict_make(struct verdict *v)
{
	const struct capacity_host host = { .descriptors = v->host.files_hard,
		.processors = VERDICT_PROCESSORS };
	size_t count = v->config->egress_count;

	v->pools = calloc(count, sizeof(*v->pools));
	cr_assert_not_null(v->pools);
	for (size_t i = 0; i < count; i++)
		verdict_plan(v, &v->config->egresses[i], &v->pools[i]);
	cr_assert_eq(capacity_find(v->config, &host, stderr, &v->capacity), 0);
	v->facts = (struct advice_facts){ .config = v->config,
		.host = &v->host,
		.pools = v->pools,
		.capacity = &v->capacity,
		.processors = VERDICT_PROCESSORS,
		.strangers = &v->strangers };
}

static inline void
verdict_fini(struct verdict *v)
{
	strangers_fini(&v->strangers);
	free(v->pools);
	config_free(v->config);
}

/* Another program's socket, as "127.0.0.1:40000"; pid 0: it is not known. */
static inline void
verdict_add_stranger(struct verdict *v, const char *local,
    enum stranger_state state, int pid, const char *program)
{
	struct stranger one = { .state = state, .uid = 33, .pid = pid };

	cr_assert_eq(addr_parse(local, &one.local), 0, "%s", local);
	strcpy_bounded(one.program, sizeof(one.program), program);
	cr_assert_eq(strangers_add(&v->strangers, &one), 0);
}

static inline void
verdict_expect(const struct verdict *v, const char *words)
{
	cr_expect_not_null(
	    strstr(v->text, words), "\"%s\" lacks \"%s\"", v->text, words);
}

#endif
