/* SPDX-License-Identifier: ISC */
#include "socks.h"

#include <string.h>
#include <unistd.h>

#include "it.h"
#include "peer.h"

size_t
socks_put_greeting(uint8_t *out)
{
	memcpy(out, "\x05\x01\x00", 3);
	return 3;
}

size_t
socks_put_login(uint8_t *out, const char *user, const char *password)
{
	size_t n = 0, user_len = strlen(user), password_len = strlen(password);

	must(user_len <= 255 && password_len <= 255);
	out[n++] = 1;
	out[n++] = (uint8_t)user_len;
	memcpy(out + n, user, user_len);
	n += user_len;
	out[n++] = (uint8_t)password_len;
	memcpy(out + n, password, password_len);
	return n + password_len;
}

static size_t
put_port(uint8_t *out, uint16_t port)
{
	out[0] = (uint8_t)(port >> 8);
	out[1] = (uint8_t)(port & 0xff);
	return 2;
}

size_t
socks_put_request(uint8_t *out, uint8_t command, const struct addr *to)
{
	size_t bytes = to->family == ADDR_V4 ? 4 : 16;

	out[0] = 5;
	out[1] = command;
	out[2] = 0;
	out[3] = to->family == ADDR_V4 ? 1 : 4;
	memcpy(out + 4, to->ip, bytes);
	return 4 + bytes + put_port(out + 4 + bytes, to->port);
}

size_t
socks_put_name(uint8_t *out, uint8_t command, const char *name, uint16_t port)
{
	size_t len = strlen(name);

	must(len <= 255);
	out[0] = 5;
	out[1] = command;
	out[2] = 0;
	out[3] = 3;
	out[4] = (uint8_t)len;
	memcpy(out + 5, name, len);
	return 5 + len + put_port(out + 5 + len, port);
}

void
socks_greet(int fd)
{
	uint8_t message[3];

	peer_send(fd, message, socks_put_greeting(message));
	peer_expect(fd, "\x05\x00", 2);
}

int
socks_connect(const struct addr *proxy)
{
	int fd = peer_connect(proxy);

	socks_greet(fd);
	return fd;
}

uint8_t
socks_login(int fd, const char *user, const char *password)
{
	uint8_t message[SOCKS_MESSAGE_MAX], answer[2];

	peer_send(fd, "\x05\x01\x02", 3);
	peer_expect(fd, "\x05\x02", 2);
	peer_send(fd, message, socks_put_login(message, user, password));
	peer_recv(fd, answer, sizeof(answer));
	IT_MUST(answer[0] == 1, "login version %d", answer[0]);
	return answer[1];
}

void
socks_request(int fd, const struct addr *to)
{
	uint8_t message[SOCKS_MESSAGE_MAX];

	peer_send(fd, message, socks_put_request(message, 1, to));
}

void
socks_request_name(int fd, const char *name, uint16_t port)
{
	uint8_t message[SOCKS_MESSAGE_MAX];

	peer_send(fd, message, socks_put_name(message, 1, name, port));
}

struct socks_reply
socks_reply(int fd)
{
	uint8_t m[22];
	struct socks_reply reply;

	peer_recv(fd, m, 4);
	IT_MUST(m[0] == 5 && m[2] == 0 && (m[3] == 1 || m[3] == 4),
	    "a reply that begins %02x %02x %02x %02x", m[0], m[1], m[2], m[3]);
	size_t bytes = m[3] == 1 ? 4 : 16;

	peer_recv(fd, m + 4, bytes + 2);
	reply.code = m[1];
	reply.bound = addr_from_bytes(bytes == 4 ? ADDR_V4 : ADDR_V6, m + 4,
	    (uint16_t)(m[4 + bytes] << 8 | m[5 + bytes]));
	return reply;
}

/* RFC 1928: a full reply, whose address says nothing, and then the end. */
static void
expect_refusal(int fd, const struct socks_reply *reply)
{
	char text[ADDR_TEXT_MAX];

	IT_MUST(addr_is_unspecified_ip(&reply->bound) && reply->bound.port == 0,
	    "a refusal with address %s", addr_format(&reply->bound, text));
	peer_expect_eof(fd);
}

void
socks_expect(int fd, uint8_t code)
{
	struct socks_reply reply = socks_reply(fd);

	IT_MUST(reply.code == code, "reply %02x where %02x was due", reply.code,
	    code);
	if (code != 0)
		expect_refusal(fd, &reply);
}

struct socks_reply
socks_ask(int fd, const struct addr *to)
{
	uint8_t m[SOCKS_MESSAGE_MAX];
	size_t n = socks_put_greeting(m);

	n += socks_put_request(m + n, 1, to);
	peer_send(fd, m, n);
	peer_expect(fd, "\x05\x00", 2);
	return socks_reply(fd);
}

uint8_t
socks_try(const struct addr *proxy, const struct addr *to, int *fd)
{
	int client = peer_connect(proxy);
	struct socks_reply reply = socks_ask(client, to);

	*fd = -1;
	if (reply.code != 0)
		expect_refusal(client, &reply);
	else
		*fd = client;
	return reply.code;
}

void
pair_open_by(
    struct pair *p, int client, const struct target *t, const struct addr *to)
{
	char saw[ADDR_TEXT_MAX], said[ADDR_TEXT_MAX];
	struct socks_reply reply = socks_ask(client, to);

	IT_MUST(reply.code == 0, "refused with %02x: %s", reply.code,
	    addr_format(to, said));
	p->client = client;
	p->target = target_accept(t);
	p->source = peer_remote(p->target);
	struct addr local = peer_local(p->target);

	IT_MUST(addr_equal(&local, to), "the target reached is %s",
	    addr_format(&local, saw));
	IT_MUST(addr_equal(&p->source, &reply.bound),
	    "the target saw %s, the client was told %s",
	    addr_format(&p->source, saw), addr_format(&reply.bound, said));
}

void
pair_open(struct pair *p, const struct addr *proxy, const struct target *t,
    const struct addr *to)
{
	pair_open_by(p, peer_connect(proxy), t, to);
}

void
pair_exchange(const struct pair *p, uint32_t number)
{
	peer_exchange(p->client, p->target, number);
}

void
pair_reset(struct pair *p)
{
	peer_reset(p->client);
	peer_expect_reset(p->target);
	p->client = p->target = -1;
}

void
pair_open_all(struct pair *pairs, size_t n, const struct addr *proxy,
    const struct target *t, const struct addr *to)
{
	for (size_t i = 0; i < n; i++)
		pair_open(&pairs[i], proxy, t, to);
}

void
pair_reset_all(struct pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pair_reset(&pairs[i]);
}

void
pair_finish(struct pair *p)
{
	peer_finish(p->client);
	peer_expect_eof(p->target);
	peer_expect_eof(p->client);
	p->client = p->target = -1;
}
