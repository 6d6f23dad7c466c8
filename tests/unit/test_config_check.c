/* SPDX-License-Identifier: ISC */
/* What has to hold between the sections of a file. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "config_text.h"

static const struct config_text_case cases[] = {
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
	/* alarms */
	{ "[alarms]\ntarget = 90%\ntarget-critical = 89%\n", "3",
	    "target-critical: 89% is below target = 90%" },
	{ "[alarms]\ntarget = 96%\n", "2", "95% is below target = 96%" },
	{ "[alarms]\ntarget-critical = 79%\n", "2",
	    "79% is below target = 80%" },
	{ "[alarms]\ntarget-critical = 5\ntarget = 90%\n", "2",
	    "has no %; expected off|1%..100%" },
	{ "[alarms]\n[alarms]\ntarget = 99%\n", "2",
	    "a second [alarms] section: line 1 has the first" },
	/* the control socket */
	{ "[control]\nsocket = /a/b\n[listen a]\n"
	  "address = 127.0.0.1:1 unix:/a/b\n",
	    "2", "unix:/a/b is listened on in [listen a] of line 3" },
	{ "[listen a]\naddress = 127.0.0.1:1\n"
	  "  unix:/run/fourfold/control.sock\n",
	    "3", "unix:/run/fourfold/control.sock is the control socket" },
};

Test(config_check, sections_that_do_not_go_together_are_errors)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		config_text_expect(
		    cases[i].text, cases[i].lines, cases[i].words);
}

Test(config_check, what_only_looks_like_an_error_is_none)
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
		"[alarms]\ntarget = 95%\n",
		"[alarms]\ntarget = 90%\ntarget-critical = off\n",
		"[alarms]\ntarget = off\ntarget-critical = 5%\n",
		"[control]\nsocket = off\n[listen a]\n"
		"address = unix:/run/fourfold/control.sock\n",
		"[control]\nsocket = /a\n[listen a]\n"
		"address = unix:/run/fourfold/control.sock\n",
		"[listen a] # one\naddress =   127.0.0.1:1   ;x\n\n  ; y\n"
		"\t \n\t127.0.0.1:2",
		"[proxy]\r\nworkers = 1\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		config_free(config_text_good(texts[i]));
}

Test(config_check, all_errors_come_in_one_run_in_the_order_of_lines)
{
	config_text_expect(
	    "[listen a]\n"               /* 1 */
	    "address = 0.0.0.0:1080\n"   /* 2: open */
	    "backlog = none\n"           /* 3 */
	    "egress = b\n"               /* 4: none */
	    "colour = red\n"             /* 5 */
	    "[listen b]\n"               /* 6 */
	    "address = 127.0.0.1:1080\n" /* 7: overlaps */
	    "auth = password\n"          /* 8: nobody */
	    "nonsense\n"                 /* 9 */
	    "[egress c]\n"               /* 10 */
	    "ports = 1 1080 2 2\n"       /* 11: twice; own port, in a and b */
	    "[log]\n"                    /* 12 */
	    "[log]\n"                    /* 13 */
	    "[weblog]\n",                /* 14 */
	    "2 3 4 5 7 8 9 11 11 11 13 14", "would be open");
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

Test(config_check, there_are_at_most_65534_users)
{
	char *text = many("user", "password = " HASH, 65534);
	struct config *c = config_text_good(text);

	cr_expect_eq(c->user_count, 65534);
	cr_expect_not_null(config_find_user(c, "n65533", 6));
	config_free(c);
	free(text);
	text = many("user", "password = " HASH, 65540);
	config_text_expect(text, "131069", "at most 65534");
	free(text);
}

Test(config_check, there_are_at_most_64_egresses)
{
	char text[8192];
	size_t len = 0;

	for (unsigned i = 0; i < 66; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "[egress n%u]\naddresses = 10.0.0.%u\n", i, i + 1);
		if (i == 63)
			config_free(config_text_good(text));
	}
	config_text_expect(text, "129", "at most 64");
}
