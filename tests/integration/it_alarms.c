/* SPDX-License-Identifier: ISC */
/*
 * Alarms: one line where one begins and one where it ends, whatever becomes of
 * the observer that watches.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct addr proxy;
	struct target target;
	char words[ADDR_TEXT_MAX + 8]; /* target=... of the first target */
};

/* 10 ports towards each target. */
static void
scene_open(struct scene *s)
{
	char text[ADDR_TEXT_MAX];

	namespace_enter_with_ports(&s->target, 30000, 40009);
	s->daemon =
	    daemon_start(&(struct daemon_setup){ .proxy = "workers = 2\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress main]\nports = 40000-40009\nwait = off\n" });
	s->proxy = daemon_address(s->daemon, "a");
	struct addr to = target_at(&s->target, "127.0.0.1");

	snprintf(
	    s->words, sizeof(s->words), "target=%s", addr_format(&to, text));
}

static void
open_pairs(struct scene *s, struct pair *pairs, unsigned n, const char *ip)
{
	struct addr to = target_at(&s->target, ip);

	pair_open_all(pairs, n, &s->proxy, &s->target, &to);
}

static unsigned
count(struct scene *s, const char *alarm, const char *state)
{
	char word[64];

	snprintf(word, sizeof(word), "alarm=%s", alarm);
	return daemon_count_log(
	    s->daemon, "event=alarm", word, state, s->words);
}

Test(alarms, a_target_that_fills_is_told_step_by_step)
{
	char line[DAEMON_LINE_MAX], value[32];
	static struct scene s;
	struct pair pairs[10];
	int refused;

	scene_open(&s);
	open_pairs(&s, pairs, 8, "127.0.0.1");
	daemon_wait_log(s.daemon, "level=warning", "event=alarm",
	    "alarm=target_high", "state=begin", "egress=main", "used=8",
	    "slots=10", "percent=80", s.words);
	json_t *o = ask_json(s.daemon, "status", "--json");

	cr_expect_eq(json_array_size(ask_get(o, "alarms")), 1);
	cr_expect_str_eq(ask_text(o, "alarms.#0.alarm"), "target_high");
	cr_expect_str_eq(
	    ask_text(o, "alarms.#0.target"), s.words + strlen("target="));
	cr_expect_eq(ask_number(o, "alarms.#0.used"), 8);
	cr_expect_eq(ask_number(o, "alarms_begun.target_high"), 1);
	json_decref(o);

	open_pairs(&s, pairs + 8, 2, "127.0.0.1");
	struct addr to = target_at(&s.target, "127.0.0.1");

	cr_expect_eq(socks_try(&s.proxy, &to, &refused), 1);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_critical",
	    "state=begin", s.words);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_exhausted",
	    "state=begin", s.words);

	pair_reset_all(pairs, 10);
	daemon_wait_log(s.daemon, "level=info", "event=alarm",
	    "alarm=target_high", "state=end", "used=0", s.words);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_critical",
	    "state=end", s.words);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_exhausted",
	    "state=end", s.words);
	cr_assert(daemon_find_log(
	    s.daemon, line, "alarm=target_high", "state=end", s.words));
	cr_expect_gt(
	    strtoul(daemon_value(line, "duration_ms", value, sizeof(value)),
		NULL, 10),
	    0);
	cr_expect_eq(count(&s, "target_high", "state=begin"), 1);
	cr_expect_eq(count(&s, "target_high", "state=end"), 1);
	o = ask_json(s.daemon, "status", "--json");
	cr_expect_eq(json_array_size(ask_get(o, "alarms")), 0);
	cr_expect_eq(ask_number(o, "alarms_begun.target_exhausted"), 1);
	json_decref(o);
	target_close(&s.target);
	daemon_stop(s.daemon);
}

/* A new observer has sampled when it tells of another target. */
static void
await_another(struct scene *s, struct pair *pairs, const char *ip)
{
	char words[ADDR_TEXT_MAX + 8], text[ADDR_TEXT_MAX];
	struct addr to = target_at(&s->target, ip);

	open_pairs(s, pairs, 8, ip);
	snprintf(words, sizeof(words), "target=%s", addr_format(&to, text));
	daemon_wait_log(s->daemon, "event=alarm", "alarm=target_high", words);
}

Test(alarms, another_observer_goes_on_where_the_last_one_was)
{
	static struct scene s;
	struct pair pairs[3][8];
	char line[DAEMON_LINE_MAX], value[32];

	scene_open(&s);
	open_pairs(&s, pairs[0], 8, "127.0.0.1");
	uint64_t began_ms = it_now_ms();

	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_high",
	    "state=begin", s.words);
	daemon_reload(s.daemon);
	await_another(&s, pairs[1], "127.0.0.2");
	daemon_find_log(s.daemon, line, "event=observer_started");
	cr_assert_eq(
	    kill((pid_t)strtol(
		     daemon_value(line, "pid", value, sizeof(value)), NULL, 10),
		SIGKILL),
	    0);
	daemon_wait_log(s.daemon, "event=observer_died");
	await_another(&s, pairs[2], "127.0.0.3");
	cr_expect_eq(count(&s, "target_high", "state=begin"), 1);
	cr_expect_eq(count(&s, "target_high", "state=end"), 0);
	json_t *o = ask_json(s.daemon, "status", "--json");

	cr_expect_eq(json_array_size(ask_get(o, "alarms")), 3);
	cr_expect_eq(ask_number(o, "alarms_begun.target_high"), 3);
	json_decref(o);

	uint64_t lasted_ms = it_now_ms() - began_ms;

	pair_reset_all(pairs[0], 8);
	daemon_wait_log(
	    s.daemon, "event=alarm", "alarm=target_high", "state=end", s.words);
	cr_assert(daemon_find_log(
	    s.daemon, line, "alarm=target_high", "state=end", s.words));
	/* From the first observer's begin on; it looks once a second. */
	cr_expect_geq(
	    strtoul(daemon_value(line, "duration_ms", value, sizeof(value)),
		NULL, 10) +
		2000,
	    lasted_ms);
	pair_reset_all(pairs[1], 8);
	pair_reset_all(pairs[2], 8);
	target_close(&s.target);
	daemon_stop(s.daemon);
}

/* Another program binds most of the pool's ports. */
Test(alarms, a_pool_that_strangers_hold_is_told)
{
	static struct scene s;
	struct pair pairs[3];
	int strangers[7];

	scene_open(&s);
	for (uint16_t i = 0; i < ARRAY_LEN(strangers); i++) {
		struct addr a = addr_v4(0, (uint16_t)(40000 + i));

		strangers[i] = peer_bind(&a);
	}
	open_pairs(&s, pairs, 3, "127.0.0.1");
	daemon_wait_log(s.daemon, "event=alarm", "alarm=pool_strangers",
	    "state=begin", "egress=main", "rested=7", "ports=10", "percent=70");
	json_t *o = ask_json(s.daemon, "status", "--json");

	cr_expect_eq(ask_number(o, "egresses.#0.rested"), 7);
	json_decref(o);
	for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
		close(strangers[i]);
	pair_reset_all(pairs, 3);
	target_close(&s.target);
	daemon_stop(s.daemon);
}

/* Four ports are another program's, six are in use: nothing is left. */
Test(alarms, what_strangers_hold_is_not_counted_as_free)
{
	static struct scene s;
	struct pair pairs[6];
	int strangers[4], refused;
	struct it_outcome o;

	scene_open(&s);
	for (uint16_t i = 0; i < ARRAY_LEN(strangers); i++) {
		struct addr a = addr_v4(0, (uint16_t)(40000 + i));

		strangers[i] = peer_bind(&a);
	}
	open_pairs(&s, pairs, 6, "127.0.0.1");
	struct addr to = target_at(&s.target, "127.0.0.1");

	cr_expect_eq(socks_try(&s.proxy, &to, &refused), 1);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_high",
	    "state=begin", "used=6", "slots=6", "percent=100", s.words);
	daemon_wait_log(s.daemon, "event=alarm", "alarm=target_exhausted",
	    "state=begin", s.words);
	json_t *status = ask_json(s.daemon, "status", "--json");

	cr_expect_eq(ask_number(status, "targets.#0.percent"), 100);
	cr_expect_eq(ask_number(status, "targets.#0.rested"), 4);
	cr_expect_eq(ask_number(status, "targets.#0.slots"), 10);
	cr_expect_eq(ask_number(status, "targets.#0.cooling"), 0);
	cr_expect_eq(ask_number(status, "targets.#0.full_in_s"), 0);
	json_decref(status);
	ask(s.daemon, &o, "status");
	cr_expect_not_null(
	    strstr(o.out, "      6  100%      now\n"), "%s", o.out);
	for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
		close(strangers[i]);
	pair_reset_all(pairs, 6);
	target_close(&s.target);
	daemon_stop(s.daemon);
}
