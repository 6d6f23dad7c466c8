/* SPDX-License-Identifier: ISC */
/*
 * A listener on a unix socket: clients without ports.
 */
#include <sys/stat.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "daemon.h"
#include "it.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

struct scene {
	struct daemon *daemon;
	struct target target;
	char folder[IT_PATH_MAX], path[IT_PATH_MAX + 16], config[512];
};

static void
scene_prepare(struct scene *s, const char *more)
{
	it_make_folder(s->folder);
	snprintf(s->path, sizeof(s->path), "%s/socks", s->folder);
	snprintf(s->config, sizeof(s->config),
	    "[listen a]\naddress = unix:%s\n%s", s->path, more);
	target_listen(&s->target);
}

static void
scene_open(struct scene *s, const char *more)
{
	scene_prepare(s, more);
	s->daemon = daemon_start(&(struct daemon_setup){ .config = s->config });
}

static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_stop(s->daemon);
	it_remove_folder(s->folder);
}

Test(unix_socket, a_client_is_served)
{
	char line[DAEMON_LINE_MAX], value[64];
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open_by(&p, peer_connect_unix(s.path), &s.target, &to);
	pair_exchange(&p, 1);
	json_t *o =
	    ask_json(s.daemon, "sessions", "--client", "unix", "--json");

	cr_expect_str_eq(ask_text(o, "sessions.#0.client"), "unix");
	json_decref(o);
	pair_finish(&p);
	daemon_wait_log(s.daemon, "event=session", "reason=done");
	cr_assert(daemon_find_log(s.daemon, line, "event=session"));
	cr_expect_str_eq(
	    daemon_value(line, "client", value, sizeof(value)), "unix");
	scene_close(&s);
}

Test(unix_socket, many_clients_are_served_at_once)
{
	enum { CLIENTS = 300 };
	struct pair pairs[CLIENTS];
	struct scene s;

	scene_open(&s, "");
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct addr to = target_number(&s.target, i);

		pair_open_by(
		    &pairs[i], peer_connect_unix(s.path), &s.target, &to);
	}
	for (uint32_t i = 0; i < CLIENTS; i++)
		pair_exchange(&pairs[i], i);
	for (uint32_t i = 0; i < CLIENTS; i++)
		pair_finish(&pairs[i]);
	daemon_wait_lines(
	    s.daemon, CLIENTS, DAEMON_WORDS("event=session", "reason=done"));
	scene_close(&s);
}

Test(unix_socket, a_refusal_is_told_as_well)
{
	struct scene s;

	scene_open(&s, "");
	int client = peer_connect_unix(s.path);

	socks_greet(client);
	socks_request_name(client, "0.0.0.0", 80);
	socks_expect(client, 2);
	scene_close(&s);
}

Test(unix_socket, a_reset_of_the_target_is_no_clean_end)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open_by(&p, peer_connect_unix(s.path), &s.target, &to);
	peer_reset(p.target);
	daemon_wait_log(s.daemon, "event=session", "reason=target_reset");
	close(p.client);
	scene_close(&s);
}

static unsigned
mode_of(const char *path)
{
	struct stat st;

	IT_MUST(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
	return st.st_mode & 0777;
}

Test(unix_socket, its_mode_is_as_told)
{
	struct scene s;

	scene_open(&s, "");
	cr_expect_eq(mode_of(s.path), 0666, "%o", mode_of(s.path));
	scene_close(&s);
	scene_open(&s, "socket-mode = 0600\n");
	cr_expect_eq(mode_of(s.path), 0600, "%o", mode_of(s.path));
	scene_close(&s);
}

Test(unix_socket, what_a_crash_left_is_taken_over)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	daemon_signal(s.daemon, SIGKILL);
	daemon_wait_exit(s.daemon);
	daemon_free(s.daemon);
	cr_assert_eq(access(s.path, F_OK), 0);

	s.daemon = daemon_start(&(struct daemon_setup){ .config = s.config });
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open_by(&p, peer_connect_unix(s.path), &s.target, &to);
	pair_finish(&p);
	scene_close(&s);
}

Test(unix_socket, a_second_instance_does_not_take_it_away)
{
	struct scene s;
	struct pair p;

	scene_open(&s, "");
	struct daemon *second =
	    daemon_launch(&(struct daemon_setup){ .config = s.config });

	cr_expect_eq(daemon_wait_exit(second), 1);
	daemon_free(second);
	struct addr to = target_at(&s.target, "127.0.0.1");

	pair_open_by(&p, peer_connect_unix(s.path), &s.target, &to);
	pair_finish(&p);
	scene_close(&s);
}
