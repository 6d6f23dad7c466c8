/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "io/relay.h"
#include "pairs.h"
#include "passes.h"

#define BUFFER (64 * 1024)
#define PLENTY (64 * 1024 * 1024)
#define SHARED (128 * 1024) /* a read of bulk beside small messages */

/* A test of what holds whichever way bytes are moved. */
#define TEST_MOVING(name)                           \
	static void name(enum relay_splice splice); \
	Test(relay, name)                           \
	{                                           \
		name(RELAY_SPLICE_NO);              \
		name(RELAY_SPLICE_YES);             \
		name(RELAY_SPLICE_AUTO);            \
	}                                           \
	static void name(enum relay_splice splice)

typedef bool pair_fn(int *, int *);

/* One side: the relay's stream and the end in the test's hand. */
struct side {
	struct stream stream;
	int fd, peer; /* `peer` -1: closed */
};

struct bench {
	struct loop loop;
	struct relays relays;
	struct side client, target;
	struct relay relay;
	unsigned ends, actives;
	enum relay_end end;
	int error;
};

static void
on_client_ready(struct stream *s)
{
	relay_pump(&container_of(s, struct bench, client.stream)->relay);
}

static void
on_target_ready(struct stream *s)
{
	relay_pump(&container_of(s, struct bench, target.stream)->relay);
}

static void
on_end(struct relay *r, enum relay_end end)
{
	struct bench *b = container_of(r, struct bench, relay);

	b->ends++;
	b->end = end;
	b->error = r->error;
	/* As its owner does, but for the closing. */
	stream_stop(&b->client.stream);
	stream_stop(&b->target.stream);
	if (end == RELAY_DONE) {
		shutdown(b->client.fd, SHUT_WR);
		shutdown(b->target.fd, SHUT_WR);
	}
}

static void
on_active(struct relay *r)
{
	container_of(r, struct bench, relay)->actives++;
}

static const struct relay_owner owner = { on_end, on_active };

static void
side_open(struct bench *b, struct side *s, pair_fn *pair, stream_ready_fn *fn)
{
	cr_assert(pair(&s->fd, &s->peer));
	stream_init(&s->stream);
	cr_assert_eq(stream_start(&s->stream, &b->loop, s->fd, fn), 0);
}

static struct bench *
bench_with(const struct relay_limits *limits, pair_fn *client, pair_fn *target)
{
	struct bench *b = calloc(1, sizeof(*b));

	cr_assert_not_null(b);
	/* As in a worker: splice() has no flag for it. */
	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(loop_init(&b->loop), 0);
	relays_init(&b->relays, &b->loop, limits);
	side_open(b, &b->client, client, on_client_ready);
	side_open(b, &b->target, target, on_target_ready);
	relay_init(&b->relay);
	return b;
}

static struct bench *
bench_new(enum relay_splice splice, pair_fn *client, pair_fn *target)
{
	const struct relay_limits limits = {
		.buffer = BUFFER, .all = PLENTY, .splice = splice
	};

	return bench_with(&limits, client, target);
}

static void
start(struct bench *b, const char *early, const char *reply)
{
	cr_assert_eq(relay_start(&b->relay, &b->relays, &b->client.stream,
			 &b->target.stream, early, strlen(early), reply,
			 strlen(reply), &owner),
	    0);
	cr_expect_eq(b->ends, 0, "called inside the start");
	passes(&b->loop, 2);
}

static struct bench *
started(enum relay_splice splice, pair_fn *pair)
{
	struct bench *b = bench_new(splice, pair, pair);

	start(b, "", "");
	return b;
}

static void
side_close(struct side *s)
{
	stream_stop(&s->stream);
	close(s->fd);
	if (s->peer != -1)
		close(s->peer);
}

static void
bench_free(struct bench *b)
{
	relay_cancel(&b->relay);
	side_close(&b->client);
	side_close(&b->target);
	passes(&b->loop, 2);
	cr_expect_eq(b->relays.kept, 0, "not counted back");
	cr_expect_eq(b->relays.pipes.lent, 0, "a pipe is left");
	relays_fini(&b->relays);
	loop_fini(&b->loop);
	free(b);
}

static void
told(struct bench *b, const struct side *s, short events)
{
	cr_assert(pairs_wait(s->fd, events));
	passes(&b->loop, 3);
}

static void
says(struct bench *b, struct side *s, const char *words)
{
	cr_assert(pairs_send(s->peer, words, strlen(words)));
	told(b, s, POLLIN);
}

static void
ends(struct bench *b, struct side *s)
{
	shutdown(s->peer, SHUT_WR);
	told(b, s, POLLRDHUP);
}

static void
resets(struct bench *b, struct side *s)
{
	pairs_reset(s->peer);
	s->peer = -1;
	told(b, s, POLLERR);
}

static void
expect_heard(struct side *s, const char *words)
{
	char got[64];
	size_t len = strlen(words);

	cr_assert_eq(pairs_recv(s->peer, got, len), len);
	cr_expect_eq(memcmp(got, words, len), 0);
	cr_expect_neq(pairs_look(s->peer, PAIRS_OPEN), PAIRS_OTHER,
	    "more than \"%s\"", words);
}

static void
expect_sees(struct side *s, enum pairs_end end)
{
	cr_expect_eq(pairs_look(s->peer, end), end, "it is %d",
	    pairs_look(s->peer, end));
}

static void
expect_end(struct bench *b, enum relay_end end, int error)
{
	cr_assert_eq(b->ends, 1, "%u ends", b->ends);
	cr_expect_eq(b->end, end);
	cr_expect_eq(b->error, error, "%s", strerror(b->error));
}

/* Each test of bytes, on both kinds of sockets. */
static void
expect_both_ways(enum relay_splice splice, pair_fn *pair)
{
	struct bench *b = started(splice, pair);

	says(b, &b->client, "up");
	expect_heard(&b->target, "up");
	says(b, &b->target, "down");
	expect_heard(&b->client, "down");
	cr_expect_eq(b->relay.up.bytes, 2);
	cr_expect_eq(b->relay.down.bytes, 4);
	cr_expect_eq(b->actives, 2);
	cr_expect_eq(b->ends, 0);
	bench_free(b);
}

TEST_MOVING(bytes_go_both_ways)
{
	expect_both_ways(splice, pairs_tcp);
	expect_both_ways(splice, pairs_unix);
}

/* What is urgent stops a read before it. */
static void
says_urgently(struct side *s)
{
	cr_assert(pairs_send(s->peer, "one", 3));
	cr_assert_eq(send(s->peer, "!", 1, MSG_OOB), 1);
	cr_assert(pairs_send(s->peer, "two", 3));
}

TEST_MOVING(urgent_bytes_go_like_all_others)
{
	struct bench *b = started(splice, pairs_tcp);

	says_urgently(&b->client);
	told(b, &b->client, POLLPRI);
	expect_heard(&b->target, "one!two");
	says_urgently(&b->target);
	told(b, &b->target, POLLPRI);
	expect_heard(&b->client, "one!two");
	says(b, &b->client, "more");
	expect_heard(&b->target, "more");
	bench_free(b);
}

TEST_MOVING(an_end_behind_urgent_bytes_comes_after_them)
{
	struct bench *b = started(splice, pairs_tcp);

	says_urgently(&b->client);
	ends(b, &b->client);
	expect_heard(&b->target, "one!two");
	expect_sees(&b->target, PAIRS_FIN);
	bench_free(b);
}

TEST_MOVING(the_reply_and_what_came_early_go_first)
{
	struct bench *b = bench_new(splice, pairs_tcp, pairs_tcp);

	cr_assert(pairs_send(b->client.peer, "later", 5));
	cr_assert(pairs_send(b->target.peer, "banner", 6));
	cr_assert(pairs_wait(b->client.fd, POLLIN));
	cr_assert(pairs_wait(b->target.fd, POLLIN));
	start(b, "early ", "reply ");
	expect_heard(&b->target, "early later");
	expect_heard(&b->client, "reply banner");
	cr_expect_eq(relay_bytes_down(&b->relay), 6, "the reply is ours");
	cr_expect_eq(b->relay.up.bytes, 11, "what came early is not");
	bench_free(b);
}

TEST_MOVING(a_quiet_relay_keeps_nothing)
{
	struct bench *b = bench_new(splice, pairs_tcp, pairs_tcp);

	start(b, "early", "reply");
	cr_expect_null(b->relay.up.kept);
	cr_expect_null(b->relay.down.kept);
	cr_expect_eq(b->relays.kept, 0);
	says(b, &b->client, "words");
	cr_expect_null(b->relay.up.kept);
	cr_expect_null(b->relay.up.pipe);
	bench_free(b);
}

#ifdef __SANITIZE_ADDRESS__
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif

/* Where nothing counts allocations there is no such test. */
#ifdef ASAN
int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void *, size_t),
    void (*on_free)(const volatile void *));

static unsigned allocations;

static void
on_malloc(const volatile void *p, size_t size)
{
	(void)p;
	(void)size;
	allocations++;
}

static void
on_free(const volatile void *p)
{
	(void)p;
}

/* Four bytes each way, without Criterion, which allocates. */
static bool
exchange(struct bench *b)
{
	char got[4];

	if (!pairs_send(b->client.peer, "more", 4) ||
	    !pairs_send(b->target.peer, "less", 4))
		return false;
	if (!pairs_wait(b->client.fd, POLLIN) ||
	    !pairs_wait(b->target.fd, POLLIN))
		return false;
	passes(&b->loop, 2);
	return pairs_recv(b->client.peer, got, 4) == 4 &&
	       pairs_recv(b->target.peer, got, 4) == 4;
}

static void
expect_no_allocation(enum relay_splice splice)
{
	struct bench *b = started(splice, pairs_tcp);
	unsigned before;
	bool well = exchange(b); /* the first pipe is opened */

	before = allocations;
	for (int i = 0; i < 10; i++)
		well = well && exchange(b);
	cr_expect_eq(allocations, before);
	cr_expect(well);
	bench_free(b);
}

Test(relay, bytes_that_are_taken_at_once_need_no_allocation)
{
	unsigned before;

	cr_assert_neq(
	    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free), 0);
	before = allocations;
	free(malloc(1));
	cr_assert_gt(allocations, before, "nothing is counted");
	expect_no_allocation(RELAY_SPLICE_NO);
	expect_no_allocation(RELAY_SPLICE_YES);
}
#endif

TEST_MOVING(it_does_nothing_before_the_pass_and_nothing_when_cancelled)
{
	struct bench *b = bench_new(splice, pairs_tcp, pairs_tcp);

	relay_cancel(&b->relay); /* not begun */
	shutdown(b->client.peer, SHUT_WR);
	shutdown(b->target.peer, SHUT_WR);
	cr_assert(pairs_wait(b->client.fd, POLLRDHUP));
	cr_assert(pairs_wait(b->target.fd, POLLRDHUP));
	cr_assert_eq(relay_start(&b->relay, &b->relays, &b->client.stream,
			 &b->target.stream, "early", 5, "reply", 5, &owner),
	    0);
	expect_sees(&b->client, PAIRS_OPEN);
	relay_cancel(&b->relay);
	relay_cancel(&b->relay);
	stream_stop(&b->client.stream);
	stream_stop(&b->target.stream);
	passes(&b->loop, 3);
	cr_expect_eq(b->ends, 0);
	expect_sees(&b->client, PAIRS_OPEN);
	expect_sees(&b->target, PAIRS_OPEN);
	bench_free(b);
}

static void
expect_half_close(enum relay_splice splice, pair_fn *pair, bool client_first)
{
	struct bench *b = started(splice, pair);
	struct side *first = client_first ? &b->client : &b->target;
	struct side *second = client_first ? &b->target : &b->client;

	cr_expect_not(relay_is_half_closed(&b->relay));
	cr_assert(pairs_send(first->peer, "last", 4));
	ends(b, first);
	expect_heard(second, "last");
	expect_sees(second, PAIRS_FIN);
	expect_sees(first, PAIRS_OPEN);
	cr_expect(relay_is_half_closed(&b->relay));
	says(b, second, "goes on");
	expect_heard(first, "goes on");
	cr_expect_eq(b->ends, 0);
	ends(b, second);
	expect_end(b, RELAY_DONE, 0);
	expect_sees(first, PAIRS_FIN);
	cr_expect_eq(b->relay.target_first, !client_first);
	bench_free(b);
}

TEST_MOVING(an_end_goes_its_direction_alone)
{
	expect_half_close(splice, pairs_tcp, true);
	expect_half_close(splice, pairs_tcp, false);
	expect_half_close(splice, pairs_unix, true);
	expect_half_close(splice, pairs_unix, false);
}

TEST_MOVING(when_both_ended_before_the_start_the_target_was_first)
{
	struct bench *b = bench_new(splice, pairs_tcp, pairs_tcp);

	shutdown(b->client.peer, SHUT_WR);
	shutdown(b->target.peer, SHUT_WR);
	cr_assert(pairs_wait(b->client.fd, POLLRDHUP));
	cr_assert(pairs_wait(b->target.fd, POLLRDHUP));
	start(b, "early", "reply");
	expect_heard(&b->client, "reply");
	expect_heard(&b->target, "early");
	expect_end(b, RELAY_DONE, 0);
	cr_expect(b->relay.target_first);
	bench_free(b);
}

TEST_MOVING(a_reset_ends_both)
{
	struct bench *b = started(splice, pairs_tcp);

	resets(b, &b->client);
	expect_end(b, RELAY_CLIENT_ERROR, ECONNRESET);
	bench_free(b);

	b = started(splice, pairs_tcp);
	resets(b, &b->target);
	expect_end(b, RELAY_TARGET_ERROR, ECONNRESET);
	bench_free(b);
}

/* It is not read any more: only the event tells. */
TEST_MOVING(a_reset_behind_an_end_is_a_reset)
{
	struct bench *b = started(splice, pairs_tcp);

	ends(b, &b->client);
	resets(b, &b->client);
	cr_assert_eq(b->ends, 1);
	cr_expect_eq(b->end, RELAY_CLIENT_ERROR);
	cr_expect_neq(b->error, 0);
	bench_free(b);

	b = started(splice, pairs_tcp);
	ends(b, &b->target);
	resets(b, &b->target);
	cr_assert_eq(b->ends, 1);
	cr_expect_eq(b->end, RELAY_TARGET_ERROR);
	cr_expect_neq(b->error, 0);
	bench_free(b);
}

/* The bytes and the error have one event, and the bytes are less than what was
 * asked for. */
TEST_MOVING(a_reset_that_comes_with_bytes_is_seen_at_once)
{
	struct bench *b = started(splice, pairs_tcp);

	cr_assert(pairs_send(b->target.peer, "last", 4));
	cr_assert(pairs_wait(b->target.fd, POLLIN));
	pairs_reset(b->target.peer);
	b->target.peer = -1;
	told(b, &b->target, POLLERR);
	expect_heard(&b->client, "last");
	expect_end(b, RELAY_TARGET_ERROR, ECONNRESET);
	bench_free(b);
}

TEST_MOVING(what_cannot_be_written_is_the_writers_error)
{
	struct bench *b = started(splice, pairs_unix);

	close(b->target.peer); /* both its directions */
	b->target.peer = -1;
	cr_assert(pairs_send(b->client.peer, "up", 2));
	told(b, &b->client, POLLIN);
	expect_end(b, RELAY_TARGET_ERROR, EPIPE);
	bench_free(b);
}

static uint8_t
pattern(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

/* Sends as much as the relay takes while nobody reads; how much. */
static size_t
stuff(struct bench *b, struct side *from)
{
	static uint8_t part[1024 * 1024];
	size_t sent = 0;
	ssize_t n;

	/* Full when the relay has had its passes and nothing is taken. */
	for (int idle = 0; idle < 20;) {
		for (size_t i = 0; i < sizeof(part); i++)
			part[i] = pattern(sent + i);
		n = send(from->peer, part, sizeof(part), MSG_NOSIGNAL);
		idle = n > 0 ? 0 : idle + 1;
		if (n > 0)
			sent += (size_t)n;
		passes(&b->loop, 2);
	}
	return sent;
}

/* All of it arrives, in order. */
static void
expect_pattern(struct bench *b, struct side *to, size_t len)
{
	static uint8_t part[16 * 1024];

	for (size_t have = 0; have < len;) {
		ssize_t n = recv(to->peer, part, sizeof(part), 0);

		passes(&b->loop, 1);
		if (n < 0 && errno == EAGAIN)
			cr_assert(pairs_wait(to->peer, POLLIN));
		else
			cr_assert_gt(n, 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(part[i], pattern(have + (size_t)i));
		have += n > 0 ? (size_t)n : 0;
	}
}

static void
expect_bounded(enum relay_splice splice, pair_fn *pair, bool up)
{
	struct bench *b = started(splice, pair);
	struct side *from = up ? &b->client : &b->target;
	struct side *to = up ? &b->target : &b->client;
	struct relay_half *h = up ? &b->relay.up : &b->relay.down;
	size_t sent = stuff(b, from);

	cr_expect(h->kept != NULL || h->pipe != NULL);
	cr_expect_eq(b->relays.kept, h->kept_to);
	cr_expect_leq(h->kept_to - h->kept_from, BUFFER, "%u", h->kept_to);
	shutdown(from->peer, SHUT_WR);
	passes(&b->loop, 3);
	cr_expect_not(h->ended, "the end overtook the bytes");
	expect_pattern(b, to, sent);
	expect_sees(to, PAIRS_FIN);
	cr_expect(h->kept == NULL && h->pipe == NULL);
	cr_expect_eq(h->bytes, sent);
	bench_free(b);
}

TEST_MOVING(what_is_kept_for_a_slow_reader_is_bounded_and_none_is_lost)
{
	expect_bounded(splice, pairs_tcp, true);
	expect_bounded(splice, pairs_tcp, false);
	expect_bounded(splice, pairs_unix, true);
	expect_bounded(splice, pairs_unix, false);
}

static void
expect_kept_within(uint64_t all, enum relay_splice splice, pair_fn *pair)
{
	const struct relay_limits limits = {
		.buffer = BUFFER, .all = all, .splice = splice
	};
	struct bench *b = bench_with(&limits, pair, pair);
	size_t sent;

	start(b, "", "");
	sent = stuff(b, &b->client);
	cr_expect_leq(b->relays.peak, all, "%llu of %llu",
	    (unsigned long long)b->relays.peak, (unsigned long long)all);
	cr_expect_gt(sent, b->relay.up.bytes, "it was no slow reader");
	shutdown(b->client.peer, SHUT_WR);
	passes(&b->loop, 3);
	expect_pattern(b, &b->target, sent);
	expect_sees(&b->target, PAIRS_FIN);
	cr_expect_eq(b->relay.up.bytes, sent);
	says(b, &b->target, "down");
	expect_heard(&b->client, "down");
	ends(b, &b->target);
	expect_end(b, RELAY_DONE, 0);
	expect_sees(&b->client, PAIRS_FIN);
	bench_free(b);
}

/* Then bytes stay in the kernel until they are taken. */
TEST_MOVING(what_all_keep_is_bounded_and_nothing_is_lost)
{
	expect_kept_within(20 * 1024, splice, pairs_tcp);
	expect_kept_within(0, splice, pairs_tcp);
	expect_kept_within(0, splice, pairs_unix);
}

/* Takes a little and again a little, until a part of what is kept is passed on.
 */
static void
take_some(struct bench *b, struct side *to)
{
	const struct relay_half *h = &b->relay.up;
	char bytes[4096];

	for (int i = 0; i < 100000 && h->kept_from == 0; i++) {
		if (recv(to->peer, bytes, sizeof(bytes), 0) < 0)
			cr_assert(pairs_wait(to->peer, POLLIN));
		passes(&b->loop, 1);
	}
}

Test(relay, what_is_passed_on_in_part_counts_until_it_is_freed)
{
	struct bench *b = started(RELAY_SPLICE_NO, pairs_tcp);
	const struct relay_half *h = &b->relay.up;

	setsockopt(b->target.fd, SOL_SOCKET, SO_SNDBUF, &(int){ 16 * 1024 },
	    sizeof(int));
	stuff(b, &b->client);
	take_some(b, &b->target);
	cr_assert(h->kept_from > 0 && h->kept != NULL, "%u of %u", h->kept_from,
	    h->kept_to);
	cr_expect_eq(b->relays.kept, h->kept_to);
	bench_free(b);
}

Test(relay, where_no_pipe_is_to_be_had_bytes_are_copied)
{
	struct bench *b = started(RELAY_SPLICE_YES, pairs_tcp);
	struct pipe *taken[PIPES_MAX];

	for (size_t i = 0; i < PIPES_MAX; i++) {
		taken[i] = pipes_take(&b->relays.pipes);
		cr_assert_not_null(taken[i]);
	}
	says(b, &b->client, "up");
	expect_heard(&b->target, "up");
	for (size_t i = 0; i < PIPES_MAX; i++)
		pipes_give_back(&b->relays.pipes, taken[i]);
	bench_free(b);
}

Test(relay, bytes_in_a_pipe_go_with_their_relay)
{
	struct bench *b = started(RELAY_SPLICE_YES, pairs_tcp);

	stuff(b, &b->client);
	cr_expect_not_null(b->relay.up.pipe);
	relay_cancel(&b->relay);
	cr_expect_null(b->relay.up.pipe);
	cr_expect_eq(b->relays.pipes.open, 0, "it was not empty");
	bench_free(b);
}

TEST_MOVING(a_slow_reader_does_not_hold_up_the_other_direction)
{
	struct bench *b = started(splice, pairs_tcp);

	stuff(b, &b->client);
	says(b, &b->target, "down");
	expect_heard(&b->client, "down");
	cr_expect_eq(b->ends, 0);
	bench_free(b);
}

TEST_MOVING(a_reset_ends_a_relay_that_waits_to_write)
{
	struct bench *b = started(splice, pairs_tcp);

	stuff(b, &b->client);
	resets(b, &b->target);
	cr_assert_eq(b->ends, 1);
	cr_expect_eq(b->end, RELAY_TARGET_ERROR);
	bench_free(b);
}

static bool
packet_pair(int *ours, int *theirs)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds) != 0)
		return false;
	*ours = fds[0];
	*theirs = fds[1];
	return true;
}

/* Here each read gets one packet, and the end behind them keeps the stream
 * readable. */
Test(relay, four_reads_are_a_share)
{
	struct bench *b = bench_new(RELAY_SPLICE_NO, packet_pair, pairs_unix);

	start(b, "", "");
	for (int i = 0; i < 6; i++)
		cr_assert_eq(send(b->client.peer, "x", 1, 0), 1);
	shutdown(b->client.peer, SHUT_WR);
	b->client.stream.readable = b->client.stream.fin = true;
	relay_pump(&b->relay);
	cr_expect_eq(b->relay.up.bytes, 4);
	cr_expect(link_is_linked(&b->relay.again.link));
	passes(&b->loop, 3);
	cr_expect_eq(b->relay.up.bytes, 6);
	expect_heard(&b->target, "xxxxxx");
	expect_sees(&b->target, PAIRS_FIN);
	bench_free(b);
}

/* More than a share, in one send(); how much. */
static size_t
says_much(struct bench *b)
{
	static const uint8_t much[SHARED * 2];
	ssize_t n;

	setsockopt(b->client.peer, SOL_SOCKET, SO_SNDBUF, &(int){ SHARED * 4 },
	    sizeof(int));
	setsockopt(b->target.fd, SOL_SOCKET, SO_SNDBUF, &(int){ SHARED * 4 },
	    sizeof(int));
	n = send(b->client.peer, much, sizeof(much), 0);
	cr_assert_gt(n, SHARED + BUFFER);
	b->client.stream.readable = b->target.stream.writable = true;
	b->relay.up.bulk = true;
	return (size_t)n;
}

static void
drop(int fd, size_t len)
{
	static uint8_t bytes[SHARED * 2];

	cr_assert_eq(pairs_recv(fd, bytes, len), len);
}

/* Bulk takes much at once, but where small messages wait behind it. */
Test(relay, bulk_takes_less_where_small_messages_pass)
{
	const struct relay_limits limits = {
		.buffer = SHARED * 2, .all = PLENTY, .splice = RELAY_SPLICE_NO
	};
	struct bench *b = bench_with(&limits, pairs_unix, pairs_unix);
	size_t alone, shared;

	start(b, "", "");
	alone = says_much(b);
	relay_pump(&b->relay);
	cr_expect_eq(b->relay.up.bytes, alone);
	drop(b->target.peer, alone);
	passes(&b->loop, 2);

	says(b, &b->target, "small");
	shared = says_much(b);
	relay_pump(&b->relay);
	cr_expect_eq(b->relay.up.bytes, alone + SHARED);
	b->relays.shared_until_ms = 0; /* it was long ago */
	relay_pump(&b->relay);
	cr_expect_eq(b->relay.up.bytes, alone + shared);
	bench_free(b);
}

TEST_MOVING(both_directions_run_at_once)
{
	struct bench *b = started(splice, pairs_tcp);
	size_t up = stuff(b, &b->client);
	size_t down = stuff(b, &b->target);

	shutdown(b->client.peer, SHUT_WR);
	shutdown(b->target.peer, SHUT_WR);
	expect_pattern(b, &b->target, up);
	expect_pattern(b, &b->client, down);
	passes(&b->loop, 3);
	expect_end(b, RELAY_DONE, 0);
	bench_free(b);
}
