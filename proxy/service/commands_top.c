/* SPDX-License-Identifier: ISC */
/*
 * top: the status, again each second, for as long as somebody looks.
 */
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "service/commands_live.h"

#define PERIOD_MS 1000

/* ECMA-48, and what xterm adds: another screen, no cursor; and back. */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_REST    "\033[K\r\n"
#define SCREEN_REST  "\033[J"

#define CONTROL_C 3

/* Of a terminal that says nothing of its size. */
#define ROWS    24
#define COLUMNS 80

struct screen {
	struct termios before;
	int signals; /* those that end us, or say that the size has changed */
};

/* Keys come one by one and unseen, Ctrl-C among them, so that the terminal is
 * left as it was whatever ends us. */
static bool
screen_enter(struct screen *s)
{
	struct termios raw;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return false;
	if (tcgetattr(STDIN_FILENO, &s->before) != 0) {
		close(s->signals);
		return false;
	}
	raw = s->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
	fputs(SCREEN_ENTER, stdout);
	return true;
}

static void
screen_leave(struct screen *s)
{
	fputs(SCREEN_LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before);
	close(s->signals);
}

/* A size of the environment, or `fallback`. */
static unsigned short
size_named(const char *name, unsigned short fallback)
{
	const char *text = getenv(name);
	long n = text != NULL ? strtol(text, NULL, 10) : 0;

	return n > 0 && n <= USHRT_MAX ? (unsigned short)n : fallback;
}

/* A serial console does not know its size: 0 by 0. */
static struct winsize
screen_size(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		size = (struct winsize){ 0 };
	if (size.ws_row == 0)
		size.ws_row = size_named("LINES", ROWS);
	if (size.ws_col == 0)
		size.ws_col = size_named("COLUMNS", COLUMNS);
	return size;
}

/* As much of the text as fits; what was there is overwritten in place, so that
 * nothing flickers. */
static void
screen_show(const char *text)
{
	struct winsize size = screen_size();
	int rows = size.ws_row > 1 ? size.ws_row - 1 : 1;

	fputs(SCREEN_HOME, stdout);
	for (int row = 0; row < rows && *text != '\0'; row++) {
		size_t len = strcspn(text, "\n");
		size_t shown = len < size.ws_col ? len : size.ws_col;

		fwrite(text, 1, shown, stdout);
		fputs(LINE_REST, stdout);
		text += len + (text[len] == '\n');
	}
	fputs(SCREEN_REST "q: quit", stdout);
	fflush(stdout);
}

/* Waits for the next second; false when somebody wants to leave. */
static bool
wait_on(struct screen *s)
{
	struct pollfd fds[2] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = s->signals, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	char key;

	if (poll(fds, 2, PERIOD_MS) <= 0)
		return true;
	if (fds[1].revents != 0)
		return read(s->signals, &info, sizeof(info)) != sizeof(info) ||
		       info.ssi_signo == SIGWINCH;
	if (read(STDIN_FILENO, &key, 1) != 1)
		return false;
	return key != 'q' && key != 'Q' && key != CONTROL_C;
}

static int
show_once(
    const char *path, const struct command_line *line, char why[CLIENT_WHY_MAX])
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int error;

	must(f != NULL);
	error = live_status(path, line, f, why);
	must(fclose(f) == 0);
	/* It may be back soon: a restart is no reason to leave. A question that
	 * is wrong stays so. */
	if (error != -EINVAL)
		screen_show(error == 0 ? text : why);
	free(text);
	return error;
}

int
command_top(const struct command_line *line)
{
	char path[CONFIG_PATH_MAX + 1], why[CLIENT_WHY_MAX];
	int status = live_find_socket(line, "top", path), error;
	struct screen screen;

	if (status != 0)
		return status;
	if (line->once || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
	    !screen_enter(&screen)) {
		error = live_status(path, line, stdout, why);
		return error == 0 ? 0 : live_fail("top", error, why);
	}
	do
		error = show_once(path, line, why);
	while (error != -EINVAL && wait_on(&screen));
	screen_leave(&screen);
	return error == -EINVAL ? live_fail("top", error, why) : 0;
}
