/* SPDX-License-Identifier: ISC */
/*
 * The values of options: from text to what the snapshot holds. Each parser
 * says what is wrong without repeating the text; the caller names the option
 * and what was expected.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/auth.h"
#include "policy/config_parse.h"

static const char no_memory[] = "finds no memory";
static const char out_of_range[] = "is out of range";
static const char mapped[] = "is an IPv4-mapped address: write it as IPv4";

_Static_assert(sizeof(enum log_level) == sizeof(unsigned) &&
		   sizeof(enum config_bind) == sizeof(unsigned) &&
		   sizeof(enum config_order) == sizeof(unsigned) &&
		   sizeof(enum config_sticky) == sizeof(unsigned),
    "config_value_choice() writes enums as unsigned");

/* Digits at `text`; their end. NULL when there are none or too many. */
static const char *
parse_digits(const char *text, uint64_t *out)
{
	uint64_t n = 0;
	size_t len = strspn(text, "0123456789");

	if (len == 0 || len > 18)
		return NULL;
	for (size_t i = 0; i < len; i++)
		n = n * 10 + (uint64_t)(text[i] - '0');
	*out = n;
	return text + len;
}

const char *
config_value_number(const struct value *v)
{
	uint64_t n;
	const char *end = parse_digits(v->text, &n);

	if (end == NULL || *end != '\0')
		return "is not a number";
	if (n < v->option->min || n > v->option->max)
		return out_of_range;
	*(unsigned *)v->field = (unsigned)n;
	return NULL;
}

const char *
config_value_auto_number(const struct value *v)
{
	if (strcmp(v->text, "auto") != 0)
		return config_value_number(v);
	*(unsigned *)v->field = 0;
	return NULL;
}

const char *
config_value_number_or_off(const struct value *v)
{
	if (strcmp(v->text, "off") != 0)
		return config_value_number(v);
	*(unsigned *)v->field = 0;
	return NULL;
}

const char *
config_value_percent_or_off(const struct value *v)
{
	const char *end;
	uint64_t n;

	if (strcmp(v->text, "off") == 0) {
		*(unsigned *)v->field = 0;
		return NULL;
	}
	end = parse_digits(v->text, &n);
	if (end == NULL)
		return "is not a percentage";
	if (*end == '\0')
		return "has no %";
	if (strcmp(end, "%") != 0)
		return "has something else than % behind the number";
	if (n < v->option->min || n > v->option->max)
		return out_of_range;
	*(unsigned *)v->field = (unsigned)n;
	return NULL;
}

const char *
config_value_mode(const struct value *v)
{
	size_t len = strlen(v->text);
	char *end;
	unsigned long mode;

	if (len == 0 || len > 4 || strspn(v->text, "01234567") != len)
		return "is not an octal file mode";
	mode = strtoul(v->text, &end, 8);
	if (mode > 0777)
		return out_of_range;
	*(unsigned *)v->field = (unsigned)mode;
	return NULL;
}

const char *
config_value_duration(const struct value *v)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 },
		{ "h", 3600000 }, { "d", 86400000 } };
	const char *unit;
	uint64_t n;

	unit = parse_digits(v->text, &n);
	if (unit == NULL)
		return "is not a duration";
	if (*unit == '\0')
		return "has no unit";
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (n > v->option->max / units[i].ms ||
		    n * units[i].ms < v->option->min)
			return out_of_range;
		*(uint64_t *)v->field = n * units[i].ms;
		return NULL;
	}
	return "has an unknown unit";
}

const char *
config_value_duration_or_off(const struct value *v)
{
	if (strcmp(v->text, "off") != 0)
		return config_value_duration(v);
	*(uint64_t *)v->field = 0;
	return NULL;
}

const char *
config_value_size(const struct value *v)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = { { "K", UINT64_C(1) << 10 }, { "M", UINT64_C(1) << 20 },
		{ "G", UINT64_C(1) << 30 } };
	const char *unit;
	uint64_t n;

	unit = parse_digits(v->text, &n);
	if (unit == NULL)
		return "is not a size";
	if (*unit == '\0')
		return "has no unit";
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (n > v->option->max / units[i].bytes ||
		    n * units[i].bytes < v->option->min)
			return out_of_range;
		*(uint64_t *)v->field = n * units[i].bytes;
		return NULL;
	}
	return "has an unknown unit";
}

const char *
config_value_auto_duration(const struct value *v)
{
	if (strcmp(v->text, "auto") != 0)
		return config_value_duration(v);
	*(uint64_t *)v->field = CONFIG_AUTO_MS;
	return NULL;
}

/* The place of `text` among the words of `form` ("auto|range"); -1: none. */
static int
find_choice(const char *form, const char *text)
{
	size_t len = strlen(text);

	for (int i = 0;; i++) {
		size_t word = strcspn(form, "|");

		if (word == len && memcmp(form, text, len) == 0)
			return i;
		if (form[word] == '\0')
			return -1;
		form += word + 1;
	}
}

const char *
config_value_choice(const struct value *v)
{
	int choice = find_choice(v->option->form, v->text);

	if (choice < 0)
		return "is not known";
	*(unsigned *)v->field = (unsigned)choice;
	return NULL;
}

/* Of two words: the first is false. */
const char *
config_value_bool(const struct value *v)
{
	int choice = find_choice(v->option->form, v->text);

	if (choice < 0)
		return "is not known";
	must(choice < 2);
	*(bool *)v->field = choice == 1;
	return NULL;
}

const char *
config_check_name(const char *name)
{
	size_t len = strlen(name);

	if (len > CONFIG_NAME_MAX)
		return "is longer than 32 characters";
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "0123456789._-") != len)
		return "has characters other than letters, digits, . _ -";
	return NULL;
}

/* A user or group of this host, or auto: "". */
const char *
config_value_account(const struct value *v)
{
	const char *wrong = config_check_name(v->text);

	if (wrong != NULL)
		return wrong;
	strcpy_bounded(v->field, CONFIG_NAME_MAX + 1,
	    strcmp(v->text, "auto") == 0 ? "" : v->text);
	return NULL;
}

/* Another section's name; config_check() looks it up. */
const char *
config_value_reference(const struct value *v)
{
	const char *wrong = config_check_name(v->text);

	if (wrong == NULL)
		strcpy_bounded(v->reference, CONFIG_NAME_MAX + 1, v->text);
	return wrong;
}

/* FIRST, or FIRST-LAST. */
static const char *
parse_ports(const char *text, struct config_ports *out)
{
	uint64_t first, last;
	const char *end = parse_digits(text, &first);

	if (end == NULL)
		return "has no port";
	last = first;
	if (*end == '-') {
		end = parse_digits(end + 1, &last);
		if (end == NULL)
			return "has no port behind the -";
		if (first == 0)
			return "has a range that starts with port 0";
	}
	if (*end != '\0')
		return "has something behind the port";
	if (first > 65535 || last > 65535)
		return "has a port above 65535";
	if (first > last)
		return "has a range whose last port is below the first";
	out->first = (uint16_t)first;
	out->last = (uint16_t)last;
	return NULL;
}

static const char *
parse_unix(const char *path, char out[CONFIG_PATH_MAX + 1])
{
	if (path[0] != '/' || path[1] == '\0')
		return "has no absolute path";
	if (strlen(path) > CONFIG_PATH_MAX)
		return "has a path longer than 107 bytes";
	strcpy_bounded(out, CONFIG_PATH_MAX + 1, path);
	return NULL;
}

static const char *
parse_address(const char *text, struct config_address *out)
{
	char ip[ADDR_TEXT_MAX];
	const char *colon = strrchr(text, ':');
	size_t len;
	bool bracket = text[0] == '[';
	struct addr plain;

	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, out->path);
	if (addr_parse_ip(text, &out->ip) == 0 || colon == NULL)
		return "has no port";
	len = (size_t)(colon - text);
	if (len >= sizeof(ip))
		return "is not an address with a port";
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (bracket && ip[len - 1] == ']') {
		ip[len - 1] = '\0';
		memmove(ip, ip + 1, len - 1);
	}
	if (addr_parse_ip(ip, &out->ip) != 0 ||
	    (out->ip.family == ADDR_V6) != bracket)
		return "is not an address with a port";
	plain = addr_unmap(&out->ip);
	if (!addr_equal(&plain, &out->ip))
		return mapped;
	return parse_ports(colon + 1, &out->ports);
}

const char *
config_value_address(const struct value *v)
{
	struct config_address a = { .line = v->line }, *new;
	const char *wrong = parse_address(v->text, &a);

	if (wrong != NULL)
		return wrong;
	new = config_append(v->field, v->count, sizeof(*new));
	if (new == NULL)
		return no_memory;
	*new = a;
	return NULL;
}

/* unix:/PATH, /PATH, or off: "". */
const char *
config_value_path_or_off(const struct value *v)
{
	const char *path = v->text;

	if (strcmp(path, "off") == 0) {
		*(char *)v->field = '\0';
		return NULL;
	}
	if (strncmp(path, "unix:", 5) == 0)
		path += 5;
	return parse_unix(path, v->field);
}

/* Of an address with a length behind it which make no prefix. */
static const char *
explain_prefix(const struct value *v, const struct addr *ip, const char *length)
{
	unsigned most = ip->family == ADDR_V4 ? 32 : 128;
	struct prefix network = { .base = *ip };
	char text[ADDR_TEXT_MAX];
	uint64_t bits;
	const char *end = parse_digits(length, &bits);

	if (end == NULL || *end != '\0' || bits > most) {
		snprintf(v->words, WORDS_MAX,
		    "has a length that is not a number from 0 to %u", most);
		return v->words;
	}
	network.bits = (uint8_t)bits;
	for (unsigned i = network.bits; i < most; i++)
		network.base.ip[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
	snprintf(v->words, WORDS_MAX,
	    "has address bits set behind its length: the network is %s",
	    prefix_format(&network, text));
	return v->words;
}

static const char *
parse_prefix(const struct value *v, struct prefix *out)
{
	const char *slash = strchr(v->text, '/');
	char ip[ADDR_TEXT_MAX];
	struct addr plain;

	if (prefix_parse(v->text, out) != 0) {
		strcpy_bounded(ip, sizeof(ip), v->text);
		if (slash != NULL && slash - v->text < ADDR_TEXT_MAX)
			ip[slash - v->text] = '\0';
		if (slash != NULL && addr_parse_ip(ip, &plain) == 0)
			return explain_prefix(v, &plain, slash + 1);
		return "is not an IP address";
	}
	plain = addr_unmap(&out->base);
	return addr_equal(&plain, &out->base) ? NULL : mapped;
}

static const char *
append_prefix(const struct value *v, const struct prefix *p)
{
	struct prefix *new = config_append(v->field, v->count, sizeof(*new));

	if (new == NULL)
		return no_memory;
	*new = *p;
	return NULL;
}

const char *
config_value_client(const struct value *v)
{
	struct prefix *const *list = v->field;
	struct prefix p;
	const char *wrong = parse_prefix(v, &p);

	if (wrong != NULL)
		return wrong;
	for (size_t i = 0; i < *v->count; i++)
		if ((*list)[i].bits == p.bits &&
		    addr_equal(&(*list)[i].base, &p.base))
			return "is listed twice";
	return append_prefix(v, &p);
}

/* Whether a connection may come from there: not from 0.0.0.0 or multicast. */
static bool
is_source(const struct addr *a)
{
	if (addr_is_unspecified_ip(a))
		return false;
	return a->family == ADDR_V4 ? a->ip[0] < 224 : a->ip[0] != 0xff;
}

const char *
config_value_source(const struct value *v)
{
	struct prefix *const *list = v->field;
	struct prefix p;
	const char *wrong = parse_prefix(v, &p);

	if (wrong != NULL)
		return wrong;
	if (!is_source(&p.base))
		return "is no address to connect from";
	for (size_t i = 0; i < *v->count; i++)
		if (prefix_overlaps(&(*list)[i], &p))
			return "is listed twice, or overlaps with one before";
	return append_prefix(v, &p);
}

bool
config_ports_overlap(struct config_ports a, struct config_ports b)
{
	return a.first <= b.last && b.first <= a.last;
}

const char *
config_value_ports(const struct value *v)
{
	struct config_ports *const *list = v->field;
	struct config_ports ports, *new;
	const char *wrong;
	bool is_auto = strcmp(v->text, "auto") == 0;

	if (v->elements > 0 && (is_auto || *v->count == 0))
		return "does not go with the ports before: auto stands alone";
	if (is_auto)
		return NULL;
	wrong = parse_ports(v->text, &ports);
	if (wrong != NULL)
		return wrong;
	if (ports.first == 0)
		return "is port 0";
	for (size_t i = 0; i < *v->count; i++)
		if (config_ports_overlap((*list)[i], ports))
			return "is listed twice, or overlaps with ports before";
	new = config_append(v->field, v->count, sizeof(*new));
	if (new == NULL)
		return no_memory;
	*new = ports;
	return NULL;
}

const char *
config_value_hash(const struct value *v)
{
	char *copy;

	if (!auth_hash_is_valid(v->text))
		return "is not a password's hash";
	copy = strdup(v->text);
	if (copy == NULL)
		return no_memory;
	*(char **)v->field = copy;
	return NULL;
}
