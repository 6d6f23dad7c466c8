/* SPDX-License-Identifier: ISC */
#include "service/control.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <unistd.h>

#define GROUP "fourfold" /* by auto, where there is such a group */

/* Clients that may wait; each has a short question. */
#define BACKLOG 32

void
control_init(struct control *c)
{
	*c = (struct control){ .fd = -1 };
}

static int
find_group(const char *name, gid_t *out)
{
	struct group group, *found = NULL;
	char buf[16384];

	if (getgrnam_r(name, &group, buf, sizeof(buf), &found) != 0 ||
	    found == NULL)
		return -ENOENT;
	*out = group.gr_gid;
	return 0;
}

/* The file is no other group's then. Where nobody named a group, one that we
 * may not give it to is none to insist on. */
static int
set_group(const char *path, const char *name)
{
	struct stat st;
	gid_t gid;
	int error = find_group(name[0] != '\0' ? name : GROUP, &gid);

	if (error == 0 && stat(path, &st) != 0)
		error = -errno;
	if (error == 0 && st.st_gid != gid && chown(path, (uid_t)-1, gid) != 0)
		error = -errno;
	return name[0] != '\0' ? error : 0;
}

int
control_check_group(const struct config *config)
{
	const char *name = config->control_group;
	gid_t gid;
	int error = name[0] != '\0' ? find_group(name, &gid) : 0;

	if (name[0] == '\0' || error != 0)
		return error;
	return geteuid() == 0 || gid == getegid() || group_member(gid) ? 0
								       : -EPERM;
}

static int
set_access(const struct control *c, const struct config *config)
{
	int error = set_group(c->path, config->control_group);

	/* chown() may take bits away. */
	if (error == 0 && chmod(c->path, config->control_mode) != 0)
		error = -errno;
	return error;
}

static int
make(struct control *c, const struct config *config)
{
	int error;

	strcpy_bounded(c->path, sizeof(c->path), config->control_path);
	error = unixpath_bind(c->path, &c->file, &c->fd);
	if (error == 0)
		error = set_access(c, config);
	if (error == 0 && listen(c->fd, BACKLOG) != 0)
		error = -errno;
	return error;
}

static const char *
reason(int error)
{
	switch (error) {
	case -EADDRINUSE:
		return "another instance listens there";
	case -EEXIST:
		return "there is a file that is not a socket";
	case -ENOENT:
		return "its folder, or its group, does not exist";
	default:
		return strerror(-error);
	}
}

int
control_open(struct control *out, const struct config *config,
    const struct control *old, struct log *log, FILE *errors)
{
	struct control c;
	int error;

	control_init(&c);
	*out = c;
	if (config->control_path[0] == '\0')
		return 0;
	if (old != NULL && old->fd != -1 &&
	    strcmp(old->path, config->control_path) == 0) {
		c = *old;
		error = set_access(&c, config);
	} else {
		error = make(&c, config);
	}
	if (error == 0) {
		*out = c;
		return 0;
	}
	control_close(&c, old);
	if (config->control_asked) {
		fprintf(errors, "[control] socket = %s cannot be made: %s\n",
		    config->control_path, reason(error));
		return error;
	}
	log_begin(log, LOG_LEVEL_INFO, "control_unavailable");
	log_text(log, "path", config->control_path);
	log_text(log, "reason", reason(error));
	log_end(log);
	return 0;
}

void
control_close(struct control *c, const struct control *other)
{
	if (c->fd != -1 && (other == NULL || other->fd != c->fd)) {
		unixpath_remove(c->path, &c->file);
		/* Observers have copies: what ends the listening at once is
		 * shutdown(). */
		shutdown(c->fd, SHUT_RDWR);
		close(c->fd);
	}
	control_init(c);
}
