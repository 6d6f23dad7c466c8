/* SPDX-License-Identifier: ISC */
/*
 * What fourfold check says to somebody who may not look at other users'
 * processes. The rest of it is in tests/integration/it_check.c.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "netns.h"
#include "peer.h"
#include "service/check.h"

static bool
holds(const char *address)
{
	struct addr a;
	int fd = addr_parse(address, &a) == 0 ? peer_try_bind(&a) : -1;

	return fd >= 0 && listen(fd, 1) == 0;
}

/* A process of root that listens at our own address and on a port of the
 * pool, until it is killed. */
static pid_t
start_stranger(void)
{
	int ready[2];
	char byte;
	pid_t pid = -1;

	if (pipe(ready) == 0)
		pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (holds("0.0.0.0:1080") && holds("127.0.0.9:40000"))
			(void)!write(ready[1], "x", 1);
		close(ready[1]);
		pause();
		_exit(0);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1) {
		kill(pid, SIGKILL);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static int
strangers_are_not_named(void)
{
	char *out = NULL, *errors = NULL;
	size_t out_size, errors_size;
	FILE *o = open_memstream(&out, &out_size);
	FILE *e = open_memstream(&errors, &errors_size);
	pid_t stranger = start_stranger();
	int result = 1;

	if (o == NULL || e == NULL || stranger < 0 || seteuid(65534) != 0)
		return result;
	int status = check_run(NULL, o, e);

	fclose(o);
	fclose(e);
	if (seteuid(0) == 0)
		kill(stranger, SIGKILL);
	if (waitpid(stranger, NULL, 0) != stranger)
		result = 2;
	/* It may be Fourfold itself, so it is no error. */
	else if (status != 0 || *errors != '\0')
		result = 3;
	else if (strstr(out, "  [listen default] 127.0.0.1:1080 is in use by a "
			     "program of uid 0 (root sees which); ") == NULL)
		result = 4;
	else if (strstr(out, "  [egress default] a program of uid 0 (root sees "
			     "which) listens on port 40000; ") == NULL)
		result = 5;
	else
		result = 0;
	free(out);
	free(errors);
	return result;
}

Test(check, who_is_not_root_is_told_that_root_sees_more)
{
	static const char *const setup[] = { NULL };
	int result;

	if (geteuid() != 0)
		cr_skip_test("only root can be another user");
	result = netns_run(setup, strangers_are_not_named);
	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

Test(check, a_file_that_cannot_be_read_is_an_error)
{
	char out[64] = "", errors[256] = "";
	FILE *o = fmemopen(out, sizeof(out), "w");
	FILE *e = fmemopen(errors, sizeof(errors), "w");

	cr_assert(o != NULL && e != NULL);
	cr_expect_eq(check_run("/nonexistent/f.conf", o, e), 2);
	fclose(o);
	fclose(e);
	cr_expect_str_empty(out);
	cr_expect_not_null(strstr(errors, "/nonexistent/f.conf: "));
}
