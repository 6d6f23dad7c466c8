/* SPDX-License-Identifier: ISC */
/*
 * CONNECT: from the first byte of a client to bytes both ways, and what a
 * client hears when it cannot be.
 */
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_IPV6;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
};

static void
scene_open(struct scene *s, const char *more)
{
	char config[256] = "[listen a]\naddress = 127.0.0.1:0 [::1]:0\n";

	strncat(config, more, sizeof(config) - strlen(config) - 1);
	s->daemon = daemon_start(&(struct daemon_setup){ .config = config });
	s->proxy = daemon_address(s->daemon, "a");
	target_listen(&s->target);
}

static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_stop(s->daemon);
}

Test(connect, a_client_reaches_an_ipv4_target)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.1.2.3");

	/* pair_open() checks the target and BND.ADDR. */
	pair_open(&p, &s.proxy, &s.target, &to);
	pair_exchange(&p, 1);
	pair_finish(&p);
	scene_close(&s);
}

Test(connect, a_client_reaches_an_ipv6_target)
{
	struct scene s;
	struct target six;
	struct pair p;

	scene_open(&s, "");
	target_listen_on(&six, "[::1]:0");
	struct addr to = target_at(&six, "::1");

	pair_open(&p, &s.proxy, &six, &to);
	cr_assert_eq(p.source.family, ADDR_V6);
	pair_exchange(&p, 2);
	pair_finish(&p);
	target_close(&six);
	scene_close(&s);
}

Test(connect, a_client_comes_by_ipv6)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct addr proxy = daemon_nth_address(s.daemon, "a", 1);
	struct addr to = target_at(&s.target, "127.0.0.1");

	cr_assert_eq(proxy.family, ADDR_V6);
	pair_open(&p, &proxy, &s.target, &to);
	pair_exchange(&p, 3);
	pair_finish(&p);
	scene_close(&s);
}

Test(connect, the_access_line_tells_all_of_a_session)
{
	char line[DAEMON_LINE_MAX], value[128], text[ADDR_TEXT_MAX];
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.1.2.3");

	pair_open(&p, &s.proxy, &s.target, &to);
	struct addr client = peer_local(p.client), source = p.source;

	pair_exchange(&p, 1);
	peer_send(p.client, "up", 2);
	peer_expect(p.target, "up", 2);
	pair_finish(&p);
	daemon_wait_log(s.daemon, "event=session", "reason=done");
	cr_assert(daemon_find_log(s.daemon, line, "event=session"));
	cr_expect_str_eq(daemon_value(line, "client", value, sizeof(value)),
	    addr_format(&client, text));
	cr_expect_str_eq(daemon_value(line, "source", value, sizeof(value)),
	    addr_format(&source, text));
	cr_expect_str_eq(daemon_value(line, "target", value, sizeof(value)),
	    addr_format(&to, text));
	cr_expect_str_eq(daemon_value(line, "resolved", value, sizeof(value)),
	    addr_format(&to, text));
	cr_expect_str_eq(daemon_value(line, "user", value, sizeof(value)), "-");
	cr_expect_str_eq(
	    daemon_value(line, "bytes_up", value, sizeof(value)), "6");
	cr_expect_str_eq(
	    daemon_value(line, "bytes_down", value, sizeof(value)), "4");
	cr_expect_str_not_empty(
	    daemon_value(line, "session", value, sizeof(value)));
	cr_expect_str_not_empty(
	    daemon_value(line, "duration_ms", value, sizeof(value)));
	scene_close(&s);
}

Test(connect, localhost_is_a_name)
{
	struct scene s;

	scene_open(&s, "");
	int client = socks_connect(&s.proxy);

	socks_request_name(client, "localhost", s.target.port);
	socks_expect(client, 0);
	int target = target_accept(&s.target);

	peer_exchange(client, target, 4);
	close(client);
	close(target);
	scene_close(&s);
}

Test(connect, a_name_may_be_a_literal_address)
{
	static const char *const names[] = { "127.0.0.1", "127.0.0.1." };
	struct scene s;

	scene_open(&s, "");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int client = socks_connect(&s.proxy);

		socks_request_name(client, names[i], s.target.port);
		socks_expect(client, 0);
		int target = target_accept(&s.target);

		peer_exchange(client, target, 5);
		close(client);
		close(target);
	}
	scene_close(&s);
}

Test(connect, data_in_the_first_segment_is_forwarded)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	struct scene s;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.0.0.1");
	int client = peer_connect(&s.proxy);
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, &to);
	memcpy(m + n, "GET / HTTP/1.0\r\n\r\n", 18);
	peer_send(client, m, n + 18);
	int target = target_accept(&s.target);

	peer_expect(target, "GET / HTTP/1.0\r\n\r\n", 18);
	peer_expect(client, "\x05\x00", 2);
	socks_expect(client, 0);
	peer_exchange(client, target, 6);
	close(client);
	close(target);
	scene_close(&s);
}

Test(connect, data_and_the_end_in_the_first_segment_are_forwarded)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	struct scene s;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.0.0.1");
	int client = peer_connect(&s.proxy);
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, &to);
	memcpy(m + n, "all", 3);
	peer_send(client, m, n + 3);
	peer_finish(client);
	int target = target_accept(&s.target);

	peer_expect(target, "all", 3);
	peer_send(target, "answer", 6);
	peer_expect_eof(target);
	peer_expect(client, "\x05\x00", 2);
	socks_expect(client, 0);
	peer_expect(client, "answer", 6);
	peer_expect_eof(client);
	scene_close(&s);
}

Test(connect, data_is_not_forwarded_on_failure)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	struct scene s;

	scene_open(&s, "");
	struct addr to = target_refusing();
	int client = peer_connect(&s.proxy);
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, &to);
	memcpy(m + n, "data", 4);
	peer_send(client, m, n + 4);
	peer_expect(client, "\x05\x00", 2);
	cr_assert_eq(socks_reply(client).code, 5);
	close(client);
	scene_close(&s);
}

Test(connect, the_handshake_may_come_byte_by_byte)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	struct scene s;

	scene_open(&s, "");
	int client = peer_connect(&s.proxy);
	size_t n = socks_put_greeting(m);

	n += socks_put_name(m + n, 1, "localhost", s.target.port);
	/* TCP_NODELAY is set: each byte is a segment of its own. */
	for (size_t i = 0; i < n; i++)
		peer_send(client, m + i, 1);
	peer_expect(client, "\x05\x00", 2);
	socks_expect(client, 0);
	int target = target_accept(&s.target);

	peer_exchange(client, target, 7);
	close(client);
	close(target);
	scene_close(&s);
}

Test(connect, an_ipv4_mapped_address_is_dialled_as_ipv4)
{
	struct scene s;
	struct addr to;

	scene_open(&s, "");
	cr_assert_eq(addr_parse_ip("::ffff:127.0.0.1", &to), 0);
	to.port = s.target.port;
	int client = socks_connect(&s.proxy);

	socks_request(client, &to);
	struct socks_reply reply = socks_reply(client);

	cr_assert_eq(reply.code, 0);
	cr_assert_eq(reply.bound.family, ADDR_V4);
	int target = target_accept(&s.target);

	peer_exchange(client, target, 8);
	close(client);
	close(target);
	scene_close(&s);
}

static void
refuse_command(const struct addr *proxy, uint8_t command)
{
	struct addr to = addr_v4(0x7f000001, 80);
	uint8_t m[SOCKS_MESSAGE_MAX];
	int client = socks_connect(proxy);

	peer_send(client, m, socks_put_request(m, command, &to));
	socks_expect(client, 7);
}

Test(connect, bind_and_udp_are_not_supported_yet)
{
	struct scene s;

	scene_open(&s, "");
	refuse_command(&s.proxy, 2);
	refuse_command(&s.proxy, 3);
	refuse_command(&s.proxy, 0);
	refuse_command(&s.proxy, 0xff);
	daemon_wait_lines(s.daemon, 4,
	    DAEMON_WORDS("event=session", "reason=command_unsupported"));
	scene_close(&s);
}

Test(connect, an_unknown_address_type_is_named)
{
	struct scene s;

	scene_open(&s, "");
	int client = socks_connect(&s.proxy);

	peer_send(client, "\x05\x01\x00\x02\x01\x02\x03\x04\x00\x50", 10);
	cr_assert_eq(socks_reply(client).code, 8);
	close(client);
	daemon_wait_log(s.daemon, "event=session", "reason=address_type");
	scene_close(&s);
}

Test(connect, a_refusing_target_is_named)
{
	struct scene s;
	int client;

	scene_open(&s, "");
	struct addr to = target_refusing();

	cr_assert_eq(socks_try(&s.proxy, &to, &client), 5);
	daemon_wait_log(s.daemon, "event=session", "reason=refused");
	scene_close(&s);
}

Test(connect, a_silent_target_ends_in_connect_timeout)
{
	struct target_silent silent;
	struct scene s;
	int client;

	scene_open(&s, "[timeouts]\nconnect = 300ms\n");
	target_make_silent(&silent);
	cr_assert_eq(socks_try(&s.proxy, &silent.address, &client), 6);
	daemon_wait_log(s.daemon, "event=session", "reason=connect_timeout");
	target_close_silent(&silent);
	scene_close(&s);
}

Test(connect, a_client_may_leave_while_the_target_is_silent)
{
	struct target_silent silent;
	struct scene s;

	scene_open(&s, "[timeouts]\nconnect = 1h\n");
	target_make_silent(&silent);
	int client = socks_connect(&s.proxy);

	socks_request(client, &silent.address);
	peer_reset(client);
	daemon_wait_log(s.daemon, "event=session");
	target_close_silent(&silent);
	scene_close(&s);
}

/* The proxy learns of the request and of the reset in one go. */
Test(connect, a_client_may_leave_with_its_request)
{
	struct target_silent silent;
	struct scene s;

	scene_open(&s, "[timeouts]\nconnect = 1h\n");
	target_make_silent(&silent);
	int client = socks_connect(&s.proxy);

	daemon_pause(s.daemon);
	socks_request(client, &silent.address);
	peer_reset(client);
	daemon_resume(s.daemon);
	daemon_wait_log(s.daemon, "event=session");
	target_close_silent(&silent);
	scene_close(&s);
}

Test(connect, a_handshake_that_stops_ends_in_a_timeout)
{
	/* Nothing, a part of each message, and nothing after the greeting. */
	static const struct {
		const char *bytes;
		size_t len, answered;
	} cases[] = {
		{ "", 0, 0 },
		{ "\x05", 1, 0 },
		{ "\x05\x02\x00", 3, 0 },
		{ "\x05\x01\x00", 3, 2 },
		{ "\x05\x01\x00\x05\x01\x00\x01\x7f", 8, 2 },
		{ "\x05\x01\x00\x05\x01\x00\x03\x20"
		  "abc",
		    11, 2 },
	};
	uint8_t answer[64];
	struct scene s;
	int clients[ARRAY_LEN(cases)];

	scene_open(&s, "[timeouts]\nhandshake = 300ms\n");
	/* Their time begins when all has been sent. */
	daemon_pause(s.daemon);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		clients[i] = peer_connect(&s.proxy);
		peer_send(clients[i], cases[i].bytes, cases[i].len);
	}
	daemon_resume(s.daemon);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len;

		peer_drain(clients[i], answer, sizeof(answer), &len);
		cr_expect_eq(
		    len, cases[i].answered, "case %zu: %zu bytes", i, len);
		close(clients[i]);
	}
	daemon_wait_lines(s.daemon, ARRAY_LEN(cases),
	    DAEMON_WORDS("event=session", "reason=handshake_timeout"));
	scene_close(&s);
}

Test(connect, a_session_idles_out_when_told_so)
{
	struct scene s;
	int client;

	scene_open(&s, "[timeouts]\nidle = 300ms\n");
	struct addr to = target_at(&s.target, "127.0.0.1");

	/* Nothing is asked of the target's end: it may be over already. */
	cr_assert_eq(socks_try(&s.proxy, &to, &client), 0);
	int target = target_accept(&s.target);

	daemon_wait_log(s.daemon, "event=session", "reason=idle_timeout");
	peer_expect_reset(client);
	peer_expect_reset(target);
	scene_close(&s);
}

Test(connect, a_half_closed_session_ends_after_its_time)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "[timeouts]\nhalf-closed = 300ms\n");
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open(&p, &s.proxy, &s.target, &to);
	peer_finish(p.client);
	peer_expect_eof(dup(p.target));
	daemon_wait_log(
	    s.daemon, "event=session", "reason=half_closed_timeout");
	close(p.client);
	close(p.target);
	scene_close(&s);
}
