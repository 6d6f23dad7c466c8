/* SPDX-License-Identifier: ISC */
/*
 * Names, with a hosts file and a name server of the test's own.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon.h"
#include "dns.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct dns *dns;
};

static const struct dns_record records[] = {
	{ "host.example", DNS_A, "127.6.6.6" },
	{ "alias.example", DNS_CNAME, "host.example" },
	{ "large.example", DNS_A, "127.7.7.7" },
	{ "large.example", DNS_TRUNCATED, NULL },
	{ "empty.example", DNS_ALIVE, NULL },
	{ "broken.example", DNS_SERVFAIL, NULL },
	{ "slow.example", DNS_SILENT, NULL },
	{ "trap.example", DNS_A, "169.254.169.254" },
};

static void
scene_open(struct scene *s)
{
	struct addr at = addr_v4(0x7f000001, 53);

	namespace_enter();
	namespace_replace_file("/etc/resolv.conf", "nameserver 127.0.0.1\n");
	namespace_replace_file("/etc/hosts",
	    "127.0.0.1 localhost\n127.5.5.5 five.test five\n::1 six.test\n");
	s->dns = dns_start(&at, records, ARRAY_LEN(records));
	IT_MUST(s->dns != NULL, "name server: %s", strerror(errno));
	target_listen(&s->target);
	s->daemon = daemon_start(&(struct daemon_setup){ 0 });
	s->proxy = daemon_address(s->daemon, "default");
}

static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_stop(s->daemon);
	dns_stop(s->dns);
}

/* The session's target is at `ip`. */
static void
reach_by_name(struct scene *s, const char *name, const char *ip)
{
	struct addr to = target_at(&s->target, ip);
	int client = socks_connect(&s->proxy);

	socks_request_name(client, name, s->target.port);
	socks_expect(client, 0);
	int target = target_accept(&s->target);
	struct addr local = peer_local(target);

	IT_MUST(addr_equal(&local, &to), "%s is not %s", name, ip);
	peer_exchange(client, target, 1);
	peer_reset(client);
	peer_expect_reset(target);
}

/* The log tells the name as it was asked for, and where that led. */
static void
expect_line(struct scene *s, const char *name, const char *ip)
{
	struct addr to = target_at(&s->target, ip);
	char target[128], resolved[16 + ADDR_TEXT_MAX], text[ADDR_TEXT_MAX];

	snprintf(target, sizeof(target), "target=%s:%u", name, to.port);
	snprintf(
	    resolved, sizeof(resolved), "resolved=%s", addr_format(&to, text));
	daemon_wait_log(s->daemon, "event=session", target, resolved);
}

static void
fail_by_name(
    struct scene *s, const char *name, uint8_t code, const char *reason)
{
	char word[64];
	int client = socks_connect(&s->proxy);

	socks_request_name(client, name, s->target.port);
	socks_expect(client, code);
	snprintf(word, sizeof(word), "reason=%s", reason);
	daemon_wait_log(s->daemon, "event=session", word);
}

Test(names, the_hosts_file_is_read)
{
	static const char *const names[] = { "five.test", "five", "FIVE.test" };
	struct scene s;

	scene_open(&s);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		reach_by_name(&s, names[i], "127.5.5.5");
		expect_line(&s, names[i], "127.5.5.5");
	}
	scene_close(&s);
}

Test(names, a_name_server_is_asked)
{
	struct scene s;

	scene_open(&s);
	reach_by_name(&s, "host.example", "127.6.6.6");
	reach_by_name(&s, "host.example.", "127.6.6.6");
	reach_by_name(&s, "alias.example", "127.6.6.6");
	scene_close(&s);
}

Test(names, a_long_answer_is_fetched_by_tcp)
{
	struct scene s;

	scene_open(&s);
	reach_by_name(&s, "large.example", "127.7.7.7");
	cr_assert_gt(dns_tcp_count(s.dns), 0);
	scene_close(&s);
}

Test(names, a_name_that_does_not_exist_is_named)
{
	struct scene s;

	scene_open(&s);
	fail_by_name(&s, "nobody.example", 4, "name_not_found");
	scene_close(&s);
}

Test(names, a_name_without_addresses_is_not_found)
{
	struct scene s;

	scene_open(&s);
	fail_by_name(&s, "empty.example", 4, "name_not_found");
	scene_close(&s);
}

Test(names, a_name_server_that_fails_is_named)
{
	struct scene s;

	scene_open(&s);
	fail_by_name(&s, "broken.example", 4, "resolve_failed");
	scene_close(&s);
}

/* The address is judged, not the name. */
Test(names, a_name_for_a_forbidden_address_is_denied)
{
	struct scene s;

	scene_open(&s);
	fail_by_name(&s, "trap.example", 2, "denied");
	scene_close(&s);
}

Test(names, a_client_may_leave_while_its_name_is_looked_up)
{
	struct scene s;

	scene_open(&s);
	int client = socks_connect(&s.proxy);

	socks_request_name(client, "slow.example", 80);
	IT_EVENTUALLY(dns_udp_count(s.dns) > 0);
	peer_reset(client);
	daemon_wait_log(s.daemon, "event=session");
	scene_close(&s);
}

Test(names, a_literal_address_is_no_question_for_a_name_server)
{
	struct scene s;

	scene_open(&s);
	reach_by_name(&s, "127.0.0.1", "127.0.0.1");
	reach_by_name(&s, "127.0.0.1.", "127.0.0.1");
	cr_assert_eq(dns_udp_count(s.dns), 0);
	scene_close(&s);
}

Test(names, what_the_network_says_has_a_reply_of_its_own)
{
	struct addr no_route = addr_v4(0xcb007101, 80); /* 203.0.113.1 */
	struct addr unreachable = addr_v4(0xcb007102, 80);
	struct scene s;
	int client;

	scene_open(&s);
	namespace_unreachable("203.0.113.2");
	cr_assert_eq(socks_try(&s.proxy, &no_route, &client), 3);
	daemon_wait_log(s.daemon, "event=session", "reason=net_unreachable");
	cr_assert_eq(socks_try(&s.proxy, &unreachable, &client), 4);
	daemon_wait_log(s.daemon, "event=session", "reason=host_unreachable");
	scene_close(&s);
}
