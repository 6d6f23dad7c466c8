/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "passes.h"
#include "service/child.h"

struct parent {
	struct loop loop;
	struct log log;
	struct family family;
	struct child children[2];
	struct message heard;
	unsigned messages, deaths;
	int status;
};

static struct parent *
parent_of(struct child *c)
{
	return container_of(c->family, struct parent, family);
}

static void
on_message(struct child *c, const struct message *m)
{
	parent_of(c)->heard = *m;
	parent_of(c)->messages++;
}

static void
on_death(struct child *c, int status)
{
	parent_of(c)->status = status;
	parent_of(c)->deaths++;
}

static struct parent *
parent_new(void)
{
	struct parent *p = calloc(1, sizeof(*p));

	cr_assert_not_null(p);
	log_init(
	    &p->log, open("/dev/null", O_WRONLY), LOG_LEVEL_INFO, LOG_PLAIN);
	cr_assert_eq(loop_init(&p->loop), 0);
	family_init(&p->family, &p->loop, &p->log);
	for (int i = 0; i < 2; i++) {
		p->children[i].name = "worker";
		p->children[i].on_message = on_message;
		p->children[i].on_death = on_death;
	}
	return p;
}

static void
parent_free(struct parent *p)
{
	loop_fini(&p->loop);
	close(p->log.fd);
	free(p);
}

static void
start(struct parent *p, int i, child_run_fn *run, void *arg)
{
	static const struct identity same = { 0 };

	cr_assert_eq(
	    child_start(&p->family, &p->children[i], &same, run, arg), 0);
}

/* Passes until it has heard `n` messages. */
static void
hear(struct parent *p, unsigned n)
{
	struct pollfd fd = { .fd = p->children[0].control, .events = POLLIN };

	while (p->messages < n) {
		cr_assert_eq(poll(&fd, 1, 20000), 1);
		pass(&p->loop);
	}
}

static void
await_deaths(struct parent *p, unsigned n)
{
	siginfo_t info;

	while (p->deaths < n) {
		cr_assert_eq(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
		family_reap(&p->family);
	}
}

/* Answers each message with its session and one more, until the end. */
static int
echo(void *arg, int control)
{
	struct message m;

	(void)arg;
	while (recv(control, &m, sizeof(m), 0) == sizeof(m)) {
		m.session++;
		must(send(control, &m, sizeof(m), MSG_NOSIGNAL) == sizeof(m));
	}
	return 7;
}

Test(child, it_is_told_and_answers, .timeout = 60)
{
	struct message m = { .what = 'K', .session = 41, .ticket = 9 };
	struct parent *p = parent_new();

	start(p, 0, echo, NULL);
	cr_assert(child_send(&p->children[0], &m));
	hear(p, 1);
	cr_expect_eq(p->heard.what, 'K');
	cr_expect_eq(p->heard.session, 42);
	cr_expect_eq(p->heard.ticket, 9);
	kill(p->children[0].pid, SIGKILL);
	await_deaths(p, 1);
	cr_expect(WIFSIGNALED(p->status));
	cr_expect(list_is_empty(&p->family.children));
	parent_free(p);
}

static int
leave(void *arg, int control)
{
	(void)control;
	return *(int *)arg;
}

Test(child, its_exit_status_is_told_once, .timeout = 60)
{
	struct parent *p = parent_new();
	int status = 3;

	start(p, 0, leave, &status);
	await_deaths(p, 1);
	cr_expect(WIFEXITED(p->status));
	cr_expect_eq(WEXITSTATUS(p->status), 3);
	family_reap(&p->family);
	cr_expect_eq(p->deaths, 1);
	parent_free(p);
}

/* The first sees the end of the master though the second lives on. */
Test(child, none_keeps_the_control_socket_of_another, .timeout = 60)
{
	struct parent *p = parent_new();

	start(p, 0, echo, NULL);
	start(p, 1, echo, NULL);
	/* As the kernel does it when the master dies. */
	event_del(&p->children[0].event);
	close(p->children[0].control);
	p->children[0].control = open("/dev/null", O_RDONLY);
	await_deaths(p, 1);
	cr_expect_eq(WEXITSTATUS(p->status), 7);
	kill(p->children[1].pid, SIGKILL);
	await_deaths(p, 2);
	parent_free(p);
}

static unsigned
delay_ms(struct backoff *b, uint64_t lived_ms)
{
	struct timeval t = backoff_next(b, lived_ms);

	return (unsigned)(t.tv_sec * 1000 + t.tv_usec / 1000);
}

Test(child, what_dies_at_once_is_started_later_each_time)
{
	struct backoff b = { 0 };
	static const unsigned delays[] = { 100, 200, 400, 800, 1600, 3200, 5000,
		5000 };

	for (size_t i = 0; i < ARRAY_LEN(delays); i++)
		cr_expect_eq(delay_ms(&b, 10), delays[i]);
	cr_expect_eq(delay_ms(&b, 1000), 0);
	cr_expect_eq(delay_ms(&b, 0), 100);
}
