/* SPDX-License-Identifier: ISC */
#include "bench_usage.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES_MAX 8192

struct process {
	pid_t pid, parent;
	uint64_t cpu_ticks;
	bool counted;
};

static FILE *
open_proc(pid_t pid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, file);
	return fopen(path, "re");
}

/* Processes come and go while they are looked at: false when it is gone. */
static bool
read_stat(pid_t pid, struct process *out)
{
	char line[1024];
	FILE *file = open_proc(pid, "stat");

	if (file == NULL)
		return false;
	const char *got = fgets(line, sizeof(line), file);
	fclose(file);
	/* The name stands in parentheses and may hold some itself. */
	const char *rest = got == NULL ? NULL : strrchr(line, ')');
	long parent;
	uint64_t ticks[4];

	if (rest == NULL ||
	    sscanf(rest,
		") %*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u"
		" %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
		&parent, &ticks[0], &ticks[1], &ticks[2], &ticks[3]) != 5)
		return false;
	*out = (struct process){ .pid = pid,
		.parent = (pid_t)parent,
		.cpu_ticks = ticks[0] + ticks[1] + ticks[2] + ticks[3] };
	return true;
}

static uint64_t
read_pss_bytes(pid_t pid)
{
	char line[256];
	uint64_t kib = 0;
	FILE *file = open_proc(pid, "smaps_rollup");

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "Pss: %" SCNu64 " kB", &kib) == 1)
			break;
	fclose(file);
	return kib * 1024;
}

static unsigned
count_descriptors(pid_t pid)
{
	char path[64];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	DIR *dir = opendir(path);

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static size_t
list_processes(struct process *list, size_t max)
{
	size_t used = 0;
	DIR *dir = opendir("/proc");

	if (dir == NULL)
		return 0;
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		long pid = strtol(entry->d_name, NULL, 10);

		if (pid > 0 && used < max && read_stat((pid_t)pid, &list[used]))
			used++;
	}
	closedir(dir);
	return used;
}

static bool
is_in_tree(const struct process *list, size_t n, size_t i, pid_t root)
{
	if (list[i].pid == root)
		return true;
	for (size_t k = 0; k < n; k++)
		if (list[k].counted && list[k].pid == list[i].parent)
			return true;
	return false;
}

int
bench_usage_of_tree(pid_t root, unsigned what, struct bench_usage *out)
{
	struct process *list = calloc(PROCESSES_MAX, sizeof(*list));
	struct bench_usage sum = { 0 };
	uint64_t ticks = 0;

	if (list == NULL)
		return -ENOMEM;
	size_t n = list_processes(list, PROCESSES_MAX);

	/* A child can be listed before its parent: until nothing is added. */
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			if (list[i].counted || !is_in_tree(list, n, i, root))
				continue;
			list[i].counted = more = true;
			sum.processes++;
			if ((what & BENCH_MEMORY) != 0)
				sum.memory_bytes += read_pss_bytes(list[i].pid);
			if ((what & BENCH_DESCRIPTORS) != 0)
				sum.descriptors +=
				    count_descriptors(list[i].pid);
			ticks += list[i].cpu_ticks;
		}
	}
	free(list);
	if (sum.processes == 0)
		return -ESRCH;
	sum.cpu_us = ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	*out = sum;
	return 0;
}
