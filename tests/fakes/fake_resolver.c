/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include "fakes.h"

struct resolver {
	size_t under_way;
	struct resolver_options options;
};

struct resolve {
	struct resolver *resolver;
	char *name;
	resolve_done_fn *done;
	void *arg;
};

struct resolver *
resolver_new(struct event_base *base, const struct resolver_options *options)
{
	struct resolver *r = calloc(1, sizeof(*r));

	must(base != NULL && r != NULL);
	r->options = *options;
	return r;
}

const struct resolver_options *
fake_resolver_options(const struct resolver *r)
{
	return &r->options;
}

void
resolver_free(struct resolver *r)
{
	must(r->under_way == 0);
	free(r);
}

struct resolve *
resolve_start(struct resolver *r, const struct addr *client, const char *name,
    uint16_t port, resolve_done_fn *done, void *arg)
{
	struct resolve *q;

	must(client != NULL && port != 0);
	if (strcmp(name, FAKE_NAME_WITHOUT_MEMORY) == 0)
		return NULL;
	q = calloc(1, sizeof(*q));
	must(q != NULL);
	*q = (struct resolve){ r, strdup(name), done, arg };
	r->under_way++;
	return q;
}

static void
end(struct resolve *q)
{
	must(q->resolver->under_way > 0);
	q->resolver->under_way--;
	free(q->name);
	free(q);
}

void
resolve_cancel(struct resolve **resolve)
{
	if (*resolve != NULL)
		end(*resolve);
	*resolve = NULL;
}

void
fake_resolve_answer(struct resolve *q, enum resolve_result result,
    const struct addr *addrs, size_t count)
{
	resolve_done_fn *done = q->done;
	void *arg = q->arg;

	end(q);
	done(result, addrs, count, arg);
}

const char *
fake_resolve_name(const struct resolve *q)
{
	return q->name;
}
