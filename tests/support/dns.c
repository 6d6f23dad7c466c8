/* SPDX-License-Identifier: ISC */
#include "dns.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define DATAGRAMS_A_TURN 256
#define RECEIVE_BYTES    (4 * 1024 * 1024)
#define CONNS_MAX        16
#define MESSAGE_MAX      4096
#define HEADER_LEN       12
#define NAME_SIZE        256

/* RFC 1035, 4.1.1 and 3.2.2; RFC 3596. */
#define RCODE_SERVFAIL 2
#define RCODE_NXDOMAIN 3
#define TYPE_A         1
#define TYPE_CNAME     5
#define TYPE_AAAA      28

struct conn {
	int fd; /* -1: free */
	size_t used;
	uint8_t buf[MESSAGE_MAX];
};

struct message {
	size_t len;
	uint8_t bytes[MESSAGE_MAX];
};

struct dns {
	struct addr address;
	const struct dns_record *records;
	size_t count;
	int udp, tcp, stop;
	pthread_t thread;
	atomic_uint udp_count, tcp_count;
	struct conn conns[CONNS_MAX];
	/* An answer that waits for the next one, and to whom it goes. */
	struct message kept;
	struct sockaddr_storage kept_to;
	socklen_t kept_len;
};

struct question {
	char name[NAME_SIZE];
	unsigned type;
	size_t end; /* where it ends in the message */
};

static unsigned
get16(const uint8_t *at)
{
	return (unsigned)(at[0] << 8 | at[1]);
}

static void
put(struct message *m, const void *bytes, size_t len)
{
	must(m->len + len <= sizeof(m->bytes));
	memcpy(m->bytes + m->len, bytes, len);
	m->len += len;
}

static void
put16(struct message *m, unsigned value)
{
	uint8_t bytes[2] = { (uint8_t)(value >> 8), (uint8_t)value };

	put(m, bytes, sizeof(bytes));
}

static void
put_name(struct message *m, const char *name)
{
	while (*name != '\0') {
		size_t len = strcspn(name, ".");
		uint8_t label = (uint8_t)len;

		must(len > 0 && len < 64);
		put(m, &label, 1);
		put(m, name, len);
		name += len + (name[len] == '.');
	}
	put(m, "", 1);
}

static bool
parse_question(const uint8_t *bytes, size_t len, struct question *q)
{
	size_t at = HEADER_LEN, out = 0;

	if (len < HEADER_LEN || get16(bytes + 4) != 1)
		return false;
	while (at < len && bytes[at] != 0) {
		size_t label = bytes[at];

		if (label >= 64 || at + 1 + label >= len ||
		    out + label + 2 > sizeof(q->name))
			return false;
		if (out > 0)
			q->name[out++] = '.';
		memcpy(q->name + out, bytes + at + 1, label);
		out += label;
		at += 1 + label;
	}
	if (at + 5 > len)
		return false;
	q->name[out] = '\0';
	q->type = get16(bytes + at + 1);
	q->end = at + 5;
	return true;
}

static bool
is_of(const struct dns_record *r, const char *name)
{
	size_t len = strlen(name), end = strlen(r->name) - 1;

	if (r->name[0] != '*')
		return strcasecmp(r->name, name) == 0;
	return len > end && strcasecmp(r->name + 1, name + len - end) == 0;
}

static const struct dns_record *
find(const struct dns *dns, const char *name, int type)
{
	for (size_t i = 0; i < dns->count; i++) {
		const struct dns_record *r = &dns->records[i];

		if (is_of(r, name) && (type < 0 || (int)r->type == type))
			return r;
	}
	return NULL;
}

static void
put_record_head(struct message *m, const char *name, unsigned type, size_t len)
{
	put_name(m, name);
	put16(m, type);
	put16(m, 1); /* IN */
	put16(m, 0);
	put16(m, 60); /* the TTL's lower half */
	put16(m, (unsigned)len);
}

/* The addresses of `name` that were asked for; how many. */
static unsigned
put_addresses(
    const struct dns *dns, struct message *m, const char *name, unsigned type)
{
	enum dns_type wanted = type == TYPE_A ? DNS_A : DNS_AAAA;
	unsigned count = 0;

	for (size_t i = 0; i < dns->count; i++) {
		const struct dns_record *r = &dns->records[i];
		struct addr a;

		if (!is_of(r, name) || r->type != wanted)
			continue;
		must(addr_parse_ip(r->value, &a) == 0);
		put_record_head(m, name, type, type == TYPE_A ? 4 : 16);
		put(m, a.ip, type == TYPE_A ? 4 : 16);
		count++;
	}
	return count;
}

static unsigned
put_answers(
    const struct dns *dns, struct message *m, const char *name, unsigned type)
{
	const struct dns_record *alias;
	unsigned count = 0;

	/* Bounded, were the table to run in a circle. */
	while (count < 8 && (alias = find(dns, name, DNS_CNAME)) != NULL) {
		struct message value = { 0 };

		put_name(&value, alias->value);
		put_record_head(m, name, TYPE_CNAME, value.len);
		put(m, value.bytes, value.len);
		name = alias->value;
		count++;
	}
	if (type == TYPE_A || type == TYPE_AAAA)
		count += put_addresses(dns, m, name, type);
	return count;
}

static void
begin_reply(struct message *m, const uint8_t *query, const struct question *q)
{
	m->len = 0;
	put(m, query, 2);
	put16(m, 0x8180); /* a response, recursion desired and available */
	put16(m, 1);
	put16(m, 0);
	put16(m, 0);
	put16(m, 0);
	put(m, query + HEADER_LEN, q->end - HEADER_LEN);
}

/* False: no answer goes out. */
static bool
answer(const struct dns *dns, const uint8_t *query, const struct question *q,
    bool udp, struct message *m)
{
	unsigned count;

	if (find(dns, q->name, DNS_SILENT) != NULL)
		return false;
	begin_reply(m, query, q);
	if (find(dns, q->name, -1) == NULL) {
		m->bytes[3] |= RCODE_NXDOMAIN;
	} else if (find(dns, q->name, DNS_SERVFAIL) != NULL ||
		   (q->type == TYPE_AAAA &&
		       find(dns, q->name, DNS_NO_AAAA) != NULL)) {
		m->bytes[3] |= RCODE_SERVFAIL;
	} else if (udp && find(dns, q->name, DNS_TRUNCATED) != NULL) {
		m->bytes[2] |= 2;
	} else {
		count = put_answers(dns, m, q->name, q->type);
		m->bytes[7] = (uint8_t)count;
	}
	return true;
}

static void
send_udp(struct dns *dns, const struct message *m,
    const struct sockaddr_storage *to, socklen_t len)
{
	/* The asker may be gone: that is its affair. */
	(void)!sendto(dns->udp, m->bytes, m->len, MSG_NOSIGNAL,
	    (const struct sockaddr *)to, len);
}

/* False when there was none. */
static bool
serve_datagram(struct dns *dns)
{
	uint8_t query[MESSAGE_MAX];
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	struct question q;
	struct message m;
	ssize_t len = recvfrom(dns->udp, query, sizeof(query), MSG_DONTWAIT,
	    (struct sockaddr *)&from, &from_len);

	if (len < 0)
		return false;
	if (!parse_question(query, (size_t)len, &q))
		return true;
	atomic_fetch_add(&dns->udp_count, 1);
	if (!answer(dns, query, &q, true, &m))
		return true;
	if (find(dns, q.name, DNS_REVERSED) != NULL && dns->kept.len == 0) {
		dns->kept = m;
		dns->kept_to = from;
		dns->kept_len = from_len;
		return true;
	}
	send_udp(dns, &m, &from, from_len);
	if (dns->kept.len != 0)
		send_udp(dns, &dns->kept, &dns->kept_to, dns->kept_len);
	dns->kept.len = 0;
	return true;
}

/* A crowd at once, so that few are lost: that costs the asker seconds. */
static void
serve_udp(struct dns *dns)
{
	for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
		if (!serve_datagram(dns))
			return;
	}
}

static void
conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
}

static void
send_tcp(struct conn *c, const struct message *m)
{
	struct message framed = { 0 };

	put16(&framed, (unsigned)m->len);
	put(&framed, m->bytes, m->len);
	(void)!send(c->fd, framed.bytes, framed.len, MSG_NOSIGNAL);
}

static void
serve_tcp(struct dns *dns, struct conn *c)
{
	ssize_t len =
	    recv(c->fd, c->buf + c->used, sizeof(c->buf) - c->used, 0);

	if (len <= 0) {
		conn_close(c);
		return;
	}
	c->used += (size_t)len;
	while (c->used >= 2 && c->used >= 2 + get16(c->buf)) {
		size_t whole = 2 + get16(c->buf);
		struct question q;
		struct message m;

		if (parse_question(c->buf + 2, whole - 2, &q)) {
			atomic_fetch_add(&dns->tcp_count, 1);
			if (answer(dns, c->buf + 2, &q, false, &m))
				send_tcp(c, &m);
		}
		c->used -= whole;
		memmove(c->buf, c->buf + whole, c->used);
	}
}

static void
accept_tcp(struct dns *dns)
{
	int fd = accept4(dns->tcp, NULL, NULL, SOCK_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < CONNS_MAX; i++) {
		if (dns->conns[i].fd < 0) {
			dns->conns[i].fd = fd;
			dns->conns[i].used = 0;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

static void *
run(void *arg)
{
	struct dns *dns = arg;
	struct pollfd p[3 + CONNS_MAX] = {
		{ .fd = dns->stop, .events = POLLIN },
		{ .fd = dns->udp, .events = POLLIN },
		{ .fd = dns->tcp, .events = POLLIN },
	};

	for (;;) {
		for (size_t i = 0; i < CONNS_MAX; i++)
			p[3 + i] = (struct pollfd){ .fd = dns->conns[i].fd,
				.events = POLLIN };
		if (poll(p, ARRAY_LEN(p), -1) < 0)
			continue;
		if (p[0].revents != 0)
			return NULL;
		for (size_t i = 0; i < CONNS_MAX; i++) {
			if (p[3 + i].revents != 0)
				serve_tcp(dns, &dns->conns[i]);
		}
		if (p[1].revents != 0)
			serve_udp(dns);
		if (p[2].revents != 0)
			accept_tcp(dns);
	}
}

static int
open_socket(const struct addr *at, int type)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(at, &ss);
	int fd = socket(addr_domain(at), type | SOCK_CLOEXEC, 0);
	const int bytes = RECEIVE_BYTES;

	if (fd < 0)
		return -1;
	/* The first is for root alone, the second bounded by a sysctl. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) !=
	    0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (bind(fd, (const struct sockaddr *)&ss, len) != 0 ||
	    (type == SOCK_STREAM && listen(fd, 64) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* UDP on a port that the kernel chooses may find TCP's taken: try again. */
static int
open_sockets(struct dns *dns, const struct addr *at)
{
	for (int tries = 0; tries < 50; tries++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);

		dns->udp = open_socket(at, SOCK_DGRAM);
		if (dns->udp < 0)
			return -1;
		must(getsockname(dns->udp, (struct sockaddr *)&ss, &len) == 0);
		must(addr_from_sockaddr(
			 (struct sockaddr *)&ss, &dns->address) == 0);
		dns->tcp = open_socket(&dns->address, SOCK_STREAM);
		if (dns->tcp >= 0)
			return 0;
		close(dns->udp);
		if (at->port != 0)
			return -1;
	}
	return -1;
}

struct dns *
dns_start(const struct addr *at, const struct dns_record *records, size_t count)
{
	struct dns *dns = calloc(1, sizeof(*dns));

	if (dns == NULL)
		return NULL;
	dns->records = records;
	dns->count = count;
	for (size_t i = 0; i < CONNS_MAX; i++)
		dns->conns[i].fd = -1;
	if (open_sockets(dns, at) != 0) {
		free(dns);
		return NULL;
	}
	dns->stop = eventfd(0, EFD_CLOEXEC);
	must(dns->stop >= 0);
	must(pthread_create(&dns->thread, NULL, run, dns) == 0);
	return dns;
}

void
dns_stop(struct dns *dns)
{
	uint64_t one = 1;

	must(write(dns->stop, &one, sizeof(one)) == sizeof(one));
	pthread_join(dns->thread, NULL);
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (dns->conns[i].fd >= 0)
			close(dns->conns[i].fd);
	}
	close(dns->udp);
	close(dns->tcp);
	close(dns->stop);
	free(dns);
}

const struct addr *
dns_address(const struct dns *dns)
{
	return &dns->address;
}

unsigned
dns_udp_count(struct dns *dns)
{
	return atomic_load(&dns->udp_count);
}

unsigned
dns_tcp_count(struct dns *dns)
{
	return atomic_load(&dns->tcp_count);
}
