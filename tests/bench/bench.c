/* SPDX-License-Identifier: ISC */
/*
 * bench: puts one proxy under load and prints one line of figures.
 *
 * One process with one loop is all of the clients, one more is all of the
 * targets; more where descriptors demand it. Both ends cost the machine the
 * same whatever the proxy is; ratios are what to trust.
 *
 *   rate    sessions of 64 bytes each way, ended by the client's reset, a fixed
 *           number of them at a time
 *   rr      64 bytes and an answer of as many, on sessions that stay
 *   bulk    streams as fast as they go
 *   mixed   rr alone, then while bulk streams run
 *   idle    holds sessions that had their 64 bytes each way, and looks at the
 *           memory and the descriptors of the proxy's processes
 *   hold    the same, and then `rate` beside them
 */
#include "bench.h"

#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGET_PORT    29000
#define CONCURRENT_MAX 4096u
#define SESSIONS_MAX   280000u
#define SECONDS_MAX    60u

/* Of one target process. */
#define TARGET_SESSIONS 14000u

static const struct {
	const char *name;
	void (*run)(const struct options *o);
} workloads[] = {
	{ "rate", bench_print_rate },
	{ "rr", bench_requests },
	{ "bulk", bench_bulk },
	{ "mixed", bench_mixed },
	{ "idle", bench_idle },
	{ "hold", bench_hold },
};

struct bench_usage
bench_look(const struct options *o, unsigned what)
{
	struct bench_usage usage = { 0 };
	int error = o->pid == 0 ? 0 : bench_usage_of_tree(o->pid, what, &usage);

	if (error != 0)
		net_die("the proxy's processes", -error);
	return usage;
}

void
bench_end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void
usage(void)
{
	fprintf(stderr,
	    "usage: bench WORKLOAD -p ADDRESS:PORT -P PID [OPTION...]\n"
	    "       bench WORKLOAD -r ADDRESS:PORT -P PID [OPTION...]\n"
	    "       bench WORKLOAD -d [OPTION...]\n"
	    "WORKLOAD: rate, rr, bulk, mixed, idle, hold\n"
	    "  -p  a SOCKS5 proxy\n"
	    "  -r  a relay whose port + 0, 1, 2, 3 leads to the targets'\n"
	    "      ports %d + 0, 1, 2, 3 (echo, sink, source, both)\n"
	    "  -d  neither: the limit of the machine and of this program\n"
	    "  -P  its process; those that it forked are counted in\n"
	    "  -c CONCURRENT  sessions at a time (64)\n"
	    "  -n SESSIONS    held by idle and hold (5000)\n"
	    "  -s STREAMS     of bulk and mixed (8)\n"
	    "  -w down|up|both  which way bulk streams go (down)\n"
	    "  -t SECONDS     (3)\n",
	    TARGET_PORT);
	exit(2);
}

static unsigned
number_or_usage(const char *text, unsigned max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || n == 0 || n > max) {
		fprintf(stderr, "bench: not from 1 to %u: %s\n", max, text);
		exit(2);
	}
	return (unsigned)n;
}

static enum direction
direction_or_usage(const char *text)
{
	static const char *const names[] = {
		[DOWN] = "down", [UP] = "up", [BOTH_WAYS] = "both"
	};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(text, names[i]) == 0)
			return (enum direction)i;
	usage();
	exit(2);
}

static void
set_way(struct options *o, enum way_kind kind, const char *text)
{
	o->way.kind = kind;
	if (addr_parse(text, &o->way.proxy) != 0 ||
	    o->way.proxy.family != ADDR_V4)
		usage();
}

static void
parse_option(struct options *o, int c, const char *text)
{
	if (c == 'p')
		set_way(o, WAY_SOCKS, text);
	else if (c == 'r')
		set_way(o, WAY_RELAY, text);
	else if (c == 'd')
		o->way.kind = WAY_DIRECT;
	else if (c == 'P')
		o->pid = (pid_t)number_or_usage(text, 1u << 22);
	else if (c == 'c')
		o->concurrent = number_or_usage(text, CONCURRENT_MAX);
	else if (c == 'n')
		o->sessions = number_or_usage(text, SESSIONS_MAX);
	else if (c == 's')
		o->streams = number_or_usage(text, CONCURRENT_MAX);
	else if (c == 'w')
		o->direction = direction_or_usage(text);
	else if (c == 't')
		o->seconds = number_or_usage(text, SECONDS_MAX);
	else
		usage();
}

static struct options
parse(int argc, char **argv)
{
	struct options o = { .way = { .target_port = TARGET_PORT },
		.concurrent = 64,
		.sessions = 5000,
		.seconds = 3,
		.streams = 8 };

	for (int c; (c = getopt(argc, argv, "p:r:dP:c:n:s:w:t:")) != -1;)
		parse_option(&o, c, optarg);
	if (optind != argc - 1)
		usage();
	if (o.way.kind == WAY_DIRECT ? o.pid != 0 : o.pid == 0)
		usage();
	if (o.way.kind != WAY_DIRECT && o.way.proxy.family == ADDR_NONE)
		usage();
	return o;
}

int
main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	struct targets targets;
	unsigned processes = 1;
	size_t i = 0;

	while (i < ARRAY_LEN(workloads) &&
	       strcmp(argv[optind], workloads[i].name) != 0)
		i++;
	if (i == ARRAY_LEN(workloads))
		usage();
	net_raise_descriptors();
	if (workloads[i].run == bench_idle || workloads[i].run == bench_hold)
		processes += o.sessions / TARGET_SESSIONS;
	targets_start(&targets, TARGET_PORT, processes);
	o.targets = &targets;
	way_wait(&o.way);
	workloads[i].run(&o);
	targets_stop(&targets);
	return 0;
}
