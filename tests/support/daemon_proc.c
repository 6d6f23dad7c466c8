/* SPDX-License-Identifier: ISC */
/*
 * What /proc says of the daemon's processes.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "it.h"

/* The state of a process, as a letter, and its parent. */
static char
state_of(pid_t pid, pid_t *parent)
{
	char path[64], text[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 'X';
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	fclose(f);
	text[n] = '\0';
	/* "pid (name) state parent ..."; the name may hold anything. */
	const char *rest = strrchr(text, ')');

	if (rest == NULL || strlen(rest) < 4)
		return 'X';
	*parent = (pid_t)strtol(rest + 3, NULL, 10);
	return rest[2];
}

static bool
is_child(pid_t pid, pid_t master)
{
	pid_t parent = -1;
	char state = state_of(pid, &parent);

	return parent == master && state != 'Z' && state != 'X';
}

size_t
daemon_processes(struct daemon *d, pid_t pids[DAEMON_PROCESSES_MAX])
{
	pid_t master = daemon_pid(d);
	DIR *dir = opendir("/proc");
	size_t n = 0;

	IT_MUST(dir != NULL, "/proc");
	pids[n++] = master;
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && n < DAEMON_PROCESSES_MAX &&
		    is_child(pid, master))
			pids[n++] = pid;
	}
	closedir(dir);
	return n;
}

size_t
daemon_workers(struct daemon *d, pid_t pids[DAEMON_PROCESSES_MAX])
{
	size_t all = daemon_processes(d, pids), n = 0;

	for (size_t i = 1; i < all; i++) {
		char word[32];

		snprintf(word, sizeof(word), "pid=%d", (int)pids[i]);
		if (daemon_count_log(d, "event=worker_started", word) > 0)
			pids[n++] = pids[i];
	}
	return n;
}

void
daemon_pause(struct daemon *d)
{
	pid_t pids[DAEMON_PROCESSES_MAX], parent;
	size_t n = daemon_workers(d, pids);

	daemon_signal_workers(d, SIGSTOP);
	/* A signal does not stop a process at once. */
	for (size_t i = 0; i < n; i++)
		IT_EVENTUALLY(state_of(pids[i], &parent) == 'T');
}

void
daemon_resume(struct daemon *d)
{
	daemon_signal_workers(d, SIGCONT);
}

/* The figure of this name in its smaps_rollup, in KiB; 0 when it has none. */
static uint64_t
rollup_of(pid_t pid, const char *name)
{
	char path[64], line[256];
	unsigned long kb = 0;
	size_t len = strlen(name);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, name, len) != 0 || line[len] != ':')
			continue;
		kb = strtoul(line + len + 1, NULL, 10);
		break;
	}
	fclose(f);
	return kb;
}

static uint64_t
sum_of(struct daemon *d, const char *name)
{
	pid_t pids[DAEMON_PROCESSES_MAX];
	size_t n = daemon_processes(d, pids);
	uint64_t kb = 0;

	for (size_t i = 0; i < n; i++)
		kb += rollup_of(pids[i], name);
	IT_MUST(kb > 0, "smaps_rollup has no %s", name);
	return kb;
}

uint64_t
daemon_pss_kb(struct daemon *d)
{
	return sum_of(d, "Pss");
}

uint64_t
daemon_own_kb(struct daemon *d)
{
	return sum_of(d, "Pss_Anon") + sum_of(d, "Pss_Shmem");
}

unsigned
daemon_descriptors(struct daemon *d)
{
	pid_t pids[DAEMON_PROCESSES_MAX];
	size_t n = daemon_workers(d, pids);
	unsigned count = 0;

	for (size_t i = 0; i < n; i++) {
		char path[64];
		DIR *dir;

		snprintf(path, sizeof(path), "/proc/%d/fd", (int)pids[i]);
		dir = opendir(path);
		if (dir == NULL)
			continue;
		while (readdir(dir) != NULL)
			count++;
		closedir(dir);
	}
	return count;
}
