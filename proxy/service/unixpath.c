/* SPDX-License-Identifier: ISC */
#include "service/unixpath.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <unistd.h>

static int
open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* A socket file that nobody listens on any more is in the way; any other file
 * is somebody's. */
static int
remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd, error = 0;

	if (lstat(sun->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = open_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 ||
	    errno != ECONNREFUSED)
		error = -EADDRINUSE;
	close(fd);
	if (error == 0 && unlink(sun->sun_path) != 0)
		error = -errno;
	return error;
}

int
unixpath_bind(const char *path, struct unixpath *out, int *fd_out)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	int error, fd;

	strcpy_bounded(sun.sun_path, sizeof(sun.sun_path), path);
	error = remove_stale(&sun);
	if (error != 0)
		return error;
	fd = open_socket();
	if (fd < 0)
		return fd;
	if (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) != 0 ||
	    lstat(path, &st) != 0) {
		error = -errno;
		close(fd);
		return error;
	}
	out->device = st.st_dev;
	out->inode = st.st_ino;
	*fd_out = fd;
	return 0;
}

void
unixpath_remove(const char *path, struct unixpath *file)
{
	struct stat st;

	if (file->inode != 0 && lstat(path, &st) == 0 &&
	    st.st_dev == file->device && st.st_ino == file->inode)
		unlink(path);
	file->inode = 0;
}
