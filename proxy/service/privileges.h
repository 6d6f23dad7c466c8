/* SPDX-License-Identifier: ISC */
/*
 * privileges: whom the workers run as, and how many descriptors they may have.
 */
#ifndef FOURFOLD_PRIVILEGES_H
#define FOURFOLD_PRIVILEGES_H

#include <sys/types.h>

#include "base/base.h"

struct identity {
	bool change;   /* false: stay who we are */
	bool unwanted; /* we stay root since there is no other way */
	uid_t uid;
	gid_t gid;
	char name[33];
};

/*
 * `user` "" is auto: when we are root, "fourfold" if there is such a user, else
 * "nobody"; otherwise unchanged, as is a root that may not set its groups (of a
 * user namespace without others, or without CAP_SETGID). -ENOENT: no such user;
 * -EPERM: we are not root and not that user.
 */
MUST_USE int privileges_find(const char *user, struct identity *out);

/* Becomes that user for good. */
MUST_USE int privileges_drop(const struct identity *identity);

/* Raises the limit of descriptors as far as is allowed; what it is then. */
uint64_t privileges_raise_descriptors(void);

#endif
