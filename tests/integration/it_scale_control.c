/* SPDX-License-Identifier: ISC */
/*
 * What the control socket says of 50,000 sessions is true of each of them, and
 * whoever asks all the time does not disturb them.
 */
#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "crowd.h"
#include "daemon.h"
#include "it.h"
#include "namespace.h"

#define SESSIONS    50000U
#define SOURCE_PORT 40000
#define PROCESSES   4U /* each has the same part */

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_RELEASE | IT_MANY_FILES;
}

static bool
is_source(const struct addr *source)
{
	struct addr expected = addr_v4(0x7f000001, SOURCE_PORT);

	return addr_equal(source, &expected);
}

static json_t *
get(const struct daemon *d, const char *page)
{
	uint64_t took_ms;
	char *body = ask_page(d, page, &took_ms);
	json_error_t error;
	json_t *o = json_loads(body, JSON_REJECT_DUPLICATES, &error);

	IT_MUST(o != NULL, "%s: %s", page, error.text);
	printf("%-40s %7zu KB in %llu ms\n", page, strlen(body) / 1024,
	    (unsigned long long)took_ms);
	free(body);
	return o;
}

static void
check_status(const struct daemon *d)
{
	json_t *o = get(d, "/status?top=7");

	cr_expect_eq(ask_number(o, "sessions.now"), SESSIONS);
	cr_expect_eq(ask_number(o, "sharing.connections"), SESSIONS);
	cr_expect_eq(ask_number(o, "sharing.sources"), 1);
	cr_expect_eq(json_real_value(ask_get(o, "sharing.factor")), SESSIONS);
	cr_expect_eq(ask_number(o, "ledger.targets"), SESSIONS);
	cr_expect_eq(ask_number(o, "egresses.#0.held"), SESSIONS);
	cr_expect_eq(ask_number(o, "egresses.#0.addresses.#0.held"), SESSIONS);
	cr_expect_eq(ask_number(o, "egresses.#0.free"), 0);
	cr_expect_eq(json_array_size(ask_get(o, "targets")), 7);
	cr_expect_eq(ask_number(o, "targets.#6.held"), 1);
	json_decref(o);
}

/* Which session the target belongs to. */
static uint32_t
session_of(const struct target *t, const char *text)
{
	struct addr a, first = target_number(t, 0);
	uint32_t n = 0, base = 0;

	IT_MUST(addr_parse(text, &a) == 0, "%s", text);
	for (int i = 0; i < 4; i++) {
		n = n << 8 | a.ip[i];
		base = base << 8 | first.ip[i];
	}
	IT_MUST(a.port == t->port && n - base < SESSIONS, "%s", text);
	return n - base;
}

/* Every session is there once, with its own client. */
static void
check_list(const struct daemon *d, const struct target *t, const char *page)
{
	bool *seen = calloc(SESSIONS, sizeof(*seen));
	json_t *o = get(d, page);
	const json_t *rows = ask_get(o, "sessions"), *row;
	size_t i;

	must(seen != NULL);
	cr_assert_eq(json_array_size(rows), SESSIONS);
	json_array_foreach(rows, i, row)
	{
		uint32_t n = session_of(t, ask_text(row, "target"));
		struct addr client = crowd_client(n, CROWD_CLIENT_MAX);
		char text[ADDR_TEXT_MAX];

		cr_assert(!seen[n]);
		seen[n] = true;
		cr_assert_str_eq(ask_text(row, "source"), "127.0.0.1:40000");
		cr_assert_str_eq(
		    ask_text(row, "client"), addr_format(&client, text));
	}
	json_decref(o);
	free(seen);
}

/* The same as a table: what is below SOURCE begins where that does. */
static void
check_table(const struct daemon *d)
{
	static const char page[] = "/sessions?format=text";
	uint64_t took_ms;
	char *text = ask_page(d, page, &took_ms), *line = text;
	const char *source = strstr(text, "SOURCE");
	unsigned rows = 0;

	printf("%-40s %7zu KB in %llu ms\n", page, strlen(text) / 1024,
	    (unsigned long long)took_ms);
	cr_assert_not_null(source);
	for (; rows < SESSIONS; rows++) {
		line = strchr(line, '\n') + 1;
		cr_assert_eq(
		    strncmp(line + (source - text), "127.0.0.1:40000 ", 16), 0);
	}
	cr_expect_str_eq(strchr(line, '\n') + 1, "50000 sessions\n");
	free(text);
}

static void
check_one(const struct daemon *d, const struct target *t, uint32_t n)
{
	struct addr to = target_number(t, n),
		    client = crowd_client(n, CROWD_CLIENT_MAX);
	char page[200], text[ADDR_TEXT_MAX];

	snprintf(page, sizeof(page), "/who?port=127.0.0.1:40000&target=%s",
	    addr_format(&to, text));
	json_t *o = get(d, page);

	cr_assert_eq(json_array_size(ask_get(o, "sessions")), 1);
	cr_expect_str_eq(
	    ask_text(o, "sessions.#0.client"), addr_format(&client, text));
	json_decref(o);
}

/* Asks for everything, again and again; a child. */
static pid_t
keep_asking(const struct daemon *d)
{
	pid_t pid = it_fork();

	if (pid != 0)
		return pid;
	for (;;) {
		uint64_t took_ms;

		free(ask_page(d, "/status", &took_ms));
		free(ask_page(d, "/sessions", &took_ms));
	}
}

Test(scale_control, what_is_said_of_fifty_thousand_sessions_is_true)
{
	struct target target;

	namespace_enter_with_ports(&target, SOURCE_PORT, SOURCE_PORT);
	struct crowd *crowd =
	    crowd_start(&(struct crowd_setup){ .sessions = SESSIONS,
		.clients = PROCESSES,
		.targets = PROCESSES,
		.target = &target,
		.to = target_number,
		.is_source = is_source });
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "max-sessions = 50000\nworkers = auto\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000\naddresses = 127.0.0.1\n"
			  "[log]\naccess = no\n" });

	crowd_open(crowd);
	for (int i = 0; i < 3; i++)
		check_status(d);
	check_list(d, &target, "/sessions");
	check_list(d, &target, "/who?port=127.0.0.1:40000");
	check_table(d);
	check_one(d, &target, 0);
	check_one(d, &target, SESSIONS - 1);

	/* A word both ways on all of them, while somebody asks all the time. */
	pid_t asking = keep_asking(d);

	crowd_exchange(crowd);
	kill(asking, SIGKILL);
	waitpid(asking, NULL, 0);
	crowd_finish(crowd);
	daemon_stop(d);
}
