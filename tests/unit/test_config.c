/* SPDX-License-Identifier: ISC */
/* A configuration is text; what comes of it is a snapshot, or its errors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "policy/auth.h"
#include "policy/config.h"

#define HASH                               \
	"$scrypt$ln=14,r=8,p=1$"           \
	"c2FsdHNhbHRzYWx0c2FsdA$"          \
	"a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5" \
	"a2V5a2V5a2U"
#define USER "[user bob]\npassword = " HASH "\n"

/* The snapshot, or NULL; `errors` is to be freed. */
static struct config *
parse_bytes(const char *text, size_t len, char **errors)
{
	struct config *c = NULL;
	size_t size;
	FILE *stream = open_memstream(errors, &size);
	int error;

	cr_assert_not_null(stream);
	error = config_parse("f", text, len, stream, &c);
	cr_assert_eq(fclose(stream), 0);
	cr_assert_eq(error == 0, c != NULL);
	cr_assert_eq(error == 0, **errors == '\0', "%s", *errors);
	cr_assert(error == 0 || error == -EINVAL);
	return c;
}

static struct config *
parse_good(const char *text)
{
	char *errors;
	struct config *c =
	    parse_bytes(text, text == NULL ? 0 : strlen(text), &errors);

	cr_assert_not_null(c, "for <%s>:\n%s", text, errors);
	free(errors);
	return c;
}

/* The lines of the errors, "2 5 5"; `errors` is written to. */
static void
lines_of(const char *errors, char *out, size_t size)
{
	out[0] = '\0';
	while (*errors != '\0') {
		size_t used = strlen(out);
		const char *end = strchr(errors, '\n');

		cr_assert_not_null(end);
		cr_assert_eq(strncmp(errors, "f:", 2), 0, "%s", errors);
		snprintf(out + used, size - used, "%s%lu", used == 0 ? "" : " ",
		    strtoul(errors + 2, NULL, 10));
		errors = end + 1;
	}
}

/* `text` has errors in exactly these lines, and they say `words`. */
static void
expect_bytes(const char *text, size_t len, const char *lines, const char *words)
{
	char *errors, found[4096];
	struct config *c = parse_bytes(text, len, &errors);

	cr_expect_null(c, "no error in <%s>", text);
	config_free(c);
	lines_of(errors, found, sizeof(found));
	cr_expect_str_eq(found, lines, "for <%s>: lines %s, not %s:\n%s", text,
	    found, lines, errors);
	cr_expect(strstr(errors, words) != NULL, "for <%s>: no \"%s\" in:\n%s",
	    text, words, errors);
	free(errors);
}

static void
expect(const char *text, const char *lines, const char *words)
{
	expect_bytes(text, strlen(text), lines, words);
}

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
	cr_expect_eq(a->socket_mode, b->socket_mode);
	cr_expect_eq(a->egress, b->egress);
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
	cr_expect_eq(a->log_level, b->log_level);
	cr_expect_eq(a->log_access, b->log_access);
	cr_assert_eq(a->listen_count, b->listen_count);
	for (size_t i = 0; i < a->listen_count; i++)
		expect_same_listen(&a->listens[i], &b->listens[i]);
	cr_assert_eq(a->egress_count, b->egress_count);
	for (size_t i = 0; i < a->egress_count; i++) {
		const struct config_egress *x = &a->egresses[i];
		const struct config_egress *y = &b->egresses[i];

		cr_expect_str_eq(x->name, y->name);
		cr_expect_eq(x->address_count, y->address_count);
		cr_expect_eq(x->port_count, y->port_count);
		cr_expect_eq(x->bind, y->bind);
	}
	cr_expect_eq(a->user_count, b->user_count);
}

Test(config, without_text_the_defaults_are_as_documented)
{
	struct config *c = parse_good(NULL);
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
	cr_expect_eq(c->listens[0].socket_mode, 0666);
	cr_assert_eq(c->egress_count, 1);
	cr_expect_str_eq(c->egresses[0].name, "default");
	cr_expect_eq(c->egresses[0].address_count, 0);
	cr_expect_eq(c->egresses[0].port_count, 0);
	cr_expect_eq(c->egresses[0].bind, CONFIG_BIND_AUTO);
	cr_expect_eq(c->user_count, 0);
	config_free(c);
}

Test(config, an_empty_file_and_empty_sections_are_the_defaults)
{
	static const char *const texts[] = { "", "\n", "# nothing",
		"\xef\xbb\xbf", "\xef\xbb\xbf[proxy]\r\n",
		"[proxy]\n[timeouts]\n[log]\n[listen default]",
		"[log]\n[egress default]",
		"[ listen   default ] ; why\n\t\n   # what\n" };
	struct config *defaults = parse_good(NULL);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct config *c = parse_good(texts[i]);

		expect_same(c, defaults);
		config_free(c);
	}
	config_free(defaults);
}

Test(config, the_file_that_is_installed_says_the_defaults)
{
	struct config *defaults = parse_good(NULL), *c;
	char text[32768];
	FILE *file = fopen(FOURFOLD_SOURCE_DIR "/conf/fourfold.conf", "r");
	size_t len;

	cr_assert_not_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	cr_assert_eq(fclose(file), 0);
	cr_assert_lt(len, sizeof(text) - 1);
	text[len] = '\0';
	c = parse_good(text);
	expect_same(c, defaults);
	config_free(c);
	config_free(defaults);
}

Test(config, the_description_has_every_section_and_option)
{
	static const char *const words[] = { "[proxy]", "[listen NAME]",
		"[egress NAME]", "[user NAME]", "[timeouts]", "[log]",
		"  workers = auto|1..200\n", "  max-sessions = auto|",
		"  user = auto|NAME\n", "  drain-timeout = DURATION",
		"  address = list of IP:PORT", "  auth = none|password\n",
		"  clients = list of IP", "  open = no|yes\n",
		"  backlog = ", "  socket-mode = ", "  egress = NAME\n",
		"  addresses = ", "  ports = auto or ",
		"  bind = auto|range|explicit|kernel\n",
		"  password = HASH (by fourfold passwd)\n", "  handshake = ",
		"  connect = ", "  half-closed = ", "  idle = off",
		"  keepalive = off", "  level = error|warning|info|debug\n",
		"  access = no|yes\n", "Default: 127.0.0.1:1080\n",
		"Default: all clients\n" };
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
	struct config *c = parse_good("[proxy]\n"
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
	cr_expect_eq(c->log_level, LOG_LEVEL_DEBUG);
	cr_expect_not(c->log_access);
	config_free(c);
}

Test(config, a_listener_has_all_its_addresses)
{
	struct config *c =
	    parse_good("[listen web]\n"
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
	cr_expect_eq(l->socket_mode, 0600);
	cr_expect_eq(l->egress, 1);
	config_free(c);
}

Test(config, an_egress_has_its_addresses_and_ports_in_order)
{
	struct config *c = parse_good(
	    "[egress a]\n"
	    "addresses = 192.0.2.9 192.0.2.1 2001:db8::/64 10.0.0.0/30\n"
	    "ports = 40000 20000-20009\n\t65535 1\n"
	    "bind = explicit\n");
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
	config_free(c);
}

Test(config, users_are_found_by_the_bytes_of_their_name)
{
	struct config *c =
	    parse_good("[user zoe]\npassword = " HASH "\n"
		       "[user J\xc3\xb6rg the 2nd]\npassword = " HASH "\n" USER
		       "[user Bob]\npassword = " HASH "\n");
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

/* Of each option, values that are right and values that are not. */
struct option_case {
	const char *section, *key;
	const char *good[6];
	const char *bad[16];
};

static const struct option_case option_cases[] = {
	{ "proxy", "workers", { "auto", "1", "200" },
	    { "0", "201", "-1", "two", "1.5", "1 2", "", "Auto",
		"99999999999999999999", "2 # two" } },
	{ "proxy", "max-sessions", { "auto", "1", "10000000" },
	    { "0", "10000001", "70k", "" } },
	{ "proxy", "user", { "auto", "nobody", "_fourfold" },
	    { "no body", "a:b", "a/b", "",
		"a23456789012345678901234567890123" } },
	{ "proxy", "drain-timeout", { "0s", "500ms", "30s", "7d" },
	    { "8d", "30", "s", "30 s", "off", "-1s", "1w", "1.5s",
		"999999999999999999d", "213503982335d", "" } },
	{ "listen l", "address",
	    { "127.0.0.1:0", "127.0.0.1:1-65535", "[::1]:1",
		"127.9.9.9:1 unix:/x", "unix:/run/a:b" },
	    { "", "127.0.0.1", "::1", "::1:80", "[127.0.0.1]:80",
		"localhost:80", "127.0.0.1:65536", "127.0.0.1:2-1",
		"127.0.0.1:0-5", "127.0.0.1:", "127.0.0.1:1-", "unix:x",
		"unix:", "[::ffff:127.0.0.1]:80", "127.0.0.1:80x", ":80" } },
	{ "listen l", "auth", { "none", "password" },
	    { "", "yes", "Password", "none password", "non" } },
	{ "listen l", "clients",
	    { "10.0.0.0/8 ::/0", "1.2.3.4", "10.0.0.0/8 10.0.0.0/16" },
	    { "", "10.0.0.1/8", "10.0.0.0/33", "all", "1.2.3.4 1.2.3.4",
		"::ffff:1.2.3.4", "1.2.3.4,1.2.3.5", "10.0.0.0/" } },
	{ "listen l", "open", { "yes", "no" }, { "", "true", "1", "YES" } },
	{ "listen l", "backlog", { "1", "65535" },
	    { "", "0", "65536", "many" } },
	{ "listen l", "socket-mode", { "0", "0666", "777" },
	    { "", "1777", "0888", "00600", "rw" } },
	{ "listen l", "egress", { "e" }, { "", "nobody", "a b", "e/e", "E" } },
	{ "egress e", "addresses",
	    { "192.0.2.1", "fe80::1%1 ::1", "192.0.2.0/24" },
	    { "", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1",
		"192.0.2.1 192.0.2.1", "192.0.2.0/24 192.0.2.7", "host",
		"::ffff:1.2.3.4", "192.0.2.1/24", "192.0.2.1:80" } },
	{ "egress e", "ports", { "auto", "1", "1-1079 1081-65535" },
	    { "", "0", "0-5", "70000", "5-4", "1000 1000", "1000-1010 1005",
		"auto 1000", "1000 auto", "auto auto", "1000,1001", "all",
		"1000 1001 70000" } },
	{ "egress e", "bind", { "auto", "range", "explicit", "kernel" },
	    { "", "auto|range", "rang", "RANGE", "0" } },
	{ "user u", "password", { HASH },
	    { "", "hunter2", "$scrypt$", HASH " x" } },
	{ "timeouts", "handshake", { "100ms", "1h" },
	    { "", "off", "99ms", "61m", "0s" } },
	{ "timeouts", "connect", { "100ms", "1h" }, { "", "off", "2h" } },
	{ "timeouts", "half-closed", { "100ms", "365d" },
	    { "", "off", "366d" } },
	{ "timeouts", "idle", { "off", "100ms", "365d" },
	    { "", "0s", "on", "366d" } },
	{ "timeouts", "keepalive", { "off", "1s", "9h" },
	    { "", "500ms", "10h", "0" } },
	{ "log", "level", { "error", "warning", "info", "debug" },
	    { "", "warn", "INFO", "4" } },
	{ "log", "access", { "yes", "no" }, { "", "on", "maybe" } },
};

/* A file with the option, and with what other sections must have for it. */
static void
case_text(
    const struct option_case *o, const char *value, char *out, size_t size)
{
	snprintf(out, size, "%s\n\n%s\n\n[%s]\n%s = %s\n",
	    strcmp(o->section, "egress e") == 0 ? "" : "[egress e]",
	    strcmp(o->section, "user u") == 0 ? "" : USER, o->section, o->key,
	    value);
}

Test(config, every_option_takes_what_is_right)
{
	char text[2048];

	for (size_t i = 0; i < ARRAY_LEN(option_cases); i++)
		for (size_t j = 0; j < 6; j++) {
			if (option_cases[i].good[j] == NULL)
				break;
			case_text(&option_cases[i], option_cases[i].good[j],
			    text, sizeof(text));
			config_free(parse_good(text));
		}
}

Test(config, every_option_refuses_what_is_wrong_and_names_the_line)
{
	char text[2048], words[64];

	for (size_t i = 0; i < ARRAY_LEN(option_cases); i++) {
		const struct option_case *o = &option_cases[i];

		snprintf(words, sizeof(words), ": %s", o->key);
		for (size_t j = 0; j < 16 && o->bad[j] != NULL; j++) {
			size_t line = strcmp(o->section, "user u") == 0 ? 6 : 8;
			char lines[16];

			case_text(o, o->bad[j], text, sizeof(text));
			snprintf(lines, sizeof(lines), "%zu", line);
			expect(text, lines, words);
			if (strcmp(o->key, "password") == 0) {
				char *errors;

				cr_expect_null(
				    parse_bytes(text, strlen(text), &errors));
				cr_expect(strstr(errors, "hunter") == NULL);
				cr_expect(strchr(errors, '$') == NULL);
				free(errors);
			}
		}
	}
}

struct text_case {
	const char *text, *lines, *words;
};

static const struct text_case text_cases[] = {
	/* sections */
	{ "[proxi]\nworkers = x\n\tfoo\nnonsense\n", "1",
	    "did you mean [proxy]?" },
	{ "[listens web]\n", "1", "did you mean [listen NAME]?" },
	{ "[]\n", "1", "is no section" },
	{ "[nothing of ours]\n", "1",
	    "\"nothing\" is no section; expected proxy, listen NAME, egress "
	    "NAME, user NAME, timeouts, log" },
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
	    "unknown option of [user NAME]: expected password" },
	/* an open proxy */
	{ "[listen a]\naddress = 127.0.0.1:1\n  0.0.0.0:2\n", "3",
	    "0.0.0.0:2 would be open to everybody" },
	{ "[listen a]\naddress = [::]:1\n", "2", "open to everybody" },
	{ "[listen a]\naddress = 192.0.2.1:1-2 192.0.2.2:1\nopen = no\n", "2",
	    "192.0.2.1:1-2 would be open to everybody" },
	{ "[listen a]\naddress = 192.0.2.1:1\nclients = everybody\n", "3",
	    "is not an IP address" },
	{ "[listen a]\naddress = 192.0.2.1:1\nclients =\n", "3",
	    "clients is empty" },
	{ "[listen a]\nauth = password\n", "2", "expected a [user NAME]" },
	/* listening addresses */
	{ "[listen a]\naddress = 127.0.0.1:1 127.0.0.1:1\n", "2",
	    "is listened on twice" },
	{ "[listen a]\n[listen b]\n", "2", "first in [listen a] of line 1" },
	{ "[listen a]\naddress = 127.0.0.1:5-9\n[listen b]\n"
	  "address = 127.0.0.1:9-12\n",
	    "4", "127.0.0.1:9-12 overlaps with 127.0.0.1:5-9" },
	{ "[listen a]\nopen=yes\naddress = 0.0.0.0:5\n  127.0.0.1:5\n", "4",
	    "overlaps with 0.0.0.0:5" },
	{ "[listen a]\nopen=yes\naddress = [::1]:5 [::]:5\n", "3",
	    "[::]:5 overlaps with [::1]:5" },
	{ "[listen a]\naddress = unix:/a unix:/b\n  unix:/a\n", "3",
	    "unix:/a is listened on twice" },
	/* pools */
	{ "[egress a]\n[egress b]\n", "2",
	    "[egress b] overlaps with [egress a] of line 1" },
	{ "[egress a]\naddresses = ::1\n[egress b]\n", "3", "by route" },
	{ "[egress a]\nports = 5-9\naddresses = 10.0.0.9 10.0.0.1\n"
	  "[egress b]\nports = 20 9-12\naddresses = 10.0.0.2 10.0.0.9\n",
	    "4", "10.0.0.9/32, port 9" },
	{ "[egress a]\naddresses = 10.0.0.0/8\n[egress b]\n"
	  "addresses = 9.1.1.1 10.1.1.1 2001:db8::1\n",
	    "3", "10.1.1.1/32, ports=auto" },
	{ "[egress a]\n[egress b]\nports = nonsense\n", "3", "has no port" },
	{ "[listen a]\naddress = 127.0.0.1:1000-1009\n[egress b]\n"
	  "ports = 999 1009-2000\n",
	    "4", "1009 is a port to listen on in [listen a] of line 1" },
	{ "[egress b]\nports = 1080\n", "2", "the built-in [listen default]" },
	{ "[listen a]\negress = defalt\n", "2", "did you mean default?" },
};

Test(config, errors_have_their_line_and_come_once)
{
	for (size_t i = 0; i < ARRAY_LEN(text_cases); i++)
		expect(text_cases[i].text, text_cases[i].lines,
		    text_cases[i].words);
}

Test(config, what_only_looks_like_an_error_is_none)
{
	static const char *const texts[] = {
		/* v4 and v6 wildcards are sockets of their own */
		"[listen a]\nopen=yes\naddress = 0.0.0.0:5 [::]:5\n",
		"[listen a]\naddress = 127.0.0.1:0 127.0.0.1:0\n",
		"[listen a]\naddress = [fe80::1%1]:5 [fe80::1%2]:5\n"
		"clients = fe80::/10\n",
		"[listen a]\naddress = 127.3.2.1:5 [::1]:5 unix:/a\n",
		"[listen a]\naddress = 0.0.0.0:5\nauth = password\n" USER,
		"[listen a]\naddress = 0.0.0.0:5\nclients = 10.0.0.0/8\n",
		/* whether auto has the port is the host's to say */
		"[egress a]\n[egress b]\nports = 40000\n",
		"[egress a]\nports = 1-9\n[egress b]\nports = 10-19\n",
		"[egress a]\naddresses = 10.0.0.1\n"
		"[egress b]\naddresses = 10.0.0.2 ::1\n",
		"[listen a]\naddress = 127.0.0.1:0 unix:/a\n"
		"[egress a]\nports = 1-65535\n",
		"[listen a]\negress = default\n",
		"[listen a] # one\naddress =   127.0.0.1:1   ;x\n\n  ; y\n"
		"\t \n\t127.0.0.1:2",
		"[proxy]\r\nworkers = 1\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		config_free(parse_good(texts[i]));
}

Test(config, all_errors_come_in_one_run_in_the_order_of_lines)
{
	expect("[listen a]\n"               /* 1 */
	       "address = 0.0.0.0:1080\n"   /* 2: open */
	       "backlog = none\n"           /* 3 */
	       "egress = b\n"               /* 4: none */
	       "colour = red\n"             /* 5 */
	       "[listen b]\n"               /* 6 */
	       "address = 127.0.0.1:1080\n" /* 7: overlaps */
	       "auth = password\n"          /* 8: nobody */
	       "nonsense\n"                 /* 9 */
	       "[egress c]\n"               /* 10 */
	       "ports = 1 1080 2 2\n" /* 11: twice; own port, in a and b */
	       "[log]\n"              /* 12 */
	       "[log]\n"              /* 13 */
	       "[weblog]\n",          /* 14 */
	    "2 3 4 5 7 8 9 11 11 11 13 14", "would be open");
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
		    parse_bytes(texts[i], strlen(texts[i]), &errors));
		cr_expect(strstr(errors, "hunter") == NULL, "%s", errors);
		cr_expect(strstr(errors, "c2Fsd") == NULL, "%s", errors);
		free(errors);
	}
}

Test(config, a_text_with_a_nul_byte_is_no_text)
{
	static const char text[] = "[proxy]\nwork\0ers = 1\n[what]\n";

	expect_bytes(text, sizeof(text) - 1, "2", "a NUL byte");
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
	expect(text, "3 4 5 7", "longer than 199 bytes");
	snprintf(text, sizeof(text), "[proxy]\n%s\nworkers = 1\n", name);
	expect(text, "2", "longer than 199 bytes");
	/* A comment may be, and so may a user's name. */
	snprintf(text, sizeof(text),
	    "# %s\n[user %.255s] ; %s\npassword = " HASH "\n", name, name,
	    name);
	config_free(parse_good(text));
	snprintf(
	    text, sizeof(text), "[user %.256s]\npassword = " HASH "\n", name);
	expect(text, "1", "is longer than 255 bytes");
}

Test(config, a_line_of_199_bytes_is_whole)
{
	char text[512];
	struct config *c;

	snprintf(text, sizeof(text), "[listen a]\naddress = %189s",
	    "127.0.0.1:1234");
	c = parse_good(text);
	cr_expect_eq(c->listens[0].addresses[0].ports.first, 1234);
	config_free(c);
	snprintf(text, sizeof(text), "[listen a]\naddress = %190s",
	    "127.0.0.1:1234");
	expect(text, "2", "longer than 199 bytes");
}

/* So many sections of the kind, numbered. */
static char *
many(const char *kind, const char *body, unsigned count)
{
	char *text;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	cr_assert_not_null(stream);
	for (unsigned i = 0; i < count; i++)
		fprintf(stream, "[%s n%u]\n%s\n", kind, i, body);
	cr_assert_eq(fclose(stream), 0);
	return text;
}

Test(config, there_are_at_most_65534_users)
{
	char *text = many("user", "password = " HASH, 65534);
	struct config *c = parse_good(text);

	cr_expect_eq(c->user_count, 65534);
	cr_expect_not_null(config_find_user(c, "n65533", 6));
	config_free(c);
	free(text);
	text = many("user", "password = " HASH, 65540);
	expect(text, "131069", "at most 65534");
	free(text);
}

Test(config, there_are_at_most_64_egresses)
{
	char text[8192];
	size_t len = 0;

	for (unsigned i = 0; i < 66; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "[egress n%u]\naddresses = 10.0.0.%u\n", i, i + 1);
		if (i == 63)
			config_free(parse_good(text));
	}
	expect(text, "129", "at most 64");
}

Test(config, lists_end_somewhere)
{
	char *errors, text[16384];
	size_t len =
	    (size_t)snprintf(text, sizeof(text), "[listen a]\naddress =\n");

	for (unsigned i = 1; i <= 256; i++)
		len += (size_t)snprintf(
		    text + len, sizeof(text) - len, "  127.0.0.1:%u\n", i);
	config_free(parse_good(text));
	snprintf(text + len, sizeof(text) - len, "  127.0.0.1:257\n");
	cr_expect_null(parse_bytes(text, strlen(text), &errors));
	cr_expect(strstr(errors, "f:259: address: \"127.0.0.1:257\" is one "
				 "too many") != NULL,
	    "%s", errors);
	free(errors);
}
