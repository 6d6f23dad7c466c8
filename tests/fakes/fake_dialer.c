/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fakes.h"

struct dial {
	struct dialer *dialer;
	struct stream *stream;
	stream_ready_fn *on_ready;
	struct outsock out;
	dial_done_fn *done;
	void *arg;
	size_t count;
	struct addr targets[];
};

void
dialer_init(
    struct dialer *d, struct loop *l, struct egress *e, uint64_t connect_ms)
{
	(void)connect_ms;
	*d = (struct dialer){ .loop = l, .egress = e };
}

void
dialer_fini(struct dialer *d)
{
	(void)d;
}

struct dial *
dial_start(struct dialer *dialer, unsigned pool, const struct addr *targets,
    size_t count, const struct ledger_holder *holder, struct stream *stream,
    stream_ready_fn *on_ready, dial_done_fn *done, void *arg)
{
	struct dial *d;

	must(count > 0 && stream->watch.fd == -1);
	if (pool == FAKE_POOL_WITHOUT_MEMORY)
		return NULL;
	d = calloc(1, sizeof(*d) + count * sizeof(*targets));
	must(d != NULL);
	*d = (struct dial){ .dialer = dialer,
		.stream = stream,
		.on_ready = on_ready,
		.done = done,
		.arg = arg,
		.count = count };
	memcpy(d->targets, targets, count * sizeof(*targets));
	outsock_init(&d->out);
	must(ledger_lease(dialer->egress->ledger, pool, &targets[0], holder,
		 loop_now(dialer->loop), &d->out.lease) == 0);
	d->out.source = d->out.lease.source;
	return d;
}

static void
give_back(struct dial *d)
{
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
}

static void
finish(struct dial *d, enum close_reason reason, int error)
{
	dial_done_fn *done = d->done;
	void *arg = d->arg;
	struct addr target = d->targets[0];
	struct outsock out;

	outsock_init(&out);
	outsock_move(&out, &d->out);
	free(d);
	done(reason, error, &out, &target, arg);
	must(out.fd == -1);
}

const struct addr *
dial_target(const struct dial *d)
{
	return &d->targets[0];
}

void
dial_ready(struct dial *d)
{
	must(d->out.fd != -1);
	finish(d, CLOSE_NONE, 0);
}

void
dial_cancel(struct dial **dial, struct outsock *out)
{
	if (*dial == NULL)
		return;
	give_back(*dial);
	if (out != NULL)
		outsock_move(out, &(*dial)->out);
	free(*dial);
	*dial = NULL;
}

void
fake_dial_connect(struct dial *d, int fd)
{
	outsock_set_abortive(fd, true);
	d->out.fd = fd;
	must(stream_start(d->stream, d->dialer->loop, fd, d->on_ready) == 0);
}

void
fake_dial_fail(struct dial *d, enum close_reason reason, int error)
{
	give_back(d);
	finish(d, reason, error);
}

size_t
fake_dial_targets(const struct dial *d, const struct addr **out)
{
	*out = d->targets;
	return d->count;
}
