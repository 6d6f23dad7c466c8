/* SPDX-License-Identifier: ISC */
#include "service/privileges.h"

#include <sys/resource.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

static int
look_up(const char *name, struct identity *out)
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	if (getpwnam_r(name, &pw, buf, sizeof(buf), &found) != 0 ||
	    found == NULL)
		return -ENOENT;
	out->uid = pw.pw_uid;
	out->gid = pw.pw_gid;
	strcpy_bounded(out->name, sizeof(out->name), name);
	return 0;
}

/* Those we have are set once more. */
static bool
may_set_groups(void)
{
	gid_t groups[1024];
	int count = getgroups(ARRAY_LEN(groups), groups);

	return count < 0 || setgroups((size_t)count, groups) == 0 ||
	       errno != EPERM;
}

int
privileges_find(const char *user, struct identity *out)
{
	struct identity id = { 0 };
	int error;

	if (user[0] != '\0')
		error = look_up(user, &id);
	else if (geteuid() != 0)
		error = 0;
	else
		error =
		    look_up("fourfold", &id) == 0 ? 0 : look_up("nobody", &id);
	if (error != 0)
		return error;
	id.change = id.name[0] != '\0' && id.uid != geteuid();
	if (id.change && geteuid() != 0)
		return -EPERM;
	if (id.change && user[0] == '\0' && !may_set_groups())
		id = (struct identity){ .unwanted = true };
	*out = id;
	return 0;
}

int
privileges_drop(const struct identity *id)
{
	if (!id->change)
		return 0;
	if (initgroups(id->name, id->gid) != 0 || setgid(id->gid) != 0 ||
	    setuid(id->uid) != 0)
		return -errno;
	return setuid(0) == 0 ? -EPERM : 0;
}

uint64_t
privileges_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}
