/* SPDX-License-Identifier: ISC */
/*
 * fourfold check: what it says of a file on a host, and whether what it says
 * mends a thing does.
 */
#include <sys/resource.h>
#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_IPV6;
}

/* A file, and what was said of it last. */
struct scene {
	char folder[IT_PATH_MAX], path[IT_PATH_MAX + 16];
	struct it_outcome said;
};

static void
scene_open(struct scene *s, const char *text)
{
	FILE *f;

	namespace_enter();
	namespace_port_range(32768, 60999);
	/* Nothing is to be in the way but what a test puts there. */
	namespace_sysctl("ipv4/tcp_tw_reuse", "1");
	it_make_folder(s->folder);
	snprintf(s->path, sizeof(s->path), "%s/x.conf", s->folder);
	f = fopen(s->path, "we");
	IT_MUST(f != NULL, "%s: %s", s->path, strerror(errno));
	fputs(text, f);
	fclose(f);
}

static void
scene_close(struct scene *s)
{
	it_remove_folder(s->folder);
}

static int
check(struct scene *s)
{
	const char *const argv[] = { it_binary(), "check", "-c", s->path,
		NULL };

	it_run(argv, NULL, &s->said);
	return s->said.status;
}

static void
expect_out(const struct scene *s, const char *words)
{
	cr_expect_not_null(strstr(s->said.out, words), "\"%s%s\" lacks \"%s\"",
	    s->said.err, s->said.out, words);
}

static void
expect_err(const struct scene *s, const char *words)
{
	cr_expect_not_null(strstr(s->said.err, words), "\"%s\" lacks \"%s\"",
	    s->said.err, words);
}

static bool
says(const struct scene *s, const char *words)
{
	return strstr(s->said.out, words) != NULL;
}

/* `format`, in which each %s is the folder. */
static void
fill_in(char *out, size_t size, const char *format, const char *folder)
{
	size_t used = 0;

	while (*format != '\0') {
		bool is_folder = strncmp(format, "%s", 2) == 0;
		int len = snprintf(out + used, size - used, "%.*s",
		    is_folder ? IT_PATH_MAX : 1, is_folder ? folder : format);

		used += (size_t)len;
		IT_MUST(used < size, "no room for \"%s\"", format);
		format += is_folder ? 2 : 1;
	}
}

/* Small enough for any limit of descriptors. */
#define FEW "[proxy]\nmax-sessions = 100\nworkers = 2\n"

Test(check, the_defaults_are_counted)
{
	const char *const argv[] = { it_binary(), "check", NULL };
	static struct it_outcome o;

	namespace_enter();
	namespace_port_range(32768, 60999);
	it_run(argv, NULL, &o);
	cr_expect_eq(o.status, 0, "%s", o.err);
	cr_expect_str_empty(o.err);
	cr_expect_not_null(strstr(o.out, "default  IPv4     by route  28232  "
					 "   28232  "),
	    "%s", o.out);
	cr_expect_not_null(
	    strstr(o.out, "\nbuilt-in defaults: no errors\n"), "%s", o.out);
}

Test(check, a_file_is_counted)
{
	static struct scene s;
	char end[IT_PATH_MAX + 64];

	scene_open(&s, FEW "[listen office]\naddress = 127.0.0.1:1080-1081\n"
			   "[egress main]\nports = 40000-40009\n"
			   "addresses = 127.0.0.1 127.1.0.0/16\n");
	cr_expect_eq(check(&s), 0);
	cr_expect_str_empty(s.said.err);
	expect_out(&s, "  main  IPv4        65537     10    655370  range\n");
	expect_out(&s, "  office    IPv4                    2        56464   "
		       "129022\n");
	expect_out(&s, "\n  max-sessions ");
	expect_out(&s, "what stands in the way\n  nothing\n");
	snprintf(end, sizeof(end), "\n\n%s: no errors\n", s.path);
	expect_out(&s, end);
	scene_close(&s);
}

/* The command in the line that has `words`, run. */
static void
mend(const struct scene *s, const char *text, const char *words)
{
	static const char lead[] = "this mends it: ";
	const char *row = strstr(text, words);
	const char *command = row != NULL ? strstr(row, lead) : NULL;
	char line[1024];

	IT_MUST(command != NULL, "nothing mends \"%s\" in\n%s%s", words,
	    s->said.out, s->said.err);
	command += strlen(lead);
	/* Where sysctl is not everybody has on the PATH. */
	snprintf(line, sizeof(line),
	    "PATH=$PATH:/usr/sbin:/sbin; %.*s >/dev/null",
	    (int)strcspn(command, "\n"), command);
	IT_MUST(system(line) == 0, "%s", line);
}

/* Said, mended by what was said, said no more. */
static void
see_mended(struct scene *s, const char *words)
{
	cr_expect_eq(check(s), 0);
	expect_out(s, words);
	mend(s, s->said.out, words);
	cr_expect_eq(check(s), 0);
	cr_expect_not(says(s, words), "%s", s->said.out);
}

Test(check, each_sysctl_that_is_in_the_way_is_mended_as_told)
{
	static const struct {
		const char *name, *value, *words;
	} sysctls[] = {
		{ "ipv4/tcp_tw_reuse", "0", "net.ipv4.tcp_tw_reuse is 0; " },
		{ "ipv4/tcp_tw_reuse", "2", "net.ipv4.tcp_tw_reuse is 2; " },
		{ "ipv4/tcp_timestamps", "0", "tcp_timestamps is 0; " },
		{ "ipv4/tcp_max_tw_buckets", "99",
		    "net.ipv4.tcp_max_tw_buckets is 99; " },
		{ "core/somaxconn", "50", "net.core.somaxconn is 50; " },
		{ "ipv4/ip_local_port_range", "40000 40999",
		    "net.ipv4.ip_local_port_range is 40000-40999; " },
		{ "ipv4/ip_local_reserved_ports", "50000",
		    "net.ipv4.ip_local_reserved_ports holds 1 " },
	};
	static struct scene s;

	scene_open(&s, FEW "[listen a]\naddress = 127.0.0.1:1080\n"
			   "backlog = 64\n");
	for (size_t i = 0; i < ARRAY_LEN(sysctls); i++) {
		namespace_sysctl(sysctls[i].name, sysctls[i].value);
		see_mended(&s, sysctls[i].words);
	}
	scene_close(&s);
}

Test(check, ports_that_are_bound_the_slow_way_are_mended_as_told)
{
	static struct scene s;

	scene_open(&s, FEW "[egress e]\nports = 20000-20009 40000-40001\n");
	namespace_sysctl("ipv4/ip_local_reserved_ports", "40000");
	check(&s);
	expect_out(&s, "  range, explicit\n");
	see_mended(&s, "[egress e] ports 20000-20009 are outside net.ipv4.");
	see_mended(&s, "[egress e] ports 40000 are in net.ipv4.");
	expect_out(&s, "  range\n");
	expect_out(&s, "  nothing\n");
	scene_close(&s);
}

/* It is as the file asks for it, and still in the way. */
Test(check, explicit_ports_where_others_get_theirs_are_mended_as_told)
{
	static struct scene s;

	scene_open(
	    &s, FEW "[egress e]\nbind = explicit\nports = 40000-40009\n");
	see_mended(
	    &s, "[egress e] explicit ports 40000-40009 are in net.ipv4.");
	scene_close(&s);
}

/* The host does not let it start: said on standard error, and mended. */
Test(check, what_keeps_it_from_starting_is_an_error)
{
	static struct scene s;

	scene_open(&s,
	    FEW "[listen a]\naddress = 203.0.113.7:1080\nopen = yes\n"
		"[egress e]\nports = 40000\n"
		"addresses = 203.0.113.9 fd00:2::/64 10.9.0.0/16\n");
	for (int i = 0; i < 4; i++) {
		static const char *const words[] = { "[listen a] 203.0.113.7",
			"[egress e] 203.0.113.9 ", "[egress e] not all of fd00",
			"[egress e] not all of 10.9" };

		cr_expect_eq(check(&s), 2);
		/* All of it at once. */
		for (int n = i; n < 4; n++)
			expect_err(&s, words[n]);
		mend(&s, s.said.err, words[i]);
	}
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	expect_out(&s, "  e     IPv6     16777216      1  16777216  range\n");
	scene_close(&s);
}

/* Runs it until it ends by itself; its exit status. */
static int
run(struct scene *s)
{
	const char *const argv[] = { it_binary(), "run", "-c", s->path, NULL };

	it_run(argv, NULL, &s->said);
	return s->said.status;
}

static void
put_file(const char *folder, const char *name, const char *text)
{
	char path[IT_PATH_MAX + 32];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	IT_MUST(f != NULL, "%s: %s", path, strerror(errno));
	fputs(text, f);
	fclose(f);
}

/* What check says is wrong is what keeps run from starting, and the other way
 * round; each line of the table is the file's last. */
Test(check, sockets_that_cannot_be_made_are_errors)
{
	static const struct {
		const char *lines, *words; /* "%s" is the folder */
	} rows[] = {
		{ "[control]\nsocket = %s/none/c\n",
		    "[control] socket = %s/none/c: its folder does not exist" },
		{ "[control]\nsocket = %s/file\n",
		    "[control] socket = %s/file: there is a file that is not "
		    "a socket" },
		{ "[control]\nsocket = %s/c\ngroup = no-such-group\n",
		    "[control] group = no-such-group: there is no such "
		    "group; " },
		{ "[listen b]\naddress = unix:%s/none/s\n",
		    "[listen b] unix:%s/none/s: its folder does not exist; " },
		{ "[listen b]\naddress = unix:%s/file\n",
		    "[listen b] unix:%s/file: there is a file that is not a "
		    "socket" },
		{ "[listen b]\naddress = unix:%s/file/s\n",
		    "[listen b] unix:%s/file/s: Not a directory\n" },
	};
	static struct scene s;
	char text[512];

	scene_open(&s, "");
	put_file(s.folder, "file", "");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fill_in(text, sizeof(text), rows[i].lines, s.folder);
		put_file(s.folder, "x.conf", text);
		cr_expect_eq(check(&s), 2, "%s%s", text, s.said.out);
		fill_in(text, sizeof(text), rows[i].words, s.folder);
		expect_err(&s, text);
		cr_expect_eq(run(&s), 1, "%s", s.said.err);
	}
	scene_close(&s);
}

Test(check, a_folder_that_is_not_there_is_mended_as_told)
{
	char text[512], none[IT_PATH_MAX + 8];
	static struct scene s;

	scene_open(&s, "");
	fill_in(text, sizeof(text), FEW "[control]\nsocket = %s/none/c\n",
	    s.folder);
	put_file(s.folder, "x.conf", text);
	cr_expect_eq(check(&s), 2);
	mend(&s, s.said.err, "[control] socket = ");
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	expect_out(&s, "  nothing\n");
	snprintf(none, sizeof(none), "%s/none", s.folder);
	/* It was only looked at. */
	cr_expect_eq(rmdir(none), 0);
	scene_close(&s);
}

Test(check, a_control_socket_that_nobody_asked_for_is_no_error)
{
	static struct scene s;

	scene_open(&s, FEW "[control]\ngroup = no-such-group\n");
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	expect_out(&s, "  [control] group = no-such-group: there is no control "
		       "socket, since ");
	scene_close(&s);
}

/* It may be ours, as before a reload; and who listens gets no client by it. */
Test(check, a_unix_socket_on_which_somebody_listens_is_a_remark)
{
	char control[IT_PATH_MAX + 16], text[512];
	static struct scene s;

	scene_open(&s, "");
	snprintf(control, sizeof(control), "socket = %s/c\n", s.folder);
	fill_in(
	    text, sizeof(text), "[listen b]\naddress = unix:%s/s\n", s.folder);
	struct daemon *d = daemon_start(
	    &(struct daemon_setup){ .config = text, .control = control });

	fill_in(text, sizeof(text),
	    FEW "[listen b]\naddress = unix:%s/s\n"
		"[control]\nsocket = %s/c\n",
	    s.folder);
	put_file(s.folder, "x.conf", text);
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	fill_in(text, sizeof(text),
	    "  [listen b] unix:%s/s: a program listens there already; unless "
	    "that is ",
	    s.folder);
	expect_out(&s, text);
	fill_in(text, sizeof(text),
	    "  [control] socket = %s/c: a program listens there already; ",
	    s.folder);
	expect_out(&s, text);
	daemon_signal(d, SIGTERM);
	cr_expect_eq(daemon_wait_exit(d), 0);
	cr_expect_eq(daemon_counter(d, "accepted"), 0);
	daemon_free(d);
	/* It removed its own. */
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	expect_out(&s, "  nothing\n");
	scene_close(&s);
}

Test(check, a_user_that_is_not_there_is_an_error)
{
	static struct scene s;

	scene_open(&s, "[proxy]\nuser = no-such-user\n");
	cr_expect_eq(check(&s), 2);
	expect_err(&s, "user = no-such-user: no such user; ");
	scene_close(&s);
}

Test(check, too_few_descriptors_are_an_error)
{
	static struct scene s;
	struct rlimit limit = { 200, 200 };

	scene_open(&s, "[proxy]\nmax-sessions = 100\nworkers = 1\n");
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_eq(check(&s), 2);
	expect_err(&s, "max-sessions = 100 needs two descriptors a session");
	scene_close(&s);
}

Test(check, few_descriptors_are_told)
{
	static struct scene s;
	struct rlimit limit = { 512, 1000 };

	scene_open(&s, "[proxy]\nworkers = 1\n");
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_eq(check(&s), 0);
	expect_out(&s, "  1 worker of 1000 descriptors, ");
	expect_out(&s, "  a process may have 1000 descriptors; ");
	scene_close(&s);
}

/* ---- other programs ---- */

static int
hold(const char *address, bool listens)
{
	struct addr a;

	IT_MUST(addr_parse(address, &a) == 0, "%s", address);
	int fd = peer_bind(&a);

	if (listens)
		IT_MUST(listen(fd, 1) == 0, "listen: %s", strerror(errno));
	return fd;
}

/* The row about this test's process as a stranger. */
static void
expect_stranger(const struct scene *s, const char *what)
{
	char row[256];

	snprintf(row, sizeof(row), "  [egress e] it_check (pid %d, uid %u) %s",
	    getpid(), geteuid(), what);
	expect_out(s, row);
}

Test(check, programs_that_hold_ports_of_the_pool_are_named)
{
	static struct scene s;

	scene_open(&s, FEW "[egress e]\nports = 40000-40004\n");
	int one = hold("127.0.0.9:40001", true), two = hold("[::]:40003", true);

	cr_expect_eq(check(&s), 0);
	expect_stranger(&s, "listens on ports 40001,40003; no session gets "
			    "them meanwhile; end that program, or this mends "
			    "it: ports = 40000 40002 40004\n");
	close(one);
	close(two);
	cr_expect_eq(check(&s), 0);
	expect_out(&s, "  nothing\n");
	scene_close(&s);
}

Test(check, a_port_that_is_only_bound_is_named_where_the_kernel_shows_it)
{
	static struct scene s;

	scene_open(&s, FEW "[egress e]\nports = 40000-40004\n");
	int fd = hold("127.0.0.1:40001", false);
	unsigned major = 0, minor = 0;

	cr_expect_eq(check(&s), 0);
	cr_assert_eq(sscanf(strstr(s.said.out, "\nHost: Linux "),
			 "\nHost: Linux %u.%u", &major, &minor),
	    2);
	if (major > 6 || (major == 6 && minor >= 8))
		expect_stranger(&s, "has bound port 40001; ");
	else
		cr_skip_test("Linux shows such sockets since 6.8");
	close(fd);
	scene_close(&s);
}

/* The usual way to take a source address takes the whole port. */
Test(check, a_connection_that_was_bound_first_is_told_from_one_that_shares)
{
	static struct scene s;
	struct target target;
	struct addr port;
	int shares;

	scene_open(&s, FEW "[egress e]\nports = 40000-40004\n");
	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");

	cr_assert_eq(peer_try_connect_sharing(40001, &to, &shares), 0);
	cr_assert_eq(check(&s), 0);
	expect_out(&s, "  nothing\n");
	cr_assert_eq(addr_parse("127.0.0.1:40002", &port), 0);
	int bound = peer_connect_from(&port, &to);

	cr_expect_eq(check(&s), 0);
	expect_stranger(&s, "has connections from sockets that it bound to "
			    "port 40002; ");
	close(bound);
	close(shares);
	scene_close(&s);
}

Test(check, a_listening_address_that_another_program_has_is_an_error)
{
	static struct scene s;
	char words[256];

	scene_open(&s, FEW "[listen a]\naddress = 127.0.0.1:1080-1082\n");
	int fd = hold("0.0.0.0:1081", true);

	cr_expect_eq(check(&s), 2);
	snprintf(words, sizeof(words),
	    "[listen a] 127.0.0.1:1081: it_check (pid %d, uid %u) listens "
	    "there already\n",
	    getpid(), geteuid());
	cr_expect_str_eq(s.said.err, words);
	close(fd);
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	scene_close(&s);
}

/* As before a reload. */
Test(check, a_fourfold_that_runs_is_not_in_the_way_of_itself)
{
	static const char config[] = "[listen a]\naddress = 127.0.0.1:1080\n"
				     "[egress e]\nports = 40000-40004\n";
	static struct scene s;
	struct target target;
	struct pair p;

	scene_open(&s, FEW "[listen a]\naddress = 127.0.0.1:1080\n"
			   "[egress e]\nports = 40000-40004\n");
	target_listen(&target);
	struct addr to = target_at(&target, "127.0.0.1");
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .config = config });
	struct addr proxy = daemon_address(d, "a");

	pair_open(&p, &proxy, &target, &to);
	cr_expect_eq(check(&s), 0, "%s", s.said.err);
	expect_out(&s, "  nothing\n");
	pair_exchange(&p, 1);
	pair_reset(&p);
	daemon_stop(d);
	scene_close(&s);
}
