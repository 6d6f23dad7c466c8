/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "faults.h"
#include "ledger_fixture.h"
#include "pairs.h"
#include "passes.h"
#include "session/dialer.h"

enum { POOL_CHOSEN, POOL_FOREIGN, POOL_ONE_PORT, POOL_NONE = 9 };

struct bench {
	struct loop loop;
	struct egress egress;
	struct log log;
	struct dialer dialer;
	struct stream stream;
	struct dial *dial;
	bool starting;
	unsigned calls;
	enum close_reason reason;
	int error;
	struct addr target;
	struct outsock out;
	const struct addr *next; /* dialled by the callback */
	int fds_before;
};

static void
set_pool(struct bench *b, unsigned id, const char *source, uint16_t port)
{
	struct pool p;

	pool_init(&p, "test");
	fixture_add(&p, source);
	p.by_kernel = port == 0;
	if (port != 0)
		cr_assert_eq(pool_add_ports(&p, port, port, POOL_RANGE), 0);
	cr_assert_eq(ledger_set_pool(b->egress.ledger, id, &p), 0);
}

static struct bench *
bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	cr_assert_not_null(b);
	b->fds_before = pairs_open_fds();
	cr_assert_eq(loop_init(&b->loop), 0);
	log_init(&b->log, STDERR_FILENO, LOG_LEVEL_ERROR, LOG_PLAIN);
	b->egress.log = &b->log;
	b->egress.ledger = fixture_ledger(1024, 1024);
	set_pool(b, POOL_CHOSEN, "127.0.0.1", 0);
	set_pool(b, POOL_FOREIGN, "192.0.2.1", 0);
	set_pool(b, POOL_ONE_PORT, "127.0.0.3", 40000);
	dialer_init(&b->dialer, &b->loop, &b->egress, 10000);
	stream_init(&b->stream);
	outsock_init(&b->out);
	return b;
}

/* Nothing is held any more. */
static void
bench_free(struct bench *b)
{
	struct ledger_totals totals;

	cr_expect_null(b->dial);
	stream_stop(&b->stream);
	outsock_close(&b->out, &b->egress, OUTSOCK_RESET, 1);
	passes(&b->loop, 2);
	ledger_totals(b->egress.ledger, &totals);
	cr_expect_eq(totals.held, 0, "a lease is left");
	cr_expect_eq(totals.waiting, 0, "a ticket is left");
	dialer_fini(&b->dialer);
	cr_expect(list_is_empty(&b->dialer.timeouts.armed));
	loop_fini(&b->loop);
	cr_expect_eq(pairs_open_fds(), b->fds_before, "a descriptor is left");
	munmap(b->egress.ledger, ledger_bytes(1024, 1024));
	free(b);
}

static void
on_ready(struct stream *s)
{
	struct bench *b = container_of(s, struct bench, stream);

	if (b->dial != NULL)
		dial_ready(b->dial);
}

static void start(
    struct bench *b, unsigned pool, const struct addr *targets, size_t count);

static void
on_done(enum close_reason reason, int error, struct outsock *out,
    const struct addr *target, void *arg)
{
	struct bench *b = arg;

	cr_expect_not(b->starting, "called from inside the start");
	cr_expect_not_null(b->dial, "called after the end");
	b->dial = NULL;
	b->calls++;
	b->reason = reason;
	b->error = error;
	b->target = *target;
	cr_expect_eq(out->fd != -1, reason == CLOSE_NONE);
	outsock_move(&b->out, out);
	if (b->next != NULL) {
		const struct addr *next = b->next;

		b->next = NULL;
		start(b, POOL_CHOSEN, next, 1);
	}
}

static void
start(struct bench *b, unsigned pool, const struct addr *targets, size_t count)
{
	struct ledger_holder holder = { .worker = 1, .session = 5 };

	b->starting = true;
	b->dial = dial_start(&b->dialer, pool, targets, count, &holder,
	    &b->stream, on_ready, on_done, b);
	b->starting = false;
	cr_assert_not_null(b->dial);
}

/* Until it has called back; each pass waits for an event. */
static void
run(struct bench *b, unsigned calls)
{
	b->loop.on_pass = passes_stop;
	b->loop.on_pass_arg = &b->loop;
	for (int i = 0; b->calls < calls && i < 1000; i++)
		loop_run(&b->loop);
	cr_assert_eq(b->calls, calls);
}

static struct addr
loopback(void)
{
	return addr_v4(INADDR_LOOPBACK, 0);
}

/* Nobody listens there. */
static struct addr
deaf(void)
{
	struct addr at = loopback();

	close(pairs_listen(&at));
	return at;
}

/* A listener that lets nobody in: its queue is full. */
struct hung {
	struct addr at;
	int listener, fillers[8];
};

static void
hung_open(struct hung *h)
{
	struct sockaddr_storage ss;
	socklen_t len;

	h->at = loopback();
	h->listener = pairs_listen(&h->at);
	cr_assert_geq(h->listener, 0);
	cr_assert_eq(listen(h->listener, 0), 0);
	len = addr_to_sockaddr(&h->at, &ss);
	for (size_t i = 0; i < ARRAY_LEN(h->fillers); i++) {
		h->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(h->fillers[i], (struct sockaddr *)&ss, len);
	}
}

static void
hung_close(struct hung *h)
{
	close(h->listener);
	for (size_t i = 0; i < ARRAY_LEN(h->fillers); i++)
		close(h->fillers[i]);
}

Test(dialer, a_dial_gives_a_connected_socket_with_its_lease)
{
	struct bench *b = bench_new();
	struct addr at = loopback(), seen;
	int listener = pairs_listen(&at);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd;

	start(b, POOL_CHOSEN, &at, 1);
	cr_expect(addr_equal(dial_target(b->dial), &at));
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect_eq(b->error, 0);
	cr_expect(addr_equal(&b->target, &at));
	cr_expect_eq(b->stream.watch.fd, b->out.fd, "the stream is registered");
	cr_expect_neq(b->out.lease.record, UINT32_MAX);
	fd = accept(listener, (struct sockaddr *)&ss, &len);
	cr_assert_geq(fd, 0);
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&ss, &seen), 0);
	cr_expect(addr_equal(&seen, &b->out.source));
	passes(&b->loop, 3);
	cr_expect_eq(b->calls, 1);
	close(fd);
	close(listener);
	bench_free(b);
}

Test(dialer, the_next_address_is_tried_when_one_fails)
{
	struct bench *b = bench_new();
	struct addr at[4] = { deaf(), fixture_at("[::1]:80"), deaf(),
		loopback() };
	int listener = pairs_listen(&at[3]);

	start(b, POOL_CHOSEN, at, 4);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect(addr_equal(&b->target, &at[3]));
	close(listener);
	bench_free(b);
}

Test(dialer, the_last_failure_is_the_dials)
{
	struct bench *b = bench_new();
	struct addr at[2] = { fixture_at("[::1]:80"), deaf() };

	start(b, POOL_CHOSEN, at, 2);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_REFUSED);
	cr_expect_eq(b->error, ECONNREFUSED);
	cr_expect(addr_equal(&b->target, &at[1]));
	bench_free(b);

	b = bench_new();
	start(b, POOL_CHOSEN, (struct addr[2]){ at[1], at[0] }, 2);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NO_SOURCE);
	cr_expect_eq(b->error, EAFNOSUPPORT);
	cr_expect(addr_equal(&b->target, &at[0]));
	bench_free(b);
}

static void
expect_failure(struct bench *b, unsigned pool, enum close_reason reason)
{
	struct addr at = deaf();

	b->calls = 0;
	start(b, pool, &at, 1);
	run(b, 1);
	cr_expect_eq(b->reason, reason, "it is %s",
	    b->reason == CLOSE_NONE ? "none" : close_row(b->reason)->label);
	cr_expect_eq(b->stream.watch.fd, -1);
}

Test(dialer, each_cause_has_its_reason)
{
	struct bench *b = bench_new();

	expect_failure(b, POOL_CHOSEN, CLOSE_REFUSED);
	expect_failure(b, POOL_FOREIGN, CLOSE_NO_SOURCE);
	expect_failure(b, POOL_NONE, CLOSE_NO_SOURCE);
	bench_free(b);
}

Test(dialer, a_full_target_is_told_from_a_full_ledger)
{
	struct bench *b = bench_new();
	struct ledger_lease held;
	struct addr at = fixture_at("127.0.0.1:9");
	struct ledger_holder nobody = { .worker = 2 };
	int error = 0;

	cr_assert_eq(ledger_lease(b->egress.ledger, POOL_ONE_PORT, &at, &nobody,
			 1, &held),
	    0);
	start(b, POOL_ONE_PORT, &at, 1);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_TARGET_FULL);
	cr_expect_eq(b->egress.connects, 0, "the kernel was asked");
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	for (uint32_t ip = 0x0a000000; error == 0; ip++) {
		at = addr_v4(ip, 9);
		error = ledger_lease(
		    b->egress.ledger, POOL_CHOSEN, &at, &nobody, 1, &held);
	}
	cr_assert_eq(error, -ENFILE);
	start(b, POOL_CHOSEN, &at, 1);
	run(b, 2);
	cr_expect_eq(b->reason, CLOSE_LEDGER_FULL);
	ledger_return_worker(b->egress.ledger, 2, 1);
	bench_free(b);
}

/* ---- the queue ---- */

/* The only port of the pool towards `at` is held. */
static struct ledger_lease
hold_port(struct bench *b, const struct addr *at)
{
	struct ledger_holder other = { .worker = 2 };
	struct ledger_lease held;

	cr_assert_eq(
	    ledger_lease(b->egress.ledger, POOL_ONE_PORT, at, &other, 1, &held),
	    0);
	return held;
}

static void
let_wait(struct bench *b, uint64_t wait_ms, uint32_t length)
{
	b->dialer.queues[POOL_ONE_PORT] =
	    (struct dial_queue){ .wait_ms = wait_ms, .length = length };
}

static uint64_t
count_waiting(struct bench *b)
{
	struct ledger_totals totals;

	ledger_totals(b->egress.ledger, &totals);
	return totals.waiting;
}

Test(dialer, who_waits_for_a_full_target_is_served_when_a_lease_ends)
{
	struct bench *b = bench_new();
	struct addr at = fixture_at("127.0.0.1:0");
	int listener = pairs_listen(&at);
	struct ledger_lease held = hold_port(b, &at);

	cr_assert_geq(listener, 0);
	let_wait(b, 3600000, 1);
	start(b, POOL_ONE_PORT, &at, 1);
	passes(&b->loop, 3);
	cr_expect_eq(count_waiting(b), 1);
	cr_expect_eq(b->calls, 0);
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	dialer_serve(&b->dialer);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect_eq(b->out.source.port, 40000);
	close(listener);
	bench_free(b);
}

Test(dialer, who_has_waited_for_too_long_is_told_that_the_target_is_full)
{
	struct bench *b = bench_new();
	struct addr at = fixture_at("127.0.0.1:9");
	struct ledger_lease held = hold_port(b, &at);

	let_wait(b, 1, 1);
	start(b, POOL_ONE_PORT, &at, 1);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_TARGET_FULL);
	cr_expect_eq(b->error, 0);
	cr_expect_eq(b->egress.connects, 0, "the kernel was asked");
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	bench_free(b);
}

Test(dialer, a_queue_that_is_full_is_told_from_a_target_that_is)
{
	struct ledger_holder other = { .worker = 2 };
	struct bench *b = bench_new();
	struct addr at = fixture_at("127.0.0.1:9");
	struct ledger_lease held = hold_port(b, &at), none;
	struct ledger_ticket ticket;

	cr_assert_eq(ledger_queue(b->egress.ledger, POOL_ONE_PORT, &at, &other,
			 1, 1, &ticket, &none),
	    -EINPROGRESS);
	let_wait(b, 3600000, 1);
	start(b, POOL_ONE_PORT, &at, 1);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_QUEUE_FULL);
	cr_expect_eq(b->error, 0);
	ledger_cancel(b->egress.ledger, &ticket, 1);
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	bench_free(b);
}

static void
expect_short_of_memory(uint16_t kernel_error)
{
	struct bench *b = bench_new();
	struct addr at = fixture_at("127.0.0.1:9");
	struct ledger_totals t;

	let_wait(b, 3600000, 1);
	cr_assert(faults_refuse_call(SYS_connect, kernel_error));
	start(b, POOL_ONE_PORT, &at, 1);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_MEMORY);
	cr_expect_eq(b->error, ENOMEM);
	ledger_totals(b->egress.ledger, &t);
	cr_expect_eq(t.held, 0);
	bench_free(b);
}

Test(dialer, what_the_kernel_is_short_of_is_not_the_queue)
{
	expect_short_of_memory(ENOBUFS);
}

/* As if there were no cache of routes: it is no other try's turn. */
Test(dialer, a_kernel_that_says_again_is_not_asked_again)
{
	expect_short_of_memory(EAGAIN);
}

Test(dialer, who_is_cancelled_waits_for_nothing_any_more)
{
	struct bench *b = bench_new();
	struct addr at = fixture_at("127.0.0.1:9");
	struct ledger_lease held = hold_port(b, &at);

	let_wait(b, 3600000, 1);
	start(b, POOL_ONE_PORT, &at, 1);
	passes(&b->loop, 3);
	cr_assert_eq(count_waiting(b), 1);
	dial_cancel(&b->dial, NULL);
	cr_expect_eq(count_waiting(b), 0);
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	bench_free(b);
	/* Nor does one that was granted its slot, and has not looked yet. */
	b = bench_new();
	held = hold_port(b, &at);
	let_wait(b, 3600000, 1);
	start(b, POOL_ONE_PORT, &at, 1);
	passes(&b->loop, 3);
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	dial_cancel(&b->dial, NULL);
	bench_free(b);
}

/* One address is full, and the other one has a port. */
Test(dialer, nobody_waits_while_another_address_can_be_had)
{
	struct bench *b = bench_new();
	struct addr at[2] = { fixture_at("127.0.0.1:9"),
		fixture_at("127.0.0.1:0") };
	int listener = pairs_listen(&at[1]);
	struct ledger_lease held = hold_port(b, &at[0]);

	cr_assert_geq(listener, 0);
	let_wait(b, 3600000, 1);
	start(b, POOL_ONE_PORT, at, 2);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect(addr_equal(&b->target, &at[1]));
	ledger_return(b->egress.ledger, &held, LEDGER_HOT, 1);
	close(listener);
	bench_free(b);
}

Test(dialer, without_descriptors_it_says_so)
{
	struct bench *b = bench_new();
	struct addr at = deaf();
	struct rlimit before, none;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	start(b, POOL_CHOSEN, &at, 1);
	run(b, 1);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	cr_expect_eq(b->reason, CLOSE_DESCRIPTORS);
	bench_free(b);
}

Test(dialer, an_address_that_does_not_answer_has_a_share_of_the_time)
{
	struct bench *b = bench_new();
	struct hung hung;
	struct addr at[2];
	int listener;

	hung_open(&hung);
	at[0] = hung.at;
	at[1] = loopback();
	listener = pairs_listen(&at[1]);
	start(b, POOL_CHOSEN, at, 2);
	passes(&b->loop, 3);
	cr_expect_eq(b->calls, 0);
	cr_expect(addr_equal(dial_target(b->dial), &at[0]));
	pass_expired(&b->loop);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect(addr_equal(&b->target, &at[1]));
	close(listener);
	hung_close(&hung);
	bench_free(b);
}

Test(dialer, the_last_address_has_all_the_time_of_its_owner)
{
	struct bench *b = bench_new();
	struct hung hung;

	hung_open(&hung);
	start(b, POOL_CHOSEN, &hung.at, 1);
	passes(&b->loop, 3);
	pass_expired(&b->loop);
	passes(&b->loop, 3);
	cr_expect_eq(b->calls, 0);
	dial_cancel(&b->dial, NULL);
	hung_close(&hung);
	bench_free(b);
}

Test(dialer, a_timeout_before_a_failure_is_not_the_last_word)
{
	struct bench *b = bench_new();
	struct hung hung;
	struct addr at[2];

	hung_open(&hung);
	at[0] = hung.at;
	at[1] = deaf();
	start(b, POOL_CHOSEN, at, 2);
	passes(&b->loop, 2);
	pass_expired(&b->loop);
	run(b, 1);
	cr_expect_eq(b->reason, CLOSE_REFUSED);
	hung_close(&hung);
	bench_free(b);
}

Test(dialer, what_is_cancelled_never_calls_back)
{
	struct bench *b = bench_new();
	struct addr at = loopback(), gone = deaf();
	int listener = pairs_listen(&at);

	dial_cancel(&b->dial, NULL);   /* none */
	start(b, POOL_CHOSEN, &at, 1); /* connecting, or connected */
	dial_cancel(&b->dial, NULL);
	cr_expect_null(b->dial);
	cr_expect_eq(b->stream.watch.fd, -1);
	start(b, POOL_NONE, &gone, 1); /* its answer is put off */
	dial_cancel(&b->dial, NULL);
	passes(&b->loop, 3);
	cr_expect_eq(b->calls, 0);
	close(listener);
	bench_free(b);
}

Test(dialer, a_callback_may_dial_again)
{
	struct bench *b = bench_new();
	struct addr at = loopback(), gone = deaf();
	int listener = pairs_listen(&at);

	b->next = &at;
	start(b, POOL_CHOSEN, &gone, 1);
	run(b, 2);
	cr_expect_eq(b->reason, CLOSE_NONE);
	cr_expect(addr_equal(&b->target, &at));
	close(listener);
	bench_free(b);
}
