/* SPDX-License-Identifier: ISC */
/*
 * What preflight reads of a host: of one that is made up.
 */
#include <string.h>

#include <criterion/criterion.h>

#include "egress/preflight.h"
#include "tree.h"

static bool
is_reserved(const struct preflight_host *host, uint16_t port)
{
	return host->reserved[port / 8] >> port % 8 & 1;
}

Test(preflight_host, every_file_is_read)
{
	static const struct {
		const char *path, *text;
	} files[] = {
		{ "/proc/sys/net/ipv4/ip_local_port_range", "20000\t40000\n" },
		{ "/proc/sys/net/ipv4/ip_local_reserved_ports", "20010,9\n" },
		{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n" },
		{ "/proc/sys/net/ipv4/tcp_tw_reuse", "1\n" },
		{ "/proc/sys/net/ipv4/tcp_tw_reuse_delay", "2500\n" },
		{ "/proc/sys/net/ipv4/tcp_max_tw_buckets", "5000\n" },
		{ "/proc/sys/net/ipv4/tcp_timestamps", "0\n" },
		{ "/proc/sys/net/core/somaxconn", "128\n" },
		{ "/proc/sys/net/netfilter/nf_conntrack_max", "65536\n" },
		{ "/proc/sys/fs/file-max", "9223372036854775807\n" },
		{ "/proc/sys/fs/nr_open", "2000000\n" },
		{ "/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n" },
		{ "/proc/self/limits",
		    "Limit            Soft Limit  Hard Limit  Units\n"
		    "Max processes    11          12          processes\n"
		    "Max open files   1024        524288      files\n" },
		{ "/proc/meminfo", "MemTotal:       16000000 kB\n"
				   "MemFree:         1000000 kB\n"
				   "MemAvailable:    8000000 kB\n" },
	};
	struct preflight_host host;
	char root[TREE_PATH_MAX];

	tree_make(root);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		tree_put(root, files[i].path, files[i].text);
	preflight_read_from(root, &host);
	tree_remove(root);
	cr_expect_eq(host.port_first, 20000);
	cr_expect_eq(host.port_last, 40000);
	cr_expect(is_reserved(&host, 20010) && is_reserved(&host, 9));
	cr_expect_not(is_reserved(&host, 20011));
	cr_expect_eq(host.unprivileged_first, 80);
	cr_expect_eq(host.tw_reuse, 1);
	cr_expect_eq(host.tw_reuse_ms, 2500);
	cr_expect_eq(host.tw_buckets, 5000);
	cr_expect_not(host.timestamps);
	cr_expect_eq(host.somaxconn, 128);
	cr_expect_eq(host.conntrack_max, 65536);
	cr_expect_eq(host.files_max, INT64_MAX);
	cr_expect_eq(host.files_allowed, 2000000);
	cr_expect_eq(host.files_soft, 1024);
	cr_expect_eq(host.files_hard, 524288);
	cr_expect_eq(host.memory, UINT64_C(8000000) * 1024);
	cr_expect_str_eq(host.release, "5.10.0-28-amd64");
}

Test(preflight_host, files_that_are_not_there_leave_the_kernels_defaults)
{
	struct preflight_host host;
	char root[TREE_PATH_MAX];

	memset(&host, 'x', sizeof(host));
	tree_make(root);
	preflight_read_from(root, &host);
	tree_remove(root);
	cr_expect_eq(host.port_first, 32768);
	cr_expect_eq(host.port_last, 60999);
	for (size_t i = 0; i < sizeof(host.reserved); i++)
		cr_assert_eq(host.reserved[i], 0);
	cr_expect_eq(host.unprivileged_first, 1024);
	cr_expect_eq(host.tw_reuse, 2);
	cr_expect_eq(host.tw_reuse_ms, 1000);
	cr_expect_eq(host.tw_buckets, 131072);
	cr_expect(host.timestamps);
	cr_expect_eq(host.somaxconn, 4096);
	cr_expect_eq(host.conntrack_max, -1);
	cr_expect_eq(host.files_allowed, 1048576);
	cr_expect_eq(host.files_soft, UINT64_MAX);
	cr_expect_eq(host.files_hard, UINT64_MAX);
	cr_expect_eq(host.memory, 0);
	cr_expect_str_empty(host.release);
}

Test(preflight_host, no_limit_of_descriptors_is_read_as_such)
{
	struct preflight_host host;
	char root[TREE_PATH_MAX];

	tree_make(root);
	tree_put(root, "/proc/self/limits",
	    "Max open files  4096  unlimited  files\n");
	preflight_read_from(root, &host);
	tree_remove(root);
	cr_expect_eq(host.files_soft, 4096);
	cr_expect_eq(host.files_hard, UINT64_MAX);
}

Test(preflight_host, nonsense_in_a_file_is_not_believed)
{
	static const char *const ranges[] = { "60000 20000", "1 70000", "x" };
	struct preflight_host host;
	char root[TREE_PATH_MAX];

	tree_make(root);
	tree_put(root, "/proc/sys/net/ipv4/ip_local_reserved_ports", "7,x");
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		tree_put(
		    root, "/proc/sys/net/ipv4/ip_local_port_range", ranges[i]);
		preflight_read_from(root, &host);
		cr_expect_eq(host.port_first, 32768, "%s", ranges[i]);
		cr_expect_eq(host.port_last, 60999, "%s", ranges[i]);
	}
	cr_expect_not(is_reserved(&host, 7));
	tree_remove(root);
}

Test(preflight_host, this_host_says_all_that_is_asked)
{
	struct preflight_host host;

	preflight_read(&host);
	cr_expect_gt(host.files_hard, 0);
	cr_expect_geq(host.files_hard, host.files_soft);
	cr_expect_gt(host.memory, 0);
	cr_expect_gt(host.somaxconn, 0);
	cr_expect_str_not_empty(host.release);
}
