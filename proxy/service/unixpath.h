/* SPDX-License-Identifier: ISC */
/*
 * unixpath: the file of a listening unix socket. What a dead process left is
 * replaced, what a living one listens on is not, and at the end only the file
 * that is ours is removed.
 */
#ifndef FOURFOLD_UNIXPATH_H
#define FOURFOLD_UNIXPATH_H

#include <sys/types.h>

#include "base/base.h"

struct unixpath {
	dev_t device; /* of the file that is ours */
	ino_t inode;  /* 0: none is */
};

/*
 * A socket that does not block, bound to `path` and not listening, in `fd`.
 * -EADDRINUSE: somebody listens there; -EEXIST: it is a file of another kind.
 */
MUST_USE int unixpath_bind(const char *path, struct unixpath *out, int *fd);

/* Would it be bound? Changes nothing, and who listens there does not notice.
 * Errors as of unixpath_bind(). */
MUST_USE int unixpath_check(const char *path);

/* By now another file may be there: then it stays. */
void unixpath_remove(const char *path, struct unixpath *file);

#endif
