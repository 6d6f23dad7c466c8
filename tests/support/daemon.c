/* SPDX-License-Identifier: ISC */
#include "daemon.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"
#include "it.h"
#include "text.h"

#define ENVIRON_MAX 256
#define TAIL_BYTES  6000

struct daemon {
	pid_t pid; /* 0: it was waited for */
	int status;
	char folder[IT_PATH_MAX];
	int log_fd, notify_fd; /* the thread's */
	pthread_t thread;
	pthread_mutex_t mutex; /* of all below */
	pthread_cond_t changed;
	struct text log, notices;
	bool ended; /* every process of it has closed the log */
};

/* Reads what is there; false at the end of the log. */
static bool
read_more(struct daemon *d, int fd, struct text *text)
{
	char bytes[65536];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	pthread_mutex_lock(&d->mutex);
	if (n > 0) {
		text_append(text, bytes, (size_t)n);
		if (fd == d->notify_fd)
			text_append(text, "\n", 1);
	} else {
		d->ended = true;
	}
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mutex);
	return n > 0;
}

static void *
on_thread(void *arg)
{
	struct daemon *d = arg;
	struct pollfd fds[2] = {
		{ .fd = d->notify_fd, .events = POLLIN },
		{ .fd = d->log_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno == EINTR)
			continue;
		if (fds[0].revents != 0)
			read_more(d, d->notify_fd, &d->notices);
		else if (fds[1].revents != 0 &&
			 !read_more(d, d->log_fd, &d->log))
			return NULL;
	}
}

/* The test left without daemon_free(): it failed. */
static void
on_test_exit(int status, void *arg)
{
	struct daemon *d = arg;
	pid_t pids[DAEMON_PROCESSES_MAX];

	(void)status;
	if (d->pid > 0) {
		size_t n = daemon_processes(d, pids);

		while (n-- > 0)
			kill(pids[n], SIGKILL);
	}
	if (d->folder[0] == '\0') {
		free(d);
		return;
	}
	pthread_mutex_lock(&d->mutex);
	size_t from = d->log.len > TAIL_BYTES ? d->log.len - TAIL_BYTES : 0;

	fprintf(stderr, "the end of the daemon's log:\n%s\n",
	    d->log.len > 0 ? d->log.bytes + from : "(nothing)");
	pthread_mutex_unlock(&d->mutex);
	it_remove_folder(d->folder);
}

void
daemon_control(const struct daemon *d, char path[DAEMON_PATH_MAX])
{
	snprintf(path, DAEMON_PATH_MAX, "%s/control", d->folder);
}

/* FOURFOLD_TEST_SPLICE=yes or no: for all that say nothing of it. */
static void
put_relay(FILE *f, const struct daemon_setup *setup)
{
	const char *splice = getenv("FOURFOLD_TEST_SPLICE");

	if (splice != NULL &&
	    (setup->config == NULL || strstr(setup->config, "[relay]") == NULL))
		fprintf(f, "[relay]\nsplice = %s\n", splice);
}

void
daemon_configure(struct daemon *d, const struct daemon_setup *setup)
{
	char path[IT_PATH_MAX + 32], control[DAEMON_PATH_MAX];
	FILE *f;

	daemon_control(d, control);
	snprintf(path, sizeof(path), "%s/fourfold.conf", d->folder);
	f = fopen(path, "we");
	IT_MUST(f != NULL, "%s: %s", path, strerror(errno));
	/* The user who runs the test: so workers stay traceable, which
	 * LeakSanitizer needs. */
	fprintf(f, "[proxy]\nuser = %s\n%s\n%s\n",
	    setup->user ? setup->user : it_user(),
	    setup->proxy != NULL ? setup->proxy : "",
	    setup->config != NULL ? setup->config
				  : "[listen default]\naddress=127.0.0.1:0\n");
	if (setup->control != NULL)
		fprintf(f, "[control]\n%s\n", setup->control);
	else
		fprintf(f, "[control]\nsocket = %s\n", control);
	put_relay(f, setup);
	IT_MUST(fclose(f) == 0, "%s: %s", path, strerror(errno));
}

static int
open_notify_socket(const struct daemon *d, char *path, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(path, size, "%s/notify", d->folder);
	strcpy_bounded(un.sun_path, sizeof(un.sun_path), path);
	IT_MUST(fd >= 0 && bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0,
	    "notify socket: %s", strerror(errno));
	return fd;
}

extern char **environ;

/* This process's environment with NOTIFY_SOCKET, and without a journal. */
static void
make_environment(char *notify, char *env[ENVIRON_MAX])
{
	size_t n = 0;

	for (char **e = environ; *e != NULL && n < ENVIRON_MAX - 2; e++) {
		if (strncmp(*e, "NOTIFY_SOCKET=", 14) != 0 &&
		    strncmp(*e, "JOURNAL_STREAM=", 15) != 0)
			env[n++] = *e;
	}
	env[n++] = notify;
	env[n] = NULL;
}

/* Between fork() and exec(): nothing that takes a lock. */
static void
become_daemon(const struct daemon_setup *setup, const char *binary,
    const char *config, char **env, int log)
{
	const char *argv[] = { binary, "-c", config, NULL };
	int null = open("/dev/null", O_RDONLY);

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || null < 0 ||
	    dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0)
		_exit(126);
	if (null > STDERR_FILENO)
		close(null);
	if (setup->refuse_port_range && !faults_refuse_port_range())
		_exit(125);
	if (setup->refuse_threads && !faults_refuse_threads())
		_exit(125);
	if (setup->refuse_groups && !faults_refuse_call(SYS_setgroups, EPERM))
		_exit(125);
	if (setup->files != 0 && !faults_limit_files(setup->files))
		_exit(124);
	execve(binary, (char *const *)(uintptr_t)argv, env);
	_exit(127);
}

struct daemon *
daemon_launch(const struct daemon_setup *setup)
{
	const char *binary = setup->binary ? setup->binary : it_binary();
	char notify[IT_PATH_MAX + 32], config[IT_PATH_MAX + 32];
	char *env[ENVIRON_MAX];
	struct daemon *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int log[2];

	IT_MUST(d != NULL && pipe2(log, O_CLOEXEC) == 0, "no memory or pipe");
	it_make_folder(d->folder);
	on_exit(on_test_exit, d);
	pthread_mutex_init(&d->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	daemon_configure(d, setup);
	strcpy_bounded(notify, sizeof(notify), "NOTIFY_SOCKET=");
	d->notify_fd = open_notify_socket(
	    d, notify + strlen(notify), sizeof(notify) - strlen(notify));
	make_environment(notify, env);
	snprintf(config, sizeof(config), "%s/fourfold.conf", d->folder);
	d->log_fd = log[0];
	d->pid = fork();
	if (d->pid == 0)
		become_daemon(setup, binary, config, env, log[1]);
	IT_MUST(d->pid > 0, "fork: %s", strerror(errno));
	close(log[1]);
	IT_MUST(pthread_create(&d->thread, NULL, on_thread, d) == 0, "thread");
	return d;
}

/* The mutex is held. Waits for a change up to the deadline, false then. */
static bool
wait_for_change(struct daemon *d, uint64_t since_ms)
{
	struct timespec until = {
		.tv_sec = (time_t)((since_ms + IT_DEADLINE_MS) / 1000),
	};

	return pthread_cond_timedwait(&d->changed, &d->mutex, &until) == 0;
}

void
daemon_wait_lines(struct daemon *d, unsigned n, const char *const words[])
{
	uint64_t since = it_now_ms();
	struct text_scan scan = { 0 };
	unsigned found = 0;
	bool more = true;

	pthread_mutex_lock(&d->mutex);
	while (found < n && more) {
		while (found < n && text_next_match(&d->log, &scan, words))
			found++;
		if (found < n)
			more = !d->ended && wait_for_change(d, since);
	}
	bool ended = d->ended;

	pthread_mutex_unlock(&d->mutex);
	IT_MUST(found >= n, "%u of %u log lines with %s %s %s: %s", found, n,
	    words[0], words[1] != NULL ? words[1] : "",
	    words[1] != NULL && words[2] != NULL ? words[2] : "",
	    ended ? "the daemon ended" : "deadline");
}

unsigned
daemon_count_lines(struct daemon *d, const char *const words[])
{
	struct text_scan scan = { 0 };
	unsigned found = 0;

	pthread_mutex_lock(&d->mutex);
	while (text_next_match(&d->log, &scan, words))
		found++;
	pthread_mutex_unlock(&d->mutex);
	return found;
}

bool
daemon_find_line(
    struct daemon *d, const char *const words[], char line[DAEMON_LINE_MAX])
{
	struct text_scan scan = { 0 };
	bool found = false;

	pthread_mutex_lock(&d->mutex);
	while (text_next_match(&d->log, &scan, words)) {
		found = true;
		text_copy_line(&d->log, &scan, line, DAEMON_LINE_MAX);
	}
	pthread_mutex_unlock(&d->mutex);
	return found;
}

const char *
daemon_value(const char *line, const char *key, char *value, size_t size)
{
	text_value(line, key, value, size);
	return value;
}

bool
daemon_log_contains(struct daemon *d, const char *bytes)
{
	pthread_mutex_lock(&d->mutex);
	bool there = d->log.len > 0 && memmem(d->log.bytes, d->log.len, bytes,
					   strlen(bytes)) != NULL;

	pthread_mutex_unlock(&d->mutex);
	return there;
}

uint64_t
daemon_counter(struct daemon *d, const char *name)
{
	char line[DAEMON_LINE_MAX], value[32];

	IT_MUST(daemon_find_log(d, line, "event=counters"),
	    "the log has no event=counters");
	return strtoull(
	    daemon_value(line, name, value, sizeof(value)), NULL, 10);
}

void
daemon_wait_notice(struct daemon *d, unsigned n, const char *notice)
{
	const char *const words[] = { notice, NULL };
	uint64_t since = it_now_ms();
	struct text_scan scan = { 0 };
	unsigned found = 0;
	bool more = true;

	pthread_mutex_lock(&d->mutex);
	while (found < n && more) {
		while (found < n && text_next_match(&d->notices, &scan, words))
			found++;
		if (found < n)
			more = !d->ended && wait_for_change(d, since);
	}
	pthread_mutex_unlock(&d->mutex);
	IT_MUST(
	    found >= n, "the daemon said %s %u times of %u", notice, found, n);
}

void
daemon_wait_ready(struct daemon *d)
{
	daemon_wait_notice(d, 1, "READY=1");
	/* The log may be read later than the notice. */
	daemon_wait_log(d, "event=ready");
}

struct daemon *
daemon_start(const struct daemon_setup *setup)
{
	struct daemon *d = daemon_launch(setup);

	daemon_wait_ready(d);
	return d;
}

void
daemon_signal(struct daemon *d, int signal)
{
	IT_MUST(kill(d->pid, signal) == 0, "kill: %s", strerror(errno));
}

void
daemon_signal_workers(struct daemon *d, int signal)
{
	pid_t pids[DAEMON_PROCESSES_MAX];
	size_t n = daemon_workers(d, pids);

	for (size_t i = 0; i < n; i++)
		IT_MUST(
		    kill(pids[i], signal) == 0, "kill: %s", strerror(errno));
}

void
daemon_reload(struct daemon *d)
{
	unsigned before = daemon_count_log(d, "event=reloaded");

	daemon_signal(d, SIGHUP);
	daemon_wait_lines(d, before + 1, DAEMON_WORDS("event=reloaded"));
}

pid_t
daemon_pid(const struct daemon *d)
{
	return d->pid;
}

const char *
daemon_folder(const struct daemon *d)
{
	return d->folder;
}

static void
check_sanitizers(struct daemon *d)
{
	IT_MUST(!daemon_log_contains(d, "Sanitizer") &&
		    !daemon_log_contains(d, "runtime error:"),
	    "a sanitizer reports");
	IT_MUST(!daemon_log_contains(d, "must(") &&
		    !daemon_log_contains(d, "must_failed"),
	    "an invariant of the daemon does not hold");
}

int
daemon_wait_exit(struct daemon *d)
{
	uint64_t since = it_now_ms();
	bool more = true;
	int status;

	pthread_mutex_lock(&d->mutex);
	while (!d->ended && more)
		more = wait_for_change(d, since);
	pthread_mutex_unlock(&d->mutex);
	IT_MUST(more, "the daemon does not end");
	IT_MUST(waitpid(d->pid, &status, 0) == d->pid, "waitpid: %s",
	    strerror(errno));
	d->pid = 0;
	d->status = status;
	check_sanitizers(d);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void
daemon_free(struct daemon *d)
{
	must(d->pid == 0);
	pthread_join(d->thread, NULL);
	close(d->log_fd);
	close(d->notify_fd);
	it_remove_folder(d->folder);
	/* The struct itself is freed when the test exits. */
	d->folder[0] = '\0';
	text_fini(&d->log);
	text_fini(&d->notices);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->mutex);
}

void
daemon_stop(struct daemon *d)
{
	daemon_signal(d, SIGTERM);
	int status = daemon_wait_exit(d);

	IT_MUST(status == 0, "exit status %d", status);
	daemon_free(d);
}

struct addr
daemon_nth_address(struct daemon *d, const char *listener, unsigned n)
{
	char name[64], line[DAEMON_LINE_MAX], value[ADDR_TEXT_MAX];
	struct text_scan scan = { 0 };
	struct addr a = { .family = ADDR_NONE };

	snprintf(name, sizeof(name), "listen=%s", listener);
	const char *const words[] = { "event=listening", name, NULL };

	pthread_mutex_lock(&d->mutex);
	for (unsigned i = 0; i <= n; i++) {
		if (!text_next_match(&d->log, &scan, words))
			break;
		text_copy_line(&d->log, &scan, line, sizeof(line));
		text_value(line, "address", value, sizeof(value));
		if (i == n && addr_parse(value, &a) != 0)
			a.family = ADDR_NONE;
	}
	pthread_mutex_unlock(&d->mutex);
	IT_MUST(
	    a.family != ADDR_NONE, "no listening line %u of %s", n, listener);
	return a;
}

struct addr
daemon_address(struct daemon *d, const char *listener)
{
	return daemon_nth_address(d, listener, 0);
}
