/* SPDX-License-Identifier: ISC */
/*
 * commands: what the command line does besides running the proxy. Each returns
 * the exit status.
 */
#ifndef FOURFOLD_COMMANDS_H
#define FOURFOLD_COMMANDS_H

#include "base/base.h"

/* What the command line says. */
struct command_line {
	const char *path;     /* of the file; NULL: built-in defaults */
	const char *words[2]; /* behind the command */
	bool json, once;      /* --json, --once */
	const char *socket;   /* of --socket; NULL: the file's */
	const char *client, *user, *target, *top, *limit; /* NULL: not given */
};

/* Parses the file and looks at the host; says what it gives, or what is wrong.
 */
int command_check(const struct command_line *line);

/* Reads a password from standard input and prints its hash. */
int command_passwd(const struct command_line *line);

/*
 * These ask the running Fourfold, by its control socket: `socket`, or what the
 * file names.
 */
int command_status(const struct command_line *line);
int command_who(const struct command_line *line); /* IP:PORT [TARGET] */
int command_sessions(const struct command_line *line);
int command_kill(const struct command_line *line); /* SESSION */
int command_top(const struct command_line *line);

#endif
