/* SPDX-License-Identifier: ISC */
/*
 * master: the process that is started: reads the configuration, holds the
 * listening sockets and the shared memory, keeps the crew of workers, and
 * speaks with systemd. It never touches a session.
 */
#ifndef FOURFOLD_MASTER_H
#define FOURFOLD_MASTER_H

/* Runs until it is told to stop. `path`: the file, or NULL for the built-in
 * defaults. Returns the exit status: 0, 1 (cannot start), 2 (bad file). */
int master_run(const char *path);

#endif
