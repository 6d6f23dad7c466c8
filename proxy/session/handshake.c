/* SPDX-License-Identifier: ISC */
/*
 * handshake: the client's messages until its request is known. They may come
 * split or merged in any way; what follows the request is kept for the target.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "session/session_impl.h"

/*
 * A client's handshake and what it sends ahead of the reply: read and kept at
 * most. What is beyond stays in the kernel until the target is there. The limit
 * for all slow readers does not count it, so it is little: the longest message,
 * or a request and the hello of TLS behind it.
 */
#define AHEAD_BYTES 2048
_Static_assert(AHEAD_BYTES > SOCKS5_MESSAGE_MAX, "each message can be read");

static void advance(struct session *s, const uint8_t *bytes, size_t len);

/* What a parser said when there is no message. */
static void
reject(struct session *s, int parsed)
{
	if (s->state == SESSION_GREETING && parsed == SOCKS5_NOT_SOCKS5)
		session_close(s, CLOSE_NOT_SOCKS5);
	else if (s->state != SESSION_REQUEST)
		session_close(s, CLOSE_MALFORMED);
	else
		session_refuse(s, parsed == SOCKS5_BAD_ADDRESS_TYPE
				      ? CLOSE_ADDRESS_TYPE
				      : CLOSE_MALFORMED);
}

static void
answer(struct session *s, const uint8_t *bytes, size_t len,
    enum session_state next)
{
	if (stream_write(&s->client, bytes, len) != (ssize_t)len)
		session_close(s, CLOSE_CLIENT_GONE);
	else
		session_enter(s, next);
}

static int
take_greeting(struct session *s, const uint8_t *bytes, size_t len)
{
	struct socks5_greeting greeting;
	uint8_t reply[SOCKS5_REPLY_MAX];
	bool password = s->door->listen->password;
	int used = socks5_parse_greeting(bytes, len, &greeting);

	if (used <= 0)
		return used;
	if (password ? !greeting.password : !greeting.no_auth)
		session_refuse_with(s, CLOSE_NO_METHOD, reply,
		    socks5_put_method(reply, SOCKS5_NO_ACCEPTABLE));
	else if (password)
		answer(s, reply, socks5_put_method(reply, SOCKS5_PASSWORD),
		    SESSION_LOGIN);
	else
		answer(s, reply, socks5_put_method(reply, SOCKS5_NO_AUTH),
		    SESSION_REQUEST);
	return used;
}

static void
logged_in(struct session *s, enum login_result result, size_t user)
{
	uint8_t reply[SOCKS5_REPLY_MAX];
	size_t len = socks5_put_login_status(reply, result == LOGIN_OK);

	/* No answer, rather than one that calls the password wrong. */
	if (result == LOGIN_BUSY) {
		session_close(s, CLOSE_LOGIN_BUSY);
		return;
	}
	if (result != LOGIN_OK) {
		session_refuse_with(s, CLOSE_LOGIN_FAILED, reply, len);
		return;
	}
	s->user = (uint16_t)(user + 1);
	answer(s, reply, len, SESSION_REQUEST);
}

static void
on_login(enum login_result result, size_t user, void *arg)
{
	struct session *s = arg;
	uint8_t *ahead = s->ahead;
	size_t len = s->ahead_len;

	must(s->state == SESSION_VERIFYING);
	s->login = NULL;
	s->ahead = NULL;
	s->ahead_len = 0;
	logged_in(s, result, user);
	if (s->state == SESSION_REQUEST && len > 0)
		advance(s, ahead, len);
	free(ahead);
	/* What came meanwhile has had its event. */
	handshake_read(s);
}

static int
take_login(struct session *s, const uint8_t *bytes, size_t len)
{
	struct login_service *logins = s->env->logins;
	struct socks5_login login;
	int used = socks5_parse_login(bytes, len, &login);
	size_t user;

	if (used <= 0)
		return used;
	if (login_is_known(logins, login.user, login.user_len, login.password,
		login.password_len, &user)) {
		logged_in(s, LOGIN_OK, user);
	} else {
		s->login = login_start(logins, &s->client_addr, login.user,
		    login.user_len, login.password, login.password_len,
		    on_login, s);
		if (s->login == NULL)
			session_close(s, CLOSE_MEMORY);
		else
			session_enter(s, SESSION_VERIFYING);
	}
	OPENSSL_cleanse(&login, sizeof(login));
	return used;
}

static int
take_request(struct session *s, const uint8_t *bytes, size_t len)
{
	struct socks5_request request;
	int used = socks5_parse_request(bytes, len, &request);

	if (used > 0)
		session_seek_target(s, &request);
	return used;
}

static bool
reads_messages(const struct session *s)
{
	return s->state == SESSION_GREETING || s->state == SESSION_LOGIN ||
	       s->state == SESSION_REQUEST;
}

static int
take_message(struct session *s, const uint8_t *bytes, size_t len)
{
	if (s->state == SESSION_GREETING)
		return take_greeting(s, bytes, len);
	if (s->state == SESSION_LOGIN)
		return take_login(s, bytes, len);
	return take_request(s, bytes, len);
}

static void
keep_ahead(struct session *s, const uint8_t *bytes, size_t len)
{
	must(s->ahead == NULL);
	if (len == 0)
		return;
	s->ahead = malloc(len);
	if (s->ahead == NULL) {
		session_close(s, CLOSE_MEMORY);
		return;
	}
	memcpy(s->ahead, bytes, len);
	s->ahead_len = len;
}

/* Takes the messages that are whole; keeps the rest. */
static void
advance(struct session *s, const uint8_t *bytes, size_t len)
{
	size_t used = 0;

	while (reads_messages(s)) {
		int n = take_message(s, bytes + used, len - used);

		if (n < 0)
			reject(s, n);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (reads_messages(s) && used < len) /* a piece, and no answer */
		stream_acknowledge(&s->client);
	if (s->state != SESSION_CLOSED && s->state != SESSION_REFUSING)
		keep_ahead(s, bytes + used, len - used);
}

static void
read_messages(struct session *s)
{
	uint8_t *bytes = s->env->loop->scratch;
	size_t len = s->ahead_len;
	ssize_t n;

	must(len < AHEAD_BYTES);
	if (len > 0)
		memcpy(bytes, s->ahead, len);
	n = stream_read(&s->client, bytes + len, AHEAD_BYTES - len);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		s->error = (int)-n;
		session_close(
		    s, n == 0 ? CLOSE_CLIENT_GONE : CLOSE_CLIENT_RESET);
		return;
	}
	free(s->ahead);
	s->ahead = NULL;
	s->ahead_len = 0;
	advance(s, bytes, len + (size_t)n);
}

void
handshake_read(struct session *s)
{
	while (reads_messages(s) && s->client.readable)
		read_messages(s);
}

void
handshake_watch(struct session *s)
{
	socklen_t len = sizeof(s->error);
	uint8_t byte;

	/* An error is behind the bytes that have come, which are not read. */
	if (s->client.failed &&
	    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &s->error, &len) == 0 &&
	    s->error != 0) {
		session_close(s, CLOSE_CLIENT_RESET);
		return;
	}
	s->client.failed = false;
	if (s->client.fin && s->state == SESSION_VERIFYING &&
	    s->ahead_len == 0 && recv(s->fd, &byte, 1, MSG_PEEK) == 0)
		session_close(s, CLOSE_CLIENT_GONE);
}
