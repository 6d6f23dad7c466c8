/* SPDX-License-Identifier: ISC */
#include "service/capacity.h"

#include <errno.h>
#include <unistd.h>

#include "service/shared.h"

/* Descriptors of a worker that are not sessions': libraries, logs, lookups,
 * pipes. */
#define SPARE_DESCRIPTORS 128

/* What the unit allows, and most kernels at most (fs.nr_open). */
#define USUAL_DESCRIPTORS 1048576U

unsigned
capacity_processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > SLOTS_MAX ? SLOTS_MAX : (unsigned)n;
}

static uint64_t
endpoints_of(const struct config *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->listen_count; i++)
		for (size_t a = 0; a < c->listens[i].address_count; a++) {
			const struct config_address *at =
			    &c->listens[i].addresses[a];

			n += at->ports.last - at->ports.first + 1u;
		}
	return n;
}

/* Each worker has, for every slot, its sockets, an eventfd, and those of its
 * worker and of the next one in its place. */
static uint64_t
other_descriptors(const struct config *c, unsigned slots)
{
	return SPARE_DESCRIPTORS + (endpoints_of(c) + 3) * slots;
}

uint64_t
capacity_descriptors(
    const struct config *c, unsigned workers, uint64_t sessions)
{
	return other_descriptors(c, workers) + 2 * sessions;
}

/* Two descriptors a session. */
static uint64_t
sessions_of_worker(
    const struct config *c, const struct capacity_host *host, unsigned workers)
{
	unsigned slots = workers > host->slots ? workers : host->slots;
	uint64_t others = other_descriptors(c, slots);

	return host->descriptors > others + 2 ? (host->descriptors - others) / 2
					      : 0;
}

uint64_t
capacity_most(const struct config *c, uint64_t descriptors)
{
	const struct capacity_host host = { .descriptors = descriptors };
	uint64_t most = SLOTS_MAX * sessions_of_worker(c, &host, SLOTS_MAX);

	return most < CONFIG_SESSIONS_MAX ? most : CONFIG_SESSIONS_MAX;
}

static bool
auto_suffices(const struct config *c, const struct capacity_host *host)
{
	for (unsigned n = 1; n <= SLOTS_MAX; n++)
		if (sessions_of_worker(c, host, n) * n >= c->max_sessions)
			return true;
	return false;
}

static void
refuse_workers(const struct config *c, const struct capacity_host *host,
    unsigned workers, FILE *errors)
{
	unsigned slots = workers > host->slots ? workers : host->slots;

	fprintf(errors,
	    "a process may have %ju descriptors only, and each of %u workers "
	    "takes %ju besides those of sessions; this mends it: "
	    "LimitNOFILE=%u in the unit, or ulimit -n %u before the start",
	    (uintmax_t)host->descriptors, workers,
	    (uintmax_t)other_descriptors(c, slots), USUAL_DESCRIPTORS,
	    USUAL_DESCRIPTORS);
	if (workers > 1 && sessions_of_worker(c, host, 1) > 0)
		fputs(", or workers = 1", errors);
	fputc('\n', errors);
}

static void
refuse_sessions(const struct config *c, const struct capacity_host *host,
    unsigned workers, uint64_t most, FILE *errors)
{
	unsigned slots = workers > host->slots ? workers : host->slots;
	uint64_t each = (c->max_sessions + workers - 1) / workers;
	uintmax_t needed = capacity_descriptors(c, slots, each);

	fprintf(errors,
	    "max-sessions = %u needs two descriptors a session, %ju in each of "
	    "%u workers, and a process may have %ju; this mends it: ",
	    c->max_sessions, needed, workers, (uintmax_t)host->descriptors);
	if (c->workers != 0 && auto_suffices(c, host))
		fputs("workers = auto, or ", errors);
	fprintf(errors,
	    "max-sessions = %ju, or LimitNOFILE=%ju in the unit, or ulimit -n "
	    "%ju before the start\n",
	    (uintmax_t)most, needed, needed);
}

/* As many workers as processors, or as the descriptors of max-sessions ask
 * for. */
int
capacity_find(const struct config *c, const struct capacity_host *host,
    FILE *errors, struct capacity *out)
{
	unsigned workers = c->workers != 0 ? c->workers : host->processors;
	uint64_t here;

	if (workers > SLOTS_MAX)
		workers = SLOTS_MAX;
	here = sessions_of_worker(c, host, workers);
	while (c->workers == 0 && here * workers < c->max_sessions &&
	       workers < SLOTS_MAX) {
		workers++;
		here = sessions_of_worker(c, host, workers);
	}
	if (here == 0) {
		refuse_workers(c, host, workers, errors);
		return -EMFILE;
	}
	if (here * workers < c->max_sessions) {
		refuse_sessions(c, host, workers, here * workers, errors);
		return -EMFILE;
	}
	out->workers = workers;
	out->each = here;
	out->sessions = c->max_sessions != 0 ? c->max_sessions : here * workers;
	return 0;
}
