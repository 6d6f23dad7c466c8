/* SPDX-License-Identifier: ISC */
/*
 * bench: puts one SOCKS5 proxy under load and prints one line of figures.
 *
 * One process with one loop is all of the clients, one more is all of the
 * targets (bench_target). Clients have addresses in 127.10.0.0/16 and ask for
 * targets in 127.20.0.0/16, so that neither runs out of ports. Both ends cost
 * the machine the same whatever the proxy is; ratios are what to trust.
 *
 *   rate   sessions of 64 bytes each way, ended by the client's reset, a fixed
 *          number of them at a time
 *   idle   holds sessions that had their 64 bytes each way, and looks at the
 *          memory of the proxy's processes before and after
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "bench_target.h"
#include "bench_usage.h"

#define PAYLOAD_BYTES  64
#define CLIENT_NET     0x7f0a0000u /* 127.10.0.0 */
#define TARGET_NET     0x7f140000u /* 127.20.0.0 */
#define CLIENT_HOSTS   64u
#define TARGET_HOSTS   4096u
#define WARM_UP_MS     500
#define WARM_UP_HELD   64u /* what a proxy takes once, not for each session */
#define ERRORS_MAX     1000
#define STARTING_MS    10000 /* for the proxy to listen */
#define IDLE_LIMIT_MS  60000 /* for all sessions of `idle` to stand */
#define STEP_LIMIT_MS  5000  /* without any progress at all */
#define CONCURRENT_MAX 4096u
#define SESSIONS_MAX   100000u
#define SECONDS_MAX    60u

enum step {
	STEP_NONE,
	STEP_CONNECT,
	STEP_METHOD,
	STEP_REPLY,
	STEP_ECHO,
	STEP_HELD
};

struct client {
	int fd; /* -1 in STEP_NONE */
	enum step step;
	unsigned got; /* bytes of what the step waits for, in `in` */
	uint8_t in[PAYLOAD_BYTES];
};

struct options {
	bool idle;
	struct addr proxy;
	pid_t pid;
	unsigned concurrent, sessions, seconds;
};

struct bench {
	const struct options *options;
	struct bench_target target;
	int epoll;
	struct client *clients;
	unsigned started; /* sessions, ever: picks the addresses */
	unsigned opening; /* on their way to STEP_HELD */
	uint64_t done;    /* `rate`: sessions ended; `idle`: held */
	uint64_t errors;
	enum step error_step;    /* of the first error */
	int error_number;        /* and its errno, or the reply's code */
	uint64_t progress_at_ms; /* of the last session done */
};

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
die(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error));
	exit(1);
}

/* A socket of client number `n`, whose close() is a reset. */
static int
open_client(unsigned n)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int on = 1;
	struct sockaddr_storage ss;
	struct addr source = addr_v4(CLIENT_NET + 1 + n % CLIENT_HOSTS, 0);
	socklen_t len = addr_to_sockaddr(&source, &ss);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static void
client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->step = STEP_NONE;
}

static void
client_fail(struct bench *b, struct client *c, int number)
{
	if (b->errors++ == 0) {
		b->error_step = c->step;
		b->error_number = number;
	}
	if (c->step == STEP_HELD)
		b->done--;
	else
		b->opening--;
	client_close(c);
}

static void
client_start(struct bench *b, struct client *c)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&b->options->proxy, &ss);
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET,
		.data.ptr = c };

	b->opening++;
	b->started++;
	c->step = STEP_CONNECT;
	c->got = 0;
	c->fd = open_client(b->started);
	if (c->fd < 0)
		client_fail(b, c, -c->fd);
	else if ((connect(c->fd, (struct sockaddr *)&ss, len) != 0 &&
		     errno != EINPROGRESS) ||
		 epoll_ctl(b->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
		client_fail(b, c, errno);
}

/* What the client says in its step, and how much it then waits for. */
static void
client_say(struct bench *b, struct client *c, enum step next)
{
	static const uint8_t greeting[] = { 5, 1, 0 };
	static const uint8_t payload[PAYLOAD_BYTES] = "fourfold";
	uint32_t target = TARGET_NET + 1 + b->started % TARGET_HOSTS;
	uint16_t port = b->target.port;
	const uint8_t request[] = { 5, 1, 0, 1, (uint8_t)(target >> 24),
		(uint8_t)(target >> 16), (uint8_t)(target >> 8),
		(uint8_t)target, (uint8_t)(port >> 8), (uint8_t)port };
	const uint8_t *bytes = greeting;
	size_t len = sizeof(greeting);

	if (next == STEP_REPLY) {
		bytes = request;
		len = sizeof(request);
	} else if (next == STEP_ECHO) {
		bytes = payload;
		len = sizeof(payload);
	}
	c->got = 0;
	if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		client_fail(b, c, errno);
	else
		c->step = next;
}

/* The bytes that the step waits for; a reply's length shows in its fourth. */
static unsigned
client_wants(const struct client *c)
{
	if (c->step == STEP_METHOD)
		return 2;
	if (c->step == STEP_REPLY)
		return c->got >= 4 && c->in[3] == 4 ? 22 : 10;
	return PAYLOAD_BYTES;
}

static void
client_heard(struct bench *b, struct client *c)
{
	if (c->step == STEP_METHOD && c->in[1] == 0) {
		client_say(b, c, STEP_REPLY);
	} else if (c->step == STEP_REPLY && c->in[1] == 0) {
		client_say(b, c, STEP_ECHO);
	} else if (c->step == STEP_ECHO) {
		b->done++;
		b->opening--;
		b->progress_at_ms = now_ms();
		if (b->options->idle)
			c->step = STEP_HELD;
		else
			client_close(c);
	} else {
		client_fail(b, c, c->in[1]);
	}
}

static void
client_event(struct bench *b, struct client *c, uint32_t events)
{
	if (c->step == STEP_CONNECT && (events & EPOLLOUT) != 0 &&
	    (events & EPOLLERR) == 0)
		client_say(b, c, STEP_METHOD);
	while (c->step > STEP_CONNECT) {
		unsigned want = c->step == STEP_HELD ? 1 : client_wants(c);
		unsigned got = c->step == STEP_HELD ? 0 : c->got;
		ssize_t n = recv(c->fd, c->in + got, want - got, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || c->step == STEP_HELD) {
			client_fail(b, c, n < 0 ? errno : 0);
			return;
		}
		c->got = got + (unsigned)n;
		if (c->got == client_wants(c))
			client_heard(b, c);
	}
	if (c->step == STEP_CONNECT && (events & (EPOLLERR | EPOLLHUP)) != 0)
		client_fail(b, c, ECONNREFUSED);
}

static void
turn(struct bench *b)
{
	struct epoll_event events[256];
	int n = epoll_wait(b->epoll, events, ARRAY_LEN(events), 50);

	for (int i = 0; i < n; i++)
		client_event(b, events[i].data.ptr, events[i].events);
	if (b->errors > ERRORS_MAX)
		fprintf(stderr, "bench: more than %d errors\n", ERRORS_MAX);
	else if (now_ms() > b->progress_at_ms + STEP_LIMIT_MS)
		fprintf(stderr, "bench: no session stands any more\n");
	else
		return;
	fprintf(stderr, "bench: done=%" PRIu64 " first_error=%d in step %d\n",
	    b->done, b->error_number, (int)b->error_step);
	bench_target_stop(&b->target);
	exit(1);
}

static void
run_rate_until(struct bench *b, uint64_t end_ms)
{
	while (now_ms() < end_ms) {
		for (unsigned i = 0; i < b->options->concurrent; i++)
			if (b->clients[i].step == STEP_NONE)
				client_start(b, &b->clients[i]);
		turn(b);
	}
}

static struct bench_usage
look(const struct bench *b)
{
	struct bench_usage usage;
	int error = bench_usage_of_tree(b->options->pid, &usage);

	if (error != 0)
		die("the proxy's processes", -error);
	return usage;
}

static void
run_rate(struct bench *b)
{
	uint64_t start = now_ms() + WARM_UP_MS;

	run_rate_until(b, start);
	struct bench_usage before = look(b);
	uint64_t warm = b->done;

	start = now_ms();
	run_rate_until(b, start + b->options->seconds * 1000);
	uint64_t took_ms = now_ms() - start;
	struct bench_usage after = look(b);
	uint64_t sessions = b->done - warm;

	printf("sessions_per_s=%" PRIu64 " cpu_us_per_session=%.1f"
	       " sessions=%" PRIu64 " errors=%" PRIu64 "\n",
	    sessions * 1000 / took_ms,
	    (double)(after.cpu_us - before.cpu_us) /
		(double)(sessions == 0 ? 1 : sessions),
	    sessions, b->errors);
}

static void
hold(struct bench *b, unsigned sessions)
{
	uint64_t deadline = now_ms() + IDLE_LIMIT_MS;

	for (unsigned next = 0; b->done < sessions;) {
		if (now_ms() > deadline)
			die("holding the sessions", ETIMEDOUT);
		while (b->opening < b->options->concurrent &&
		       b->done + b->opening < sessions) {
			while (b->clients[next].step != STEP_NONE)
				next = (next + 1) % sessions;
			client_start(b, &b->clients[next]);
		}
		turn(b);
	}
}

static void
run_idle(struct bench *b)
{
	hold(b, WARM_UP_HELD);
	struct bench_usage before = look(b);

	hold(b, WARM_UP_HELD + b->options->sessions);
	struct bench_usage after = look(b);

	printf("bytes_per_session=%" PRId64 " sessions=%u errors=%" PRIu64
	       " processes=%u\n",
	    ((int64_t)after.memory_bytes - (int64_t)before.memory_bytes) /
		(int64_t)b->options->sessions,
	    b->options->sessions, b->errors, after.processes);
}

/* Until somebody listens there: the proxy was started a moment ago. */
static void
wait_for_proxy(const struct addr *proxy)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(proxy, &ss);
	uint64_t deadline = now_ms() + STARTING_MS;
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			die("socket", errno);
		int error = connect(fd, (struct sockaddr *)&ss, len);

		close(fd);
		if (error == 0)
			return;
		if (now_ms() > deadline)
			die("no proxy listens", ETIMEDOUT);
		nanosleep(&pause, NULL);
	}
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

static void
usage(void)
{
	fprintf(stderr,
	    "usage: bench rate -p ADDRESS:PORT -P PID [-c CONCURRENT]"
	    " [-t SECONDS]\n"
	    "       bench idle -p ADDRESS:PORT -P PID [-c CONCURRENT]"
	    " [-n SESSIONS]\n");
	exit(2);
}

static struct options
parse(int argc, char **argv)
{
	struct options o = { .concurrent = 64, .sessions = 5000, .seconds = 3 };

	for (int c; (c = getopt(argc, argv, "p:P:c:n:t:")) != -1;) {
		if (c == 'p' && addr_parse(optarg, &o.proxy) == 0)
			continue;
		else if (c == 'P')
			o.pid = (pid_t)number_or_usage(optarg, 1u << 22);
		else if (c == 'c')
			o.concurrent = number_or_usage(optarg, CONCURRENT_MAX);
		else if (c == 'n')
			o.sessions = number_or_usage(optarg, SESSIONS_MAX);
		else if (c == 't')
			o.seconds = number_or_usage(optarg, SECONDS_MAX);
		else
			usage();
	}
	if (optind != argc - 1 || o.pid == 0 || o.proxy.family != ADDR_V4)
		usage();
	o.idle = strcmp(argv[optind], "idle") == 0;
	if (!o.idle && strcmp(argv[optind], "rate") != 0)
		usage();
	return o;
}

static void
raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int
main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	struct bench b = { .options = &options,
		.epoll = epoll_create1(EPOLL_CLOEXEC) };
	unsigned slots =
	    options.idle ? WARM_UP_HELD + options.sessions : options.concurrent;

	raise_descriptors();
	wait_for_proxy(&options.proxy);
	b.clients = calloc(slots, sizeof(*b.clients));
	if (b.epoll < 0 || b.clients == NULL)
		die("setting up", errno);
	for (unsigned i = 0; i < slots; i++)
		b.clients[i].fd = -1;
	int error = bench_target_start(&b.target);

	if (error != 0)
		die("starting the targets", -error);
	b.progress_at_ms = now_ms();
	if (options.idle)
		run_idle(&b);
	else
		run_rate(&b);
	bench_target_stop(&b.target);
	for (unsigned i = 0; i < slots; i++)
		client_close(&b.clients[i]);
	free(b.clients);
	close(b.epoll);
	return 0;
}
