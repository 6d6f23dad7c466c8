/* SPDX-License-Identifier: ISC */
#include <sys/eventfd.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <event2/event.h>

#include "dns.h"
#include "io/resolver.h"

/* For answers that do come: no machine is that slow. */
#define PATIENCE_MS 60000

static const struct dns_record zone[] = {
	{ "both.test", DNS_A, "192.0.2.1" },
	{ "both.test", DNS_A, "192.0.2.2" },
	{ "both.test", DNS_A, "192.0.2.1" },
	{ "both.test", DNS_AAAA, "2001:db8::1" },
	{ "only4.test", DNS_A, "192.0.2.4" },
	{ "only6.test", DNS_AAAA, "2001:db8::6" },
	{ "mapped.test", DNS_AAAA, "::ffff:192.0.2.9" },
	{ "empty.test", DNS_ALIVE, NULL },
	{ "alias.test", DNS_CNAME, "only4.test" },
	{ "alias-reversed.test", DNS_CNAME, "only4.test" },
	{ "alias-reversed.test", DNS_REVERSED, NULL },
	{ "reversed.test", DNS_A, "192.0.2.5" },
	{ "reversed.test", DNS_AAAA, "2001:db8::5" },
	{ "reversed.test", DNS_REVERSED, NULL },
	{ "half.test", DNS_A, "192.0.2.7" },
	{ "half.test", DNS_NO_AAAA, NULL },
	{ "long.test", DNS_A, "192.0.2.8" },
	{ "long.test", DNS_TRUNCATED, NULL },
	{ "silent.test", DNS_SILENT, NULL },
	{ "*.silent.test", DNS_SILENT, NULL },
	{ "*.crowd.test", DNS_A, "192.0.2.10" },
	{ "broken.test", DNS_SERVFAIL, NULL },
};

/* A resolver that asks a server of ours, and a place for one answer. */
struct bench {
	struct event_base *base;
	struct dns *dns;
	struct resolver *resolver;
	struct addr client; /* who asks */
	unsigned asked;     /* asked_for(): so that names are new */
	int fds;
};

struct outcome {
	struct bench *bench;
	struct resolve *handle;
	int calls;
	enum resolve_result result;
	size_t count;
	struct addr addrs[RESOLVE_ADDRESSES_MAX];
	struct outcome *to_cancel;  /* in done */
	struct resolver *to_free;   /* in done */
	const char *again;          /* in done: look this up */
	struct outcome *again_into; /* ... into this one */
};

static int
open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(d) != NULL)
		count++;
	closedir(d);
	return count;
}

static void
bench_open(struct bench *b, int timeout_ms)
{
	struct addr at = addr_v4(0x7f000001, 0);
	char server[ADDR_TEXT_MAX];
	struct resolver_options options = { .servers = server,
		.timeout_ms = timeout_ms,
		.tries = 1,
		.client_bits_v4 = 32,
		.client_bits_v6 = 64 };

	b->client = addr_v4(0xc0000201, 4711);
	b->asked = 0;
	b->fds = open_fds();
	b->base = event_base_new();
	b->dns = dns_start(&at, zone, ARRAY_LEN(zone));
	cr_assert_not_null(b->dns);
	addr_format(dns_address(b->dns), server);
	b->resolver = resolver_new(b->base, &options);
	cr_assert_not_null(b->resolver);
}

/* Nothing may be left behind: no event, no descriptor (leaks: sanitizer). */
static void
bench_close(struct bench *b)
{
	resolver_free(b->resolver);
	cr_expect_eq(event_base_get_num_events(b->base,
			 EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE),
	    0);
	dns_stop(b->dns);
	event_base_free(b->base);
	cr_expect_eq(open_fds(), b->fds);
}

static resolve_done_fn on_done;

static void
start(struct bench *b, const char *name, struct outcome *o)
{
	int before = o->calls;

	o->bench = b;
	o->handle =
	    resolve_start(b->resolver, &b->client, name, 443, on_done, o);
	cr_assert_not_null(o->handle);
	cr_assert_eq(o->calls, before, "called back inside the start");
}

static void
on_done(enum resolve_result result, const struct addr *addrs, size_t count,
    void *arg)
{
	struct outcome *o = arg;

	o->handle = NULL;
	o->calls++;
	o->result = result;
	o->count = count;
	if (count > 0)
		memcpy(o->addrs, addrs, count * sizeof(*addrs));
	if (o->to_cancel != NULL)
		resolve_cancel(&o->to_cancel->handle);
	if (o->again != NULL)
		start(o->bench, o->again, o->again_into);
	if (o->to_free != NULL)
		resolver_free(o->to_free);
}

/* Runs until nothing is pending: every answer came, or ran out of time. */
static void
run(struct bench *b)
{
	event_base_dispatch(b->base);
}

static void
lookup(struct bench *b, const char *name, struct outcome *o)
{
	start(b, name, o);
	run(b);
	cr_assert_eq(o->calls, 1);
}

static bool
has(const struct outcome *o, const char *ip)
{
	struct addr a;

	cr_assert_eq(addr_parse_ip(ip, &a), 0);
	a.port = 443;
	for (size_t i = 0; i < o->count; i++) {
		if (addr_equal(&o->addrs[i], &a))
			return true;
	}
	return false;
}

/* Looks `name` up and expects exactly these one or two addresses. */
static void
expect_addresses(const char *name, const char *one, const char *two)
{
	struct bench b;
	struct outcome o = { 0 };

	bench_open(&b, PATIENCE_MS);
	lookup(&b, name, &o);
	cr_expect_eq(o.result, RESOLVE_OK, "%s: %d", name, o.result);
	cr_expect_eq(o.count, two == NULL ? 1 : 2);
	cr_expect(has(&o, one));
	cr_expect(two == NULL || has(&o, two));
	bench_close(&b);
}

static void
expect_failure(const char *name, int timeout_ms, enum resolve_result result)
{
	struct bench b;
	struct outcome o = { 0 };

	bench_open(&b, timeout_ms);
	lookup(&b, name, &o);
	cr_expect_eq(o.result, result, "%s: %d", name, o.result);
	cr_expect_eq(o.count, 0);
	bench_close(&b);
}

Test(resolver, localhost_is_the_loopback_address)
{
	expect_addresses("localhost", "127.0.0.1", "::1");
	expect_addresses("LocalHost.", "127.0.0.1", "::1");
	expect_addresses("a.localhost", "127.0.0.1", "::1");
	expect_failure("notlocalhost", PATIENCE_MS, RESOLVE_NOT_FOUND);
}

/* The name of a line of /etc/hosts with this address, other than localhost. */
static bool
find_in_hosts(const char *address, char *name, size_t size)
{
	FILE *f = fopen("/etc/hosts", "re");
	char line[512], ip[256], host[256];
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
		found = sscanf(line, "%255s %255s", ip, host) == 2 &&
			strcmp(ip, address) == 0 &&
			strstr(host, "localhost") == NULL;
	}
	if (f != NULL)
		fclose(f);
	if (found)
		strcpy_bounded(name, size, host);
	return found;
}

Test(resolver, the_hosts_file_is_read)
{
	struct bench b;
	struct outcome o = { 0 };
	char name[256];

	if (!find_in_hosts("127.0.0.1", name, sizeof(name)) &&
	    !find_in_hosts("127.0.1.1", name, sizeof(name)))
		cr_skip_test("/etc/hosts names no 127.0.0.1 or 127.0.1.1");
	bench_open(&b, PATIENCE_MS);
	lookup(&b, name, &o);
	cr_assert_eq(o.result, RESOLVE_OK);
	cr_assert_gt(o.count, 0);
	cr_expect_eq(dns_udp_count(b.dns), 0);
	bench_close(&b);
}

Test(resolver, a_literal_needs_no_server)
{
	expect_addresses("192.0.2.33", "192.0.2.33", NULL);
	expect_addresses("192.0.2.33.", "192.0.2.33", NULL);
	expect_addresses("2001:db8::33", "2001:db8::33", NULL);
	expect_addresses("::ffff:192.0.2.33", "192.0.2.33", NULL);
}

Test(resolver, both_families_are_asked_and_duplicates_dropped)
{
	struct bench b;
	struct outcome o = { 0 };

	bench_open(&b, PATIENCE_MS);
	lookup(&b, "both.test", &o);
	cr_expect_eq(o.result, RESOLVE_OK);
	cr_expect_eq(o.count, 3);
	cr_expect(has(&o, "192.0.2.1") && has(&o, "192.0.2.2"));
	cr_expect(has(&o, "2001:db8::1"));
	bench_close(&b);
}

Test(resolver, one_family_is_enough)
{
	expect_addresses("only4.test", "192.0.2.4", NULL);
	expect_addresses("only6.test", "2001:db8::6", NULL);
	expect_addresses("mapped.test", "192.0.2.9", NULL);
	expect_addresses("half.test", "192.0.2.7", NULL);
}

Test(resolver, an_alias_is_followed_in_either_order_of_answers)
{
	expect_addresses("alias.test", "192.0.2.4", NULL);
	expect_addresses("alias-reversed.test", "192.0.2.4", NULL);
	expect_addresses("reversed.test", "192.0.2.5", "2001:db8::5");
}

Test(resolver, a_truncated_answer_is_asked_for_by_tcp)
{
	struct bench b;
	struct outcome o = { 0 };

	bench_open(&b, PATIENCE_MS);
	lookup(&b, "long.test", &o);
	cr_expect_eq(o.result, RESOLVE_OK);
	cr_expect(o.count == 1 && has(&o, "192.0.2.8"));
	cr_expect_eq(dns_udp_count(b.dns), 2);
	cr_expect_eq(dns_tcp_count(b.dns), 2);
	bench_close(&b);
}

Test(resolver, what_does_not_exist_is_not_found)
{
	expect_failure("missing.test", PATIENCE_MS, RESOLVE_NOT_FOUND);
	expect_failure("empty.test", PATIENCE_MS, RESOLVE_NOT_FOUND);
	expect_failure("", PATIENCE_MS, RESOLVE_NOT_FOUND);
	expect_failure("a..b", PATIENCE_MS, RESOLVE_NOT_FOUND);
}

Test(resolver, what_cannot_be_asked_has_failed)
{
	expect_failure("broken.test", PATIENCE_MS, RESOLVE_FAILED);
	expect_failure("silent.test", 20, RESOLVE_FAILED);
}

Test(resolver, a_question_after_a_timeout_times_out_too)
{
	struct bench b;
	struct outcome first = { 0 }, second = { 0 };

	bench_open(&b, 20);
	first.again = "silent.test";
	first.again_into = &second;
	start(&b, "silent.test", &first);
	run(&b);
	cr_expect_eq(first.result, RESOLVE_FAILED);
	cr_expect_eq(second.calls, 1);
	cr_expect_eq(second.result, RESOLVE_FAILED);
	bench_close(&b);
}

Test(resolver, nothing_is_told_after_a_cancel)
{
	struct bench b;
	struct outcome asked = { 0 }, ready = { 0 };

	bench_open(&b, 20);
	start(&b, "silent.test", &asked);
	start(&b, "localhost", &ready);
	resolve_cancel(&asked.handle);
	resolve_cancel(&ready.handle);
	cr_expect_null(asked.handle);
	resolve_cancel(&asked.handle);
	run(&b);
	cr_expect_eq(asked.calls + ready.calls, 0);
	bench_close(&b);
}

Test(resolver, one_done_may_cancel_another)
{
	struct bench b;
	struct outcome first = { 0 }, second = { 0 }, third = { 0 };

	bench_open(&b, PATIENCE_MS);
	first.to_cancel = &second;
	start(&b, "127.0.0.1", &first);
	start(&b, "127.0.0.2", &second);
	start(&b, "127.0.0.3", &third);
	run(&b);
	cr_expect_eq(first.calls, 1);
	cr_expect_eq(second.calls, 0);
	cr_expect_eq(third.calls, 1);

	first.to_cancel = &third;
	start(&b, "only4.test", &third);
	start(&b, "127.0.0.1", &first);
	run(&b);
	cr_expect_eq(first.calls, 2);
	cr_expect_eq(third.calls, 1);
	bench_close(&b);
}

/* Starts one more in each pass, before timers have their turn. */
struct stream_of_names {
	struct bench *bench;
	struct outcome outcomes[20];
	size_t started;
};

static void
start_next(evutil_socket_t fd, short what, void *arg)
{
	struct stream_of_names *s = arg;

	(void)fd;
	(void)what;
	if (s->started < ARRAY_LEN(s->outcomes))
		start(s->bench, "127.0.0.1", &s->outcomes[s->started++]);
}

Test(resolver, what_is_ready_is_told_though_others_come)
{
	struct bench b;
	struct stream_of_names s = { .bench = &b };
	struct event *always;
	int fd;

	bench_open(&b, PATIENCE_MS);
	fd = eventfd(1, EFD_CLOEXEC);
	always = event_new(b.base, fd, EV_READ | EV_PERSIST, start_next, &s);
	cr_assert_not_null(always);
	event_add(always, NULL);
	for (unsigned i = 0; i < 5; i++)
		event_base_loop(b.base, EVLOOP_ONCE);
	cr_expect_eq(s.outcomes[0].calls, 1);
	event_free(always);
	run(&b);
	for (size_t i = 0; i < s.started; i++)
		cr_expect_eq(s.outcomes[i].calls, 1);
	close(fd);
	bench_close(&b);
}

Test(resolver, what_is_ready_in_a_done_waits_for_the_next_pass)
{
	struct bench b;
	struct outcome first = { 0 }, second = { 0 };

	bench_open(&b, PATIENCE_MS);
	first.again = "127.0.0.1";
	first.again_into = &second;
	start(&b, "127.0.0.1", &first);
	event_base_loop(b.base, EVLOOP_ONCE);
	cr_expect_eq(first.calls, 1);
	cr_expect_eq(second.calls, 0);
	event_base_loop(b.base, EVLOOP_ONCE);
	cr_expect_eq(second.calls, 1);
	bench_close(&b);
}

Test(resolver, freed_with_cancelled_ones_still_in_flight)
{
	struct bench b;
	struct outcome udp = { 0 }, tcp = { 0 };

	bench_open(&b, 5000);
	start(&b, "silent.test", &udp);
	start(&b, "both.test", &tcp);
	event_base_loop(b.base, EVLOOP_NONBLOCK);
	resolve_cancel(&udp.handle);
	resolve_cancel(&tcp.handle);
	bench_close(&b);
}

Test(resolver, freed_inside_the_last_done)
{
	struct bench b;
	struct outcome o = { 0 };

	bench_open(&b, PATIENCE_MS);
	o.to_free = b.resolver;
	start(&b, "only4.test", &o);
	run(&b);
	cr_expect_eq(o.calls, 1);
	b.resolver = NULL;
	bench_close(&b);
}

Test(resolver, freed_with_none_pending)
{
	struct event_base *base = event_base_new();
	struct resolver_options usual = { 0 };
	struct resolver_options wrong = { .servers = "nonsense" };

	resolver_free(resolver_new(base, &usual));
	resolver_free(NULL);
	cr_expect_null(resolver_new(base, &wrong));
	event_base_free(base);
}

/* Names of their own: NUMBER.parent. */
static void
start_many(
    struct bench *b, const char *parent, struct outcome *many, size_t count)
{
	char name[64];

	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%zu.%s", i, parent);
		start(b, name, &many[i]);
	}
}

static void
cancel_many(struct outcome *many, size_t count)
{
	for (size_t i = 0; i < count; i++)
		resolve_cancel(&many[i].handle);
}

/* c-ares has numbers for 65,536 queries, and draws until one is free. */
Test(resolver, more_questions_than_query_numbers_do_not_hang)
{
	struct bench b;
	static struct outcome many[17000];

	bench_open(&b, 60000);
	start_many(&b, "silent.test", many, ARRAY_LEN(many));
	event_base_loop(b.base, EVLOOP_ONCE);
	cr_expect_eq(many[0].calls, 0);
	cr_expect_eq(many[ARRAY_LEN(many) - 1].calls, 1);
	cr_expect_eq(many[ARRAY_LEN(many) - 1].result, RESOLVE_BUSY);
	cancel_many(many, ARRAY_LEN(many));
	bench_close(&b);
}

/* How many of `count` new names are asked for; all are cancelled. */
static unsigned
asked_for(struct bench *b, struct outcome *many, size_t count)
{
	unsigned busy = 0;
	char parent[32];

	memset(many, 0, count * sizeof(*many));
	snprintf(parent, sizeof(parent), "%u.silent.test", b->asked++);
	start_many(b, parent, many, count);
	event_base_loop(b->base, EVLOOP_NONBLOCK);
	for (size_t i = 0; i < count; i++)
		busy += many[i].calls == 1 && many[i].result == RESOLVE_BUSY;
	cancel_many(many, count);
	return (unsigned)count - busy;
}

Test(resolver, one_client_leaves_queries_to_others_though_it_cancels)
{
	struct bench b;
	static struct outcome many[17000];
	struct outcome other = { 0 };

	bench_open(&b, 60000);
	cr_expect_eq(asked_for(&b, many, ARRAY_LEN(many)), 8192);
	cr_expect_eq(asked_for(&b, many, 100), 0);
	b.client.port++;
	cr_expect_eq(
	    asked_for(&b, many, 100), 0, "another port is nobody else");
	cr_assert_eq(addr_parse_ip("2001:db8::1", &b.client), 0);
	cr_expect_eq(asked_for(&b, many, ARRAY_LEN(many)), 4096);
	cr_assert_eq(addr_parse_ip("2001:db8::2", &b.client), 0);
	cr_expect_eq(asked_for(&b, many, 100), 0, "of the same /64");
	b.client = (struct addr){ 0 };
	start(&b, "only4.test", &other);
	while (other.calls == 0)
		event_base_loop(b.base, EVLOOP_ONCE);
	cr_expect_eq(other.result, RESOLVE_OK);
	bench_close(&b);
}

Test(resolver, a_client_whose_queries_ended_has_its_part_again)
{
	struct bench b;
	static struct outcome many[9000];

	bench_open(&b, 20);
	/* Some may have ended before the last has begun. */
	cr_expect_geq(asked_for(&b, many, ARRAY_LEN(many)), 8192);
	run(&b);
	cr_expect_geq(asked_for(&b, many, ARRAY_LEN(many)), 8192);
	bench_close(&b);
}

Test(resolver, one_name_at_a_time_is_one_query)
{
	struct bench b;
	struct outcome many[100] = { 0 };

	bench_open(&b, PATIENCE_MS);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		start(&b, "both.test", &many[i]);
	/* The first, who began it, too. */
	cancel_many(many, 10);
	run(&b);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		cr_expect_eq(many[i].calls, i < 10 ? 0 : 1);
		cr_expect_eq(many[i].count, i < 10 ? 0 : 3);
	}
	cr_expect_eq(dns_udp_count(b.dns), 2);
	bench_close(&b);
}

Test(resolver, those_who_share_a_query_have_ports_of_their_own)
{
	struct bench b;
	struct outcome one = { 0 }, two = { 0 };

	bench_open(&b, PATIENCE_MS);
	start(&b, "only4.test", &one);
	two.handle = resolve_start(
	    b.resolver, &b.client, "only4.test", 80, on_done, &two);
	run(&b);
	cr_assert(one.count == 1 && two.count == 1);
	cr_expect_eq(one.addrs[0].port, 443);
	cr_expect_eq(two.addrs[0].port, 80);
	bench_close(&b);
}

/* 400 answers, of which a UDP socket's usual buffer holds 277. */
Test(resolver, a_crowd_at_once_loses_no_answer)
{
	struct bench b;
	static struct outcome many[200];
	unsigned answered = 0;

	bench_open(&b, PATIENCE_MS);
	start_many(&b, "crowd.test", many, ARRAY_LEN(many));
	run(&b);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		answered += many[i].result == RESOLVE_OK && many[i].count == 1;
	cr_expect_eq(answered, ARRAY_LEN(many), "%u", answered);
	bench_close(&b);
}
