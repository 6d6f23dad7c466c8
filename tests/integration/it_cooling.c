/* SPDX-License-Identifier: ISC */
/*
 * How long a source port rests towards its target after each kind of end, on
 * the kernel that keeps the four numbers: with a pool of one port, over a wire
 * between two namespaces and over loopback, with tcp_tw_reuse at 0, 1 and 2.
 *
 * One test waits for the minute of a TIME_WAIT. In the others a port that cools
 * for a second serves as the clock: when it is free again, one that is still
 * refused cools for longer. Everywhere the daemon's counters say in the end
 * that it never tried what the kernel held.
 */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define HERE     "10.4.0.1"
#define THERE    "10.4.0.2"
#define PORT     40000
#define TARGETS  4
#define BRIEF_MS 1000
#define LONG_MS  62000
/* The loop's clock may be older than what it has just been told. */
#define SLACK_MS 100

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target targets[TARGETS]; /* each another port of `address` */
	const char *address;
	const char *more; /* of the configuration, from the pool on */
	unsigned ended;   /* sessions that got to their target */
};

static void
open_daemon(struct scene *s, const char *source)
{
	char config[512];

	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\n"
	    "[egress e]\nports = %d\naddresses = %s\nwait = off\n%s",
	    PORT, source, s->more);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 1\n", .config = config });
	s->proxy = daemon_address(s->daemon, "a");
}

static void
open_targets(struct scene *s)
{
	for (unsigned i = 0; i < TARGETS; i++)
		target_listen(&s->targets[i]);
}

/* The targets are at the other end of a wire. */
static void
scene_open_wire_with(struct scene *s, const char *tw_reuse, const char *more)
{
	*s = (struct scene){ .address = THERE, .more = more };
	namespace_enter();
	int there = namespace_here();

	open_targets(s);
	namespace_enter();
	namespace_veth("wire", HERE, there, THERE);
	close(there);
	namespace_port_range(30000, 40999);
	namespace_sysctl("ipv4/tcp_tw_reuse", tw_reuse);
	open_daemon(s, HERE);
}

static void
scene_open_wire(struct scene *s, const char *tw_reuse)
{
	scene_open_wire_with(s, tw_reuse, "");
}

static void
scene_open_loopback(struct scene *s, const char *tw_reuse)
{
	*s = (struct scene){ .address = "127.0.0.1", .more = "" };
	namespace_enter();
	open_targets(s);
	namespace_port_range(30000, 40999);
	namespace_sysctl("ipv4/tcp_tw_reuse", tw_reuse);
	open_daemon(s, "127.0.0.1");
}

/* The kernel was never asked for what it still held. */
static void
scene_close(struct scene *s)
{
	daemon_signal(s->daemon, SIGTERM);
	cr_assert_eq(daemon_wait_exit(s->daemon), 0);
	cr_expect_gt(daemon_counter(s->daemon, "connects"), 0);
	cr_expect_eq(daemon_counter(s->daemon, "tuples_taken"), 0);
	daemon_free(s->daemon);
	for (unsigned i = 0; i < TARGETS; i++)
		target_close(&s->targets[i]);
}

static struct addr
address_of(const struct scene *s, unsigned target)
{
	return target_at(&s->targets[target], s->address);
}

static void
open_session(struct scene *s, unsigned target, struct pair *p)
{
	struct addr to = address_of(s, target);

	pair_open(p, &s->proxy, &s->targets[target], &to);
	cr_assert_eq(p->source.port, PORT);
	pair_exchange(p, target);
}

/* Returns when the lease has been given back: the log's line comes after. */
static void
wait_for_end(struct scene *s, const char *reason)
{
	char word[64];

	snprintf(word, sizeof(word), "source=%s:%d",
	    strcmp(s->address, THERE) == 0 ? HERE : "127.0.0.1", PORT);
	daemon_wait_lines(
	    s->daemon, ++s->ended, DAEMON_WORDS("event=session", word));
	cr_assert_gt(daemon_count_log(s->daemon, "event=session", word, reason),
	    0, "%s", reason);
}

/* The kinds of end. Each returns a time before it. */

static void
client_resets(struct scene *s, unsigned target)
{
	struct pair p;

	open_session(s, target, &p);
	pair_reset(&p);
	wait_for_end(s, "reason=client_reset");
}

static void
target_resets(struct scene *s, unsigned target)
{
	struct pair p;

	open_session(s, target, &p);
	peer_reset(p.target);
	peer_expect_reset(p.client);
	wait_for_end(s, "reason=target_reset");
}

static uint64_t
target_finishes_first(struct scene *s, unsigned target)
{
	struct pair p;

	open_session(s, target, &p);
	uint64_t before_ms = it_now_ms();

	peer_finish(p.target);
	peer_expect_eof(p.client);
	peer_expect_eof(p.target);
	wait_for_end(s, "reason=done");
	return before_ms;
}

/* Towards the target, the proxy finishes first then. */
static uint64_t
client_finishes_first(struct scene *s, unsigned target)
{
	struct pair p;

	open_session(s, target, &p);
	uint64_t before_ms = it_now_ms();

	pair_finish(&p);
	wait_for_end(s, "reason=done");
	return before_ms;
}

static bool
is_full(struct scene *s, unsigned target)
{
	struct addr to = address_of(s, target);
	int fd;
	uint8_t code = socks_try(&s->proxy, &to, &fd);

	IT_MUST(code == 0 || code == 1, "reply %02x", code);
	if (code == 1)
		return true;
	peer_reset(fd);
	peer_expect_reset(target_accept(&s->targets[target]));
	wait_for_end(s, "reason=client_reset");
	return false;
}

/* Without the proxy: does the kernel hold the four numbers? */
static bool
kernel_holds(struct scene *s, unsigned target)
{
	struct addr to = address_of(s, target);
	int fd, error = peer_try_connect_sharing(PORT, &to, &fd);

	IT_MUST(error == 0 || error == EADDRNOTAVAIL, "connect: %s",
	    strerror(error));
	if (error != 0)
		return true;
	peer_reset(fd);
	peer_expect_reset(target_accept(&s->targets[target]));
	return false;
}

/* Each refusal has its cause in the log. */
static void
expect_refused(struct scene *s, unsigned target)
{
	unsigned before =
	    daemon_count_log(s->daemon, "event=session", "reason=target_full");

	cr_assert(is_full(s, target), "target %u is free", target);
	daemon_wait_lines(s->daemon, before + 1,
	    DAEMON_WORDS("event=session", "reason=target_full"));
}

static void
expect_free(struct scene *s, unsigned target)
{
	cr_assert(!is_full(s, target), "target %u is full", target);
}

/* Until the target is free again, which is not before so long. */
static void
expect_free_after(
    struct scene *s, unsigned target, uint64_t since_ms, uint64_t cools_ms)
{
	uint64_t begin_ms = it_now_ms();

	while (is_full(s, target))
		it_again(begin_ms, "the target is free again");
	uint64_t took_ms = it_now_ms() - since_ms;

	cr_expect_geq(took_ms, cools_ms - SLACK_MS, "after %llu ms",
	    (unsigned long long)took_ms);
}

static void
expect_brief(struct scene *s, unsigned target, uint64_t since_ms)
{
	expect_free_after(s, target, since_ms, BRIEF_MS);
}

/* It cools, and goes on when a whole second has passed by another target's. */
static void
expect_long(struct scene *s, unsigned target, unsigned clock)
{
	expect_refused(s, target);
	expect_brief(s, clock, target_finishes_first(s, clock));
	expect_refused(s, target);
}

static void
expect_free_after_resets(struct scene *s)
{
	client_resets(s, 0);
	cr_expect(!kernel_holds(s, 0));
	expect_free(s, 0);
	target_resets(s, 0);
	cr_expect(!kernel_holds(s, 0));
	expect_free(s, 0);
}

Test(cooling, a_reset_by_either_side_frees_the_port_at_once)
{
	struct scene s;

	scene_open_wire(&s, "0");
	expect_free_after_resets(&s);
	scene_close(&s);
	scene_open_loopback(&s, "2");
	expect_free_after_resets(&s);
	scene_close(&s);
}

/* While we wait for the target's end the kernel is in FIN_WAIT2, which the
 * lease covers; what ends it is a reset. */
Test(cooling, a_target_that_stays_open_keeps_the_port_until_it_is_reset)
{
	struct scene s;
	struct pair p;

	char byte;

	/* Long enough to look at it while it lasts. */
	scene_open_wire_with(&s, "0", "[timeouts]\nhalf-closed = 2s\n");
	open_session(&s, 0, &p);
	peer_finish(p.client);
	cr_assert_eq(read(p.target, &byte, 1), 0);
	daemon_pause(s.daemon);
	cr_expect(kernel_holds(&s, 0));
	daemon_resume(s.daemon);
	peer_expect_reset(p.client);
	wait_for_end(&s, "reason=half_closed_timeout");
	expect_free(&s, 0);
	close(p.target);
	scene_close(&s);
}

Test(cooling, a_target_that_ends_first_is_free_after_a_second)
{
	struct scene s;

	scene_open_wire(&s, "0");
	uint64_t since_ms = target_finishes_first(&s, 0);

	/* We are out of LAST_ACK as soon as the target's host has answered. */
	IT_EVENTUALLY(!kernel_holds(&s, 0));
	expect_brief(&s, 0, since_ms);
	scene_close(&s);
}

static void
expect_long_on_a_wire(const char *tw_reuse)
{
	struct scene s;

	scene_open_wire(&s, tw_reuse);
	client_finishes_first(&s, 0);
	cr_expect(kernel_holds(&s, 0));
	expect_long(&s, 0, 1);
	cr_expect(kernel_holds(&s, 0));
	scene_close(&s);
}

Test(cooling, a_port_that_ended_first_rests_without_tw_reuse)
{
	expect_long_on_a_wire("0");
}

Test(
    cooling, a_port_that_ended_first_rests_on_a_wire_with_tw_reuse_for_loopback)
{
	expect_long_on_a_wire("2");
}

static void
expect_brief_after_our_end(struct scene *s, unsigned target)
{
	uint64_t since_ms = client_finishes_first(s, target);
	bool holds = kernel_holds(s, target);

	/* As long as it is sure to, whatever the machine does. */
	if (it_now_ms() - since_ms < BRIEF_MS - SLACK_MS)
		cr_expect(holds);
	expect_brief(s, target, since_ms);
}

Test(cooling, a_port_that_ended_first_is_free_after_a_second_with_tw_reuse)
{
	struct scene s;

	scene_open_wire(&s, "1");
	expect_brief_after_our_end(&s, 0);
	scene_close(&s);
}

Test(cooling, a_port_that_ended_first_is_free_after_a_second_on_loopback)
{
	struct scene s;

	scene_open_loopback(&s, "2");
	expect_brief_after_our_end(&s, 0);
	scene_close(&s);
}

Test(cooling, a_port_that_ended_first_rests_on_loopback_without_tw_reuse)
{
	struct scene s;

	scene_open_loopback(&s, "0");
	client_finishes_first(&s, 0);
	expect_long(&s, 0, 1);
	cr_expect(kernel_holds(&s, 0));
	scene_close(&s);
}

/* A sysctl of Linux 6.14. */
Test(cooling, a_port_rests_for_as_long_as_tw_reuse_is_delayed)
{
	struct scene s;

	if (access("/proc/sys/net/ipv4/tcp_tw_reuse_delay", F_OK) != 0)
		cr_skip_test("this kernel has no tcp_tw_reuse_delay");
	scene_open_wire(&s, "1");
	namespace_sysctl("ipv4/tcp_tw_reuse_delay", "2500");
	daemon_reload(s.daemon);
	expect_free_after(&s, 0, client_finishes_first(&s, 0), 2500);
	scene_close(&s);
}

/* Where a side does not send timestamps, no TIME_WAIT is taken over. */
Test(cooling, a_port_that_ended_first_rests_without_timestamps)
{
	struct scene s;

	scene_open_wire(&s, "1");
	namespace_sysctl("ipv4/tcp_timestamps", "0");
	client_finishes_first(&s, 0);
	expect_long(&s, 0, 1);
	cr_expect(kernel_holds(&s, 0));
	scene_close(&s);
}

Test(cooling, a_reload_reads_tw_reuse_anew)
{
	struct scene s;

	scene_open_wire(&s, "0");
	client_finishes_first(&s, 0);
	expect_refused(&s, 0);
	namespace_sysctl("ipv4/tcp_tw_reuse", "1");
	daemon_reload(s.daemon);
	expect_brief_after_our_end(&s, 1);
	/* What ended before keeps its time. */
	expect_refused(&s, 0);
	namespace_sysctl("ipv4/tcp_tw_reuse", "0");
	daemon_reload(s.daemon);
	client_finishes_first(&s, 2);
	expect_long(&s, 2, 3);
	cr_expect(kernel_holds(&s, 2));
	scene_close(&s);
}

static void
expect_end(int fd)
{
	char byte;

	cr_assert_eq(recv(fd, &byte, 1, 0), 0);
}

/* Its end has arrived, and that of the other side before. */
static bool
has_closed(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_state == TCP_CLOSE;
}

/* The client has ended in order, and the target knows. */
static void
open_half_closed(struct scene *s, struct pair *p)
{
	scene_open_wire(s, "0");
	open_session(s, 0, p);
	peer_finish(p->client);
	expect_end(p->target);
}

/* Both sides have ended in order, and the client resets before the daemon has
 * read the target's end: the kernel holds the four numbers all the same. */
Test(cooling, a_reset_that_comes_too_late_does_not_free_the_port)
{
	struct scene s;
	struct pair p;

	open_half_closed(&s, &p);
	daemon_pause(s.daemon);
	peer_reset(p.client);
	peer_finish(p.target);
	IT_EVENTUALLY(has_closed(p.target));
	daemon_resume(s.daemon);
	wait_for_end(&s, "reason=client_reset");
	expect_long(&s, 0, 1);
	cr_expect(kernel_holds(&s, 0));
	close(p.target);
	scene_close(&s);
}

/* The same where only our end was sent: the reset ends all. */
Test(cooling, a_reset_after_our_end_alone_frees_the_port)
{
	struct scene s;
	struct pair p;

	open_half_closed(&s, &p);
	peer_reset(p.client);
	wait_for_end(&s, "reason=client_reset");
	IT_EVENTUALLY(has_closed(p.target));
	cr_expect(!kernel_holds(&s, 0));
	expect_free(&s, 0);
	close(p.target);
	scene_close(&s);
}

/* Longer than the kernel needs, so that it is seen. */
Test(cooling, a_cooldown_overrides_what_the_kernel_needs)
{
	struct scene s;

	scene_open_wire_with(&s, "1", "cooldown = 2500ms\n");
	expect_free_after(&s, 0, client_finishes_first(&s, 0), 2500);
	/* Only of what we closed first. */
	client_resets(&s, 0);
	expect_free(&s, 0);
	scene_close(&s);
}

/* Looks seldom, as it is for a minute; how long it took. */
static uint64_t
wait_until_free(struct scene *s, unsigned target, uint64_t since_ms)
{
	while (is_full(s, target)) {
		IT_MUST(it_now_ms() - since_ms < 2 * LONG_MS,
		    "the target is not free again");
		poll(NULL, 0, 100);
	}
	return it_now_ms() - since_ms;
}

/* It shows that 62 s are long enough for the kernel. */
Test(cooling, a_port_that_ended_first_is_free_after_a_minute)
{
	struct scene s;

	scene_open_wire(&s, "0");
	uint64_t since_ms = client_finishes_first(&s, 0);
	uint64_t took_ms = wait_until_free(&s, 0, since_ms);

	printf("free again after %llu ms\n", (unsigned long long)took_ms);
	cr_expect_geq(took_ms, LONG_MS - SLACK_MS);
	scene_close(&s);
}
