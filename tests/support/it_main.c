/* SPDX-License-Identifier: ISC */
/*
 * The main() of an integration test binary: what it needs of the machine is
 * looked at first, and when it cannot be had the binary says why and exits
 * with 77, so that the tests show as skipped and not as passed.
 */
#include <sys/wait.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "calls.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"

/* A test that hangs is cut by this, not by ctest, so that the others run. */
#define TEST_TIMEOUT_S 300

static bool
has_ipv6(void)
{
	struct addr loopback;
	int fd = -1;

	if (addr_parse("[::1]:0", &loopback) == 0)
		fd = peer_try_bind(&loopback);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* What is missing, or NULL. */
static const char *
missing(unsigned needs)
{
	unsigned long files = it_raise_files();

	if ((needs & IT_NAMESPACES) != 0 && !namespace_available())
		return "no network namespace can be made here "
		       "(neither as root nor as a user)";
	if ((needs & IT_RELEASE) != 0 && access(it_release_binary(), X_OK) != 0)
		return "the release build is not there "
		       "(cmake --preset release && "
		       "cmake --build --preset release)";
	if (((needs & IT_FILES) != 0 && files < 12000) ||
	    ((needs & IT_MANY_FILES) != 0 && files < 19000))
		return "too few descriptors a process (ulimit -Hn)";
	if ((needs & IT_TRACING) != 0 && !calls_available())
		return "this process may not trace its children (ptrace)";
	if ((needs & IT_IPV6) != 0 && !has_ipv6())
		return "this host has no ::1";
	return NULL;
}

int
main(int argc, char **argv)
{
	const char *why = missing(it_needs());

	if (why != NULL) {
		printf("SKIPPED: %s\n", why);
		return IT_SKIPPED;
	}
	/* While this process has one thread: later no user namespace can be
	 * made any more. */
	if ((it_needs() & IT_NAMESPACES) != 0)
		namespace_become_able();

	struct criterion_test_set *tests = criterion_initialize();
	int status = EXIT_SUCCESS;

	criterion_options.timeout = TEST_TIMEOUT_S;
	criterion_options.jobs = 2;
	if (criterion_handle_args(argc, argv, true) &&
	    criterion_run_all_tests(tests) == 0)
		status = EXIT_FAILURE;
	criterion_finalize(tests);
	return status;
}
