/* SPDX-License-Identifier: ISC */
/*
 * loop: one libevent base and what its passes need: the time, work put off to
 * the end of the pass, memory freed after it, and timeouts.
 *
 * A pass is one event_base_loop(EVLOOP_ONCE) and a few rounds of the poller:
 * callbacks run, then the tasks that were put off, and so again; then
 * `on_pass`, then the dead are freed. So an object that ended stays readable
 * until the pass ends.
 */
#ifndef FOURFOLD_LOOP_H
#define FOURFOLD_LOOP_H

#include "base/list.h"
#include "io/poller.h"

/* Read by all sessions of a worker in turn; holds nothing between callbacks. */
#define LOOP_SCRATCH_BYTES (1024 * 1024)

/* Timeouts are looked at this often, so they are late by up to this much. */
#define LOOP_TICK_MS 100

/* More of the poller's set that one pass looks at, while there is something:
 * half the calls of going round by libevent. */
#define LOOP_ROUNDS 3

struct loop;

/* Something to run once, later. It is embedded in what it runs for. */
struct task {
	struct link link;
	void (*run)(struct task *task);
};

/* A moment after which something is called; armed while it is linked. */
struct timeout {
	struct link link;
	uint64_t deadline_ms;
};

/* Timeouts of one duration, so that the list is in order of deadline. */
struct timeout_class {
	struct link link; /* in loop->classes */
	struct list armed;
	uint64_t after_ms;
	void (*fire)(struct timeout *timeout); /* it is disarmed by then */
};

struct loop {
	struct event_base *base;
	struct poller poller; /* for what sessions watch */
	struct event tick;    /* pending while any class has a member */
	bool ticks;           /* it is pending */
	struct list classes;
	struct list again; /* tasks for the end of this pass or the next one */
	struct list dead;  /* tasks that free */
	uint64_t now_ms;   /* this round's time; 0: not asked for yet */
	bool stopping;
	void (*on_pass)(void *arg); /* at the end of each pass; may be NULL */
	void *on_pass_arg;
	uint8_t *scratch;
};

/* -ENOMEM. A loop is embedded and owns its base. */
MUST_USE int loop_init(struct loop *l);
void loop_fini(struct loop *l);

/* Runs passes until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* There will be another pass within a tick, whatever happens. */
void loop_come_back(struct loop *l);

/* CLOCK_MONOTONIC in ms as of this round. */
uint64_t loop_now(struct loop *l);

void task_init(struct task *t, void (*run)(struct task *));

/* Runs `t` at the end of the pass; nothing when it is queued already. */
void loop_again(struct loop *l, struct task *t);
void task_cancel(struct task *t);

/* Runs `t`, which frees, after the pass. `t` is on no other list. */
void loop_bury(struct loop *l, struct task *t);

void loop_class_init(struct loop *l, struct timeout_class *c, uint64_t after_ms,
    void (*fire)(struct timeout *));
void timeout_init(struct timeout *t);

/* Arms `t` in `c`, from now on; an armed one is moved. */
void loop_arm(struct loop *l, struct timeout_class *c, struct timeout *t);
void timeout_cancel(struct timeout *t);

#endif
