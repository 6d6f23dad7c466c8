/* SPDX-License-Identifier: ISC */
/*
 * What nobody reaches through the proxy, though no rule says so; and listeners
 * that do not open to everybody by mistake.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

static struct addr
literal(const char *ip, uint16_t port)
{
	struct addr a;

	IT_MUST(addr_parse_ip(ip, &a) == 0, "%s is no address", ip);
	a.port = port;
	return a;
}

static void
expect_denied(const struct addr *proxy, const char *ip, uint16_t port)
{
	struct addr to = literal(ip, port);
	uint8_t m[SOCKS_MESSAGE_MAX];
	int client = socks_connect(proxy);

	peer_send(client, m, socks_put_request(m, 1, &to));
	struct socks_reply reply = socks_reply(client);

	cr_expect_eq(reply.code, 2, "%s port %u: %02x", ip, port, reply.code);
	close(client);
}

static void
expect_name_denied(const struct addr *proxy, const char *name, uint16_t port)
{
	int client = socks_connect(proxy);

	socks_request_name(client, name, port);
	struct socks_reply reply = socks_reply(client);

	cr_expect_eq(reply.code, 2, "%s: %02x", name, reply.code);
	close(client);
}

Test(safe, nobody_reaches_what_is_never_a_target)
{
	static const char *const never[] = { "0.0.0.0", "0.1.2.3", "224.0.0.1",
		"239.255.255.250", "255.255.255.255", "169.254.169.254",
		"169.254.0.1", "::", "ff02::1", "fe80::1", "::ffff:0.0.0.0",
		"::ffff:169.254.169.254", "64:ff9b::169.254.169.254",
		"64:ff9b::224.0.0.1", "2002:a9fe:a9fe::1",
		"2002:e000:1::", "::169.254.169.254", "100.100.100.200",
		"fd00:ec2::254", "64:ff9b:1::169.254.169.254" };
	struct daemon *d = daemon_start(&(struct daemon_setup){ 0 });
	struct addr proxy = daemon_address(d, "default");

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		expect_denied(&proxy, never[i], 80);
	expect_name_denied(&proxy, "0.0.0.0", 80);
	expect_name_denied(&proxy, "169.254.169.254", 80);
	expect_name_denied(&proxy, "169.254.169.254.", 80);
	expect_name_denied(&proxy, "::ffff:169.254.169.254", 80);
	expect_name_denied(&proxy, "[fe80::1]", 80);
	daemon_wait_lines(d, ARRAY_LEN(never) + 5,
	    DAEMON_WORDS("event=session", "reason=denied"));
	daemon_stop(d);
}

Test(safe, nobody_reaches_the_proxys_own_listeners)
{
	static const char *const forms[] = { "127.0.0.1", "::ffff:127.0.0.1",
		"64:ff9b::127.0.0.1", "2002:7f00:1::" };
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:0\n"
		      "[listen b]\naddress = 127.0.0.1:0\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr other = daemon_address(d, "b");

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		expect_denied(&proxy, forms[i], proxy.port);
		expect_denied(&proxy, forms[i], other.port);
	}
	/* Of its addresses one is denied; ::1 refuses, if it is there. */
	int client = socks_connect(&proxy);

	socks_request_name(client, "localhost", other.port);
	uint8_t code = socks_reply(client).code;

	cr_expect(code == 2 || code == 5, "localhost: %02x", code);
	close(client);
	daemon_stop(d);
}

Test(safe, a_listener_on_every_address_is_own_on_every_address)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 0.0.0.0:0\n"
		      "clients = 127.0.0.0/8\n" });
	struct addr proxy = daemon_address(d, "a");

	proxy = literal("127.0.0.1", proxy.port);
	expect_denied(&proxy, "127.0.0.1", proxy.port);
	expect_denied(&proxy, "127.77.7.7", proxy.port);
	daemon_stop(d);
}

Test(safe, a_client_on_loopback_reaches_loopback)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){ 0 });
	struct addr proxy = daemon_address(d, "default");
	struct target target;
	struct pair p;

	target_listen(&target);
	struct addr to = target_at(&target, "127.4.5.6");

	pair_open(&p, &proxy, &target, &to);
	pair_exchange(&p, 1);
	pair_finish(&p);
	daemon_stop(d);
}

static void
expect_no_start(const char *config)
{
	struct daemon *d =
	    daemon_launch(&(struct daemon_setup){ .config = config });
	int status = daemon_wait_exit(d);

	cr_expect_eq(status, 2, "status %d: %s", status, config);
	/* The error is that of the file, with the line of the listener. */
	cr_expect(daemon_log_contains(d, "fourfold.conf:"), "%s", config);
	daemon_free(d);
}

static void
expect_start(const char *config)
{
	daemon_stop(daemon_start(&(struct daemon_setup){ .config = config }));
}

Test(safe, an_open_proxy_does_not_start)
{
	expect_no_start("[listen a]\naddress = 0.0.0.0:0\n");
	expect_no_start("[listen a]\naddress = [::]:0\n");
	expect_no_start("[listen a]\naddress = 127.0.0.1:0 0.0.0.0:0\n");
	expect_no_start("[listen a]\naddress = 0.0.0.0:0\nopen = no\n");
	expect_no_start("[listen a]\naddress = 127.0.0.1:0\n"
			"[listen b]\naddress = 0.0.0.0:0\n");
}

Test(safe, a_proxy_that_is_open_on_purpose_starts)
{
	expect_start("[listen a]\naddress = 0.0.0.0:0\nopen = yes\n");
	expect_start("[listen a]\naddress = 0.0.0.0:0\nclients = 127.0.0.1\n");
}

Test(safe, workers_that_stay_root_are_told_of_once)
{
	struct daemon_setup setup = { .user = "auto", .refuse_groups = true };
	struct daemon *d;

	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
	d = daemon_start(&setup);
	daemon_wait_log(d, "event=workers_are_root", "level=warning");
	daemon_wait_log(d, "event=ready");
	cr_expect_eq(daemon_count_log(d, "event=workers_are_root"), 1);
	daemon_stop(d);
	/* Who is told to stay root needs no telling. */
	setup.user = "root";
	d = daemon_start(&setup);
	daemon_wait_log(d, "event=ready");
	cr_expect_eq(daemon_count_log(d, "event=workers_are_root"), 0);
	daemon_stop(d);
}

Test(safe, only_the_clients_named_are_served)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:0\n"
		      "clients = 10.0.0.0/8 127.0.0.5\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr allowed = literal("127.0.0.5", 0);
	struct target target;
	struct pair p;
	uint8_t answer[8];
	size_t len;

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");
	int stranger = peer_connect(&proxy);

	peer_drain(stranger, answer, sizeof(answer), &len);
	cr_expect_eq(len, 0);
	close(stranger);
	daemon_wait_log(d, "reason=client_denied");
	pair_open_by(&p, peer_connect_from(&allowed, &proxy), &target, &to);
	pair_exchange(&p, 1);
	pair_finish(&p);
	daemon_stop(d);
}
