/* SPDX-License-Identifier: ISC */
#include "session/dialer.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An address that does not answer leaves so much of the time to the others. */
#define ADDRESS_SHARE 4

struct dial {
	struct dialer *dialer;
	struct task again; /* the next try, or the answer, at the pass's end */
	struct timeout timeout;
	struct stream *stream; /* borrowed; registered while connecting */
	stream_ready_fn *on_ready;
	struct outsock out;
	struct ledger_holder holder;
	unsigned pool;
	enum close_reason reason; /* of the last address that failed */
	int error;
	dial_done_fn *done;
	void *arg;
	size_t count, current;
	struct addr targets[];
};

static enum close_reason
reason_of(int error)
{
	switch (-error) {
	case EADDRINUSE:
		return CLOSE_TARGET_FULL;
	case ENFILE:
		return CLOSE_LEDGER_FULL;
	case EAFNOSUPPORT:
	case ENOENT:
	case ENXIO:
		return CLOSE_NO_SOURCE;
	case EMFILE:
		return CLOSE_DESCRIPTORS;
	case ENOMEM:
	case ENOBUFS:
		return CLOSE_MEMORY;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE: /* accepted, and reset at once */
		return CLOSE_REFUSED;
	case ENETUNREACH:
	case ENETDOWN:
		return CLOSE_NET_UNREACHABLE;
	case EHOSTUNREACH:
	case EHOSTDOWN:
		return CLOSE_HOST_UNREACHABLE;
	case ETIMEDOUT:
		return CLOSE_CONNECT_TIMEOUT;
	case EPERM: /* a packet filter of this host */
	case EACCES:
		return CLOSE_DENIED;
	default:
		return CLOSE_CONNECT_FAILED;
	}
}

static void
on_timeout(struct timeout *t)
{
	struct dial *d = container_of(t, struct dial, timeout);

	must(d->current < d->count);
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
	d->reason = CLOSE_CONNECT_TIMEOUT;
	d->error = ETIMEDOUT;
	d->current++;
	loop_again(d->dialer->loop, &d->again);
}

void
dialer_init(
    struct dialer *d, struct loop *l, struct egress *e, uint64_t connect_ms)
{
	d->loop = l;
	d->egress = e;
	loop_class_init(
	    l, &d->timeouts, connect_ms / ADDRESS_SHARE, on_timeout);
}

/* Gives back what the address at hand has; the next try is another one's. */
static void
address_failed(struct dial *d, int error)
{
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
	timeout_cancel(&d->timeout);
	d->reason = reason_of(error);
	d->error = -error;
	d->current++;
	loop_again(d->dialer->loop, &d->again);
}

static void
finish(struct dial *d, enum close_reason reason)
{
	struct addr target = *dial_target(d);
	struct outsock out;
	dial_done_fn *done = d->done;
	void *arg = d->arg;
	int error = d->error;

	outsock_init(&out);
	outsock_move(&out, &d->out);
	task_cancel(&d->again);
	timeout_cancel(&d->timeout);
	free(d);
	done(reason, reason == CLOSE_NONE ? 0 : error, &out, &target, arg);
	must(out.fd == -1);
}

static void
try_address(struct dial *d)
{
	struct dialer *env = d->dialer;
	int error;

	if (d->current + 1 < d->count && !link_is_linked(&d->timeout.link))
		loop_arm(env->loop, &env->timeouts, &d->timeout);
	error = outsock_open(&d->out, env->egress, d->pool,
	    &d->targets[d->current], &d->holder, loop_now(env->loop));
	if (error == -EAGAIN) {
		loop_again(env->loop, &d->again);
		return;
	}
	if (error == 0)
		error =
		    stream_start(d->stream, env->loop, d->out.fd, d->on_ready);
	if (error != 0)
		address_failed(d, error);
}

static void
on_again(struct task *task)
{
	struct dial *d = container_of(task, struct dial, again);

	if (d->current == d->count)
		finish(d, d->reason);
	else
		try_address(d);
}

struct dial *
dial_start(struct dialer *dialer, unsigned pool, const struct addr *targets,
    size_t count, const struct ledger_holder *holder, struct stream *stream,
    stream_ready_fn *on_ready, dial_done_fn *done, void *arg)
{
	struct dial *d;

	must(count > 0);
	d = malloc(sizeof(*d) + count * sizeof(*targets));
	if (d == NULL)
		return NULL;
	*d = (struct dial){ .dialer = dialer,
		.pool = pool,
		.holder = *holder,
		.stream = stream,
		.on_ready = on_ready,
		.done = done,
		.arg = arg,
		.count = count };
	memcpy(d->targets, targets, count * sizeof(*targets));
	outsock_init(&d->out);
	timeout_init(&d->timeout);
	task_init(&d->again, on_again);
	try_address(d);
	return d;
}

const struct addr *
dial_target(const struct dial *d)
{
	return &d->targets[d->current < d->count ? d->current : d->count - 1];
}

/* Connected is writable without an error. */
void
dial_ready(struct dial *d)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (d->stream->failed &&
	    (getsockopt(d->out.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ||
		error != 0)) {
		address_failed(d, error != 0 ? -error : -errno);
		return;
	}
	if (!d->stream->writable)
		return;
	outsock_connected(
	    &d->out, d->dialer->egress, loop_now(d->dialer->loop));
	finish(d, CLOSE_NONE);
}

void
dial_cancel(struct dial **dial)
{
	struct dial *d = *dial;

	if (d == NULL)
		return;
	*dial = NULL;
	task_cancel(&d->again);
	timeout_cancel(&d->timeout);
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
	free(d);
}
