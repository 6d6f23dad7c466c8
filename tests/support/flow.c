/* SPDX-License-Identifier: ISC */
#include "flow.h"

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "it.h"
#include "peer.h"

/* A stream repeats after so many bytes: a prime, so that no buffer size fits
 * it and bytes that are lost or doubled show. */
#define PERIOD      1048573U
#define PIECE_MAX   (256 * 1024U)
#define TURNS_A_RUN 4
#define STALLED_MS  500

struct runner {
	uint8_t *bytes; /* PERIOD, and the first PIECE_MAX again */
	uint8_t *scratch;
	uint32_t random;
	bool progress;
};

uint32_t
flow_random(uint32_t *state)
{
	/* xorshift32, whose state is never 0 */
	uint32_t x = *state != 0 ? *state : 0x9e3779b9U;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	*state = x;
	return x;
}

static const uint8_t *
stream_at(const struct runner *r, uint32_t seed, uint64_t position)
{
	return r->bytes + (seed * 7919ULL + position) % PERIOD;
}

static void
end_output(struct flow *f)
{
	f->finished = true;
	if (f->last == FLOW_RESET) {
		peer_reset(f->fd);
		f->fd = -1;
	} else if (f->last == FLOW_FINISH && !f->out_broken) {
		/* ENOTCONN: reset by the other side just now. */
		IT_MUST(shutdown(f->fd, SHUT_WR) == 0 || errno == ENOTCONN,
		    "shutdown: %s", strerror(errno));
	}
}

static bool
output_is_due(const struct flow *f)
{
	if (f->finished || f->fd < 0)
		return false;
	if (f->waits_for_end && f->in_end == FLOW_OPEN)
		return false;
	if (f->out_broken || f->out_sent < f->out_total)
		return true;
	return f->last == FLOW_FINISH ||
	       (f->last == FLOW_RESET &&
		   (f->reset_early || f->in_end != FLOW_OPEN ||
		       f->in_got >= f->in_total));
}

/* Is it done with sending, as far as this run goes? */
static bool
output_is_over(const struct flow *f)
{
	return f->finished ||
	       (f->last == FLOW_STAY && f->out_sent == f->out_total);
}

static bool
input_is_over(const struct flow *f)
{
	if (f->fd < 0 || f->in_end != FLOW_OPEN)
		return true;
	return f->last == FLOW_STAY && f->in_got >= f->in_total;
}

static void
write_some(struct runner *r, struct flow *f)
{
	uint64_t left = f->out_total - f->out_sent;
	uint64_t most = f->largest != 0 ? f->largest : PIECE_MAX;

	if (left == 0 || f->out_broken) {
		end_output(f);
		r->progress = true;
		return;
	}
	ssize_t n = send(f->fd, stream_at(r, f->out_seed, f->out_sent),
	    (size_t)(left < most ? left : most), MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0) {
		f->out_sent += (uint64_t)n;
		r->progress = true;
	} else if (errno == ECONNRESET || errno == EPIPE) {
		/* The error is told once: recv() would say "end" after it. */
		f->out_broken = true;
		if (f->in_end == FLOW_OPEN)
			f->in_end = FLOW_BROKEN;
		r->progress = true;
	} else {
		IT_MUST(errno == EAGAIN, "send: %s", strerror(errno));
	}
}

static void
read_some(struct runner *r, struct flow *f)
{
	ssize_t n = recv(f->fd, r->scratch, PIECE_MAX, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	r->progress = true;
	if (n > 0) {
		IT_MUST(memcmp(r->scratch, stream_at(r, f->in_seed, f->in_got),
			    (size_t)n) == 0,
		    "wrong bytes between %llu and %llu",
		    (unsigned long long)f->in_got,
		    (unsigned long long)f->in_got + (unsigned long long)n);
		f->in_got += (uint64_t)n;
	} else if (n == 0) {
		f->in_end = FLOW_EOF;
	} else {
		IT_MUST(errno == ECONNRESET || errno == EPIPE, "recv: %s",
		    strerror(errno));
		f->in_end = FLOW_BROKEN;
		f->out_broken = true;
	}
}

static short
wanted_events(const struct flow *f)
{
	short events = 0;

	if (!input_is_over(f))
		events = POLLIN;
	if (!output_is_over(f) && output_is_due(f))
		events = (short)(events | POLLOUT);
	return events;
}

static void
serve(struct runner *r, struct flow *f, short happened)
{
	if (f->dawdle != 0 && flow_random(&r->random) % f->dawdle == 0) {
		r->progress = true;
		return;
	}
	for (int turn = 0; turn < TURNS_A_RUN && f->fd >= 0; turn++) {
		if ((happened & (POLLIN | POLLERR | POLLHUP)) != 0 &&
		    !input_is_over(f))
			read_some(r, f);
		if (output_is_due(f) && !output_is_over(f))
			write_some(r, f);
	}
}

/* Fills `fds` with those that are not done; how many. */
static size_t
gather(struct flow *flows, size_t count, struct pollfd *fds, size_t *which)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (input_is_over(&flows[i]) && output_is_over(&flows[i]))
			continue;
		fds[n].fd = flows[i].fd;
		fds[n].events = wanted_events(&flows[i]);
		fds[n].revents = 0;
		which[n++] = i;
	}
	return n;
}

static void
runner_init(struct runner *r, uint32_t seed)
{
	uint32_t state = 1;

	*r = (struct runner){ .random = seed };
	r->bytes = malloc(PERIOD + PIECE_MAX);
	r->scratch = malloc(PIECE_MAX);
	must(r->bytes != NULL && r->scratch != NULL);
	for (size_t i = 0; i < PERIOD; i++)
		r->bytes[i] = (uint8_t)(flow_random(&state) >> 11);
	memcpy(r->bytes + PERIOD, r->bytes, PIECE_MAX);
}

void
flows_run(struct flow *flows, size_t count, uint32_t seed)
{
	struct pollfd *fds = calloc(count, sizeof(*fds));
	size_t *which = calloc(count, sizeof(*which));
	uint64_t since = it_now_ms();
	struct runner r;
	size_t n;

	must(fds != NULL && which != NULL);
	runner_init(&r, seed);
	while ((n = gather(flows, count, fds, which)) > 0) {
		poll(fds, n, 1000);
		r.progress = false;
		for (size_t i = 0; i < n; i++) {
			if (fds[i].revents != 0)
				serve(&r, &flows[which[i]], fds[i].revents);
		}
		if (r.progress)
			since = it_now_ms();
		IT_MUST(it_now_ms() - since < IT_DEADLINE_MS,
		    "%zu of %zu ends wait in vain", n, count);
	}
	free(r.bytes);
	free(r.scratch);
	free(which);
	free(fds);
}

static bool
wants_to_send(const struct flow *f)
{
	return f->out_sent < f->out_total && !f->out_broken;
}

/* Waits until one of those that want to send can; false when none could for
 * STALLED_MS, or none wants to. */
static bool
wait_to_send(struct flow *flows, size_t count, struct pollfd *fds)
{
	bool wanted = false;

	for (size_t i = 0; i < count; i++) {
		bool wants = wants_to_send(&flows[i]);

		fds[i] = (struct pollfd){ .fd = wants ? flows[i].fd : -1,
			.events = POLLOUT };
		wanted |= wants;
	}
	return wanted && poll(fds, count, STALLED_MS) > 0;
}

uint64_t
flows_push(struct flow *flows, size_t count)
{
	struct pollfd *fds = calloc(count, sizeof(*fds));
	uint64_t pushed = 0;
	struct runner r;

	must(fds != NULL);
	runner_init(&r, 1);
	while (wait_to_send(flows, count, fds)) {
		for (size_t i = 0; i < count; i++) {
			uint64_t before = flows[i].out_sent;

			if (fds[i].revents != 0)
				write_some(&r, &flows[i]);
			pushed += flows[i].out_sent - before;
		}
	}
	free(r.bytes);
	free(r.scratch);
	free(fds);
	return pushed;
}

uint64_t
flow_push(struct flow *flow)
{
	return flows_push(flow, 1);
}
