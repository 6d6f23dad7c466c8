/* SPDX-License-Identifier: ISC */
/* What changes who we are happens in a child, where must() says what did not
 * hold. */
#include <sys/resource.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "service/privileges.h"

static void
in_child(void body(void))
{
	pid_t pid = fork();
	int status;

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		body();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "see the broken invariant above");
}

static void
want_root(void)
{
	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
	if (getpwnam("nobody") == NULL)
		cr_skip_test("there is no user \"nobody\"");
}

Test(privileges, an_unknown_user_is_not_found)
{
	struct identity id = { .uid = 12345 };

	cr_expect_eq(privileges_find("no such user", &id), -ENOENT);
	cr_expect_eq(id.uid, 12345, "written on failure");
}

Test(privileges, auto_is_fourfold_or_nobody_for_root)
{
	const struct passwd *pw;
	struct identity id;

	want_root();
	pw = getpwnam("fourfold");
	if (pw == NULL)
		pw = getpwnam("nobody");
	cr_assert_eq(privileges_find("", &id), 0);
	cr_expect(id.change && !id.unwanted);
	cr_expect_str_eq(id.name, pw->pw_name);
	cr_expect_eq(id.uid, pw->pw_uid);
	cr_expect_eq(id.gid, pw->pw_gid);
}

Test(privileges, a_name_is_that_user_and_root_stays_root)
{
	struct identity id;

	want_root();
	cr_assert_eq(privileges_find("nobody", &id), 0);
	cr_expect(id.change);
	cr_expect_eq(id.uid, getpwnam("nobody")->pw_uid);
	cr_assert_eq(privileges_find("root", &id), 0);
	cr_expect_not(id.change);
	cr_expect_eq(privileges_drop(&id), 0);
	cr_expect_eq(geteuid(), 0);
}

static void
find_as_nobody(void)
{
	struct identity id;

	must(setuid(getpwnam("nobody")->pw_uid) == 0);
	must(privileges_find("", &id) == 0 && !id.change);
	must(privileges_find("nobody", &id) == 0 && !id.change);
	must(privileges_find("root", &id) == -EPERM);
}

Test(privileges, who_is_not_root_stays_who_it_is)
{
	want_root();
	in_child(find_as_nobody);
}

static void
write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && write(fd, text, strlen(text)) > 0);
	close(fd);
}

/* The root of a user namespace that has no other user. */
static void
find_as_a_lonely_root(void)
{
	struct identity id;

	must(unshare(CLONE_NEWUSER) == 0);
	write_to("/proc/self/setgroups", "deny");
	write_to("/proc/self/uid_map", "0 0 1");
	write_to("/proc/self/gid_map", "0 0 1");
	must(geteuid() == 0);
	must(privileges_find("", &id) == 0 && !id.change && id.unwanted);
	must(privileges_drop(&id) == 0 && geteuid() == 0);
	/* Whoever says so gets it or an error. */
	must(privileges_find("nobody", &id) == 0 && id.change && !id.unwanted);
	must(privileges_drop(&id) == -EPERM);
}

static bool
has_user_namespaces(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

Test(privileges, a_root_that_may_not_change_stays_and_is_known)
{
	want_root();
	if (!has_user_namespaces())
		cr_skip_test("no user namespaces");
	in_child(find_as_a_lonely_root);
}

static void
drop_to_nobody(void)
{
	struct identity id;
	gid_t groups[64];
	int count;

	must(privileges_find("nobody", &id) == 0);
	must(privileges_drop(&id) == 0);
	must(getuid() == id.uid && geteuid() == id.uid);
	must(getgid() == id.gid && getegid() == id.gid);
	must(setuid(0) != 0 && seteuid(0) != 0 && setgid(0) != 0);
	count = getgroups((int)ARRAY_LEN(groups), groups);
	must(count >= 0);
	for (int i = 0; i < count; i++)
		must(groups[i] != 0);
}

Test(privileges, what_is_dropped_does_not_come_back)
{
	want_root();
	in_child(drop_to_nobody);
}

static void
raise_limit(void)
{
	struct rlimit limit;

	must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max / 2;
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	must(privileges_raise_descriptors() == limit.rlim_max);
	must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	must(limit.rlim_cur == limit.rlim_max);
}

Test(privileges, descriptors_are_raised_to_what_is_allowed)
{
	in_child(raise_limit);
}
