/* SPDX-License-Identifier: ISC */
#include "io/resolver.h"

#include <ares.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/list.h"

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

struct resolver {
	struct event_base *base;
	ares_channel channel;
	struct event timer;   /* c-ares' next timeout, while queries pend */
	struct event deliver; /* the next pass, while `ready` has members */
	struct list sockets;
	struct list ready; /* resolves with a result, not yet told */
	size_t pending;    /* resolves in c-ares' hands, cancelled or not */
	unsigned starts;   /* each STARTS_PER_READth reads */
	size_t live;       /* resolves that somebody has a handle of */
};

/* A socket of c-ares, from its first use to its end. */
struct socket {
	struct link link;
	struct resolver *resolver;
	ares_socket_t fd;
	struct event event;
};

struct resolve {
	struct resolver *resolver;
	struct link ready;     /* linked: c-ares is done with it */
	resolve_done_fn *done; /* NULL: cancelled, c-ares still has it */
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
		struct resolve *resolve =
		    container_of(l, struct resolve, ready);

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
	list_append(&resolve->resolver->ready, &resolve->ready);
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

/* c-ares calls it once a request, also when it is destroyed, and also from
 * inside ares_getaddrinfo(). */
static void
on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct resolve *resolve = arg;
	enum resolve_result result = result_of(status);

	(void)timeouts;
	resolve->resolver->pending--;
	if (resolve->done == NULL) {
		ares_freeaddrinfo(info);
		free(resolve);
		return;
	}
	for (struct ares_addrinfo_node *n = info == NULL ? NULL : info->nodes;
	     n != NULL; n = n->ai_next) {
		struct addr a;

		if (addr_from_sockaddr(n->ai_addr, &a) == 0)
			add_address(resolve, &a);
	}
	ares_freeaddrinfo(info);
	if (result == RESOLVE_OK && resolve->count == 0)
		result = RESOLVE_NOT_FOUND;
	add_ready(resolve, result);
}

static int
open_channel(struct resolver *r, const struct resolver_options *o)
{
	struct ares_options options = { .sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
		.socket_receive_buffer_size = RECEIVE_BYTES };
	int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_SOCK_RCVBUF;
	int status;

	if (o != NULL && o->timeout_ms > 0) {
		options.timeout = o->timeout_ms;
		mask |= ARES_OPT_TIMEOUTMS;
	}
	if (o != NULL && o->tries > 0) {
		options.tries = o->tries;
		mask |= ARES_OPT_TRIES;
	}
	status = ares_init_options(&r->channel, &options, mask);
	if (status != ARES_SUCCESS)
		return status;
	if (o != NULL && o->servers != NULL)
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
	list_init(&r->sockets);
	list_init(&r->ready);
	evtimer_assign(&r->timer, base, on_timer, r);
	evtimer_assign(&r->deliver, base, on_deliver, r);
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
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
	/* Ends each pending request, all of them cancelled, and each socket. */
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

static void
ask(struct resolve *resolve, const char *name)
{
	struct resolver *r = resolve->resolver;
	const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM };

	if (strchr(name, '%') != NULL) {
		/* The zone of an address: no client names our interfaces. */
		add_ready(resolve, RESOLVE_NOT_FOUND);
	} else if (know(resolve, name)) {
		add_ready(resolve, RESOLVE_OK);
	} else if (r->pending >= PENDING_MAX) {
		add_ready(resolve, RESOLVE_FAILED);
	} else {
		r->pending++;
		ares_getaddrinfo(
		    r->channel, name, NULL, &hints, on_addrinfo, resolve);
		if (++r->starts % STARTS_PER_READ == 0)
			read_sockets(r);
	}
}

struct resolve *
resolve_start(struct resolver *r, const char *name, uint16_t port,
    resolve_done_fn *done, void *arg)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));
	const struct timeval at_once = { 0 };

	if (resolve == NULL)
		return NULL;
	resolve->resolver = r;
	link_init(&resolve->ready);
	resolve->done = done;
	resolve->arg = arg;
	resolve->port = port;
	r->live++;
	ask(resolve, name);
	arm_timer(r);
	/* Others may have become ready as well: so it is `ready` that is
	 * looked at, not this resolve. */
	if (!list_is_empty(&r->ready))
		event_add(&r->deliver, &at_once);
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
	if (link_is_linked(&it->ready)) {
		link_remove(&it->ready);
		free(it);
	} else {
		it->done = NULL;
	}
}
