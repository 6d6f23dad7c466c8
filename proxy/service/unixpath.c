/* SPDX-License-Identifier: ISC */
#include "service/unixpath.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int
open_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static struct sockaddr_un
address_of(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	strcpy_bounded(sun.sun_path, sizeof(sun.sun_path), path);
	return sun;
}

/* Is there a file that nobody has bound any more? A living one is an error, and
 * so is any other kind of file, which is somebody's. A datagram socket is told
 * so (EPROTOTYPE) without becoming a client. */
static int
find_stale(const struct sockaddr_un *sun, bool *stale)
{
	struct stat st;
	int fd, error = 0;

	*stale = false;
	if (lstat(sun->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = open_socket(SOCK_DGRAM);
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 ||
	    errno != ECONNREFUSED)
		error = -EADDRINUSE;
	close(fd);
	*stale = error == 0;
	return error;
}

int
unixpath_check(const char *path)
{
	struct sockaddr_un sun = address_of(path);
	char *slash = strrchr(sun.sun_path, '/');
	bool stale;
	int error = find_stale(&sun, &stale);

	if (error != 0)
		return error;
	/* To its folder: "/" stays. */
	if (slash != NULL)
		slash[slash == sun.sun_path] = '\0';
	return faccessat(AT_FDCWD, slash != NULL ? sun.sun_path : ".",
		   W_OK | X_OK, AT_EACCESS) == 0
		   ? 0
		   : -errno;
}

int
unixpath_bind(const char *path, struct unixpath *out, int *fd_out)
{
	struct sockaddr_un sun = address_of(path);
	struct stat st;
	bool stale;
	int error = find_stale(&sun, &stale), fd;

	if (error == 0 && stale && unlink(path) != 0)
		error = -errno;
	if (error != 0)
		return error;
	fd = open_socket(SOCK_STREAM);
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
