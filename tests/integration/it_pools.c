/* SPDX-License-Identifier: ISC */
/*
 * What a pool may be made of: prefixes of both families, several addresses,
 * lists of ports, the host's own ports.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS 300
#define PORT     40000

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_IPV6;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	uint32_t clients;
};

static void
scene_open(struct scene *s, const char *egress)
{
	char config[512];

	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\n"
	    "[egress e]\nwait = off\n%s",
	    egress);
	s->clients = 0;
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 2\n", .config = config });
	s->proxy = daemon_address(s->daemon, "a");
}

static void
open_session(struct scene *s, const struct target *t, const struct addr *to,
    struct pair *p)
{
	pair_open_by(p, peer_connect_numbered(s->clients++, &s->proxy), t, to);
}

static void
expect_full(struct scene *s, const struct addr *to)
{
	int fd = peer_connect_numbered(s->clients++, &s->proxy);

	cr_assert_eq(socks_ask(fd, to).code, 1);
	close(fd);
}

/* Hundreds of sessions to one target, all of them from one port number, each
 * from another address of the prefix. */
static void
use_prefix(const char *text, const char *listen_on, const char *target_ip)
{
	static struct pair pairs[SESSIONS];
	struct prefix prefix;
	struct target target;
	struct scene s;
	char egress[128];
	struct pair other;

	IT_MUST(prefix_parse(text, &prefix) == 0, "%s", text);
	namespace_enter();
	namespace_make_local(text);
	target_listen_on(&target, listen_on);
	namespace_port_range(30000, 50000);
	snprintf(
	    egress, sizeof(egress), "addresses = %s\nports = %d\n", text, PORT);
	scene_open(&s, egress);
	struct addr to = target_at(&target, target_ip);

	for (uint32_t i = 0; i < SESSIONS; i++) {
		open_session(&s, &target, &to, &pairs[i]);
		cr_assert_eq(pairs[i].source.port, PORT);
		cr_assert(prefix_contains(&prefix, &pairs[i].source));
		for (uint32_t j = 0; j < i; j++)
			cr_assert(
			    !addr_equal(&pairs[i].source, &pairs[j].source));
	}
	for (uint32_t i = 0; i < SESSIONS; i++)
		pair_exchange(&pairs[i], i);
	/* What is free again is enough for who comes next. */
	pair_reset(&pairs[7]);
	daemon_wait_log(s.daemon, "event=session");
	open_session(&s, &target, &to, &other);
	cr_expect_eq(other.source.port, PORT);
	pair_reset(&other);
	for (uint32_t i = 0; i < SESSIONS; i++) {
		if (i != 7)
			pair_reset(&pairs[i]);
	}
	daemon_wait_lines(
	    s.daemon, SESSIONS + 1, DAEMON_WORDS("event=session"));
	daemon_signal(s.daemon, SIGTERM);
	cr_assert_eq(daemon_wait_exit(s.daemon), 0);
	/* Not one try was in vain. */
	cr_expect_eq(daemon_counter(s.daemon, "connects"), SESSIONS + 1);
	daemon_free(s.daemon);
}

Test(pools, a_prefix_of_ipv6_is_as_many_sources)
{
	use_prefix("fd00:2::/64", "[::1]:0", "::1");
}

Test(pools, a_prefix_of_ipv4_is_as_many_sources)
{
	use_prefix("10.9.0.0/16", "0.0.0.0:0", "127.0.0.1");
}

/* As many sessions as there are slots, each with its own, and not one more. */
static void
fill(struct scene *s, const struct target *t, const struct addr *to,
    const char *const slots[], size_t count)
{
	struct pair pairs[16];

	must(count <= ARRAY_LEN(pairs));
	for (size_t i = 0; i < count; i++) {
		char text[ADDR_TEXT_MAX];

		open_session(s, t, to, &pairs[i]);
		addr_format(&pairs[i].source, text);
		/* In order: all ports of an address, then the next one. */
		cr_expect_str_eq(text, slots[i]);
	}
	expect_full(s, to);
	for (size_t i = 0; i < count; i++) {
		pair_exchange(&pairs[i], (uint32_t)i);
		pair_reset(&pairs[i]);
	}
}

Test(pools, addresses_of_both_families_times_a_list_of_ports)
{
	static const char *const v4[] = { "127.9.9.9:40000", "127.9.9.9:40002",
		"127.9.9.9:40003", "127.0.0.1:40000", "127.0.0.1:40002",
		"127.0.0.1:40003" };
	static const char *const v6[] = { "[fd00:2::7]:40000",
		"[fd00:2::7]:40002", "[fd00:2::7]:40003", "[::1]:40000",
		"[::1]:40002", "[::1]:40003" };
	struct target t4, t6;
	struct scene s;

	namespace_enter();
	namespace_make_local("fd00:2::/64");
	target_listen(&t4);
	target_listen_on(&t6, "[::1]:0");
	namespace_port_range(30000, 50000);
	scene_open(&s, "ports = 40002-40003 40000\n"
		       "addresses = 127.9.9.9 fd00:2::7 127.0.0.1 ::1\n");
	struct addr to4 = target_at(&t4, "127.0.0.1");
	struct addr to6 = target_at(&t6, "::1");

	fill(&s, &t4, &to4, v4, ARRAY_LEN(v4));
	fill(&s, &t6, &to6, v6, ARRAY_LEN(v6));
	daemon_stop(s.daemon);
}

Test(pools, the_hosts_own_ports_but_reserved_ones_and_ours)
{
	static const char *const slots[] = { "127.0.0.1:40000",
		"127.0.0.1:40003" };
	struct target target;
	struct scene s;

	namespace_enter_with_ports(&target, 40000, 40003);
	namespace_sysctl("ipv4/ip_local_reserved_ports", "40001");
	s.clients = 0;
	s.daemon = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:40002\n"
		      "[egress e]\nports = auto\nwait = off\n" });
	s.proxy = daemon_address(s.daemon, "a");
	struct addr to = target_at(&target, "127.0.0.1");

	fill(&s, &target, &to, slots, ARRAY_LEN(slots));
	daemon_stop(s.daemon);
}
