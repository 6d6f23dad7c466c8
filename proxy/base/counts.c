/* SPDX-License-Identifier: ISC */
#include "base/counts.h"

#include <stdlib.h>

#define ROOM_MIN 64

void
counts_fini(struct counts *c)
{
	free(c->entries);
	*c = (struct counts){ 0 };
}

/* The key's entry, or the free one where it would be. There is a free one. */
static struct counts_entry *
find(const struct counts *c, uint64_t key)
{
	size_t at = counts_mix(key) & (c->room - 1);

	while (c->entries[at].key != 0 && c->entries[at].key != key)
		at = (at + 1) & (c->room - 1);
	return &c->entries[at];
}

static bool
grow(struct counts *c)
{
	struct counts bigger = { .room = c->room == 0 ? ROOM_MIN : c->room * 2,
		.used = c->used };

	bigger.entries = calloc(bigger.room, sizeof(*bigger.entries));
	if (bigger.entries == NULL)
		return false;
	for (size_t i = 0; i < c->room; i++)
		if (c->entries[i].key != 0)
			*find(&bigger, c->entries[i].key) = c->entries[i];
	free(c->entries);
	*c = bigger;
	return true;
}

uint32_t *
counts_at(struct counts *c, uint64_t key)
{
	struct counts_entry *e;

	must(key != 0);
	/* At most two thirds are used. */
	if (c->used * 3 >= c->room * 2 && !grow(c))
		return NULL;
	e = find(c, key);
	if (e->key == 0) {
		e->key = key;
		c->used++;
	}
	return &e->value;
}

uint32_t
counts_get(const struct counts *c, uint64_t key)
{
	return c->used == 0 ? 0 : find(c, key)->value;
}
