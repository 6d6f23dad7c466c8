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
