/* SPDX-License-Identifier: ISC */
#include "io/relay.h"

#include <sys/socket.h>

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* A wakeup's share for one direction: a fast stream must not starve others. In
 * bulk that is one read, however much it got. */
#define READS_PER_WAKEUP 4
#define BYTES_PER_WAKEUP (32 * 1024)

/* A read that got so much is likely to be followed by more. */
#define BULK_BYTES (64 * 1024)

/* While small messages pass through this loop, too, a read of bulk takes so
 * much at most: what is moved before them is their wait. Where there are none,
 * larger reads cost half of it. */
#define SMALL_BYTES  (16 * 1024)
#define SHARED_BYTES (128 * 1024)
#define SHARED_MS    50

/* Where less than this may still be kept, nothing is: bytes are looked at, and
 * read once the other side has taken them. */
#define KEPT_LEAST 4096
#define PEEK_BYTES (16 * 1024)

/* Memory is given back to the system this long after it was kept, when so much
 * less is. */
#define LOOK_MS         1000
#define GIVE_BACK_BYTES (1024 * 1024)

enum pump {
	PUMP_IDLE,  /* waits for an event */
	PUMP_AGAIN, /* has used up its share */
	PUMP_READ_ERROR,
	PUMP_WRITE_ERROR,
};

/* ---- what is kept ---- */

static void
on_look(struct timeout *timer)
{
	struct relays *env = container_of(timer, struct relays, timer);

	if (env->peak - env->kept >= GIVE_BACK_BYTES)
		malloc_trim(0);
	env->peak = env->kept;
	if (env->kept > 0)
		loop_arm(env->loop, &env->look, timer);
}

void
relays_init(
    struct relays *env, struct loop *l, const struct relay_limits *limits)
{
	must(limits->buffer > 0 && limits->buffer <= LOOP_SCRATCH_BYTES);
	*env = (struct relays){ .loop = l, .limits = *limits };
	pipes_init(&env->pipes, l);
	timeout_init(&env->timer);
	loop_class_init(l, &env->look, LOOK_MS, on_look);
}

void
relays_fini(struct relays *env)
{
	must(env->kept == 0);
	timeout_cancel(&env->timer);
	pipes_fini(&env->pipes);
}

static void
charge(struct relays *env, size_t len)
{
	env->kept += len;
	if (env->peak < env->kept)
		env->peak = env->kept;
	if (!link_is_linked(&env->timer.link))
		loop_arm(env->loop, &env->look, &env->timer);
}

/* What may be kept in addition. */
static size_t
left_to_keep(const struct relays *env)
{
	uint64_t left =
	    env->limits.all > env->kept ? env->limits.all - env->kept : 0;

	return left < LOOP_SCRATCH_BYTES ? (size_t)left : LOOP_SCRATCH_BYTES;
}

static bool
keeps(const struct relay_half *h)
{
	return h->kept != NULL || h->pipe != NULL;
}

static int
keep(struct relays *env, struct relay_half *h, const void *bytes, size_t len)
{
	must(!keeps(h) && len <= LOOP_SCRATCH_BYTES);
	if (len == 0)
		return 0;
	h->kept = malloc(len);
	if (h->kept == NULL)
		return -ENOMEM;
	memcpy(h->kept, bytes, len);
	h->kept_from = 0;
	h->kept_to = (uint32_t)len;
	charge(env, len);
	return 0;
}

static void
keep_in_pipe(
    struct relays *env, struct relay_half *h, struct pipe *pipe, size_t len)
{
	must(!keeps(h));
	h->pipe = pipe;
	h->kept_from = 0;
	h->kept_to = (uint32_t)len;
	charge(env, len);
}

/* Whether it was passed on or not. Until now all of its memory was in use. */
static void
drop_kept(struct relays *env, struct relay_half *h)
{
	env->kept -= h->kept_to;
	if (h->pipe != NULL && h->kept_from == h->kept_to)
		pipes_give_back(&env->pipes, h->pipe);
	else if (h->pipe != NULL)
		pipes_throw_away(&env->pipes, h->pipe);
	free(h->kept);
	h->kept = NULL;
	h->pipe = NULL;
	h->kept_from = h->kept_to = 0;
}

static ssize_t
write_kept(struct relay_half *h, struct stream *to)
{
	size_t len = h->kept_to - h->kept_from;

	return h->pipe != NULL ? stream_write_from_pipe(to, h->pipe->out, len)
			       : stream_write(to, h->kept + h->kept_from, len);
}

/* True when nothing is kept any more. */
static bool
flush_kept(
    struct relays *env, struct relay_half *h, struct stream *to, int *error)
{
	while (keeps(h) && to->writable) {
		ssize_t n = write_kept(h, to);

		if (n < 0) {
			*error = (int)-n;
			return false;
		}
		h->bytes += (uint64_t)n;
		h->kept_from += (uint32_t)n;
		if (h->kept_from == h->kept_to)
			drop_kept(env, h);
	}
	return !keeps(h);
}

/* ---- moving bytes: how many were read, 0 at the end of stream, or a negative
 * errno; `r->error` is that of the writing side ---- */

/* What `to` does not take is kept. */
static ssize_t
copy_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to, size_t want)
{
	uint8_t *bytes = r->env->loop->scratch;
	ssize_t n = stream_read(from, bytes, want), taken;

	if (n <= 0)
		return n;
	taken = stream_write(to, bytes, (size_t)n);
	if (taken < 0) {
		r->error = (int)-taken;
		return n;
	}
	h->bytes += (uint64_t)taken;
	r->error = -keep(r->env, h, bytes + taken, (size_t)(n - taken));
	return n;
}

/* The same through a pipe, which keeps what is not taken. */
static ssize_t
splice_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to, size_t want)
{
	struct pipes *pipes = &r->env->pipes;
	struct pipe *pipe = pipes_take(pipes);
	ssize_t n, taken = 0;

	if (pipe == NULL)
		return copy_bytes(r, h, from, to, want);
	n = stream_read_to_pipe(
	    from, pipe->in, want < pipe->bytes ? want : pipe->bytes);
	if (n > 0)
		taken = stream_write_from_pipe(to, pipe->out, (size_t)n);
	if (taken < 0) {
		r->error = (int)-taken;
		pipes_throw_away(pipes, pipe);
		return n;
	}
	if (n == 0) { /* of an end the last word is read()'s */
		pipes_give_back(pipes, pipe);
		from->readable = true;
		return copy_bytes(r, h, from, to, want);
	}
	h->bytes += (uint64_t)taken;
	if (n > taken)
		keep_in_pipe(r->env, h, pipe, (size_t)(n - taken));
	else
		pipes_give_back(pipes, pipe);
	return n;
}

/* Reads `len` bytes that were seen before, and drops them. */
static ssize_t
skip_bytes(struct relay *r, struct stream *from, size_t len)
{
	while (len > 0) {
		ssize_t n = stream_read(from, r->env->loop->scratch, len);

		if (n <= 0)
			return n == 0 ? -EPIPE : n;
		len -= (size_t)n;
	}
	return 0;
}

/* Reads no more than `to` takes, so that nothing has to be kept. */
static ssize_t
peek_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to)
{
	uint8_t *bytes = r->env->loop->scratch;
	ssize_t n = stream_peek(from, bytes, PEEK_BYTES), taken, skipped;

	if (n <= 0)
		return n;
	taken = stream_write(to, bytes, (size_t)n);
	if (taken < 0) {
		r->error = (int)-taken;
		return n;
	}
	h->bytes += (uint64_t)taken;
	skipped = skip_bytes(r, from, (size_t)taken);
	/* A short read has told nothing: only a part was asked for. */
	from->readable = true;
	return skipped < 0 ? skipped : n;
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
relay_start(struct relay *r, struct relays *env, struct stream *client,
    struct stream *target, const void *early_up, size_t early_up_len,
    const void *reply, size_t reply_len, const struct relay_owner *owner)
{
	must(reply_len <= UINT16_MAX);
	relay_init(r);
	task_init(&r->again, on_again);
	r->env = env;
	r->client = client;
	r->target = target;
	r->owner = owner;
	if (keep(env, &r->up, early_up, early_up_len) != 0 ||
	    keep(env, &r->down, reply, reply_len) != 0) {
		relay_cancel(r);
		return -ENOMEM;
	}
	r->reply_len = (uint16_t)reply_len;
	loop_again(env->loop, &r->again);
	return 0;
}

/* ---- a wakeup ---- */

/* How much to read: what `to` can take, if that is known to be worth asking.
 * Otherwise as much as may be kept for it. */
static size_t
read_size(const struct relays *env, const struct relay_half *h,
    const struct stream *to)
{
	size_t size = h->bulk ? stream_room(to) : 0;
	size_t left = left_to_keep(env);

	if (size < env->limits.buffer)
		size = env->limits.buffer;
	if (h->bulk && size > SHARED_BYTES &&
	    loop_now(env->loop) < env->shared_until_ms)
		size = SHARED_BYTES;
	return size < left ? size : left;
}

static ssize_t
move_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to, size_t want)
{
	enum relay_splice splice = r->env->limits.splice;

	if (want < KEPT_LEAST && want < r->env->limits.buffer)
		return peek_bytes(r, h, from, to);
	if (!from->urgent && (splice == RELAY_SPLICE_YES ||
				 (splice == RELAY_SPLICE_AUTO && h->bulk)))
		return splice_bytes(r, h, from, to, want);
	return copy_bytes(r, h, from, to, want);
}

static enum pump
pump_bytes(struct relay *r, struct relay_half *h, struct stream *from,
    struct stream *to)
{
	size_t share = BYTES_PER_WAKEUP;

	for (int reads = 0; from->readable && to->writable; reads++) {
		if (reads == READS_PER_WAKEUP || share == 0)
			return PUMP_AGAIN;
		ssize_t n =
		    move_bytes(r, h, from, to, read_size(r->env, h, to));

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
		if (r->error != 0)
			return PUMP_WRITE_ERROR;
		if (!h->bulk && n < SMALL_BYTES)
			r->env->shared_until_ms =
			    loop_now(r->env->loop) + SHARED_MS;
		h->bulk = (size_t)n >= BULK_BYTES;
		share = (size_t)n < share ? share - (size_t)n : 0;
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
	if (!flush_kept(r->env, h, to, &r->error))
		return r->error != 0 ? PUMP_WRITE_ERROR : PUMP_IDLE;
	if (!h->fin)
		result = pump_bytes(r, h, from, to);
	h->ended = h->fin && !keeps(h);
	/* The second end is the close() by the owner, who is told now. */
	if (h->ended && !(r->up.ended && r->down.ended))
		shutdown(to->watch.fd, SHUT_WR);
	return result;
}

static void
end(struct relay *r, enum relay_end how)
{
	const struct relay_owner *owner = r->owner;

	relay_cancel(r);
	owner->on_end(r, how);
}

/* A side that is not read now, since its end was read or the other side takes
 * nothing, is only told to have been reset by the event. */
static bool
was_reset(struct relay *r, const struct relay_half *h, struct stream *from,
    const struct stream *to)
{
	socklen_t len = sizeof(r->error);

	if (!from->failed || (!h->fin && !keeps(h) && to->writable))
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
		r->owner->on_active(r);
	if (r->up.ended && r->down.ended)
		end(r, RELAY_DONE);
	else if (up == PUMP_AGAIN || down == PUMP_AGAIN)
		loop_again(r->env->loop, &r->again);
}

void
relay_cancel(struct relay *r)
{
	task_cancel(&r->again);
	if (keeps(&r->up))
		drop_kept(r->env, &r->up);
	if (keeps(&r->down))
		drop_kept(r->env, &r->down);
	r->owner = NULL;
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
