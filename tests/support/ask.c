/* SPDX-License-Identifier: ISC */
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "text.h"

#define WORDS_MAX 16

void
ask_run(struct daemon *d, const char *const words[], struct it_outcome *o)
{
	const char *argv[WORDS_MAX + 4] = { it_binary() };
	char path[IT_PATH_MAX + 32];
	size_t n = 1;

	snprintf(path, sizeof(path), "%s/fourfold.conf", daemon_folder(d));
	for (size_t i = 0; words[i] != NULL; i++) {
		must(n <= WORDS_MAX);
		argv[n++] = words[i];
	}
	argv[n++] = "-c";
	argv[n++] = path;
	it_run(argv, NULL, o);
}

json_t *
ask_json_of(struct daemon *d, const char *const words[])
{
	static struct it_outcome o;
	json_error_t error;
	json_t *json;

	ask_run(d, words, &o);
	IT_MUST(o.status == 0, "%s: status %d: %s", words[0], o.status, o.err);
	json = json_loads(o.out, JSON_REJECT_DUPLICATES, &error);
	IT_MUST(json != NULL, "%s: %s: %s", words[0], error.text, o.out);
	return json;
}

const json_t *
ask_get(const json_t *o, const char *path)
{
	char *names = strdup(path), *rest = names, *name;

	must(names != NULL);
	while (o != NULL && (name = strsep(&rest, ".")) != NULL)
		o = name[0] == '#'
			? json_array_get(o, strtoul(name + 1, NULL, 10))
			: json_object_get(o, name);
	free(names);
	IT_MUST(o != NULL, "there is no %s", path);
	return o;
}

long long
ask_number(const json_t *o, const char *path)
{
	const json_t *n = ask_get(o, path);

	IT_MUST(json_is_integer(n), "%s is no number", path);
	return json_integer_value(n);
}

const char *
ask_text(const json_t *o, const char *path)
{
	const json_t *t = ask_get(o, path);

	IT_MUST(json_is_string(t), "%s is no text", path);
	return json_string_value(t);
}

int
ask_raw(const struct daemon *d, const void *bytes, size_t len, char *body,
    size_t size)
{
	char path[DAEMON_PATH_MAX], answer[65536];
	const char *end;
	size_t got;
	int fd, status = 0;

	daemon_control(d, path);
	fd = peer_connect_unix(path);
	/* It may be refused before all was sent. */
	(void)send(fd, bytes, len, MSG_NOSIGNAL);
	peer_finish(fd);
	(void)peer_drain(fd, answer, sizeof(answer) - 1, &got);
	close(fd);
	answer[got < sizeof(answer) ? got : sizeof(answer) - 1] = '\0';
	(void)sscanf(answer, "HTTP/1.%*d %d", &status);
	end = strstr(answer, "\r\n\r\n");
	if (body != NULL)
		strcpy_bounded(body, size, end != NULL ? end + 4 : "");
	return status;
}

char *
ask_page(const struct daemon *d, const char *page, uint64_t *took_ms)
{
	char path[DAEMON_PATH_MAX], request[512], bytes[65536];
	uint64_t since_ms = it_now_ms();
	struct text answer = { 0 };
	char *body = NULL;
	ssize_t n;

	daemon_control(d, path);
	int fd = peer_connect_unix(path);

	snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", page);
	peer_send(fd, request, strlen(request));
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		text_append(&answer, bytes, (size_t)n);
	*took_ms = it_now_ms() - since_ms;
	close(fd);
	IT_MUST(n == 0 && answer.len > 0 &&
		    strncmp(answer.bytes, "HTTP/1.0 200 ", 13) == 0,
	    "%s: %.100s", page, answer.len > 0 ? answer.bytes : "nothing");
	const char *end = strstr(answer.bytes, "\r\n\r\n");

	IT_MUST(end != NULL, "%s: no end of the headers", page);
	body = strdup(end + 4);
	must(body != NULL);
	text_fini(&answer);
	return body;
}
