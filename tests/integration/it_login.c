/* SPDX-License-Identifier: ISC */
/*
 * User and password (RFC 1929), from `fourfold passwd` to the access line.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

#define PASSWORD "correct horse battery"
#define WRONG    "stapled horse"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
};

/* The hash of `password`, without its newline. */
static void
hash_of(const char *password, char *hash, size_t size)
{
	const char *const argv[] = { it_binary(), "passwd", NULL };
	struct it_outcome o;
	char line[256];

	snprintf(line, sizeof(line), "%s\n", password);
	it_run(argv, line, &o);
	IT_MUST(o.status == 0, "passwd: status %d, %s", o.status, o.err);
	o.out[strcspn(o.out, "\n")] = '\0';
	strcpy_bounded(hash, size, o.out);
}

static void
scene_open(struct scene *s)
{
	char hash[256], config[1024];

	hash_of(PASSWORD, hash, sizeof(hash));
	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:0\nauth = password\n"
	    "[user alice]\npassword = %s\n",
	    hash);
	s->daemon = daemon_start(&(struct daemon_setup){ .config = config });
	s->proxy = daemon_address(s->daemon, "a");
	target_listen(&s->target);
}

/* Whatever happened, no password is in the log. */
static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_signal(s->daemon, SIGTERM);
	cr_assert_eq(daemon_wait_exit(s->daemon), 0);
	cr_assert(!daemon_log_contains(s->daemon, "horse"));
	cr_assert(!daemon_log_contains(s->daemon, "scrypt"));
	daemon_free(s->daemon);
}

/* Logs in and holds a session on. */
static void
use_session(struct scene *s)
{
	struct addr to = target_at(&s->target, "127.0.0.1");
	int client = peer_connect(&s->proxy);

	IT_MUST(socks_login(client, "alice", PASSWORD) == 0, "not let in");
	socks_request(client, &to);
	socks_expect(client, 0);
	int target = target_accept(&s->target);

	peer_exchange(client, target, 1);
	peer_finish(client);
	peer_expect_eof(target);
	peer_expect_eof(client);
}

static void
try_login(struct scene *s, const char *user, const char *password)
{
	int client = peer_connect(&s->proxy);

	IT_MUST(
	    socks_login(client, user, password) != 0, "%s was let in", user);
	peer_expect_eof(client);
}

Test(login, the_right_password_opens_sessions)
{
	char line[DAEMON_LINE_MAX], value[64];
	struct scene s;

	scene_open(&s);
	use_session(&s);
	/* Once more: from what is remembered. */
	use_session(&s);
	daemon_wait_lines(
	    s.daemon, 2, DAEMON_WORDS("event=session", "reason=done"));
	cr_assert(daemon_find_log(s.daemon, line, "event=session"));
	cr_assert_str_eq(
	    daemon_value(line, "user", value, sizeof(value)), "alice");
	scene_close(&s);
}

Test(login, wrong_names_and_passwords_are_turned_away)
{
	static const char *const wrong[][2] = {
		{ "alice", WRONG },
		{ "alice", "" },
		{ "alice", PASSWORD " " },
		{ "bob", PASSWORD },
		{ "", PASSWORD },
		{ "", "" },
		{ "Alice", PASSWORD },
	};
	struct scene s;

	scene_open(&s);
	use_session(&s);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		try_login(&s, wrong[i][0], wrong[i][1]);
	daemon_wait_lines(s.daemon, ARRAY_LEN(wrong),
	    DAEMON_WORDS("event=session", "reason=login_failed"));
	use_session(&s);
	scene_close(&s);
}

Test(login, the_longest_names_and_passwords_are_compared_whole)
{
	char longest[256];
	struct scene s;

	scene_open(&s);
	memset(longest, 'x', 255);
	longest[255] = '\0';
	try_login(&s, longest, longest);
	try_login(&s, "alice", longest);
	daemon_wait_lines(
	    s.daemon, 2, DAEMON_WORDS("event=session", "reason=login_failed"));
	scene_close(&s);
}

Test(login, the_method_without_password_is_not_accepted)
{
	struct scene s;

	scene_open(&s);
	int client = peer_connect(&s.proxy);

	peer_send(client, "\x05\x01\x00", 3);
	peer_expect(client, "\x05\xff", 2);
	peer_expect_eof(client);
	daemon_wait_log(s.daemon, "event=session", "reason=no_method");
	scene_close(&s);
}

Test(login, all_messages_may_come_at_once)
{
	uint8_t m[3 * SOCKS_MESSAGE_MAX];
	struct scene s;
	size_t n = 4;

	scene_open(&s);
	struct addr to = target_at(&s.target, "127.0.0.1");
	int client = peer_connect(&s.proxy);

	memcpy(m, "\x05\x02\x00\x02", 4);
	n += socks_put_login(m + n, "alice", PASSWORD);
	n += socks_put_request(m + n, 1, &to);
	memcpy(m + n, "hello", 5);
	peer_send(client, m, n + 5);
	peer_expect(client, "\x05\x02\x01\x00", 4);
	socks_expect(client, 0);
	int target = target_accept(&s.target);

	peer_expect(target, "hello", 5);
	peer_exchange(client, target, 1);
	close(client);
	close(target);
	scene_close(&s);
}

/* The file may change its users, their order among them. */
Test(login, a_session_is_its_users_over_reloads)
{
	char hash[256], config[2048];
	struct scene s;

	scene_open(&s);
	hash_of(PASSWORD, hash, sizeof(hash));
	struct addr to = target_at(&s.target, "127.0.0.1");
	int client = peer_connect(&s.proxy);

	IT_MUST(socks_login(client, "alice", PASSWORD) == 0, "not let in");
	socks_request(client, &to);
	socks_expect(client, 0);
	int target = target_accept(&s.target);

	for (int round = 0; round < 3; round++) {
		json_t *o =
		    ask_json(s.daemon, "sessions", "--user", "alice", "--json");

		cr_expect_eq(
		    json_array_size(ask_get(o, "sessions")), 1, "%d", round);
		cr_expect_str_eq(ask_text(o, "sessions.#0.user"), "alice");
		json_decref(o);
		/* First somebody before alice, then alice no more. */
		snprintf(config, sizeof(config),
		    "[listen a]\naddress = 127.0.0.1:%u\nauth = password\n"
		    "[user aaron]\npassword = %s\n"
		    "[user %s]\npassword = %s\n",
		    s.proxy.port, hash, round == 0 ? "alice" : "zoe", hash);
		daemon_configure(
		    s.daemon, &(struct daemon_setup){ .config = config });
		daemon_reload(s.daemon);
	}
	peer_exchange(client, target, 1);
	close(client);
	close(target);
	scene_close(&s);
}

Test(login, a_malformed_login_is_not_a_login)
{
	struct scene s;

	scene_open(&s);
	int client = peer_connect(&s.proxy);

	peer_send(client, "\x05\x01\x02", 3);
	peer_expect(client, "\x05\x02", 2);
	/* The version of this negotiation is 1, not 5. */
	peer_send(client, "\x05\x01x\x01y", 5);
	uint8_t answer[8];
	size_t len;

	peer_drain(client, answer, sizeof(answer), &len);
	cr_assert(len == 0 || (len == 2 && answer[1] != 0));
	close(client);
	daemon_wait_log(s.daemon, "event=session");
	scene_close(&s);
}

Test(login, a_client_may_leave_while_its_password_is_checked)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	struct scene s;

	scene_open(&s);
	for (int i = 0; i < 4; i++) {
		int client = peer_connect(&s.proxy);

		peer_send(client, "\x05\x01\x02", 3);
		peer_expect(client, "\x05\x02", 2);
		peer_send(client, m, socks_put_login(m, "alice", WRONG));
		peer_reset(client);
	}
	daemon_wait_lines(s.daemon, 4, DAEMON_WORDS("event=session"));
	use_session(&s);
	scene_close(&s);
}

Test(login, hashes_of_one_password_differ)
{
	char a[256], b[256];

	hash_of(PASSWORD, a, sizeof(a));
	hash_of(PASSWORD, b, sizeof(b));
	cr_assert_str_neq(a, b);
	cr_assert(strncmp(a, "$scrypt$", 8) == 0, "%s", a);
}
