/* SPDX-License-Identifier: ISC */
/*
 * Whatever comes that is not SOCKS5 ends with the right reply where there is
 * one, a reason in the log and the counters, and nothing left behind.
 */
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "flow.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

#define BYTES(text)   (const uint8_t *)(text), sizeof(text) - 1
#define REFUSED(code) "\x05\x00\x05" code "\x00\x01\x00\x00\x00\x00\x00\x00"

struct bad {
	const char *what;
	const uint8_t *sent;
	size_t sent_len;
	const uint8_t *answer;
	size_t answer_len;
	const char *reason;
};

static const struct bad table[] = {
	{ "http", BYTES("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), BYTES(""),
	    "not_socks5" },
	{ "tls", BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
	    BYTES(""), "not_socks5" },
	{ "socks4", BYTES("\x04\x01\x00\x50\x7f\x00\x00\x01user\x00"),
	    BYTES(""), "not_socks5" },
	{ "zero", BYTES("\x00"), BYTES(""), "not_socks5" },
	{ "ssh", BYTES("SSH-2.0-OpenSSH_9.2\r\n"), BYTES(""), "not_socks5" },
	{ "proxy header", BYTES("\r\n\r\n\x00\r\nQUIT\n!\x11"), BYTES(""),
	    "not_socks5" },
	{ "no methods", BYTES("\x05\x00"), BYTES("\x05\xff"), "no_method" },
	{ "gssapi only", BYTES("\x05\x01\x01"), BYTES("\x05\xff"),
	    "no_method" },
	{ "password only", BYTES("\x05\x01\x02"), BYTES("\x05\xff"),
	    "no_method" },
	{ "private methods", BYTES("\x05\x03\x80\xfe\xff"), BYTES("\x05\xff"),
	    "no_method" },
	{ "request of another version",
	    BYTES("\x05\x01\x00\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50"),
	    BYTES("\x05\x00"), NULL },
	{ "login where none is due", BYTES("\x05\x01\x00\x01\x04user\x04pass"),
	    BYTES("\x05\x00"), NULL },
	{ "address type 0",
	    BYTES("\x05\x01\x00\x05\x01\x00\x00\x7f\x00\x00\x01\x00\x50"),
	    BYTES(REFUSED("\x08")), "address_type" },
	{ "address type 255",
	    BYTES("\x05\x01\x00\x05\x01\x00\xff\x7f\x00\x00\x01\x00\x50"),
	    BYTES(REFUSED("\x08")), "address_type" },
	{ "bind", BYTES("\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"),
	    BYTES(REFUSED("\x07")), "command_unsupported" },
	{ "command 9",
	    BYTES("\x05\x01\x00\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50"),
	    BYTES(REFUSED("\x07")), "command_unsupported" },
	{ "port 0",
	    BYTES("\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00"),
	    BYTES(REFUSED("\x01")), "malformed" },
	{ "empty name", BYTES("\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50"),
	    BYTES(REFUSED("\x01")), "malformed" },
	{ "name with NUL",
	    BYTES("\x05\x01\x00\x05\x01\x00\x03\x09"
		  "a.b\x00.evil\x00\x50"),
	    BYTES(REFUSED("\x01")), "malformed" },
	{ "name with a blank",
	    BYTES("\x05\x01\x00\x05\x01\x00\x03\x03"
		  "a b\x00\x50"),
	    BYTES(REFUSED("\x01")), "malformed" },
	{ "name with a newline",
	    BYTES("\x05\x01\x00\x05\x01\x00\x03\x13"
		  "a\nevent=session x=y\x00\x50"),
	    BYTES(REFUSED("\x01")), "malformed" },
};

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	unsigned descriptors; /* once one session has been */
};

static void
scene_open(struct scene *s, const char *more)
{
	char config[256];
	struct pair p;

	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:0\n%s", more);
	s->daemon = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 1\n", .config = config });
	s->proxy = daemon_address(s->daemon, "a");
	target_listen(&s->target);
	struct addr to = target_at(&s->target, "127.0.0.1");

	pair_open(&p, &s->proxy, &s->target, &to);
	pair_finish(&p);
	daemon_wait_log(s->daemon, "event=session", "reason=done");
	s->descriptors = daemon_descriptors(s->daemon);
}

/* Nothing is left behind, and the next client is served. */
static void
scene_close(struct scene *s)
{
	struct addr to = target_at(&s->target, "127.0.0.1");
	struct pair p;

	IT_EVENTUALLY(daemon_descriptors(s->daemon) <= s->descriptors);
	pair_open(&p, &s->proxy, &s->target, &to);
	pair_exchange(&p, 1);
	pair_finish(&p);
	target_close(&s->target);
	daemon_stop(s->daemon);
}

Test(bad_input, each_kind_has_its_reply_and_its_reason)
{
	struct scene s;

	scene_open(&s, "");
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const struct bad *b = &table[i];
		unsigned before = daemon_count_log(s.daemon, "event=session");
		char line[DAEMON_LINE_MAX], reason[64];
		uint8_t answer[64];
		size_t len;
		int client = peer_connect(&s.proxy);

		peer_send(client, b->sent, b->sent_len);
		peer_drain(client, answer, sizeof(answer), &len);
		close(client);
		daemon_wait_lines(
		    s.daemon, before + 1, DAEMON_WORDS("event=session"));
		daemon_find_log(s.daemon, line, "event=session");
		daemon_value(line, "reason", reason, sizeof(reason));
		/* A wrong version may or may not have a reply. */
		if (b->reason == NULL) {
			cr_expect(strcmp(reason, "malformed") == 0 ||
				      strcmp(reason, "not_socks5") == 0,
			    "%s: reason %s", b->what, reason);
			cr_expect_geq(len, b->answer_len, "%s", b->what);
			continue;
		}
		cr_expect_str_eq(
		    reason, b->reason, "%s: reason %s", b->what, reason);
		cr_expect(
		    len == b->answer_len && memcmp(answer, b->answer, len) == 0,
		    "%s: an answer of %zu bytes, %02x %02x %02x %02x", b->what,
		    len, answer[0], answer[1], answer[2], answer[3]);
	}
	/* Names are quoted in the log: one line an event. */
	cr_expect(!daemon_log_contains(s.daemon, "\nevent=session x=y"));
	scene_close(&s);
}

static void
expect_counter(struct daemon *d, const char *name, uint64_t wanted)
{
	uint64_t value = daemon_counter(d, name);

	cr_expect_eq(value, wanted, "%s=%llu, %llu are due", name,
	    (unsigned long long)value, (unsigned long long)wanted);
}

Test(bad_input, the_counters_tell_the_reasons)
{
	struct scene s;

	scene_open(&s, "");
	for (int i = 0; i < 3; i++) {
		int client = peer_connect(&s.proxy);
		char answer[8];
		size_t len;

		peer_send(client, "GET / HTTP/1.0\r\n\r\n", 18);
		peer_drain(client, answer, sizeof(answer), &len);
		cr_assert_eq(len, 0);
		close(client);
	}
	daemon_wait_lines(
	    s.daemon, 3, DAEMON_WORDS("event=session", "reason=not_socks5"));
	target_close(&s.target);
	daemon_signal(s.daemon, SIGTERM);
	cr_assert_eq(daemon_wait_exit(s.daemon), 0);
	expect_counter(s.daemon, "closed_not_socks5", 3);
	expect_counter(s.daemon, "closed_done", 1);
	expect_counter(s.daemon, "accepted", 4);
	expect_counter(s.daemon, "connects", 1);
	daemon_free(s.daemon);
}

/* A whole handshake cut after `len` bytes, by an end or a reset. */
static void
cut_handshake(struct scene *s, size_t len, bool reset)
{
	uint8_t m[SOCKS_MESSAGE_MAX], answer[64];
	size_t got, n = socks_put_greeting(m);
	int client = peer_connect(&s->proxy);

	n += socks_put_name(m + n, 1, "localhost", s->target.port);
	IT_MUST(len < n, "%zu of %zu bytes", len, n);
	peer_send(client, m, len);
	if (reset) {
		peer_reset(client);
		return;
	}
	peer_finish(client);
	peer_drain(client, answer, sizeof(answer), &got);
	close(client);
}

Test(bad_input, a_handshake_cut_anywhere_leaves_nothing)
{
	/* 3 bytes of greeting, 7 and 9 of request */
	const unsigned whole = 3 + 7 + 9;
	struct scene s;

	scene_open(&s, "");
	for (unsigned len = 0; len < whole; len++) {
		cut_handshake(&s, len, false);
		cut_handshake(&s, len, true);
	}
	daemon_wait_lines(
	    s.daemon, 1 + 2 * whole, DAEMON_WORDS("event=session"));
	unsigned gone =
	    daemon_count_log(s.daemon, "event=session", "reason=client_gone");
	unsigned reset =
	    daemon_count_log(s.daemon, "event=session", "reason=client_reset");

	cr_expect_eq(gone + reset, 2 * whole, "%u gone, %u reset", gone, reset);
	scene_close(&s);
}

/* The proxy learns of bytes and of the end in one go. */
Test(bad_input, a_handshake_cut_at_once_leaves_nothing)
{
	const unsigned whole = 3 + 7 + 9;
	struct scene s;

	/* Nothing but what is seen ends them. */
	scene_open(&s, "[timeouts]\nhandshake = 1h\n");
	for (unsigned len = 0; len < whole; len++) {
		daemon_pause(s.daemon);
		cut_handshake(&s, len, true);
		daemon_resume(s.daemon);
	}
	daemon_wait_lines(s.daemon, 1 + whole, DAEMON_WORDS("event=session"));
	scene_close(&s);
}

Test(bad_input, random_bytes_leave_nothing)
{
	uint32_t random = 20261122;
	struct scene s;

	scene_open(&s, "");
	for (unsigned i = 0; i < 500; i++) {
		uint8_t m[64], answer[64];
		size_t len = 1 + flow_random(&random) % sizeof(m), got;
		int client = peer_connect(&s.proxy);

		for (size_t j = 0; j < len; j++)
			m[j] = (uint8_t)flow_random(&random);
		/* Most begin as if they were SOCKS5; none leads anywhere. */
		if (i % 4 != 0) {
			m[0] = 5;
			m[1] = 1;
			m[2] = 0;
			m[3] = 5;
			m[4] = 2;
		}
		peer_send(client, m, len);
		peer_finish(client);
		peer_drain(client, answer, sizeof(answer), &got);
		close(client);
	}
	daemon_wait_lines(s.daemon, 501, DAEMON_WORDS("event=session"));
	scene_close(&s);
}

/* Sends until nothing more is taken for a while, up to `most`. */
static size_t
flood(int fd, size_t most)
{
	static const char bytes[65536];
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	size_t sent = 0;

	peer_set_blocking(fd, false);
	while (sent < most && poll(&p, 1, 500) > 0) {
		ssize_t n = send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;
		sent += n > 0 ? (size_t)n : 0;
	}
	return sent;
}

Test(bad_input, a_flood_behind_the_request_is_not_kept)
{
	const size_t most = 256 << 20;
	struct target_silent silent;
	struct scene s;

	scene_open(&s, "[timeouts]\nconnect = 1h\n");
	uint64_t before = daemon_own_kb(s.daemon);

	target_make_silent(&silent);
	int client = socks_connect(&s.proxy);

	socks_request(client, &silent.address);
	cr_assert_lt(flood(client, most), most, "it takes whatever comes");
	uint64_t after = daemon_own_kb(s.daemon);

	cr_assert_lt(after, before + 4096, "%llu KiB, then %llu",
	    (unsigned long long)before, (unsigned long long)after);
	peer_reset(client);
	daemon_wait_lines(s.daemon, 2, DAEMON_WORDS("event=session"));
	target_close_silent(&silent);
	scene_close(&s);
}

Test(bad_input, a_flood_of_methods_is_one_greeting)
{
	uint8_t m[257] = { 5, 255 };
	struct scene s;

	/* 255 methods, with the one we know last. */
	memset(m + 2, 0x80, sizeof(m) - 3);
	scene_open(&s, "");
	int client = peer_connect(&s.proxy);
	struct addr to = target_at(&s.target, "127.0.0.1");

	peer_send(client, m, sizeof(m));
	peer_expect(client, "\x05\x00", 2);
	socks_request(client, &to);
	socks_expect(client, 0);
	close(target_accept(&s.target));
	close(client);
	daemon_wait_lines(s.daemon, 2, DAEMON_WORDS("event=session"));
	scene_close(&s);
}

Test(bad_input, slow_clients_are_cut_and_leave_nothing)
{
	enum { CLIENTS = 200 };
	int clients[CLIENTS];
	struct scene s;

	scene_open(&s, "[timeouts]\nhandshake = 500ms\n");
	/* Their time begins when all has been sent. */
	daemon_pause(s.daemon);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = peer_connect(&s.proxy);
		peer_send(clients[i], "\x05\x01", 2);
	}
	daemon_resume(s.daemon);
	for (int i = 0; i < CLIENTS; i++) {
		char answer[8];
		size_t len;

		peer_drain(clients[i], answer, sizeof(answer), &len);
		cr_assert_eq(len, 0);
		close(clients[i]);
	}
	daemon_wait_lines(s.daemon, CLIENTS,
	    DAEMON_WORDS("event=session", "reason=handshake_timeout"));
	scene_close(&s);
}
