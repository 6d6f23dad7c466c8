/* SPDX-License-Identifier: ISC */
/*
 * The control socket and the commands that ask by it: what they say is true,
 * and nothing that happens there hurts a session.
 */
#include <sys/stat.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

#define CONFIG                                   \
	"[listen a]\naddress = 127.0.0.1:1080\n" \
	"[egress main]\nports = 40000-40009\naddresses = 127.0.0.1\n"

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	struct daemon_setup setup;
};

/* In a namespace, with 10 ports towards each target. */
static void
scene_open(struct scene *s)
{
	namespace_enter_with_ports(&s->target, 30000, 40009);
	s->setup =
	    (struct daemon_setup){ .proxy = "workers = 2\n", .config = CONFIG };
	s->daemon = daemon_start(&s->setup);
	s->proxy = daemon_address(s->daemon, "a");
}

static void
scene_close(struct scene *s)
{
	target_close(&s->target);
	daemon_stop(s->daemon);
}

static void
open_pairs(struct scene *s, struct pair *pairs, unsigned n, const char *ip)
{
	struct addr to = target_at(&s->target, ip);

	pair_open_all(pairs, n, &s->proxy, &s->target, &to);
}

/* The place of the only row whose `key` is `words`. */
static const json_t *
find_row(const json_t *rows, const char *key, const char *words)
{
	const json_t *row, *found = NULL;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(ask_text(row, key), words) != 0)
			continue;
		IT_MUST(found == NULL, "two rows with %s %s", key, words);
		found = row;
	}
	IT_MUST(found != NULL, "no row with %s %s", key, words);
	return found;
}

/* ---- what is said ---- */

Test(control, status_says_what_is_held)
{
	char target[ADDR_TEXT_MAX];
	struct pair pairs[12];
	static struct scene s;

	scene_open(&s);
	open_pairs(&s, pairs, 7, "127.0.0.1");
	open_pairs(&s, pairs + 7, 5, "127.0.0.2");
	json_t *o = ask_json(s.daemon, "status", "--json");

	cr_expect_eq(ask_number(o, "pid"), daemon_pid(s.daemon));
	cr_expect_eq(ask_number(o, "sessions.now"), 12);
	cr_expect_eq(json_array_size(ask_get(o, "workers")), 2);
	cr_expect_eq(ask_number(o, "workers.#0.sessions") +
			 ask_number(o, "workers.#1.sessions"),
	    12);
	cr_expect_eq(ask_number(o, "counters.accepted"), 12);
	cr_expect_eq(ask_number(o, "sharing.connections"), 12);
	cr_expect_eq(ask_number(o, "sharing.sources"), 7);
	cr_expect_eq(json_array_size(ask_get(o, "egresses")), 1);
	cr_expect_str_eq(ask_text(o, "egresses.#0.egress"), "main");
	cr_expect_eq(ask_number(o, "egresses.#0.held"), 12);
	cr_expect_eq(ask_number(o, "egresses.#0.slots_ipv4"), 10);
	cr_expect_str_eq(
	    ask_text(o, "egresses.#0.addresses.#0.address"), "127.0.0.1");
	cr_expect_str_eq(
	    ask_text(o, "egresses.#0.addresses.#0.family"), "IPv4");
	cr_expect_eq(ask_number(o, "egresses.#0.addresses.#0.free"), 3);
	cr_expect_eq(ask_number(o, "egresses.#0.addresses.#0.slots"), 10);
	cr_expect_eq(json_array_size(ask_get(o, "targets")), 2);
	addr_format(&(struct addr){ .family = ADDR_V4,
			.ip = { 127, 0, 0, 1 },
			.port = s.target.port },
	    target);
	/* The most used is first. */
	cr_expect_str_eq(ask_text(o, "targets.#0.target"), target);
	cr_expect_eq(ask_number(o, "targets.#0.held"), 7);
	cr_expect_eq(ask_number(o, "targets.#0.percent"), 70);
	cr_expect_eq(ask_number(o, "targets.#0.high_water"), 7);
	cr_expect_eq(ask_number(o, "targets.#1.held"), 5);
	json_decref(o);

	pair_reset_all(pairs, 12);
	daemon_wait_lines(s.daemon, 12, DAEMON_WORDS("event=session"));
	o = ask_json(s.daemon, "status", "--json", "--top", "1");
	cr_expect_eq(ask_number(o, "sessions.now"), 0);
	cr_expect_eq(ask_number(o, "closed.client_reset"), 12);
	cr_expect_eq(ask_number(o, "egresses.#0.addresses.#0.free"), 10);
	json_decref(o);
	scene_close(&s);
}

Test(control, status_and_top_are_readable)
{
	static const char *const words[] = { "fourfold 0", "pid ", "3 of ",
		"in 2 workers", "3 connections from 3 source ports", "EGRESS",
		"main", "127.0.0.1", "TARGET", "30%" };
	static struct it_outcome o;
	static struct scene s;
	struct pair pairs[3];

	scene_open(&s);
	open_pairs(&s, pairs, 3, "127.0.0.1");
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		cr_expect_not_null(
		    strstr(o.out, words[i]), "%s in\n%s", words[i], o.out);
	/* Where it is no terminal, top is the same once. */
	ask(s.daemon, &o, "top");
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_not_null(strstr(o.out, "TARGET"), "%s", o.out);
	cr_expect_null(strchr(o.out, '\033'));
	ask(s.daemon, &o, "top", "--once");
	cr_expect_eq(o.status, 0, "%s", o.err);
	pair_reset_all(pairs, 3);
	scene_close(&s);
}

Test(control, who_has_a_source_port_is_told)
{
	char source[ADDR_TEXT_MAX], target[ADDR_TEXT_MAX];
	char client[ADDR_TEXT_MAX];
	static struct it_outcome out;
	static struct scene s;
	struct pair pairs[4];

	scene_open(&s);
	open_pairs(&s, pairs, 2, "127.0.0.1");
	open_pairs(&s, pairs + 2, 2, "127.0.0.2");
	struct addr first = pairs[0].source;

	addr_format(&first, source);
	json_t *o = ask_json(s.daemon, "who", source, "--json");

	/* Both targets see it. */
	cr_expect_eq(json_array_size(ask_get(o, "sessions")), 2);
	json_decref(o);

	struct addr to = target_at(&s.target, "127.0.0.2"),
		    from = peer_local(pairs[2].client);

	addr_format(&to, target);
	addr_format(&from, client);
	o = ask_json(s.daemon, "who", source, target, "--json");
	cr_expect_eq(json_array_size(ask_get(o, "sessions")), 1);
	cr_expect_str_eq(ask_text(o, "sessions.#0.client"), client);
	cr_expect_str_eq(ask_text(o, "sessions.#0.target"), target);
	cr_expect_str_eq(ask_text(o, "sessions.#0.source"), source);
	cr_expect(json_is_null(ask_get(o, "sessions.#0.user")));
	json_decref(o);
	ask(s.daemon, &out, "who", source, target);
	cr_expect_not_null(strstr(out.out, client), "%s", out.out);
	cr_expect_not_null(strstr(out.out, "\n1 session\n"), "%s", out.out);
	ask(s.daemon, &out, "who", "127.0.0.1:39999");
	cr_expect_not_null(strstr(out.out, "\n0 sessions\n"), "%s", out.out);
	pair_reset_all(pairs, 4);
	scene_close(&s);
}

Test(control, sessions_are_listed_as_asked_for)
{
	static struct scene s;
	struct pair pairs[5];
	json_t *o;

	scene_open(&s);
	open_pairs(&s, pairs, 2, "127.0.0.1");
	open_pairs(&s, pairs + 2, 3, "127.0.0.2");
	static const struct {
		const char *option, *value;
		size_t count;
	} rows[] = {
		{ "--target", "127.0.0.1", 2 },
		{ "--target", "127.0.0.2", 3 },
		{ "--target", "127.0.0.2:1", 0 },
		{ "--client", "127.0.0.0/8", 5 },
		{ "--client", "127.0.0.1", 5 },
		{ "--client", "192.0.2.0/24", 0 },
		{ "--client", "unix", 0 },
		{ "--user", "-", 5 },
		{ "--user", "alice", 0 },
		{ "--limit", "4", 4 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		o = ask_json(s.daemon, "sessions", "--json", rows[i].option,
		    rows[i].value);
		cr_expect_eq(json_array_size(ask_get(o, "sessions")),
		    rows[i].count, "%s %s", rows[i].option, rows[i].value);
		json_decref(o);
	}
	pair_reset_all(pairs, 5);
	scene_close(&s);
}

Test(control, a_question_that_is_wrong_is_a_wrong_command_line)
{
	static const char *const asked[][4] = { { "status", "--top", "x" },
		{ "top", "--top", "x" }, { "who", "foo" },
		{ "who", "127.0.0.1:1", "foo" },
		{ "sessions", "--client", "x" },
		{ "sessions", "--target", "x" }, { "sessions", "--limit", "x" },
		{ "kill", "x" } };
	static struct it_outcome o;
	static struct scene s;

	scene_open(&s);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		ask_run(s.daemon, asked[i], &o);
		cr_expect_eq(o.status, 2, "%s: %d", asked[i][0], o.status);
		cr_expect_not_null(strstr(o.err, ": expected "), "%s", o.err);
	}
	scene_close(&s);
}

/* ---- killing ---- */

static void
id_of(struct scene *s, const struct pair *p, char id[32])
{
	char client[ADDR_TEXT_MAX];
	struct addr from = peer_local(p->client);
	json_t *o = ask_json(s->daemon, "sessions", "--json");
	const json_t *row = find_row(
	    ask_get(o, "sessions"), "client", addr_format(&from, client));

	strcpy_bounded(id, 32, ask_text(row, "session"));
	json_decref(o);
}

Test(control, a_killed_session_is_reset_on_both_legs_and_no_other_is)
{
	char word[64], id[32];
	static struct it_outcome o;
	static struct scene s;
	struct pair pairs[6];

	scene_open(&s);
	open_pairs(&s, pairs, 6, "127.0.0.1");
	for (unsigned i = 0; i < 3; i++) {
		id_of(&s, &pairs[i], id);
		ask(s.daemon, &o, "kill", id);
		cr_expect_eq(o.status, 0, "%s", o.err);
		peer_expect_reset(pairs[i].client);
		peer_expect_reset(pairs[i].target);
		snprintf(word, sizeof(word), "session=%s", id);
		daemon_wait_log(
		    s.daemon, "event=session", word, "reason=killed");
		ask(s.daemon, &o, "kill", id);
		cr_expect_eq(o.status, 1);
		cr_expect_not_null(
		    strstr(o.err, "no such session"), "%s", o.err);
	}
	for (unsigned i = 3; i < 6; i++)
		pair_exchange(&pairs[i], i);
	ask(s.daemon, &o, "kill", "990000000001");
	cr_expect_eq(o.status, 1);
	ask(s.daemon, &o, "kill", "everything");
	cr_expect_eq(o.status, 2);
	cr_expect_eq(ask_raw(s.daemon, "GET /kill?session=1 HTTP/1.0\r\n\r\n",
			 32, NULL, 0),
	    405);
	pair_reset_all(pairs + 3, 3);
	scene_close(&s);
}

Test(control, a_worker_that_does_not_answer_is_waited_for_only_so_long)
{
	static struct it_outcome o;
	static struct scene s;
	struct pair pair;
	char id[32];

	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	id_of(&s, &pair, id);
	daemon_pause(s.daemon);
	ask(s.daemon, &o, "kill", id);
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(strstr(o.err, "does not answer"), "%s", o.err);
	daemon_resume(s.daemon);
	/* It was told, and does as it was. */
	peer_expect_reset(pair.client);
	peer_expect_reset(pair.target);
	scene_close(&s);
}

/* ---- the socket ---- */

static unsigned
mode_of(const char *path)
{
	struct stat st;

	IT_MUST(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
	IT_MUST(S_ISSOCK(st.st_mode), "%s is no socket", path);
	return st.st_mode & 07777;
}

Test(control, its_mode_is_as_told_and_it_is_removed_at_the_end)
{
	char path[DAEMON_PATH_MAX], folder[IT_PATH_MAX], control[200];
	static struct it_outcome o;
	static struct scene s;

	scene_open(&s);
	daemon_control(s.daemon, path);
	cr_expect_eq(mode_of(path), 0660, "%o", mode_of(path));
	it_make_folder(folder);
	snprintf(
	    control, sizeof(control), "socket = %s/c\nmode = 0600\n", folder);
	s.setup.control = control;
	daemon_configure(s.daemon, &s.setup);
	daemon_reload(s.daemon);
	cr_expect_eq(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/c", folder);
	cr_expect_eq(mode_of(path), 0600, "%o", mode_of(path));
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);

	s.setup.control = "socket = off\n";
	daemon_configure(s.daemon, &s.setup);
	daemon_reload(s.daemon);
	cr_expect_eq(access(path, F_OK), -1);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(strstr(o.err, "off"), "%s", o.err);

	s.setup.control = NULL;
	daemon_configure(s.daemon, &s.setup);
	daemon_reload(s.daemon);
	daemon_control(s.daemon, path);
	cr_expect_eq(mode_of(path), 0660);
	it_remove_folder(folder);
	daemon_signal(s.daemon, SIGTERM);
	cr_expect_eq(daemon_wait_exit(s.daemon), 0);
	cr_expect_eq(access(path, F_OK), -1);
	daemon_free(s.daemon);
	target_close(&s.target);
}

/* ---- which socket ---- */

static void fill_file(struct scene *s, const char *format, ...)
    PRINTF_LIKE(2, 3);

/* The daemon's file, as an operator would have it. */
static void
fill_file(struct scene *s, const char *format, ...)
{
	char path[IT_PATH_MAX + 32];
	va_list args;
	FILE *f;

	snprintf(
	    path, sizeof(path), "%s/fourfold.conf", daemon_folder(s->daemon));
	f = fopen(path, "we");
	IT_MUST(f != NULL, "%s: %s", path, strerror(errno));
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fclose(f);
}

/* One line about the file, and an answer all the same. */
static void
expect_answer(struct scene *s, const char *const words[], const char *line)
{
	static struct it_outcome o;

	ask_run(s->daemon, words, &o);
	cr_expect_eq(o.status, 0, "%s: %s", words[0], o.err);
	cr_expect_neq(o.out[0], '\0', "%s", words[0]);
	if (line[0] == '\0') {
		cr_expect_str_empty(o.err);
		return;
	}
	cr_expect_not_null(strstr(o.err, line), "%s", o.err);
	cr_expect_eq(strcspn(o.err, "\n") + 1, strlen(o.err), "%s", o.err);
}

Test(control, after_a_failed_reload_the_commands_go_on)
{
	char path[DAEMON_PATH_MAX], id[32];
	static struct scene s;
	struct pair pair;

	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	id_of(&s, &pair, id);
	daemon_control(s.daemon, path);
	fill_file(&s,
	    "[control]\nsocket = %s\n[proxy]\nworkers = none\n"
	    "nonsense\n",
	    path);
	daemon_signal(s.daemon, SIGHUP);
	daemon_wait_log(s.daemon, "event=reload_failed");

	const char *const asked[][3] = { { "status" }, { "top" },
		{ "who", "127.0.0.1:40000" }, { "sessions" }, { "kill", id } };

	for (size_t i = 0; i < ARRAY_LEN(asked); i++)
		expect_answer(&s, asked[i],
		    "has errors (fourfold check says which); asking by ");
	peer_expect_reset(pair.client);
	peer_expect_reset(pair.target);
	scene_close(&s);
}

Test(control, the_command_line_names_the_socket)
{
	char path[DAEMON_PATH_MAX], with_unix[DAEMON_PATH_MAX + 8];
	char long_path[200];
	static struct it_outcome o;
	static struct scene s;

	scene_open(&s);
	daemon_control(s.daemon, path);
	snprintf(with_unix, sizeof(with_unix), "unix:%s", path);
	fill_file(&s, "nonsense\n[control]\nsocket = off\n");

	const char *const asked[][5] = { { "status", "--socket", path },
		{ "--socket", path, "status" }, { "--socket", path, "top" },
		{ "who", "127.0.0.1:40000", "--socket", path },
		{ "sessions", "--socket", with_unix } };

	for (size_t i = 0; i < ARRAY_LEN(asked); i++)
		expect_answer(&s, asked[i], "");
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(strstr(o.err, "; --socket PATH asks"), "%s", o.err);
	ask(s.daemon, &o, "--socket", path, "kill", "990000000001");
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(strstr(o.err, "no such session"), "%s", o.err);
	ask(s.daemon, &o, "--socket", path, "check");
	cr_expect_eq(o.status, 2);
	memset(long_path, 'a', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = '\0';
	ask(s.daemon, &o, "status", "--socket", long_path);
	cr_expect_eq(o.status, 2);
	ask(s.daemon, &o, "status", "--socket", "");
	cr_expect_eq(o.status, 2);
	ask(s.daemon, &o, "status", "--socket", "/nonexistent/c");
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(
	    strstr(o.err, "/nonexistent/c: nobody"), "%s", o.err);
	scene_close(&s);
}

/* Whether somebody answers at the default is the host's. */
Test(control, a_file_that_cannot_be_read_leaves_the_default_socket)
{
	const char *const argv[] = { it_binary(), "status", "-c",
		"/nonexistent/f.conf", NULL };
	static struct it_outcome o;

	it_run(argv, NULL, &o);
	cr_expect_neq(o.status, 2);
	cr_expect_not_null(
	    strstr(o.err, "fourfold status: /nonexistent/f.conf: cannot be "
			  "read: No such file or directory; asking by "
			  "/run/fourfold/control.sock\n"),
	    "%s", o.err);
}

Test(control, without_a_line_it_starts_though_there_can_be_no_socket)
{
	static struct scene s;
	struct pair pair;

	namespace_enter_with_ports(&s.target, 30000, 40009);
	/* Where the default is depends on the host; so does whether it can be.
	 */
	s.setup = (struct daemon_setup){ .config = CONFIG,
		.control = "mode = 0600\n" };
	s.daemon = daemon_start(&s.setup);
	s.proxy = daemon_address(s.daemon, "a");
	cr_expect_leq(
	    daemon_count_log(s.daemon, "event=control_unavailable"), 1);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	pair_reset_all(&pair, 1);
	scene_close(&s);
}

Test(control, what_a_crash_left_is_taken_over_and_a_living_one_is_not)
{
	char path[DAEMON_PATH_MAX], control[128], line[DAEMON_LINE_MAX];
	static struct it_outcome o;
	static struct scene s;
	struct daemon *second;

	scene_open(&s);
	daemon_control(s.daemon, path);
	snprintf(control, sizeof(control), "socket = %s\n", path);
	second = daemon_launch(&(struct daemon_setup){ .control = control });
	cr_expect_eq(daemon_wait_exit(second), 1);
	cr_expect(daemon_find_log(second, line, "event=start_failed"));
	cr_expect_not_null(strstr(line, "another instance"), "%s", line);
	daemon_free(second);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);

	/* All at once, as the machine's death would. */
	pid_t pids[DAEMON_PROCESSES_MAX];
	size_t n = daemon_processes(s.daemon, pids);

	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	daemon_wait_exit(s.daemon);
	cr_expect_eq(access(path, F_OK), 0);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 1);
	cr_expect_not_null(strstr(o.err, "is fourfold running"), "%s", o.err);

	second = daemon_start(&(struct daemon_setup){ .control = control });
	ask(second, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	daemon_stop(second);
	cr_expect_eq(access(path, F_OK), -1);
	daemon_free(s.daemon);
	target_close(&s.target);
}

Test(control, a_path_that_cannot_be_is_an_error_where_it_is_asked_for)
{
	struct daemon *d = daemon_launch(&(struct daemon_setup){
	    .control = "socket = /nonexistent/control.sock\n" });

	cr_expect_eq(daemon_wait_exit(d), 1);
	cr_expect(daemon_log_contains(d, "/nonexistent/control.sock"));
	daemon_free(d);
}

/* ---- while things happen ---- */

Test(control, it_answers_throughout_reloads)
{
	static struct it_outcome o;
	static struct scene s;
	struct pair pair;

	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	for (unsigned i = 0; i < 5; i++) {
		unsigned before = daemon_count_log(s.daemon, "event=reloaded");

		daemon_signal(s.daemon, SIGHUP);
		do {
			ask(s.daemon, &o, "status");
			IT_MUST(o.status == 0, "reload %u: %s", i, o.err);
		} while (
		    daemon_count_log(s.daemon, "event=reloaded") == before);
	}
	/* One observer is left, and each of the old ones ended in order. */
	daemon_wait_lines(
	    s.daemon, 5, DAEMON_WORDS("event=observer_ended", "status=0"));
	cr_expect_eq(daemon_count_log(s.daemon, "event=observer_started"), 6);
	pair_exchange(&pair, 1);
	pair_reset_all(&pair, 1);
	scene_close(&s);
}

static pid_t
observer_of(struct scene *s)
{
	char line[DAEMON_LINE_MAX], pid[32];

	IT_MUST(daemon_find_log(s->daemon, line, "event=observer_started"),
	    "no observer");
	return (pid_t)strtol(
	    daemon_value(line, "pid", pid, sizeof(pid)), NULL, 10);
}

Test(control, an_observer_that_is_killed_is_back_and_no_session_notices)
{
	static struct it_outcome o;
	static struct scene s;
	struct pair pairs[3];

	scene_open(&s);
	open_pairs(&s, pairs, 3, "127.0.0.1");
	for (unsigned i = 1; i <= 4; i++) {
		cr_assert_eq(kill(observer_of(&s), SIGKILL), 0);
		daemon_wait_lines(s.daemon, i,
		    DAEMON_WORDS("event=observer_died", "signal=9"));
		/* The socket is there all the time: who asks waits. */
		ask(s.daemon, &o, "sessions");
		cr_expect_eq(o.status, 0, "%s", o.err);
		cr_expect_not_null(
		    strstr(o.out, "\n3 sessions\n"), "%s", o.out);
		daemon_wait_lines(
		    s.daemon, i + 1, DAEMON_WORDS("event=observer_started"));
		for (unsigned p = 0; p < 3; p++)
			pair_exchange(&pairs[p], i);
	}
	pair_reset_all(pairs, 3);
	scene_close(&s);
}

Test(control, it_answers_while_the_last_sessions_end)
{
	static struct it_outcome o;
	static struct scene s;
	struct pair pair;
	char id[32];

	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	daemon_signal(s.daemon, SIGTERM);
	daemon_wait_log(s.daemon, "event=stopping");
	ask(s.daemon, &o, "sessions");
	cr_expect_not_null(strstr(o.out, "\n1 session\n"), "%s", o.out);
	id_of(&s, &pair, id);
	ask(s.daemon, &o, "kill", id);
	cr_expect_eq(o.status, 0, "%s", o.err);
	peer_expect_reset(pair.client);
	peer_expect_reset(pair.target);
	cr_expect_eq(daemon_wait_exit(s.daemon), 0);
	daemon_free(s.daemon);
	target_close(&s.target);
}

/* ---- clients that are none ---- */

Test(control, what_is_not_http_is_refused_and_hurts_nobody)
{
	static char long_line[100000];
	static struct it_outcome o;
	static struct scene s;
	struct pair pair;

	memset(long_line, 'a', sizeof(long_line));
	memcpy(long_line, "GET /", 5);
#define ROW(text, status)                          \
	{                                          \
		(text), sizeof(text) - 1, (status) \
	}
	/* -1: any answer or none. */
	const struct {
		const char *bytes;
		size_t len;
		int status;
	} rows[] = {
		ROW("", 0),
		ROW("\0\0\0\0", -1),
		ROW("\x05\x01\x00", -1),
		ROW("\r\n\r\n\r\n", -1),
		ROW("GET\r\n\r\n", -1),
		ROW("GET /status\r\n\r\n", -1),
		ROW("GET /status HTTP/9.9\r\n\r\n", -1),
		ROW("GET /status HTTP/1.0\r\n\r\n", 200),
		ROW("GET /status HTTP/1.1\r\n\r\n", 200),
		ROW("GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
		    "GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
		    200),
		ROW("GET http://x/status HTTP/1.1\r\n\r\n", 200),
		ROW("GET //status HTTP/1.0\r\n\r\n", -1),
		ROW("GET ://% HTTP/1.0\r\n\r\n", -1),
		ROW("GET * HTTP/1.0\r\n\r\n", -1),
		ROW("GET /nothing HTTP/1.0\r\n\r\n", 404),
		ROW("GET / HTTP/1.0\r\n\r\n", 404),
		ROW("GET /status?top=x HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?top= HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?top=-1 HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?top=99999999999999999999 HTTP/1.0\r\n\r\n",
		    400),
		ROW("GET /status?top=1&top=2 HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?other=1 HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?% HTTP/1.0\r\n\r\n", 400),
		ROW("GET /status?&&& HTTP/1.0\r\n\r\n", -1),
		ROW("GET /who HTTP/1.0\r\n\r\n", 400),
		ROW("GET /who?port=1 HTTP/1.0\r\n\r\n", 400),
		ROW("GET /sessions?client=x HTTP/1.0\r\n\r\n", 400),
		ROW("GET /sessions?format=xml HTTP/1.0\r\n\r\n", 400),
		ROW("GET /sessions?user=%00%ff HTTP/1.0\r\n\r\n", -1),
		ROW("POST /status HTTP/1.0\r\n\r\n", -1),
		ROW("POST /kill HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 400),
		ROW("POST /kill?session=1 HTTP/1.0\r\nContent-Length: -5\r\n"
		    "\r\n",
		    -1),
		ROW("POST /kill?session=1 HTTP/1.0\r\nContent-Length: "
		    "99999999999\r\n\r\n",
		    -1),
		ROW("POST /kill?session=1 HTTP/1.1\r\nTransfer-Encoding: "
		    "chunked\r\n\r\nfffffffff\r\n",
		    -1),
		ROW("PUT /status HTTP/1.0\r\n\r\n", 501),
		ROW("DELETE /status HTTP/1.0\r\n\r\n", 501),
		ROW("CONNECT x:1 HTTP/1.0\r\n\r\n", -1),
		ROW("TRACE / HTTP/1.0\r\n\r\n", -1),
		{ long_line, sizeof(long_line), -1 },
	};
#undef ROW
	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int status =
		    ask_raw(s.daemon, rows[i].bytes, rows[i].len, NULL, 0);

		cr_expect(rows[i].status == -1 || rows[i].status == status,
		    "row %zu: %d", i, status);
		cr_expect_neq(status, rows[i].status == -1 ? 500 : -1);
	}
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_eq(daemon_count_log(s.daemon, "event=observer_started"), 1);
	pair_exchange(&pair, 1);
	pair_reset_all(&pair, 1);
	scene_close(&s);
}

/* Each byte of a request may be the last that comes. */
Test(control, a_request_that_is_cut_anywhere_hurts_nobody)
{
	static const char request[] =
	    "POST /kill?session=20000000001 HTTP/1.1\r\n"
	    "Host: x\r\nContent-Length: 3\r\n\r\nabc";
	static struct it_outcome o;
	static struct scene s;

	scene_open(&s);
	for (size_t len = 0; len < sizeof(request); len++)
		(void)ask_raw(s.daemon, request, len, NULL, 0);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_eq(daemon_count_log(s.daemon, "event=observer_started"), 1);
	scene_close(&s);
}

/* They ask for much and read nothing, send half a question, or none; then all
 * leave at once. */
Test(control, slow_clients_do_not_keep_others_from_an_answer)
{
	enum { CLIENTS = 150 };
	static const char question[] =
	    "GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n";
	char path[DAEMON_PATH_MAX];
	static struct it_outcome o;
	static struct scene s;
	struct pair pairs[10];
	int fds[CLIENTS];

	scene_open(&s);
	open_pairs(&s, pairs, 10, "127.0.0.1");
	daemon_control(s.daemon, path);
	for (size_t i = 0; i < CLIENTS; i++) {
		fds[i] = peer_connect_unix(path);
		peer_send(fds[i], question, i % 3 * (sizeof(question) - 1) / 2);
	}
	for (unsigned i = 0; i < 3; i++) {
		ask(s.daemon, &o, "sessions");
		cr_expect_eq(o.status, 0, "%s", o.err);
		cr_expect_not_null(
		    strstr(o.out, "\n10 sessions\n"), "%s", o.out);
	}
	for (size_t i = 0; i < CLIENTS; i++)
		close(fds[i]);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_eq(daemon_count_log(s.daemon, "event=observer_started"), 1);
	pair_reset_all(pairs, 10);
	scene_close(&s);
}

/* Who waits for a kill, and goes. */
Test(control, a_client_that_does_not_wait_for_its_answer_hurts_nobody)
{
	static struct it_outcome o;
	static struct scene s;
	char path[DAEMON_PATH_MAX], request[128], id[32];
	struct pair pair;

	scene_open(&s);
	open_pairs(&s, &pair, 1, "127.0.0.1");
	id_of(&s, &pair, id);
	daemon_control(s.daemon, path);
	daemon_pause(s.daemon);
	snprintf(request, sizeof(request),
	    "POST /kill?session=%s HTTP/1.1\r\nContent-Length: 0\r\n\r\n", id);
	for (int i = 0; i < 20; i++) {
		int fd = peer_connect_unix(path);

		peer_send(fd, request, strlen(request));
		close(fd);
	}
	/* Behind them all. */
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	daemon_resume(s.daemon);
	peer_expect_reset(pair.client);
	peer_expect_reset(pair.target);
	ask(s.daemon, &o, "status");
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_eq(daemon_count_log(s.daemon, "event=observer_started"), 1);
	scene_close(&s);
}
