/* SPDX-License-Identifier: ISC */
#include "io/relay.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A wakeup's share for one direction: a fast stream must not starve others. */
#define READS_PER_WAKEUP 4

/* The first read of a wakeup. Nothing bigger is read unless the other side
 * has room for it, so this much is kept at most for a slow reader. */
#define FIRST_READ_BYTES (64 * 1024)

enum pump {
	PUMP_IDLE,  /* waits for an event */
	PUMP_AGAIN, /* has used up its share */
	PUMP_READ_ERROR,
	PUMP_WRITE_ERROR,
};

static int
keep(struct relay_half *h, const void *bytes, size_t len)
{
	must(h->kept == NULL && len <= LOOP_SCRATCH_BYTES);
	if (len == 0)
		return 0;
	h->kept = malloc(len);
	if (h->kept == NULL)
		return -ENOMEM;
	memcpy(h->kept, bytes, len);
	h->kept_from = 0;
	h->kept_to = (uint32_t)len;
	return 0;
}

static void
drop_kept(struct relay_half *h)
{
	free(h->kept);
	h->kept = NULL;
	h->kept_from = h->kept_to = 0;
}

void
relay_init(struct relay *r)
{
	*r = (struct relay){ 0 };
	link_init(&r->again.link);
}

static void
on_again(struct task *task)
{
	relay_pump(container_of(task, struct relay, again));
}

int
relay_start(struct relay *r, struct loop *l, struct stream *client,
    struct stream *target, const void *early_up, size_t early_up_len,
    const void *reply, size_t reply_len, relay_end_fn *on_end,
    relay_active_fn *on_active)
{
	relay_init(r);
	task_init(&r->again, on_again);
	r->loop = l;
	r->client = client;
	r->target = target;
	r->on_end = on_end;
	r->on_active = on_active;
	if (keep(&r->up, early_up, early_up_len) != 0 ||
	    keep(&r->down, reply, reply_len) != 0) {
		relay_cancel(r);
		return -ENOMEM;
	}
	r->reply_len = (uint32_t)reply_len;
	loop_again(l, &r->again);
	return 0;
}

/* True when nothing is kept any more. */
static bool
flush_kept(struct relay_half *h, struct stream *to, int *error)
{
	while (h->kept != NULL && to->writable) {
		ssize_t n = stream_write(
		    to, h->kept + h->kept_from, h->kept_to - h->kept_from);

		if (n < 0) {
			*error = (int)-n;
			return false;
		}
		h->bytes += (uint64_t)n;
		h->kept_from += (uint32_t)n;
		if (h->kept_from == h->kept_to)
			drop_kept(h);
	}
	return h->kept == NULL;
}

/* Passes `len` scratch bytes on; what `to` does not take is kept. */
static int
pass_on(
    struct relay_half *h, struct stream *to, const uint8_t *bytes, size_t len)
{
	ssize_t n = stream_write(to, bytes, len);

	if (n < 0)
		return (int)-n;
	h->bytes += (uint64_t)n;
	return -keep(h, bytes + n, len - (size_t)n);
}

/* How much to read after a read that was full: what `to` can take. */
static size_t
next_read(const struct stream *to)
{
	size_t room = stream_room(to);

	if (room < FIRST_READ_BYTES)
		return FIRST_READ_BYTES;
	return room < LOOP_SCRATCH_BYTES ? room : LOOP_SCRATCH_BYTES;
}

static enum pump
pump_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to)
{
	size_t want = h->bulk ? next_read(to) : FIRST_READ_BYTES;
	size_t share = LOOP_SCRATCH_BYTES;

	for (int reads = 0; from->readable && to->writable; reads++) {
		if (reads == READS_PER_WAKEUP || share == 0)
			return PUMP_AGAIN;
		ssize_t n = stream_read(from, r->loop->scratch, want);

		if (n == -EAGAIN)
			return PUMP_IDLE;
		if (n < 0) {
			r->error = (int)-n;
			return PUMP_READ_ERROR;
		}
		if (n == 0) {
			h->fin = true;
			return PUMP_IDLE;
		}
		h->bulk = (size_t)n >= FIRST_READ_BYTES;
		share = (size_t)n < share ? share - (size_t)n : 0;
		r->error = pass_on(h, to, r->loop->scratch, (size_t)n);
		if (r->error != 0)
			return PUMP_WRITE_ERROR;
		if ((size_t)n == want && from->readable && to->writable)
			want = next_read(to);
	}
	return PUMP_IDLE;
}

static enum pump
pump_half(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to)
{
	enum pump result = PUMP_IDLE;

	if (h->ended)
		return PUMP_IDLE;
	if (!flush_kept(h, to, &r->error))
		return r->error != 0 ? PUMP_WRITE_ERROR : PUMP_IDLE;
	if (!h->fin)
		result = pump_bytes(r, h, from, to);
	if (h->fin && h->kept == NULL) {
		shutdown(to->watch.fd, SHUT_WR);
		h->ended = true;
	}
	return result;
}

static void
end(struct relay *r, enum relay_end how)
{
	relay_end_fn *on_end = r->on_end;

	relay_cancel(r);
	on_end(r, how);
}

/* A side that is not read now, since its end was read or the other side takes
 * nothing, is only told to have been reset by the event. */
static bool
was_reset(struct relay *r, const struct relay_half *h, struct stream *from,
    const struct stream *to)
{
	socklen_t len = sizeof(r->error);

	if (!from->failed || (!h->fin && h->kept == NULL && to->writable))
		return false;
	from->failed = false;
	return getsockopt(from->watch.fd, SOL_SOCKET, SO_ERROR, &r->error,
		   &len) == 0 &&
	       r->error != 0;
}

/* Grows when bytes or an end were passed on. */
static uint64_t
progress(const struct relay *r)
{
	return r->up.bytes + r->down.bytes + r->up.ended + r->down.ended;
}

void
relay_pump(struct relay *r)
{
	uint64_t before = progress(r);
	enum pump up, down;

	if (was_reset(r, &r->up, r->client, r->target)) {
		end(r, RELAY_CLIENT_ERROR);
		return;
	}
	if (was_reset(r, &r->down, r->target, r->client)) {
		end(r, RELAY_TARGET_ERROR);
		return;
	}
	down = pump_half(r, &r->down, r->target, r->client);
	if (down == PUMP_READ_ERROR || down == PUMP_WRITE_ERROR) {
		end(r, down == PUMP_READ_ERROR ? RELAY_TARGET_ERROR
					       : RELAY_CLIENT_ERROR);
		return;
	}
	/* Who closed first decides how long the source port cools. */
	if (r->down.fin && !r->up.ended)
		r->target_first = true;
	up = pump_half(r, &r->up, r->client, r->target);
	if (up == PUMP_READ_ERROR || up == PUMP_WRITE_ERROR) {
		end(r, up == PUMP_READ_ERROR ? RELAY_CLIENT_ERROR
					     : RELAY_TARGET_ERROR);
		return;
	}
	if (progress(r) != before)
		r->on_active(r);
	if (r->up.ended && r->down.ended)
		end(r, RELAY_DONE);
	else if (up == PUMP_AGAIN || down == PUMP_AGAIN)
		loop_again(r->loop, &r->again);
}

void
relay_cancel(struct relay *r)
{
	task_cancel(&r->again);
	drop_kept(&r->up);
	drop_kept(&r->down);
	r->on_end = NULL;
}

uint64_t
relay_bytes_down(const struct relay *r)
{
	return r->down.bytes > r->reply_len ? r->down.bytes - r->reply_len : 0;
}

bool
relay_is_half_closed(const struct relay *r)
{
	return r->up.ended != r->down.ended;
}
