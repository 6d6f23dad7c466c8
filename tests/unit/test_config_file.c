/* SPDX-License-Identifier: ISC */
/*
 * The file that is installed, against the table of options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "policy/config.h"

/* What `config_describe` prints. */
static char *
describe(void)
{
	char *text;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	cr_assert_not_null(stream);
	config_describe(stream);
	cr_assert_eq(fclose(stream), 0);
	return text;
}

/* The file that is installed, behind a newline. */
static void
read_installed(char *text, size_t size)
{
	FILE *file = fopen(FOURFOLD_SOURCE_DIR "/conf/fourfold.conf", "r");
	size_t len;

	cr_assert_not_null(file);
	text[0] = '\n';
	len = 1 + fread(text + 1, 1, size - 2, file);
	cr_assert_eq(fclose(file), 0);
	cr_assert_lt(len, size - 1);
	text[len] = '\0';
}

/* Copies the section of this kind, commented out or not, up to the next. */
static void
copy_section(const char *file, const char *kind, char *out, size_t size)
{
	const char *from, *to;
	char head[64];

	snprintf(head, sizeof(head), "\n[%s", kind);
	from = strstr(file, head);
	if (from == NULL) {
		snprintf(head, sizeof(head), "\n# [%s", kind);
		from = strstr(file, head);
	}
	cr_assert(from != NULL, "no section [%s]", kind);
	to = strstr(from + 1, "\n[");
	if (to == NULL)
		to = from + strlen(from);
	cr_assert_lt((size_t)(to - from), size);
	memcpy(out, from, (size_t)(to - from));
	out[to - from] = '\0';
}

/* The line at `at` stands below one that explains it and, perhaps, others that
 * go with it. */
static bool
is_explained(const char *section, const char *at)
{
	while (at > section) {
		do
			at--;
		while (at > section && at[-1] != '\n');
		if (at[0] != '#' || at[1] != ' ')
			return false;
		if (memchr(at, '=', strcspn(at, "\n")) == NULL)
			return true;
	}
	return false;
}

/* As above, but options that are not commented out may stand between. */
static bool
stands_explained(const char *section, const char *at)
{
	const char *line = at;

	while (line > section + 1) {
		if (is_explained(section, line))
			return true;
		do
			line--;
		while (line > section && line[-1] != '\n');
		if (memchr(line, '=', strcspn(line, "\n")) == NULL)
			return false;
	}
	return false;
}

/* An option is there with its default, commented out where the section is or
 * where the default is told in words; its explanation is above it. */
static void
expect_option(const char *section, const char *key, const char *fallback)
{
	bool is_value = strchr(fallback, ' ') == NULL;
	char line[128];
	const char *at;

	snprintf(line, sizeof(line), "\n%s = %s\n", key, fallback);
	at = is_value ? strstr(section, line) : NULL;
	if (at == NULL) {
		snprintf(line, sizeof(line), "\n# %s = %s", key,
		    is_value ? fallback : "");
		at = strstr(section, line);
	}
	cr_expect(at != NULL, "no \"%s\"", line + 1);
	cr_expect(at == NULL || stands_explained(section, at + 1),
	    "%s is not explained", key);
}

Test(config_file, the_file_that_is_installed_says_every_option_and_its_default)
{
	char file[32768], section[32768], kind[32] = "", key[32] = "";
	char *text = describe(), *rest = text, *line;
	unsigned options = 0;

	read_installed(file, sizeof(file));
	while ((line = strsep(&rest, "\n")) != NULL) {
		const char *fallback = strstr(line, "Default: ");

		if (sscanf(line, "[%31[a-z]", kind) == 1)
			copy_section(file, kind, section, sizeof(section));
		else if (sscanf(line, "  %31[a-z0-9-] = ", key) == 1)
			options++;
		else if (fallback != NULL)
			expect_option(
			    section, key, fallback + strlen("Default: "));
	}
	cr_expect_geq(options, 48);
	free(text);
}
