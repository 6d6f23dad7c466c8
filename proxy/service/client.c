/* SPDX-License-Identifier: ISC */
#include "service/client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* Of silence, before we give up. */
#define PATIENCE_S 15

#define REFUSAL_MAX (64 * 1024)

#define BAD_REQUEST 400 /* RFC 9110, section 15.5.1 */

/* How the body's end is known. */
struct head {
	int status;
	bool chunked;
	size_t length; /* SIZE_MAX: up to the end of the connection */
};

static bool
fail(char why[CLIENT_WHY_MAX], const char *path, const char *words)
{
	snprintf(why, CLIENT_WHY_MAX, "%s: %s", path, words);
	return false;
}

static bool
explain(char why[CLIENT_WHY_MAX], const char *path, int error)
{
	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
		return fail(why, path,
		    "nobody answers: is fourfold running, and is this its "
		    "control socket?");
	case EACCES:
	case EPERM:
		return fail(why, path,
		    "no permission: be root, or of the socket's group "
		    "(fourfold)");
	default:
		return fail(why, path, strerror(error));
	}
}

static FILE *
open_connection(const char *path, char why[CLIENT_WHY_MAX])
{
	static const struct timeval patience = { PATIENCE_S, 0 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *f = NULL;
	int error = 0;

	strcpy_bounded(un.sun_path, sizeof(un.sun_path), path);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		sizeof(patience)) != 0 ||
	    connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0)
		error = errno;
	if (error == 0) {
		f = fdopen(fd, "r");
		error = f == NULL ? errno : 0;
	}
	if (error == 0)
		return f;
	if (fd >= 0)
		close(fd);
	explain(why, path, error);
	return NULL;
}

static bool
send_request(FILE *connection, const char *method, const char *page)
{
	char *text = NULL;
	int len = asprintf(&text,
	    "%s %s HTTP/1.1\r\nHost: fourfold\r\nConnection: close\r\n"
	    "Content-Length: 0\r\n\r\n",
	    method, page);
	bool sent;

	if (len < 0)
		return false;
	/* A question is short, and the socket's buffer is empty. */
	sent = send(fileno(connection), text, (size_t)len, MSG_NOSIGNAL) == len;
	free(text);
	return sent;
}

/* The value when the line is the header `name`, else NULL. */
static const char *
header_value(const char *line, const char *name)
{
	size_t len = strlen(name);

	if (strncasecmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	line += len + 1;
	return line + strspn(line, " \t");
}

static bool
read_head(FILE *connection, struct head *head)
{
	char *line = NULL;
	size_t room = 0;
	bool ok;

	*head = (struct head){ .length = SIZE_MAX };
	ok = getline(&line, &room, connection) > 0 &&
	     sscanf(line, "HTTP/1.%*d %d", &head->status) == 1;
	while (ok) {
		const char *value;

		ok = getline(&line, &room, connection) > 0;
		if (!ok || strcmp(line, "\r\n") == 0)
			break;
		if ((value = header_value(line, "Content-Length")) != NULL)
			head->length = strtoul(value, NULL, 10);
		else if ((value = header_value(line, "Transfer-Encoding")) !=
			 NULL)
			head->chunked = strncasecmp(value, "chunked", 7) == 0;
	}
	free(line);
	return ok;
}

/* Copies so many bytes, SIZE_MAX: up to the end; false when they do not come.
 */
static bool
copy_bytes(FILE *connection, size_t len, FILE *out)
{
	char bytes[16384];

	while (len > 0) {
		size_t n = fread(bytes, 1,
		    len < sizeof(bytes) ? len : sizeof(bytes), connection);

		if (n == 0)
			return len == SIZE_MAX && feof(connection);
		if (fwrite(bytes, 1, n, out) != n)
			return false;
		if (len != SIZE_MAX)
			len -= n;
	}
	return true;
}

/* RFC 9112, section 7.1. */
static bool
copy_chunks(FILE *connection, FILE *out)
{
	char line[64];

	while (fgets(line, sizeof(line), connection) != NULL) {
		size_t len = strtoul(line, NULL, 16);

		if (!isxdigit((unsigned char)line[0]))
			return false;
		if (len == 0)
			return fgets(line, sizeof(line), connection) != NULL;
		if (!copy_bytes(connection, len, out) ||
		    fgets(line, sizeof(line), connection) == NULL)
			return false;
	}
	return false;
}

static bool
copy_body(FILE *connection, const struct head *head, FILE *out)
{
	return head->chunked ? copy_chunks(connection, out)
			     : copy_bytes(connection, head->length, out);
}

/* {"error": "..."} as words. */
static bool
read_refusal(FILE *connection, const struct head *head, const char *path,
    char why[CLIENT_WHY_MAX])
{
	char *text = calloc(1, REFUSAL_MAX + 1);
	FILE *f = text != NULL ? fmemopen(text, REFUSAL_MAX, "w") : NULL;
	const char *words;
	json_t *o = NULL;

	if (f != NULL) {
		(void)copy_body(connection, head, f);
		fclose(f);
		o = json_loads(text, 0, NULL);
	}
	words = json_string_value(json_object_get(o, "error"));
	if (words != NULL)
		snprintf(why, CLIENT_WHY_MAX, "%s", words);
	else
		snprintf(why, CLIENT_WHY_MAX, "%s: HTTP status %d", path,
		    head->status);
	json_decref(o);
	free(text);
	return false;
}

int
client_ask(const char *path, const char *method, const char *page, FILE *out,
    char why[CLIENT_WHY_MAX])
{
	FILE *connection = open_connection(path, why);
	struct head head = { 0 };
	bool ok;

	if (connection == NULL)
		return -ENOTCONN;
	if (!send_request(connection, method, page) ||
	    !read_head(connection, &head))
		ok = fail(why, path, "no answer comes");
	else if (head.status != 200)
		ok = read_refusal(connection, &head, path, why);
	else if (!copy_body(connection, &head, out))
		ok = fail(why, path, "the answer is not whole");
	else
		ok = true;
	fclose(connection);
	if (ok)
		return 0;
	return head.status == BAD_REQUEST ? -EINVAL : -EPROTO;
}

void
client_put_param(FILE *page, const char *name, const char *value)
{
	fprintf(page, "%s=", name);
	for (const char *c = value; *c != '\0'; c++)
		if (isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL)
			fputc(*c, page);
		else
			fprintf(page, "%%%02X", (unsigned char)*c);
}
