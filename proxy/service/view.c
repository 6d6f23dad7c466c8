/* SPDX-License-Identifier: ISC */
#include "service/view.h"

#include <string.h>
#include <time.h>

static void
put_digits(char *at, unsigned n, int digits)
{
	while (digits-- > 0) {
		at[digits] = (char)('0' + n % 10);
		n /= 10;
	}
}

/* By hand: a list of sessions has a hundred thousand of them. */
const char *
view_time(const struct view *v, uint64_t ms, char *text)
{
	/* What lies ahead of the clock is not from before it began. */
	uint64_t ago = v->now_ms > ms ? v->now_ms - ms : 0;
	uint64_t epoch_ms = v->now_epoch_ms - ago;
	time_t seconds = (time_t)(epoch_ms / 1000);
	struct tm tm = { 0 };

	gmtime_r(&seconds, &tm);
	memcpy(text, "0000-00-00T00:00:00.000Z", 25);
	put_digits(text, (unsigned)tm.tm_year + 1900, 4);
	put_digits(text + 5, (unsigned)tm.tm_mon + 1, 2);
	put_digits(text + 8, (unsigned)tm.tm_mday, 2);
	put_digits(text + 11, (unsigned)tm.tm_hour, 2);
	put_digits(text + 14, (unsigned)tm.tm_min, 2);
	put_digits(text + 17, (unsigned)tm.tm_sec, 2);
	put_digits(text + 20, (unsigned)(epoch_ms % 1000), 3);
	return text;
}

const char *
view_pool(const struct view *v, unsigned id)
{
	if (id >= LEDGER_POOLS_MAX || v->pool_names[id][0] == '\0')
		return "?";
	return v->pool_names[id];
}
