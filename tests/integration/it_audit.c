/* SPDX-License-Identifier: ISC */
/*
 * Audit: who had this source port towards that target at that time is a
 * question that the log answers with one line.
 */
#include "it.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon.h"
#include "egress/hostclock.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS 3

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

/* A moment as the log writes it. */
static uint64_t
moment(const char *line, const char *key)
{
	struct tm tm = { 0 };
	char text[64];
	unsigned ms;

	daemon_value(line, key, text, sizeof(text));
	IT_MUST(strlen(text) == 24, "%s is %s", key, text);
	IT_MUST(sscanf(text, "%d-%d-%dT%d:%d:%d.%3uZ", &tm.tm_year, &tm.tm_mon,
		    &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms) == 7,
	    "%s is %s", key, text);
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return (uint64_t)timegm(&tm) * 1000 + ms;
}

/* One port: one after the other has it towards the same target. */
Test(audit, one_line_says_who_had_a_port_towards_a_target_at_a_time)
{
	char target[ADDR_TEXT_MAX], pattern[200], words[4][ADDR_TEXT_MAX + 16];
	uint64_t from[SESSIONS], to[SESSIONS];
	char line[DAEMON_LINE_MAX], value[64];
	struct target t;
	struct pair p;

	namespace_enter_with_ports(&t, 40000, 40000);
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:1080\n"
		      "[egress e]\nports = 40000\naddresses = 127.0.0.1\n" });
	struct addr proxy = daemon_address(d, "a");
	struct addr at = target_at(&t, "127.0.0.1");

	addr_format(&at, target);
	/* The pattern of the README. */
	snprintf(pattern, sizeof(pattern),
	    " resolved=%s source=127.0.0.1:40000 ", target);
	snprintf(words[0], sizeof(words[0]), "resolved=%s", target);
	for (unsigned i = 0; i < SESSIONS; i++) {
		uint64_t before = clock_ms(CLOCK_REALTIME);

		pair_open_by(&p, peer_connect_numbered(i, &proxy), &t, &at);
		from[i] = clock_ms(CLOCK_REALTIME);
		struct addr client = peer_local(p.client);
		char text[ADDR_TEXT_MAX];

		snprintf(words[1 + i], sizeof(words[1 + i]), "client=%s",
		    addr_format(&client, text));
		/* Longer than the log's times are exact. */
		do
			pair_exchange(&p, i);
		while ((to[i] = clock_ms(CLOCK_REALTIME)) < from[i] + 3);
		pair_reset(&p);
		daemon_wait_lines(d, i + 1,
		    DAEMON_WORDS(
			"event=session", words[0], "source=127.0.0.1:40000"));
		cr_assert(daemon_log_contains(d, pattern));
		cr_assert(daemon_find_log(d, line, "event=session", words[0]));
		cr_expect_leq(before, moment(line, "since"));
		cr_expect_leq(moment(line, "start"), moment(line, "since"));
		cr_expect_leq(moment(line, "since"), from[i]);
		cr_expect_leq(to[i], moment(line, "end"));
		cr_expect_leq(moment(line, "end"), clock_ms(CLOCK_REALTIME));
		cr_expect_eq(moment(line, "end") - moment(line, "start"),
		    strtoul(
			daemon_value(line, "duration_ms", value, sizeof(value)),
			NULL, 10));
	}
	/* Of all lines with these numbers one spans the moment: that client's.
	 */
	for (unsigned i = 0; i < SESSIONS; i++) {
		unsigned spanning = 0;

		for (unsigned n = 0; n < SESSIONS; n++) {
			cr_assert(daemon_find_log(
			    d, line, "event=session", words[0], words[1 + n]));
			if (moment(line, "since") > from[i] ||
			    moment(line, "end") < to[i])
				continue;
			spanning++;
			cr_expect_eq(n, i);
		}
		cr_expect_eq(spanning, 1);
	}
	target_close(&t);
	daemon_stop(d);
}

/* The line for the only session towards `to`: with the one port of the pool. */
static void
expect_attempt(struct daemon *d, const struct addr *to, const char *reason,
    const char *source)
{
	char line[DAEMON_LINE_MAX], target[ADDR_TEXT_MAX];
	char words[3][ADDR_TEXT_MAX + 16];

	snprintf(words[0], sizeof(words[0]), "reason=%s", reason);
	snprintf(
	    words[1], sizeof(words[1]), "resolved=%s", addr_format(to, target));
	snprintf(words[2], sizeof(words[2]), "source=%s:50000", source);
	daemon_wait_lines(d, 1, DAEMON_WORDS(words[0], words[1], words[2]));
	cr_assert(daemon_find_log(d, line, words[0], words[1]));
	cr_expect_leq(moment(line, "start"), moment(line, "since"));
	cr_expect_leq(moment(line, "since"), moment(line, "until"));
	cr_expect_leq(moment(line, "until"), moment(line, "end"));
}

static void
see_attempts(const char *addresses, const char *source)
{
	struct target_silent silent;
	char config[300];
	struct target t;
	int client;

	/* The pool is beside the ports that the kernel chooses. */
	namespace_enter_with_ports(&t, 40000, 40999);
	snprintf(config, sizeof(config),
	    "[listen a]\naddress = 127.0.0.1:1080\n"
	    "[egress e]\nports = 50000\n%s[timeouts]\nconnect = 300ms\n",
	    addresses);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .config = config });
	struct addr proxy = daemon_address(d, "a");
	struct addr refusing = target_refusing();

	cr_assert_eq(socks_try(&proxy, &refusing, &client), 5);
	expect_attempt(d, &refusing, "refused", source);
	target_make_silent(&silent);
	cr_assert_eq(socks_try(&proxy, &silent.address, &client), 6);
	expect_attempt(d, &silent.address, "connect_timeout", source);
	target_close_silent(&silent);
	/* connect() says so itself, and no address was chosen by route. */
	struct addr nowhere = addr_v4(UINT32_C(0xc6336401), 443);

	cr_assert_eq(socks_try(&proxy, &nowhere, &client), 3);
	expect_attempt(d, &nowhere, "net_unreachable",
	    addresses[0] == '\0' ? "0.0.0.0" : source);
	target_close(&t);
	daemon_stop(d);
}

/* Who was asked remembers it, too. */
Test(audit, what_did_not_connect_says_which_port_it_had)
{
	see_attempts("addresses = 127.0.0.1\n", "127.0.0.1");
}

Test(audit, what_did_not_connect_by_route_says_which_port_it_had)
{
	see_attempts("", "127.0.0.1");
}
