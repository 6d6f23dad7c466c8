/* SPDX-License-Identifier: ISC */
/*
 * Past 65,535 towards ONE target: 84,000 sessions at once through one proxy
 * from three source addresses with 28,000 ports each. It is the whole pool: not
 * one slot is lost.
 *
 * The clients' own leg has four numbers too: several client addresses, and
 * several listening ports.
 */
#include <stdio.h>

#include "crowd.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"

#define SOURCES     3U
#define FIRST_PORT  30000U
#define PORTS       28000U
#define SESSIONS    (SOURCES * PORTS)
#define LISTENERS   4U /* ports, from 1080 up */
#define PROCESSES   5U
#define SOURCE_BASE 0x7f000201U /* 127.0.2.1 */

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_RELEASE | IT_MANY_FILES;
}

/* Two client addresses would do: each port of one serves all listeners. */
static struct addr
client_of(uint32_t n)
{
	return crowd_client(n / LISTENERS, SESSIONS / LISTENERS / 2);
}

static struct addr
proxy_of(uint32_t n)
{
	return addr_v4(0x7f000001, (uint16_t)(1080 + n % LISTENERS));
}

static struct addr
target_of(const struct target *t, uint32_t n)
{
	(void)n;
	return addr_v4(0x7f000001, t->port);
}

static bool
is_source(const struct addr *source)
{
	for (uint32_t i = 0; i < SOURCES; i++) {
		struct addr a = addr_v4(SOURCE_BASE + i, source->port);

		if (addr_equal(source, &a))
			return source->port >= FIRST_PORT &&
			       source->port < FIRST_PORT + PORTS;
	}
	return false;
}

Test(scale_one_target, three_addresses_hold_three_times_their_ports)
{
	struct target target;

	namespace_enter_with_ports(&target, FIRST_PORT, FIRST_PORT + PORTS - 1);
	struct crowd *crowd =
	    crowd_start(&(struct crowd_setup){ .sessions = SESSIONS,
		.clients = PROCESSES,
		.targets = PROCESSES,
		.target = &target,
		.from = client_of,
		.proxy = proxy_of,
		.to = target_of,
		.is_source = is_source });
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "max-sessions = 84001\nworkers = auto\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080-1083\n"
			  "[egress e]\nports = 30000-57999\n"
			  "addresses = 127.0.2.1 127.0.2.2 127.0.2.3\n"
			  "[log]\naccess = no\n" });
	uint64_t took_ms = crowd_open(crowd);

	printf("established: %u sessions to one target in %llu ms, "
	       "%llu a second\n",
	    SESSIONS, (unsigned long long)took_ms,
	    (unsigned long long)(SESSIONS * 1000ULL / (took_ms + 1)));
	crowd_exchange(crowd);
	crowd_finish(crowd);
	daemon_stop(d);
}
