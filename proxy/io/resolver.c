/* SPDX-License-Identifier: ISC */
#include "io/resolver.h"

#include <sys/random.h>

#include <ares.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/hash.h"
#include "base/list.h"
#include "policy/quota.h"

/*
 * c-ares draws query numbers of 16 bits until it hits one that is free: with
 * 65,536 outstanding it would never end. A resolve takes two, and more while a
 * search list is tried; half of the numbers stay free.
 */
#define PENDING_MAX 16384

/*
 * ares_timeout() walks all queries, so the timer is not set anew with each one:
 * it looks at least this often while there are any, and a timeout is noticed
 * this much late at worst.
 */
#define LOOK_USEC 250000

/*
 * c-ares asks a server through one UDP socket, and an answer that finds its
 * buffer full is lost, which costs the session seconds. So the buffer is large
 * (the kernel cuts it to net.core.rmem_max), and whoever starts many resolves
 * in one loop pass reads in between.
 */
#define RECEIVE_BYTES    (1024 * 1024)
#define STARTS_PER_READ  32
#define READ_SOCKETS_MAX 16

/* A name in a SOCKS5 request has 255 bytes at most. */
#define NAME_TEXT_MAX 256

#define BUCKETS 1024
#define CLIENTS 65536

struct resolver {
	struct event_base *base;
	ares_channel channel;
	struct event timer;   /* c-ares' next timeout, while queries pend */
	struct event deliver; /* the next pass, while `ready` has members */
	struct list sockets;
	struct list ready; /* resolves with a result, not yet told */
	size_t pending;    /* queries, whether anybody waits for them or not */
	unsigned starts;   /* each STARTS_PER_READth reads */
	size_t live;       /* resolves that somebody has a handle of */
	uint64_t key[2];   /* of the hashes */
	unsigned client_bits_v4, client_bits_v6;
	struct query *buckets[BUCKETS]; /* by the name's hash */
	/* Queries of each client, by its hash: one in CLIENTS shares its number
	 * with a given other one. */
	uint16_t clients[CLIENTS];
};
_Static_assert(PENDING_MAX <= UINT16_MAX, "they fit into resolver.clients");

/* A socket of c-ares, from its first use to its end. */
struct socket {
	struct link link;
	struct resolver *resolver;
	ares_socket_t fd;
	struct event event;
};

/* A name in c-ares' hands, which do not let go of it before its time. */
struct query {
	struct query *next; /* in its bucket */
	struct resolver *resolver;
	struct list resolves; /* who waits for it; none: all were cancelled */
	uint64_t hash;        /* of the name */
	uint16_t *client;     /* the number of who asked first */
	char name[];
};

struct resolve {
	struct resolver *resolver;
	struct link link; /* in its query, or in `ready` */
	resolve_done_fn *done;
	void *arg;
	uint16_t port;
	enum resolve_result result;
	size_t count;
	struct addr addrs[RESOLVE_ADDRESSES_MAX];
};

/* Tells what is ready now. What becomes ready meanwhile waits for the next
 * pass. The resolver may be freed by the last `done`. */
static void
deliver_ready(struct resolver *r)
{
	struct list now;
	struct link *l;

	list_init(&now);
	list_move_all(&now, &r->ready);
	while ((l = list_first(&now)) != NULL) {
		struct resolve *resolve = container_of(l, struct resolve, link);

		link_remove(l);
		r->live--;
		resolve->done(resolve->result, resolve->addrs, resolve->count,
		    resolve->arg);
		free(resolve);
	}
}

static void
on_deliver(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	deliver_ready(arg);
}

static void
add_ready(struct resolve *resolve, enum resolve_result result)
{
	resolve->result = result;
	list_append(&resolve->resolver->ready, &resolve->link);
}

static void
arm_timer(struct resolver *r)
{
	struct timeval look = { .tv_usec = LOOK_USEC }, tv;

	if (r->pending == 0)
		event_del(&r->timer);
	else if (!event_pending(&r->timer, EV_TIMEOUT, NULL))
		event_add(&r->timer, ares_timeout(r->channel, &look, &tv));
}

/* After c-ares had the word in the event loop. Frees `r` maybe. */
static void
after_process(struct resolver *r)
{
	arm_timer(r);
	deliver_ready(r);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct resolver *r = arg;

	(void)fd;
	(void)what;
	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	after_process(r);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct socket *s = arg;
	struct resolver *r = s->resolver;

	/* `s` may be gone when this returns. */
	ares_process_fd(r->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
	    what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	after_process(r);
}

static struct socket *
find_socket(struct resolver *r, ares_socket_t fd)
{
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &r->sockets) {
		struct socket *s = container_of(l, struct socket, link);

		if (s->fd == fd)
			return s;
	}
	return NULL;
}

static struct socket *
add_socket(struct resolver *r, ares_socket_t fd)
{
	struct socket *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->resolver = r;
	s->fd = fd;
	event_assign(&s->event, r->base, fd, 0, on_socket, s);
	list_append(&r->sockets, &s->link);
	return s;
}

/* c-ares wants to know when `fd` is readable or writable; neither: it is about
 * to close it. Without memory the query's timeout is the answer. */
static void
on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = arg;
	struct socket *s = find_socket(r, fd);
	short wanted =
	    (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));

	if (s == NULL && wanted != 0)
		s = add_socket(r, fd);
	if (s == NULL)
		return;
	event_del(&s->event);
	if (wanted == 0) {
		link_remove(&s->link);
		free(s);
		return;
	}
	event_assign(
	    &s->event, r->base, fd, (short)(wanted | EV_PERSIST), on_socket, s);
	event_add(&s->event, NULL);
}

/* Answers that are there go to `ready`. */
static void
read_sockets(struct resolver *r)
{
	ares_socket_t fds[READ_SOCKETS_MAX];
	size_t count = 0;
	struct link *l, *following;

	LIST_EACH_SAFE (l, following, &r->sockets) {
		if (count < READ_SOCKETS_MAX)
			fds[count++] = container_of(l, struct socket, link)->fd;
	}
	for (size_t i = 0; i < count; i++) {
		/* One answer may end other sockets. */
		if (find_socket(r, fds[i]) != NULL)
			ares_process_fd(r->channel, fds[i], ARES_SOCKET_BAD);
	}
}

static bool
has_address(const struct resolve *resolve, const struct addr *a)
{
	for (size_t i = 0; i < resolve->count; i++) {
		if (addr_equal(&resolve->addrs[i], a))
			return true;
	}
	return false;
}

static void
add_address(struct resolve *resolve, const struct addr *a)
{
	struct addr plain = addr_unmap(a);

	plain.port = resolve->port;
	if (resolve->count < RESOLVE_ADDRESSES_MAX &&
	    !has_address(resolve, &plain))
		resolve->addrs[resolve->count++] = plain;
}

static enum resolve_result
result_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return RESOLVE_OK;
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return RESOLVE_NOT_FOUND;
	default:
		return RESOLVE_FAILED;
	}
}

static void
finish(struct resolve *resolve, enum resolve_result result,
    const struct ares_addrinfo *info)
{
	for (struct ares_addrinfo_node *n = info == NULL ? NULL : info->nodes;
	     n != NULL; n = n->ai_next) {
		struct addr a;

		if (addr_from_sockaddr(n->ai_addr, &a) == 0)
			add_address(resolve, &a);
	}
	if (result == RESOLVE_OK && resolve->count == 0)
		result = RESOLVE_NOT_FOUND;
	link_remove(&resolve->link);
	add_ready(resolve, result);
}

static void
query_free(struct query *q)
{
	struct resolver *r = q->resolver;
	struct query **at = &r->buckets[q->hash % BUCKETS];

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	must(r->pending > 0 && *q->client > 0);
	r->pending--;
	--*q->client;
	free(q);
}

/* c-ares calls it once a query, also when it is destroyed, and also from inside
 * ares_getaddrinfo(). */
static void
on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct query *q = arg;
	struct link *l;

	(void)timeouts;
	while ((l = list_first(&q->resolves)) != NULL)
		finish(container_of(l, struct resolve, link), result_of(status),
		    info);
	query_free(q);
	ares_freeaddrinfo(info);
}

static int
open_channel(struct resolver *r, const struct resolver_options *o)
{
	struct ares_options options = { .sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
		.socket_receive_buffer_size = RECEIVE_BYTES };
	int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_SOCK_RCVBUF;
	int status;

	if (o->timeout_ms > 0) {
		options.timeout = o->timeout_ms;
		mask |= ARES_OPT_TIMEOUTMS;
	}
	if (o->tries > 0) {
		options.tries = o->tries;
		mask |= ARES_OPT_TRIES;
	}
	status = ares_init_options(&r->channel, &options, mask);
	if (status != ARES_SUCCESS)
		return status;
	if (o->servers != NULL)
		status = ares_set_servers_ports_csv(r->channel, o->servers);
	if (status != ARES_SUCCESS)
		ares_destroy(r->channel);
	return status;
}

struct resolver *
resolver_new(struct event_base *base, const struct resolver_options *options)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->base = base;
	r->client_bits_v4 = options->client_bits_v4;
	r->client_bits_v6 = options->client_bits_v6;
	list_init(&r->sockets);
	list_init(&r->ready);
	evtimer_assign(&r->timer, base, on_timer, r);
	evtimer_assign(&r->deliver, base, on_deliver, r);
	if (getrandom(r->key, sizeof(r->key), 0) != sizeof(r->key) ||
	    ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		free(r);
		return NULL;
	}
	if (open_channel(r, options) != ARES_SUCCESS) {
		ares_library_cleanup();
		free(r);
		return NULL;
	}
	return r;
}

void
resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	must(r->live == 0);
	/* Ends each query, for which nobody waits, and each socket. */
	ares_destroy(r->channel);
	must(r->pending == 0 && list_is_empty(&r->ready) &&
	     list_is_empty(&r->sockets));
	event_del(&r->timer);
	event_del(&r->deliver);
	ares_library_cleanup();
	free(r);
}

/* `name` without the dot at its end; false when it is too long to be local. */
static bool
cut_final_dot(const char *name, char *text, size_t size)
{
	size_t len = strlen(name);

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len >= size)
		return false;
	strcpy_bounded(text, len + 1, name);
	return true;
}

/* "localhost" and all below it. */
static bool
is_localhost(const char *text)
{
	static const char top[] = "localhost";
	size_t len = strlen(text), top_len = sizeof(top) - 1;

	if (len < top_len || strcasecmp(text + len - top_len, top) != 0)
		return false;
	return len == top_len || text[len - top_len - 1] == '.';
}

/*
 * What needs nobody's answer: an IP literal, also "1.2.3.4.", which a client
 * may write, and localhost (RFC 6761, 6.3), for which c-ares 1.18 leaks memory
 * where /etc/hosts does not name it.
 */
static bool
know(struct resolve *resolve, const char *name)
{
	static const char *const loopback[] = { "127.0.0.1", "::1" };
	char text[NAME_TEXT_MAX];
	struct addr a;

	if (!cut_final_dot(name, text, sizeof(text)))
		return false;
	if (addr_parse_ip(text, &a) == 0) {
		add_address(resolve, &a);
		return true;
	}
	if (!is_localhost(text))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(loopback); i++) {
		must(addr_parse_ip(loopback[i], &a) == 0);
		add_address(resolve, &a);
	}
	return true;
}

static uint64_t
hash_name(const struct resolver *r, const char *name, size_t len)
{
	uint64_t word[3] = { len };

	for (size_t at = 0; at < len; at += 2 * sizeof(*word)) {
		size_t n = len - at;

		word[1] = word[2] = 0;
		memcpy(&word[1], name + at, n < 16 ? n : 16);
		word[0] = hash_words(r->key, word);
	}
	return word[0];
}

static uint16_t *
number_of_client(struct resolver *r, const struct addr *client)
{
	struct quota_subject s =
	    quota_client(client, r->client_bits_v4, r->client_bits_v6);
	uint64_t word[3] = { 0 };

	_Static_assert(sizeof(s) <= sizeof(word), "it fits");
	memcpy(word, &s, sizeof(s));
	return &r->clients[hash_words(r->key, word) % CLIENTS];
}

static struct query *
find_query(const struct resolver *r, const char *name, uint64_t hash)
{
	struct query *q = r->buckets[hash % BUCKETS];

	while (q != NULL && (q->hash != hash || strcmp(q->name, name) != 0))
		q = q->next;
	return q;
}

static struct query *
query_new(struct resolver *r, uint16_t *client, const char *name, uint64_t hash)
{
	size_t size = strlen(name) + 1;
	struct query *q = malloc(sizeof(*q) + size);

	if (q == NULL)
		return NULL;
	*q = (struct query){ .next = r->buckets[hash % BUCKETS],
		.resolver = r,
		.hash = hash,
		.client = client };
	list_init(&q->resolves);
	memcpy(q->name, name, size);
	r->buckets[hash % BUCKETS] = q;
	r->pending++;
	++*client;
	return q;
}

/* Waits for the query for this name, which is begun where there is none. */
static void
ask(struct resolve *resolve, const struct addr *client, const char *name)
{
	struct resolver *r = resolve->resolver;
	const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM };
	uint64_t hash = hash_name(r, name, strlen(name));
	uint16_t *number = number_of_client(r, client);
	struct query *q = find_query(r, name, hash);

	if (q != NULL) {
		list_append(&q->resolves, &resolve->link);
		return;
	}
	/* As many as are left to others: so some always are. */
	if (*number >= PENDING_MAX - r->pending) {
		add_ready(resolve, RESOLVE_BUSY);
		return;
	}
	q = query_new(r, number, name, hash);
	if (q == NULL) {
		add_ready(resolve, RESOLVE_FAILED);
		return;
	}
	list_append(&q->resolves, &resolve->link);
	ares_getaddrinfo(r->channel, name, NULL, &hints, on_addrinfo, q);
	if (++r->starts % STARTS_PER_READ == 0)
		read_sockets(r);
}

/* One that is due already is left alone: libevent would put it off to the next
 * pass, and where each pass has a new name nobody would ever be told. */
static void
deliver_soon(struct resolver *r)
{
	const struct timeval at_once = { 0 };

	if (!event_pending(&r->deliver, EV_TIMEOUT, NULL))
		event_add(&r->deliver, &at_once);
}

struct resolve *
resolve_start(struct resolver *r, const struct addr *client, const char *name,
    uint16_t port, resolve_done_fn *done, void *arg)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));

	if (resolve == NULL)
		return NULL;
	resolve->resolver = r;
	link_init(&resolve->link);
	resolve->done = done;
	resolve->arg = arg;
	resolve->port = port;
	r->live++;
	if (strchr(name, '%') != NULL)
		/* The zone of an address: no client names our interfaces. */
		add_ready(resolve, RESOLVE_NOT_FOUND);
	else if (know(resolve, name))
		add_ready(resolve, RESOLVE_OK);
	else
		ask(resolve, client, name);
	arm_timer(r);
	/* Others may have become ready as well: so it is `ready` that is
	 * looked at, not this resolve. */
	if (!list_is_empty(&r->ready))
		deliver_soon(r);
	return resolve;
}

void
resolve_cancel(struct resolve **resolve)
{
	struct resolve *it = *resolve;

	if (it == NULL)
		return;
	*resolve = NULL;
	it->resolver->live--;
	link_remove(&it->link);
	free(it);
}
