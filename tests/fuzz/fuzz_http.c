/* SPDX-License-Identifier: ISC */
/*
 * The control socket's pages, asked by any bytes in any pieces over several
 * connections at once: what comes back is one whole answer each, its JSON
 * parses, and no descriptor is left.
 *
 * Input: how the clients behave, how the bytes are cut, and what each of them
 * sends, up to the next byte of 0xff.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include <event2/event.h>

#include "policy/config.h"
#include "program.h"
#include "service/pages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS     6
#define PASSES      400 /* of the loop, until all is said */
#define ANSWER_MAX  (256 * 1024)
#define DESCRIPTORS 64 /* looked at; there are fewer */

/* How the clients behave. */
enum {
	READS_LATE = 1,   /* nothing before all is sent */
	SHUTS_DOWN = 2,   /* its side, once all is sent */
	GOES = 4,         /* without waiting for the answer */
	SERVER_CLOSES = 8 /* while something is going on */
};

struct client {
	int fd; /* -1: closed */
	struct program words;
	char *answer;
	size_t len;
	bool ended; /* the server has closed */
};

/* What is asked about; made once. */
struct scene {
	struct ledger *ledger;
	struct shared *shared;
	struct names *names;
	struct config *config;
	char pool_names[LEDGER_POOLS_MAX][POOL_NAME_MAX + 1];
	unsigned pools[2];
	struct observer_setup setup;
};

struct talk {
	struct event_base *base;
	struct pages pages;
	struct client clients[CLIENTS];
	unsigned manners;
	uint32_t seed; /* of the pieces */
	uint8_t piece; /* at most; 0: whole */
};

static void *
map(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(memory != MAP_FAILED);
	return memory;
}

/* ---- the scene ---- */

static struct addr
at(const char *text)
{
	struct addr a;

	must(addr_parse(text, &a) == 0);
	return a;
}

static void
add_pool(struct scene *s, unsigned id, const char *name, const char *source)
{
	struct prefix prefix;
	struct pool p;

	pool_init(&p, name);
	must(prefix_parse(source, &prefix) == 0);
	must(pool_add_source(&p, &prefix) == 0);
	must(pool_add_ports(&p, 20000, 20009, POOL_RANGE) == 0);
	must(ledger_set_pool(s->ledger, id, &p) == 0);
	strcpy_bounded(s->pool_names[id], sizeof(s->pool_names[id]), name);
	s->pools[id] = id;
}

static void
hold(struct scene *s, unsigned pool, const char *target, const char *client,
    unsigned user)
{
	struct ledger_holder holder = {
		.session = 0x20000000001, .user = (uint16_t)user, .worker = 1
	};
	struct addr to = at(target);
	struct ledger_lease lease;

	if (client != NULL)
		holder.client = at(client);
	must(ledger_lease(s->ledger, pool, &to, &holder, 1000, &lease) == 0);
}

static struct scene *
make_scene(void)
{
	static const uint8_t key[LEDGER_KEY_BYTES] = { 4, 0, 4 };
	struct config_user user = { .name = "q\"\\\xc3\xa4\xff" };
	struct scene *s = calloc(1, sizeof(*s));

	must(s != NULL);
	s->ledger = map(ledger_bytes(500, 50));
	must(ledger_init(s->ledger, 500, 50, key, &s->ledger) == 0);
	s->shared = map(sizeof(*s->shared));
	s->names = map(sizeof(*s->names));
	must(names_assign(s->names, &user, 1) == 0);
	must(config_parse("fuzz", "", 0, stderr, &s->config) == 0);
	add_pool(s, 0, "a", "192.0.2.1");
	add_pool(s, 1, "b", "2001:db8::1");
	hold(s, 0, "203.0.113.9:443", "198.51.100.7:5000", user.id);
	hold(s, 0, "203.0.113.9:443", NULL, 0);
	hold(s, 0, "203.0.113.8:80", "[2001:db8::77]:6", 0);
	hold(s, 1, "[2001:db8::9]:443", "198.51.100.8:5000", user.id);
	s->shared->max_sessions[1] = 100;
	s->setup = (struct observer_setup){ .config = s->config,
		.ledger = s->ledger,
		.shared = s->shared,
		.names = s->names,
		.pool_names = (const char(*)[POOL_NAME_MAX + 1]) s->pool_names,
		.pools = s->pools,
		.listener = -1,
		.max_sessions = 100,
		.control = -1 };
	return s;
}

/* ---- answers ---- */

/* The header's value in the head, which ends in an empty line; or NULL. */
static const char *
find_header(const char *head, const char *name)
{
	const char *line = strstr(head, "\r\n");

	while (line != NULL && strncmp(line, "\r\n\r\n", 4) != 0) {
		size_t len = strlen(name);

		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " ");
		line = strstr(line, "\r\n");
	}
	return NULL;
}

/* Puts the chunks together, in place; the length of what they hold. */
static size_t
join_chunks(char *body, const char *end)
{
	char *to = body, *from = body;

	for (;;) {
		char *rest;
		size_t len;

		must(isxdigit((unsigned char)*from));
		len = strtoul(from, &rest, 16);
		must(strncmp(rest, "\r\n", 2) == 0);
		from = rest + 2;
		must(len <= (size_t)(end - from));
		memmove(to, from, len);
		to += len;
		from += len;
		must(strncmp(from, "\r\n", 2) == 0);
		from += 2;
		if (len == 0)
			break;
	}
	must(from == end);
	return (size_t)(to - body);
}

static void
check_json(const char *body, size_t len)
{
	json_error_t error;
	json_t *o = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);

	must(o != NULL && json_is_object(o));
	json_decref(o);
}

/* "HTTP/1.1 200 ". Of the version libevent repeats what the client said, also
 * "1.011" or "-7.1". */
static unsigned
status_of(const char *answer)
{
	unsigned status = 0;
	int used = 0;

	must(sscanf(answer, "HTTP/%*d.%*d %3u %n", &status, &used) == 1);
	must(used > 0 && status >= 100 && status <= 599);
	return status;
}

/* An answer to which no more comes. */
static void
check_answer(char *answer, size_t len)
{
	const char *end = answer + len, *type, *length, *coding;
	unsigned status = status_of(answer);
	char *body = strstr(answer, "\r\n\r\n");

	must(body != NULL);
	body += 4;
	if (status == 100) {
		/* The client may go without what it was asked for. */
		if (body != end)
			check_answer(body, (size_t)(end - body));
		return;
	}
	type = find_header(answer, "Content-Type");
	length = find_header(answer, "Content-Length");
	coding = find_header(answer, "Transfer-Encoding");
	len = (size_t)(end - body);
	if (coding != NULL)
		len = join_chunks(body, end);
	else if (length != NULL)
		must(strtoul(length, NULL, 10) == len);
	if (type != NULL && strncmp(type, "application/json", 16) == 0)
		check_json(body, len);
}

/* ---- clients ---- */

static int
listen_nowhere(struct sockaddr_un *where, socklen_t *len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*where = (struct sockaddr_un){ .sun_family = AF_UNIX };
	must(fd >= 0);
	/* Linux finds a name that is not in the file system. */
	must(bind(fd, (struct sockaddr *)where, sizeof(sa_family_t)) == 0);
	*len = sizeof(*where);
	must(getsockname(fd, (struct sockaddr *)where, len) == 0);
	must(listen(fd, CLIENTS) == 0);
	return fd;
}

static void
run_loop(struct talk *t)
{
	must(event_base_loop(t->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
}

static size_t
piece_of(struct talk *t, size_t left)
{
	size_t len;

	if (t->piece == 0)
		return left;
	t->seed = t->seed * UINT32_C(1103515245) + 12345;
	len = 1 + (t->seed >> 16) % t->piece;
	return len < left ? len : left;
}

static void
send_some(struct talk *t, struct client *c)
{
	ssize_t n = send(c->fd, c->words.at, piece_of(t, c->words.left),
	    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0) {
		c->words.at += n;
		c->words.left -= (size_t)n;
	} else if (errno != EAGAIN) {
		c->words.left = 0; /* it does not listen any more */
	}
	if (c->words.left == 0 && (t->manners & SHUTS_DOWN) != 0)
		shutdown(c->fd, SHUT_WR);
}

static void
receive(struct client *c)
{
	ssize_t n = 1;

	while (n > 0) {
		must(c->len < ANSWER_MAX);
		n = recv(c->fd, c->answer + c->len, ANSWER_MAX - c->len,
		    MSG_DONTWAIT);
		if (n > 0)
			c->len += (size_t)n;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		c->ended = true;
	c->answer[c->len] = '\0';
}

static void
leave(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

static bool
anything_left(const struct talk *t)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (t->clients[i].fd >= 0 && t->clients[i].words.left > 0)
			return true;
	}
	return false;
}

static void
send_all(struct talk *t)
{
	for (unsigned pass = 0; anything_left(t); pass++) {
		for (unsigned i = 0; i < CLIENTS; i++) {
			struct client *c = &t->clients[i];

			if (c->fd < 0 || c->words.left == 0)
				continue;
			/* The rest at once: the loop is to end. */
			if (pass > PASSES)
				t->piece = 0;
			send_some(t, c);
			if ((t->manners & READS_LATE) == 0)
				receive(c);
		}
		run_loop(t);
		must(pass < 2 * PASSES);
	}
}

static void
begin(struct talk *t, struct program *p)
{
	struct sockaddr_un where;
	socklen_t len;
	int listener = listen_nowhere(&where, &len);

	must(pages_open(&t->pages, t->base, listener) == 0);
	close(listener);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &t->clients[i];

		c->fd = -1;
		c->words = program_part(p);
		if (c->words.left == 0)
			continue;
		c->answer = malloc(ANSWER_MAX + 1);
		c->fd = socket(
		    AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		must(c->answer != NULL && c->fd >= 0);
		must(connect(c->fd, (struct sockaddr *)&where, len) == 0);
	}
}

/* The server has all of a minute; what it has not said in so many passes it
 * will not say before it hears more. */
static void
listen_to_all(struct talk *t)
{
	for (unsigned pass = 0; pass < PASSES / 20; pass++) {
		run_loop(t);
		for (unsigned i = 0; i < CLIENTS; i++) {
			if (t->clients[i].fd >= 0)
				receive(&t->clients[i]);
		}
	}
}

static void
end(struct talk *t)
{
	bool whole = (t->manners & (GOES | SERVER_CLOSES)) == 0;

	if (whole)
		listen_to_all(t);
	if ((t->manners & SERVER_CLOSES) != 0)
		pages_close(&t->pages);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &t->clients[i];

		if (c->fd < 0)
			continue;
		if (c->len > 0 && whole && c->ended)
			check_answer(c->answer, c->len);
		else if (c->len >= 32) /* more than the first line */
			status_of(c->answer);
		leave(c);
		free(c->answer);
	}
}

/* ---- descriptors ---- */

static unsigned
count_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void
answer_kill(void *arg, struct evhttp_request *req, uint64_t session)
{
	(void)arg;
	if (session == 0)
		http_refuse(req, HTTP_NOTFOUND, "no such session");
	else
		http_reply(req, HTTP_OK, json_pack("{s:b}", "killed", 1));
}

static void
talk(const struct scene *s, struct event_base *base, struct program *p)
{
	struct talk t = { .base = base,
		.pages = { .setup = &s->setup, .kill = answer_kill } };
	/* The base's own, the listener's copy. */
	unsigned before = count_descriptors();

	t.manners = program_byte(p);
	t.piece = program_byte(p) & 0x3f;
	t.seed = t.piece;
	begin(&t, p);
	send_all(&t);
	end(&t);
	for (unsigned i = 0; i < PASSES && count_descriptors() > before + 1;
	     i++)
		run_loop(&t);
	must(count_descriptors() <= before + 1);
	pages_close(&t.pages);
	for (unsigned i = 0; i < 4; i++)
		run_loop(&t);
	must(count_descriptors() == before);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scene *scene;
	static struct event_base *base;
	struct program program = { data, size };

	if (scene == NULL) {
		/* As in all of the daemon's processes. */
		signal(SIGPIPE, SIG_IGN);
		scene = make_scene();
		base = event_base_new();
		must(base != NULL);
	}
	talk(scene, base, &program);
	return 0;
}
