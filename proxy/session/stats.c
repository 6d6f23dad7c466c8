/* SPDX-License-Identifier: ISC */
#include "session/stats.h"

static const char *const labels[] = {
#define ROW(name, label) [STATS_##name] = label,
	STATS_COUNTERS(ROW)
#undef ROW
};

const char *
stats_label(enum stats_counter counter)
{
	must(counter < STATS_COUNT);
	return labels[counter];
}
