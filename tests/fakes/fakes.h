/* SPDX-License-Identifier: ISC */
/*
 * fakes: resolver, login and dialer with the symbols of the real ones, for
 * tests of the session: the test says what each operation answers, and when.
 *
 * They hold the session to the contract of operations: one that was begun is
 * answered or cancelled, once. They have no state of their own; what shall fail
 * is said by what they are asked for.
 */
#ifndef FOURFOLD_FAKES_H
#define FOURFOLD_FAKES_H

#include "io/resolver.h"
#include "session/dialer.h"
#include "session/login.h"

/* Each has no memory for this one. */
#define FAKE_NAME_WITHOUT_MEMORY "no-memory.test"
#define FAKE_USER_WITHOUT_MEMORY "no-memory"
#define FAKE_POOL_WITHOUT_MEMORY 63u

/* login_is_known(), as the user with index 0. */
#define FAKE_USER_KNOWN "known"

/* The handle is dead when the answer begins. */
void fake_resolve_answer(struct resolve *resolve, enum resolve_result result,
    const struct addr *addrs, size_t count);
void fake_login_answer(
    struct login *login, enum login_result result, size_t user);

/* The dial has its lease from the start. `fd` becomes its socket; the stream's
 * first event makes the dial succeed. */
void fake_dial_connect(struct dial *dial, int fd);
void fake_dial_fail(struct dial *dial, enum close_reason reason, int error);

/* What was asked for. */
const char *fake_resolve_name(const struct resolve *resolve);
const struct resolver_options *fake_resolver_options(const struct resolver *r);
size_t fake_dial_targets(const struct dial *dial, const struct addr **out);

#endif
