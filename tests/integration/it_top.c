/* SPDX-License-Identifier: ISC */
/*
 * fourfold top in a terminal: it shows the status again and again, and leaves
 * the terminal as it found it.
 */
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"

#define ENTER "\033[?1049h"
#define LEAVE "\033[?1049l"
#define HOME  "\033[H"

unsigned
it_needs(void)
{
	return IT_ANY_HOST;
}

struct scene {
	struct daemon *daemon;
	int ours, theirs; /* of the terminal */
	struct termios before;
	pid_t pid;
	char seen[262144];
	size_t len;
};

/* Between fork() and exec(). */
static void
become_top(const struct scene *s, const char *config)
{
	const char *const argv[] = { it_binary(), "top", "-c", config, NULL };

	if (setsid() < 0 || ioctl(s->theirs, TIOCSCTTY, 0) != 0 ||
	    dup2(s->theirs, 0) < 0 || dup2(s->theirs, 1) < 0 ||
	    dup2(s->theirs, 2) < 0)
		_exit(126);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static void
scene_open_of(struct scene *s, struct winsize size)
{
	char config[IT_PATH_MAX + 32];

	s->daemon = daemon_start(&(struct daemon_setup){ 0 });
	snprintf(config, sizeof(config), "%s/fourfold.conf",
	    daemon_folder(s->daemon));
	s->ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	IT_MUST(s->ours >= 0 && grantpt(s->ours) == 0 && unlockpt(s->ours) == 0,
	    "no terminal: %s", strerror(errno));
	s->theirs = open(ptsname(s->ours), O_RDWR | O_NOCTTY | O_CLOEXEC);
	IT_MUST(s->theirs >= 0, "no terminal: %s", strerror(errno));
	ioctl(s->theirs, TIOCSWINSZ, &size);
	tcgetattr(s->theirs, &s->before);
	s->pid = it_fork();
	if (s->pid == 0)
		become_top(s, config);
}

static void
scene_open(struct scene *s)
{
	scene_open_of(s, (struct winsize){ .ws_row = 12, .ws_col = 60 });
}

static unsigned
count(const struct scene *s, const char *words)
{
	unsigned n = 0;

	for (const char *at = s->seen; (at = strstr(at, words)) != NULL; at++)
		n++;
	return n;
}

/* Reads until it has shown itself `n` times. */
static void
await_screens(struct scene *s, unsigned n)
{
	struct pollfd p = { .fd = s->ours, .events = POLLIN };

	while (count(s, HOME) < n || count(s, "q: quit") < n) {
		IT_MUST(poll(&p, 1, IT_DEADLINE_MS) == 1, "it shows nothing");
		ssize_t got = read(
		    s->ours, s->seen + s->len, sizeof(s->seen) - 1 - s->len);

		IT_MUST(got > 0, "the terminal is gone: %s", s->seen);
		s->len += (size_t)got;
		s->seen[s->len] = '\0';
	}
}

/* It ends in order, and the terminal is what it was. */
static void
expect_end(struct scene *s)
{
	struct pollfd p = { .fd = s->ours, .events = POLLIN };
	struct termios after;
	int status;

	while (count(s, LEAVE) == 0) {
		IT_MUST(poll(&p, 1, IT_DEADLINE_MS) == 1, "it goes on");
		ssize_t got = read(
		    s->ours, s->seen + s->len, sizeof(s->seen) - 1 - s->len);

		IT_MUST(got > 0, "it ended, and left the terminal as it was");
		s->len += (size_t)got;
		s->seen[s->len] = '\0';
	}
	IT_MUST(waitpid(s->pid, &status, 0) == s->pid, "waitpid");
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
	tcgetattr(s->theirs, &after);
	cr_expect_eq(after.c_lflag, s->before.c_lflag);
	cr_expect_eq(count(s, ENTER), 1);
	close(s->ours);
	close(s->theirs);
}

Test(top, it_shows_the_status_again_and_again_until_q)
{
	static struct scene s;

	scene_open(&s);
	await_screens(&s, 3);
	cr_expect_not_null(strstr(s.seen, "sessions  0 of "), "%s", s.seen);
	/* No more than the terminal has room for. */
	for (const char *line = strstr(s.seen, HOME); line != NULL;
	     line = strstr(line, "\r\n")) {
		line += 2;
		cr_expect_leq(strcspn(line, "\r\033"), 60);
	}
	IT_MUST(write(s.ours, "q", 1) == 1, "write");
	expect_end(&s);
	daemon_stop(s.daemon);
}

/* The rows of the first screen, which are no longer than this. */
static unsigned
count_rows(const struct scene *s, size_t longest)
{
	const char *row = strstr(s->seen, HOME) + strlen(HOME);
	unsigned rows = 0;

	for (; strncmp(row, "\033[J", 3) != 0; rows++) {
		size_t len = strcspn(row, "\033");

		cr_expect_leq(len, longest);
		row = strstr(row, "\r\n");
		cr_assert_not_null(row);
		row += 2;
	}
	return rows;
}

Test(top, a_terminal_of_no_size_is_taken_as_24_by_80)
{
	static struct scene s;

	unsetenv("LINES");
	unsetenv("COLUMNS");
	scene_open_of(&s, (struct winsize){ 0 });
	await_screens(&s, 1);
	cr_expect_not_null(strstr(s.seen, "sessions  0 of "), "%s", s.seen);
	cr_expect_gt(count_rows(&s, 80), 5);
	IT_MUST(write(s.ours, "q", 1) == 1, "write");
	expect_end(&s);
	daemon_stop(s.daemon);
}

Test(top, a_terminal_of_no_size_is_as_the_environment_says)
{
	static struct scene s;

	setenv("LINES", "5", 1);
	setenv("COLUMNS", "11", 1);
	scene_open_of(&s, (struct winsize){ 0 });
	await_screens(&s, 1);
	cr_expect_eq(count_rows(&s, 11), 4);
	cr_expect_null(strstr(s.seen, "sessions  0"), "%s", s.seen);
	IT_MUST(write(s.ours, "q", 1) == 1, "write");
	expect_end(&s);
	daemon_stop(s.daemon);
}

Test(top, ctrl_c_ends_it_as_well)
{
	static struct scene s;

	scene_open(&s);
	await_screens(&s, 1);
	IT_MUST(write(s.ours, "\003", 1) == 1, "write");
	expect_end(&s);
	daemon_stop(s.daemon);
}

Test(top, a_signal_leaves_the_terminal_in_order)
{
	static struct scene s;

	scene_open(&s);
	await_screens(&s, 1);
	kill(s.pid, SIGTERM);
	expect_end(&s);
	daemon_stop(s.daemon);
}

Test(top, it_stays_while_the_daemon_is_away)
{
	static struct scene s;

	scene_open(&s);
	await_screens(&s, 1);
	daemon_stop(s.daemon);
	while (count(&s, "nobody answers") == 0)
		await_screens(&s, count(&s, HOME) + 1);
	IT_MUST(write(s.ours, "q", 1) == 1, "write");
	expect_end(&s);
}
