/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/robust.h"

#define ROUNDS    200000
#define ENOUGH_NS INT64_C(20000000)

struct shared {
	pthread_mutex_t mutex;
	_Atomic unsigned here;
	unsigned count; /* guarded */
};

static struct shared *
make_shared(void)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(s, MAP_FAILED);
	cr_assert_eq(robust_init(&s->mutex), 0);
	return s;
}

static pid_t
start(struct shared *s, void (*work)(struct shared *s))
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(s);
		_exit(0);
	}
	return pid;
}

static void
expect_end(pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
count_up(struct shared *s)
{
	s->here++;
	while (s->here < 3)
		;
	for (unsigned i = 0; i < ROUNDS; i++) {
		must(robust_lock(&s->mutex) == 0);
		s->count++;
		robust_unlock(&s->mutex);
	}
}

Test(robust, one_process_at_a_time_has_it)
{
	struct shared *s = make_shared();
	pid_t pids[3];

	for (unsigned i = 0; i < 3; i++)
		pids[i] = start(s, count_up);
	for (unsigned i = 0; i < 3; i++)
		expect_end(pids[i]);
	cr_expect_eq(s->count, 3 * ROUNDS);
}

static void
die_in_it(struct shared *s)
{
	must(robust_lock(&s->mutex) == 0);
	s->count++;
}

static void
see_the_death(struct shared *s)
{
	must(robust_lock(&s->mutex) == EOWNERDEAD);
	/* And dies as well, before it has mended anything. */
}

Test(robust, the_next_owners_learn_of_a_death_until_it_is_mended)
{
	struct shared *s = make_shared();

	expect_end(start(s, die_in_it));
	expect_end(start(s, see_the_death));
	cr_assert_eq(robust_lock(&s->mutex), EOWNERDEAD);
	robust_mended(&s->mutex);
	robust_unlock(&s->mutex);
	cr_assert_eq(robust_lock(&s->mutex), 0);
	robust_unlock(&s->mutex);
	cr_expect_eq(s->count, 1);
}

static void
wait_for_it(struct shared *s)
{
	s->here = 1;
	must(robust_lock(&s->mutex) == 0);
	robust_unlock(&s->mutex);
}

/* The letter of a process's state, of /proc/PID/stat. */
static char
state_of(pid_t pid)
{
	char path[32], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	cr_assert_eq(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state;
}

/* Who sleeps depends on being woken, and a killed process wakes nobody. */
Test(robust, who_waits_is_never_asleep, .timeout = 60)
{
	struct shared *s = make_shared();
	struct timespec used = { 0 };
	clockid_t clock;
	pid_t pid;

	cr_assert_eq(robust_lock(&s->mutex), 0);
	pid = start(s, wait_for_it);
	cr_assert_eq(clock_getcpuclockid(pid, &clock), 0);
	while (s->here == 0)
		sched_yield();
	while (used.tv_sec * 1000000000 + used.tv_nsec < ENOUGH_NS) {
		cr_assert_neq(state_of(pid), 'S');
		sched_yield();
		cr_assert_eq(clock_gettime(clock, &used), 0);
	}
	robust_unlock(&s->mutex);
	expect_end(pid);
}
