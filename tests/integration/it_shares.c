/* SPDX-License-Identifier: ISC */
/*
 * Who may have how much of the ports, and which: limits, shares and reserves;
 * order and source addresses.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define PASSWORD "correct horse battery"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

static struct daemon *
start_with(const char *workers, const char *config)
{
	return daemon_start(
	    &(struct daemon_setup){ .proxy = workers, .config = config });
}

/* One listener, and the rest of the file from its [egress] on. */
static struct daemon *
start(const char *workers, const char *egress)
{
	char config[1024];

	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\n[egress e]\n%s", egress);
	return start_with(workers, config);
}

Test(limits, a_client_is_held_to_its_sessions_and_its_share)
{
	struct target target;
	struct pair one, two;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n",
	    "ports = 40000-40003\nwait = off\n"
	    "[limits]\nclient-max-sessions = 2\nclient-max-share = 25%\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	struct addr another = target_at(&target, "127.0.0.2");

	pair_open(&one, &proxy, &target, &to);
	/* A quarter of four is one. */
	cr_assert_eq(socks_try(&proxy, &to, &fd), 2);
	daemon_wait_log(d, "event=session", "reason=quota_share");
	pair_open(&two, &proxy, &target, &another);
	cr_assert_eq(socks_try(&proxy, &another, &fd), 2);
	daemon_wait_log(d, "event=session", "reason=quota_sessions");
	pair_reset(&two);
	/* Its slot comes back just after the target has seen the reset. */
	daemon_wait_log(d, "event=session", "reason=client_reset");
	pair_open(&two, &proxy, &target, &another);
	pair_reset(&one);
	pair_reset(&two);
	daemon_signal(d, SIGTERM);
	cr_assert_eq(daemon_wait_exit(d), 0);
	cr_expect_eq(daemon_counter(d, "closed_quota_share"), 1);
	cr_expect_eq(daemon_counter(d, "closed_quota_sessions"), 1);
	daemon_free(d);
}

/* Of a thousand that come at once only so many are let in: the bucket is of a
 * second, and they take less than the hours that all would need. */
Test(limits, new_sessions_come_no_faster_than_they_may)
{
	struct target target;
	unsigned refused = 0;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n",
	    "ports = 40000-40499\n[limits]\nclient-max-rate = 1\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	uint64_t since_ms = it_now_ms();

	for (unsigned i = 0; i < 50; i++) {
		uint8_t code = socks_try(&proxy, &to, &fd);

		cr_assert(code == 0 || code == 2);
		refused += code == 2;
		if (code == 0)
			close(fd);
	}
	cr_expect_geq(refused + 1 + (it_now_ms() - since_ms) / 1000 + 1, 50);
	cr_expect_gt(refused, 0);
	daemon_wait_lines(
	    d, refused, DAEMON_WORDS("event=session", "reason=quota_rate"));
	daemon_stop(d);
}

static void
make_hash(char hash[256])
{
	const char *const argv[] = { it_binary(), "passwd", NULL };
	struct it_outcome o;

	it_run(argv, PASSWORD "\n", &o);
	IT_MUST(o.status == 0, "passwd: status %d, %s", o.status, o.err);
	o.out[strcspn(o.out, "\n")] = '\0';
	strcpy_bounded(hash, 256, o.out);
}

/* alice and bob, who have one password. */
static void
put_users(char config[2048], const char *alice, const char *rest)
{
	char hash[256];

	make_hash(hash);
	snprintf(config, 2048,
	    "[listen a]\naddress = 127.0.0.1:1080\nauth = password\n"
	    "[user alice]\npassword = %s\n%s[user bob]\npassword = %s\n%s",
	    hash, alice, hash, rest);
}

static struct daemon *
start_users(const char *alice, const char *rest)
{
	char config[2048];

	put_users(config, alice, rest);
	return start_with("workers = 2\n", config);
}

/* A session as the user: its descriptor, with the reply in `reply`. */
static int
ask_as(const char *user, const struct addr *proxy, const struct addr *to,
    struct socks_reply *reply)
{
	int fd = peer_connect(proxy);

	IT_MUST(socks_login(fd, user, PASSWORD) == 0, "%s cannot log in", user);
	socks_request(fd, to);
	*reply = socks_reply(fd);
	return fd;
}

/* One that is granted. */
static int
open_as(const char *user, const struct addr *proxy, const struct addr *to)
{
	struct socks_reply reply;
	int fd = ask_as(user, proxy, to, &reply);

	cr_assert_eq(reply.code, 0, "%s got %u", user, reply.code);
	return fd;
}

static void
expect_code(const char *user, const struct addr *proxy, const struct addr *to,
    uint8_t code)
{
	struct socks_reply reply;
	int fd = ask_as(user, proxy, to, &reply);

	cr_assert_eq(
	    reply.code, code, "%s got %u, not %u", user, reply.code, code);
	close(fd);
}

Test(limits, what_is_reserved_for_a_user_is_kept_from_others)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start_users(
	    "reserve = 1\n", "[egress e]\nports = 40000-40001\nwait = off\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	int bob = open_as("bob", &proxy, &to);
	expect_code("bob", &proxy, &to, 1);
	daemon_wait_log(d, "event=session", "user=bob", "reason=target_full");
	int alice = open_as("alice", &proxy, &to);
	expect_code("alice", &proxy, &to, 1);
	peer_reset(bob);
	peer_reset(alice);
	daemon_stop(d);
}

Test(limits, a_users_own_limits_go_before_those_of_all)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start_users("max-sessions = 2\nmax-share = 50%\n",
	    "[egress e]\nports = 40000-40003\n"
	    "[limits]\nuser-max-sessions = 1\nuser-max-share = 25%\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	int alice[2], bob;

	bob = open_as("bob", &proxy, &to);
	expect_code("bob", &proxy, &to, 2);
	daemon_wait_log(
	    d, "event=session", "user=bob", "reason=quota_sessions");
	for (unsigned i = 0; i < 2; i++)
		alice[i] = open_as("alice", &proxy, &to);
	expect_code("alice", &proxy, &to, 2);
	daemon_wait_log(
	    d, "event=session", "user=alice", "reason=quota_sessions");
	peer_reset(bob);
	peer_reset(alice[0]);
	peer_reset(alice[1]);
	daemon_stop(d);
}

/* As many sessions as are held in the workers of before are no room for more.
 */
Test(limits, what_is_held_counts_when_a_reload_sets_a_limit)
{
	enum { HELD = 5 };
	static const char *const limits[] = {
		"[limits]\nuser-max-sessions = 4\n",
		"[limits]\nclient-max-sessions = 4\n"
	};
	struct daemon_setup setup = { .proxy = "workers = 2\n" };
	char config[2048];
	struct target target;
	int held[HELD];

	namespace_enter_with_ports(&target, 30000, 40499);
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		struct daemon *d = start_users("", "");
		struct addr proxy = daemon_address(d, "a");
		struct addr to = target_at(&target, "127.0.0.1");

		for (unsigned n = 0; n < HELD; n++)
			held[n] = open_as("alice", &proxy, &to);
		put_users(config, "", limits[i]);
		setup.config = config;
		daemon_configure(d, &setup);
		daemon_reload(d);
		expect_code("alice", &proxy, &to, 2);
		peer_reset(held[0]);
		daemon_wait_log(d, "event=session", "reason=client_reset");
		expect_code("alice", &proxy, &to, 2);
		peer_reset(held[1]);
		daemon_wait_lines(
		    d, 2, DAEMON_WORDS("event=session", "reason=client_reset"));
		held[1] = open_as("alice", &proxy, &to);
		expect_code("alice", &proxy, &to, 2);
		for (unsigned n = 1; n < HELD; n++)
			peer_reset(held[n]);
		daemon_stop(d);
	}
}

/* A user that has left the file covers nothing of the others' reserves with the
 * sessions that it still has. */
Test(limits, who_is_no_user_any_more_has_no_reserve)
{
	struct daemon_setup setup = { .proxy = "workers = 1\n" };
	char config[2048], hash[256];
	struct target target;
	int alice[2];

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start_users(
	    "reserve = 2\n", "[egress e]\nports = 40000-40003\nwait = off\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	for (unsigned i = 0; i < 2; i++)
		alice[i] = open_as("alice", &proxy, &to);
	make_hash(hash);
	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\nauth = password\n"
	    "[user carol]\npassword = %s\nreserve = 2\n"
	    "[user bob]\npassword = %s\n"
	    "[egress e]\nports = 40000-40003\nwait = off\n",
	    hash, hash);
	setup.config = config;
	daemon_configure(d, &setup);
	daemon_reload(d);
	expect_code("bob", &proxy, &to, 1);
	daemon_wait_log(d, "event=session", "user=bob", "reason=target_full");
	expect_code("carol", &proxy, &to, 0);
	peer_reset(alice[0]);
	peer_reset(alice[1]);
	daemon_stop(d);
}

/* What its user's limit refuses does not use up the client's rate. */
Test(limits, who_is_refused_does_not_count_against_a_rate)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start_users("max-sessions = 1\n",
	    "[egress e]\nports = 40000-40003\n"
	    "[limits]\nclient-max-rate = 2\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");
	int alice = open_as("alice", &proxy, &to);
	for (unsigned i = 0; i < 20; i++)
		expect_code("alice", &proxy, &to, 2);
	expect_code("bob", &proxy, &to, 0);
	peer_reset(alice);
	daemon_signal(d, SIGTERM);
	cr_assert_eq(daemon_wait_exit(d), 0);
	cr_expect_eq(daemon_counter(d, "closed_quota_sessions"), 20);
	cr_expect_eq(daemon_counter(d, "closed_quota_rate"), 0);
	daemon_free(d);
}

/* ---- order and sources ---- */

#define MANY 40

Test(order, hashed_uses_every_port_and_not_in_order)
{
	struct pair pairs[MANY];
	bool seen[MANY] = { false };
	unsigned rising = 0;
	struct target target;
	int fd;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n",
	    "ports = 40000-40039\norder = hashed\nwait = off\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	for (unsigned i = 0; i < MANY; i++) {
		pair_open(&pairs[i], &proxy, &target, &to);
		unsigned at = pairs[i].source.port - 40000u;

		cr_assert(at < MANY && !seen[at], "port %u", at + 40000);
		seen[at] = true;
		rising += i > 0 && at == pairs[i - 1].source.port - 40000u + 1;
	}
	cr_expect_lt(rising, MANY / 2);
	cr_assert_eq(socks_try(&proxy, &to, &fd), 1);
	pair_reset_all(pairs, MANY);
	daemon_stop(d);
}

/* A session of the client at 127.0.0.`host`. */
static void
open_from(struct pair *p, uint32_t host, const struct addr *proxy,
    const struct target *t, const struct addr *to)
{
	struct addr from = addr_v4(UINT32_C(0x7f000000) + host, 0);

	pair_open_by(p, peer_connect_from(&from, proxy), t, to);
}

Test(sticky, a_client_keeps_its_source_address_while_it_has_ports)
{
	enum { CLIENTS = 8, EACH = 3 };
	struct pair pairs[CLIENTS][EACH];
	struct target target;
	unsigned others = 0;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n",
	    "addresses = 127.1.0.0/26\nports = 40000-40023\n"
	    "sticky = client\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	for (unsigned c = 0; c < CLIENTS; c++) {
		for (unsigned i = 0; i < EACH; i++) {
			open_from(&pairs[c][i], 10 + c, &proxy, &target, &to);
			cr_assert(addr_equal_ip(
			    &pairs[c][i].source, &pairs[c][0].source));
		}
		others +=
		    !addr_equal_ip(&pairs[c][0].source, &pairs[0][0].source);
	}
	/* Not all by chance at one of 64. */
	cr_expect_gt(others, 0);
	for (unsigned c = 0; c < CLIENTS; c++)
		for (unsigned i = 0; i < EACH; i++)
			pair_reset(&pairs[c][i]);
	daemon_stop(d);
}

Test(sticky, a_client_whose_address_is_full_spills_over)
{
	struct pair pairs[5];
	unsigned same = 0;
	struct target target;

	namespace_enter_with_ports(&target, 30000, 40499);
	struct daemon *d = start("workers = 2\n",
	    "addresses = 127.1.0.0/30\nports = 40000-40002\n"
	    "sticky = client\n");
	struct addr proxy = daemon_address(d, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
		pair_open(&pairs[i], &proxy, &target, &to);
		same += addr_equal_ip(&pairs[i].source, &pairs[0].source);
	}
	cr_expect_eq(same, 3);
	cr_expect(addr_equal_ip(&pairs[3].source, &pairs[4].source));
	pair_reset_all(pairs, ARRAY_LEN(pairs));
	daemon_stop(d);
}
