/* SPDX-License-Identifier: ISC */
/*
 * Other programs on the host that hold ports of the pool. One that binds or
 * listens blocks the port for all targets; one that has a connection takes one
 * tuple only. The kernel says the same of both.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define FIRST    40000
#define SESSIONS 20

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	uint32_t clients;
};

/* A session to the `n`th target. */
static void
open_session(struct scene *s, uint32_t n, struct pair *p)
{
	struct addr to = target_number(&s->target, n);

	pair_open_by(
	    p, peer_connect_numbered(s->clients++, &s->proxy), &s->target, &to);
}

static void
scene_open(struct scene *s, const char *config)
{
	namespace_enter_with_ports(&s->target, 30000, 50000);
	s->clients = 0;
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 2\n", .config = config });
	s->proxy = daemon_address(s->daemon, "a");
}

#define FOUR_PORTS                               \
	"[listen a]\naddress = 127.0.0.1:1080\n" \
	"[egress e]\nports = 40000-40003\n"

/* Sessions to many targets, none of them from `blocked`. */
static void
open_sessions(struct scene *s, uint32_t from, uint16_t blocked)
{
	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct pair p;

		open_session(s, from + i, &p);
		IT_MUST(p.source.port != blocked && p.source.port >= FIRST &&
			    p.source.port <= FIRST + 3,
		    "source port %u", p.source.port);
		pair_exchange(&p, i);
		pair_reset(&p);
	}
}

static int
hold_port(const char *address, bool listens)
{
	struct addr a;

	IT_MUST(addr_parse(address, &a) == 0, "%s", address);
	int fd = peer_bind(&a);

	if (listens)
		IT_MUST(listen(fd, 1) == 0, "listen: %s", strerror(errno));
	return fd;
}

/* What the line about port 40000 says of who has it. One that listens is always
 * found; others only where the host has few sockets. */
static void
expect_told(struct daemon *d, const char *address, bool listens)
{
	char line[DAEMON_LINE_MAX], value[64], uid[16];

	cr_assert(daemon_find_log(d, line, "event=port_blocked", "port=40000"));
	daemon_value(line, "stranger", value, sizeof(value));
	if (!listens && strcmp(value, "unknown") == 0)
		return;
	cr_expect_str_eq(value, address);
	daemon_value(line, "stranger_state", value, sizeof(value));
	cr_expect_str_eq(value, listens ? "listens" : "bound");
	snprintf(uid, sizeof(uid), "%u", geteuid());
	daemon_value(line, "stranger_uid", value, sizeof(value));
	cr_expect_str_eq(value, uid);
}

static void
see_blocked_port(const char *address, bool listens)
{
	struct scene s;

	scene_open(&s, FOUR_PORTS);
	int stranger = hold_port(address, listens);

	open_sessions(&s, 0, FIRST);
	daemon_wait_log(s.daemon, "event=port_blocked", "port=40000");
	expect_told(s.daemon, address, listens);
	/* The port rests: it is not tried and not told of again. */
	open_sessions(&s, SESSIONS, FIRST);
	cr_assert_eq(daemon_count_log(s.daemon, "event=port_blocked"), 1);
	close(stranger);
	daemon_stop(s.daemon);
}

Test(strangers, one_that_listens_blocks_a_port)
{
	see_blocked_port("0.0.0.0:40000", true);
}

Test(strangers, one_that_listens_on_another_address_blocks_a_port)
{
	see_blocked_port("127.0.0.9:40000", true);
}

Test(strangers, one_that_only_binds_blocks_a_port)
{
	see_blocked_port("127.0.0.1:40000", false);
}

Test(strangers, one_that_has_a_connection_takes_one_tuple)
{
	struct pair same, other;
	struct scene s;
	int stranger;

	scene_open(&s, FOUR_PORTS);
	struct addr to = target_number(&s.target, 1);

	cr_assert_eq(peer_try_connect_sharing(FIRST, &to, &stranger), 0);
	int accepted = target_accept(&s.target);

	open_session(&s, 1, &same);
	cr_assert_neq(same.source.port, FIRST);
	open_session(&s, 2, &other);
	cr_assert_eq(other.source.port, FIRST);
	pair_exchange(&same, 1);
	pair_exchange(&other, 2);
	peer_exchange(stranger, accepted, 3);
	cr_assert_eq(daemon_count_log(s.daemon, "event=port_blocked"), 0);
	pair_reset(&same);
	pair_reset(&other);
	close(accepted);
	close(stranger);
	daemon_stop(s.daemon);
}

/* More tuples taken by strangers than are tried in one pass of the loop. */
Test(strangers, many_taken_tuples_are_passed_over)
{
	enum { TAKEN = 100 };
	int strangers[TAKEN], accepted[TAKEN];
	struct pair p;
	struct scene s;

	scene_open(&s, "[listen a]\naddress = 127.0.0.1:1080\n"
		       "[egress e]\nports = 40000-40199\n");
	struct addr to = target_number(&s.target, 1);

	for (uint16_t i = 0; i < TAKEN; i++) {
		cr_assert_eq(peer_try_connect_sharing(
				 (uint16_t)(FIRST + i), &to, &strangers[i]),
		    0);
		accepted[i] = target_accept(&s.target);
	}
	open_session(&s, 1, &p);
	cr_assert_geq(p.source.port, FIRST + TAKEN);
	pair_exchange(&p, 1);
	pair_reset(&p);
	cr_assert_eq(daemon_count_log(s.daemon, "event=port_blocked"), 0);
	for (int i = 0; i < TAKEN; i++) {
		close(strangers[i]);
		close(accepted[i]);
	}
	daemon_stop(s.daemon);
}

Test(strangers, one_that_leaves_while_it_is_looked_at_is_no_matter)
{
	struct scene s;

	scene_open(&s, FOUR_PORTS);
	for (uint32_t i = 0; i < 20; i++) {
		struct addr port =
		    addr_v4(0x7f000001, (uint16_t)(FIRST + i % 4));
		struct addr to = target_number(&s.target, i);
		int client = peer_connect_numbered(s.clients++, &s.proxy);
		/* TIME_WAIT of a session before may keep it out. */
		int stranger = peer_try_bind(&port);

		/* This request meets the stranger, or just does not. */
		socks_greet(client);
		socks_request(client, &to);
		if (stranger >= 0)
			close(stranger);
		cr_assert_eq(socks_reply(client).code, 0);
		close(target_accept(&s.target));
		close(client);
	}
	daemon_stop(s.daemon);
}
