/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "pairs.h"
#include "service/sockets.h"

#define TEXT_SIZE 512

/* A directory for unix sockets, gone at the end. */
struct bench {
	char directory[32];
	char a[64], b[64]; /* paths in it */
	char error[TEXT_SIZE];
	int fds_before;
};

static struct bench
bench_open(void)
{
	struct bench b = { .directory = "/tmp/sockets-XXXXXX" };

	cr_assert_not_null(mkdtemp(b.directory));
	snprintf(b.a, sizeof(b.a), "%s/a.sock", b.directory);
	snprintf(b.b, sizeof(b.b), "%s/b.sock", b.directory);
	b.fds_before = pairs_open_fds();
	return b;
}

/* No descriptor and no file is left. */
static void
bench_close(struct bench *b)
{
	cr_expect_eq(pairs_open_fds(), b->fds_before, "a descriptor is left");
	cr_expect_eq(rmdir(b->directory), 0, "a file is left");
}

/* One [listen] with these addresses. */
static struct config *
config_of(const char *addresses, const char *more)
{
	struct config *c = NULL;
	char text[1024];
	int len = snprintf(text, sizeof(text),
	    "[listen test]\naddress = %s\n%s\n", addresses, more);

	cr_assert_eq(config_parse("test", text, (size_t)len, stderr, &c), 0);
	return c;
}

static struct config *
config_of_unix(const char *path, const char *more)
{
	char address[128];

	snprintf(address, sizeof(address), "unix:%s", path);
	return config_of(address, more);
}

/* Opens, and listens on every slot. */
static int
open_all(struct sockets *out, const struct config *c, unsigned slots,
    struct sockets *old, char *error_text, size_t size)
{
	int error = sockets_open(out, c, slots, old, error_text, size);

	for (unsigned i = 0; error == 0 && i < slots; i++)
		error = sockets_listen(out, c, i);
	return error;
}

static int
try_open(struct bench *b, struct sockets *out, const char *addresses,
    unsigned slots, struct sockets *old)
{
	struct config *c = config_of(addresses, "");
	int error;

	b->error[0] = '\0';
	error = open_all(out, c, slots, old, b->error, sizeof(b->error));
	config_free(c);
	return error;
}

static void
open_set(struct bench *b, struct sockets *out, const char *addresses,
    unsigned slots, struct sockets *old)
{
	cr_assert_eq(
	    try_open(b, out, addresses, slots, old), 0, "%s", b->error);
}

static int
connect_ip(const struct addr *at)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(at, &ss);
	int fd = socket(addr_domain(at), SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return fd;
	close(fd);
	return -1;
}

static int
connect_path(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy_bounded(sun.sun_path, sizeof(sun.sun_path), path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A unix socket of somebody else's, or what is left of one: -1. */
static int
somebodys(const char *path, bool alive)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy_bounded(sun.sun_path, sizeof(sun.sun_path), path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	cr_assert_eq(listen(fd, 8), 0);
	if (alive)
		return fd;
	close(fd);
	return -1;
}

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) != -1;
}

static int
option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

/* ---- addresses ---- */

Test(sockets, port_0_is_one_free_port_for_all_slots)
{
	struct bench b = bench_open();
	struct sockets s;
	const struct endpoint *e;

	open_set(&b, &s, "127.0.0.1:0", 3, NULL);
	cr_assert_eq(s.count, 1);
	e = &s.endpoints[0];
	cr_expect_eq(e->asked.port, 0);
	cr_expect_neq(e->actual.port, 0);
	cr_expect_eq(e->fd_count, 3);
	cr_expect_eq(sockets_fd_count(&s), 3);
	for (size_t i = 0; i < e->fd_count; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct addr at;

		cr_assert_eq(
		    getsockname(e->fds[i], (struct sockaddr *)&ss, &len), 0);
		cr_assert_eq(
		    addr_from_sockaddr((struct sockaddr *)&ss, &at), 0);
		cr_expect(addr_equal(&at, &e->actual));
		cr_expect_eq(option(e->fds[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
		cr_expect_eq(option(e->fds[i], SOL_SOCKET, SO_REUSEPORT), 1);
	}
	sockets_close(&s, true);
	bench_close(&b);
}

Test(sockets, what_is_accepted_inherits_its_options)
{
	struct bench b = bench_open();
	struct sockets s;
	int client, fd;

	open_set(&b, &s, "127.0.0.1:0", 1, NULL);
	client = connect_ip(&s.endpoints[0].actual);
	cr_assert_geq(client, 0);
	cr_assert(pairs_wait(s.endpoints[0].fds[0], POLLIN));
	fd = accept(s.endpoints[0].fds[0], NULL, NULL);
	cr_assert_geq(fd, 0);
	cr_expect_eq(option(fd, IPPROTO_TCP, TCP_QUICKACK), 0);
	close(fd); /* as by a crash */
	cr_expect_eq(pairs_look(client, PAIRS_RESET), PAIRS_RESET);
	close(client);
	sockets_close(&s, true);
	bench_close(&b);
}

Test(sockets, each_address_has_its_endpoint)
{
	struct bench b = bench_open();
	struct sockets s;

	open_set(&b, &s, "127.0.0.1:0 [::1]:0 127.0.0.2:0", 2, NULL);
	cr_assert_eq(s.count, 3);
	cr_expect_eq(s.endpoints[1].actual.family, ADDR_V6);
	cr_expect_eq(
	    option(s.endpoints[1].fds[0], IPPROTO_IPV6, IPV6_V6ONLY), 1);
	cr_expect_eq(sockets_fd_count(&s), 6);
	sockets_close(&s, true);
	cr_expect_eq(s.count, 0);
	bench_close(&b);
}

/* Ports that are most likely free; another program may have taken one. */
static bool
open_range(struct bench *b, struct sockets *s, uint16_t *first)
{
	struct addr at = addr_v4(INADDR_LOOPBACK, 0);
	char text[64];

	close(pairs_listen(&at));
	*first = at.port;
	snprintf(text, sizeof(text), "127.0.0.1:%u-%u", at.port, at.port + 2u);
	return at.port < 65000 && try_open(b, s, text, 2, NULL) == 0;
}

Test(sockets, a_range_is_an_endpoint_a_port)
{
	struct bench b = bench_open();
	struct sockets s = { 0 };
	uint16_t first = 0;
	int tries = 0;

	while (!open_range(&b, &s, &first))
		cr_assert_lt(++tries, 100, "%s", b.error);
	cr_assert_eq(s.count, 3);
	for (size_t i = 0; i < 3; i++)
		cr_expect_eq(s.endpoints[i].actual.port, first + i);
	sockets_close(&s, true);
	bench_close(&b);
}

Test(sockets, a_second_instance_is_told_who_is_there)
{
	struct bench b = bench_open();
	struct sockets s, second;
	char text[ADDR_TEXT_MAX];

	open_set(&b, &s, "127.0.0.1:0", 2, NULL);
	addr_format(&s.endpoints[0].actual, text);
	cr_expect_eq(try_open(&b, &second, text, 2, NULL), -EADDRINUSE);
	cr_expect_not_null(strstr(b.error, text), "%s", b.error);
	cr_expect_not_null(strstr(b.error, "[listen test]"), "%s", b.error);
	cr_expect_not_null(strstr(b.error, strerror(EADDRINUSE)));
	sockets_close(&s, true);
	open_set(&b, &second, text, 2, NULL);
	sockets_close(&second, true);
	bench_close(&b);
}

Test(sockets, an_address_that_is_not_ours_is_named)
{
	struct bench b = bench_open();
	struct sockets s;
	char text[128];

	snprintf(text, sizeof(text), "127.0.0.1:0 unix:%s 192.0.2.1:80", b.a);
	{
		struct config *c = config_of(text, "clients = 127.0.0.1");

		cr_expect_eq(open_all(&s, c, 2, NULL, b.error, sizeof(b.error)),
		    -EADDRNOTAVAIL);
		config_free(c);
	}
	cr_expect_not_null(strstr(b.error, "192.0.2.1:80"), "%s", b.error);
	bench_close(&b); /* nor is anything of what was opened first */
}

/* ---- unix sockets ---- */

Test(sockets, a_unix_socket_is_one_for_all_slots)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "socket-mode = 0640");
	struct sockets s;
	struct stat st;
	int client;

	cr_assert_eq(open_all(&s, c, 4, NULL, b.error, TEXT_SIZE), 0);
	cr_expect_eq(s.endpoints[0].fd_count, 1);
	cr_expect_eq(s.endpoints[0].actual.family, ADDR_NONE);
	cr_assert_eq(lstat(b.a, &st), 0);
	cr_expect(S_ISSOCK(st.st_mode));
	cr_expect_eq(st.st_mode & 0777, 0640);
	client = connect_path(b.a);
	cr_expect_geq(client, 0);
	close(client);
	sockets_close(&s, true);
	cr_expect_not(exists(b.a));
	config_free(c);
	bench_close(&b);
}

Test(sockets, a_unix_socket_may_be_left_to_those_who_come)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "");
	struct sockets s;

	cr_assert_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), 0);
	sockets_close(&s, false);
	cr_expect(exists(b.a));
	/* Now it is stale, and is replaced. */
	cr_assert_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), 0);
	sockets_close(&s, true);
	config_free(c);
	bench_close(&b);
}

Test(sockets, a_stale_unix_socket_is_replaced)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "");
	struct sockets s;
	int client;

	somebodys(b.a, false);
	cr_assert_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), 0);
	client = connect_path(b.a);
	cr_expect_geq(client, 0);
	close(client);
	sockets_close(&s, true);
	config_free(c);
	bench_close(&b);
}

Test(sockets, a_live_unix_socket_is_left_alone)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "");
	struct sockets s;
	int client, fd = somebodys(b.a, true);

	cr_expect_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), -EADDRINUSE);
	cr_expect_not_null(strstr(b.error, b.a), "%s", b.error);
	client = connect_path(b.a);
	cr_expect_geq(client, 0, "it is not there any more");
	close(client);
	close(fd);
	unlink(b.a);
	config_free(c);
	bench_close(&b);
}

Test(sockets, a_file_that_is_no_socket_is_left_alone)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "");
	struct sockets s;
	int fd = open(b.a, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	close(fd);
	cr_expect_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), -EEXIST);
	cr_expect(exists(b.a));
	unlink(b.a);
	config_free(c);
	bench_close(&b);
}

Test(sockets, a_file_that_took_our_place_is_not_removed)
{
	struct bench b = bench_open();
	struct config *c = config_of_unix(b.a, "");
	struct sockets s;
	int fd;

	cr_assert_eq(open_all(&s, c, 1, NULL, b.error, TEXT_SIZE), 0);
	unlink(b.a);
	fd = somebodys(b.a, true);
	sockets_close(&s, true);
	cr_expect(exists(b.a));
	close(fd);
	unlink(b.a);
	config_free(c);
	bench_close(&b);
}

/* ---- a reload ---- */

Test(sockets, what_is_still_wanted_is_taken_over)
{
	struct bench b = bench_open();
	struct sockets old, new;
	char both[256], one[256];
	int kept, dropped, client;

	snprintf(both, sizeof(both), "127.0.0.1:0 127.0.0.2:0 unix:%s unix:%s",
	    b.a, b.b);
	snprintf(one, sizeof(one), "unix:%s 127.0.0.1:0 127.0.0.3:0", b.b);
	open_set(&b, &old, both, 2, NULL);
	kept = old.endpoints[0].fds[0];
	dropped = old.endpoints[1].fds[0];
	client = connect_ip(&old.endpoints[0].actual); /* queued */
	cr_assert_geq(client, 0);

	open_set(&b, &new, one, 3, &old);
	cr_assert_eq(new.count, 3);
	cr_expect_eq(new.endpoints[0].fds[0], old.endpoints[3].fds[0]);
	cr_expect_eq(new.endpoints[1].fds[0], kept);
	cr_expect_eq(new.endpoints[1].fd_count, 3, "a slot more");
	cr_expect(
	    addr_equal(&new.endpoints[1].actual, &old.endpoints[0].actual));
	cr_expect(is_open(dropped), "closed before the commit");
	cr_expect(exists(b.a), "removed before the commit");

	sockets_commit(&old);
	cr_expect_eq(old.count, 0);
	cr_expect_not(is_open(dropped));
	cr_expect_not(exists(b.a));
	cr_expect(exists(b.b) && is_open(kept));
	cr_expect_eq(pairs_look(client, PAIRS_OPEN), PAIRS_OPEN,
	    "what was queued is cut");
	close(client);
	sockets_close(&new, true);
	bench_close(&b);
}

Test(sockets, an_address_may_narrow_on_its_port)
{
	struct bench b = bench_open();
	struct sockets old, new;
	char narrow[64];
	int client;

	open_set(&b, &old, "0.0.0.0:0\nopen = yes", 2, NULL);
	snprintf(narrow, sizeof(narrow), "127.0.0.1:%u",
	    old.endpoints[0].actual.port);
	open_set(&b, &new, narrow, 2, &old);
	sockets_commit(&old);
	client = connect_ip(&new.endpoints[0].actual);
	cr_expect_geq(client, 0);
	close(client);
	sockets_close(&new, true);
	bench_close(&b);
}

Test(sockets, slots_are_never_taken_away)
{
	struct bench b = bench_open();
	struct sockets old, new;

	open_set(&b, &old, "127.0.0.1:0", 4, NULL);
	open_set(&b, &new, "127.0.0.1:0", 2, &old);
	cr_expect_eq(sockets_fd_count(&new), 4);
	sockets_commit(&old);
	cr_expect_eq(sockets_fd_count(&new), 4);
	sockets_close(&new, true);
	bench_close(&b);
}

Test(sockets, what_is_abandoned_leaves_the_old_as_it_was)
{
	struct bench b = bench_open();
	struct sockets old, new;
	char before[256], after[256];
	int fds, client;

	snprintf(before, sizeof(before), "127.0.0.1:0 unix:%s", b.a);
	snprintf(after, sizeof(after),
	    "127.0.0.1:0 127.0.0.2:0 unix:%s unix:%s", b.a, b.b);
	open_set(&b, &old, before, 2, NULL);
	fds = pairs_open_fds();
	open_set(&b, &new, after, 3, &old);
	cr_expect(exists(b.b));
	sockets_abandon(&new, &old);
	cr_expect_eq(pairs_open_fds(), fds);
	cr_expect_not(exists(b.b));
	cr_expect(exists(b.a));
	cr_expect_eq(old.count, 2);
	cr_expect_eq(old.endpoints[0].fd_count, 2);
	cr_expect_not(old.endpoints[0].kept || old.endpoints[1].kept);
	client = connect_ip(&old.endpoints[0].actual);
	cr_expect_geq(client, 0);
	close(client);
	client = connect_path(b.a);
	cr_expect_geq(client, 0);
	close(client);
	sockets_close(&old, true);
	bench_close(&b);
}

Test(sockets, a_set_that_fails_changes_nothing)
{
	struct bench b = bench_open();
	struct sockets old, new, other;
	char text[256], taken[ADDR_TEXT_MAX];
	int fds;

	open_set(&b, &other, "127.0.0.1:0", 1, NULL);
	addr_format(&other.endpoints[0].actual, taken);
	open_set(&b, &old, "127.0.0.2:0", 2, NULL);
	fds = pairs_open_fds();
	snprintf(text, sizeof(text), "127.0.0.2:0 unix:%s %s", b.a, taken);
	cr_expect_eq(try_open(&b, &new, text, 3, &old), -EADDRINUSE);
	cr_expect_not_null(strstr(b.error, taken), "%s", b.error);
	cr_expect_eq(pairs_open_fds(), fds);
	cr_expect_not(exists(b.a));
	cr_expect_not(old.endpoints[0].kept);
	cr_expect_eq(sockets_fd_count(&old), 2);
	sockets_close(&old, true);
	sockets_close(&other, true);
	bench_close(&b);
}

static int
deferred_s(const struct sockets *s)
{
	int seconds = -1;
	socklen_t len = sizeof(seconds);

	cr_assert_eq(getsockopt(s->endpoints[0].fds[0], IPPROTO_TCP,
			 TCP_DEFER_ACCEPT, &seconds, &len),
	    0);
	return seconds;
}

Test(sockets, accepting_is_deferred_as_the_configuration_says)
{
	struct config *deferred =
	    config_of("127.0.0.1:0", "defer-accept = yes\n");
	struct config *plain = config_of("127.0.0.1:0", "");
	char error[256];
	struct sockets s;

	cr_assert_eq(open_all(&s, deferred, 1, NULL, error, sizeof(error)), 0);
	cr_expect_geq(deferred_s(&s), 10, "the handshake's time");
	cr_expect_eq(sockets_listen(&s, plain, 0), 0);
	cr_expect_eq(deferred_s(&s), 0, "a reload may take it back");
	sockets_close(&s, true);
	config_free(deferred);
	config_free(plain);
}

Test(sockets, a_unix_socket_that_is_kept_gets_its_new_mode)
{
	struct bench b = bench_open();
	struct config *first = config_of_unix(b.a, "socket-mode = 0600");
	struct config *second = config_of_unix(b.a, "socket-mode = 0666");
	struct sockets old, new;
	struct stat st;

	cr_assert_eq(open_all(&old, first, 1, NULL, b.error, TEXT_SIZE), 0);
	cr_assert_eq(open_all(&new, second, 1, &old, b.error, TEXT_SIZE), 0);
	sockets_commit(&old);
	cr_assert_eq(lstat(b.a, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0666);
	sockets_close(&new, true);
	config_free(first);
	config_free(second);
	bench_close(&b);
}
