/* SPDX-License-Identifier: ISC */
#include "config_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

struct config *
config_text_bytes(const char *text, size_t len, char **errors)
{
	struct config *c = NULL;
	size_t size;
	FILE *stream = open_memstream(errors, &size);
	int error;

	cr_assert_not_null(stream);
	error = config_parse("f", text, len, stream, &c);
	cr_assert_eq(fclose(stream), 0);
	cr_assert_eq(error == 0, c != NULL);
	cr_assert_eq(error == 0, **errors == '\0', "%s", *errors);
	cr_assert(error == 0 || error == -EINVAL);
	return c;
}

struct config *
config_text_good(const char *text)
{
	char *errors;
	struct config *c =
	    config_text_bytes(text, text == NULL ? 0 : strlen(text), &errors);

	cr_assert_not_null(c, "for <%s>:\n%s", text, errors);
	free(errors);
	return c;
}

/* The lines of the errors, "2 5 5"; `errors` is written to. */
static void
lines_of(const char *errors, char *out, size_t size)
{
	out[0] = '\0';
	while (*errors != '\0') {
		size_t used = strlen(out);
		const char *end = strchr(errors, '\n');

		cr_assert_not_null(end);
		cr_assert_eq(strncmp(errors, "f:", 2), 0, "%s", errors);
		snprintf(out + used, size - used, "%s%lu", used == 0 ? "" : " ",
		    strtoul(errors + 2, NULL, 10));
		errors = end + 1;
	}
}

void
config_text_expect_bytes(
    const char *text, size_t len, const char *lines, const char *words)
{
	char *errors, found[4096];
	struct config *c = config_text_bytes(text, len, &errors);

	cr_expect_null(c, "no error in <%s>", text);
	config_free(c);
	lines_of(errors, found, sizeof(found));
	cr_expect_str_eq(found, lines, "for <%s>: lines %s, not %s:\n%s", text,
	    found, lines, errors);
	cr_expect(strstr(errors, words) != NULL, "for <%s>: no \"%s\" in:\n%s",
	    text, words, errors);
	free(errors);
}

void
config_text_expect(const char *text, const char *lines, const char *words)
{
	config_text_expect_bytes(text, strlen(text), lines, words);
}
