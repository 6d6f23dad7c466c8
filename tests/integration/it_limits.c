/* SPDX-License-Identifier: ISC */
/*
 * More clients than may be: they wait in the kernel's queue and are served when
 * others end. None is lost, and no one of them keeps the others out.
 */
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

#define CLIENTS 60

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

/* All ask at once, and each leaves when it was served. */
static void
serve_all(const struct daemon_setup *setup)
{
	struct daemon *d = daemon_start(setup);
	struct addr proxy = daemon_address(d, "default");
	struct target target;
	int clients[CLIENTS];
	unsigned served = 0;

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	for (int i = 0; i < CLIENTS; i++) {
		uint8_t m[SOCKS_MESSAGE_MAX];
		size_t n = socks_put_greeting(m);

		n += socks_put_request(m + n, 1, &to);
		clients[i] = peer_connect(&proxy);
		peer_send(clients[i], m, n);
	}
	uint64_t since = it_now_ms();

	while (served < CLIENTS) {
		for (int i = 0; i < CLIENTS; i++) {
			if (clients[i] < 0 || !peer_is_readable(clients[i]))
				continue;
			peer_expect(clients[i], "\x05\x00", 2);
			socks_expect(clients[i], 0);
			peer_reset(clients[i]);
			/* This client's, or that of one served soon. */
			close(target_accept(&target));
			clients[i] = -1;
			served++;
		}
		it_again(since, "all clients are served");
	}
	daemon_wait_lines(d, CLIENTS, DAEMON_WORDS("event=session"));
	target_close(&target);
	daemon_stop(d);
}

Test(limits, clients_beyond_max_sessions_are_served_later)
{
	serve_all(&(struct daemon_setup){
	    .proxy = "workers = 1\nmax-sessions = 4\n" });
}

Test(limits, clients_beyond_max_sessions_are_served_later_by_two_workers)
{
	serve_all(&(struct daemon_setup){
	    .proxy = "workers = 2\nmax-sessions = 4\n" });
}

Test(limits, that_max_sessions_is_reached_is_told_once)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .proxy = "workers = 2\nmax-sessions = 4\n" });
	struct addr proxy = daemon_address(d, "default");
	struct target target;
	struct pair pairs[4], later;
	struct it_outcome o;

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open_all(pairs, 3, &proxy, &target, &to);
	json_t *status = ask_json(d, "status", "--json");

	cr_expect_eq(ask_number(status, "counters.sessions_full"), 0);
	json_decref(status);
	pair_open_all(pairs + 3, 1, &proxy, &target, &to);
	daemon_wait_log(d, "level=warning", "event=alarm",
	    "alarm=sessions_full", "state=begin", "sessions=4",
	    "max_sessions=4", "percent=100");
	status = ask_json(d, "status", "--json");
	cr_expect_eq(ask_number(status, "counters.sessions_full"), 1);
	cr_expect_str_eq(ask_text(status, "alarms.#0.alarm"), "sessions_full");
	cr_expect_eq(ask_number(status, "alarms_begun.sessions_full"), 1);
	json_decref(status);
	ask(d, &o, "status");
	cr_expect_not_null(
	    strstr(o.out, "sessions_full  all workers"), "%s", o.out);
	/* Whoever comes now is served when another one has left. */
	int client = peer_connect(&proxy);

	pair_reset(&pairs[0]);
	pair_open_by(&later, client, &target, &to);
	pair_exchange(&later, 1);
	cr_expect_eq(daemon_count_log(d, "alarm=sessions_full"), 1);
	pair_reset(&later);
	pair_reset_all(pairs + 1, 3);
	daemon_wait_log(d, "level=info", "event=alarm", "alarm=sessions_full",
	    "state=end", "sessions=0");
	cr_expect_eq(
	    daemon_count_log(d, "alarm=sessions_full", "state=begin"), 1);
	target_close(&target);
	daemon_stop(d);
}

Test(limits, clients_beyond_the_descriptors_are_served_later)
{
	serve_all(
	    &(struct daemon_setup){ .proxy = "workers = 1\n", .files = 190 });
}

/* Of one client more than there is room for, who all say nothing. */
Test(limits, who_says_nothing_keeps_nobody_out)
{
	enum { SILENT = 45, KEPT = 16, MAY = 3 };
	struct daemon *d = daemon_start(
	    &(struct daemon_setup){ .proxy = "workers = 1\nmax-sessions = 40\n",
		.config = "[listen default]\naddress = 127.0.0.1:0\n"
			  "[limits]\nclient-max-sessions = 3\n"
			  "[timeouts]\nhandshake = 1h\n" });
	struct addr proxy = daemon_address(d, "default");
	struct addr from = addr_v4(UINT32_C(0x7f000002), 0);
	struct target target;
	int silent[SILENT], fd;

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	for (int i = 0; i < SILENT; i++)
		silent[i] = peer_connect_from(&from, &proxy);
	daemon_wait_lines(d, SILENT - KEPT,
	    DAEMON_WORDS("event=session", "reason=quota_arrivals"));
	for (int i = KEPT; i < SILENT; i++)
		peer_expect_reset(silent[i]);
	cr_assert_eq(socks_try(&proxy, &to, &fd), 0);
	peer_reset(fd);
	/* Those who speak after all are answered. */
	for (int i = 0; i < KEPT; i++)
		cr_expect_eq(socks_ask(silent[i], &to).code, i < MAY ? 0 : 2);
	for (int i = 0; i < KEPT; i++)
		peer_reset(silent[i]);
	target_close(&target);
	daemon_stop(d);
}
