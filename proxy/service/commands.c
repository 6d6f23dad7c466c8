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
#include "service/check.h"

#define PASSWORD_MAX 255 /* RFC 1929 */

int
command_check(const struct command_line *line)
{
	return check_run(line->path, stdout, stderr);
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
command_passwd(const struct command_line *unused)
{
	char line[PASSWORD_MAX + 3];
	uint8_t salt[AUTH_SALT_BYTES];
	char hash[AUTH_HASH_MAX];
	size_t len;
	int status = 1;

	(void)unused;
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
