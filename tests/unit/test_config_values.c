/* SPDX-License-Identifier: ISC */
/* What each option takes and what it does not. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "config_text.h"

/* One byte more than sun_path takes. */
#define TEN       "0123456789"
#define FIFTY     TEN TEN TEN TEN TEN
#define LONG_PATH "/" FIFTY FIFTY "1234567"

/* Of each option, values that are right and values that are not. */
struct option_case {
	const char *section, *key;
	const char *good[6];
	const char *bad[16];
};

static const struct option_case option_cases[] = {
	{ "proxy", "workers", { "auto", "1", "127" },
	    { "0", "128", "-1", "two", "1.5", "1 2", "", "Auto",
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
	{ "listen l", "defer-accept", { "yes", "no" },
	    { "", "true", "10s", "auto" } },
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
	{ "egress e", "order", { "packed", "hashed" },
	    { "", "random", "Packed", "packed hashed" } },
	{ "egress e", "sticky", { "none", "client", "user" },
	    { "", "yes", "off", "users" } },
	{ "egress e", "cooldown", { "auto", "0s", "0ms", "10m", "600s" },
	    { "", "off", "601s", "11m", "5", "62 s", "Auto" } },
	{ "egress e", "wait", { "off", "1ms", "1h" },
	    { "", "0s", "0ms", "61m", "auto", "5", "no" } },
	{ "egress e", "queue", { "1", "1000000" },
	    { "", "0", "1000001", "off", "1k" } },
	{ "user u", "password", { HASH },
	    { "", "hunter2", "$scrypt$", HASH " x" } },
	{ "user u", "max-sessions", { "off", "1", "10000000" },
	    { "", "0", "10000001", "auto", "5%" } },
	{ "user u", "max-rate", { "off", "1", "1000000" },
	    { "", "0", "1000001" } },
	{ "user u", "max-share", { "off", "1%", "100%" },
	    { "", "0%", "101%", "25" } },
	{ "user u", "reserve", { "0", "1000000" },
	    { "", "1000001", "off", "5%" } },
	{ "limits", "client-prefix-v4", { "1", "32" },
	    { "", "0", "33", "/24", "255.255.255.0" } },
	{ "limits", "client-prefix-v6", { "1", "128" },
	    { "", "0", "129", "off" } },
	{ "limits", "client-max-sessions", { "off", "1", "10000000" },
	    { "", "0", "10000001", "auto", "5%", "-1" } },
	{ "limits", "client-max-rate", { "off", "1", "1000000" },
	    { "", "0", "1000001", "5/s", "0.5", "none" } },
	{ "limits", "client-max-share", { "off", "1%", "100%" },
	    { "", "0%", "101%", "25", "%", "25 %", "25%%", "0.5%", "-1%",
		"half" } },
	{ "limits", "user-max-sessions", { "off", "1", "10000000" },
	    { "", "0", "10000001" } },
	{ "limits", "user-max-rate", { "off", "1", "1000000" },
	    { "", "0", "1000001" } },
	{ "limits", "user-max-share", { "off", "1%", "100%" },
	    { "", "0%", "101%", "1" } },
	{ "timeouts", "handshake", { "100ms", "1h" },
	    { "", "off", "99ms", "61m", "0s" } },
	{ "timeouts", "connect", { "100ms", "1h" }, { "", "off", "2h" } },
	{ "timeouts", "half-closed", { "100ms", "365d" },
	    { "", "off", "366d" } },
	{ "timeouts", "idle", { "off", "100ms", "365d" },
	    { "", "0s", "on", "366d" } },
	{ "timeouts", "keepalive", { "off", "1s", "9h" },
	    { "", "500ms", "10h", "0" } },
	{ "relay", "splice", { "no", "yes", "auto" },
	    { "", "off", "1", "always" } },
	{ "relay", "buffer", { "4K", "64K", "1024K", "1M" },
	    { "", "3K", "1025K", "2M", "65536", "64", "64k", "64KB", "64 K",
		"K", "off", "-64K", "0.5M", "18014398509481984K" } },
	{ "relay", "max-buffer-memory", { "64K", "1M", "64G", "65536M" },
	    { "", "63K", "65G", "64", "auto", "0", "1T",
		"18446744073709551615G" } },
	{ "alarms", "target", { "off", "1%", "95%" },
	    { "", "0%", "101%", "80", "auto" } },
	{ "alarms", "target-critical", { "off", "80%", "100%" },
	    { "", "0%", "101%", "95" } },
	{ "alarms", "exhaustion", { "off", "1s", "1d" },
	    { "", "0s", "999ms", "25h", "60", "80%" } },
	{ "alarms", "cooling", { "off", "1%", "100%" },
	    { "", "0%", "101%", "50" } },
	{ "alarms", "strangers", { "off", "1%", "100%" },
	    { "", "0%", "101%", "50" } },
	{ "alarms", "descriptors", { "off", "1%", "100%" },
	    { "", "0%", "101%", "90" } },
	{ "control", "socket", { "off", "/a", "unix:/run/a:b" },
	    { "", "/", "unix:", "unix:/", "a", "unix:a", "unix:off", "auto",
		LONG_PATH } },
	{ "control", "mode", { "0660", "0", "777" },
	    { "", "1777", "0888", "rw" } },
	{ "control", "group", { "auto", "adm", "_fourfold" },
	    { "", "a:b", "a b", "a23456789012345678901234567890123" } },
	{ "log", "level", { "error", "warning", "info", "debug" },
	    { "", "warn", "INFO", "4" } },
	{ "log", "access", { "yes", "no" }, { "", "on", "maybe" } },
};

/* A file with the option, and with what other sections must have for it. */
static void
case_text(
    const struct option_case *o, const char *value, char *out, size_t size)
{
	bool of_user = strcmp(o->section, "user u") == 0;
	bool is_password = strcmp(o->key, "password") == 0;

	snprintf(out, size, "%s\n\n%s\n\n[%s]\n%s = %s\n%s",
	    strcmp(o->section, "egress e") == 0 ? "" : "[egress e]",
	    of_user ? "" : USER, o->section, o->key, value,
	    of_user && !is_password ? "password = " HASH "\n" : "");
}

Test(config_values, every_option_takes_what_is_right)
{
	char text[2048];

	for (size_t i = 0; i < ARRAY_LEN(option_cases); i++)
		for (size_t j = 0; j < 6; j++) {
			if (option_cases[i].good[j] == NULL)
				break;
			case_text(&option_cases[i], option_cases[i].good[j],
			    text, sizeof(text));
			config_free(config_text_good(text));
		}
}

Test(config_values, every_option_refuses_what_is_wrong_and_names_the_line)
{
	char text[2048], words[64];

	_Static_assert(sizeof(LONG_PATH) - 1 == CONFIG_PATH_MAX + 1,
	    "LONG_PATH is too long by one");
	for (size_t i = 0; i < ARRAY_LEN(option_cases); i++) {
		const struct option_case *o = &option_cases[i];

		snprintf(words, sizeof(words), ": %s", o->key);
		for (size_t j = 0; j < 16 && o->bad[j] != NULL; j++) {
			size_t line = strcmp(o->section, "user u") == 0 ? 6 : 8;
			char lines[16];

			case_text(o, o->bad[j], text, sizeof(text));
			snprintf(lines, sizeof(lines), "%zu", line);
			config_text_expect(text, lines, words);
			if (strcmp(o->key, "password") == 0) {
				char *errors;

				cr_expect_null(config_text_bytes(
				    text, strlen(text), &errors));
				cr_expect(strstr(errors, "hunter") == NULL);
				cr_expect(strchr(errors, '$') == NULL);
				free(errors);
			}
		}
	}
}

Test(config_values, a_prefix_that_is_none_is_told_what_it_would_be)
{
	static const struct {
		const char *value, *words;
	} rows[] = {
		{ "10.9.0.0/15",
		    "addresses: \"10.9.0.0/15\" has address bits set behind "
		    "its length: the network is 10.8.0.0/15; expected " },
		{ "192.0.2.7/24", "the network is 192.0.2.0/24; " },
		{ "2001:db8::1/64", "the network is 2001:db8::/64; " },
		{ "2001:db8::ff/127", "the network is 2001:db8::fe/127; " },
		{ "10.0.0.0/33", "a length that is not a number from 0 to 32" },
		{ "10.0.0.0/", "a length that is not a number from 0 to 32" },
		{ "::1/129", "a length that is not a number from 0 to 128" },
		{ "::1/x", "a length that is not a number from 0 to 128" },
		{ "/24", "is not an IP address" },
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "[egress e]\naddresses = %s\n",
		    rows[i].value);
		config_text_expect(text, "2", rows[i].words);
	}
}
