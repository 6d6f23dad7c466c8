/* SPDX-License-Identifier: ISC */
#include "service/commands.h"

#include <sys/random.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "policy/auth.h"
#include "service/snapshot.h"

#define PASSWORD_MAX 255 /* RFC 1929 */

/* The ports that the file gives our listeners; port 0 is not known before the
 * start. */
static size_t
own_ports(const struct config *c, uint16_t **out)
{
	size_t n = 0;
	uint16_t *ports = calloc(65536, sizeof(*ports));

	must(ports != NULL);
	for (size_t i = 0; i < c->listen_count; i++) {
		for (size_t a = 0; a < c->listens[i].address_count; a++) {
			struct config_ports p =
			    c->listens[i].addresses[a].ports;

			for (unsigned port = p.first;
			     port != 0 && port <= p.last && n < 65536; port++)
				ports[n++] = (uint16_t)port;
		}
	}
	*out = ports;
	return n;
}

static void
print_pool(const struct pool *p)
{
	if (p->by_kernel)
		printf("[egress %s] the kernel chooses the ports\n", p->name);
	else
		printf("[egress %s] %u ports; sessions to one target: %u over "
		       "IPv4, %u over IPv6\n",
		    p->name, p->ports, pool_slots(p, ADDR_V4),
		    pool_slots(p, ADDR_V6));
}

int
command_check(const char *path)
{
	struct snapshot s;
	uint16_t *ports;
	size_t count;
	int error;

	if (snapshot_load(path, stderr, &s) != 0)
		return 2;
	count = own_ports(s.config, &ports);
	error = snapshot_make_pools(&s, ports, count, stderr, stderr);
	free(ports);
	if (error == 0) {
		for (size_t i = 0; i < s.config->egress_count; i++)
			print_pool(&s.pools[i]);
		printf("%s: no errors\n",
		    path != NULL ? path : "built-in defaults");
	}
	snapshot_fini(&s);
	return error == 0 ? 0 : 2;
}

/* One line, without echo when a person types it. */
static bool
read_password(char *line, size_t size)
{
	struct termios before, quiet;
	bool terminal =
	    isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
	bool ok;

	if (terminal) {
		quiet = before;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fputs("Password: ", stderr);
	}
	ok = fgets(line, (int)size, stdin) != NULL;
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	return ok;
}

int
command_passwd(void)
{
	char line[PASSWORD_MAX + 3];
	uint8_t salt[AUTH_SALT_BYTES];
	char hash[AUTH_HASH_MAX];
	size_t len;
	int status = 1;

	if (!read_password(line, sizeof(line))) {
		fputs(
		    "fourfold passwd: no password on standard input\n", stderr);
		return 2;
	}
	len = strcspn(line, "\r\n");
	if (len == 0 || len > PASSWORD_MAX) {
		fprintf(stderr,
		    "fourfold passwd: a password has 1 to %d bytes\n",
		    PASSWORD_MAX);
		status = 2;
	} else if (getrandom(salt, sizeof(salt), 0) == sizeof(salt) &&
		   auth_hash(line, len, salt, hash) == 0) {
		puts(hash);
		status = 0;
	} else {
		fputs("fourfold passwd: out of memory\n", stderr);
	}
	OPENSSL_cleanse(line, sizeof(line));
	return status;
}
