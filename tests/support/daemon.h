/* SPDX-License-Identifier: ISC */
/*
 * daemon: the true binary as a child of the test, its log, what it tells the
 * service manager, and what /proc says of it.
 *
 * A thread reads the log and the notifications all the time, so that the daemon
 * never waits for the test. When a test leaves without daemon_stop() the daemon
 * is killed and the end of its log is printed.
 */
#ifndef FOURFOLD_TESTS_DAEMON_H
#define FOURFOLD_TESTS_DAEMON_H

#include <sys/types.h>

#include "base/addr.h"

struct daemon;

/* All may be absent. */
struct daemon_setup {
	const char *binary; /* NULL: the build under test */
	const char *user;   /* NULL: who runs this */
	const char *proxy;  /* further lines of [proxy] */
	/* The other sections; NULL: one listener on 127.0.0.1, any port. */
	const char *config;
	/* The lines of [control]; NULL: a socket of its own, as
	 * daemon_control() has it. */
	const char *control;
	/* faults.h */
	bool refuse_port_range, refuse_threads, refuse_groups;
	unsigned long files; /* RLIMIT_NOFILE, faults.h */
};

/* Starts it and waits until it is ready. */
struct daemon *daemon_start(const struct daemon_setup *setup);
/* Starts it only. */
struct daemon *daemon_launch(const struct daemon_setup *setup);
void daemon_wait_ready(struct daemon *d);

/* TERM, a clean end, exit status 0. */
void daemon_stop(struct daemon *d);
/* Waits until all its processes are gone; the exit status. No sanitizer may
 * have had a word. */
int daemon_wait_exit(struct daemon *d);
/* After daemon_wait_exit(): frees what is left. */
void daemon_free(struct daemon *d);

/* Writes its configuration file anew: as in the setup. */
void daemon_configure(struct daemon *d, const struct daemon_setup *setup);
void daemon_signal(struct daemon *d, int signal);
void daemon_signal_workers(struct daemon *d, int signal);
/* Stops the workers (SIGSTOP), so that what happens meanwhile is all there at
 * once when they go on. */
void daemon_pause(struct daemon *d);
void daemon_resume(struct daemon *d);
/* HUP, and waits until the log says that it was done. */
void daemon_reload(struct daemon *d);
/* Its folder, with fourfold.conf in it. */
const char *daemon_folder(const struct daemon *d);

/* The path of its control socket. */
#define DAEMON_PATH_MAX 96
void daemon_control(const struct daemon *d, char path[DAEMON_PATH_MAX]);

/* The first address of the listener of this name; all of them. */
struct addr daemon_address(struct daemon *d, const char *listener);
struct addr daemon_nth_address(
    struct daemon *d, const char *listener, unsigned n);

/*
 * The log. `words` are whole "key=value" pairs that one line has to have all
 * of, NULL-terminated.
 */
unsigned daemon_count_lines(struct daemon *d, const char *const words[]);
void daemon_wait_lines(struct daemon *d, unsigned n, const char *const words[]);
#define DAEMON_WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define daemon_count_log(d, ...) \
	daemon_count_lines(d, DAEMON_WORDS(__VA_ARGS__))
#define daemon_wait_log(d, ...) \
	daemon_wait_lines(d, 1, DAEMON_WORDS(__VA_ARGS__))

/* The latest such line; false when there is none. */
#define DAEMON_LINE_MAX 2048
bool daemon_find_line(
    struct daemon *d, const char *const words[], char line[DAEMON_LINE_MAX]);
#define daemon_find_log(d, line, ...) \
	daemon_find_line(d, DAEMON_WORDS(__VA_ARGS__), line)
/* The value of a key in a line, without its quotes; "" when it is not there.
 * Returns `value`. */
const char *daemon_value(
    const char *line, const char *key, char *value, size_t size);
/* Does the log hold these bytes anywhere? */
bool daemon_log_contains(struct daemon *d, const char *bytes);
/* A counter of the line written at the stop; 0 when it is not there. */
uint64_t daemon_counter(struct daemon *d, const char *name);

/* Waits for the `n`th time that it said this ("READY=1"). */
void daemon_wait_notice(struct daemon *d, unsigned n, const char *notice);

pid_t daemon_pid(const struct daemon *d);
/* Its processes: the master first, then its children; how many. */
#define DAEMON_PROCESSES_MAX 256
size_t daemon_processes(struct daemon *d, pid_t pids[DAEMON_PROCESSES_MAX]);
/* The workers that the log has seen start and not end. */
size_t daemon_workers(struct daemon *d, pid_t pids[DAEMON_PROCESSES_MAX]);
/* Memory that is theirs, shared pages in parts, in KiB. */
uint64_t daemon_pss_kb(struct daemon *d);
/* The same without programs' and libraries' pages, whose part grows when
 * another test ends: for what is compared with before. */
uint64_t daemon_own_kb(struct daemon *d);
/* Open descriptors of its workers: others may be beginning still. */
unsigned daemon_descriptors(struct daemon *d);

#endif
