/* SPDX-License-Identifier: ISC */
/*
 * log: events as lines of key=value pairs (logfmt), on one descriptor.
 *
 * A line is built with log_begin(), log_field...(), log_end(), and kept until
 * log_flush(), which a worker calls once a loop pass. Lines at warning and
 * above are flushed at once. The memory for a burst of lines is given back when
 * it is written. When the reader blocks (the descriptor is a full
 * pipe) lines are dropped and counted, and the count is logged when it reads
 * again. A secret is never among the fields: callers do not pass any.
 */
#ifndef FOURFOLD_LOG_H
#define FOURFOLD_LOG_H

#include "base/addr.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

enum log_style {
	LOG_PLAIN,   /* time=... level=... first: for terminals and files */
	LOG_JOURNAL, /* "<6>" first and no time: systemd's journal adds its own
		      */
};

/* Room for thousands of sessions that end at once while the reader is busy. */
#define LOG_BUFFER_BYTES (1024 * 1024)

struct log {
	int fd;
	enum log_level level; /* what is less urgent is not logged */
	enum log_style style;
	bool is_socket; /* written with a flag that keeps it from blocking */
	bool may_block; /* a shared description that blocks: ask before */
	bool writing;   /* between begin and end of a wanted line */
	enum log_level line_level;
	/* 0 .. sent: written; sent .. used: to be; the line under way begins at
	 * `line_start`. */
	size_t sent, used, line_start;
	uint64_t dropped; /* lines lost since the last flush that worked */
	int64_t day;      /* that `date` is of, counted from the epoch */
	char date[16];    /* "2026-11-22T"; "" at first */
	char *buf;        /* mapped with the first line */
	size_t touched;   /* so much of it has been used and takes memory */
};

/* Does not own `fd`. */
void log_init(
    struct log *log, int fd, enum log_level level, enum log_style style);

/* What is buffered is lost. */
void log_fini(struct log *log);

/* LOG_JOURNAL when `fd` is the journal's stream (JOURNAL_STREAM is its
 * "device:inode"), else LOG_PLAIN. */
enum log_style log_style_of(int fd, const char *journal_stream);

bool log_wants(const struct log *log, enum log_level level);

/* Starts a line at this moment with event=`event`. */
void log_begin(struct log *log, enum log_level level, const char *event);
void log_text(struct log *log, const char *key, const char *value);
void log_bytes(struct log *log, const char *key, const char *value, size_t len);
void log_number(struct log *log, const char *key, uint64_t value);
void log_hex(struct log *log, const char *key, uint64_t value);
void log_addr(struct log *log, const char *key, const struct addr *value);
void log_error(struct log *log, const char *key, int error); /* errno value */
/* A moment, UTC with milliseconds, from ms since the epoch. */
void log_time(struct log *log, const char *key, uint64_t epoch_ms);
void log_format(struct log *log, const char *key, const char *format, ...)
    PRINTF_LIKE(3, 4);
void log_end(struct log *log);

/* A whole line: the event and msg="...". */
void log_event(struct log *log, enum log_level level, const char *event,
    const char *format, ...) PRINTF_LIKE(4, 5);

/* Writes what is buffered; false when the reader does not take it all now. It
 * never blocks, whatever the descriptor is. */
bool log_flush(struct log *log);

/* Forgets what is buffered: after a fork it is the parent's. */
void log_drop(struct log *log);

#endif
