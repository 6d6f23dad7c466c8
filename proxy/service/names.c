/* SPDX-License-Identifier: ISC */
#include "service/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t
count_of(const struct names *n)
{
	return atomic_load_explicit(&n->count, memory_order_acquire);
}

static const char *
name_of(const struct names *n, uint32_t id)
{
	return n->name[id - 1];
}

static int
by_name(const void *a, const void *b, void *names)
{
	return strcmp(name_of(names, *(const uint32_t *)a),
	    name_of(names, *(const uint32_t *)b));
}

/* A new name; 0: there is no id left. */
static uint32_t
add(struct names *n, const char *name)
{
	uint32_t count = count_of(n);

	if (count == NAMES_MAX)
		return 0;
	strcpy_bounded(n->name[count], sizeof(n->name[count]), name);
	atomic_store_explicit(&n->count, count + 1, memory_order_release);
	return count + 1;
}

int
names_assign(struct names *n, struct config_user *users, size_t count)
{
	uint32_t known = count_of(n), at = 0;
	uint32_t *sorted = calloc(known + 1, sizeof(*sorted));

	if (sorted == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < known; i++)
		sorted[i] = i + 1;
	qsort_r(sorted, known, sizeof(*sorted), by_name, n);
	for (size_t i = 0; i < count; i++) {
		uint32_t id;

		while (at < known &&
		       strcmp(name_of(n, sorted[at]), users[i].name) < 0)
			at++;
		if (at < known &&
		    strcmp(name_of(n, sorted[at]), users[i].name) == 0)
			id = sorted[at];
		else
			id = add(n, users[i].name);
		if (id == 0) {
			free(sorted);
			return -ENOSPC;
		}
		users[i].id = (uint16_t)id;
	}
	free(sorted);
	return 0;
}

const char *
names_get(const struct names *n, unsigned id)
{
	return id == 0 || id > count_of(n) ? NULL : name_of(n, id);
}

unsigned
names_find(const struct names *n, const char *name)
{
	uint32_t count = count_of(n);

	for (uint32_t id = 1; id <= count; id++)
		if (strcmp(name_of(n, id), name) == 0)
			return id;
	return 0;
}
