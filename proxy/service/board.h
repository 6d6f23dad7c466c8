/* SPDX-License-Identifier: ISC */
/*
 * board: which alarms are active, in shared memory, and the lines of the log
 * that say so: one where an alarm begins and one where it ends, though the
 * observer that watches may have been replaced meanwhile. A hundred thousand
 * targets may be full at once: when the board is, one line says how many more
 * there are.
 */
#ifndef FOURFOLD_BOARD_H
#define FOURFOLD_BOARD_H

#include <stdatomic.h>

#include "base/log.h"
#include "egress/alarm.h"
#include "egress/pool.h"

#define BOARD_MAX 256 /* entries; what is beyond is only counted */

struct board_entry {
	_Atomic bool active; /* the others are valid; set last */
	uint8_t kind;        /* enum alarm_kind */
	struct alarm_subject subject;
	uint32_t used, of; /* where it began */
	uint64_t since_ms;
};

/* Zeroed at first. */
struct board {
	_Atomic uint64_t begun[ALARM_KINDS]; /* so far */
	_Atomic uint64_t beyond;             /* active, and had no room */
	struct board_entry entries[BOARD_MAX];
};

/* One observer writes at a time. */
struct board_writer {
	struct board *board;
	struct log *log;
	const char (*pool_names)[POOL_NAME_MAX + 1]; /* by id */
	bool ours[BOARD_MAX]; /* this observer's alarms have it, too */
	uint64_t beyond_logged;
	unsigned rounds; /* until what is not ours has ended */
};

void board_writer_init(struct board_writer *w, struct board *board,
    struct log *log, const char (*pool_names)[POOL_NAME_MAX + 1]);

/* An alarm begins or ends. What another observer saw begin goes on. */
void board_event(
    struct board_writer *w, const struct alarm_event *event, uint64_t now_ms);

/* A round of samples is over. After some of them, alarms of an observer before
 * that are not ours have ended. */
void board_round(struct board_writer *w, uint64_t now_ms);

#endif
