/* SPDX-License-Identifier: ISC */
/*
 * config_text: from a text to a snapshot or its errors, for the tests of
 * config.
 */
#ifndef FOURFOLD_TESTS_CONFIG_TEXT_H
#define FOURFOLD_TESTS_CONFIG_TEXT_H

#include "policy/config.h"

#define HASH                               \
	"$scrypt$ln=14,r=8,p=1$"           \
	"c2FsdHNhbHRzYWx0c2FsdA$"          \
	"a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5" \
	"a2V5a2V5a2U"
#define USER "[user bob]\npassword = " HASH "\n"

/* The snapshot, or NULL; `errors` is to be freed. The file is called "f". */
struct config *config_text_bytes(const char *text, size_t len, char **errors);

/* The snapshot of a text without errors. */
struct config *config_text_good(const char *text);

/* `text` has errors in exactly these lines ("2 5 5"), and they say `words`. */
void config_text_expect(const char *text, const char *lines, const char *words);
void config_text_expect_bytes(
    const char *text, size_t len, const char *lines, const char *words);

/* A text, the lines of its errors, and words in them. */
struct config_text_case {
	const char *text, *lines, *words;
};

#endif
