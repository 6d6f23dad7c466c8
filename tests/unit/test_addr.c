/* SPDX-License-Identifier: ISC */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/addr.h"

/* Each part is fine, but it is more than ADDR_TEXT_MAX. */
#define TOO_LONG                                    \
	"[1111:2222:3333:4444:5555:6666:7777:8888%" \
	"00000000000000000000000000000000001]:80"

static struct addr
ip_of(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse_ip(text, &a), 0, "%s", text);
	return a;
}

static struct prefix
prefix_of(const char *text)
{
	struct prefix p;

	cr_assert_eq(prefix_parse(text, &p), 0, "%s", text);
	return p;
}

Test(addr, what_is_formatted_parses_back)
{
	static const char *const texts[] = { "1.2.3.4:80", "0.0.0.0:0",
		"255.255.255.255:65535", "[::1]:80", "[::]:0",
		"[2001:db8::1]:443", "[fe80::1%3]:80", "[::ffff:1.2.3.4]:80",
		"[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct addr a, b;
		char text[ADDR_TEXT_MAX];

		memset(&a, 0xa5, sizeof(a));
		cr_assert_eq(addr_parse(texts[i], &a), 0, "%s", texts[i]);
		cr_expect_str_eq(addr_format(&a, text), texts[i]);
		cr_assert_eq(addr_parse(text, &b), 0);
		cr_expect(addr_equal(&a, &b));
	}
}

Test(addr, addresses_without_port_parse_and_format)
{
	static const char *const texts[] = { "1.2.3.4", "::1",
		"2001:db8::", "fe80::1%7", "::ffff:1.2.3.4" };
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct addr a = ip_of(texts[i]);

		cr_expect_str_eq(addr_format_ip(&a, text), texts[i]);
		cr_expect_eq(a.port, 0);
	}
}

Test(addr, no_address_is_a_dash)
{
	struct addr none = { 0 };
	char text[ADDR_TEXT_MAX];

	cr_expect_str_eq(addr_format(&none, text), "-");
	cr_expect_str_eq(addr_format_ip(&none, text), "-");
}

Test(addr, what_is_no_address_with_port_is_refused)
{
	static const char *const bad[] = { "", ":", ":80", "1.2.3.4",
		"1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+1",
		"1.2.3.4: 80", "1.2.3.4:80 ", " 1.2.3.4:80", "1.2.3.4:0x50",
		"1.2.3.4:000080", "1.2.3.4:99999", "1.2.3:80", "1.2.3.4.5:80",
		"256.1.1.1:80", "01.2.3.4:80", "::1", "::1:80", "[::1]", "[::1",
		"[::1:80", "::1]:80", "[]:80", "[:80", "[1.2.3.4]:80",
		"[[::1]]:80", "[::1]]:80", "[::1]x:80", "[::1]:", "[::g]:80",
		"[1:2:3:4:5:6:7]:80", "[fe80::1%]:80", "[fe80::1%-1]:80",
		"[fe80::1% 1]:80", "[fe80::1%1x]:80", "[fe80::1%4294967296]:80",
		"[fe80::1%no-such-card]:80", "localhost:80", "*:80", TOO_LONG };
	struct addr a, before;

	memset(&a, 0xa5, sizeof(a));
	memcpy(&before, &a, sizeof(a));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(addr_parse(bad[i], &a), -EINVAL, "%s", bad[i]);
	cr_expect(addr_equal(&a, &before), "written on failure");
}

Test(addr, what_is_no_address_is_refused)
{
	static const char *const bad[] = { "", "1.2.3", "1.2.3.4 ", "[::1]",
		"::1%", "1.2.3.4%1", "::1/128", "1.2.3.4:80", "::1::2", "%1",
		"12345::" };
	struct addr a;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(addr_parse_ip(bad[i], &a), -EINVAL, "%s", bad[i]);
}

Test(addr, a_scope_may_be_the_name_of_an_interface)
{
	struct addr lo = ip_of("fe80::1%lo"), one = ip_of("fe80::1%1");

	cr_expect(addr_equal(&lo, &one));
}

Test(addr, sockaddrs_go_both_ways)
{
	static const char *const texts[] = { "1.2.3.4:80", "[2001:db8::1]:443",
		"[fe80::1%3]:65535" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct sockaddr_storage ss;
		struct addr a, b;
		socklen_t len;

		memset(&ss, 0xa5, sizeof(ss));
		cr_assert_eq(addr_parse(texts[i], &a), 0);
		len = addr_to_sockaddr(&a, &ss);
		cr_expect_eq(len, a.family == ADDR_V4
				      ? sizeof(struct sockaddr_in)
				      : sizeof(struct sockaddr_in6));
		cr_expect_eq(ss.ss_family, addr_domain(&a));
		memset(&b, 0xa5, sizeof(b));
		cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&ss, &b), 0);
		cr_expect(addr_equal(&a, &b), "%s", texts[i]);
	}
}

Test(addr, a_sockaddr_is_in_network_order)
{
	struct sockaddr_storage ss;
	struct sockaddr_in in;
	struct addr a = addr_v4(0xc0000201, 0x1234);

	cr_assert_eq(addr_to_sockaddr(&a, &ss), sizeof(in));
	memcpy(&in, &ss, sizeof(in));
	cr_expect_arr_eq(&in.sin_addr, "\xc0\x00\x02\x01", 4);
	cr_expect_arr_eq(&in.sin_port, "\x12\x34", 2);
}

Test(addr, other_families_are_refused)
{
	struct sockaddr sa = { .sa_family = AF_UNIX };
	struct addr a;

	cr_expect_eq(addr_from_sockaddr(&sa, &a), -EAFNOSUPPORT);
	sa.sa_family = AF_UNSPEC;
	cr_expect_eq(addr_from_sockaddr(&sa, &a), -EAFNOSUPPORT);
}

Test(addr, equality_is_of_all_or_of_the_ip)
{
	struct addr a = addr_v4(0x01020304, 1), b = addr_v4(0x01020304, 2);
	struct addr c = addr_v4(0x01020305, 1);
	struct addr v6 = ip_of("::1"), scoped = ip_of("::1%2");

	cr_expect(addr_equal(&a, &a));
	cr_expect_not(addr_equal(&a, &b));
	cr_expect(addr_equal_ip(&a, &b));
	cr_expect_not(addr_equal_ip(&a, &c));
	cr_expect_not(addr_equal_ip(&v6, &scoped));
	cr_expect_not(addr_equal_ip(&v6, &a));
}

/* Every pattern of zero groups, and what looks like IPv4 in IPv6. */
Test(addr, ipv6_is_written_as_the_library_does)
{
	static const uint16_t fillers[] = { 0x1, 0xab, 0xfff, 0xffff };
	char text[ADDR_TEXT_MAX], expected[INET6_ADDRSTRLEN];

	for (unsigned zeros = 0; zeros < 256; zeros++) {
		for (size_t f = 0; f < ARRAY_LEN(fillers); f++) {
			struct addr a = { .family = ADDR_V6 };

			for (unsigned i = 0; i < 8; i++) {
				if (zeros >> i & 1)
					continue;
				a.ip[2 * i] = (uint8_t)(fillers[f] >> 8);
				a.ip[2 * i + 1] = (uint8_t)fillers[f];
			}
			cr_assert_not_null(inet_ntop(
			    AF_INET6, a.ip, expected, sizeof(expected)));
			cr_expect_str_eq(
			    addr_format_ip(&a, text), expected, "%s", text);
		}
	}
}

Test(addr, the_longest_address_fits)
{
	struct addr a = {
		.family = ADDR_V6, .scope = UINT32_MAX, .port = 65535
	};
	char text[ADDR_TEXT_MAX];

	memset(a.ip, 0xff, sizeof(a.ip));
	cr_expect_str_eq(addr_format(&a, text),
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
}

Test(addr, prefixes_parse_and_format)
{
	static const char *const texts[] = { "10.0.0.0/8", "0.0.0.0/0",
		"1.2.3.4/32", "192.0.2.128/25", "::/0", "2001:db8::/32",
		"::1/128", "2001:db8:0:8000::/49", "fe80::%2/64" };
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct prefix p;

		/* The scope stands before the length, as in a route. */
		cr_assert_eq(prefix_parse(texts[i], &p), 0, "%s", texts[i]);
		cr_expect_str_eq(prefix_format(&p, text), texts[i]);
	}
	cr_expect_eq(prefix_of("1.2.3.4").bits, 32);
	cr_expect_eq(prefix_of("::1").bits, 128);
}

Test(addr, what_is_no_prefix_is_refused)
{
	static const char *const bad[] = { "", "/", "/8", "10.0.0.0/",
		"10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/ 8",
		"10.0.0.1/8", "10.0.0.0/255.0.0.0", "10/8", "::/129", "::1/127",
		"2001:db8::1/64", "0.0.0.1/0", "192.0.2.128/24" };
	struct prefix p;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(prefix_parse(bad[i], &p), -EINVAL, "%s", bad[i]);
}

Test(addr, a_prefix_contains_what_agrees_in_its_bits)
{
	static const struct {
		const char *prefix, *ip;
		bool inside;
	} rows[] = {
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "192.0.2.128/25", "192.0.2.128", true },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "0.0.0.0/0", "255.1.2.3", true },
		{ "0.0.0.0/0", "::1", false },
		{ "::/0", "1.2.3.4", false },
		{ "::/0", "ffff::", true },
		{ "1.2.3.4", "1.2.3.4", true },
		{ "1.2.3.4", "1.2.3.5", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		{ "fe80::/10", "fe80::1%3", true },
		{ "fe80::%3/64", "fe80::1%3", true },
		{ "fe80::%3/64", "fe80::1%4", false },
		{ "::/96", "::ffff:1.2.3.4", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct prefix p = prefix_of(rows[i].prefix);
		struct addr a = ip_of(rows[i].ip);

		a.port = 80;
		cr_expect_eq(prefix_contains(&p, &a), rows[i].inside,
		    "%s in %s", rows[i].ip, rows[i].prefix);
	}
}

Test(addr, prefixes_overlap_when_one_is_inside_the_other)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} rows[] = {
		{ "10.0.0.0/8", "10.1.0.0/16", true },
		{ "10.0.0.0/8", "10.0.0.0/8", true },
		{ "10.0.0.0/9", "10.128.0.0/9", false },
		{ "0.0.0.0/0", "1.2.3.4", true },
		{ "0.0.0.0/0", "::/0", false },
		{ "2001:db8::/32", "2001:db8:1::/48", true },
		{ "2001:db8::/32", "2001:db9::/48", false },
		{ "1.2.3.4", "1.2.3.5", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct prefix a = prefix_of(rows[i].a);
		struct prefix b = prefix_of(rows[i].b);

		cr_expect_eq(prefix_overlaps(&a, &b), rows[i].overlap, "%s %s",
		    rows[i].a, rows[i].b);
		cr_expect_eq(prefix_overlaps(&b, &a), rows[i].overlap, "%s %s",
		    rows[i].b, rows[i].a);
	}
}

Test(addr, a_scoped_prefix_overlaps_the_same_without_scope)
{
	struct prefix any = prefix_of("fe80::/64");
	struct prefix two = prefix_of("fe80::%2/64");
	struct prefix three = prefix_of("fe80::%3/64");

	cr_expect(prefix_overlaps(&any, &two));
	cr_expect(prefix_overlaps(&two, &any));
	cr_expect_not(prefix_overlaps(&two, &three));
}

Test(addr, the_addresses_of_a_prefix_are_numbered)
{
	static const struct {
		const char *prefix;
		uint64_t n;
		const char *ip;
	} rows[] = {
		{ "1.2.3.4", 0, "1.2.3.4" },
		{ "10.0.0.0/8", 0, "10.0.0.0" },
		{ "10.0.0.0/8", 0xffffff, "10.255.255.255" },
		{ "192.0.2.128/25", 127, "192.0.2.255" },
		{ "192.0.2.6/31", 1, "192.0.2.7" },
		{ "0.0.0.0/0", 0xffffffff, "255.255.255.255" },
		{ "2001:db8::/64", 0x100000001, "2001:db8::1:0:1" },
		{ "2001:db8::/64", UINT64_MAX,
		    "2001:db8::ffff:ffff:ffff:ffff" },
	};
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct prefix p = prefix_of(rows[i].prefix);
		struct addr a = prefix_address(&p, rows[i].n);

		cr_expect_str_eq(addr_format_ip(&a, text), rows[i].ip);
		cr_expect(prefix_contains(&p, &a));
	}
}

static void
expect_unwrapped(const char *text, const char *unmapped, const char *unwrapped)
{
	struct addr a = ip_of(text), b;
	char out[ADDR_TEXT_MAX];

	a.port = 443;
	b = addr_unmap(&a);
	cr_expect_str_eq(
	    addr_format_ip(&b, out), unmapped, "%s: %s", text, out);
	cr_expect_eq(b.port, 443);
	b = addr_unwrap(&a);
	cr_expect_str_eq(
	    addr_format_ip(&b, out), unwrapped, "%s: %s", text, out);
	cr_expect_eq(b.port, 443);
}

Test(addr, wrapped_addresses_are_unwrapped)
{
	expect_unwrapped("1.2.3.4", "1.2.3.4", "1.2.3.4");
	expect_unwrapped("::ffff:1.2.3.4", "1.2.3.4", "1.2.3.4");
	expect_unwrapped("::ffff:0.0.0.0", "0.0.0.0", "0.0.0.0");
	expect_unwrapped("64:ff9b::1.2.3.4", "64:ff9b::102:304", "1.2.3.4");
	expect_unwrapped("2002:102:304:5::6", "2002:102:304:5::6", "1.2.3.4");
	expect_unwrapped("::1.2.3.4", "::1.2.3.4", "1.2.3.4");
	expect_unwrapped("::2", "::2", "0.0.0.2");
	expect_unwrapped("::1", "::1", "::1");
	expect_unwrapped("::", "::", "::");
	expect_unwrapped("64:ff9b:2::1", "64:ff9b:2::1", "64:ff9b:2::1");
	expect_unwrapped("2003:102:304::", "2003:102:304::", "2003:102:304::");
	expect_unwrapped("::fffe:1.2.3.4", "::fffe:102:304", "::fffe:102:304");
	expect_unwrapped("::1:0:0", "::1:0:0", "::1:0:0");
}

static void
expect_local_nat64(const char *text, const char *unwrapped)
{
	expect_unwrapped(text, text, unwrapped);
}

/* RFC 8215, with the places of RFC 6052, 2.4. */
Test(addr, a_local_translators_prefix_may_have_any_length)
{
	expect_local_nat64("64:ff9b:1::102:304", "1.2.3.4");
	expect_local_nat64("64:ff9b:1:fffe::102:304", "1.2.3.4");
	expect_local_nat64("64:ff9b:1:2:3:4:102:304", "1.2.3.4");
	expect_local_nat64("64:ff9b:1:102:3:400::", "1.2.3.4");
	expect_local_nat64("64:ff9b:1:ab01:2:304::", "1.2.3.4");
	expect_local_nat64("64:ff9b:1:abcd:1:203:400:0", "1.2.3.4");
	expect_local_nat64("64:ff9b:1::", "0.0.0.0");
	expect_local_nat64("64:ff9b:1::1", "0.0.0.1");
}

Test(addr, the_unspecified_and_loopback_are_known)
{
	static const struct {
		const char *ip;
		bool unspecified, loopback;
	} rows[] = {
		{ "0.0.0.0", true, false },
		{ "::", true, false },
		{ "0.0.0.1", false, false },
		{ "127.0.0.1", false, true },
		{ "127.255.255.255", false, true },
		{ "126.0.0.1", false, false },
		{ "::1", false, true },
		{ "::2", false, false },
		{ "7f00::1", false, false },
	};
	struct addr none = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct addr a = ip_of(rows[i].ip);

		a.port = 80;
		cr_expect_eq(addr_is_unspecified_ip(&a), rows[i].unspecified,
		    "%s", rows[i].ip);
		cr_expect_eq(
		    addr_is_loopback(&a), rows[i].loopback, "%s", rows[i].ip);
	}
	cr_expect_not(addr_is_loopback(&none));
}
