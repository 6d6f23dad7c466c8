/* SPDX-License-Identifier: ISC */
/*
 * list: a doubly linked list through a link embedded in each member. The list
 * does not own its members. A link that is on no list points to itself, so
 * that removing twice is harmless and list_linked() can tell.
 */
#ifndef FOURFOLD_LIST_H
#define FOURFOLD_LIST_H

#include "base/base.h"

struct link {
	struct link *prev, *next;
};

struct list {
	struct link head;
};

static inline void
link_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline void
list_init(struct list *list)
{
	link_init(&list->head);
}

static inline bool
link_is_linked(const struct link *l)
{
	return l->next != l;
}

static inline bool
list_is_empty(const struct list *list)
{
	return !link_is_linked(&list->head);
}

static inline void
link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

/* `l` must be on no list. */
static inline void
list_append(struct list *list, struct link *l)
{
	l->prev = list->head.prev;
	l->next = &list->head;
	l->prev->next = l;
	l->next->prev = l;
}

/* NULL when the list is empty. */
static inline struct link *
list_first(const struct list *list)
{
	return list_is_empty(list) ? NULL : list->head.next;
}

/* Moves all members of `from` behind those of `to`; `from` is left empty. */
static inline void
list_move_all(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	list_init(from);
}

/* The member may be removed in the body; others may not. */
#define LIST_EACH_SAFE(l, following, list)                     \
	for ((l) = (list)->head.next, (following) = (l)->next; \
	     (l) != &(list)->head; (l) = (following), (following) = (l)->next)

#endif
