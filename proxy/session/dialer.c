/* SPDX-License-Identifier: ISC */
#include "session/dialer.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An address that does not answer leaves so much of the time to the others. */
#define ADDRESS_SHARE 4

/* Those who wait look so often for what has cooled: nobody returns that, and
 * whoever should have told them may have died. */
#define POLL_MS 10

#define NONE_FULL SIZE_MAX

struct dial {
	struct dialer *dialer;
	struct link waiting; /* dialer->waiting */
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
	/* `current` is tried next; `last` was tried last; `full_at` is where
	 * to wait, when nothing else is left. */
	size_t count, current, last, full_at;
	uint64_t wait_until_ms; /* 0: it has not waited yet */
	struct addr targets[];
};

static const struct timeval poll_interval = { 0, POLL_MS * 1000 };

static enum close_reason
reason_of(int error)
{
	switch (-error) {
	case EADDRINUSE:
	case EADDRNOTAVAIL:
		return CLOSE_TARGET_FULL;
	case ENOBUFS:
		return CLOSE_QUEUE_FULL;
	case EDQUOT:
		return CLOSE_QUOTA_SHARE;
	case ENFILE:
		return CLOSE_LEDGER_FULL;
	case EAFNOSUPPORT:
	case ENOENT:
	case ENXIO:
		return CLOSE_NO_SOURCE;
	case EMFILE:
		return CLOSE_DESCRIPTORS;
	case ENOMEM:
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

/* Said by the ledger, so that the reason is all there is to say. */
static bool
is_of_ledger(int error)
{
	return error == -EADDRINUSE || error == -EDQUOT || error == -ENOBUFS ||
	       error == -ENFILE;
}

/* Gives back what the address at hand has; the next try is another one's. */
static void
address_failed(struct dial *d, int error)
{
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
	timeout_cancel(&d->timeout);
	if (error == -EADDRINUSE && d->full_at == NONE_FULL)
		d->full_at = d->current;
	/* Who has waited for an address stays with it. */
	if (error != -EADDRINUSE && d->wait_until_ms != 0)
		d->full_at = NONE_FULL;
	d->reason = reason_of(error);
	d->error = is_of_ledger(error) ? 0 : -error;
	d->current = d->wait_until_ms != 0 ? d->count : d->current + 1;
	loop_again(d->dialer->loop, &d->again);
}

static void
on_timeout(struct timeout *t)
{
	struct dial *d = container_of(t, struct dial, timeout);

	must(d->current < d->count);
	address_failed(d, -ETIMEDOUT);
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	dialer_serve(arg);
}

void
dialer_init(
    struct dialer *d, struct loop *l, struct egress *e, uint64_t connect_ms)
{
	*d = (struct dialer){ .loop = l, .egress = e };
	list_init(&d->waiting);
	event_assign(&d->poll, l->base, -1, 0, on_poll, d);
	loop_class_init(
	    l, &d->timeouts, connect_ms / ADDRESS_SHARE, on_timeout);
}

void
dialer_fini(struct dialer *d)
{
	must(list_is_empty(&d->waiting));
	event_del(&d->poll);
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

/* What came of a try to connect. */
static void
go_on(struct dial *d, int error)
{
	struct loop *loop = d->dialer->loop;

	if (error == -EAGAIN) {
		loop_again(loop, &d->again);
		return;
	}
	if (error == 0)
		error = stream_start(d->stream, loop, d->out.fd, d->on_ready);
	if (error != 0)
		address_failed(d, error);
}

static void
try_address(struct dial *d)
{
	struct dialer *env = d->dialer;

	d->last = d->current;
	if (d->current + 1 < d->count && !link_is_linked(&d->timeout.link))
		loop_arm(env->loop, &env->timeouts, &d->timeout);
	go_on(d, outsock_open(&d->out, env->egress, d->pool,
		     &d->targets[d->current], &d->holder, loop_now(env->loop)));
}

static bool
may_wait(const struct dial *d)
{
	uint64_t wait_ms = d->dialer->queues[d->pool].wait_ms;

	if (d->full_at == NONE_FULL || wait_ms == 0)
		return false;
	return d->wait_until_ms == 0 ||
	       loop_now(d->dialer->loop) < d->wait_until_ms;
}

static void
tell_owner(const struct dial *d, bool waits)
{
	if (d->dialer->on_wait != NULL)
		d->dialer->on_wait(waits, d->arg);
}

static void
begin_wait(struct dial *d)
{
	struct dialer *env = d->dialer;
	const struct dial_queue *queue = &env->queues[d->pool];
	uint64_t now_ms = loop_now(env->loop);
	int error;

	d->current = d->last = d->full_at;
	if (d->wait_until_ms == 0)
		d->wait_until_ms = now_ms + queue->wait_ms;
	error = outsock_queue(&d->out, env->egress, d->pool,
	    &d->targets[d->current], &d->holder, queue->length, now_ms);
	if (error != -EINPROGRESS) {
		go_on(d, error);
		return;
	}
	list_append(&env->waiting, &d->waiting);
	if (!event_pending(&env->poll, EV_TIMEOUT, NULL))
		event_add(&env->poll, &poll_interval);
	tell_owner(d, true);
}

static void
end_wait(struct dial *d)
{
	link_remove(&d->waiting);
	tell_owner(d, false);
}

/* One that waits: it has got its slot, or its time is over. */
static void
look_at(struct dial *d)
{
	struct egress *e = d->dialer->egress;
	uint64_t now_ms = loop_now(d->dialer->loop);

	if (outsock_is_granted(&d->out, e)) {
		end_wait(d);
		go_on(d, outsock_claim(&d->out, e, &d->targets[d->current],
			     &d->holder, now_ms));
	} else if (now_ms >= d->wait_until_ms) {
		end_wait(d);
		address_failed(d, -EADDRINUSE);
	}
}

void
dialer_serve(struct dialer *d)
{
	struct link *l, *following;

	if (list_is_empty(&d->waiting))
		return;
	outsock_serve(d->egress, loop_now(d->loop));
	LIST_EACH_SAFE (l, following, &d->waiting)
		look_at(container_of(l, struct dial, waiting));
	if (!list_is_empty(&d->waiting))
		event_add(&d->poll, &poll_interval);
}

static void
on_again(struct task *task)
{
	struct dial *d = container_of(task, struct dial, again);

	if (d->current < d->count)
		try_address(d);
	else if (may_wait(d))
		begin_wait(d);
	else
		finish(d, d->reason);
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
		.full_at = NONE_FULL,
		.count = count };
	link_init(&d->waiting);
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
	return &d->targets[d->last];
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
dial_cancel(struct dial **dial, struct outsock *out)
{
	struct dial *d = *dial;

	if (d == NULL)
		return;
	*dial = NULL;
	link_remove(&d->waiting);
	task_cancel(&d->again);
	timeout_cancel(&d->timeout);
	stream_stop(d->stream);
	outsock_close(&d->out, d->dialer->egress, OUTSOCK_RESET,
	    loop_now(d->dialer->loop));
	if (out != NULL)
		outsock_move(out, &d->out);
	free(d);
}
