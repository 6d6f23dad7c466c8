/* SPDX-License-Identifier: ISC */
/*
 * The command line, and what it says of a file that is wrong.
 */
#include <errno.h>
#include <signal.h>
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

/* Writes `text` to a file and runs "fourfold COMMAND -c FILE". */
static void
run_with(const char *command, const char *text, struct it_outcome *o)
{
	char folder[IT_PATH_MAX], path[IT_PATH_MAX + 16];
	FILE *f;

	it_make_folder(folder);
	snprintf(path, sizeof(path), "%s/x.conf", folder);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
	const char *const argv[] = { it_binary(), command, "-c", path, NULL };

	it_run(argv, NULL, o);
	it_remove_folder(folder);
}

static void
run_option(const char *option, struct it_outcome *o)
{
	const char *const argv[] = { it_binary(), option, NULL };

	it_run(argv, NULL, o);
}

#define HASH                                            \
	"$scrypt$ln=14,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

/* Each has one error, in this line. */
static const struct wrong {
	const char *text;
	unsigned line;
} table[] = {
	{ "[nothing]\n", 1 },
	{ "[proxy]\nno-such = 1\n", 2 },
	{ "[proxy]\nworkers = 0\n", 2 },
	{ "[proxy]\nworkers = 201\n", 2 },
	{ "[proxy]\nworkers = many\n", 2 },
	{ "[proxy]\nworkers = 2\nworkers = 2\n", 3 },
	{ "[proxy]\nworkers = 2\n[log]\nlevel = info\n[proxy]\n", 5 },
	{ "[proxy]\nmax-sessions = -1\n", 2 },
	{ "[proxy]\ndrain-timeout = 5\n", 2 },
	{ "[listen]\naddress = 127.0.0.1:1080\n", 1 },
	{ "[listen a]\naddress = 127.0.0.1\n", 2 },
	{ "[listen a]\naddress = 127.0.0.1:99999\n", 2 },
	{ "[listen a]\naddress = localhost:1080\n", 2 },
	{ "[listen a]\naddress = 127.0.0.1:1080 127.0.0.1:1080\n", 2 },
	{ "[listen a]\naddress = 127.0.0.1:1080\n"
	  "[listen b]\naddress = 0.0.0.0:1080\nopen = yes\n",
	    4 },
	{ "[listen a]\naddress = 127.0.0.1:1080\nauth = maybe\n", 3 },
	{ "[listen a]\naddress = 127.0.0.1:1080\nauth = password\n", 3 },
	{ "[listen a]\naddress = 127.0.0.1:1080\nclients = 10.0.0.1/8\n", 3 },
	{ "[listen a]\naddress = 127.0.0.1:1080\negress = none\n", 3 },
	{ "[listen a]\naddress = 127.0.0.1:1080\nsocket-mode = 999\n", 3 },
	{ "[listen a]\naddress = 127.0.0.1:1080\nbacklog = lots\n", 3 },
	{ "[egress e]\nports = 0\n", 2 },
	{ "[egress e]\nports = 50000-40000\n", 2 },
	{ "[egress e]\nports = 40000-40010 40005\n", 2 },
	{ "[egress e]\nbind = never\n", 2 },
	{ "[egress e]\naddresses = here\n", 2 },
	{ "[egress e]\nports = 40000\n[egress f]\nports = 40000\n", 3 },
	{ "[user u]\npassword = plain\n", 2 },
	{ "[user u]\npassword = " HASH "\n[user u]\npassword = " HASH "\n", 3 },
	{ "[timeouts]\nhandshake = off\n", 2 },
	{ "[timeouts]\nidle = soon\n", 2 },
	{ "[log]\nlevel = loud\n", 2 },
	{ "[log]\naccess = perhaps\n", 2 },
	{ "address = 127.0.0.1:1080\n", 1 },
	{ "[proxy\nworkers = 2\n", 1 },
	{ "[proxy]\nworkers\n", 2 },
};

Test(config, each_error_is_told_with_file_and_line)
{
	static struct it_outcome o;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char where[32];

		snprintf(where, sizeof(where), "x.conf:%u: ", table[i].line);
		run_with("check", table[i].text, &o);
		cr_expect_eq(
		    o.status, 2, "status %d of\n%s", o.status, table[i].text);
		cr_expect_not_null(strstr(o.err, where),
		    "no %s in \"%s\" of\n%s", where, o.err, table[i].text);
	}
}

Test(config, all_errors_are_told_in_one_run)
{
	static struct it_outcome o;

	run_with("check",
	    "[proxy]\nworkers = none\nuser = root\ncolour = red\n"
	    "[listen a]\naddress = 127.0.0.1:1080\nauth = no\n"
	    "[elsewhere]\n",
	    &o);
	cr_assert_eq(o.status, 2);
	cr_expect_not_null(strstr(o.err, "x.conf:2: "), "%s", o.err);
	cr_expect_not_null(strstr(o.err, "x.conf:4: "), "%s", o.err);
	cr_expect_not_null(strstr(o.err, "x.conf:7: "), "%s", o.err);
	cr_expect_not_null(strstr(o.err, "x.conf:8: "), "%s", o.err);
}

Test(config, running_with_a_broken_file_is_the_same_error)
{
	static struct it_outcome o;

	run_with("run", "[proxy]\nno-such = 1\n", &o);
	cr_expect_eq(o.status, 2);
	cr_expect_not_null(strstr(o.err, "x.conf:2: "), "%s", o.err);
}

/* Its starter has the file open, too, and not for appending. */
Test(config, the_log_in_a_file_is_not_written_over)
{
	static const char script[] =
	    "cd \"$1\" && echo \"[nothing]\" >x.conf && "
	    "{ echo first; \"$0\" run -c x.conf; echo more; } >log 2>&1; "
	    "cat log";
	char folder[IT_PATH_MAX];
	static struct it_outcome o;

	it_make_folder(folder);
	const char *const argv[] = { "/bin/sh", "-c", script, it_binary(),
		folder, NULL };

	it_run(argv, NULL, &o);
	it_remove_folder(folder);
	cr_expect_eq(strncmp(o.out, "first\ntime=", 11), 0, "%s", o.out);
	cr_expect_not_null(strstr(o.out, "\nmore\n"), "%s", o.out);
}

Test(config, a_password_is_not_told_in_an_error)
{
	static struct it_outcome o;

	run_with("check", "[user u]\npassword = horse battery\n", &o);
	cr_expect_eq(o.status, 2);
	cr_expect_null(strstr(o.err, "horse"), "%s", o.err);
}

Test(config, a_good_file_is_good)
{
	static struct it_outcome o;

	run_with("check",
	    "; comment\n[proxy]\nworkers = 2 ; as many\n"
	    "[listen a]\naddress = 127.0.0.1:0\n\t127.0.0.2:0\n"
	    "[timeouts]\nidle = off\nconnect = 1500ms\n",
	    &o);
	cr_expect_eq(o.status, 0, "%d: %s", o.status, o.err);
}

Test(config, the_file_that_is_installed_is_good)
{
	static struct it_outcome o;
	const char *const argv[] = { it_binary(), "check", "-c",
		FOURFOLD_SOURCE_DIR "/conf/fourfold.conf", NULL };

	it_run(argv, NULL, &o);
	cr_expect_eq(o.status, 0, "%d: %s", o.status, o.err);
}

Test(config, a_file_that_is_not_there_is_an_error)
{
	static struct it_outcome o;
	const char *argv[] = { it_binary(), "check", "-c",
		"/nonexistent/fourfold.conf", NULL };

	it_run(argv, NULL, &o);
	cr_expect_eq(o.status, 2);
	cr_expect_not_null(strstr(o.err, "/nonexistent/fourfold.conf"));
	argv[3] = "/tmp";
	it_run(argv, NULL, &o);
	cr_expect_eq(o.status, 2);
	cr_expect_not_null(
	    strstr(o.err, "/tmp: cannot be read: Is a directory"), "%s", o.err);
}

Test(config, the_version_is_told)
{
	static struct it_outcome o;

	run_option("--version", &o);
	cr_expect_eq(o.status, 0);
	cr_expect(strncmp(o.out, "fourfold ", 9) == 0, "%s", o.out);
}

Test(config, help_is_given)
{
	static const char *const words[] = { "check", "passwd", "-c",
		"--help-options" };
	static struct it_outcome o;

	run_option("--help", &o);
	cr_expect_eq(o.status, 0);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		cr_expect_not_null(strstr(o.out, words[i]), "%s", words[i]);
}

Test(config, every_option_is_described)
{
	static const char *const words[] = { "[proxy]", "workers",
		"max-sessions", "user", "drain-timeout", "[listen NAME]",
		"address", "auth", "clients", "open", "backlog", "socket-mode",
		"egress", "[egress NAME]", "addresses", "ports", "bind",
		"[user NAME]", "password", "[timeouts]", "handshake", "connect",
		"half-closed", "idle", "keepalive", "[log]", "level",
		"access" };
	static struct it_outcome o;

	run_option("--help-options", &o);
	cr_expect_eq(o.status, 0);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		cr_expect_not_null(strstr(o.out, words[i]), "%s", words[i]);
}

Test(config, an_unknown_argument_is_a_usage_error)
{
	static const char *const wrong[] = { "--no-such", "jump", "-x" };
	static struct it_outcome o;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		run_option(wrong[i], &o);
		cr_expect_eq(o.status, 2, "%s: %d", wrong[i], o.status);
		cr_expect_str_not_empty(o.err);
	}
}

Test(config, an_address_in_use_is_a_failure_at_start)
{
	char config[128], text[ADDR_TEXT_MAX];
	struct target other;

	target_listen_on(&other, "127.0.0.1:0");
	struct addr taken = target_at(&other, "127.0.0.1");

	addr_format(&taken, text);
	snprintf(config, sizeof(config), "[listen a]\naddress = %s\n", text);
	struct daemon *d =
	    daemon_launch(&(struct daemon_setup){ .config = config });

	cr_expect_eq(daemon_wait_exit(d), 1);
	cr_expect(daemon_log_contains(d, text));
	daemon_free(d);
}

Test(config, a_second_instance_finds_the_address_in_use)
{
	char config[128], text[ADDR_TEXT_MAX];
	struct daemon *first = daemon_start(&(struct daemon_setup){ 0 });
	struct addr proxy = daemon_address(first, "default");

	snprintf(config, sizeof(config), "[listen a]\naddress = %s\n",
	    addr_format(&proxy, text));
	struct daemon *second =
	    daemon_launch(&(struct daemon_setup){ .config = config });

	cr_expect_eq(daemon_wait_exit(second), 1);
	daemon_free(second);
	daemon_stop(first);
}

Test(config, every_address_of_every_listener_is_served)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:0 127.0.0.2:0\n"
		      "[listen b]\naddress = 127.0.0.3:0\n" });
	struct target target;
	struct addr proxies[3] = { daemon_nth_address(d, "a", 0),
		daemon_nth_address(d, "a", 1), daemon_address(d, "b") };

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	for (size_t i = 0; i < ARRAY_LEN(proxies); i++) {
		struct pair p;

		pair_open(&p, &proxies[i], &target, &to);
		pair_finish(&p);
	}
	daemon_stop(d);
}

Test(config, the_log_level_and_access_lines_are_as_told)
{
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen default]\naddress = 127.0.0.1:0\n"
		      "[log]\naccess = no\n" });
	struct addr proxy = daemon_address(d, "default");
	struct target target;
	struct pair p;

	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	pair_open(&p, &proxy, &target, &to);
	pair_finish(&p);
	daemon_signal(d, SIGTERM);
	cr_assert_eq(daemon_wait_exit(d), 0);
	cr_expect_eq(daemon_count_log(d, "event=session"), 0);
	cr_expect_eq(daemon_counter(d, "closed_done"), 1);
	daemon_free(d);
}
