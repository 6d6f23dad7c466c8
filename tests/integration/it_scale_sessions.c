/* SPDX-License-Identifier: ISC */
/*
 * Past 65,535: 70,000 sessions at once through one proxy, from one source
 * address and ONE source port.
 *
 * No process has so many descriptors: clients and targets are several
 * processes, told by a pipe what to do. The targets share one listening socket:
 * a group of SO_REUSEPORT listeners would have all of one source port on one of
 * them. A client address has at most 64,511 ports towards a listener, so each
 * client process has an address of its own.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define SESSIONS          70000U
#define CLIENT_PROCESSES  4U
#define TARGET_PROCESSES  5U
#define A_CLIENT          (SESSIONS / CLIENT_PROCESSES)
#define A_TARGET_MAX      18000U
#define SOURCE_PORT       40000
#define FIRST_CLIENT_PORT 2000U /* below the listeners of namespace.h */
#define BATCH             64U
#define DEADLINE_MS       240000 /* a slow machine is not a failure */
#define BYTES_A_SESSION   1536U

unsigned
it_needs(void)
{
	return IT_NAMESPACES | IT_RELEASE | IT_MANY_FILES;
}

/* A child and the pipes to it. It is told to go on by a byte, and answers with
 * a number at the end of each step. */
struct helper {
	pid_t pid;
	int tell, hear;
};

/* What the children know. */
struct plan {
	struct target target;
	struct addr proxy;
	uint32_t index; /* which of them */
	int tell, hear; /* their own ends */
};

/* The byte that session `n` carries up, and down. */
static uint8_t
byte_up(uint32_t n)
{
	return (uint8_t)(n * 31 + n / 251);
}

static uint8_t
byte_down(uint32_t n)
{
	return (uint8_t)~byte_up(n);
}

/* In a child: says why and leaves. The parent sees the pipe's end. */
static void
give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

static void
report(const struct plan *plan, uint32_t number)
{
	if (write(plan->tell, &number, sizeof(number)) != sizeof(number))
		_exit(1);
}

static void
wait_for_word(const struct plan *plan)
{
	char word;

	if (read(plan->hear, &word, 1) != 1)
		_exit(1);
}

static void
run_helper(struct helper *h, void (*body)(struct plan *), struct plan *plan)
{
	int down[2], up[2];

	IT_MUST(pipe2(down, 0) == 0 && pipe2(up, 0) == 0, "pipe");
	h->pid = it_fork();
	if (h->pid == 0) {
		close(down[1]);
		close(up[0]);
		plan->hear = down[0];
		plan->tell = up[1];
		body(plan);
		_exit(0);
	}
	close(down[0]);
	close(up[1]);
	h->tell = down[1];
	h->hear = up[0];
}

static void
tell_all(struct helper *helpers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		IT_MUST(write(helpers[i].tell, "", 1) == 1, "a helper is gone");
}

static uint32_t
hear(struct helper *h)
{
	struct pollfd p = { .fd = h->hear, .events = POLLIN };
	uint32_t number;

	IT_MUST(poll(&p, 1, DEADLINE_MS) == 1, "a helper does not answer");
	IT_MUST(read(h->hear, &number, sizeof(number)) == sizeof(number),
	    "a helper has given up");
	return number;
}

static uint32_t
hear_all(struct helper *helpers, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += hear(&helpers[i]);
	return sum;
}

static void
end_all(struct helper *helpers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int status;

		close(helpers[i].tell);
		close(helpers[i].hear);
		IT_MUST(waitpid(helpers[i].pid, &status, 0) == helpers[i].pid &&
			    status == 0,
		    "a helper failed: status %x", status);
	}
}

/* Which session a target's connection is: its own address says it. */
static uint32_t
session_of(const struct plan *plan, int fd)
{
	struct addr local = peer_local(fd), first, peer = peer_remote(fd);
	struct addr source = addr_v4(0x7f000001, SOURCE_PORT);

	if (!addr_equal(&peer, &source))
		give_up("another source than 127.0.0.1:40000");
	first = target_number(&plan->target, 0);
	uint32_t n = 0, base = 0;

	for (int i = 0; i < 4; i++) {
		n = n << 8 | local.ip[i];
		base = base << 8 | first.ip[i];
	}
	return n - base;
}

/* Accepts until told to stop; how many. */
static uint32_t
accept_all(const struct plan *plan, int *fds, uint32_t *numbers)
{
	struct pollfd p[2] = {
		{ .fd = plan->hear, .events = POLLIN },
		{ .fd = plan->target.fd, .events = POLLIN },
	};
	uint32_t n = 0;

	for (;;) {
		/* What is full leaves the queue to the others. */
		p[1].fd = n < A_TARGET_MAX ? plan->target.fd : -1;
		if (poll(p, 2, -1) < 0)
			give_up("poll");
		if (p[0].revents != 0)
			return n;
		int fd = accept(plan->target.fd, NULL, NULL);

		if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			give_up("accept");
		fds[n] = fd;
		numbers[n] = session_of(plan, fd);
		n++;
	}
}

/* A target: takes what comes, exchanges a byte each way, sees the end. */
static void
be_target(struct plan *plan)
{
	int *fds = calloc(A_TARGET_MAX, sizeof(*fds));
	uint32_t *numbers = calloc(A_TARGET_MAX, sizeof(*numbers));

	if (fds == NULL || numbers == NULL)
		give_up("memory");
	uint32_t n = accept_all(plan, fds, numbers);

	wait_for_word(plan);
	report(plan, n);
	wait_for_word(plan);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t down = byte_down(numbers[i]);

		/* All are sent before one is waited for: clients and targets
		 * go through them in other orders. */
		if (send(fds[i], &down, 1, MSG_NOSIGNAL) != 1)
			give_up("target's send");
	}
	for (uint32_t i = 0; i < n; i++) {
		uint8_t up;

		if (recv(fds[i], &up, 1, 0) != 1 || up != byte_up(numbers[i]))
			give_up("target's recv");
	}
	report(plan, n);
	wait_for_word(plan);
	for (uint32_t i = 0; i < n; i++) {
		char byte;

		if (recv(fds[i], &byte, 1, 0) != 0)
			give_up("not a clean end");
		close(fds[i]);
	}
	report(plan, n);
}

/* Connects the next sessions and asks for their targets, without waiting. */
static void
ask_batch(const struct plan *plan, uint32_t from, uint32_t to, int *fds)
{
	for (uint32_t i = from; i < to; i++) {
		struct addr own = addr_v4(0x7f000100 + plan->index + 1,
		    (uint16_t)(FIRST_CLIENT_PORT + i));
		struct addr target =
		    target_number(&plan->target, plan->index * A_CLIENT + i);
		uint8_t m[SOCKS_MESSAGE_MAX];
		size_t n = socks_put_greeting(m);

		n += socks_put_request(m + n, 1, &target);
		fds[i] = peer_connect_from(&own, &plan->proxy);
		if (send(fds[i], m, n, MSG_NOSIGNAL) != (ssize_t)n)
			give_up("client's send");
	}
}

static void
hear_batch(uint32_t from, uint32_t to, const int *fds)
{
	for (uint32_t i = from; i < to; i++) {
		uint8_t m[12];

		if (recv(fds[i], m, sizeof(m), MSG_WAITALL) != sizeof(m))
			give_up("client's recv");
		if (memcmp(m, "\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01", 10) !=
		    0) {
			errno = m[3];
			give_up("client is refused");
		}
	}
}

/* A client: opens its share, exchanges a byte each way, ends all. */
static void
be_client(struct plan *plan)
{
	int *fds = calloc(A_CLIENT, sizeof(*fds));

	if (fds == NULL)
		give_up("memory");
	wait_for_word(plan);
	for (uint32_t i = 0; i < A_CLIENT; i += BATCH) {
		uint32_t to = i + BATCH < A_CLIENT ? i + BATCH : A_CLIENT;

		ask_batch(plan, i, to, fds);
		hear_batch(i, to, fds);
	}
	report(plan, A_CLIENT);
	wait_for_word(plan);
	for (uint32_t i = 0; i < A_CLIENT; i++) {
		uint8_t up = byte_up(plan->index * A_CLIENT + i);

		if (send(fds[i], &up, 1, MSG_NOSIGNAL) != 1)
			give_up("client's send");
	}
	for (uint32_t i = 0; i < A_CLIENT; i++) {
		uint32_t number = plan->index * A_CLIENT + i;
		uint8_t down;

		if (recv(fds[i], &down, 1, 0) != 1 || down != byte_down(number))
			give_up("client's recv");
	}
	report(plan, A_CLIENT);
	wait_for_word(plan);
	for (uint32_t i = 0; i < A_CLIENT; i++)
		shutdown(fds[i], SHUT_WR);
	for (uint32_t i = 0; i < A_CLIENT; i++) {
		char byte;

		if (recv(fds[i], &byte, 1, 0) != 0)
			give_up("client's end");
	}
	report(plan, A_CLIENT);
}

struct crowd {
	struct helper clients[CLIENT_PROCESSES], targets[TARGET_PROCESSES];
};

/* Before the daemon: its log's thread must not be copied. */
static void
crowd_start(struct crowd *c, struct plan *plan)
{
	peer_set_blocking(plan->target.fd, false);
	for (uint32_t i = 0; i < TARGET_PROCESSES; i++) {
		plan->index = i;
		run_helper(&c->targets[i], be_target, plan);
	}
	for (uint32_t i = 0; i < CLIENT_PROCESSES; i++) {
		plan->index = i;
		run_helper(&c->clients[i], be_client, plan);
	}
}

static void
step(struct crowd *c, const char *what)
{
	tell_all(c->targets, TARGET_PROCESSES);
	tell_all(c->clients, CLIENT_PROCESSES);
	IT_MUST(hear_all(c->clients, CLIENT_PROCESSES) == SESSIONS, "%s", what);
	IT_MUST(hear_all(c->targets, TARGET_PROCESSES) == SESSIONS, "%s", what);
}

Test(scale_sessions, seventy_thousand_are_held_from_one_source_port)
{
	struct plan plan = { .proxy = addr_v4(0x7f000001, 1080) };
	struct crowd crowd;

	namespace_enter_with_ports(&plan.target, SOURCE_PORT, SOURCE_PORT);
	crowd_start(&crowd, &plan);
	struct daemon *d =
	    daemon_start(&(struct daemon_setup){ .binary = it_release_binary(),
		.proxy = "max-sessions = 70000\nworkers = auto\n",
		.config = "[listen a]\naddress = 127.0.0.1:1080\n"
			  "[egress e]\nports = 40000\naddresses = 127.0.0.1\n"
			  "[log]\naccess = no\n" });
	uint64_t before_kb = daemon_own_kb(d), start_ms = it_now_ms();

	tell_all(crowd.clients, CLIENT_PROCESSES);
	IT_MUST(hear_all(crowd.clients, CLIENT_PROCESSES) == SESSIONS, "open");
	uint64_t took_ms = it_now_ms() - start_ms;
	pid_t pids[DAEMON_PROCESSES_MAX];

	printf("established: %u sessions by %zu workers in %llu ms, "
	       "%llu a second\n",
	    SESSIONS, daemon_workers(d, pids), (unsigned long long)took_ms,
	    (unsigned long long)(SESSIONS * 1000ULL / (took_ms + 1)));
	/* The targets have all of them at once: each has 127.0.0.1:40000. */
	IT_EVENTUALLY(!target_is_waiting(&plan.target));
	tell_all(crowd.targets, TARGET_PROCESSES);
	IT_MUST(hear_all(crowd.targets, TARGET_PROCESSES) == SESSIONS,
	    "not all are held");
	uint64_t bytes = (daemon_own_kb(d) - before_kb) * 1024 / SESSIONS;

	printf("memory: %llu bytes a session, %llu KiB without any\n",
	    (unsigned long long)bytes, (unsigned long long)before_kb);
	step(&crowd, "a byte each way");
	step(&crowd, "the end");
	end_all(crowd.clients, CLIENT_PROCESSES);
	end_all(crowd.targets, TARGET_PROCESSES);
	daemon_stop(d);
	cr_expect_leq(bytes, BYTES_A_SESSION);
}
