/* SPDX-License-Identifier: ISC */
#include "crowd.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "it.h"
#include "peer.h"
#include "socks.h"

#define PROCESSES_MAX 16U
#define BATCH         64U
#define DEADLINE_MS   240000 /* a slow machine is not a failure */
#define FIRST_PORT    2000U

/* A child and the pipes to it. It is told to go on by a byte, and answers with
 * a number at the end of each step. */
struct helper {
	pid_t pid;
	int tell, hear;
};

struct crowd {
	struct crowd_setup setup;
	struct helper clients[PROCESSES_MAX], targets[PROCESSES_MAX];
};

/* What a child works on: its own ends of the pipes, and of a client's process
 * the sessions `first` .. `end` - 1. */
struct part {
	const struct crowd_setup *setup;
	uint32_t first, end;
	int tell, hear;
};

struct addr
crowd_client(uint32_t n, uint32_t each)
{
	must(each <= CROWD_CLIENT_MAX);
	return addr_v4(
	    0x7f010001 + n / each, (uint16_t)(FIRST_PORT + n % each));
}

/* The word of a session's four numbers: FNV-1a. */
static uint64_t
word_of(const struct addr *source, const struct addr *target)
{
	const struct addr both[2] = { *source, *target };
	const uint8_t *bytes = (const uint8_t *)both;
	uint64_t word = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < sizeof(both); i++)
		word = (word ^ bytes[i]) * UINT64_C(0x100000001b3);
	return word;
}

/* In a child: says why and leaves. The parent sees the pipe's end. */
static void
give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

static void
report(const struct part *p, uint32_t number)
{
	if (write(p->tell, &number, sizeof(number)) != sizeof(number))
		_exit(1);
}

static void
wait_for_word(const struct part *p)
{
	char word;

	if (read(p->hear, &word, 1) != 1)
		_exit(1);
}

static void
run_helper(struct helper *h, void (*body)(const struct part *), struct part p)
{
	int down[2], up[2];

	IT_MUST(pipe2(down, 0) == 0 && pipe2(up, 0) == 0, "pipe");
	h->pid = it_fork();
	if (h->pid == 0) {
		close(down[1]);
		close(up[0]);
		p.hear = down[0];
		p.tell = up[1];
		body(&p);
		_exit(0);
	}
	close(down[0]);
	close(up[1]);
	h->tell = down[1];
	h->hear = up[0];
}

static void
tell_all(struct helper *helpers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
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
hear_all(struct helper *helpers, unsigned n)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += hear(&helpers[i]);
	return sum;
}

static void
end_all(struct helper *helpers, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int status;

		close(helpers[i].tell);
		close(helpers[i].hear);
		IT_MUST(waitpid(helpers[i].pid, &status, 0) == helpers[i].pid &&
			    status == 0,
		    "a helper failed: status %x", status);
	}
}

/* The descriptors of a child's sessions, and their words. */
struct held {
	int *fds;
	uint64_t *words;
	uint32_t count;
};

static struct held
held_new(uint32_t room)
{
	struct held h = { calloc(room, sizeof(*h.fds)),
		calloc(room, sizeof(*h.words)), 0 };

	if (h.fds == NULL || h.words == NULL)
		give_up("memory");
	return h;
}

/* All words are sent before one is waited for: clients and targets go through
 * their sessions in other orders. What goes down is the word's complement. */
static void
exchange(const struct held *h, bool client)
{
	uint64_t own = client ? 0 : UINT64_MAX, word;

	for (uint32_t i = 0; i < h->count; i++) {
		word = h->words[i] ^ own;
		if (send(h->fds[i], &word, sizeof(word), MSG_NOSIGNAL) !=
		    sizeof(word))
			give_up("send");
	}
	for (uint32_t i = 0; i < h->count; i++) {
		if (recv(h->fds[i], &word, sizeof(word), MSG_WAITALL) !=
			sizeof(word) ||
		    word != (h->words[i] ^ ~own))
			give_up("another word than that of the four numbers");
	}
}

static void
expect_ends(const struct held *h)
{
	for (uint32_t i = 0; i < h->count; i++) {
		char byte;

		if (recv(h->fds[i], &byte, 1, 0) != 0)
			give_up("not a clean end");
		close(h->fds[i]);
	}
}

static void
hold_accepted(const struct part *p, struct held *h, int fd)
{
	struct addr source = peer_remote(fd), own = peer_local(fd);

	if (!p->setup->is_source(&source)) {
		char text[ADDR_TEXT_MAX];

		give_up(addr_format(&source, text));
	}
	h->fds[h->count] = fd;
	h->words[h->count++] = word_of(&source, &own);
}

/* Accepts until told to stop. */
static void
accept_all(const struct part *p, struct held *h)
{
	int listener = p->setup->target->fd;
	struct pollfd fds[2] = {
		{ .fd = p->hear, .events = POLLIN },
		{ .events = POLLIN },
	};

	for (;;) {
		/* What is full leaves the queue to the others. */
		fds[1].fd = h->count < CROWD_TARGET_MAX ? listener : -1;
		if (poll(fds, 2, -1) < 0)
			give_up("poll");
		if (fds[0].revents != 0)
			return;
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			hold_accepted(p, h, fd);
		else if (errno != EAGAIN && errno != ECONNABORTED)
			give_up("accept");
	}
}

/* A target: takes what comes, exchanges words, sees the end. */
static void
be_target(const struct part *p)
{
	struct held h = held_new(CROWD_TARGET_MAX);

	accept_all(p, &h);
	wait_for_word(p);
	report(p, h.count);
	wait_for_word(p);
	exchange(&h, false);
	report(p, h.count);
	wait_for_word(p);
	expect_ends(&h);
	report(p, h.count);
}

/* Connects the next sessions and asks for their targets, without waiting. */
static void
ask_batch(const struct part *p, uint32_t first, uint32_t end, int *fds)
{
	const struct crowd_setup *s = p->setup;

	for (uint32_t n = first; n < end; n++) {
		struct addr from = s->from != NULL
				       ? s->from(n)
				       : crowd_client(n, CROWD_CLIENT_MAX);
		struct addr proxy =
		    s->proxy != NULL ? s->proxy(n) : addr_v4(0x7f000001, 1080);
		struct addr to = s->to(s->target, n);
		uint8_t m[SOCKS_MESSAGE_MAX];
		size_t len = socks_put_greeting(m);

		len += socks_put_request(m + len, 1, &to);
		*fds = peer_connect_from(&from, &proxy);
		if (send(*fds++, m, len, MSG_NOSIGNAL) != (ssize_t)len)
			give_up("client's send");
	}
}

static void
hear_batch(const struct part *p, uint32_t first, uint32_t end, struct held *h)
{
	for (uint32_t n = first; n < end; n++) {
		struct addr to = p->setup->to(p->setup->target, n);
		int fd = h->fds[h->count];

		peer_expect(fd, "\x05\x00", 2);
		struct socks_reply reply = socks_reply(fd);

		if (reply.code != 0) {
			errno = reply.code;
			give_up("client is refused");
		}
		h->words[h->count++] = word_of(&reply.bound, &to);
	}
}

/* A client: opens its share, exchanges words, ends all. */
static void
be_client(const struct part *p)
{
	struct held h = held_new(CROWD_CLIENT_MAX);

	wait_for_word(p);
	for (uint32_t n = p->first; n < p->end; n += BATCH) {
		uint32_t end = n + BATCH < p->end ? n + BATCH : p->end;

		ask_batch(p, n, end, h.fds + h.count);
		hear_batch(p, n, end, &h);
	}
	report(p, h.count);
	wait_for_word(p);
	exchange(&h, true);
	report(p, h.count);
	wait_for_word(p);
	for (uint32_t i = 0; i < h.count; i++)
		shutdown(h.fds[i], SHUT_WR);
	expect_ends(&h);
	report(p, h.count);
}

/* The first session of a client process. */
static uint32_t
first_of(const struct crowd_setup *s, unsigned client)
{
	return (uint32_t)((uint64_t)s->sessions * client / s->clients);
}

struct crowd *
crowd_start(const struct crowd_setup *setup)
{
	struct crowd *c = calloc(1, sizeof(*c));

	IT_MUST(c != NULL, "memory");
	must(
	    setup->clients <= PROCESSES_MAX && setup->targets <= PROCESSES_MAX);
	must(setup->sessions <= setup->clients * CROWD_CLIENT_MAX &&
	     setup->sessions <= setup->targets * CROWD_TARGET_MAX);
	c->setup = *setup;
	peer_set_blocking(setup->target->fd, false);
	for (unsigned i = 0; i < setup->targets; i++)
		run_helper(&c->targets[i], be_target,
		    (struct part){ .setup = &c->setup });
	for (unsigned i = 0; i < setup->clients; i++)
		run_helper(&c->clients[i], be_client,
		    (struct part){ .setup = &c->setup,
			.first = first_of(setup, i),
			.end = first_of(setup, i + 1) });
	return c;
}

uint64_t
crowd_open(struct crowd *c)
{
	const struct crowd_setup *s = &c->setup;
	uint64_t start_ms = it_now_ms(), took_ms;

	tell_all(c->clients, s->clients);
	IT_MUST(hear_all(c->clients, s->clients) == s->sessions, "open");
	took_ms = it_now_ms() - start_ms;
	IT_EVENTUALLY(!target_is_waiting(s->target));
	tell_all(c->targets, s->targets);
	IT_MUST(hear_all(c->targets, s->targets) == s->sessions,
	    "not all are held");
	return took_ms;
}

static void
step(struct crowd *c, const char *what)
{
	const struct crowd_setup *s = &c->setup;

	tell_all(c->targets, s->targets);
	tell_all(c->clients, s->clients);
	IT_MUST(hear_all(c->clients, s->clients) == s->sessions, "%s", what);
	IT_MUST(hear_all(c->targets, s->targets) == s->sessions, "%s", what);
}

void
crowd_exchange(struct crowd *c)
{
	step(c, "a word each way");
}

void
crowd_finish(struct crowd *c)
{
	step(c, "the end");
	end_all(c->clients, c->setup.clients);
	end_all(c->targets, c->setup.targets);
	free(c);
}
