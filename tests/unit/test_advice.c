/* SPDX-License-Identifier: ISC */
#include "verdict.h"

/* How many rows there are. */
static unsigned
advise(struct verdict *v)
{
	FILE *out = fmemopen(v->text, sizeof(v->text), "w");
	unsigned count, lines = 0;

	cr_assert_not_null(out);
	v->text[0] = '\0';
	count = advice_write(&v->facts, out);
	fclose(out);
	for (const char *at = v->text; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	cr_expect_eq(count, lines, "%u rows, %u lines", count, lines);
	return count;
}

/* The only row has these words. */
static void
expect_row(struct verdict *v, const char *now, const char *command)
{
	char whole[512];

	cr_expect_eq(advise(v), 1, "%s", v->text);
	cr_expect(strncmp(v->text, now, strlen(now)) == 0,
	    "\"%s\" does not begin with \"%s\"", v->text, now);
	snprintf(whole, sizeof(whole), "this mends it: %s\n", command);
	verdict_expect(v, whole);
}

static void
expect_nothing(struct verdict *v)
{
	cr_expect_eq(advise(v), 0, "%s", v->text);
}

/* A host on which all is well, but for one thing. */
#define WITH(change, now, command)             \
	do {                                   \
		struct verdict v_;             \
		struct preflight_host *host;   \
		verdict_init(&v_, "");         \
		host = &v_.host;               \
		change;                        \
		verdict_make(&v_);             \
		expect_row(&v_, now, command); \
		verdict_fini(&v_);             \
	} while (0)

#define WITHOUT(change)                      \
	do {                                 \
		struct verdict v_;           \
		struct preflight_host *host; \
		verdict_init(&v_, "");       \
		host = &v_.host;             \
		change;                      \
		verdict_make(&v_);           \
		expect_nothing(&v_);         \
		verdict_fini(&v_);           \
	} while (0)

Test(advice, where_all_is_well_there_is_none)
{
	WITHOUT(host->files_soft = 1024);
}

Test(advice, a_port_closed_first_by_us_rests_by_tcp_tw_reuse)
{
	WITH(host->tw_reuse = 0, "net.ipv4.tcp_tw_reuse is 0; ",
	    "sysctl -w net.ipv4.tcp_tw_reuse=1");
	WITH(host->tw_reuse = 2, "net.ipv4.tcp_tw_reuse is 2; ",
	    "sysctl -w net.ipv4.tcp_tw_reuse=1");
}

Test(advice, what_tcp_tw_reuse_2_is_for_is_said)
{
	struct verdict v;

	verdict_init(&v, "");
	v.host.tw_reuse = 2;
	verdict_make(&v);
	advise(&v);
	verdict_expect(&v, "(targets on loopback aside)");
	v.host.tw_reuse = 0;
	advise(&v);
	cr_expect_null(strstr(v.text, "loopback"), "%s", v.text);
	verdict_fini(&v);
}

Test(advice, without_timestamps_reuse_does_not_help)
{
	WITH(host->timestamps = false, "net.ipv4.tcp_timestamps is 0; ",
	    "sysctl -w net.ipv4.tcp_timestamps=1");
}

Test(advice, a_longer_delay_of_reuse_is_in_vain)
{
	WITH(host->tw_reuse_ms = 5000,
	    "net.ipv4.tcp_tw_reuse_delay is 5000 ms; ",
	    "sysctl -w net.ipv4.tcp_tw_reuse_delay=1000");
	WITHOUT(host->tw_reuse_ms = 100);
}

Test(advice, a_cooldown_below_what_the_kernel_needs_is_told)
{
	struct verdict v;

	verdict_init(&v, "[egress main]\ncooldown = 5s\n");
	verdict_make(&v);
	expect_nothing(&v);
	v.host.tw_reuse_ms = 6000;
	expect_row(&v,
	    "[egress main] cooldown is 5000 ms, and the kernel keeps a "
	    "connection that we closed first for 6000 ms ",
	    "cooldown = auto");
	v.host.tw_reuse = 2;
	expect_row(&v,
	    "[egress main] cooldown is 5000 ms, and the kernel keeps a "
	    "connection that we closed first for 60000 ms (tcp_tw_reuse is 2)",
	    "cooldown = auto");
	v.host.tw_reuse = 1;
	v.host.timestamps = false;
	verdict_expect(&v, "for 60000 ms");
	verdict_fini(&v);
	/* Long enough; free at once when bound explicitly. */
	verdict_init(&v, "[egress one]\ncooldown = 60s\n"
			 "[egress two]\nbind = explicit\nports = 2000\n"
			 "cooldown = 0s\n");
	v.host.tw_reuse = 0;
	verdict_make(&v);
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, where_the_kernel_chooses_ports_their_rest_is_its_matter)
{
	struct verdict v;

	verdict_init(&v, "[egress main]\nbind = kernel\n");
	v.host.tw_reuse = 0;
	v.host.timestamps = false;
	verdict_make(&v);
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, fewer_buckets_than_sessions_forget)
{
	struct verdict v;

	verdict_init(&v, "[proxy]\nmax-sessions = 50000\n");
	v.host.tw_buckets = 49999;
	verdict_make(&v);
	expect_row(&v, "net.ipv4.tcp_max_tw_buckets is 49999; ",
	    "sysctl -w net.ipv4.tcp_max_tw_buckets=50000");
	v.host.tw_buckets = 50000;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, the_longest_backlog_that_is_cut_is_named)
{
	struct verdict v;

	verdict_init(&v, "[listen a]\naddress = 127.0.0.1:1080\n"
			 "backlog = 100\n[listen b]\naddress = 127.0.0.1:1081\n"
			 "backlog = 200\n");
	v.host.somaxconn = 128;
	verdict_make(&v);
	expect_row(&v, "net.core.somaxconn is 128; backlog = 200 of [listen b]",
	    "sysctl -w net.core.somaxconn=200");
	v.host.somaxconn = 200;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, two_tracked_connections_a_session_have_to_fit)
{
	struct verdict v;

	verdict_init(&v, "[proxy]\nmax-sessions = 50000\n");
	v.host.conntrack_max = 65536;
	verdict_make(&v);
	expect_row(&v, "net.netfilter.nf_conntrack_max is 65536; ",
	    "sysctl -w net.netfilter.nf_conntrack_max=100000");
	v.host.conntrack_max = 100000;
	expect_nothing(&v);
	/* No limit, and nothing there to track. */
	v.host.conntrack_max = 0;
	expect_nothing(&v);
	v.host.conntrack_max = -1;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, descriptors_that_hold_sessions_back_are_named)
{
	struct verdict v;
	char words[256];

	verdict_init(&v, "");
	verdict_limit(&v, 2, 10000);
	v.host.memory = UINT64_C(1) << 30;
	verdict_make(&v);
	cr_expect_eq(advise(&v), 1, "%s", v.text);
	snprintf(words, sizeof(words),
	    "a process may have %ju descriptors; with them 2 workers hold "
	    "20000 sessions, and the memory would do for 65536; this mends it: "
	    "max-sessions = 49152,",
	    (uintmax_t)v.host.files_hard);
	verdict_expect(&v, words);
	snprintf(words, sizeof(words),
	    "or LimitNOFILE=%ju in the unit, or ulimit -n %ju before",
	    (uintmax_t)capacity_descriptors(v.config, 2, 49152 / 2),
	    (uintmax_t)capacity_descriptors(v.config, 2, 49152 / 2));
	verdict_expect(&v, words);
	/* Nor is more of any use. */
	v.host.memory = UINT64_C(26600) * CAPACITY_SESSION_BYTES;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, what_is_advised_of_sessions_can_be_had)
{
	struct verdict v;
	char advised[64];

	verdict_init(&v, "");
	v.host.files_hard = 1024;
	verdict_make(&v);
	cr_expect_eq(advise(&v), 1, "%s", v.text);
	snprintf(advised, sizeof(advised), "max-sessions = %ju,",
	    (uintmax_t)capacity_most(v.config, 1024));
	verdict_expect(&v, advised);
	/* Of one process no more than fs.nr_open. */
	verdict_expect(&v, "LimitNOFILE=1048576 ");
	verdict_fini(&v);
}

Test(advice, more_workers_than_processors_are_told)
{
	struct verdict v;
	char now[128], command[128];

	verdict_init(&v, "[proxy]\nmax-sessions = 50000\n");
	verdict_limit(&v, 5, 10000);
	verdict_make(&v);
	snprintf(now, sizeof(now),
	    "a process may have %ju descriptors; max-sessions = 50000 takes 5 "
	    "workers",
	    (uintmax_t)v.host.files_hard);
	snprintf(command, sizeof(command),
	    "LimitNOFILE=%ju in the unit, or ulimit -n %ju before the start",
	    (uintmax_t)capacity_descriptors(v.config, 2, 25000),
	    (uintmax_t)capacity_descriptors(v.config, 2, 25000));
	expect_row(&v, now, command);
	verdict_fini(&v);
	/* As many as the file says are as many as were wanted. */
	verdict_init(&v, "[proxy]\nmax-sessions = 50000\nworkers = 5\n");
	verdict_limit(&v, 5, 10000);
	verdict_make(&v);
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, files_of_all_processes_have_to_suffice)
{
	struct verdict v;
	uint64_t wanted;
	char command[64];

	verdict_init(&v, "[proxy]\nmax-sessions = 50000\n");
	v.host.files_max = 80000;
	verdict_make(&v);
	wanted = capacity_descriptors(v.config, 2, 50000);
	snprintf(command, sizeof(command), "sysctl -w fs.file-max=%ju",
	    (uintmax_t)(2 * wanted));
	expect_row(&v, "fs.file-max is 80000; ", command);
	v.host.files_max = (int64_t)wanted;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, sessions_beyond_the_memory_are_told)
{
	struct verdict v;

	verdict_init(&v, "[proxy]\nmax-sessions = 100000\n");
	v.host.memory = UINT64_C(1) << 30;
	verdict_make(&v);
	expect_row(&v,
	    "1024 MB of memory are available; 100000 sessions take 1562 MB",
	    "max-sessions = 49152");
	/* Not known is no reason. */
	v.host.memory = 0;
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, ports_auto_has_what_the_range_has)
{
	struct verdict v;

	WITH(host->port_last = 40000,
	    "net.ipv4.ip_local_port_range is 32768-40000; ports = auto",
	    "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"");
	WITHOUT(host->port_first = 1024);
	/* Named ports are preflight's to judge. */
	verdict_init(&v, "[egress e]\nports = 33000-33009\n");
	v.host.port_last = 40000;
	verdict_make(&v);
	expect_nothing(&v);
	verdict_fini(&v);
}

Test(advice, ports_auto_does_without_reserved_ones)
{
	WITH(cr_assert_eq(
		 preflight_parse_ports("80,40000-40009,61000", host->reserved),
		 0),
	    "net.ipv4.ip_local_reserved_ports holds 10 ports of",
	    "sysctl -w net.ipv4.ip_local_reserved_ports=\"80,61000\"");
	WITHOUT(
	    cr_assert_eq(preflight_parse_ports("80,61000", host->reserved), 0));
}

/* ---- strangers ---- */

static void
strangers_scene(struct verdict *v, const char *file)
{
	verdict_init(v, file);
	verdict_make(v);
}

Test(advice, a_program_on_ports_of_a_pool_is_named_once)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-40009 50000\n");
	verdict_add_stranger(
	    &v, "0.0.0.0:40003", STRANGER_LISTENS, 812, "nginx");
	verdict_add_stranger(&v, "[::]:40003", STRANGER_LISTENS, 812, "nginx");
	verdict_add_stranger(
	    &v, "127.0.0.9:40001", STRANGER_LISTENS, 812, "nginx");
	verdict_add_stranger(
	    &v, "127.0.0.9:40100", STRANGER_LISTENS, 812, "nginx");
	expect_row(&v,
	    "[egress main] nginx (pid 812, uid 33) listens on ports "
	    "40001,40003; no session gets them meanwhile; end that program, or",
	    "ports = 40000 40002 40004-40009 50000");
	verdict_fini(&v);
}

Test(advice, programs_and_states_are_told_apart)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-40009\n");
	verdict_add_stranger(&v, "1.1.1.1:40000", STRANGER_BOUND, 7, "b");
	verdict_add_stranger(&v, "1.1.1.1:40001", STRANGER_LISTENS, 7, "b");
	verdict_add_stranger(&v, "1.1.1.1:40002", STRANGER_CONNECTED, 7, "b");
	verdict_add_stranger(&v, "1.1.1.1:40003", STRANGER_GONE, 0, "");
	verdict_add_stranger(&v, "1.1.1.1:40004", STRANGER_LISTENS, 0, "");
	verdict_add_stranger(&v, "1.1.1.1:40005", STRANGER_LISTENS, 8, "b");
	cr_expect_eq(advise(&v), 6, "%s", v.text);
	verdict_expect(&v, "b (pid 7, uid 33) has bound port 40000; no session "
			   "gets it meanwhile;");
	verdict_expect(&v, "b (pid 7, uid 33) listens on port 40001;");
	verdict_expect(&v, "b (pid 7, uid 33) has connections from sockets "
			   "that it bound to port 40002;");
	verdict_expect(&v, "a program has just left port 40003; no session "
			   "gets it for a minute at most\n");
	verdict_expect(&v, "a program of uid 33 (root sees which) listens on "
			   "port 40004;");
	verdict_expect(&v, "b (pid 8, uid 33) listens on port 40005;");
	/* One of these mends it all. */
	verdict_expect(&v, "listens on port 40005; no session gets it "
			   "meanwhile; end that program, or this mends it: "
			   "ports = 40003 40006-40009\n");
	verdict_fini(&v);
}

Test(advice, of_ports_auto_the_host_can_keep_a_port_out)
{
	struct verdict v;

	verdict_init(&v, "");
	cr_assert_eq(preflight_parse_ports("80", v.host.reserved), 0);
	verdict_make(&v);
	verdict_add_stranger(&v, "0.0.0.0:40000", STRANGER_LISTENS, 7, "b");
	expect_row(&v,
	    "[egress default] b (pid 7, uid 33) listens on port 40000",
	    "sysctl -w net.ipv4.ip_local_reserved_ports=\"80,40000\"");
	verdict_fini(&v);
}

/* Bound explicitly, addresses are apart. */
Test(advice, where_ports_are_not_shared_another_address_is_no_matter)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-40009\n"
			    "bind = explicit\naddresses = 127.0.0.0/30\n");
	verdict_add_stranger(&v, "127.0.0.9:40000", STRANGER_LISTENS, 7, "b");
	verdict_add_stranger(&v, "[::1]:40000", STRANGER_LISTENS, 7, "b");
	v.host.port_last = 39999;
	cr_expect_eq(advise(&v), 0, "%s", v.text);
	verdict_add_stranger(&v, "127.0.0.3:40001", STRANGER_LISTENS, 7, "b");
	verdict_add_stranger(&v, "0.0.0.0:40002", STRANGER_LISTENS, 7, "b");
	cr_expect_eq(advise(&v), 1, "%s", v.text);
	verdict_expect(&v, "listens on ports 40001-40002;");
	verdict_fini(&v);
}

Test(advice, by_route_any_address_is_in_the_way)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-40009\n"
			    "bind = explicit\n");
	verdict_add_stranger(&v, "127.0.0.9:40000", STRANGER_LISTENS, 7, "b");
	verdict_add_stranger(&v, "[::1]:40001", STRANGER_LISTENS, 7, "b");
	cr_expect_eq(advise(&v), 1, "%s", v.text);
	verdict_expect(&v, "listens on ports 40000-40001;");
	verdict_fini(&v);
}

Test(advice, where_the_kernel_chooses_strangers_are_its_matter)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nbind = kernel\n");
	verdict_add_stranger(&v, "0.0.0.0:40000", STRANGER_LISTENS, 7, "b");
	expect_nothing(&v);
	cr_expect_not(advice_shares(&v.pools[0], 40000));
	verdict_fini(&v);
}

Test(advice, only_so_many_programs_are_named)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-40099\n");
	for (int i = 0; i < 25; i++) {
		char local[32];

		snprintf(local, sizeof(local), "0.0.0.0:%d", 40000 + i);
		verdict_add_stranger(
		    &v, local, STRANGER_LISTENS, 100 + i, "many");
	}
	cr_expect_eq(advise(&v), 21);
	verdict_expect(
	    &v, "[egress main] and 5 more programs are in the way\n");
	verdict_fini(&v);
}

Test(advice, a_list_too_long_for_an_option_becomes_words)
{
	struct verdict v;

	strangers_scene(&v, "[egress main]\nports = 40000-41000\n");
	for (int i = 0; i < 200; i++) {
		char local[32];

		snprintf(local, sizeof(local), "0.0.0.0:%d", 40000 + 2 * i);
		verdict_add_stranger(&v, local, STRANGER_LISTENS, 7, "many");
	}
	expect_row(&v,
	    "[egress main] many (pid 7, uid 33) listens on ports "
	    "40000,40002,",
	    "name ports = without them");
	verdict_expect(&v, ",...; no session");
	verdict_fini(&v);
}

Test(advice, each_pool_has_its_strangers)
{
	struct verdict v;

	strangers_scene(&v, "[egress one]\nports = 40000\n"
			    "[egress two]\nports = 40001\n");
	verdict_add_stranger(&v, "0.0.0.0:40001", STRANGER_LISTENS, 7, "b");
	cr_expect_eq(advise(&v), 1, "%s", v.text);
	verdict_expect(&v, "[egress two] b ");
	cr_expect(advice_shares(&v.pools[0], 40000));
	cr_expect_not(advice_shares(&v.pools[0], 40001));
	verdict_fini(&v);
}
