/* SPDX-License-Identifier: ISC */
/*
 * More clients than may be: they wait in the kernel's queue and are served when
 * others end. None is lost.
 */
#include <string.h>
#include <unistd.h>

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

Test(limits, clients_beyond_the_descriptors_are_served_later)
{
	serve_all(
	    &(struct daemon_setup){ .proxy = "workers = 1\n", .files = 190 });
}
