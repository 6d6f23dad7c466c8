/* SPDX-License-Identifier: ISC */
/*
 * socks5: the messages of RFC 1928 (SOCKS5) and RFC 1929 (user and password).
 *
 * A codec without state: each parser looks at what has arrived so far and says
 * how many bytes the message has, that it is not whole yet, or what is wrong
 * with it, as early as the bytes tell. The caller keeps the bytes and calls
 * again with more; what follows the message is left alone.
 */
#ifndef FOURFOLD_SOCKS5_H
#define FOURFOLD_SOCKS5_H

#include "base/addr.h"

/* No message of a client is longer: RFC 1929 with two full fields. */
#define SOCKS5_MESSAGE_MAX 513
/* No message of ours is longer: a reply with an IPv6 address. */
#define SOCKS5_REPLY_MAX 22
#define SOCKS5_NAME_MAX  255

enum socks5_method {
	SOCKS5_NO_AUTH = 0x00,
	SOCKS5_PASSWORD = 0x02,
	SOCKS5_NO_ACCEPTABLE = 0xff,
};

enum socks5_command {
	SOCKS5_CONNECT = 1,
	SOCKS5_BIND = 2,
	SOCKS5_UDP_ASSOCIATE = 3,
};

/* RFC 1928 section 6. */
enum socks5_reply {
	SOCKS5_SUCCEEDED = 0x00,
	SOCKS5_FAILURE = 0x01,
	SOCKS5_NOT_ALLOWED = 0x02,
	SOCKS5_NETWORK_UNREACHABLE = 0x03,
	SOCKS5_HOST_UNREACHABLE = 0x04,
	SOCKS5_REFUSED = 0x05,
	SOCKS5_TTL_EXPIRED = 0x06,
	SOCKS5_COMMAND_UNSUPPORTED = 0x07,
	SOCKS5_ADDRESS_UNSUPPORTED = 0x08,
};

/* What a parser returns when it is not the length of a whole message. */
enum socks5_parse {
	SOCKS5_MORE = 0,              /* whole so far, but not yet complete */
	SOCKS5_NOT_SOCKS5 = -1,       /* wrong version byte */
	SOCKS5_MALFORMED = -2,        /* a field that the RFC rules out */
	SOCKS5_BAD_ADDRESS_TYPE = -3, /* ATYP is neither 1, 3 nor 4 */
};

struct socks5_greeting {
	bool no_auth, password; /* the methods offered, of those we know */
};

/* Fields are not NUL-terminated in the message; they are here. */
struct socks5_login {
	char user[256];
	char password[256]; /* the caller wipes it */
	uint8_t user_len, password_len;
};

struct socks5_request {
	uint8_t command;  /* any byte: the caller judges it */
	struct addr addr; /* the literal; family NONE when `name` is set;
			     an IPv4-mapped one is IPv4 */
	uint16_t port;    /* never 0 for CONNECT */
	char name[SOCKS5_NAME_MAX + 1]; /* "" when `addr` is set */
};

/*
 * Each returns the message's length (> 0) and fills `out`, or an enum
 * socks5_parse and leaves `out` alone. `bytes` may be anything, `len` too.
 *
 * greeting: NMETHODS may be 0; unknown methods are ignored.
 * login: version 1; empty fields are accepted (tolerance seen to be needed),
 *   an embedded NUL is malformed.
 * request: RSV is ignored. A name has 1 to 255 bytes without NUL, control
 *   characters or spaces; one trailing dot is kept. A name that is an IP
 *   literal ("1.2.3.4", "1.2.3.4.", "::1", "[::1]") becomes `addr`. Port 0 is
 *   malformed for CONNECT and accepted for the others.
 */
int socks5_parse_greeting(
    const uint8_t *bytes, size_t len, struct socks5_greeting *out);
int socks5_parse_login(
    const uint8_t *bytes, size_t len, struct socks5_login *out);
int socks5_parse_request(
    const uint8_t *bytes, size_t len, struct socks5_request *out);

/* Each writes one message to `out` of SOCKS5_REPLY_MAX bytes; the length. */
size_t socks5_put_method(uint8_t *out, enum socks5_method method);
size_t socks5_put_login_status(uint8_t *out, bool accepted);

/* `bound` with family NONE is written as 0.0.0.0:0; never as a name. */
size_t socks5_put_reply(
    uint8_t *out, enum socks5_reply reply, const struct addr *bound);

#endif
