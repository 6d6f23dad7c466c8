/* SPDX-License-Identifier: ISC */
#include "base/log.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* No line is longer: what does not fit of its last value is cut. */
#define LINE_MAX_BYTES 4096
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line is one write to a pipe");

#define DAY_SECONDS 86400

static const char hex_digits[] = "0123456789abcdef";

/* What a burst takes beyond this goes back to the system; whole pages. */
#define RESIDENT_BYTES (64 * 1024)

static const struct {
	const char *name, *priority; /* syslog's, for the journal */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", "<3>" },
	[LOG_LEVEL_WARNING] = { "warning", "<4>" },
	[LOG_LEVEL_INFO] = { "info", "<6>" },
	[LOG_LEVEL_DEBUG] = { "debug", "<7>" },
};

void
log_init(struct log *log, int fd, enum log_level level, enum log_style style)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	log->fd = fd;
	log->is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	log->may_block =
	    !log->is_socket && flags != -1 && (flags & O_NONBLOCK) == 0;
	log->level = level;
	log->style = style;
	log->writing = false;
	log->sent = log->used = 0;
	log->dropped = 0;
	log->date[0] = '\0';
	log->buf = NULL;
	log->touched = 0;
}

void
log_fini(struct log *log)
{
	if (log->buf != NULL)
		munmap(log->buf, LOG_BUFFER_BYTES);
	log->buf = NULL;
	log->sent = log->used = 0;
}

enum log_style
log_style_of(int fd, const char *journal_stream)
{
	struct stat st;
	uintmax_t device, inode;

	if (journal_stream == NULL || fstat(fd, &st) != 0 ||
	    sscanf(journal_stream, "%ju:%ju", &device, &inode) != 2)
		return LOG_PLAIN;
	return st.st_dev == device && st.st_ino == inode ? LOG_JOURNAL
							 : LOG_PLAIN;
}

bool
log_wants(const struct log *log, enum log_level level)
{
	return level <= log->level;
}

/* What the line still holds, its newline aside. */
static size_t
room_of(const struct log *log)
{
	return LINE_MAX_BYTES - 1 - (log->used - log->line_start);
}

static void
put(struct log *log, const char *bytes, size_t len)
{
	size_t room = room_of(log);

	if (len > room)
		len = room;
	memcpy(log->buf + log->used, bytes, len);
	log->used += len;
}

static void
put_text(struct log *log, const char *text)
{
	put(log, text, strlen(text));
}

static void
put_key(struct log *log, const char *key)
{
	size_t head =
	    log->style == LOG_JOURNAL ? strlen(levels[0].priority) : 0;

	if (log->used != log->line_start + head)
		put(log, " ", 1);
	put_text(log, key);
	put(log, "=", 1);
}

static void
put_two(char *to, unsigned n)
{
	to[0] = (char)('0' + n / 10);
	to[1] = (char)('0' + n % 10);
}

/* The date of most lines is that of the line before. */
static void
remember_day(struct log *log, int64_t day)
{
	time_t seconds = (time_t)(day * DAY_SECONDS);
	struct tm tm;
	char text[64];

	if (log->date[0] != '\0' && log->day == day)
		return;
	gmtime_r(&seconds, &tm);
	snprintf(text, sizeof(text), "%04d-%02d-%02dT", tm.tm_year + 1900,
	    tm.tm_mon + 1, tm.tm_mday);
	strcpy_bounded(log->date, sizeof(log->date), text);
	log->day = day;
}

static void
put_time(struct log *log, uint64_t epoch_ms)
{
	unsigned second = (unsigned)(epoch_ms / 1000 % DAY_SECONDS);
	unsigned ms = (unsigned)(epoch_ms % 1000);
	char text[] = "00:00:00.000Z";

	remember_day(log, (int64_t)(epoch_ms / 1000 / DAY_SECONDS));
	put_text(log, log->date);
	put_two(text, second / 3600);
	put_two(text + 3, second / 60 % 60);
	put_two(text + 6, second % 60);
	text[9] = (char)('0' + ms / 100);
	put_two(text + 10, ms % 100);
	put_text(log, text);
}

/* Mapped, so that pages are taken as they are used and can be given back. */
static bool
map_buffer(struct log *log)
{
	void *memory = mmap(NULL, LOG_BUFFER_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return false;
	log->buf = memory;
	return true;
}

/* For one more line. */
static bool
make_room(struct log *log)
{
	if (log->buf == NULL && !map_buffer(log))
		return false;
	if (log->used + LINE_MAX_BYTES <= LOG_BUFFER_BYTES)
		return true;
	(void)log_flush(log);
	memmove(log->buf, log->buf + log->sent, log->used - log->sent);
	log->used -= log->sent;
	log->sent = 0;
	return log->used + LINE_MAX_BYTES <= LOG_BUFFER_BYTES;
}

void
log_begin(struct log *log, enum log_level level, const char *event)
{
	struct timespec now;

	must(!log->writing);
	if (!log_wants(log, level))
		return;
	if (!make_room(log)) {
		log->dropped++;
		return;
	}
	log->writing = true;
	log->line_level = level;
	log->line_start = log->used;
	if (log->style == LOG_JOURNAL) {
		put_text(log, levels[level].priority);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		log_time(log, "time",
		    (uint64_t)now.tv_sec * 1000 +
			(uint64_t)now.tv_nsec / 1000000);
		log_text(log, "level", levels[level].name);
	}
	log_text(log, "event", event);
}

/* Does a value need quotes to be one word? */
static bool
needs_quotes(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)value[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return true;
	}
	return len == 0;
}

static size_t
escape(char to[4], unsigned char c)
{
	if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
		to[0] = (char)c;
		return 1;
	}
	to[0] = '\\';
	to[1] = (char)c;
	if (c == '"' || c == '\\')
		return 2;
	to[1] = 'x';
	to[2] = hex_digits[c >> 4];
	to[3] = hex_digits[c & 15];
	return 4;
}

static void
put_quoted(struct log *log, const char *value, size_t len)
{
	char text[4];

	put(log, "\"", 1);
	/* Cut between characters, with room for the quote at the end. */
	for (size_t i = 0; i < len && room_of(log) > sizeof(text); i++)
		put(log, text, escape(text, (unsigned char)value[i]));
	put(log, "\"", 1);
}

void
log_bytes(struct log *log, const char *key, const char *value, size_t len)
{
	if (!log->writing)
		return;
	put_key(log, key);
	if (needs_quotes(value, len))
		put_quoted(log, value, len);
	else
		put(log, value, len);
}

void
log_text(struct log *log, const char *key, const char *value)
{
	log_bytes(log, key, value, strlen(value));
}

void
log_number(struct log *log, const char *key, uint64_t value)
{
	char text[DECIMAL_MAX];

	if (!log->writing)
		return;
	put_key(log, key);
	put(log, text, decimal_put(text, value));
}

void
log_hex(struct log *log, const char *key, uint64_t value)
{
	char text[16], *digit = text + sizeof(text);

	if (!log->writing)
		return;
	put_key(log, key);
	do {
		*--digit = hex_digits[value & 15];
		value >>= 4;
	} while (value != 0);
	put(log, digit, (size_t)(text + sizeof(text) - digit));
}

void
log_addr(struct log *log, const char *key, const struct addr *value)
{
	char text[ADDR_TEXT_MAX];

	if (!log->writing)
		return;
	put_key(log, key);
	put_text(log, addr_format(value, text));
}

void
log_error(struct log *log, const char *key, int error)
{
	/* Not strerror(), which looks for a translation each time. */
	const char *text = strerrordesc_np(error);

	log_text(log, key, text != NULL ? text : "unknown error");
}

void
log_time(struct log *log, const char *key, uint64_t epoch_ms)
{
	if (!log->writing)
		return;
	put_key(log, key);
	put_time(log, epoch_ms);
}

void
log_format(struct log *log, const char *key, const char *format, ...)
{
	char text[1024];
	va_list ap;

	if (!log->writing)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_text(log, key, text);
}

void
log_end(struct log *log)
{
	if (!log->writing)
		return;
	log->writing = false;
	log->buf[log->used++] = '\n';
	if (log->used > log->touched)
		log->touched = log->used;
	if (log->line_level <= LOG_LEVEL_WARNING)
		log_flush(log);
}

void
log_event(struct log *log, enum log_level level, const char *event,
    const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_begin(log, level, event);
	log_text(log, "msg", text);
	log_end(log);
}

/* The length of the whole lines among the first PIPE_BUF bytes: a write of so
 * much to a pipe is not torn by the other processes' writes, nor cut. */
static size_t
next_chunk(const char *bytes, size_t len)
{
	const char *end;

	if (len <= PIPE_BUF)
		return len;
	end = memrchr(bytes, '\n', PIPE_BUF);
	must(end != NULL);
	return (size_t)(end - bytes) + 1;
}

static ssize_t
write_chunk(const struct log *log, const char *bytes, size_t len)
{
	struct pollfd p = { .fd = log->fd, .events = POLLOUT };

	if (log->is_socket)
		return send(log->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A pipe that polls as writable has room for PIPE_BUF bytes. */
	if (log->may_block && poll(&p, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(log->fd, bytes, len);
}

/* The memory of a burst, once it is written. */
static void
give_back(struct log *log)
{
	if (log->touched <= RESIDENT_BYTES)
		return;
	(void)madvise(log->buf + RESIDENT_BYTES,
	    LOG_BUFFER_BYTES - RESIDENT_BYTES, MADV_DONTNEED);
	log->touched = RESIDENT_BYTES;
}

/* Writes as many lines as the descriptor takes; true when all. */
static bool
write_out(struct log *log)
{
	while (log->sent < log->used) {
		const char *from = log->buf + log->sent;
		ssize_t n = write_chunk(
		    log, from, next_chunk(from, log->used - log->sent));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		log->sent += (size_t)n;
	}
	log->sent = log->used = 0;
	give_back(log);
	return true;
}

bool
log_flush(struct log *log)
{
	uint64_t dropped = log->dropped;

	must(!log->writing);
	if (log->used == 0)
		return true;
	if (!write_out(log))
		return false;
	if (dropped == 0)
		return true;
	log->dropped = 0;
	log_begin(log, LOG_LEVEL_ERROR, "log_dropped");
	log_number(log, "lines", dropped);
	log_end(log);
	return log->used == 0;
}

void
log_drop(struct log *log)
{
	log->sent = log->used = 0;
	log->dropped = 0;
}
