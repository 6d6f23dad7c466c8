/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/log.h"

/* A log that writes to a pipe, and what came out of it. */
struct fixture {
	struct log log;
	int out;
	size_t used;
	char text[2 * 1024 * 1024];
};

static struct fixture *
fixture_new(enum log_level level, enum log_style style)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	cr_assert_not_null(f);
	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	f->out = fds[0];
	log_init(&f->log, fds[1], level, style);
	return f;
}

static void
fixture_free(struct fixture *f)
{
	close(f->log.fd);
	log_fini(&f->log);
	close(f->out);
	free(f);
}

/* Reads what there is; all that was read so far. */
static const char *
drain(struct fixture *f)
{
	ssize_t n;

	while ((n = read(f->out, f->text + f->used,
		    sizeof(f->text) - 1 - f->used)) > 0)
		f->used += (size_t)n;
	f->text[f->used] = '\0';
	return f->text;
}

static const char *
output(struct fixture *f)
{
	log_flush(&f->log);
	return drain(f);
}

/* A line of the journal's style with one field, as `write` makes it. */
#define EXPECT_FIELD(write, want)                                             \
	do {                                                                  \
		struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL); \
		struct log *log = &f->log;                                    \
                                                                              \
		log_begin(log, LOG_LEVEL_INFO, "e");                          \
		write;                                                        \
		log_end(log);                                                 \
		cr_expect_str_eq(output(f), "<6>event=e " want "\n");         \
		fixture_free(f);                                              \
	} while (0)

Test(log, each_kind_of_field_has_its_form)
{
	struct addr v4 = addr_v4(0x7f000001, 80), none = { 0 };

	EXPECT_FIELD(log_text(log, "k", "value"), "k=value");
	EXPECT_FIELD(log_bytes(log, "k", "value", 3), "k=val");
	EXPECT_FIELD(log_number(log, "k", 0), "k=0");
	EXPECT_FIELD(
	    log_number(log, "k", UINT64_MAX), "k=18446744073709551615");
	EXPECT_FIELD(log_hex(log, "k", 0xdeadbeef), "k=deadbeef");
	EXPECT_FIELD(log_addr(log, "k", &v4), "k=127.0.0.1:80");
	EXPECT_FIELD(log_addr(log, "k", &none), "k=-");
	EXPECT_FIELD(
	    log_error(log, "k", ECONNREFUSED), "k=\"Connection refused\"");
	EXPECT_FIELD(log_time(log, "k", 0), "k=1970-01-01T00:00:00.000Z");
	/* The last moment of a day, the next one, and the day before. */
	EXPECT_FIELD(log_time(log, "k", UINT64_C(1709251199999)),
	    "k=2024-02-29T23:59:59.999Z");
	EXPECT_FIELD(log_time(log, "k", UINT64_C(1709251200000)),
	    "k=2024-03-01T00:00:00.000Z");
	EXPECT_FIELD(log_time(log, "k", UINT64_C(1709251199009)),
	    "k=2024-02-29T23:59:59.009Z");
	EXPECT_FIELD(log_error(log, "k", 123456), "k=\"unknown error\"");
	EXPECT_FIELD(log_time(log, "k", UINT64_C(1795344885123)),
	    "k=2026-11-22T10:54:45.123Z");
	EXPECT_FIELD(log_format(log, "k", "%d:%s", 7, "x"), "k=7:x");
}

Test(log, a_value_that_is_no_word_is_quoted)
{
	EXPECT_FIELD(log_text(log, "k", ""), "k=\"\"");
	EXPECT_FIELD(log_text(log, "k", "a b"), "k=\"a b\"");
	EXPECT_FIELD(log_text(log, "k", "a=b"), "k=\"a=b\"");
	EXPECT_FIELD(log_text(log, "k", "a\"b\\"), "k=\"a\\\"b\\\\\"");
	EXPECT_FIELD(log_text(log, "k", "a\nb\x1b[2J\x7f"),
	    "k=\"a\\x0ab\\x1b[2J\\x7f\"");
	EXPECT_FIELD(log_bytes(log, "k", "a\0b", 3), "k=\"a\\x00b\"");
	/* Not UTF-8 for sure: the journal would hide the whole line. */
	EXPECT_FIELD(
	    log_text(log, "k", "\xc3\xa4\xff"), "k=\"\\xc3\\xa4\\xff\"");
}

Test(log, no_byte_of_a_value_makes_a_line_or_a_field)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);
		char value[3] = { 'a', (char)byte, 'b' };
		const char *text;

		log_begin(&f->log, LOG_LEVEL_INFO, "e");
		log_bytes(&f->log, "k", value, 3);
		log_text(&f->log, "end", "1");
		log_end(&f->log);
		text = output(f);
		cr_expect_eq(strchr(text, '\n'), text + f->used - 1);
		cr_expect_eq(strlen(text), f->used);
		cr_expect_str_eq(text + f->used - 7, " end=1\n", "%s", text);
		for (size_t i = 0; i + 1 < f->used; i++)
			cr_expect(text[i] >= ' ' && text[i] < 0x7f);
		fixture_free(f);
	}
}

Test(log, a_value_that_ends_like_a_priority_does_not_swallow_the_blank)
{
	EXPECT_FIELD((log_text(log, "k", "a>"), log_text(log, "l", "<3>"),
			 log_number(log, "m", 1)),
	    "k=a> l=<3> m=1");
}

Test(log, a_plain_line_begins_with_time_and_level)
{
	struct fixture *f = fixture_new(LOG_LEVEL_DEBUG, LOG_PLAIN);
	regex_t re;

	log_begin(&f->log, LOG_LEVEL_DEBUG, "some_event");
	log_number(&f->log, "n", 1);
	log_end(&f->log);
	cr_assert_eq(regcomp(&re,
			 "^time=20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}"
			 "\\.[0-9]{3}Z level=debug event=some_event n=1\n$",
			 REG_EXTENDED | REG_NOSUB),
	    0);
	cr_expect_eq(regexec(&re, output(f), 0, NULL, 0), 0, "%s", f->text);
	regfree(&re);
	fixture_free(f);
}

Test(log, the_journal_gets_priorities)
{
	static const char *const want[] = { "<3>event=e\n", "<4>event=e\n",
		"<6>event=e\n", "<7>event=e\n" };

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct fixture *f = fixture_new(LOG_LEVEL_DEBUG, LOG_JOURNAL);

		log_begin(&f->log, (enum log_level)i, "e");
		log_end(&f->log);
		cr_expect_str_eq(output(f), want[i]);
		fixture_free(f);
	}
}

Test(log, an_event_is_a_line_with_a_message)
{
	struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);

	log_event(&f->log, LOG_LEVEL_INFO, "e", "%d of %s", 3, "x");
	cr_expect_str_eq(output(f), "<6>event=e msg=\"3 of x\"\n");
	fixture_free(f);
}

Test(log, what_is_less_urgent_than_wanted_is_not_logged)
{
	struct fixture *f = fixture_new(LOG_LEVEL_WARNING, LOG_JOURNAL);
	struct addr a = addr_v4(1, 1);

	cr_expect(log_wants(&f->log, LOG_LEVEL_ERROR));
	cr_expect(log_wants(&f->log, LOG_LEVEL_WARNING));
	cr_expect_not(log_wants(&f->log, LOG_LEVEL_INFO));
	log_begin(&f->log, LOG_LEVEL_INFO, "e");
	log_text(&f->log, "k", "v");
	log_bytes(&f->log, "k", "v", 1);
	log_number(&f->log, "k", 1);
	log_hex(&f->log, "k", 1);
	log_addr(&f->log, "k", &a);
	log_error(&f->log, "k", EIO);
	log_time(&f->log, "k", 1);
	log_format(&f->log, "k", "%d", 1);
	log_end(&f->log);
	log_event(&f->log, LOG_LEVEL_DEBUG, "e", "x");
	cr_expect_str_eq(output(f), "");
	fixture_free(f);
}

Test(log, lines_wait_for_a_flush_unless_they_are_urgent)
{
	struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);

	log_event(&f->log, LOG_LEVEL_INFO, "a", "x");
	cr_expect_str_eq(drain(f), "");
	log_event(&f->log, LOG_LEVEL_WARNING, "b", "x");
	cr_expect_str_eq(drain(f), "<6>event=a msg=x\n<4>event=b msg=x\n");
	log_flush(&f->log);
	cr_expect_str_eq(drain(f), "<6>event=a msg=x\n<4>event=b msg=x\n");
	fixture_free(f);
}

Test(log, a_long_value_is_cut_and_its_line_stays_whole)
{
	struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);
	static char words[6000], blanks[6000];
	const char *second;

	memset(words, 'x', sizeof(words) - 1);
	memset(blanks, '\n', sizeof(blanks) - 1);
	log_begin(&f->log, LOG_LEVEL_INFO, "e");
	log_text(&f->log, "k", words);
	log_end(&f->log);
	log_begin(&f->log, LOG_LEVEL_INFO, "e");
	log_text(&f->log, "k", blanks);
	log_end(&f->log);
	second = strchr(output(f), '\n') + 1;
	cr_expect_eq(second - f->text, 4096);
	cr_expect_leq(f->used, 2 * 4096);
	cr_expect_str_eq(f->text + f->used - 6, "\\x0a\"\n");
	fixture_free(f);
}

Test(log, a_reader_that_blocks_costs_lines_which_are_counted)
{
	struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);
	enum { LINES = 100000 };
	unsigned lines = 0, i;
	uint64_t dropped = 0;
	char want[64];
	char *line, *rest;

	cr_assert_geq(fcntl(f->log.fd, F_SETPIPE_SZ, 4096), 4096);
	for (i = 0; i < LINES; i++)
		log_event(&f->log, LOG_LEVEL_INFO, "e", "%u", i);
	dropped = f->log.dropped;
	cr_assert_gt(dropped, 0);
	/* A pipe takes a page at least. */
	for (i = 0; i < LOG_BUFFER_BYTES / 4096 && f->log.dropped != 0; i++)
		output(f);
	output(f);
	cr_expect_eq(f->log.used, 0);
	rest = f->text;
	while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
		snprintf(want, sizeof(want), "<6>event=e msg=%u", lines);
		if (strcmp(line, want) != 0)
			break;
		lines++;
	}
	snprintf(
	    want, sizeof(want), "<3>event=log_dropped lines=%" PRIu64, dropped);
	cr_expect_str_eq(line, want);
	cr_expect_str_eq(rest, "");
	cr_expect_eq(lines + dropped, LINES);
	log_event(&f->log, LOG_LEVEL_INFO, "again", "x");
	f->used = 0;
	cr_expect_str_eq(output(f), "<6>event=again msg=x\n");
	fixture_free(f);
}

/* How many pages of the buffer take memory. */
static size_t
pages_of(const struct log *log)
{
	unsigned char present[LOG_BUFFER_BYTES / 4096];
	size_t n = 0;

	cr_assert_eq(sysconf(_SC_PAGESIZE), 4096);
	cr_assert_eq(mincore(log->buf, LOG_BUFFER_BYTES, present), 0);
	for (size_t i = 0; i < ARRAY_LEN(present); i++)
		n += present[i] & 1;
	return n;
}

Test(log, the_memory_of_a_burst_is_given_back)
{
	struct fixture *f = fixture_new(LOG_LEVEL_INFO, LOG_JOURNAL);

	cr_expect_null(f->log.buf);
	log_event(&f->log, LOG_LEVEL_INFO, "e", "x");
	output(f);
	cr_expect_leq(pages_of(&f->log), 1);
	while (f->log.dropped == 0)
		log_event(&f->log, LOG_LEVEL_INFO, "e", "x");
	cr_expect_geq(pages_of(&f->log), 250);
	/* What is left of a burst after a while is a burst's as well. */
	while (f->log.used - f->log.sent > 4096)
		output(f);
	log_event(&f->log, LOG_LEVEL_INFO, "e", "x");
	output(f);
	cr_expect_eq(f->log.used, 0);
	cr_expect_leq(pages_of(&f->log), 16);
	log_event(&f->log, LOG_LEVEL_INFO, "again", "x");
	f->used = 0;
	cr_expect_str_eq(output(f), "<6>event=again msg=x\n");
	fixture_free(f);
}

Test(log, the_journal_is_known_by_its_stream)
{
	struct stat st;
	char stream[64];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(fstat(fds[1], &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
	    (uintmax_t)st.st_ino);
	cr_expect_eq(log_style_of(fds[1], stream), LOG_JOURNAL);
	cr_expect_eq(log_style_of(fds[1], NULL), LOG_PLAIN);
	cr_expect_eq(log_style_of(fds[1], ""), LOG_PLAIN);
	cr_expect_eq(log_style_of(fds[1], "1"), LOG_PLAIN);
	cr_expect_eq(log_style_of(fds[1], "0:0"), LOG_PLAIN);
	cr_expect_eq(log_style_of(-1, stream), LOG_PLAIN);
	close(fds[0]);
	close(fds[1]);
}
