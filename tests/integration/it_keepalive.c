/* SPDX-License-Identifier: ISC */
/*
 * A peer that is gone without a word (its host lost power, its address moved)
 * does not hold a source port for ever: a probe finds it, on either side of the
 * session, whatever the session did before.
 *
 * A peer goes here by closing its socket in repair mode, which sends nothing;
 * its kernel then answers the first probe with a reset. No byte is under way:
 * what ends the session can only have been a probe.
 */
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define PORT 40000

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct target target;
	struct addr proxy, to;
};

static void
scene_open(struct scene *s, const char *more)
{
	char config[512];

	namespace_enter_with_ports(&s->target, PORT, PORT);
	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\n"
	    "[egress e]\nports = %d\nwait = off\n"
	    "[timeouts]\nkeepalive = 1s\n%s",
	    PORT, more);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 1\n", .config = config });
	s->proxy = daemon_address(s->daemon, "a");
	s->to = target_at(&s->target, "127.0.0.1");
}

/* What it has read it says at once: bytes that nobody confirms are sent again,
 * and find the dead sooner than a probe. */
static void
vanish(int fd)
{
	static const int on = 1;

	cr_assert_eq(
	    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on)), 0);
	cr_assert_eq(
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	close(fd);
}

enum side { CLIENT, TARGET };

/* That side of the session goes. It is found dead, the other one hears of it,
 * and the only port that there is can be had again. */
static void
expect_found(struct scene *s, struct pair *p, enum side gone)
{
	vanish(gone == CLIENT ? p->client : p->target);
	peer_expect_reset(gone == CLIENT ? p->target : p->client);
	daemon_wait_log(s->daemon, "event=session",
	    gone == CLIENT ? "reason=client_reset" : "reason=target_reset");
	pair_open(p, &s->proxy, &s->target, &s->to);
	pair_exchange(p, 1);
	pair_reset(p);
	daemon_stop(s->daemon);
	target_close(&s->target);
}

/* With these further lines of configuration. */
static void
open_session(struct scene *s, struct pair *p, const char *more)
{
	scene_open(s, more);
	pair_open(p, &s->proxy, &s->target, &s->to);
}

static void
open_used(struct scene *s, struct pair *p, const char *more)
{
	open_session(s, p, more);
	pair_exchange(p, 7);
}

Test(keepalive, a_target_that_vanished_is_found)
{
	struct scene s;
	struct pair p;

	open_used(&s, &p, "");
	expect_found(&s, &p, TARGET);
}

Test(keepalive, a_client_that_vanished_is_found)
{
	struct scene s;
	struct pair p;

	open_used(&s, &p, "");
	expect_found(&s, &p, CLIENT);
}

Test(keepalive, also_where_no_byte_was_ever_sent)
{
	struct scene s;
	struct pair p;

	open_session(&s, &p, "");
	expect_found(&s, &p, TARGET);
}

Test(keepalive, also_where_bytes_go_through_pipes)
{
	struct scene s;
	struct pair p;

	open_used(&s, &p, "[relay]\nsplice = yes\n");
	expect_found(&s, &p, CLIENT);
}

/* One that has said its last word is waited for no less. */
Test(keepalive, also_in_a_session_that_is_half_closed)
{
	struct scene s;
	struct pair p;
	char byte;

	open_used(&s, &p, "");
	peer_finish(p.client);
	cr_assert_eq(recv(p.target, &byte, 1, 0), 0);
	expect_found(&s, &p, TARGET);
}
