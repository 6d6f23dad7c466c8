/* SPDX-License-Identifier: ISC */
#include "tree.h"

#include <sys/stat.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "it.h"

void
tree_make(char root[TREE_PATH_MAX])
{
	strcpy_bounded(root, TREE_PATH_MAX, "/tmp/fourfold-tree-XXXXXX");
	IT_MUST(mkdtemp(root) != NULL, "mkdtemp: %s", strerror(errno));
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

void
tree_remove(const char *root)
{
	IT_MUST(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s: %s",
	    root, strerror(errno));
}

/* The whole path in `out`, with the folders above its end. */
static void
make_folders(const char *root, const char *path, char *out, size_t size)
{
	int len = snprintf(out, size, "%s%s", root, path);

	IT_MUST(len > 0 && (size_t)len < size, "%s is too long", path);
	for (char *slash = out + strlen(root); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		IT_MUST(mkdir(out, 0755) == 0 || errno == EEXIST, "%s: %s", out,
		    strerror(errno));
		*slash = '/';
	}
}

void
tree_put(const char *root, const char *path, const char *text)
{
	char whole[512];
	FILE *f;

	make_folders(root, path, whole, sizeof(whole));
	f = fopen(whole, "we");
	IT_MUST(f != NULL, "%s: %s", whole, strerror(errno));
	fputs(text, f);
	fclose(f);
}

void
tree_link(const char *root, const char *path, const char *target)
{
	char whole[512];

	make_folders(root, path, whole, sizeof(whole));
	IT_MUST(symlink(target, whole) == 0, "%s: %s", whole, strerror(errno));
}
