/* SPDX-License-Identifier: ISC */
/*
 * files: a folder in the place of the host's root, for what reads /proc. It
 * goes at the end of the process.
 */
#ifndef FOURFOLD_FUZZ_FILES_H
#define FOURFOLD_FUZZ_FILES_H

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "program.h"

#define FILES_ROOT_MAX 64
#define FILES_PATH_MAX 256

static inline int
files_remove_one(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* By the process that made it. */
static inline const char *
files_name(char root[FILES_ROOT_MAX])
{
	snprintf(root, FILES_ROOT_MAX, "/dev/shm/fuzz-%d", (int)getpid());
	return root;
}

static inline void
files_remove(void)
{
	char root[FILES_ROOT_MAX];

	nftw(files_name(root), files_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Makes the folder, if there is none, and says its name. */
static inline void
files_root(char root[FILES_ROOT_MAX])
{
	if (mkdir(files_name(root), 0700) == 0)
		must(atexit(files_remove) == 0);
	else
		must(errno == EEXIST);
}

static inline void
files_path(char path[FILES_PATH_MAX], const char *root, const char *name)
{
	int len = snprintf(path, FILES_PATH_MAX, "%s%s", root, name);

	must(len > 0 && len < FILES_PATH_MAX);
}

/* The folders above `path`. */
static inline void
files_make_folders(char *path)
{
	for (char *c = path + 1; *c != '\0'; c++) {
		if (*c != '/')
			continue;
		*c = '\0';
		must(mkdir(path, 0700) == 0 || errno == EEXIST);
		*c = '/';
	}
}

/* Writes root/name anew. */
static inline void
files_put(const char *root, const char *name, const void *bytes, size_t len)
{
	char path[FILES_PATH_MAX];
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
	int fd;

	files_path(path, root, name);
	fd = open(path, flags, 0600);
	if (fd < 0) {
		files_make_folders(path);
		fd = open(path, flags, 0600);
	}
	must(fd >= 0);
	must(len == 0 || write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

static inline void
files_put_part(const char *root, const char *name, struct program part)
{
	files_put(root, name, part.at, part.left);
}

/* Makes root/name a link to what `part` says, if that can be a link. */
static inline void
files_link_part(const char *root, const char *name, struct program part)
{
	char path[FILES_PATH_MAX], target[FILES_PATH_MAX];
	size_t len = part.left < sizeof(target) ? part.left : 0;

	if (len != 0)
		memcpy(target, part.at, len);
	target[len] = '\0';
	files_path(path, root, name);
	files_make_folders(path);
	unlink(path);
	(void)(symlink(target, path) == 0);
}

#endif
