/* SPDX-License-Identifier: ISC */
/*
 * Thousands of sessions whose client does not read while the target sends: what
 * the shipped build keeps for them stays within max-buffer-memory, and is given
 * back when they have read all, none of which is lost.
 *
 * In a namespace of its own the kernel's buffers are small, so that so many
 * fit, and each session has more to keep than they take.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon.h"
#include "flow.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS 3000U
#define LIMIT_KB 4096ULL
#define SLACK_KB 1024ULL

unsigned
it_needs(void)
{
	return IT_RELEASE | IT_NAMESPACES | IT_FILES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	/* The clients, then the targets. */
	struct flow flows[2 * SESSIONS];
};

static struct scene *
scene_new(const char *splice)
{
	struct scene *s = calloc(1, sizeof(*s));
	char config[256];

	cr_assert_not_null(s);
	namespace_enter();
	namespace_sysctl("ipv4/tcp_wmem", "4096 16384 16384");
	namespace_sysctl("ipv4/tcp_rmem", "4096 16384 16384");
	snprintf(config, sizeof(config),
	    "[listen default]\naddress = 127.0.0.1:0\n"
	    "[relay]\nsplice = %s\nmax-buffer-memory = 4M\n",
	    splice);
	s->daemon =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "workers = 1\n",
		.config = config });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
	return s;
}

static void
open_session(struct scene *s, uint32_t n)
{
	struct addr to = target_number(&s->target, n);
	struct pair p;

	pair_open(&p, &s->proxy, &s->target, &to);
	s->flows[n] =
	    (struct flow){ .fd = p.client, .last = FLOW_FINISH, .in_seed = n };
	s->flows[SESSIONS + n] = (struct flow){ .fd = p.target,
		.last = FLOW_FINISH,
		.out_seed = n,
		.out_total = 1024 * 1024 };
}

static uint64_t
own_kb(struct scene *s)
{
	uint64_t kb = daemon_own_kb(s->daemon);

	printf("%llu KiB\n", (unsigned long long)kb);
	return kb;
}

static void
stay_within_the_limit(const char *splice)
{
	struct scene *s = scene_new(splice);

	for (uint32_t i = 0; i < SESSIONS; i++)
		open_session(s, i);
	uint64_t before = own_kb(s);

	flows_push(s->flows + SESSIONS, SESSIONS);
	uint64_t stalled = own_kb(s);

	cr_expect_leq(stalled, before + LIMIT_KB + SLACK_KB);
	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct flow *f = &s->flows[SESSIONS + i];

		IT_MUST(f->out_sent < f->out_total, "all was taken");
		f->out_total = f->out_sent + 1000;
	}
	/* All that was sent arrives when they read again. */
	flows_run(s->flows, ARRAY_LEN(s->flows), 1);
	for (uint32_t i = 0; i < SESSIONS; i++) {
		IT_MUST(s->flows[i].in_got == s->flows[SESSIONS + i].out_total,
		    "bytes are missing");
		IT_MUST(s->flows[i].in_end == FLOW_EOF, "no clean end");
	}
	IT_EVENTUALLY(daemon_own_kb(s->daemon) <= before + SLACK_KB);
	for (uint32_t i = 0; i < ARRAY_LEN(s->flows); i++)
		close(s->flows[i].fd);
	target_close(&s->target);
	daemon_stop(s->daemon);
	free(s);
}

Test(scale_stalled, thousands_stay_within_the_limit_copied)
{
	stay_within_the_limit("no");
}

Test(scale_stalled, thousands_stay_within_the_limit_spliced)
{
	stay_within_the_limit("yes");
}
