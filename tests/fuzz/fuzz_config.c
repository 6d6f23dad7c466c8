/* SPDX-License-Identifier: ISC */
/*
 * Any bytes are a snapshot or errors, never both and never neither, and each
 * error is a line of its own that names a line of the file.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/auth.h"
#include "policy/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_errors(const char *text, unsigned long lines)
{
	unsigned long last = 1;

	while (*text != '\0') {
		const char *end = strchr(text, '\n');
		char *rest;
		unsigned long line;

		must(end != NULL && strncmp(text, "fuzz:", 5) == 0);
		line = strtoul(text + 5, &rest, 10);
		must(line >= last && line <= lines);
		must(strncmp(rest, ": ", 2) == 0);
		last = line;
		for (const char *c = text; c < end; c++)
			must(*c >= ' ' && *c <= '~');
		text = end + 1;
	}
}

static void
check_snapshot(const struct config *c)
{
	must(c->listen_count > 0 && c->egress_count > 0);
	for (size_t i = 0; i < c->listen_count; i++) {
		must(c->listens[i].address_count > 0);
		must(c->listens[i].egress < c->egress_count);
		must(!c->listens[i].password || c->user_count > 0);
	}
	for (size_t i = 0; i < c->egress_count; i++)
		must(c->egresses[i].queue > 0);
	must(c->client_bits_v4 <= 32 && c->client_bits_v6 <= 128);
	must(c->client_limit.share <= 100 && c->user_limit.share <= 100);
	must(!c->control_asked || c->control_path[0] == '/');
	must(c->alarms.target == 0 || c->alarms.target_critical == 0 ||
	     c->alarms.target <= c->alarms.target_critical);
	for (size_t i = 0; i < c->user_count; i++) {
		const struct config_user *u = &c->users[i];

		must(u->password != NULL && u->limit.share <= 100);
		must(config_find_user(c, u->name, strlen(u->name)) == u);
	}
}

/* Found in any text, and as the snapshot has it, where there is one. */
static void
check_control(const char *text, size_t size, const struct config *c)
{
	char path[CONFIG_PATH_MAX + 1];

	config_find_control(text, size, path);
	must(path[0] == '/' || path[0] == '\0');
	must(c == NULL || strcmp(path, c->control_path) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = NULL;
	char *errors = NULL;
	size_t len = 0;
	unsigned long lines = 1;
	FILE *stream = open_memstream(&errors, &len);
	int error;

	must(stream != NULL);
	error = config_parse("fuzz", (const char *)data, size, stream, &c);
	must(fclose(stream) == 0);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	must((error == 0) == (c != NULL) && (error == 0) == (len == 0));
	check_errors(errors, lines);
	if (c != NULL)
		check_snapshot(c);
	check_control((const char *)data, size, c);
	config_free(c);
	free(errors);
	return 0;
}
