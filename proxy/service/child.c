/* SPDX-License-Identifier: ISC */
#include "service/child.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What dies sooner than this after its start is started again with growing
 * delay. */
#define STEADY_MS    1000
#define DELAY_MIN_MS 100
#define DELAY_MAX_MS 5000

static struct child *
from_link(struct link *l)
{
	return container_of(l, struct child, link);
}

void
family_init(struct family *f, struct loop *loop, struct log *log)
{
	f->loop = loop;
	f->log = log;
	list_init(&f->children);
}

void
family_reap(struct family *f)
{
	struct link *l, *following;

	/* By pid and not by -1: other children are not ours to reap. */
	LIST_EACH_SAFE (l, following, &f->children) {
		struct child *c = from_link(l);
		int status;

		if (waitpid(c->pid, &status, WNOHANG) != c->pid)
			continue;
		event_del(&c->event);
		close(c->control);
		c->control = -1;
		link_remove(&c->link);
		c->on_death(c, status);
	}
}

static void
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;
	struct message m;
	ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(m)) {
		/* It is ending: waitpid() will say how. */
		event_del(&c->event);
		return;
	}
	c->on_message(c, &m);
}

bool
child_send(struct child *c, const struct message *m)
{
	return send(c->control, m, sizeof(*m), MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       sizeof(*m);
}

void
child_log_end(const struct child *c, int status)
{
	struct log *log = c->family->log;
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	char event[64];

	snprintf(
	    event, sizeof(event), "%s_%s", c->name, clean ? "ended" : "died");
	log_begin(log, clean ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, event);
	log_number(log, "pid", (uint64_t)c->pid);
	if (WIFSIGNALED(status))
		log_number(log, "signal", (uint64_t)WTERMSIG(status));
	else
		log_number(log, "status", (uint64_t)WEXITSTATUS(status));
}

struct timeval
backoff_next(struct backoff *b, uint64_t lived_ms)
{
	if (lived_ms >= STEADY_MS)
		b->delay_ms = 0;
	else if (b->delay_ms == 0)
		b->delay_ms = DELAY_MIN_MS;
	else if (b->delay_ms > DELAY_MAX_MS / 2)
		b->delay_ms = DELAY_MAX_MS;
	else
		b->delay_ms *= 2;
	return (struct timeval){ b->delay_ms / 1000,
		(suseconds_t)(b->delay_ms % 1000) * 1000 };
}

/* ---- the child ---- */

/* The loop's base is the master's: its epoll set is shared by the fork and must
 * not be touched through this copy. */
static void
leave_master(struct family *f)
{
	struct link *l, *following;

	event_reinit(f->loop->base);
	loop_fini(f->loop);
	LIST_EACH_SAFE (l, following, &f->children)
		close(from_link(l)->control);
	log_drop(f->log);
}

static int
run_child(const struct child *c, const struct identity *identity,
    const sigset_t *mask, child_run_fn *run, void *arg, int control)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGUSR1,
		SIGUSR2 };
	struct family *f = c->family;
	char event[64];
	int error;

	leave_master(f);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	error = privileges_drop(identity);
	if (error != 0) {
		snprintf(event, sizeof(event), "%s_failed", c->name);
		log_event(f->log, LOG_LEVEL_ERROR, event,
		    "cannot become user %s: %s", identity->name,
		    strerror(-error));
		return 1;
	}
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return run(arg, control);
}

static pid_t
fork_child(struct family *f, struct child *c, const struct identity *identity,
    child_run_fn *run, void *arg, int control)
{
	sigset_t all, before;
	pid_t pid;

	/* What is buffered must not be written twice. */
	log_flush(f->log);
	/* No handler of the master may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		close(c->control);
		exit(run_child(c, identity, &before, run, arg, control));
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -errno : pid;
}

int
child_start(struct family *f, struct child *c, const struct identity *identity,
    child_run_fn *run, void *arg)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	c->family = f;
	c->started_ms = loop_now(f->loop);
	c->control = pair[0];
	c->pid = fork_child(f, c, identity, run, arg, pair[1]);
	close(pair[1]);
	if (c->pid < 0) {
		close(pair[0]);
		return (int)c->pid;
	}
	list_append(&f->children, &c->link);
	event_assign(&c->event, f->loop->base, c->control, EV_READ | EV_PERSIST,
	    on_control, c);
	event_add(&c->event, NULL);
	return 0;
}
