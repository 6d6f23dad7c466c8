/* SPDX-License-Identifier: ISC */
/*
 * What the shipped build needs for an idle session: below 0.8 KiB of memory in
 * all, the ledger's part included, from 4,000 sessions up, when bytes have gone
 * through it, however often; and two descriptors.
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
#define ROUNDS     10U
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

/* The memory once it grows no more: who looks at the budget once a second has
 * then seen the sessions, too. */
static uint64_t
settled_kb(struct scene *s)
{
	uint64_t before_kb, kb = daemon_own_kb(s->daemon);
	unsigned rounds = 0;

	do {
		IT_MUST(rounds++ < ROUNDS, "it grows with each round");
		before_kb = kb;
		exchange_all(s);
		kb = daemon_own_kb(s->daemon);
	} while (kb > before_kb + NO_MORE_KB);
	return kb;
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
	unsigned fds = daemon_descriptors(s->daemon) - fds_before;
	uint64_t bytes = (settled_kb(s) - before_kb) * 1024 / SESSIONS;

	printf("%llu bytes and %.2f descriptors a session\n",
	    (unsigned long long)bytes, (double)fds / SESSIONS);
	cr_expect_leq(bytes, A_SESSION, "%llu", (unsigned long long)bytes);
	cr_expect_leq(fds, 2 * SESSIONS + A_FEW, "%u", fds);
	pair_reset_all(s->pairs, SESSIONS);
	target_close(&s->target);
	daemon_stop(s->daemon);
	free(s);
}
