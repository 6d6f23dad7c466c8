/* SPDX-License-Identifier: ISC */
/*
 * Past 65,535: 100,000 sessions at once through one proxy, from one source
 * address and ONE source port.
 */
#include <stdio.h>

#include "crowd.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"

#define SESSIONS        100000U
#define SOURCE_PORT     40000
#define PROCESSES       6U
#define BYTES_A_SESSION 1536U

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_RELEASE | IT_MANY_FILES;
}

static bool
is_source(const struct addr *source)
{
	struct addr expected = addr_v4(0x7f000001, SOURCE_PORT);

	return addr_equal(source, &expected);
}

static void
report_rate(struct daemon *d, uint64_t took_ms)
{
	pid_t pids[DAEMON_PROCESSES_MAX];

	printf("established: %u sessions by %zu workers in %llu ms, "
	       "%llu a second\n",
	    SESSIONS, daemon_workers(d, pids), (unsigned long long)took_ms,
	    (unsigned long long)(SESSIONS * 1000ULL / (took_ms + 1)));
}

Test(scale_sessions, a_hundred_thousand_are_held_from_one_source_port)
{
	struct target target;

	namespace_enter_with_ports(&target, SOURCE_PORT, SOURCE_PORT);
	struct crowd *crowd =
	    crowd_start(&(struct crowd_setup){ .sessions = SESSIONS,
		.clients = PROCESSES,
		.targets = PROCESSES,
		.target = &target,
		.to = target_number,
		.is_source = is_source });
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "max-sessions = 100000\nworkers = auto\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000\naddresses = 127.0.0.1\n"
			  "[log]\naccess = no\n" });
	uint64_t before_kb = daemon_own_kb(d);

	report_rate(d, crowd_open(crowd));
	uint64_t bytes = (daemon_own_kb(d) - before_kb) * 1024 / SESSIONS;

	printf("memory: %llu bytes a session, %llu KiB without any\n",
	    (unsigned long long)bytes, (unsigned long long)before_kb);
	crowd_exchange(crowd);
	crowd_finish(crowd);
	daemon_stop(d);
	cr_expect_leq(bytes, BYTES_A_SESSION);
}
