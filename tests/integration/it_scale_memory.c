/* SPDX-License-Identifier: ISC */
/*
 * What the shipped build needs of memory: how much the sanitizers' own needs
 * would hide.
 */
#include <stdio.h>
#include <unistd.h>

#include "daemon.h"
#include "flow.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

#define MIB          (1024ULL * 1024)
#define LIMIT_KB     (10 * 1024ULL)
#define STALLED_MANY 20

unsigned
it_needs(void)
{
	return IT_RELEASE;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
};

static void
scene_open(struct scene *s)
{
	s->daemon = daemon_start(
	    &(struct daemon_setup){ .binary = it_release_binary() });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
}

/* A session whose target sends 1 GB and whose client reads nothing. */
static void
open_stalled(
    struct scene *s, uint32_t n, struct flow *client, struct flow *target)
{
	struct addr to = target_number(&s->target, n);
	struct pair p;

	pair_open(&p, &s->proxy, &s->target, &to);
	*client =
	    (struct flow){ .fd = p.client, .last = FLOW_FINISH, .in_seed = n };
	*target = (struct flow){ .fd = p.target,
		.last = FLOW_FINISH,
		.out_seed = n,
		.out_total = 1024 * MIB };
	flow_push(target);
	IT_MUST(target->out_sent < target->out_total, "all was taken");
}

static void
expect_small(struct scene *s)
{
	unsigned long long kb = daemon_pss_kb(s->daemon);

	printf("memory: %llu KiB\n", kb);
	cr_assert_lt(kb, LIMIT_KB, "%llu KiB", kb);
}

Test(scale_memory, a_gigabyte_for_a_client_that_does_not_read_is_under_10_mb)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s);
	open_stalled(&s, 1, &flows[0], &flows[1]);
	expect_small(&s);
	/* All that was sent arrives when the client reads again. */
	flows[1].out_total = flows[1].out_sent + MIB;
	flows_run(flows, 2, 1);
	cr_assert_eq(flows[0].in_got, flows[1].out_total);
	close(flows[0].fd);
	close(flows[1].fd);
	daemon_stop(s.daemon);
}

Test(scale_memory, twenty_such_clients_are_still_under_10_mb)
{
	struct flow flows[2 * STALLED_MANY];
	struct scene s;

	scene_open(&s);
	for (uint32_t i = 0; i < STALLED_MANY; i++)
		open_stalled(&s, i, &flows[2 * i], &flows[2 * i + 1]);
	expect_small(&s);
	for (uint32_t i = 0; i < 2 * STALLED_MANY; i++)
		peer_reset(flows[i].fd);
	daemon_stop(s.daemon);
}
