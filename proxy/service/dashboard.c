/* SPDX-License-Identifier: ISC */
#include "service/dashboard.h"

#include <string.h>

#include "service/columns.h"

#define MINUTE 60
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* Of an egress or an address. */
#define FREE_COLUMN  5
#define SLOTS_COLUMN 6

static long long
number(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

static const char *
text(const json_t *o, const char *key)
{
	const char *words = json_string_value(json_object_get(o, key));

	return words != NULL ? words : "";
}

const char *
dashboard_time(uint64_t s, char *out)
{
	unsigned long long n = s;

	if (s >= DAY)
		snprintf(out, DASHBOARD_TIME_MAX, "%llud %lluh", n / DAY,
		    n % DAY / HOUR);
	else if (s >= HOUR)
		snprintf(out, DASHBOARD_TIME_MAX, "%lluh %llum", n / HOUR,
		    n % HOUR / MINUTE);
	else if (s >= MINUTE)
		snprintf(out, DASHBOARD_TIME_MAX, "%llum %llus", n / MINUTE,
		    n % MINUTE);
	else
		snprintf(out, DASHBOARD_TIME_MAX, "%llus", n);
	return out;
}

static void
put(struct columns_row *row, unsigned column, const char *words)
{
	strcpy_bounded(row->text[column], sizeof(row->text[column]), words);
}

/* A number of `o`; "-" where there is none. */
static void
put_number(
    struct columns_row *row, unsigned column, const json_t *o, const char *key)
{
	const json_t *n = json_object_get(o, key);

	if (json_is_integer(n))
		snprintf(row->text[column], sizeof(row->text[column]), "%lld",
		    (long long)json_integer_value(n));
	else
		put(row, column, "-");
}

static void
put_percent(
    struct columns_row *row, unsigned column, const json_t *o, const char *key)
{
	put_number(row, column, o, key);
	if (strcmp(row->text[column], "-") != 0)
		strncat(row->text[column], "%", 2);
}

static void
put_titles(struct columns *c, const char *const *titles)
{
	struct columns_row *row = columns_add(c);

	for (unsigned i = 0; titles[i] != NULL; i++)
		put(row, i, titles[i]);
}

static void
print_table(struct columns *c, FILE *out)
{
	fputc('\n', out);
	columns_print(c, out);
	columns_fini(c);
}

/* ---- parts ---- */

static void
print_head(const json_t *s, FILE *out)
{
	const json_t *sessions = json_object_get(s, "sessions");
	const json_t *sharing = json_object_get(s, "sharing");
	const json_t *ledger = json_object_get(s, "ledger");
	size_t workers = json_array_size(json_object_get(s, "workers"));
	char up[DASHBOARD_TIME_MAX];

	fprintf(out, "fourfold %s, pid %lld, up %s\n\n", text(s, "version"),
	    number(s, "pid"),
	    dashboard_time((uint64_t)number(s, "uptime_s"), up));
	fprintf(out, "  sessions  %lld of %lld, in %zu worker%s\n",
	    number(sessions, "now"), number(sessions, "max"), workers,
	    workers == 1 ? "" : "s");
	fprintf(out,
	    "  sharing   %lld connections from %lld source ports: %.1f on "
	    "each\n",
	    number(sharing, "connections"), number(sharing, "sources"),
	    json_number_value(json_object_get(sharing, "factor")));
	fprintf(out,
	    "  ports     %lld held, %lld cooling, %lld sessions waiting, "
	    "%lld targets\n",
	    number(ledger, "held"), number(ledger, "cooling"),
	    number(ledger, "waiting"), number(ledger, "targets"));
}

/* Those that are not 0, as words in a line. */
static void
print_counts(const json_t *counts, const char *title, FILE *out)
{
	const char *key, *separator = title;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)counts, key, value)
	{
		if (json_integer_value(value) == 0)
			continue;
		fprintf(out, "%s%lld %s", separator,
		    (long long)json_integer_value(value), key);
		separator = ", ";
	}
	if (separator != title)
		fputc('\n', out);
}

/* Where the kernel chooses the ports, how many there are is not known. */
static void
put_address(struct columns *c, const json_t *egress, const char *name,
    const char *address, const json_t *o)
{
	static const char *const keys[] = { "held", "cooling", "rested", "free",
		"slots", NULL };
	struct columns_row *row = columns_add(c);

	put(row, 0, name);
	put(row, 1, address);
	for (unsigned i = 0; keys[i] != NULL; i++)
		put_number(row, 2 + i, o, keys[i]);
	if (!json_is_true(json_object_get(egress, "by_kernel")))
		return;
	put(row, FREE_COLUMN, "-");
	put(row, SLOTS_COLUMN, "-");
}

/* "by route" is an address of each family. */
static const char *
address_name(const json_t *address, char out[COLUMNS_TEXT_MAX + 1])
{
	bool by_route = strcmp(text(address, "address"), "by route") == 0;

	snprintf(out, COLUMNS_TEXT_MAX + 1, "%s%s%s%s",
	    text(address, "address"), by_route ? " (" : "",
	    by_route ? text(address, "family") : "", by_route ? ")" : "");
	return out;
}

static void
put_egress(struct columns *c, const json_t *egress)
{
	const json_t *addresses = json_object_get(egress, "addresses");
	long long more = number(egress, "addresses_not_shown");
	const char *name = text(egress, "egress");
	char words[COLUMNS_TEXT_MAX + 1];
	const json_t *address;
	size_t i;

	/* One address is the whole pool. */
	if (json_array_size(addresses) != 1 || more != 0)
		put_address(c, egress, name, "all", egress);
	json_array_foreach(addresses, i, address)
	    put_address(c, egress, json_array_size(addresses) == 1 ? name : "",
		address_name(address, words), address);
	if (more != 0) {
		struct columns_row *row = columns_add(c);

		snprintf(
		    row->text[1], sizeof(row->text[1]), "and %lld more", more);
	}
}

static void
print_egresses(const json_t *egresses, FILE *out)
{
	static const char *const titles[] = { "EGRESS", "ADDRESS", "HELD",
		"COOLING", "RESTED", "FREE", "SLOTS", NULL };
	struct columns c;
	const json_t *egress;
	size_t i;

	columns_init(&c, "llrrrrr");
	put_titles(&c, titles);
	json_array_foreach(egresses, i, egress) put_egress(&c, egress);
	print_table(&c, out);
}

static void
put_full_in(struct columns_row *row, unsigned column, const json_t *s)
{
	char time[DASHBOARD_TIME_MAX];

	if (!json_is_integer(s))
		put(row, column, "-");
	else if (json_integer_value(s) == 0)
		put(row, column, "now");
	else
		put(row, column,
		    dashboard_time((uint64_t)json_integer_value(s), time));
}

static void
put_target(struct columns *c, const json_t *target)
{
	static const char *const keys[] = { "held", "cooling", "waiting",
		"high_water", NULL };
	struct columns_row *row = columns_add(c);

	put(row, 0, text(target, "target"));
	put(row, 1, text(target, "egress"));
	for (unsigned i = 0; keys[i] != NULL; i++)
		put_number(row, 2 + i, target, keys[i]);
	/* The kernel chooses, or the pool has no such address any more. */
	if (number(target, "slots") == 0)
		put(row, 6, "-");
	else
		snprintf(row->text[6], sizeof(row->text[6]), "%lld",
		    number(target, "slots") - number(target, "rested"));
	put_percent(row, 7, target, "percent");
	put_full_in(row, 8, json_object_get(target, "full_in_s"));
}

static void
print_targets(const json_t *targets, FILE *out)
{
	static const char *const titles[] = { "TARGET", "EGRESS", "HELD",
		"COOLING", "WAITING", "MOST", "SLOTS", "USED", "FULL IN",
		NULL };
	struct columns c;
	const json_t *target;
	size_t i;

	if (json_array_size(targets) == 0)
		return;
	columns_init(&c, "llrrrrrrr");
	put_titles(&c, titles);
	json_array_foreach(targets, i, target) put_target(&c, target);
	print_table(&c, out);
}

static void
put_alarm(struct columns *c, const json_t *alarm)
{
	const json_t *worker = json_object_get(alarm, "worker");
	struct columns_row *row = columns_add(c);

	put(row, 0, text(alarm, "alarm"));
	if (json_is_integer(worker))
		snprintf(row->text[1], sizeof(row->text[1]), "worker %lld",
		    (long long)json_integer_value(worker));
	else if (json_object_get(alarm, "egress") == NULL)
		put(row, 1, "all workers");
	else
		snprintf(row->text[1], sizeof(row->text[1]), "%s%s%s",
		    text(alarm, "egress"),
		    text(alarm, "target")[0] != '\0' ? " to " : "",
		    text(alarm, "target"));
	snprintf(row->text[2], sizeof(row->text[2]), "%lld of %lld",
	    number(alarm, "used"), number(alarm, "of"));
	put_percent(row, 3, alarm, "percent");
	put(row, 4, text(alarm, "since"));
}

static void
print_alarms(const json_t *alarms, long long more, FILE *out)
{
	static const char *const titles[] = { "ALARM", "OF", "BEGAN AT", "",
		"SINCE", NULL };
	struct columns c;
	const json_t *alarm;
	size_t i;

	if (json_array_size(alarms) == 0)
		return;
	columns_init(&c, "lllrl");
	put_titles(&c, titles);
	json_array_foreach(alarms, i, alarm) put_alarm(&c, alarm);
	print_table(&c, out);
	if (more > 0)
		fprintf(out, "  and %lld more\n", more);
}

void
dashboard_print(const json_t *status, FILE *out)
{
	print_head(status, out);
	print_counts(json_object_get(status, "closed"), "  ended     ", out);
	print_counts(
	    json_object_get(status, "alarms_begun"), "  raised    ", out);
	print_alarms(json_object_get(status, "alarms"),
	    number(status, "alarms_beyond"), out);
	print_egresses(json_object_get(status, "egresses"), out);
	print_targets(json_object_get(status, "targets"), out);
}
