/* SPDX-License-Identifier: ISC */
/*
 * A client from elsewhere gets no more than it has: not this host's loopback
 * nor its own addresses. "Elsewhere" is another network namespace.
 */
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define HOST  "10.9.0.1"
#define THERE "10.9.0.2"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	int here, there; /* namespaces */
	struct daemon *daemon;
	struct addr proxy, loopback_proxy;
	struct target own, foreign;
};

static void
scene_open(struct scene *s)
{
	namespace_enter();
	s->there = namespace_here();
	target_listen(&s->foreign);
	namespace_enter();
	s->here = namespace_here();
	namespace_veth("wire", HOST, s->there, THERE);
	target_listen(&s->own);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\n"
		      "address = " HOST ":1080\n"
		      "clients = 10.9.0.0/24\n"
		      "[listen b]\naddress = 127.0.0.1:1080\n" });
	s->proxy = daemon_address(s->daemon, "a");
	s->loopback_proxy = daemon_address(s->daemon, "b");
}

static void
scene_close(struct scene *s)
{
	target_close(&s->own);
	target_close(&s->foreign);
	daemon_stop(s->daemon);
	close(s->here);
	close(s->there);
}

/* What a client in that namespace hears. */
static uint8_t
ask_from(
    struct scene *s, int ns, const struct addr *proxy, const struct addr *to)
{
	namespace_go(ns);
	int client = peer_connect(proxy);

	namespace_go(s->here);
	uint8_t code = socks_ask(client, to).code;

	close(client);
	return code;
}

Test(safe_remote, a_client_from_elsewhere_does_not_reach_this_host)
{
	static const char *const own[] = { "127.0.0.1", "127.8.8.8", HOST,
		"::1", "::ffff:127.0.0.1", "::ffff:" HOST, "64:ff9b::127.0.0.1",
		"64:ff9b::" HOST, "2002:7f00:1::", "::127.0.0.1" };
	struct scene s;

	scene_open(&s);
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		struct addr to = target_at(&s.own, own[i]);
		uint8_t code = ask_from(&s, s.there, &s.proxy, &to);

		cr_expect_eq(code, 2, "%s: %02x", own[i], code);
	}
	cr_expect(!target_is_waiting(&s.own));
	scene_close(&s);
}

Test(safe_remote, a_client_from_elsewhere_does_not_reach_names_of_this_host)
{
	struct scene s;

	scene_open(&s);
	namespace_go(s.there);
	int client = socks_connect(&s.proxy);

	namespace_go(s.here);
	socks_request_name(client, "localhost", s.own.port);
	socks_expect(client, 2);
	scene_close(&s);
}

Test(safe_remote, a_client_from_elsewhere_reaches_other_hosts)
{
	struct scene s;
	struct pair p;

	scene_open(&s);
	struct addr to = target_at(&s.foreign, THERE);

	namespace_go(s.there);
	int client = peer_connect(&s.proxy);

	namespace_go(s.here);
	pair_open_by(&p, client, &s.foreign, &to);
	pair_exchange(&p, 1);
	pair_finish(&p);
	scene_close(&s);
}

Test(safe_remote, a_client_on_an_own_address_counts_as_from_elsewhere)
{
	struct scene s;

	scene_open(&s);
	struct addr to = target_at(&s.own, "127.0.0.1");

	/* The kernel gives it the source address HOST. */
	cr_expect_eq(ask_from(&s, s.here, &s.proxy, &to), 2);
	scene_close(&s);
}

Test(safe_remote, a_client_on_loopback_reaches_this_host)
{
	struct scene s;

	scene_open(&s);
	struct addr loopback = target_at(&s.own, "127.0.0.1");
	struct addr own = target_at(&s.own, HOST);

	cr_expect_eq(ask_from(&s, s.here, &s.loopback_proxy, &loopback), 0);
	close(target_accept(&s.own));
	cr_expect_eq(ask_from(&s, s.here, &s.loopback_proxy, &own), 0);
	close(target_accept(&s.own));
	scene_close(&s);
}

Test(safe_remote, an_address_added_later_is_own_as_well)
{
	struct scene s;

	scene_open(&s);
	struct addr to = target_at(&s.own, "198.51.100.7");

	namespace_add_address("198.51.100.7");
	/* The table of own addresses may be some seconds old. */
	uint64_t since = it_now_ms();

	while (ask_from(&s, s.there, &s.proxy, &to) != 2)
		it_again(since, "an own address is denied");
	scene_close(&s);
}
