/* SPDX-License-Identifier: ISC */
/*
 * auth: passwords and their hashes (scrypt, RFC 7914, by OpenSSL).
 *
 * A hash is text: "$scrypt$ln=14,r=8,p=1$SALT$KEY", salt and key in base64
 * without padding. Pure: the salt is an argument. A verification takes some 50
 * ms of CPU on purpose, so it never runs on a worker's loop: session/login.h.
 */
#ifndef FOURFOLD_AUTH_H
#define FOURFOLD_AUTH_H

#include "base/base.h"

#define AUTH_SALT_BYTES 16
#define AUTH_HASH_MAX   160

/* Writes the hash of `password` to `out` of AUTH_HASH_MAX bytes. -ENOMEM. */
MUST_USE int auth_hash(const char *password, size_t len,
    const uint8_t salt[AUTH_SALT_BYTES], char *out);

/* Is `hash` well-formed, and cheap enough to verify (at most 256 MiB)? */
bool auth_hash_is_valid(const char *hash);

/* Compares in constant time. `hash` must be valid; NULL: the user does not
 * exist, which takes as long and is false. */
bool auth_verify(const char *hash, const char *password, size_t len);

#endif
