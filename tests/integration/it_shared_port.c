/* SPDX-License-Identifier: ISC */
/*
 * One source port, many targets: what Fourfold is for.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS    5000
#define SOURCE_PORT 40000

#define CONFIG                                   \
	"[listen a]\naddress = 127.0.0.1:1080\n" \
	"[egress e]\nports = 40000\nwait = off\n"

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_FILES;
}

Test(shared_port, five_thousand_targets_see_one_source_port)
{
	struct pair *pairs = calloc(SESSIONS, sizeof(*pairs));
	struct addr source = addr_v4(0x7f000001, SOURCE_PORT);
	struct target target;

	cr_assert_not_null(pairs);
	namespace_enter_with_ports(&target, SOURCE_PORT, SOURCE_PORT);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = CONFIG "addresses = 127.0.0.1\n" });
	struct addr proxy = daemon_address(d, "a");

	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct addr to = target_number(&target, i);

		pair_open_by(
		    &pairs[i], peer_connect_numbered(i, &proxy), &target, &to);
		cr_assert(addr_equal(&pairs[i].source, &source));
	}
	/* All are held at once, and each is its own. */
	for (uint32_t i = 0; i < SESSIONS; i++)
		pair_exchange(&pairs[i], i);
	pair_reset_all(pairs, SESSIONS);
	daemon_wait_lines(d, SESSIONS, DAEMON_WORDS("event=session"));
	daemon_stop(d);
	free(pairs);
}

/* By route, without `addresses`. */
Test(shared_port, a_second_session_to_a_target_waits_for_the_end_of_the_first)
{
	struct target target;
	struct pair first, other;
	uint32_t clients = 0;
	int fd;

	namespace_enter_with_ports(&target, SOURCE_PORT, SOURCE_PORT);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .config = CONFIG });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_number(&target, 7);
	struct addr another = target_number(&target, 8);

	pair_open_by(
	    &first, peer_connect_numbered(clients++, &proxy), &target, &to);
	pair_open_by(&other, peer_connect_numbered(clients++, &proxy), &target,
	    &another);
	fd = peer_connect_numbered(clients++, &proxy);
	cr_assert_eq(socks_ask(fd, &to).code, 1);
	peer_expect_eof(fd);
	daemon_wait_log(d, "event=session", "reason=target_full");
	pair_exchange(&first, 1);

	pair_reset(&first);
	/* The lease comes back just after the target has seen the reset. */
	uint64_t since = it_now_ms();

	for (;;) {
		fd = peer_connect_numbered(clients++, &proxy);
		if (socks_ask(fd, &to).code == 0)
			break;
		close(fd);
		it_again(since, "the target is free again");
	}
	int accepted = target_accept(&target);

	peer_exchange(fd, accepted, 2);
	pair_exchange(&other, 3);
	close(fd);
	close(accepted);
	daemon_signal(d, SIGTERM);
	pair_reset(&other);
	cr_assert_eq(daemon_wait_exit(d), 0);
	cr_assert_geq(daemon_counter(d, "closed_target_full"), 1);
	daemon_free(d);
}

/* Who closes first does not matter but for how long the tuple rests. */
Test(shared_port, a_target_that_ends_first_is_free_again_within_seconds)
{
	struct target target;
	struct pair p;
	uint32_t clients = 0;

	namespace_enter_with_ports(&target, SOURCE_PORT, SOURCE_PORT);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .config = CONFIG });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_number(&target, 7);

	pair_open_by(
	    &p, peer_connect_numbered(clients++, &proxy), &target, &to);
	peer_finish(p.target);
	peer_expect_eof(p.client);
	peer_expect_eof(p.target);
	uint64_t since = it_now_ms();
	int fd;

	for (;;) {
		fd = peer_connect_numbered(clients++, &proxy);
		if (socks_ask(fd, &to).code == 0)
			break;
		close(fd);
		it_again(since, "the target is free again");
	}
	/* It cools one second: far from the minute of TIME_WAIT. */
	cr_assert_lt(it_now_ms() - since, 50000);
	close(fd);
	daemon_stop(d);
}
