/* SPDX-License-Identifier: ISC */
/*
 * commands: what the command line does besides running the proxy. Each returns
 * the exit status.
 */
#ifndef FOURFOLD_COMMANDS_H
#define FOURFOLD_COMMANDS_H

/* Parses the file and looks at the host; says what it gives, or what is wrong.
 */
int command_check(const char *path);

/* Reads a password from standard input and prints its hash. */
int command_passwd(void);

#endif
