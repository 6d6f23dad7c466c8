/* SPDX-License-Identifier: ISC */
#include <string.h>

#include <criterion/criterion.h>

#include "policy/rules.h"

/* A host with 192.0.2.10/24, 2001:db8::10, a 6to4 address and loopback. */
static bool
is_local(void *arg, const struct addr *a)
{
	static const char *const own[] = { "127.0.0.0/8", "192.0.2.10", "::1",
		"2001:db8::10", "2002:cb00:7109::10" };

	cr_assert_str_eq(arg, "arg");
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		struct prefix p;

		cr_assert_eq(prefix_parse(own[i], &p), 0);
		if (prefix_contains(&p, a))
			return true;
	}
	return false;
}

static bool
is_broadcast(void *arg, const struct addr *a)
{
	struct addr want = addr_v4(0xc00002ff, 0);

	cr_assert_str_eq(arg, "arg");
	return addr_equal_ip(a, &want);
}

static struct addr
parse(const char *text)
{
	struct addr a = { 0 };

	if (strcmp(text, "unix") != 0)
		cr_assert_eq(addr_parse(text, &a), 0, "%s", text);
	return a;
}

/* The verdict with one own listener. */
static const char *
judge(const char *listener, const char *client, const char *target)
{
	struct addr l = parse(listener), c = parse(client), t = parse(target);
	char arg[] = "arg";
	struct rules_host host = { &l, 1, is_local, is_broadcast, arg };

	return rules_verdict_name(rules_judge(&host, &c, &t));
}

#define LISTENER  "127.0.0.1:1080"
#define LOOPBACK  "127.0.0.1:5000"
#define ELSEWHERE "198.51.100.7:5000"

static const char *const clients[] = { "unix", LOOPBACK, "127.9.9.9:1",
	"[::1]:5000", "[::ffff:127.0.0.1]:5000", ELSEWHERE,
	"[2001:db8:5::1]:5000", "[::ffff:198.51.100.7]:5000",
	"192.0.2.10:5000" };
#define CLIENTS_HERE 5 /* the first ones are on this host */

static void
expect_everybody(const char *target, const char *want)
{
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		cr_expect_str_eq(judge(LISTENER, clients[i], target), want,
		    "%s to %s", clients[i], target);
}

/* Who is on this host may, others may not. */
static void
expect_here_only(const char *target)
{
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		cr_expect_str_eq(judge(LISTENER, clients[i], target),
		    i < CLIENTS_HERE ? "allow" : "this_host", "%s to %s",
		    clients[i], target);
}

Test(rules, everybody_may_reach_the_world)
{
	static const char *const targets[] = { "203.0.113.9:443", "1.0.0.0:1",
		"126.255.255.255:80", "128.0.0.1:80", "169.253.255.255:80",
		"169.255.0.0:80", "223.255.255.255:80", "10.0.0.1:80",
		"192.168.1.1:80", "192.0.2.11:80", "240.0.0.1:80",
		"255.255.255.254:80", "[2001:db8::11]:443", "[fe00::1]:80",
		"[fec0::1]:80", "[fd00::1]:80", "[::ffff:203.0.113.9]:443",
		"[64:ff9b::203.0.113.9]:443", "[2002:cb00:7109::1]:443",
		"[64:ff9b:1::203.0.113.9]:443", "[64:ff9b:1:cb00:71:900::]:443",
		"100.100.100.199:80", "[fd00:ec3::254]:80", "[fd20:ce::253]:80",
		"[::203.0.113.9]:443", "[::2:0:0]:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_everybody(targets[i], "allow");
}

Test(rules, nobody_reaches_what_is_no_single_host)
{
	static const char *const targets[] = { "0.0.0.0:80", "0.0.0.1:80",
		"0.255.255.255:80", "[::]:80", "224.0.0.1:80",
		"239.255.255.255:80", "[ff02::1]:80", "[ff0e::1]:80",
		"255.255.255.255:80", "192.0.2.255:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_everybody(targets[i], "never");
}

Test(rules, nobody_reaches_link_local_and_metadata)
{
	static const char *const targets[] = { "169.254.0.0:80",
		"169.254.169.254:80", "169.254.255.255:80", "[fe80::1]:80",
		"[fe80::1%1]:80", "[fe90::1]:80",
		"[febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80",
		"100.100.100.200:80", "168.63.129.16:80", "192.0.0.192:80",
		"[fd00:ec2::254]:80", "[fd00:ec2::23]:80", "[fd20:ce::254]:80",
		"[fd00:c1::a9fe:a9fe]:80", "[fd00:100::100:200]:80",
		"[fd00:42::42]:80", "[fd00:a9fe:a9fe::1]:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_everybody(targets[i], "never");
}

Test(rules, what_nobody_reaches_has_no_other_spelling)
{
	static const char *const targets[] = { "[::ffff:169.254.169.254]:80",
		"[::ffff:0.0.0.0]:80", "[::ffff:224.0.0.1]:80",
		"[::ffff:255.255.255.255]:80", "[64:ff9b::169.254.169.254]:80",
		"[64:ff9b::0.0.0.0]:80", "[64:ff9b::192.0.2.255]:80",
		"[64:ff9b:1::169.254.169.254]:80",
		"[64:ff9b:1:a9fe:a9:fe00::]:80",
		"[64:ff9b::100.100.100.200]:80", "[2002:6464:64c8::]:80",
		"[2002:a9fe:a9fe::]:80", "[2002::1]:80",
		"[2002:e000:1:5::7]:80", "[::169.254.169.254]:80",
		"[::255.255.255.255]:80", "[::0.0.1.2]:80", "[::2]:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_everybody(targets[i], "never");
}

Test(rules, this_host_is_for_its_own_clients)
{
	static const char *const targets[] = { "127.0.0.1:80",
		"127.255.255.255:80", "127.0.0.2:1080", "[::1]:80",
		"192.0.2.10:80", "[2001:db8::10]:80",
		"[2002:cb00:7109::10]:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_here_only(targets[i]);
}

Test(rules, this_host_has_no_other_spelling)
{
	static const char *const targets[] = { "[::ffff:127.0.0.1]:80",
		"[64:ff9b::127.0.0.1]:80", "[64:ff9b:1::127.0.0.1]:80",
		"[2002:7f00:1::]:80", "[2002:7f00:1:ffff::9]:80",
		"[::127.0.0.1]:80", "[::ffff:192.0.2.10]:80",
		"[64:ff9b::192.0.2.10]:80", "[2002:c000:20a::1]:80",
		"[::192.0.2.10]:80" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_here_only(targets[i]);
}

Test(rules, a_client_in_a_tunnel_is_not_on_this_host)
{
	cr_expect_str_eq(
	    judge(LISTENER, "[2002:7f00:1::]:1", "127.0.0.1:80"), "this_host");
	cr_expect_str_eq(
	    judge(LISTENER, "[64:ff9b::127.0.0.1]:1", "[::1]:80"), "this_host");
	cr_expect_str_eq(
	    judge(LISTENER, "[::127.0.0.1]:1", "127.0.0.1:80"), "this_host");
}

Test(rules, nobody_reaches_our_listeners)
{
	static const char *const targets[] = { "127.0.0.1:1080",
		"[::ffff:127.0.0.1]:1080", "[64:ff9b::127.0.0.1]:1080",
		"[2002:7f00:1::]:1080", "[::127.0.0.1]:1080" };

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		expect_everybody(targets[i], "own_listener");
	expect_here_only("127.0.0.1:1081");
	expect_here_only("[::1]:1080");
}

Test(rules, a_wildcard_listener_is_each_own_address)
{
	static const char *const listeners[] = { "0.0.0.0:1080", "[::]:1080",
		"[::ffff:0.0.0.0]:1080" };
	static const char *const own[] = { "127.0.0.1:1080", "127.3.2.1:1080",
		"192.0.2.10:1080", "[::1]:1080", "[2001:db8::10]:1080",
		"[::ffff:192.0.2.10]:1080", "[2002:c000:20a::]:1080" };

	for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
		for (size_t j = 0; j < ARRAY_LEN(own); j++)
			cr_expect_str_eq(judge(listeners[i], "unix", own[j]),
			    "own_listener", "%s, %s", listeners[i], own[j]);
		cr_expect_str_eq(
		    judge(listeners[i], "unix", "203.0.113.9:1080"), "allow");
		cr_expect_str_eq(
		    judge(listeners[i], "unix", "127.0.0.1:1081"), "allow");
	}
}

Test(rules, a_listener_may_be_on_any_address)
{
	cr_expect_str_eq(judge("192.0.2.10:1080", ELSEWHERE, "192.0.2.10:1080"),
	    "own_listener");
	cr_expect_str_eq(
	    judge("[::ffff:192.0.2.10]:1080", "unix", "192.0.2.10:1080"),
	    "own_listener");
	cr_expect_str_eq(
	    judge("[2001:db8::10]:1080", "unix", "[2001:db8::10]:1080"),
	    "own_listener");
	/* Not one of this host's: it came from systemd, or has gone since. */
	cr_expect_str_eq(judge("203.0.113.9:1080", "unix", "203.0.113.9:1080"),
	    "own_listener");
}

static bool
count_look(void *arg, const struct addr *a)
{
	(void)a;
	++*(unsigned *)arg;
	return false;
}

/* How often this host's addresses are looked through. */
static unsigned
looks_at(const char *target)
{
	unsigned looks = 0;
	struct rules_host host = { NULL, 0, count_look, count_look, &looks };
	struct addr client = parse(ELSEWHERE), t = parse(target);

	cr_expect_eq(rules_judge(&host, &client, &t), RULES_ALLOW);
	return looks;
}

Test(rules, what_has_one_form_is_judged_once)
{
	unsigned once = looks_at("203.0.113.9:443");

	cr_expect_eq(looks_at("[2001:db8:9::9]:443"), once);
	cr_expect_eq(looks_at("[::ffff:203.0.113.9]:443"), once);
	cr_expect_eq(looks_at("[64:ff9b::203.0.113.9]:443"), 2 * once);
	cr_expect_eq(once, 2);
}

Test(rules, each_listener_counts)
{
	struct addr l[] = { parse("127.0.0.1:1080"), parse("127.0.0.1:1081"),
		parse("[::1]:1082") };
	char arg[] = "arg";
	struct rules_host host = { l, ARRAY_LEN(l), is_local, is_broadcast,
		arg };
	struct addr client = { 0 }, other = parse("127.0.0.1:1082");

	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		cr_expect_eq(
		    rules_judge(&host, &client, &l[i]), RULES_LISTENER);
	cr_expect_eq(rules_judge(&host, &client, &other), RULES_ALLOW);
	host.listener_count = 0;
	cr_expect_eq(rules_judge(&host, &client, &l[0]), RULES_ALLOW);
}
