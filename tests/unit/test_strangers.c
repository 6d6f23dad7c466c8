/* SPDX-License-Identifier: ISC */
/*
 * Strangers in files that are made up, and true ones in a namespace.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "egress/strangers.h"
#include "netns.h"
#include "peer.h"
#include "tree.h"

#define HEAD_V4                                                               \
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when " \
	"retrnsmt   uid  timeout inode\n"

#define REST " 1 0000000000000000 100 0 0 10 0\n"

/* A line of /proc/net/tcp as this kind of machine writes it. */
#define V4(n, local, remote, state, uid, inode)                       \
	"   " n ": " local " " remote " " state " 00000000:00000000 " \
	"00:00000000 00000000  " uid "        0 " inode REST

/* Of every port whatever there is. */
static void
all_ports(struct strangers_ports *ports)
{
	memset(ports, 0xff, sizeof(*ports));
}

static void
one_port(struct strangers_ports *ports, uint16_t port)
{
	memset(ports, 0, sizeof(*ports));
	ports->any[port / 8] = (uint8_t)(1 << port % 8);
}

static void
read_one(const char *path, const char *text,
    const struct strangers_ports *ports, struct strangers *s)
{
	char root[TREE_PATH_MAX];

	tree_make(root);
	tree_put(root, path, text);
	strangers_init(s);
	cr_assert_eq(strangers_read(root, ports, s), 0);
	tree_remove(root);
}

static void
expect_stranger(const struct stranger *s, const char *local,
    enum stranger_state state, uint32_t uid, uint64_t inode)
{
	char text[ADDR_TEXT_MAX];

	cr_expect_str_eq(addr_format(&s->local, text), local);
	cr_expect_eq(
	    s->state, state, "%s: %s", local, stranger_state_name(s->state));
	cr_expect_eq(s->uid, uid);
	cr_expect_eq(s->inode, inode);
	cr_expect_eq(s->pid, 0);
	cr_expect_str_empty(s->program);
}

Test(strangers, the_table_of_ipv4_is_read)
{
	struct strangers_ports ports;
	struct strangers s;

	all_ports(&ports);
	read_one("/proc/net/tcp",
	    HEAD_V4 V4("0", "0100007F:9C40", "00000000:0000", "0A", "1000",
		"12345") V4("12345", "0702A8C0:9C41", "0100007F:0050", "01",
		"0", "77") V4("2", "0702A8C0:9C42", "0100007F:0050", "06", "0",
		"0") V4("3", "0702A8C0:9C43", "0100007F:0050", "05", "0", "0")
		V4("4", "0702A8C0:9C44", "0100007F:0050", "03", "0", "0"),
	    &ports, &s);
	cr_assert_eq(s.count, 4, "%zu", s.count);
	expect_stranger(
	    &s.items[0], "127.0.0.1:40000", STRANGER_LISTENS, 1000, 12345);
	expect_stranger(
	    &s.items[1], "192.168.2.7:40001", STRANGER_CONNECTED, 0, 77);
	expect_stranger(&s.items[2], "192.168.2.7:40002", STRANGER_GONE, 0, 0);
	expect_stranger(&s.items[3], "192.168.2.7:40003", STRANGER_GONE, 0, 0);
	strangers_fini(&s);
}

Test(strangers, the_table_of_ipv6_is_read)
{
	struct strangers_ports ports;
	struct strangers s;

	all_ports(&ports);
	read_one("/proc/net/tcp6",
	    HEAD_V4 V4("0", "B80D0120000000000000000001000000:9C40",
		"00000000000000000000000000000000:0000", "0A", "33", "9"),
	    &ports, &s);
	cr_assert_eq(s.count, 1);
	expect_stranger(
	    &s.items[0], "[2001:db8::1]:40000", STRANGER_LISTENS, 33, 9);
	strangers_fini(&s);
}

Test(strangers, only_the_ports_that_are_asked_for_are_read)
{
	static const char table[] =
	    HEAD_V4 V4("0", "00000000:9C40", "00000000:0000", "0A", "0", "1")
		V4("1", "00000000:9C41", "00000000:0000", "0A", "0", "2") V4(
		    "2", "0100007F:9C41", "0100007F:0050", "01", "0", "3")
		    V4("3", "0100007F:9C48", "0100007F:0050", "01", "0", "4");
	struct strangers_ports ports;
	struct strangers s;

	one_port(&ports, 40008);
	ports.listens[40001 / 8] |= 1 << 40001 % 8;
	read_one("/proc/net/tcp", table, &ports, &s);
	cr_assert_eq(s.count, 2);
	expect_stranger(&s.items[0], "0.0.0.0:40001", STRANGER_LISTENS, 0, 2);
	expect_stranger(
	    &s.items[1], "127.0.0.1:40008", STRANGER_CONNECTED, 0, 4);
	strangers_fini(&s);
}

Test(strangers, lines_that_are_none_are_passed_over)
{
	static const char *const tables[] = { "", "\n", ":\n", "  0: 0100007F",
		"   0: 0100007F:9C40 00000000:0000 0A\n",
		"   0: 010000xF:9C40 00000000:0000 0A 0:0 0:0 0 0 0 1 1\n",
		"   0: 0100007F 9C40 00000000:0000 0A 0:0 0:0 0 0 0 1 1\n",
		"   0: 0100007F:9C40 00000000:0000 xx 0:0 0:0 0 0 0 1 1\n" };

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		struct strangers_ports ports;
		struct strangers s;

		all_ports(&ports);
		read_one("/proc/net/tcp", tables[i], &ports, &s);
		cr_expect_eq(s.count, 0, "\"%s\"", tables[i]);
		strangers_fini(&s);
	}
}

Test(strangers, a_host_without_tables_has_none)
{
	struct strangers_ports ports;
	char root[TREE_PATH_MAX];
	struct strangers s;

	all_ports(&ports);
	tree_make(root);
	strangers_init(&s);
	cr_expect_eq(strangers_read(root, &ports, &s), 0);
	cr_expect_eq(s.count, 0);
	strangers_name(root, &s, 10);
	tree_remove(root);
	strangers_fini(&s);
}

static void
add(struct strangers *s, uint64_t inode)
{
	struct stranger one = { .inode = inode };

	cr_assert_eq(strangers_add(s, &one), 0);
}

/* The one with this inode: naming changes the order. */
static const struct stranger *
of_inode(const struct strangers *s, uint64_t inode)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->items[i].inode == inode)
			return &s->items[i];
	}
	cr_assert(false, "no inode %ju", (uintmax_t)inode);
	return NULL;
}

static void
expect_name(
    const struct strangers *s, uint64_t inode, int pid, const char *program)
{
	const struct stranger *one = of_inode(s, inode);

	cr_expect_eq(
	    one->pid, pid, "inode %ju: pid %d", (uintmax_t)inode, one->pid);
	cr_expect_str_eq(one->program, program);
}

Test(strangers, owners_are_found_by_their_descriptors)
{
	char root[TREE_PATH_MAX];
	struct strangers s;

	tree_make(root);
	tree_put(root, "/proc/12/comm", "nginx\n");
	tree_link(root, "/proc/12/fd/0", "/dev/null");
	tree_link(root, "/proc/12/fd/1", "pipe:[500]");
	tree_link(root, "/proc/12/fd/2", "socket:[501]");
	tree_put(root, "/proc/345/comm", "a program of more than 15\n");
	tree_link(root, "/proc/345/fd/7", "socket:[502]");
	tree_put(root, "/proc/net/comm", "no process\n");
	tree_link(root, "/proc/net/fd/7", "socket:[503]");
	strangers_init(&s);
	add(&s, 503);
	add(&s, 502);
	add(&s, 0);
	add(&s, 501);
	add(&s, 500);
	strangers_name(root, &s, 10);
	cr_expect_eq(s.count, 5);
	expect_name(&s, 501, 12, "nginx");
	expect_name(&s, 502, 345, "a program of mo");
	expect_name(&s, 500, 0, "");
	expect_name(&s, 503, 0, "");
	expect_name(&s, 0, 0, "");
	tree_remove(root);
	strangers_fini(&s);
}

Test(strangers, a_socket_that_is_gone_is_nobodys)
{
	char root[TREE_PATH_MAX];
	struct strangers s;

	tree_make(root);
	tree_put(root, "/proc/1/comm", "one\n");
	tree_link(root, "/proc/1/fd/3", "socket:[0]");
	strangers_init(&s);
	add(&s, 0);
	add(&s, 2);
	strangers_name(root, &s, 10);
	cr_expect_eq(s.items[0].pid, 0);
	cr_expect_eq(s.items[1].pid, 0);
	tree_remove(root);
	strangers_fini(&s);
}

Test(strangers, so_many_descriptors_of_a_process_are_looked_at)
{
	char root[TREE_PATH_MAX];
	struct strangers s;

	tree_make(root);
	tree_put(root, "/proc/1/comm", "one\n");
	tree_link(root, "/proc/1/fd/3", "socket:[1]");
	tree_link(root, "/proc/1/fd/4", "socket:[2]");
	strangers_init(&s);
	add(&s, 1);
	add(&s, 2);
	strangers_name(root, &s, 1);
	/* In a folder that is no true one the order is chance. */
	cr_expect_eq((s.items[0].pid != 0) + (s.items[1].pid != 0), 1);
	strangers_name(root, &s, 2);
	expect_name(&s, 1, 1, "one");
	expect_name(&s, 2, 1, "one");
	tree_remove(root);
	strangers_fini(&s);
}

static bool
is_odd(const struct stranger *s, void *arg)
{
	++*(unsigned *)arg;
	return s->inode % 2 == 1;
}

Test(strangers, those_that_do_not_matter_are_taken_out)
{
	struct strangers s;
	unsigned asked = 0;

	strangers_init(&s);
	for (uint64_t i = 0; i < 1000; i++)
		add(&s, i);
	strangers_filter(&s, is_odd, &asked);
	cr_expect_eq(asked, 1000);
	cr_assert_eq(s.count, 500);
	for (size_t i = 0; i < s.count; i++)
		cr_assert_eq(s.items[i].inode, 2 * i + 1);
	strangers_fini(&s);
}

/* ---- true ones ---- */

static int
bind_to(const char *text)
{
	struct addr a;

	return addr_parse(text, &a) == 0 ? peer_try_bind(&a) : -EINVAL;
}

/* On whatever address. */
static int
find(uint16_t port, uint64_t look_max, struct stranger *out)
{
	struct addr source = addr_v4(0, port);

	return strangers_find(&source, true, look_max, out);
}

static bool
is_found(uint16_t port, enum stranger_state state, const char *local)
{
	struct stranger s;
	char text[ADDR_TEXT_MAX];

	return find(port, UINT64_MAX, &s) == 0 && s.state == state &&
	       s.uid == geteuid() && s.local.port == port &&
	       strcmp(addr_format(&s.local, text), local) == 0;
}

static void
expect_in_namespace(const char *const *setup, int (*body)(void))
{
	int result = netns_run(setup, body);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

static const char *const wide_range[] = {
	"echo 20000 60999 > /proc/sys/net/ipv4/ip_local_port_range",
	NULL,
};

static int
listeners_are_found(void)
{
	struct stranger s;
	int v4 = bind_to("127.0.0.9:40000"), v6 = bind_to("[::]:40001");

	if (v4 < 0 || listen(v4, 1) != 0 || v6 < 0 || listen(v6, 1) != 0)
		return 1;
	if (!is_found(40000, STRANGER_LISTENS, "127.0.0.9:40000"))
		return 2;
	if (!is_found(40001, STRANGER_LISTENS, "[::]:40001"))
		return 3;
	return find(40002, UINT64_MAX, &s) == -ENOENT ? 0 : 4;
}

Test(strangers, one_that_listens_is_found)
{
	expect_in_namespace(wide_range, listeners_are_found);
}

/* The kernel and its /proc say the same. */
static int
both_ways_agree(void)
{
	int listens = bind_to("127.0.0.1:40000"), v6 = bind_to("[::1]:40000");
	struct strangers asked, read;
	struct strangers_ports ports;
	struct addr to;
	int fd;

	if (listens < 0 || listen(listens, 1) != 0 || v6 < 0 ||
	    listen(v6, 1) != 0 || addr_parse("127.0.0.1:40000", &to) != 0)
		return 1;
	for (uint16_t port = 40001; port < 40300; port++) {
		if (peer_try_connect_sharing(port, &to, &fd) != 0)
			return 2;
		close(accept(listens, NULL, NULL));
		/* FIN_WAIT2 or TIME_WAIT, and some that stay. */
		if (port % 3 == 0)
			close(fd);
	}
	all_ports(&ports);
	strangers_init(&asked);
	strangers_init(&read);
	if (strangers_ask(&ports, &asked) != 0 ||
	    strangers_read("", &ports, &read) != 0)
		return 3;
	if (asked.count < 300 || asked.count != read.count)
		return 4;
	for (size_t i = 0; i < asked.count; i++) {
		const struct stranger *a = &asked.items[i];
		bool found = false;

		for (size_t j = 0; j < read.count && !found; j++) {
			const struct stranger *b = &read.items[j];

			found = addr_equal(&a->local, &b->local) &&
				a->state == b->state && a->inode == b->inode &&
				a->uid == b->uid;
		}
		if (!found)
			return 5;
	}
	strangers_fini(&asked);
	strangers_fini(&read);
	return 0;
}

Test(strangers, sock_diag_and_proc_say_the_same)
{
	expect_in_namespace(wide_range, both_ways_agree);
}

/* What one process sees in its own /proc, and the kernel says. */
static int
owners_are_found(void)
{
	struct strangers_ports ports;
	struct strangers s;
	int fd = bind_to("127.0.0.1:40000");

	if (fd < 0 || listen(fd, 1) != 0)
		return 1;
	one_port(&ports, 40000);
	strangers_init(&s);
	if (strangers_read("", &ports, &s) != 0 || s.count != 1)
		return 2;
	strangers_name("", &s, 1000);
	int pid = s.items[0].pid;

	strangers_fini(&s);
	return pid == getpid() ? 0 : 3;
}

Test(strangers, the_process_of_one_that_listens_is_found)
{
	expect_in_namespace(wide_range, owners_are_found);
}

/* 1 when this kernel does not show them. */
static int
bound_ones_are_found(void)
{
	struct strangers_ports ports;
	struct stranger found;
	struct strangers s;
	int fd = bind_to("127.0.0.1:40000");
	int error = fd < 0 ? fd : find(40000, UINT64_MAX, &found);

	if (error == -ENOENT)
		return 1;
	if (!is_found(40000, STRANGER_BOUND, "127.0.0.1:40000"))
		return 2;
	/* Not at any price. */
	if (find(40000, 0, &found) != -ENOENT)
		return 5;
	one_port(&ports, 40000);
	strangers_init(&s);
	if (strangers_ask(&ports, &s) != 0 || s.count != 1 ||
	    s.items[0].state != STRANGER_BOUND)
		return 3;
	strangers_fini(&s);
	one_port(&ports, 40001);
	if (strangers_ask(&ports, &s) != 0 || s.count != 0)
		return 4;
	return 0;
}

Test(strangers, one_that_is_only_bound_is_found)
{
	int result = netns_run(wide_range, bound_ones_are_found);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	if (result == 1)
		cr_skip_test("this kernel does not show bound sockets");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

static bool
is_named(const char *source, bool anywhere, const char *local)
{
	struct stranger s;
	struct addr a;
	char text[ADDR_TEXT_MAX];
	int error;

	if (addr_parse(source, &a) != 0)
		return false;
	error = strangers_find(&a, anywhere, UINT64_MAX, &s);
	if (local == NULL)
		return error == -ENOENT;
	return error == 0 && strcmp(addr_format(&s.local, text), local) == 0;
}

/* 1 when this kernel does not show bound sockets. */
static int
others_are_innocent(void)
{
	struct stranger found;
	char text[ADDR_TEXT_MAX];

	/* On other ports. */
	for (uint16_t port = 22200; port < 22264; port++) {
		struct addr a = addr_v4(0x7f000009, port);

		if (peer_try_bind(&a) < 0)
			return 2;
	}
	if (!is_named("127.0.0.2:40000", true, NULL) ||
	    bind_to("127.0.0.9:40000") < 0)
		return 3;
	if (find(40000, UINT64_MAX, &found) == -ENOENT)
		return 1;
	if (strcmp(addr_format(&found.local, text), "127.0.0.9:40000") != 0)
		return 4;
	/* On another address, which matters to some. */
	if (!is_named("127.0.0.2:40000", true, "127.0.0.9:40000") ||
	    !is_named("127.0.0.2:40000", false, NULL))
		return 5;
	/* Here comes first. */
	if (bind_to("127.0.0.2:40000") < 0 ||
	    !is_named("127.0.0.2:40000", true, "127.0.0.2:40000") ||
	    !is_named("127.0.0.9:40000", true, "127.0.0.9:40000") ||
	    !is_named("127.0.0.2:40000", false, "127.0.0.2:40000"))
		return 6;
	if (bind_to("[::]:40001") < 0 ||
	    !is_named("127.0.0.2:40001", false, "[::]:40001") ||
	    bind_to("0.0.0.0:40002") < 0 ||
	    !is_named("127.0.0.2:40002", false, "0.0.0.0:40002") ||
	    !is_named("[::1]:40002", false, NULL))
		return 7;
	return 0;
}

Test(strangers, whoever_is_on_another_port_is_innocent)
{
	int result = netns_run(wide_range, others_are_innocent);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	if (result == 1)
		cr_skip_test("this kernel does not show bound sockets");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

static int
blocked_ports_are_told(void)
{
	int bound = bind_to("127.0.0.1:40000"), listens, shares;
	struct addr to;

	if (bound < 0 || !strangers_block(40000))
		return 1;
	close(bound);
	listens = bind_to("127.0.0.9:40001");
	if (listens < 0 || listen(listens, 1) != 0 || !strangers_block(40001))
		return 2;
	/* Who shares a port blocks nobody. */
	if (addr_parse("127.0.0.9:40001", &to) != 0 ||
	    peer_try_connect_sharing(40002, &to, &shares) != 0 ||
	    strangers_block(40002))
		return 3;
	return strangers_block(40003) ? 4 : 0;
}

Test(strangers, a_blocked_port_is_told_from_a_shared_one)
{
	expect_in_namespace(wide_range, blocked_ports_are_told);
}

/* Connected by another user, after it bound the port. */
static int
connected_ones_are_found(void)
{
	int listens = bind_to("127.0.0.1:30000");
	int bound = bind_to("127.0.0.1:40000");
	struct sockaddr_storage ss;
	struct stranger s;
	struct addr to;

	if (listens < 0 || listen(listens, 1) != 0 ||
	    addr_parse("127.0.0.1:30000", &to) != 0 || bound < 0)
		return 1;
	socklen_t len = addr_to_sockaddr(&to, &ss);

	if (connect(bound, (struct sockaddr *)&ss, len) != 0)
		return 2;
	/* It might be one of our own sessions. */
	if (find(40000, UINT64_MAX, &s) != -ENOENT)
		return 3;
	if (seteuid(1234) != 0)
		return 1;
	int error = find(40000, UINT64_MAX, &s);

	return error == 0 && s.state == STRANGER_CONNECTED && s.uid == 0 ? 0
									 : 4;
}

Test(strangers, one_that_another_user_has_connected_is_found)
{
	if (geteuid() != 0)
		cr_skip_test("only root can be another user");
	expect_in_namespace(wide_range, connected_ones_are_found);
}
