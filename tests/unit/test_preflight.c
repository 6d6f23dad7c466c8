/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "egress/preflight.h"
#include "netns.h"

#define TEXT_SIZE 2048

/* One decision and what it said. */
struct decision {
	int result;
	struct pool pool;
	char error[TEXT_SIZE], warning[TEXT_SIZE];
};

/* A host as it comes: Linux 6.3 or later, nothing set. */
static struct preflight_host
fresh_host(void)
{
	struct preflight_host host = {
		.port_first = 32768,
		.port_last = 60999,
		.tw_reuse = 2,
		.timestamps = true,
		.range_option = true,
		.no_port_option = true,
	};

	return host;
}

static struct preflight_host
old_host(void)
{
	struct preflight_host host = fresh_host();

	host.range_option = false;
	return host;
}

static struct preflight_host
reserving_host(const char *ports)
{
	struct preflight_host host = fresh_host();

	cr_assert_eq(preflight_parse_ports(ports, host.reserved), 0);
	return host;
}

static void
plan(const struct preflight_host *host, const struct preflight_wish *wish,
    struct decision *d)
{
	struct preflight_wish named = *wish;

	named.name = "main";
	/* Neither text may go beyond its size. */
	memset(d, 'x', sizeof(*d));
	d->result = preflight_plan(
	    host, &named, &d->pool, d->error, d->warning, TEXT_SIZE - 1);
	cr_assert_eq(d->error[TEXT_SIZE - 1], 'x');
	cr_assert_eq(d->warning[TEXT_SIZE - 1], 'x');
}

/* With the ports in `ports`, as many as are not zero. */
static void
plan_ports(const struct preflight_host *host, enum preflight_bind bind,
    const struct preflight_ports *ports, size_t count, struct decision *d)
{
	struct preflight_wish wish = {
		.ports = ports, .port_count = count, .bind = bind
	};

	plan(host, &wish, d);
}

static void
expect_ranges(
    const struct decision *d, const struct pool_range *expected, unsigned count)
{
	cr_assert_eq(d->result, 0, "%s", d->error);
	cr_expect_str_empty(d->error);
	cr_assert_eq(
	    d->pool.range_count, count, "%u ranges", d->pool.range_count);
	for (unsigned i = 0; i < count; i++) {
		const struct pool_range *r = &d->pool.ranges[i];

		cr_expect(r->first == expected[i].first &&
			      r->last == expected[i].last &&
			      r->bind == expected[i].bind,
		    "range %u is %u-%u by %u", i, r->first, r->last, r->bind);
	}
}

static void
expect_range(const struct decision *d, uint16_t first, uint16_t last,
    enum pool_bind bind)
{
	struct pool_range expected = { first, last, (uint8_t)bind };

	expect_ranges(d, &expected, 1);
}

static void
expect_words(const char *text, const char *words)
{
	cr_expect_not_null(
	    strstr(text, words), "\"%s\" lacks \"%s\"", text, words);
}

static void
expect_error(const struct decision *d, const char *words)
{
	cr_expect_eq(d->result, -EINVAL);
	expect_words(d->error, "egress main: ");
	expect_words(d->error, words);
	/* The pool was not touched. */
	cr_expect_eq(d->pool.name[0], 'x');
}

Test(preflight, nothing_said_gives_the_hosts_own_range_by_route)
{
	struct preflight_host host = fresh_host();
	struct preflight_wish wish = { 0 };
	struct decision d;

	plan(&host, &wish, &d);
	expect_range(&d, 32768, 60999, POOL_RANGE);
	cr_expect_str_empty(d.warning);
	cr_expect_str_eq(d.pool.name, "main");
	cr_expect_not(d.pool.by_kernel);
	cr_expect_eq(d.pool.source_count, 2);
	cr_expect_eq(pool_slots(&d.pool, ADDR_V4), 28232);
	cr_expect_eq(pool_slots(&d.pool, ADDR_V6), 28232);
}

Test(preflight, auto_leaves_out_reserved_and_own_ports)
{
	struct preflight_host host = reserving_host("80,40000-40999,60999");
	const uint16_t own[] = { 50000, 1080 };
	const struct pool_range expected[] = {
		{ 32768, 39999, POOL_RANGE },
		{ 41000, 49999, POOL_RANGE },
		{ 50001, 60998, POOL_RANGE },
	};
	struct preflight_wish wish = { .own_ports = own, .own_port_count = 2 };
	struct decision d;

	plan(&host, &wish, &d);
	expect_ranges(&d, expected, ARRAY_LEN(expected));
	cr_expect_str_empty(d.warning);
}

Test(preflight, auto_with_nothing_left_is_an_error)
{
	struct preflight_host host = reserving_host("30000-39999");
	struct preflight_wish wish = { 0 };
	struct decision d;

	host.port_first = 32768;
	host.port_last = 33000;
	plan(&host, &wish, &d);
	expect_error(&d, "this mends it: sysctl -w"
			 " net.ipv4.ip_local_port_range=\"32768 60999\"");
}

Test(preflight, auto_on_a_host_that_reserves_each_second_port_goes_on)
{
	struct preflight_host host = fresh_host();
	struct preflight_wish wish = { 0 };
	struct decision d;

	memset(host.reserved, 0x55, sizeof(host.reserved));
	plan(&host, &wish, &d);
	cr_expect_eq(d.result, 0);
	cr_expect_eq(d.pool.range_count, POOL_RANGES_MAX);
	expect_words(d.warning, "ports=auto stops before port 33281");
}

Test(preflight, ranges_are_sorted_and_adjacent_ones_become_one)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports[] = { { 50000, 50009 },
		{ 40010, 40010 }, { 40000, 40009 }, { 40012, 40012 } };
	const struct pool_range expected[] = {
		{ 40000, 40010, POOL_RANGE },
		{ 40012, 40012, POOL_RANGE },
		{ 50000, 50009, POOL_RANGE },
	};
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, ports, ARRAY_LEN(ports), &d);
	expect_ranges(&d, expected, ARRAY_LEN(expected));
	cr_expect_str_empty(d.warning);
	plan_ports(&host, PREFLIGHT_RANGE, ports, ARRAY_LEN(ports), &d);
	expect_ranges(&d, expected, ARRAY_LEN(expected));
}

Test(preflight, the_first_and_last_ports_of_all_are_ports)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports[] = { { 1, 65535 } };
	struct decision d;

	host.port_first = 1;
	host.port_last = 65535;
	plan_ports(&host, PREFLIGHT_RANGE, ports, 1, &d);
	expect_range(&d, 1, 65535, POOL_RANGE);
	cr_expect_eq(d.pool.ports, 65535);
}

Test(preflight, ranges_that_overlap_are_refused)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports[] = { { 33000, 33001 },
		{ 40000, 40100 }, { 40100, 40200 } };
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, ports, ARRAY_LEN(ports), &d);
	expect_error(&d, "ports 40000-40100 and 40100-40200 overlap");
}

Test(preflight, ranges_that_are_none_are_refused)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports zero = { 0, 10 }, turned = { 9, 8 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, &zero, 1, &d);
	expect_error(&d, "ports 0-10 are none");
	plan_ports(&host, PREFLIGHT_AUTO, &turned, 1, &d);
	expect_error(&d, "ports 9-8 are none");
}

Test(preflight, too_many_ranges_are_refused)
{
	struct preflight_host host = fresh_host();
	struct preflight_ports ports[POOL_RANGES_MAX + 1];
	struct decision d;

	for (size_t i = 0; i < ARRAY_LEN(ports); i++)
		ports[i].first = ports[i].last = (uint16_t)(40000 + 2 * i);
	plan_ports(&host, PREFLIGHT_AUTO, ports, ARRAY_LEN(ports), &d);
	expect_error(&d, "more than 256 ranges");
	plan_ports(&host, PREFLIGHT_AUTO, ports, POOL_RANGES_MAX, &d);
	cr_expect_eq(d.result, 0);
}

Test(preflight, an_own_listening_port_is_refused_however_bound)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 40000, 40010 };
	const uint16_t own[] = { 1080, 40010 };
	struct preflight_wish wish = { .ports = &ports,
		.port_count = 1,
		.own_ports = own,
		.own_port_count = 2 };
	struct decision d;

	for (int bind = PREFLIGHT_AUTO; bind <= PREFLIGHT_EXPLICIT; bind++) {
		wish.bind = (enum preflight_bind)bind;
		plan(&host, &wish, &d);
		expect_error(&d, "port 40010 is one that");
	}
}

Test(preflight, ports_that_take_privileges_are_refused)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 1000, 1030 };
	struct decision d;

	host.unprivileged_first = 1024;
	plan_ports(&host, PREFLIGHT_AUTO, &ports, 1, &d);
	expect_error(&d, "ports 1000-1023 are below");
	expect_error(&d, "sysctl -w net.ipv4.ip_unprivileged_port_start=1000");
	host.unprivileged_first = 1000;
	plan_ports(&host, PREFLIGHT_AUTO, &ports, 1, &d);
	expect_range(&d, 1000, 1030, POOL_EXPLICIT);
}

Test(preflight, range_outside_the_hosts_is_refused_with_the_sysctl)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports low = { 20000, 40000 };
	const struct preflight_ports high = { 60000, 61005 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_RANGE, &low, 1, &d);
	expect_error(&d, "ports 20000-32767, outside"
			 " net.ipv4.ip_local_port_range (32768-60999)");
	expect_error(&d, "this mends it: sysctl -w"
			 " net.ipv4.ip_local_port_range=\"20000 60999\"");
	plan_ports(&host, PREFLIGHT_RANGE, &high, 1, &d);
	expect_error(&d, "ports 61000-61005,");
	expect_error(&d, "=\"32768 61005\"");
}

Test(preflight, auto_takes_explicit_outside_the_hosts_range_and_warns)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports low = { 20000, 40000 };
	const struct pool_range expected[] = {
		{ 20000, 32767, POOL_EXPLICIT },
		{ 32768, 40000, POOL_RANGE },
	};
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, &low, 1, &d);
	expect_ranges(&d, expected, ARRAY_LEN(expected));
	expect_words(d.warning, "egress main: ports 20000-32767 are outside");
	expect_words(d.warning,
	    "this mends it: sysctl -w"
	    " net.ipv4.ip_local_port_range=\"20000 60999\"");
}

Test(preflight, reserved_ports_are_refused_by_range_with_the_sysctl)
{
	struct preflight_host host = reserving_host("8080,40005-40020,50000");
	const struct preflight_ports ports = { 40000, 40010 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_RANGE, &ports, 1, &d);
	expect_error(&d, "ports 40005-40010, which are in"
			 " net.ipv4.ip_local_reserved_ports");
	expect_error(&d,
	    "this mends it: sysctl -w"
	    " net.ipv4.ip_local_reserved_ports=\"8080,40011-40020,50000\"");
}

Test(preflight, auto_takes_explicit_for_reserved_ports_and_warns)
{
	struct preflight_host host = reserving_host("40005-40020");
	const struct preflight_ports ports = { 40000, 40010 };
	const struct pool_range expected[] = {
		{ 40000, 40004, POOL_RANGE },
		{ 40005, 40010, POOL_EXPLICIT },
	};
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, &ports, 1, &d);
	expect_ranges(&d, expected, ARRAY_LEN(expected));
	expect_words(d.warning, "ports 40005-40010 are in"
				" net.ipv4.ip_local_reserved_ports");
	expect_words(
	    d.warning, "net.ipv4.ip_local_reserved_ports=\"40011-40020\"");
}

Test(preflight, a_list_too_long_for_a_command_becomes_words)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 40000, 41000 };
	struct decision d;

	memset(host.reserved, 0x55, sizeof(host.reserved));
	plan_ports(&host, PREFLIGHT_RANGE, &ports, 1, &d);
	expect_error(&d, ",...");
	expect_error(&d, "edit the list");
}

Test(preflight, an_old_kernel_binds_explicitly)
{
	struct preflight_host host = old_host();
	const struct preflight_ports ports = { 20000, 20009 };
	struct preflight_wish wish = { 0 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_RANGE, &ports, 1, &d);
	expect_error(&d, "Linux 6.3");
	plan_ports(&host, PREFLIGHT_AUTO, &ports, 1, &d);
	expect_range(&d, 20000, 20009, POOL_EXPLICIT);
	expect_words(d.warning, "no IP_LOCAL_PORT_RANGE");
	plan(&host, &wish, &d);
	expect_range(&d, 32768, 60999, POOL_EXPLICIT);
	host = fresh_host();
	host.no_port_option = false;
	plan_ports(&host, PREFLIGHT_RANGE, &ports, 1, &d);
	expect_error(&d, "this kernel refuses");
}

Test(preflight, explicit_is_taken_as_said)
{
	struct preflight_host host = reserving_host("40000-40009");
	const struct preflight_ports apart = { 20000, 20009 };
	const struct preflight_ports reserved = { 40000, 40009 };
	const struct preflight_ports shared = { 40008, 40012 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_EXPLICIT, &apart, 1, &d);
	expect_range(&d, 20000, 20009, POOL_EXPLICIT);
	cr_expect_str_empty(d.warning);
	plan_ports(&host, PREFLIGHT_EXPLICIT, &reserved, 1, &d);
	expect_range(&d, 40000, 40009, POOL_EXPLICIT);
	cr_expect_str_empty(d.warning);
	plan_ports(&host, PREFLIGHT_EXPLICIT, &shared, 1, &d);
	expect_range(&d, 40008, 40012, POOL_EXPLICIT);
	expect_words(d.warning, "explicit ports 40010-40012 are in");
	expect_words(
	    d.warning, "net.ipv4.ip_local_reserved_ports=\"40000-40012\"");
}

Test(preflight, kernel_leaves_the_port_to_the_kernel)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 40000, 40000 };
	struct preflight_wish wish = { .bind = PREFLIGHT_KERNEL };
	struct decision d;

	plan(&host, &wish, &d);
	cr_assert_eq(d.result, 0);
	cr_expect(d.pool.by_kernel);
	cr_expect_eq(d.pool.range_count, 0);
	cr_expect_eq(d.pool.source_count, 2);
	plan_ports(&host, PREFLIGHT_KERNEL, &ports, 1, &d);
	expect_error(&d, "leave out ports=");
}

static struct prefix
parse_prefix(const char *text)
{
	struct prefix p;

	cr_assert_eq(prefix_parse(text, &p), 0, "%s", text);
	return p;
}

static void
plan_addresses(const char *one, const char *two, struct decision *d)
{
	struct preflight_host host = fresh_host();
	struct prefix list[2] = { parse_prefix(one) };
	struct preflight_wish wish = { .addresses = list, .address_count = 1 };

	if (two != NULL)
		list[wish.address_count++] = parse_prefix(two);
	plan(&host, &wish, d);
}

Test(preflight, addresses_become_sources)
{
	struct decision d;

	plan_addresses("192.0.2.10", "2001:db8::/120", &d);
	cr_assert_eq(d.result, 0);
	cr_expect_eq(d.pool.source_count, 2);
	cr_expect_eq(d.pool.sources[0].count, 1);
	cr_expect_eq(d.pool.sources[1].count, 256);
	plan_addresses("0.0.0.0", NULL, &d);
	cr_assert_eq(d.result, 0);
	cr_expect_eq(pool_slots(&d.pool, ADDR_V6), 0);
}

Test(preflight, addresses_that_overlap_are_refused)
{
	struct decision d;

	plan_addresses("192.0.2.0/24", "192.0.2.9", &d);
	expect_error(&d, "192.0.2.0/24 and 192.0.2.9/32 overlap");
	plan_addresses("0.0.0.0", "192.0.2.9", &d);
	expect_error(&d, "192.0.2.9/32 and an unspecified one");
	plan_addresses("::/64", NULL, &d);
	expect_error(&d, "::/64 cannot be source addresses");
}

Test(preflight, all_that_is_wrong_is_told_a_line_each)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 20000, 20009 };
	struct prefix list[2] = { parse_prefix("192.0.2.0/24"),
		parse_prefix("192.0.2.9") };
	struct preflight_wish wish = { .addresses = list,
		.address_count = 2,
		.ports = &ports,
		.port_count = 1,
		.bind = PREFLIGHT_RANGE };
	struct decision d;

	plan(&host, &wish, &d);
	expect_error(&d, "bind=range cannot have ports 20000-20009");
	expect_error(&d, "\negress main: addresses 192.0.2.0/24 and");
}

Test(preflight, each_warning_has_its_line)
{
	struct preflight_host host = reserving_host("32769");
	const struct preflight_ports ports = { 32767, 32769 };
	struct decision d;

	plan_ports(&host, PREFLIGHT_AUTO, &ports, 1, &d);
	cr_assert_eq(d.result, 0);
	expect_words(d.warning, "egress main: ports 32767 are outside");
	expect_words(d.warning, "\negress main: ports 32769 are in");
}

Test(preflight, too_many_addresses_are_refused)
{
	struct preflight_host host = fresh_host();
	struct prefix list[POOL_SOURCES_MAX + 1];
	struct preflight_wish wish = { .addresses = list,
		.address_count = ARRAY_LEN(list) };
	struct decision d;

	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		list[i] = (struct prefix){
			.base = addr_v4(0x0a000000 + (uint32_t)i, 0), .bits = 32
		};
	plan(&host, &wish, &d);
	expect_error(&d, "more than 256 entries");
}

Test(preflight, a_small_buffer_cuts_the_sentence)
{
	struct preflight_host host = fresh_host();
	const struct preflight_ports ports = { 20000, 20009 };
	struct preflight_wish wish = { .name = "a-long-name",
		.ports = &ports,
		.port_count = 1,
		.bind = PREFLIGHT_RANGE };
	struct pool pool;
	char error[16], warning[16];

	for (size_t size = 1; size <= sizeof(error); size++) {
		wish.bind = PREFLIGHT_RANGE;
		cr_expect_eq(
		    preflight_plan(&host, &wish, &pool, error, warning, size),
		    -EINVAL);
		cr_expect_eq(strlen(error), size - 1);
		wish.bind = PREFLIGHT_AUTO;
		cr_expect_eq(
		    preflight_plan(&host, &wish, &pool, error, warning, size),
		    0);
		cr_expect_eq(strlen(warning), size - 1);
	}
}

Test(preflight, lists_of_ports_are_parsed)
{
	static uint8_t bits[PREFLIGHT_PORT_BYTES];
	static const char *const wrong[] = { "x", "1,,2", "65536", "1-", "-1",
		"1 2", "99999999999", "1-2-3" };
	unsigned count = 0;

	cr_expect_eq(preflight_parse_ports("0,7-9,65535\n", bits), 0);
	cr_expect_eq(bits[0], 0x81);
	cr_expect_eq(bits[1], 0x03);
	cr_expect_eq(bits[PREFLIGHT_PORT_BYTES - 1], 0x80);
	for (size_t i = 0; i < sizeof(bits); i++)
		count += (unsigned)__builtin_popcount(bits[i]);
	cr_expect_eq(count, 5);
	cr_expect_eq(preflight_parse_ports("\n", bits), 0);
	cr_expect_eq(bits[0], 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		cr_expect_eq(preflight_parse_ports(wrong[i], bits), -EINVAL,
		    "%s", wrong[i]);
}

Test(preflight, lists_of_ports_are_written_as_they_are_read)
{
	static const char *const lists[] = { "", "1", "0,7-9,65535", "1-65535",
		"40000-40001,40003" };
	static uint8_t bits[PREFLIGHT_PORT_BYTES];
	char text[32];

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		cr_assert_eq(preflight_parse_ports(lists[i], bits), 0);
		cr_expect(preflight_format_ports(bits, text, sizeof(text)));
		cr_expect_str_eq(text, lists[i]);
	}
	memset(bits, 0x55, sizeof(bits));
	cr_expect_not(preflight_format_ports(bits, text, 24));
	cr_expect_str_eq(text, "0,2,4,6,8,...");
}

/* In a namespace of its own: 0 or the number of the check that failed. */
static void
expect_in_namespace(const char *const *setup, int (*body)(void))
{
	int result = netns_run(setup, body);

	if (result == NETNS_NONE)
		cr_skip_test("no network namespace (or no ip) to be had here");
	cr_expect_eq(result, 0, "check %d did not hold", result);
}

#define SYSCTL(name) " > /proc/sys/net/ipv4/" name

static int
make_pool(const struct preflight_wish *wish, char *error)
{
	struct preflight_host host;
	struct pool pool;
	char warning[TEXT_SIZE];

	preflight_read(&host);
	return preflight_pool(&host, wish, &pool, error, warning, TEXT_SIZE);
}

/* Runs what the sentence says mends it. */
static bool
mend(const char *error)
{
	static const char words[] = "this mends it: ";
	const char *command = strstr(error, words);

	return command != NULL && system(command + strlen(words)) == 0;
}

/* Refused, mended by the command in the sentence, then taken. */
static bool
mends_itself(const struct preflight_wish *wish, const char *sysctl)
{
	char error[TEXT_SIZE];

	if (make_pool(wish, error) != -EINVAL)
		return false;
	if (strstr(error, sysctl) == NULL || !mend(error))
		return false;
	return make_pool(wish, error) == 0;
}

static bool
address_mends_itself(const char *text, const char *words)
{
	struct prefix p;
	struct preflight_wish wish = {
		.name = "main", .addresses = &p, .address_count = 1
	};

	return prefix_parse(text, &p) == 0 && mends_itself(&wish, words);
}

static bool
address_is_taken(const char *text)
{
	struct prefix p;
	struct preflight_wish wish = {
		.name = "main", .addresses = &p, .address_count = 1
	};
	char error[TEXT_SIZE];

	return prefix_parse(text, &p) == 0 && make_pool(&wish, error) == 0;
}

static int
addresses_are_tried(void)
{
	if (!address_is_taken("127.0.0.1") || !address_is_taken("::1"))
		return 1;
	if (!address_is_taken("127.1.0.0/16") || !address_is_taken("::"))
		return 2;
	if (!address_mends_itself(
		"192.0.2.10", "192.0.2.10 is not an address of this host"))
		return 3;
	if (!address_mends_itself(
		"198.51.100.0/24", "not all of 198.51.100.0/24 is local"))
		return 4;
	if (!address_mends_itself("2001:db8::/64", "ip -6 route add local"))
		return 5;
	/* One of the prefix: bind() wants IPV6_FREEBIND for it. */
	if (!address_is_taken("2001:db8::1234"))
		return 6;
	if (address_is_taken("2001:db8:1::1"))
		return 7;
	/* bind() would take these, and connect() another source. */
	if (!address_mends_itself("127.255.255.255",
		"127.255.255.255 of 127.255.255.255/32 is a broadcast address"))
		return 8;
	return 0;
}

Test(preflight, an_address_that_is_not_local_names_the_command)
{
	static const char *const setup[] = { NULL };

	expect_in_namespace(setup, addresses_are_tried);
}

Test(preflight, an_ipv6_address_names_the_command)
{
	struct preflight_host host = fresh_host();
	struct prefix p = parse_prefix("2001:db8::1");
	struct preflight_wish wish = {
		.name = "main", .addresses = &p, .address_count = 1
	};
	struct decision d;

	d.result = preflight_pool(
	    &host, &wish, &d.pool, d.error, d.warning, TEXT_SIZE);
	cr_expect_eq(d.result, -EINVAL);
	/* A host without IPv6 has other words for it. */
	expect_words(d.error, "egress main: 2001:db8::1 ");
}

/* A whole network on lo is local, and its last address a broadcast one. */
static int
prefixes_have_no_broadcast(void)
{
	if (!address_mends_itself("10.9.0.0/16", "10.9.255.255 of 10.9.0.0/16"))
		return 1;
	return address_is_taken("10.9.0.0/16") ? 0 : 2;
}

Test(preflight, a_prefix_with_a_broadcast_address_names_the_command)
{
	static const char *const setup[] = {
		"ip address add 10.9.0.1/16 broadcast + dev lo",
		NULL,
	};

	expect_in_namespace(setup, prefixes_have_no_broadcast);
}

Test(preflight, of_many_wrong_addresses_some_are_told_and_the_rest_counted)
{
	struct preflight_host host = fresh_host();
	struct prefix list[20];
	struct preflight_wish wish = { .name = "main",
		.addresses = list,
		.address_count = ARRAY_LEN(list) };
	struct decision d;

	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		list[i] = (struct prefix){
			.base = addr_v4(0xcb007101 + (uint32_t)i, 0), .bits = 32
		};
	d.result = preflight_pool(
	    &host, &wish, &d.pool, d.error, d.warning, TEXT_SIZE);
	cr_expect_eq(d.result, -EINVAL);
	expect_words(d.error, "egress main: 203.0.113.1 is not an address");
	expect_words(d.error, "\negress main: 203.0.113.8 is not an address");
	cr_expect_null(strstr(d.error, "203.0.113.9 "));
	expect_words(d.error, "\negress main: and 12 more of addresses=");
}

static int
ports_are_mended(void)
{
	const struct preflight_ports low = { 20000, 20009 };
	const struct preflight_ports privileged = { 900, 900 };
	const struct preflight_ports held = { 40000, 40009 };
	struct preflight_wish wish = { .name = "main",
		.ports = &low,
		.port_count = 1,
		.bind = PREFLIGHT_RANGE };

	if (!mends_itself(&wish, "ip_local_port_range"))
		return 1;
	wish.ports = &held;
	if (!mends_itself(&wish, "ip_local_reserved_ports"))
		return 2;
	wish.ports = &privileged;
	wish.bind = PREFLIGHT_EXPLICIT;
	if (!mends_itself(&wish, "ip_unprivileged_port_start"))
		return 3;
	/* ... and then the range can be widened to it. */
	wish.bind = PREFLIGHT_RANGE;
	return mends_itself(&wish, "ip_local_port_range") ? 0 : 4;
}

Test(preflight, the_sysctl_that_is_named_mends_it)
{
	static const char *const setup[] = {
		"test -n \"$(command -v sysctl)\"",
		"echo 39990-40020" SYSCTL("ip_local_reserved_ports"),
		NULL,
	};
	struct preflight_host host;

	preflight_read(&host);
	if (!host.range_option)
		cr_skip_test("this kernel has no IP_LOCAL_PORT_RANGE");
	expect_in_namespace(setup, ports_are_mended);
}
