/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "service/board.h"

struct scene {
	struct board board;
	struct log log;
	char names[2][POOL_NAME_MAX + 1];
	struct board_writer writer;
	char text[65536];
};

static void
next_observer(struct scene *s)
{
	board_writer_init(&s->writer, &s->board, &s->log,
	    (const char(*)[POOL_NAME_MAX + 1]) s->names);
}

static struct scene *
scene_new(void)
{
	struct scene *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	log_init(&s->log, memfd_create("log", MFD_CLOEXEC), LOG_LEVEL_INFO,
	    LOG_PLAIN);
	strcpy_bounded(s->names[1], POOL_NAME_MAX + 1, "main");
	next_observer(s);
	return s;
}

static void
scene_free(struct scene *s)
{
	close(s->log.fd);
	free(s);
}

static unsigned
lines(struct scene *s)
{
	ssize_t n;
	unsigned count = 0;

	cr_assert(log_flush(&s->log));
	n = pread(s->log.fd, s->text, sizeof(s->text) - 1, 0);
	cr_assert_geq(n, 0);
	s->text[n] = '\0';
	for (const char *c = s->text; *c != '\0'; c++)
		count += *c == '\n';
	return count;
}

static struct alarm_event
of_target(const char *target, bool begins, uint64_t since_ms)
{
	struct alarm_event e = { .kind = ALARM_TARGET_HIGH,
		.begins = begins,
		.subject = { .id = 1 },
		.used = 81,
		.of = 100,
		.full_in_ms = UINT64_MAX,
		.since_ms = since_ms };

	cr_assert_eq(addr_parse(target, &e.subject.target), 0);
	return e;
}

static unsigned
active(const struct scene *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < BOARD_MAX; i++)
		n += s->board.entries[i].active;
	return n;
}

static void
tell(struct scene *s, struct alarm_event e, uint64_t now_ms)
{
	board_event(&s->writer, &e, now_ms);
}

static void
rounds(struct scene *s, unsigned count)
{
	while (count-- > 0)
		board_round(&s->writer, 99000);
}

#define expect_line(s, words)                                \
	do {                                                 \
		lines(s);                                    \
		cr_expect_not_null(strstr((s)->text, words), \
		    "no \"%s\" in\n%s", words, (s)->text);   \
	} while (0)

Test(board, an_alarm_is_a_line_where_it_begins_and_one_where_it_ends)
{
	struct scene *s = scene_new();
	struct alarm_event begin = of_target("203.0.113.9:443", true, 5000);
	struct alarm_event end = of_target("203.0.113.9:443", false, 5000);

	begin.full_in_ms = 61500;
	tell(s, begin, 5000);
	expect_line(s,
	    "level=warning event=alarm alarm=target_high state=begin "
	    "egress=main target=203.0.113.9:443 used=81 slots=100 percent=81 "
	    "full_in_s=61\n");
	cr_expect_eq(active(s), 1);
	cr_expect_eq(s->board.begun[ALARM_TARGET_HIGH], 1);
	end.used = 69;
	tell(s, end, 12345);
	expect_line(s,
	    "level=info event=alarm alarm=target_high state=end egress=main "
	    "target=203.0.113.9:443 used=69 slots=100 percent=69 "
	    "duration_ms=7345\n");
	cr_expect_eq(active(s), 0);
	cr_expect_eq(lines(s), 2);
	cr_expect_eq(s->board.begun[ALARM_TARGET_HIGH], 1);
	scene_free(s);
}

Test(board, each_kind_says_what_its_numbers_are)
{
	struct scene *s = scene_new();
	struct alarm_event e = { .begins = true,
		.subject = { .id = 1 },
		.used = 60,
		.of = 120,
		.full_in_ms = UINT64_MAX };

	e.kind = ALARM_TARGET_COOLING;
	e.subject.target = addr_v4(UINT32_C(0xcb007109), 443);
	tell(s, e, 0);
	e.subject.target = (struct addr){ 0 };
	e.kind = ALARM_POOL_STRANGERS;
	tell(s, e, 0);
	e.kind = ALARM_DESCRIPTORS;
	tell(s, e, 0);
	e.kind = ALARM_SESSIONS_FULL;
	e.subject.id = 0;
	tell(s, e, 0);
	expect_line(s, "alarm=sessions_full state=begin sessions=60 "
		       "max_sessions=120 percent=50\n");
	expect_line(s, "alarm=target_cooling state=begin egress=main "
		       "target=203.0.113.9:443 cooling=60 slots=120 "
		       "percent=50\n");
	expect_line(s, "alarm=pool_strangers state=begin egress=main "
		       "rested=60 ports=120 percent=50\n");
	expect_line(s, "alarm=descriptors state=begin worker=1 used=60 "
		       "limit=120 percent=50\n");
	cr_expect_eq(active(s), 4);
	scene_free(s);
}

Test(board, what_the_next_observer_sees_too_goes_on)
{
	struct scene *s = scene_new();

	tell(s, of_target("203.0.113.9:443", true, 5000), 5000);
	next_observer(s);
	rounds(s, 3);
	tell(s, of_target("203.0.113.9:443", true, 8000), 8000);
	rounds(s, 30);
	cr_expect_eq(lines(s), 1);
	cr_expect_eq(s->board.begun[ALARM_TARGET_HIGH], 1);
	tell(s, of_target("203.0.113.9:443", false, 8000), 9000);
	expect_line(s, "state=end egress=main target=203.0.113.9:443 used=81 "
		       "slots=100 percent=81 duration_ms=4000\n");
	cr_expect_eq(active(s), 0);
	scene_free(s);
}

Test(board, what_the_next_observer_does_not_see_has_ended)
{
	struct scene *s = scene_new();

	tell(s, of_target("203.0.113.9:443", true, 5000), 5000);
	tell(s, of_target("203.0.113.8:443", true, 5000), 5000);
	next_observer(s);
	rounds(s, 2);
	tell(s, of_target("203.0.113.8:443", true, 7000), 7000);
	tell(s, of_target("203.0.113.7:443", true, 7000), 7000);
	rounds(s, 7);
	cr_expect_eq(lines(s), 3);
	rounds(s, 1);
	cr_expect_eq(lines(s), 4);
	expect_line(s, "state=end egress=main target=203.0.113.9:443 used=0 "
		       "slots=100 percent=0 duration_ms=94000\n");
	cr_expect_eq(active(s), 2);
	rounds(s, 50);
	cr_expect_eq(lines(s), 4);
	scene_free(s);
}

Test(board, the_same_target_of_another_pool_or_kind_is_another_alarm)
{
	struct scene *s = scene_new();
	struct alarm_event e = of_target("203.0.113.9:443", true, 5000);

	tell(s, e, 5000);
	e.subject.id = 0;
	tell(s, e, 5000);
	e.kind = ALARM_TARGET_CRITICAL;
	tell(s, e, 5000);
	cr_expect_eq(lines(s), 3);
	cr_expect_eq(active(s), 3);
	e.begins = false;
	tell(s, e, 6000);
	cr_expect_eq(active(s), 2);
	scene_free(s);
}

Test(board, what_finds_no_room_is_counted_and_told_in_one_line)
{
	struct scene *s = scene_new();
	struct alarm_event e = of_target("203.0.113.9:443", true, 5000);

	for (unsigned i = 0; i < BOARD_MAX + 5; i++) {
		e.subject.target.port = (uint16_t)(1000 + i);
		tell(s, e, 5000);
	}
	cr_expect_eq(active(s), BOARD_MAX);
	cr_expect_eq(s->board.begun[ALARM_TARGET_HIGH], BOARD_MAX + 5);
	cr_expect_eq(s->board.beyond, 5);
	cr_expect_eq(lines(s), BOARD_MAX);
	rounds(s, 5);
	cr_expect_eq(lines(s), BOARD_MAX + 1);
	expect_line(s, "level=warning event=alarms_beyond logged=256 more=5\n");
	/* They end as they began: without a line of their own. */
	e.begins = false;
	for (unsigned i = 0; i < 5; i++) {
		e.subject.target.port = (uint16_t)(1000 + BOARD_MAX + i);
		tell(s, e, 6000);
	}
	rounds(s, 3);
	cr_expect_eq(lines(s), BOARD_MAX + 2);
	expect_line(s, "level=info event=alarms_beyond logged=256 more=0\n");
	cr_expect_eq(active(s), BOARD_MAX);
	scene_free(s);
}
