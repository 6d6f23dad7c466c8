/* SPDX-License-Identifier: ISC */
/*
 * login: checks user and password without stopping the worker's loop.
 *
 * scrypt runs on one thread of the worker, fed by a bounded queue. What was
 * right is remembered (keyed by a secret of this process, never the password
 * itself), so that a known client's next session is answered from memory; what
 * was wrong is not. The callback comes on the loop's thread.
 *
 * A login is an operation with the contract of resolver.h.
 */
#ifndef FOURFOLD_LOGIN_H
#define FOURFOLD_LOGIN_H

#include "policy/config.h"

struct event_base;
struct login_service;
struct login;

enum login_result {
	LOGIN_OK,
	LOGIN_WRONG, /* unknown user or wrong password: not told apart */
	LOGIN_BUSY,  /* the queue is full, or the client's part of it */
};

/* `user` is the index in config->users when LOGIN_OK. */
typedef void login_done_fn(enum login_result result, size_t user, void *arg);

/* NULL when the thread cannot start. `config` and `base` are borrowed. */
struct login_service *login_service_new(
    struct event_base *base, const struct config *config);

/* Waits for the verification under way. All logins must be done or cancelled.
 */
void login_service_free(struct login_service *service);

/* The answer when it is known at once: remembered. Does not block. */
bool login_is_known(struct login_service *service, const char *user,
    size_t user_len, const char *password, size_t password_len, size_t *index);

/*
 * Copies user and password (wiped when done). NULL: no memory. A client, which
 * is all addresses that the quotas take for one, has few places in the queue,
 * so that one that guesses does not keep others out; those on unix sockets
 * (family NONE) have as many as there are.
 */
struct login *login_start(struct login_service *service,
    const struct addr *client, const char *user, size_t user_len,
    const char *password, size_t password_len, login_done_fn *done, void *arg);

void login_cancel(struct login **login);

#endif
