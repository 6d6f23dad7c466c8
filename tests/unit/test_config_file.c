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

	snprintf(head, sizeof(head), "\n# [%s", kind);
	from = strstr(file, head);
	if (from == NULL) {
		snprintf(head, sizeof(head), "\n[%s", kind);
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

/* An option is there with its default, or, where that is no value but told in
 * words, commented out; its explanation is above it. */
static void
expect_option(const char *section, const char *key, const char *fallback)
{
	bool is_value = strchr(fallback, ' ') == NULL;
	char line[128];
	const char *at;

	if (is_value)
		snprintf(line, sizeof(line), "\n%s = %s\n", key, fallback);
	else
		snprintf(line, sizeof(line), "\n# %s = ", key);
	at = strstr(section, line);
	cr_expect(at != NULL, "no \"%s\"", line + 1);
	while (at != NULL && at > section && at[-1] != '\n')
		at--;
	cr_expect(at == NULL || at[0] == '#', "%s is not explained", key);
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
		else if (sscanf(line, "  %31[a-z-] = ", key) == 1)
			options++;
		else if (fallback != NULL)
			expect_option(
			    section, key, fallback + strlen("Default: "));
	}
	cr_expect_geq(options, 22);
	free(text);
}
