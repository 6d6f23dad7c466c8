/* SPDX-License-Identifier: ISC */
/*
 * commands_live: what the commands that ask a running Fourfold share.
 */
#ifndef FOURFOLD_COMMANDS_LIVE_H
#define FOURFOLD_COMMANDS_LIVE_H

#include "policy/config.h"
#include "service/client.h"
#include "service/commands.h"

/* The control socket of the command line, or else of the file, as
 * snapshot_find_control() has it. 0; otherwise what is wrong was written to
 * standard error, and the exit status is returned. */
MUST_USE int live_find_socket(const struct command_line *line,
    const char *command, char path[CONFIG_PATH_MAX + 1]);

/* The status page's text for people into `out`; as client_ask(). */
MUST_USE int live_status(const char *socket_path,
    const struct command_line *line, FILE *out, char why[CLIENT_WHY_MAX]);

/* Says what is wrong, which is a negative errno of client_ask(); returns the
 * exit status. */
int live_fail(const char *command, int error, const char *why);

#endif
