/* SPDX-License-Identifier: ISC */
/*
 * What the shipped build needs for an idle session: below 0.8 KiB of memory in
 * all, the ledger's part included, from 4,000 sessions up; two descriptors; and
 * nothing more when bytes have gone through it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS   4000U
#define A_SESSION  819U /* bytes */
#define NO_MORE_KB 64U
#define A_FEW      8U

unsigned
it_needs(void)
{
	return IT_RELEASE | IT_FILES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct pair pairs[SESSIONS];
};

static void
open_sessions(struct scene *s)
{
	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct addr to = target_number(&s->target, i);

		pair_open(&s->pairs[i], &s->proxy, &s->target, &to);
	}
}

static void
exchange_all(struct scene *s)
{
	for (uint32_t i = 0; i < SESSIONS; i++)
		pair_exchange(&s->pairs[i], i);
}

Test(scale_idle, four_thousand_sessions_take_little)
{
	struct scene *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .binary = it_release_binary(), .proxy = "workers = 2\n" });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
	unsigned fds_before = daemon_descriptors(s->daemon);
	uint64_t before_kb = daemon_own_kb(s->daemon);

	open_sessions(s);
	uint64_t open_kb = daemon_own_kb(s->daemon);
	unsigned fds = daemon_descriptors(s->daemon) - fds_before;
	uint64_t bytes = (open_kb - before_kb) * 1024 / SESSIONS;

	exchange_all(s);
	exchange_all(s);
	uint64_t active_kb = daemon_own_kb(s->daemon);

	printf("%llu bytes and %.2f descriptors a session\n",
	    (unsigned long long)bytes, (double)fds / SESSIONS);
	cr_expect_leq(bytes, A_SESSION, "%llu", (unsigned long long)bytes);
	cr_expect_leq(fds, 2 * SESSIONS + A_FEW, "%u", fds);
	cr_expect_leq(active_kb, open_kb + NO_MORE_KB, "%llu KiB, then %llu",
	    (unsigned long long)open_kb, (unsigned long long)active_kb);
	for (uint32_t i = 0; i < SESSIONS; i++)
		pair_reset(&s->pairs[i]);
	target_close(&s->target);
	daemon_stop(s->daemon);
	free(s);
}
