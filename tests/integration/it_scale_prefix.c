/* SPDX-License-Identifier: ISC */
/*
 * An IPv6 prefix as a pool: 5,000 sessions at once to one target, from one port
 * number and 5,000 source addresses.
 */
#include "crowd.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"

#define SESSIONS    5000U
#define SOURCE_PORT 40000
#define PREFIX      "fd00:4f:4f:2::/64"

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_RELEASE | IT_FILES | IT_IPV6;
}

static struct addr
target_of(const struct target *t, uint32_t n)
{
	(void)n;
	return target_at(t, "fd00:4f:4f:1::1");
}

static bool
is_source(const struct addr *source)
{
	struct prefix prefix;

	return prefix_parse(PREFIX, &prefix) == 0 &&
	       prefix_contains(&prefix, source) && source->port == SOURCE_PORT;
}

/* All have the one port towards one target, and are told apart: so have as many
 * addresses as there are sessions. */
Test(scale_prefix, five_thousand_addresses_share_one_port_to_one_target)
{
	struct target target;

	namespace_enter();
	namespace_make_local("fd00:4f:4f:1::1");
	namespace_make_local(PREFIX);
	target_listen_on(&target, "[::]:0");
	namespace_port_range(SOURCE_PORT, SOURCE_PORT);
	struct crowd *crowd =
	    crowd_start(&(struct crowd_setup){ .sessions = SESSIONS,
		.clients = 1,
		.targets = 1,
		.target = &target,
		.to = target_of,
		.is_source = is_source });
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000\n"
			  "addresses = " PREFIX "\n"
			  "[log]\naccess = no\n" });

	crowd_open(crowd);
	crowd_exchange(crowd);
	crowd_finish(crowd);
	daemon_stop(d);
}
