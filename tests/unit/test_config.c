/* SPDX-License-Identifier: ISC */
/* A configuration is text; what comes of it is a snapshot, or its errors. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "config_text.h"

static void
expect_same_listen(const struct config_listen *a, const struct config_listen *b)
{
	cr_expect_str_eq(a->name, b->name);
	cr_assert_eq(a->address_count, b->address_count);
	for (size_t i = 0; i < a->address_count; i++) {
		const struct config_address *x = &a->addresses[i];
		const struct config_address *y = &b->addresses[i];

		cr_expect(addr_equal(&x->ip, &y->ip));
		cr_expect_eq(x->ports.first, y->ports.first);
		cr_expect_eq(x->ports.last, y->ports.last);
		cr_expect_str_eq(x->path, y->path);
	}
	cr_expect_eq(a->password, b->password);
	cr_expect_eq(a->client_count, b->client_count);
	cr_expect_eq(a->open, b->open);
	cr_expect_eq(a->backlog, b->backlog);
	cr_expect_eq(a->defer_accept, b->defer_accept);
	cr_expect_eq(a->socket_mode, b->socket_mode);
	cr_expect_eq(a->egress, b->egress);
}

static void
expect_same_egress(const struct config_egress *a, const struct config_egress *b)
{
	cr_expect_str_eq(a->name, b->name);
	cr_expect_eq(a->address_count, b->address_count);
	cr_expect_eq(a->port_count, b->port_count);
	cr_expect_eq(a->bind, b->bind);
	cr_expect_eq(a->order, b->order);
	cr_expect_eq(a->sticky, b->sticky);
	cr_expect_eq(a->cooldown_ms, b->cooldown_ms);
	cr_expect_eq(a->wait_ms, b->wait_ms);
	cr_expect_eq(a->queue, b->queue);
}

static void
expect_limit(const struct config_limit *l, unsigned sessions, unsigned rate,
    unsigned share)
{
	cr_expect_eq(l->sessions, sessions);
	cr_expect_eq(l->rate, rate);
	cr_expect_eq(l->share, share);
}

static void
expect_same_limit(const struct config_limit *a, const struct config_limit *b)
{
	expect_limit(a, b->sessions, b->rate, b->share);
}

/* Of [limits], [alarms] and [control]. */
static void
expect_same_bounds(const struct config *a, const struct config *b)
{
	cr_expect_eq(a->client_bits_v4, b->client_bits_v4);
	cr_expect_eq(a->client_bits_v6, b->client_bits_v6);
	expect_same_limit(&a->client_limit, &b->client_limit);
	expect_same_limit(&a->user_limit, &b->user_limit);
	cr_expect_eq(a->alarms.target, b->alarms.target);
	cr_expect_eq(a->alarms.target_critical, b->alarms.target_critical);
	cr_expect_eq(a->alarms.cooling, b->alarms.cooling);
	cr_expect_eq(a->alarms.strangers, b->alarms.strangers);
	cr_expect_eq(a->alarms.descriptors, b->alarms.descriptors);
	cr_expect_eq(a->alarms.exhaustion_ms, b->alarms.exhaustion_ms);
	cr_expect_str_eq(a->control_path, b->control_path);
	cr_expect_eq(a->control_mode, b->control_mode);
	cr_expect_str_eq(a->control_group, b->control_group);
	cr_expect_eq(a->control_asked, b->control_asked);
}

/* All but the lines. */
static void
expect_same(const struct config *a, const struct config *b)
{
	cr_expect_eq(a->workers, b->workers);
	cr_expect_eq(a->max_sessions, b->max_sessions);
	cr_expect_str_eq(a->user, b->user);
	cr_expect_eq(a->drain_ms, b->drain_ms);
	cr_expect_eq(a->handshake_ms, b->handshake_ms);
	cr_expect_eq(a->connect_ms, b->connect_ms);
	cr_expect_eq(a->half_closed_ms, b->half_closed_ms);
	cr_expect_eq(a->idle_ms, b->idle_ms);
	cr_expect_eq(a->keepalive_ms, b->keepalive_ms);
	cr_expect_eq(a->splice, b->splice);
	cr_expect_eq(a->buffer_bytes, b->buffer_bytes);
	cr_expect_eq(a->max_buffer_bytes, b->max_buffer_bytes);
	cr_expect_eq(a->log_level, b->log_level);
	cr_expect_eq(a->log_access, b->log_access);
	cr_assert_eq(a->listen_count, b->listen_count);
	for (size_t i = 0; i < a->listen_count; i++)
		expect_same_listen(&a->listens[i], &b->listens[i]);
	cr_assert_eq(a->egress_count, b->egress_count);
	for (size_t i = 0; i < a->egress_count; i++)
		expect_same_egress(&a->egresses[i], &b->egresses[i]);
	expect_same_bounds(a, b);
	cr_expect_eq(a->user_count, b->user_count);
}

Test(config, without_text_the_defaults_are_as_documented)
{
	struct config *c = config_text_good(NULL);
	struct addr loopback = addr_v4(0x7f000001, 0);

	cr_expect_eq(c->workers, 0);
	cr_expect_eq(c->max_sessions, 0);
	cr_expect_str_eq(c->user, "");
	cr_expect_eq(c->drain_ms, 30000);
	cr_expect_eq(c->handshake_ms, 10000);
	cr_expect_eq(c->connect_ms, 10000);
	cr_expect_eq(c->half_closed_ms, 300000);
	cr_expect_eq(c->idle_ms, 0);
	cr_expect_eq(c->keepalive_ms, 60000);
	cr_expect_eq(c->splice, CONFIG_SPLICE_AUTO);
	cr_expect_eq(c->buffer_bytes, 64 * 1024);
	cr_expect_eq(c->max_buffer_bytes, 64 * 1024 * 1024);
	cr_expect_eq(c->log_level, LOG_LEVEL_INFO);
	cr_expect(c->log_access);
	cr_assert_eq(c->listen_count, 1);
	cr_expect_str_eq(c->listens[0].name, "default");
	cr_expect_eq(c->listens[0].line, 0);
	cr_assert_eq(c->listens[0].address_count, 1);
	cr_expect(addr_equal(&c->listens[0].addresses[0].ip, &loopback));
	cr_expect_eq(c->listens[0].addresses[0].ports.first, 1080);
	cr_expect_eq(c->listens[0].addresses[0].ports.last, 1080);
	cr_expect_not(c->listens[0].password);
	cr_expect_eq(c->listens[0].client_count, 0);
	cr_expect_not(c->listens[0].open);
	cr_expect_eq(c->listens[0].backlog, 4096);
	cr_expect_not(c->listens[0].defer_accept);
	cr_expect_eq(c->listens[0].socket_mode, 0666);
	cr_assert_eq(c->egress_count, 1);
	cr_expect_str_eq(c->egresses[0].name, "default");
	cr_expect_eq(c->egresses[0].address_count, 0);
	cr_expect_eq(c->egresses[0].port_count, 0);
	cr_expect_eq(c->egresses[0].bind, CONFIG_BIND_AUTO);
	cr_expect_eq(c->user_count, 0);
	config_free(c);
}

Test(config, without_text_nothing_is_limited_and_alarms_are_as_documented)
{
	struct config *c = config_text_good(NULL);
	const struct config_egress *e = c->egresses;

	cr_expect_eq(e->order, CONFIG_ORDER_PACKED);
	cr_expect_eq(e->sticky, CONFIG_STICKY_NONE);
	cr_expect_eq(e->cooldown_ms, CONFIG_AUTO_MS);
	cr_expect_eq(e->wait_ms, 5000);
	cr_expect_eq(e->queue, 1000);
	cr_expect_eq(c->client_bits_v4, 32);
	cr_expect_eq(c->client_bits_v6, 64);
	expect_limit(&c->client_limit, 0, 0, 0);
	expect_limit(&c->user_limit, 0, 0, 0);
	cr_expect_eq(c->alarms.target, 80);
	cr_expect_eq(c->alarms.target_critical, 95);
	cr_expect_eq(c->alarms.exhaustion_ms, 60000);
	cr_expect_eq(c->alarms.cooling, 50);
	cr_expect_eq(c->alarms.strangers, 50);
	cr_expect_eq(c->alarms.descriptors, 90);
	cr_expect_str_eq(c->control_path, "/run/fourfold/control.sock");
	cr_expect_eq(c->control_mode, 0660);
	cr_expect_str_eq(c->control_group, "");
	cr_expect_not(c->control_asked);
	config_free(c);
}

Test(config, an_empty_file_and_empty_sections_are_the_defaults)
{
	static const char *const texts[] = { "", "\n", "# nothing",
		"\xef\xbb\xbf", "\xef\xbb\xbf[proxy]\r\n",
		"[proxy]\n[timeouts]\n[log]\n[listen default]",
		"[log]\n[egress default]", "[limits]\n[alarms]\n[control]\n",
		"[ listen   default ] ; why\n\t\n   # what\n" };
	struct config *defaults = config_text_good(NULL);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct config *c = config_text_good(texts[i]);

		expect_same(c, defaults);
		config_free(c);
	}
	config_free(defaults);
}

Test(config, the_file_that_is_installed_says_the_defaults)
{
	struct config *defaults = config_text_good(NULL), *c;
	char text[32768];
	FILE *file = fopen(FOURFOLD_SOURCE_DIR "/conf/fourfold.conf", "r");
	size_t len;

	cr_assert_not_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	cr_assert_eq(fclose(file), 0);
	cr_assert_lt(len, sizeof(text) - 1);
	text[len] = '\0';
	c = config_text_good(text);
	expect_same(c, defaults);
	config_free(c);
	config_free(defaults);
}

Test(config, the_description_has_every_section_and_option)
{
	static const char *const words[] = { "[proxy]", "[listen NAME]",
		"[egress NAME]", "[user NAME]", "[timeouts]", "[log]",
		"  workers = auto|1..127\n", "  max-sessions = auto|",
		"  user = auto|NAME\n", "  drain-timeout = DURATION",
		"  address = list of IP:PORT", "  auth = none|password\n",
		"  clients = list of IP", "  open = no|yes\n",
		"  backlog = ", "  defer-accept = no|yes\n",
		"  socket-mode = ", "  egress = NAME\n",
		"  addresses = ", "  ports = auto or ",
		"  bind = auto|range|explicit|kernel\n",
		"  order = packed|hashed\n", "  sticky = none|client|user\n",
		"  cooldown = auto or DURATION (0s..10m)\n",
		"  wait = off or DURATION (1ms..1h)\n",
		"  queue = 1..1000000\n", "  max-sessions = off|1..10000000\n",
		"  max-rate = off|1..1000000\n", "  max-share = off|1%..100%\n",
		"  reserve = 0..1000000\n", "[limits]",
		"  client-prefix-v4 = 1..32\n", "  client-prefix-v6 = 1..128\n",
		"  client-max-sessions = off|1..10000000\n",
		"  client-max-rate = off|", "  client-max-share = off|",
		"  user-max-sessions = off|", "  user-max-rate = off|",
		"  user-max-share = off|", "[alarms]",
		"  target = off|1%..100%\n",
		"  target-critical = off|1%..100%\n",
		"  exhaustion = off or DURATION (1s..1d)\n", "  cooling = off|",
		"  strangers = off|", "  descriptors = off|", "[control]",
		"  socket = off|unix:/PATH|/PATH\n", "  mode = 0000..0777\n",
		"  group = auto|NAME\n",
		"  password = HASH (by fourfold passwd)\n", "  handshake = ",
		"  connect = ", "  half-closed = ", "  idle = off",
		"  keepalive = off", "[relay]", "  splice = no|yes|auto\n",
		"  buffer = SIZE (4K..1M)\n",
		"  max-buffer-memory = SIZE (64K..64G)\n",
		"  level = error|warning|info|debug\n", "  access = no|yes\n",
		"Default: 127.0.0.1:1080\n", "Default: all clients\n",
		"Default: as in [limits]\n" };
	char *text;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	cr_assert_not_null(stream);
	config_describe(stream);
	cr_assert_eq(fclose(stream), 0);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		cr_expect(
		    strstr(text, words[i]) != NULL, "no \"%s\"", words[i]);
	cr_expect(strstr(text, "(null)") == NULL);
	free(text);
}

Test(config, every_option_arrives_in_the_snapshot)
{
	struct config *c = config_text_good("[proxy]\n"
					    "workers = 7\n"
					    "max-sessions=70000\n"
					    "user : proxy\n"
					    "drain-timeout = 0s ; at once\n"
					    "[timeouts]\n"
					    "handshake = 500ms\n"
					    "connect = 1h\n"
					    "half-closed = 2d\n"
					    "idle = 90m\n"
					    "keepalive = off\n"
					    "[relay]\n"
					    "splice = yes\n"
					    "buffer = 128K\n"
					    "max-buffer-memory = 2G\n"
					    "[log]\n"
					    "level = debug\n"
					    "access = no\n");

	cr_expect_eq(c->workers, 7);
	cr_expect_eq(c->max_sessions, 70000);
	cr_expect_str_eq(c->user, "proxy");
	cr_expect_eq(c->drain_ms, 0);
	cr_expect_eq(c->handshake_ms, 500);
	cr_expect_eq(c->connect_ms, 3600000);
	cr_expect_eq(c->half_closed_ms, 2 * 86400000u);
	cr_expect_eq(c->idle_ms, 90 * 60000);
	cr_expect_eq(c->keepalive_ms, 0);
	cr_expect_eq(c->splice, CONFIG_SPLICE_YES);
	cr_expect_eq(c->buffer_bytes, 128 * 1024);
	cr_expect_eq(c->max_buffer_bytes, UINT64_C(2) << 30);
	cr_expect_eq(c->log_level, LOG_LEVEL_DEBUG);
	cr_expect_not(c->log_access);
	config_free(c);
}

Test(config, every_bound_arrives_in_the_snapshot)
{
	struct config *c = config_text_good("[limits]\n"
					    "client-prefix-v4 = 24\n"
					    "client-prefix-v6 = 56\n"
					    "client-max-sessions = 100\n"
					    "client-max-rate = 20\n"
					    "client-max-share = 3%\n"
					    "user-max-sessions = 400\n"
					    "user-max-rate = 50\n"
					    "user-max-share = 6%\n"
					    "[alarms]\n"
					    "target = 71%\n"
					    "target-critical = 82%\n"
					    "exhaustion = 2m\n"
					    "cooling = off\n"
					    "strangers = 43%\n"
					    "descriptors = 54%\n"
					    "[control]\n"
					    "socket = unix:/tmp/c.sock\n"
					    "mode = 600\n"
					    "group = adm\n");

	cr_expect_eq(c->client_bits_v4, 24);
	cr_expect_eq(c->client_bits_v6, 56);
	expect_limit(&c->client_limit, 100, 20, 3);
	expect_limit(&c->user_limit, 400, 50, 6);
	cr_expect_eq(c->alarms.target, 71);
	cr_expect_eq(c->alarms.target_critical, 82);
	cr_expect_eq(c->alarms.exhaustion_ms, 120000);
	cr_expect_eq(c->alarms.cooling, 0);
	cr_expect_eq(c->alarms.strangers, 43);
	cr_expect_eq(c->alarms.descriptors, 54);
	cr_expect_str_eq(c->control_path, "/tmp/c.sock");
	cr_expect_eq(c->control_mode, 0600);
	cr_expect_str_eq(c->control_group, "adm");
	cr_expect(c->control_asked);
	config_free(c);
}

Test(config, the_control_socket_is_asked_for_where_the_file_names_its_path)
{
	static const struct {
		const char *text, *path;
		bool asked;
	} cases[] = {
		{ "[control]\nmode = 0600\n", "/run/fourfold/control.sock",
		    false },
		{ "[control]\nsocket = /run/fourfold/control.sock\n",
		    "/run/fourfold/control.sock", true },
		{ "[control]\nsocket = off\n", "", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct config *c = config_text_good(cases[i].text);

		cr_expect_str_eq(c->control_path, cases[i].path);
		cr_expect_eq(c->control_asked, cases[i].asked);
		config_free(c);
	}
}

Test(config, a_user_has_its_own_limits_or_those_of_all)
{
	struct config *c = config_text_good(
	    "[user a]\npassword = " HASH "\n" /* before [limits] */
	    "[limits]\nuser-max-sessions = 10\nuser-max-rate = 20\n"
	    "user-max-share = 30%\nclient-max-sessions = 99\n"
	    "[user b]\npassword = " HASH "\nmax-rate = 21\nreserve = 7\n"
	    "[user c]\npassword = " HASH "\nmax-sessions = off\n"
	    "max-rate = off\nmax-share = off\n"
	    "[user d]\npassword = " HASH "\nmax-sessions = 11\n"
	    "max-share = 31%\nreserve = 0\n");

	cr_assert_eq(c->user_count, 4);
	expect_limit(&c->users[0].limit, 10, 20, 30);
	expect_limit(&c->users[1].limit, 10, 21, 30);
	expect_limit(&c->users[2].limit, 0, 0, 0);
	expect_limit(&c->users[3].limit, 11, 20, 31);
	cr_expect_eq(c->users[0].reserve, 0);
	cr_expect_eq(c->users[1].reserve, 7);
	config_free(c);
}

Test(config, a_listener_has_all_its_addresses)
{
	struct config *c =
	    config_text_good("[listen web]\n"
			     "address = 127.0.0.1:1080 0.0.0.0:2000-2009\n"
			     "\t[::1]:1080\n"
			     "# between\n"
			     "\n"
			     "  [fe80::1%7]:0 unix:/run/f.sock ; the last\n"
			     "auth = password\n"
			     "clients =\n"
			     "  10.0.0.0/8\n"
			     "  2001:db8::1\n"
			     "open = yes\nbacklog = 10\nsocket-mode = 600\n"
			     "defer-accept = yes\n"
			     "egress = b\n"
			     "[egress a]\naddresses = 192.0.2.1\n"
			     "[egress b]\naddresses = 192.0.2.2\n" USER);
	const struct config_listen *l = c->listens;
	const struct config_address *a = l->addresses;
	char text[ADDR_TEXT_MAX];

	cr_assert_eq(c->listen_count, 1);
	cr_expect_str_eq(l->name, "web");
	cr_expect_eq(l->line, 1);
	cr_assert_eq(l->address_count, 5);
	cr_expect_eq(a[0].line, 2);
	cr_expect_eq(a[1].ports.first, 2000);
	cr_expect_eq(a[1].ports.last, 2009);
	cr_expect_eq(a[2].line, 3);
	cr_expect_str_eq(addr_format(&a[2].ip, text), "[::1]:0");
	cr_expect_eq(a[2].ports.first, 1080);
	cr_expect_eq(a[3].ip.scope, 7);
	cr_expect_eq(a[3].ports.last, 0);
	cr_expect_eq(a[4].ip.family, ADDR_NONE);
	cr_expect_str_eq(a[4].path, "/run/f.sock");
	cr_expect_eq(a[4].line, 6);
	cr_expect(l->password);
	cr_assert_eq(l->client_count, 2);
	cr_expect_str_eq(prefix_format(&l->clients[0], text), "10.0.0.0/8");
	cr_expect_str_eq(
	    prefix_format(&l->clients[1], text), "2001:db8::1/128");
	cr_expect(l->open);
	cr_expect_eq(l->backlog, 10);
	cr_expect(l->defer_accept);
	cr_expect_eq(l->socket_mode, 0600);
	cr_expect_eq(l->egress, 1);
	config_free(c);
}

Test(config, an_egress_has_its_addresses_and_ports_in_order)
{
	struct config *c = config_text_good(
	    "[egress a]\n"
	    "addresses = 192.0.2.9 192.0.2.1 2001:db8::/64 10.0.0.0/30\n"
	    "ports = 40000 20000-20009\n\t65535 1\n"
	    "bind = explicit\norder = hashed\nsticky = user\n"
	    "cooldown = 0s\nwait = off\nqueue = 5\n");
	const struct config_egress *e = c->egresses;
	char text[ADDR_TEXT_MAX];

	cr_assert_eq(c->egress_count, 1);
	cr_assert_eq(e->address_count, 4);
	cr_expect_str_eq(prefix_format(&e->addresses[0], text), "192.0.2.9/32");
	cr_expect_str_eq(
	    prefix_format(&e->addresses[2], text), "2001:db8::/64");
	cr_expect_eq(e->addresses[3].bits, 30);
	cr_assert_eq(e->port_count, 4);
	cr_expect_eq(e->ports[1].first, 20000);
	cr_expect_eq(e->ports[1].last, 20009);
	cr_expect_eq(e->ports[2].first, 65535);
	cr_expect_eq(e->ports[3].last, 1);
	cr_expect_eq(e->bind, CONFIG_BIND_EXPLICIT);
	cr_expect_eq(e->order, CONFIG_ORDER_HASHED);
	cr_expect_eq(e->sticky, CONFIG_STICKY_USER);
	cr_expect_eq(e->cooldown_ms, 0);
	cr_expect_eq(e->wait_ms, 0);
	cr_expect_eq(e->queue, 5);
	config_free(c);
}

Test(config, users_are_found_by_the_bytes_of_their_name)
{
	struct config *c =
	    config_text_good("[user zoe]\npassword = " HASH "\n"
			     "[user J\xc3\xb6rg the 2nd]\npassword = " HASH
			     "\n" USER "[user Bob]\npassword = " HASH "\n");
	const struct config_user *u = config_find_user(c, "bob", 3);

	cr_assert_not_null(u);
	cr_expect_str_eq(u->name, "bob");
	cr_expect_eq(u->line, 5);
	cr_expect_str_eq(u->password, HASH);
	cr_expect_eq(c->user_count, 4);
	u = config_find_user(c, "J\xc3\xb6rg the 2nd", 13);
	cr_assert_not_null(u);
	cr_expect_eq(u->line, 3);
	cr_expect_not_null(config_find_user(c, "zoe", 3));
	cr_expect_not_null(config_find_user(c, "Bob", 3));
	cr_expect_null(config_find_user(c, "bo", 2));
	cr_expect_null(config_find_user(c, "bobo", 4));
	cr_expect_null(config_find_user(c, "bob\0", 4));
	cr_expect_null(config_find_user(c, "", 0));
	config_free(c);
}

static const struct config_text_case text_cases[] = {
	/* sections */
	{ "[proxi]\nworkers = x\n\tfoo\nnonsense\n", "1",
	    "did you mean [proxy]?" },
	{ "[listens web]\n", "1", "did you mean [listen NAME]?" },
	{ "[]\n", "1", "is no section" },
	{ "[nothing of ours]\n", "1",
	    "\"nothing\" is no section; expected proxy, listen NAME, egress "
	    "NAME, user NAME, limits, timeouts, relay, alarms, control, log" },
	{ "[proxy]\n[proxy]\nworkers = 0\n", "2 3", "line 1 has the first" },
	{ "[listen a]\n[egress b]\n[listen a]\n", "3",
	    "a second [listen] section named \"a\": line 1 has the first" },
	{ "[listen a]\n[listen a]\n[listen a]\n", "2 3", "a second" },
	{ USER USER, "3", "line 1 has the first" },
	{ "[listen]\n", "1", "expected [listen NAME]" },
	{ "[user ]\npassword = " HASH "\n", "1", "expected [user NAME]" },
	{ "[proxy main]\n", "1", "[proxy] takes no name" },
	{ "[listen a b]\n", "1", "has characters other than" },
	{ "[egress a23456789012345678901234567890123]\n", "1",
	    "is longer than 32" },
	{ "[proxy\nworkers = 0\n", "1 2", "without ]" },
	{ "[proxy] x\n", "1", "behind the ]" },
	{ "[::1]:1080\n", "1 1", "behind the ]" },
	{ "\n  [proxy]\n", "2", "at the start of the line" },
	{ "[user u]\n", "1", "without password = HASH" },
	{ USER "[user - ]\npassword = " HASH "\n", "3",
	    "the name \"-\" of [user NAME] means those who did not log in: "
	    "expected another" },
	{ "[listen a\xc2\x9b]\naddress = unix:/\xff unix:/\xff\n", "1 2",
	    "unix:/? is listened on twice, first in [listen] of line 1" },
	/* keys */
	{ "workers = 1\n", "1", "before any section" },
	{ "[proxy]\nworker = 1\n", "2", "did you mean workers?" },
	{ "[proxy]\nWORKERS = 1\n", "2", "did you mean workers?" },
	{ "[proxy]\naddress = 1\n", "2",
	    "is no option of [proxy]; expected workers, max-sessions, user, "
	    "drain-timeout" },
	{ "[proxy]\nworkers = 1\nworkers = 1\n", "3", "line 2 did already" },
	{ "[listen a]\naddress = 127.0.0.1:1\n\naddress = 127.0.0.1:2\n  x\n",
	    "4", "set twice" },
	{ "[proxy]\nworkers\n", "2", "expected KEY = VALUE" },
	{ "[proxy]\nworkers", "2", "expected KEY = VALUE" },
	{ "[proxy]\n= 1\n", "2", "no key before the =" },
	{ "[proxy]\na\nb\n\nc\n", "2 3 5", "expected KEY = VALUE" },
	{ "[proxy]\n  workers = 1\n  user = x\n", "2 3",
	    "at the start of the line" },
	{ "[proxy]\nworkers = 1\n  user = x\n", "3", "continues workers" },
	{ "[proxy]\nworkers = x\n  user = x\n  y\n", "2 3 4",
	    "continues workers" },
	{ "[proxy]\nworkers =\n  1\n", "3", "takes one value on one line" },
	{ "[listen a]\naddress = 127.0.0.1:1\n  auth = none\n", "3",
	    "at the start of their line" },
	{ "[listen a]\naddress = 127.0.0.1:1\n  x\n  y z\n", "3 4 4",
	    "\"x\" has no port" },
	{ "[proxy]\nworkers = 1\001\n", "2", "a control character" },
	{ "[user bob]\npasword = hunter2\n", "1 2",
	    "unknown option of [user NAME]; did you mean password?" },
	{ "[user bob]\nsecret = hunter2\n", "1 2",
	    "unknown option of [user NAME]; expected password, max-sessions, "
	    "max-rate, max-share, reserve" },
	{ "[limits]\nmax-sessions = 1\n", "2",
	    "client-max-share, user-max-sessions, user-max-rate, "
	    "user-max-share" },
	{ "[limit]\n[alarm]\n[controls]\n", "1 2 3", "did you mean [alarms]?" },
};

Test(config, errors_have_their_line_and_come_once)
{
	for (size_t i = 0; i < ARRAY_LEN(text_cases); i++)
		config_text_expect(text_cases[i].text, text_cases[i].lines,
		    text_cases[i].words);
}

Test(config, a_secret_is_never_repeated)
{
	static const char *const texts[] = {
		"[user a]\npassword = hunter2\n",
		"[user a]\npassword = \n  hunter2\n",
		"[user a]\npassword hunter2\n",
		"[user a]\nhunter2\n",
		"[user a]\nhunter2 = x\n",
		"[user a]\npassword = " HASH "hunter2\n",
		"[user a]\npasswort = $scrypt$hunter2\n",
		"[user a]\npassword = " HASH "\npassword = hunter2\n",
		"[listen a]\nauth = hunter2\n",
		"[proxy]\nuser = $scrypt$hunter2\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char *errors;

		cr_expect_null(
		    config_text_bytes(texts[i], strlen(texts[i]), &errors));
		cr_expect(strstr(errors, "hunter") == NULL, "%s", errors);
		cr_expect(strstr(errors, "c2Fsd") == NULL, "%s", errors);
		free(errors);
	}
}

Test(config, a_text_with_a_nul_byte_is_no_text)
{
	static const char text[] = "[proxy]\nwork\0ers = 1\n[what]\n";

	config_text_expect_bytes(text, sizeof(text) - 1, "2", "a NUL byte");
}

Test(config, a_line_that_is_too_long_is_an_error_and_not_two_lines)
{
	char text[2048], name[400];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(text, sizeof(text),
	    "[listen a]\naddress = 192.0.2.1:5\nclients = 10.0.0.0/8 %s\n"
	    "  10.1.0.0/16 %s\nopen = %s\n[log]\nlevel = x\n",
	    name, name, name);
	config_text_expect(text, "3 4 5 7", "longer than 199 bytes");
	snprintf(text, sizeof(text), "[proxy]\n%s\nworkers = 1\n", name);
	config_text_expect(text, "2", "longer than 199 bytes");
	/* A comment may be, and so may a user's name. */
	snprintf(text, sizeof(text),
	    "# %s\n[user %.255s] ; %s\npassword = " HASH "\n", name, name,
	    name);
	config_free(config_text_good(text));
	snprintf(
	    text, sizeof(text), "[user %.256s]\npassword = " HASH "\n", name);
	config_text_expect(text, "1", "is longer than 255 bytes");
}

Test(config, a_line_of_199_bytes_is_whole)
{
	char text[512];
	struct config *c;

	snprintf(text, sizeof(text), "[listen a]\naddress = %189s",
	    "127.0.0.1:1234");
	c = config_text_good(text);
	cr_expect_eq(c->listens[0].addresses[0].ports.first, 1234);
	config_free(c);
	snprintf(text, sizeof(text), "[listen a]\naddress = %190s",
	    "127.0.0.1:1234");
	config_text_expect(text, "2", "longer than 199 bytes");
}

Test(config, lists_end_somewhere)
{
	char *errors, text[16384];
	size_t len =
	    (size_t)snprintf(text, sizeof(text), "[listen a]\naddress =\n");

	for (unsigned i = 1; i <= 256; i++)
		len += (size_t)snprintf(
		    text + len, sizeof(text) - len, "  127.0.0.1:%u\n", i);
	config_free(config_text_good(text));
	snprintf(text + len, sizeof(text) - len, "  127.0.0.1:257\n");
	cr_expect_null(config_text_bytes(text, strlen(text), &errors));
	cr_expect(strstr(errors, "f:259: address: \"127.0.0.1:257\" is one "
				 "too many") != NULL,
	    "%s", errors);
	free(errors);
}

Test(config, the_control_socket_is_found_whatever_else_is_wrong)
{
	static const char fallback[] = "/run/fourfold/control.sock";
	static const struct {
		const char *text, *path;
	} rows[] = {
		{ "", fallback },
		{ "[control]\nsocket = /a\n", "/a" },
		{ "[control]\nsocket = off\n", "" },
		{ "[proxy]\nworkers = -1\n[control]\nsocket = unix:/a\n",
		    "/a" },
		{ "[contrl]\nx = 1\nx\n[control]\nmode = 9\nsocket = /a\n",
		    "/a" },
		{ "[control]\nsocket = /a\n[control]\nsocket = /b\n", "/a" },
		{ "[control]\nsocket = a\n", fallback },
		{ "[control]\nsocket =\n", fallback },
		{ "[control\nsocket = /a", "/a" },
		{ "\xff\xfe[", fallback },
	};
	char path[CONFIG_PATH_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		config_find_control(rows[i].text, strlen(rows[i].text), path);
		cr_expect_str_eq(
		    path, rows[i].path, "%s in\n%s", path, rows[i].text);
	}
	config_find_control(NULL, 0, path);
	cr_expect_str_eq(path, fallback);
	config_find_control("[control]\nsocket = /a\n\0", 24, path);
	cr_expect_str_eq(path, fallback);
}
