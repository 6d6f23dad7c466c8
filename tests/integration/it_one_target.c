/* SPDX-License-Identifier: ISC */
/*
 * All ports of a pool towards one target: not one is wasted, and what is too
 * much is refused from the ledger, without asking the kernel.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define FIRST_PORT 40000
#define PORTS      1000
#define WORKERS    4
#define TOO_MANY   50 /* clients, so that each worker is asked */

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

Test(one_target, every_port_of_the_pool_is_used_and_no_connect_more)
{
	struct pair *pairs = calloc(PORTS, sizeof(*pairs));
	bool seen[PORTS] = { false };
	pid_t pids[DAEMON_PROCESSES_MAX];
	struct target target;
	int fd;

	cr_assert_not_null(pairs);
	namespace_enter_with_ports(&target, 30000, FIRST_PORT + PORTS - 1);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 4\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000-40999\nwait = off\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	cr_assert_eq(daemon_workers(d, pids), WORKERS);
	for (unsigned i = 0; i < PORTS; i++) {
		pair_open(&pairs[i], &proxy, &target, &to);
		unsigned at = pairs[i].source.port - FIRST_PORT;

		cr_assert(
		    at < PORTS && !seen[at], "port %u", pairs[i].source.port);
		seen[at] = true;
	}
	for (unsigned i = 0; i < TOO_MANY; i++)
		cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	daemon_wait_lines(
	    d, TOO_MANY, DAEMON_WORDS("event=session", "reason=target_full"));
	for (unsigned i = 0; i < PORTS; i++)
		pair_exchange(&pairs[i], i);
	pair_reset_all(pairs, PORTS);
	daemon_wait_lines(d, PORTS + TOO_MANY, DAEMON_WORDS("event=session"));
	daemon_signal(d, SIGTERM);
	cr_assert_eq(daemon_wait_exit(d), 0);
	cr_assert_eq(daemon_counter(d, "connects"), PORTS);
	cr_assert_eq(daemon_counter(d, "closed_target_full"), TOO_MANY);
	daemon_free(d);
	free(pairs);
}

Test(one_target, two_source_addresses_hold_twice_as_many)
{
	enum { EACH = 20 };
	struct pair pairs[2 * EACH];
	struct target target;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40999);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000-40019\nwait = off\n"
			  "addresses = 127.0.0.1 127.9.9.9\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
		pair_open(&pairs[i], &proxy, &target, &to);
		for (unsigned j = 0; j < i; j++)
			cr_assert(
			    !addr_equal(&pairs[i].source, &pairs[j].source));
	}
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	pair_reset_all(pairs, ARRAY_LEN(pairs));
	daemon_stop(d);
}

Test(one_target, a_full_target_is_no_matter_for_the_others)
{
	struct target target;
	struct pair full, other;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40999);
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:1080\n"
		      "[egress e]\nports = 40000\nwait = off\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	struct addr another = target_at(&target, "127.0.0.2");

	pair_open(&full, &proxy, &target, &to);
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	pair_open(&other, &proxy, &target, &another);
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	pair_exchange(&other, 1);
	pair_reset(&full);
	pair_reset(&other);
	daemon_stop(d);
}
