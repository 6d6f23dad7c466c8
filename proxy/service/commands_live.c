/* SPDX-License-Identifier: ISC */
#include "service/commands_live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "service/dashboard.h"
#include "service/snapshot.h"

/* As the file would name it, or as a shell completes it. */
static int
take_socket(
    const char *word, const char *command, char path[CONFIG_PATH_MAX + 1])
{
	size_t len;

	if (strncmp(word, "unix:", 5) == 0)
		word += 5;
	len = strlen(word);
	if (len == 0 || len > CONFIG_PATH_MAX) {
		fprintf(stderr,
		    "fourfold %s: --socket: expected a path of 1 to %d bytes\n",
		    command, CONFIG_PATH_MAX);
		return 2;
	}
	strcpy_bounded(path, CONFIG_PATH_MAX + 1, word);
	return 0;
}

int
live_find_socket(const struct command_line *line, const char *command,
    char path[CONFIG_PATH_MAX + 1])
{
	char why[SNAPSHOT_WHY_MAX];

	if (line->socket != NULL)
		return take_socket(line->socket, command, path);
	snapshot_find_control(line->path, path, why);
	if (path[0] == '\0')
		return live_fail(command, -ENOTCONN,
		    "[control] socket = off, says the file; --socket PATH asks "
		    "by another");
	/* What runs may be older than the file's errors. */
	if (why[0] != '\0')
		fprintf(stderr, "fourfold %s: %s; asking by %s\n", command, why,
		    path);
	return 0;
}

int
live_fail(const char *command, int error, const char *why)
{
	fprintf(stderr, "fourfold %s: %s\n", command, why);
	return error == -EINVAL ? 2 : 1;
}

/* A page under construction. */
struct page {
	char *text; /* valid after fflush(file) */
	size_t size;
	FILE *file;
	bool has_query;
};

static void
page_open(struct page *p, const char *path)
{
	*p = (struct page){ 0 };
	p->file = open_memstream(&p->text, &p->size);
	must(p->file != NULL);
	fputs(path, p->file);
}

static void
page_add(struct page *p, const char *name, const char *value)
{
	if (value == NULL)
		return;
	fputc(p->has_query ? '&' : '?', p->file);
	client_put_param(p->file, name, value);
	p->has_query = true;
}

static int
page_ask(struct page *p, const char *socket_path, const char *method, FILE *out,
    char why[CLIENT_WHY_MAX])
{
	int error;

	must(fclose(p->file) == 0);
	error = client_ask(socket_path, method, p->text, out, why);
	free(p->text);
	return error;
}

static int
ask_status(const char *socket_path, const struct command_line *line, FILE *out,
    char why[CLIENT_WHY_MAX])
{
	struct page p;

	page_open(&p, "/status");
	page_add(&p, "top", line->top);
	return page_ask(&p, socket_path, "GET", out, why);
}

int
live_status(const char *socket_path, const struct command_line *line, FILE *out,
    char why[CLIENT_WHY_MAX])
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	json_t *o = NULL;
	int error;

	must(f != NULL);
	error = ask_status(socket_path, line, f, why);
	must(fclose(f) == 0);
	if (error == 0) {
		o = json_loads(text, 0, NULL);
		error = o != NULL ? 0 : -EPROTO;
		if (o != NULL)
			dashboard_print(o, out);
		else
			snprintf(why, CLIENT_WHY_MAX, "%s: not an answer",
			    socket_path);
	}
	json_decref(o);
	free(text);
	return error;
}

int
command_status(const struct command_line *line)
{
	char path[CONFIG_PATH_MAX + 1], why[CLIENT_WHY_MAX];
	int status = live_find_socket(line, "status", path);
	int error;

	if (status != 0)
		return status;
	error = line->json ? ask_status(path, line, stdout, why)
			   : live_status(path, line, stdout, why);
	return error == 0 ? 0 : live_fail("status", error, why);
}

/* A list of leases; standard output gets it as it comes. */
static int
ask_list(struct page *p, const struct command_line *line, const char *command)
{
	char path[CONFIG_PATH_MAX + 1], why[CLIENT_WHY_MAX];
	int status = live_find_socket(line, command, path);
	int error;

	if (status != 0) {
		must(fclose(p->file) == 0);
		free(p->text);
		return status;
	}
	page_add(p, "format", line->json ? "json" : "text");
	page_add(p, "limit", line->limit);
	error = page_ask(p, path, "GET", stdout, why);
	return error == 0 ? 0 : live_fail(command, error, why);
}

int
command_who(const struct command_line *line)
{
	struct page p;

	page_open(&p, "/who");
	page_add(&p, "port", line->words[0]);
	page_add(&p, "target",
	    line->words[1] != NULL ? line->words[1] : line->target);
	return ask_list(&p, line, "who");
}

int
command_sessions(const struct command_line *line)
{
	struct page p;

	page_open(&p, "/sessions");
	page_add(&p, "client", line->client);
	page_add(&p, "user", line->user);
	page_add(&p, "target", line->target);
	return ask_list(&p, line, "sessions");
}

int
command_kill(const struct command_line *line)
{
	char path[CONFIG_PATH_MAX + 1], why[CLIENT_WHY_MAX];
	int status = live_find_socket(line, "kill", path);
	char *answer = NULL;
	struct page p;
	size_t size;
	int error;
	FILE *f;

	if (status != 0)
		return status;
	f = open_memstream(&answer, &size);
	must(f != NULL);
	page_open(&p, "/kill");
	page_add(&p, "session", line->words[0]);
	error = page_ask(&p, path, "POST", f, why);
	must(fclose(f) == 0);
	free(answer);
	if (error != 0)
		return live_fail("kill", error, why);
	printf("session %s is killed\n", line->words[0]);
	return 0;
}
