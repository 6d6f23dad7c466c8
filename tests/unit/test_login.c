/* SPDX-License-Identifier: ISC */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>
#include <event2/event.h>

#include "policy/auth.h"
#include "session/login.h"

/* Of "secret" and of "other", cheap. */
#define CHEAP_SECRET                               \
	"$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2R" \
	"lZg$gEeb/KeWbm5g+kBQOFr1yJbkjBxxxDOkhSmrSXFFwOg"
#define CHEAP_OTHER                                \
	"$scrypt$ln=4,r=8,p=1$ZmVkY2JhOTg3NjU0MzI" \
	"xMA$LdOxx0GuN26HFPvhbBvyy7EWDJ8EZgxYeq3lqnSvex4"

/* Of "slow": 16 MiB and some 50 ms, which no start takes. */
#define SLOW                                       \
	"$scrypt$ln=14,r=8,p=1$MDEyMzQ1Njc4OUFCQ0" \
	"RFRg$NkMmi1cZpj2c3KHNYX39yn5+Af36CbRUGAVU2KShLMQ"

#define USERS 4

/* login.c wants nothing else of config.c. */
const struct config_user *
config_find_user(const struct config *c, const char *name, size_t len)
{
	for (size_t i = 0; i < c->user_count; i++)
		if (strlen(c->users[i].name) == len &&
		    memcmp(c->users[i].name, name, len) == 0)
			return &c->users[i];
	return NULL;
}

struct fixture {
	struct event_base *base;
	struct config config;
	struct config_user users[USERS];
	struct login_service *service;
	unsigned pending;   /* attempts that will call back */
	bool starting;      /* inside login_start() */
	struct addr client; /* who asks; family NONE: on a unix socket */
};

/* One login and what became of it. */
struct attempt {
	struct fixture *f;
	struct login *login; /* NULL: not begun, done or cancelled */
	unsigned calls;
	enum login_result result;
	size_t user;
	struct attempt *cancels; /* cancelled by this one's callback */
	struct attempt *starts;  /* started by this one's callback */
	bool frees;              /* its callback frees the service */
};

static void
add_user(struct fixture *f, const char *name, const char *hash)
{
	struct config_user *u = &f->users[f->config.user_count++];

	strcpy_bounded(u->name, sizeof(u->name), name);
	u->password = strdup(hash);
	cr_assert_not_null(u->password);
}

static struct fixture *
fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	cr_assert_not_null(f);
	f->base = event_base_new();
	cr_assert_not_null(f->base);
	add_user(f, "alice", CHEAP_SECRET);
	add_user(f, "bob", CHEAP_OTHER);
	add_user(f, "slow", SLOW);
	add_user(f, "twin", CHEAP_SECRET); /* the hash too is alice's */
	f->config.users = f->users;
	f->config.client_bits_v4 = 32;
	f->config.client_bits_v6 = 64;
	f->service = login_service_new(f->base, &f->config);
	cr_assert_not_null(f->service);
	return f;
}

static void
fixture_free(struct fixture *f)
{
	login_service_free(f->service);
	event_base_free(f->base);
	for (size_t i = 0; i < USERS; i++)
		free(f->users[i].password);
	free(f);
}

static void start(
    struct fixture *f, struct attempt *a, const char *user, const char *pass);

static void
cancel(struct attempt *a)
{
	must(a->login != NULL);
	login_cancel(&a->login);
	cr_expect_null(a->login);
	a->f->pending--;
}

static void
on_done(enum login_result result, size_t user, void *arg)
{
	struct attempt *a = arg;
	struct fixture *f = a->f;

	cr_expect_not(f->starting, "called from inside the start");
	cr_expect_not_null(a->login, "called after the end");
	a->login = NULL;
	a->calls++;
	a->result = result;
	a->user = user;
	f->pending--;
	if (a->cancels != NULL)
		cancel(a->cancels);
	if (a->starts != NULL)
		start(f, a->starts, "alice", "secret");
	if (a->frees) {
		login_service_free(f->service);
		f->service = NULL;
	}
}

static void
start_bytes(struct fixture *f, struct attempt *a, const char *user,
    size_t user_len, const char *pass, size_t pass_len)
{
	a->f = f;
	f->starting = true;
	a->login = login_start(
	    f->service, &f->client, user, user_len, pass, pass_len, on_done, a);
	f->starting = false;
	cr_assert_not_null(a->login);
	cr_expect_eq(a->calls, 0);
	f->pending++;
}

static void
start(struct fixture *f, struct attempt *a, const char *user, const char *pass)
{
	start_bytes(f, a, user, strlen(user), pass, strlen(pass));
}

static void
on_overdue(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	cr_assert_fail("a login was not answered within a minute");
}

/* Until each login that was begun and not cancelled has called back. */
static void
run(struct fixture *f)
{
	struct timeval minute = { .tv_sec = 60 };
	struct event *guard = evtimer_new(f->base, on_overdue, NULL);

	cr_assert_not_null(guard);
	evtimer_add(guard, &minute);
	while (f->pending != 0)
		cr_assert_eq(event_base_loop(f->base, EVLOOP_ONCE), 0);
	event_free(guard);
}

static enum login_result
result_of(struct fixture *f, const char *user, const char *pass)
{
	struct attempt a = { 0 };

	start(f, &a, user, pass);
	run(f);
	cr_expect_eq(a.calls, 1);
	return a.result;
}

static bool
is_known(struct fixture *f, const char *user, const char *pass)
{
	size_t index = SIZE_MAX;
	bool known = login_is_known(
	    f->service, user, strlen(user), pass, strlen(pass), &index);

	if (known)
		cr_expect_str_eq(f->config.users[index].name, user);
	else
		cr_expect_eq(index, SIZE_MAX);
	return known;
}

Test(login, the_right_password_is_right_for_its_user)
{
	struct fixture *f = fixture_new();
	struct attempt a = { 0 }, b = { 0 };

	start(f, &a, "alice", "secret");
	start(f, &b, "bob", "other");
	run(f);
	cr_expect_eq(a.result, LOGIN_OK);
	cr_expect_eq(a.user, 0);
	cr_expect_eq(b.result, LOGIN_OK);
	cr_expect_eq(b.user, 1);
	fixture_free(f);
}

Test(login, anything_else_is_wrong)
{
	struct fixture *f = fixture_new();

	cr_expect_eq(result_of(f, "alice", "other"), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "alice", "secre"), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "alice", "secrets"), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "alice", ""), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "Alice", "secret"), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "alic", "esecret"), LOGIN_WRONG);
	cr_expect_eq(result_of(f, "", ""), LOGIN_WRONG);
	fixture_free(f);
}

/* It is verified against a borrowed hash, which must not let it in. */
Test(login, an_unknown_user_is_wrong_with_anybodys_password)
{
	struct fixture *f = fixture_new();
	char name[32];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "nobody%u", i);
		cr_expect_eq(result_of(f, name, "secret"), LOGIN_WRONG);
		cr_expect_eq(result_of(f, name, "other"), LOGIN_WRONG);
		cr_expect_not(is_known(f, name, "secret"));
		cr_expect_not(is_known(f, name, "other"));
	}
	fixture_free(f);
}

Test(login, without_users_everybody_is_wrong)
{
	struct fixture *f = fixture_new();

	f->config.user_count = 0;
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_WRONG);
	fixture_free(f);
}

Test(login, fields_of_full_length_are_taken)
{
	struct fixture *f = fixture_new();
	struct attempt a = { 0 };
	char field[255];

	memset(field, 'x', sizeof(field));
	start_bytes(f, &a, field, sizeof(field), field, sizeof(field));
	run(f);
	cr_expect_eq(a.result, LOGIN_WRONG);
	fixture_free(f);
}

Test(login, what_was_right_is_remembered_and_nothing_else)
{
	struct fixture *f = fixture_new();

	cr_expect_not(is_known(f, "alice", "secret"));
	cr_expect_eq(result_of(f, "alice", "wrong"), LOGIN_WRONG);
	cr_expect_not(is_known(f, "alice", "wrong"));
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_OK);
	cr_expect(is_known(f, "alice", "secret"));
	cr_expect_not(is_known(f, "alice", "wrong"));
	cr_expect_not(is_known(f, "alice", "secret "));
	cr_expect_not(is_known(f, "bob", "secret"));
	cr_expect_not(is_known(f, "twin", "secret"), "same hash, other user");
	cr_expect_not(is_known(f, "nobody", "secret"));
	cr_expect_eq(result_of(f, "twin", "secret"), LOGIN_OK);
	cr_expect(is_known(f, "twin", "secret"));
	cr_expect(is_known(f, "alice", "secret"));
	fixture_free(f);
}

Test(login, what_is_remembered_hangs_on_the_hash)
{
	struct fixture *f = fixture_new();

	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_OK);
	strcpy_bounded(f->users[0].password, sizeof(CHEAP_OTHER), CHEAP_OTHER);
	cr_expect_not(is_known(f, "alice", "secret"));
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_WRONG);
	fixture_free(f);
}

Test(login, memory_is_bounded_and_the_latest_stay)
{
	enum { MANY = 2000 };
	struct fixture *f = fixture_new();
	struct config_user *many = calloc(MANY, sizeof(*many));
	unsigned known = 0;

	cr_assert_not_null(many);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(many[i].name, sizeof(many[i].name), "user%zu", i);
		many[i].password = f->users[0].password;
	}
	f->config.users = many;
	f->config.user_count = MANY;
	for (size_t i = 0; i < MANY; i++) {
		cr_assert_eq(result_of(f, many[i].name, "secret"), LOGIN_OK);
		cr_assert(is_known(f, many[i].name, "secret"));
	}
	for (size_t i = 0; i < MANY; i++)
		known += is_known(f, many[i].name, "secret");
	cr_expect_leq(known, 1024);
	cr_expect_geq(known, 512);
	free(many);
	fixture_free(f);
}

Test(login, a_crowd_with_one_claim_is_one_check_and_never_busy)
{
	enum { CROWD = 1000 };
	struct fixture *f = fixture_new();
	struct attempt *a = calloc(CROWD, sizeof(*a));

	cr_assert_not_null(a);
	for (size_t i = 0; i < CROWD; i++)
		start(f, &a[i], "slow", "slow");
	run(f);
	for (size_t i = 0; i < CROWD; i++) {
		cr_assert_eq(a[i].calls, 1);
		cr_assert_eq(a[i].result, LOGIN_OK);
		cr_assert_eq(a[i].user, 2);
	}
	free(a);
	fixture_free(f);
}

/* 500 different claims, of which the thread does not manage 400 meanwhile. */
Test(login, a_full_queue_says_so_and_recovers)
{
	enum { CROWD = 500 };
	struct fixture *f = fixture_new();
	struct attempt *a = calloc(CROWD, sizeof(*a));
	unsigned busy = 0;

	cr_assert_not_null(a);
	for (size_t i = 0; i < CROWD; i++) {
		char pass[32];

		snprintf(pass, sizeof(pass), "wrong%zu", i);
		start(f, &a[i], "slow", pass);
	}
	while (busy == 0) {
		cr_assert_eq(event_base_loop(f->base, EVLOOP_ONCE), 0);
		for (size_t i = 0; i < CROWD; i++)
			busy += a[i].calls == 1 && a[i].result == LOGIN_BUSY;
	}
	cr_expect_geq(busy, 400);
	cr_expect_leq(busy, CROWD - 64, "64 wait");
	for (size_t i = 0; i < CROWD; i++)
		if (a[i].login != NULL)
			cancel(&a[i]);
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_OK);
	for (size_t i = 0; i < CROWD; i++)
		cr_expect_leq(a[i].calls, 1);
	free(a);
	fixture_free(f);
}

/* Another one logs in while it has all that it may have. */
static void
expect_room_beside(struct fixture *f, struct attempt *a, size_t count,
    const struct addr *other)
{
	f->client = *other;
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_OK);
	for (size_t i = 0; i < count; i++)
		if (a[i].login != NULL)
			cancel(&a[i]);
}

Test(login, one_address_that_guesses_keeps_nobody_out)
{
	struct fixture *f = fixture_new();
	struct attempt a[200] = { 0 };
	struct addr other = addr_v4(0xc0000202, 4711);

	f->client = addr_v4(0xc0000201, 4711);
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		char pass[32];

		f->client.port++;
		snprintf(pass, sizeof(pass), "wrong%zu", i);
		start(f, &a[i], "slow", pass);
	}
	expect_room_beside(f, a, ARRAY_LEN(a), &other);
	fixture_free(f);
}

Test(login, all_addresses_of_one_network_keep_nobody_out)
{
	struct fixture *f = fixture_new();
	struct attempt a[200] = { 0 };
	struct addr other;

	cr_assert_eq(addr_parse_ip("2001:db8::1", &f->client), 0);
	cr_assert_eq(addr_parse_ip("2001:db8:0:1::1", &other), 0);
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		char pass[32];

		f->client.ip[8] = (uint8_t)i;
		snprintf(pass, sizeof(pass), "wrong%zu", i);
		start(f, &a[i], "slow", pass);
	}
	expect_room_beside(f, a, ARRAY_LEN(a), &other);
	fixture_free(f);
}

Test(login, what_is_cancelled_never_calls_back)
{
	struct fixture *f = fixture_new();
	struct attempt a[6] = { 0 };

	/* Running, most likely; waiting; of several with one check. */
	start(f, &a[0], "slow", "x");
	start(f, &a[1], "slow", "y");
	start(f, &a[2], "slow", "z");
	start(f, &a[3], "slow", "z");
	start(f, &a[4], "slow", "y");
	start(f, &a[5], "alice", "secret");
	cancel(&a[0]);
	cancel(&a[1]);
	cancel(&a[4]);
	cancel(&a[2]);
	run(f);
	cr_expect_eq(a[0].calls + a[1].calls + a[2].calls + a[4].calls, 0);
	cr_expect_eq(a[3].calls, 1);
	cr_expect_eq(a[5].calls, 1);
	cr_expect_eq(a[5].result, LOGIN_OK);
	fixture_free(f);
}

Test(login, cancelling_nothing_is_harmless)
{
	struct login *none = NULL;

	login_cancel(&none);
	cr_expect_null(none);
	login_service_free(NULL);
}

Test(login, a_claim_can_be_made_again_while_its_check_is_abandoned)
{
	struct fixture *f = fixture_new();
	struct attempt a[100] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		start(f, &a[i], "slow", "slow");
		if (i + 1 < ARRAY_LEN(a))
			cancel(&a[i]);
	}
	run(f);
	cr_expect_eq(a[99].calls, 1);
	cr_expect_eq(a[99].result, LOGIN_OK);
	fixture_free(f);
}

/* Both are answered in one pass: they share a check. */
Test(login, a_callback_may_cancel_what_is_answered_with_it)
{
	struct fixture *f = fixture_new();
	struct attempt a[3] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		start(f, &a[i], "alice", "secret");
	a[0].cancels = &a[1];
	run(f);
	cr_expect_eq(a[0].calls, 1);
	cr_expect_eq(a[1].calls, 0);
	cr_expect_eq(a[2].calls, 1);
	fixture_free(f);
}

Test(login, a_callback_may_start_the_next)
{
	struct fixture *f = fixture_new();
	struct attempt a = { 0 }, b = { 0 }, c = { 0 };

	a.starts = &b;
	b.starts = &c;
	start(f, &a, "alice", "secret");
	run(f);
	cr_expect_eq(a.calls + b.calls + c.calls, 3);
	cr_expect_eq(c.result, LOGIN_OK);
	fixture_free(f);
}

Test(login, the_last_callback_may_free_the_service)
{
	struct fixture *f = fixture_new();
	struct attempt a = { 0 };

	a.frees = true;
	start(f, &a, "alice", "secret");
	run(f);
	cr_expect_null(f->service);
	fixture_free(f);
}

Test(login, a_service_is_freed_while_a_cancelled_check_runs)
{
	for (unsigned i = 0; i < 20; i++) {
		struct fixture *f = fixture_new();
		struct attempt a = { 0 };

		start(f, &a, "alice", "secret");
		cancel(&a);
		fixture_free(f);
		cr_expect_eq(a.calls, 0);
	}
}

/* Starts and cancels in an order that a generator makes up. */
Test(login, any_order_of_starts_and_cancels_keeps_the_contract)
{
	struct fixture *f = fixture_new();
	struct attempt a[40] = { 0 };
	uint32_t seed = 7;

	for (unsigned step = 0; step < 3000; step++) {
		struct attempt *it;
		char pass[8];

		seed = seed * 1664525 + 1013904223;
		it = &a[(seed >> 24) % ARRAY_LEN(a)];
		if (it->login != NULL && (seed >> 16 & 3) == 0) {
			cancel(it);
		} else if (it->login == NULL) {
			memset(it, 0, sizeof(*it));
			snprintf(pass, sizeof(pass), "%u", seed >> 8 & 7);
			start(f, it, "alice",
			    (seed >> 20 & 1) != 0 ? "secret" : pass);
		}
		cr_assert_geq(event_base_loop(f->base, EVLOOP_NONBLOCK), 0);
	}
	run(f);
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		cr_expect_leq(a[i].calls, 1);
	fixture_free(f);
}

static double
cpu_ms_of(struct fixture *f, const char *user)
{
	clock_t before = clock();

	cr_expect_eq(result_of(f, user, "wrong"), LOGIN_WRONG);
	return (double)(clock() - before) * 1000 / CLOCKS_PER_SEC;
}

Test(login, an_unknown_user_takes_as_long_as_a_known_one)
{
	struct fixture *f = fixture_new();
	double known, unknown;

	/* All users' hashes are of one cost here. */
	f->config.users = &f->users[2];
	f->config.user_count = 1;
	cr_expect_eq(result_of(f, "slow", "warm"), LOGIN_WRONG);
	known = cpu_ms_of(f, "slow");
	unknown = cpu_ms_of(f, "nobody");
	cr_expect_gt(unknown, known / 4, "%.1f of %.1f ms", unknown, known);
	fixture_free(f);
}

/* The threads of this process that block all of the signals we handle. */
static unsigned
threads_that_block(void)
{
	static const int handled[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD,
		SIGUSR1, SIGUSR2, SIGPIPE };
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;
	struct dirent *entry;

	cr_assert_not_null(tasks);
	while ((entry = readdir(tasks)) != NULL) {
		char path[300], line[256];
		uint64_t mask = 0, blocked = 1;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
		    entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
			if (sscanf(line, "SigBlk: %" SCNx64, &mask) == 1)
				break;
		for (size_t i = 0; i < ARRAY_LEN(handled); i++)
			blocked &= mask >> (handled[i] - 1);
		count += (unsigned)blocked;
		if (file != NULL)
			fclose(file);
	}
	closedir(tasks);
	return count;
}

Test(login, the_thread_leaves_signals_to_the_loop)
{
	unsigned before = threads_that_block();
	sigset_t mine, now;
	struct fixture *f;

	cr_assert_eq(sigprocmask(SIG_SETMASK, NULL, &mine), 0);
	f = fixture_new();
	cr_assert_eq(sigprocmask(SIG_SETMASK, NULL, &now), 0);
	/* While a thread is being made it blocks them in any case. */
	cr_expect_eq(result_of(f, "alice", "secret"), LOGIN_OK);
	cr_expect_eq(threads_that_block(), before + 1);
	for (int s = 1; s < 32; s++)
		cr_expect_eq(sigismember(&mine, s), sigismember(&now, s));
	fixture_free(f);
}
