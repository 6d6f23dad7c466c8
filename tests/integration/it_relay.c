/* SPDX-License-Identifier: ISC */
/*
 * Bytes through a session: all of them, in order, both ways, to the end; and an
 * end that is the one the other side made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon.h"
#include "flow.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

#define MIB     (1024ULL * 1024)
#define HUNDRED (100 * MIB)

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

/* Bytes are copied, or go through pipes, or as the relay finds it best. */
#define TEST_MOVING(name)                     \
	static void name(const char *splice); \
	Test(relay, name##_copied)            \
	{                                     \
		name("no");                   \
	}                                     \
	Test(relay, name##_spliced)           \
	{                                     \
		name("yes");                  \
	}                                     \
	Test(relay, name##_by_itself)         \
	{                                     \
		name("auto");                 \
	}                                     \
	static void name(const char *splice)

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
};

static void
scene_open(struct scene *s, const char *splice)
{
	char config[128];

	snprintf(config, sizeof(config),
	    "[listen default]\naddress = 127.0.0.1:0\n"
	    "[relay]\nsplice = %s\n",
	    splice);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 2\n", .config = config });
	s->proxy = daemon_address(s->daemon, "default");
	target_listen(&s->target);
}

static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_stop(s->daemon);
}

/* The two ends of a new session, with streams of their own. */
static void
open_flows(
    struct scene *s, uint32_t seed, struct flow *client, struct flow *target)
{
	struct addr to = target_number(&s->target, seed);
	struct pair p;

	pair_open(&p, &s->proxy, &s->target, &to);
	*client = (struct flow){ .fd = p.client,
		.last = FLOW_FINISH,
		.out_seed = 2 * seed,
		.in_seed = 2 * seed + 1 };
	*target = (struct flow){ .fd = p.target,
		.last = FLOW_FINISH,
		.out_seed = 2 * seed + 1,
		.in_seed = 2 * seed };
}

static void
close_flow(struct flow *f)
{
	if (f->fd >= 0)
		close(f->fd);
}

static void
expect_all(const struct flow *from, const struct flow *to)
{
	IT_MUST(to->in_end == FLOW_EOF, "no clean end");
	IT_MUST(to->in_got == from->out_total, "%llu of %llu bytes",
	    (unsigned long long)to->in_got,
	    (unsigned long long)from->out_total);
}

/* Both ends carry what they are told to, and end in order. */
static void
carry(struct scene *s, struct flow flows[2])
{
	flows_run(flows, 2, 1);
	expect_all(&flows[0], &flows[1]);
	expect_all(&flows[1], &flows[0]);
	close_flow(&flows[0]);
	close_flow(&flows[1]);
	daemon_wait_log(s->daemon, "event=session", "reason=done");
}

TEST_MOVING(a_hundred_megabytes_go_each_way_at_once)
{
	char line[DAEMON_LINE_MAX], value[32];
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	open_flows(&s, 1, &flows[0], &flows[1]);
	flows[0].out_total = flows[1].out_total = HUNDRED;
	carry(&s, flows);
	daemon_find_log(s.daemon, line, "event=session");
	cr_expect_str_eq(
	    daemon_value(line, "bytes_up", value, sizeof(value)), "104857600");
	cr_expect_str_eq(daemon_value(line, "bytes_down", value, sizeof(value)),
	    "104857600");
	scene_close(&s);
}

TEST_MOVING(a_client_that_finishes_first_still_gets_all)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	open_flows(&s, 1, &flows[0], &flows[1]);
	flows[0].out_total = MIB;
	flows[1].out_total = HUNDRED;
	flows[1].waits_for_end = true;
	carry(&s, flows);
	scene_close(&s);
}

TEST_MOVING(a_target_that_finishes_first_still_gets_all)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	open_flows(&s, 1, &flows[0], &flows[1]);
	flows[0].out_total = HUNDRED;
	flows[0].waits_for_end = true;
	flows[1].out_total = MIB;
	carry(&s, flows);
	scene_close(&s);
}

TEST_MOVING(an_end_without_a_byte_is_carried)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	open_flows(&s, 1, &flows[0], &flows[1]);
	carry(&s, flows);
	open_flows(&s, 2, &flows[0], &flows[1]);
	flows[0].out_total = 1;
	flows[0].waits_for_end = true;
	carry(&s, flows);
	scene_close(&s);
}

/*
 * A slow reader of 3 MiB that the other side sent and finished at once: the
 * end comes behind the bytes, which the proxy has to keep meanwhile.
 */
TEST_MOVING(an_end_does_not_overtake_bytes)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	for (uint32_t i = 0; i < 20; i++) {
		open_flows(&s, i, &flows[0], &flows[1]);
		flows[i % 2].out_total = 3 * MIB;
		flow_push(&flows[i % 2]);
		flows[1 - i % 2].dawdle = 2;
		flows_run(flows, 2, i);
		expect_all(&flows[0], &flows[1]);
		expect_all(&flows[1], &flows[0]);
		close_flow(&flows[0]);
		close_flow(&flows[1]);
	}
	scene_close(&s);
}

TEST_MOVING(a_reset_of_the_client_is_one_at_the_target)
{
	struct scene s;
	struct pair p;

	scene_open(&s, splice);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	pair_exchange(&p, 1);
	peer_reset(p.client);
	peer_expect_reset(p.target);
	daemon_wait_log(s.daemon, "event=session", "reason=client_reset");
	scene_close(&s);
}

TEST_MOVING(a_reset_of_the_target_is_one_at_the_client)
{
	struct scene s;
	struct pair p;

	scene_open(&s, splice);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	pair_exchange(&p, 1);
	peer_reset(p.target);
	peer_expect_reset(p.client);
	daemon_wait_log(s.daemon, "event=session", "reason=target_reset");
	scene_close(&s);
}

TEST_MOVING(a_reset_after_an_end_is_one_too)
{
	struct scene s;
	struct pair p;
	char byte;

	scene_open(&s, splice);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	peer_finish(p.client);
	cr_assert_eq(read(p.target, &byte, 1), 0);
	peer_reset(p.target);
	peer_expect_reset(p.client);
	daemon_wait_log(s.daemon, "event=session", "reason=target_reset");

	pair_open(&p, &s.proxy, &s.target, &to);
	peer_finish(p.target);
	cr_assert_eq(read(p.client, &byte, 1), 0);
	peer_reset(p.client);
	peer_expect_reset(p.target);
	daemon_wait_log(s.daemon, "event=session", "reason=client_reset");
	scene_close(&s);
}

TEST_MOVING(a_reset_in_the_middle_of_a_stream_is_seen)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	for (uint32_t i = 0; i < 10; i++) {
		struct flow *resets = &flows[i % 2], *other = &flows[1 - i % 2];

		open_flows(&s, i, &flows[0], &flows[1]);
		resets->last = FLOW_RESET;
		resets->out_total = MIB;
		resets->reset_early = i % 4 < 2;
		resets->in_total = MIB;
		other->out_total = 4 * MIB;
		flows_run(flows, 2, i);
		cr_expect_eq(other->in_end, FLOW_BROKEN,
		    "round %u: the end is clean", i);
		close_flow(other);
	}
	scene_close(&s);
}

/* What the other end gets when `from` says bytes and then ends. */
static enum peer_end
end_at_once(struct scene *s, int from, int to, bool reset, size_t *len)
{
	char bytes[3000] = "at once", got[4000];

	daemon_pause(s->daemon);
	peer_send(from, bytes, sizeof(bytes));
	if (reset)
		peer_reset(from);
	else
		peer_finish(from);
	daemon_resume(s->daemon);
	enum peer_end end = peer_drain(to, got, sizeof(got), len);

	close(to);
	if (!reset)
		close(from);
	return end;
}

/* The proxy learns of both in one go. */
TEST_MOVING(a_reset_that_comes_with_bytes_is_seen)
{
	struct scene s;
	struct pair p;
	size_t len;

	scene_open(&s, splice);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	cr_expect_eq(
	    end_at_once(&s, p.client, p.target, true, &len), PEER_RESET);
	daemon_wait_log(s.daemon, "event=session", "reason=client_reset");
	pair_open(&p, &s.proxy, &s.target, &to);
	cr_expect_eq(
	    end_at_once(&s, p.target, p.client, true, &len), PEER_RESET);
	daemon_wait_log(s.daemon, "event=session", "reason=target_reset");
	scene_close(&s);
}

TEST_MOVING(an_end_that_comes_with_bytes_is_behind_them)
{
	struct scene s;
	struct pair p;
	size_t len;

	scene_open(&s, splice);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	cr_expect_eq(
	    end_at_once(&s, p.client, p.target, false, &len), PEER_EOF);
	cr_expect_eq(len, 3000);
	pair_open(&p, &s.proxy, &s.target, &to);
	cr_expect_eq(
	    end_at_once(&s, p.target, p.client, false, &len), PEER_EOF);
	cr_expect_eq(len, 3000);
	scene_close(&s);
}

/* How far the target's gigabyte comes while nobody reads it. */
TEST_MOVING(a_client_that_does_not_read_costs_no_memory)
{
	struct flow flows[2];
	struct scene s;

	scene_open(&s, splice);
	uint64_t before = daemon_own_kb(s.daemon);

	open_flows(&s, 1, &flows[0], &flows[1]);
	flows[1].out_total = 1024 * MIB;
	uint64_t pushed = flow_push(&flows[1]);
	uint64_t after = daemon_own_kb(s.daemon);

	cr_assert_lt(pushed, flows[1].out_total);
	cr_assert_lt(after, before + 10 * 1024, "%llu KiB, then %llu",
	    (unsigned long long)before, (unsigned long long)after);
	/* And when it reads again, all is there. */
	flows[1].out_total = flows[1].out_sent + MIB;
	carry(&s, flows);
	scene_close(&s);
}

#define SESSIONS 1000

/* One session in ten ends by a reset, of either side. */
static void
randomize(uint32_t *random, struct flow *client, struct flow *target)
{
	static const uint32_t sizes[] = { 0, 1, 100, 5000, 70000, 300000 };
	struct flow *ends[2] = { client, target };

	for (int i = 0; i < 2; i++) {
		uint32_t size = sizes[flow_random(random) % ARRAY_LEN(sizes)];

		ends[i]->out_total = size == 0 ? 0 : flow_random(random) % size;
		ends[i]->largest = 1 + flow_random(random) % 65536;
		ends[i]->dawdle = 2 + flow_random(random) % 6;
	}
	/* A writer of single bytes has not much to say. */
	for (int i = 0; i < 2; i++) {
		if (ends[i]->largest < 100)
			ends[i]->out_total %= 2000;
	}
	struct flow *one = ends[flow_random(random) % 2];
	struct flow *other = one == client ? target : client;

	if (flow_random(random) % 10 == 0) {
		one->last = FLOW_RESET;
		one->reset_early = flow_random(random) % 2 == 0;
		one->in_total = other->out_total / 2;
	} else if (flow_random(random) % 3 == 0) {
		one->waits_for_end = true;
	}
}

static void
check_session(const struct flow *client, const struct flow *target, unsigned i)
{
	if (client->last == FLOW_FINISH && target->last == FLOW_FINISH) {
		expect_all(client, target);
		expect_all(target, client);
		return;
	}
	const struct flow *other = client->last == FLOW_RESET ? target : client;

	IT_MUST(other->in_end == FLOW_BROKEN, "session %u: a clean end", i);
}

TEST_MOVING(a_thousand_sessions_of_all_kinds_lose_nothing)
{
	struct flow *flows = calloc(2 * SESSIONS, sizeof(*flows));
	const char *seed = getenv("FOURFOLD_SEED");
	uint32_t random = seed != NULL ? (uint32_t)strtoul(seed, NULL, 10)
				       : (uint32_t)it_now_ms();
	struct scene s;

	printf("FOURFOLD_SEED=%u repeats these sessions\n", random);

	cr_assert_not_null(flows);
	cr_assert_geq(it_raise_files(), 2 * SESSIONS + 100);
	scene_open(&s, splice);
	unsigned descriptors = daemon_descriptors(s.daemon);

	for (uint32_t i = 0; i < SESSIONS; i++) {
		open_flows(&s, i, &flows[2 * i], &flows[2 * i + 1]);
		randomize(&random, &flows[2 * i], &flows[2 * i + 1]);
	}
	flows_run(flows, 2 * SESSIONS, random);
	for (unsigned i = 0; i < SESSIONS; i++) {
		check_session(&flows[2 * i], &flows[2 * i + 1], i);
		close_flow(&flows[2 * i]);
		close_flow(&flows[2 * i + 1]);
	}
	daemon_wait_lines(s.daemon, SESSIONS, DAEMON_WORDS("event=session"));
	/* A resolver and the like may have come; no session may stay. */
	IT_EVENTUALLY(daemon_descriptors(s.daemon) <= descriptors + 8);
	scene_close(&s);
	free(flows);
}
