/* SPDX-License-Identifier: ISC */
/*
 * names: the users' names by their ids, in memory that all processes share and
 * the master alone writes. A name keeps its id for as long as the master runs,
 * whatever the file becomes: so what the ledger says of a lease taken before a
 * reload stays right.
 */
#ifndef FOURFOLD_NAMES_H
#define FOURFOLD_NAMES_H

#include <stdatomic.h>

#include "policy/config.h"

#define NAMES_MAX 65535 /* ids fit the ledger's 16 bits, 0 being nobody */

/* Zeroed at first; pages that are not used are not touched. */
struct names {
	_Atomic uint32_t count;
	char name[NAMES_MAX][sizeof(((struct config_user *)0)->name)];
};

/* Sets the id of each of the users, who are sorted by name. -ENOSPC: there have
 * been too many names; -ENOMEM. */
MUST_USE int names_assign(
    struct names *n, struct config_user *users, size_t count);

/* NULL: nobody has that id. */
const char *names_get(const struct names *n, unsigned id);

/* 0: the name was never one. */
unsigned names_find(const struct names *n, const char *name);

#endif
