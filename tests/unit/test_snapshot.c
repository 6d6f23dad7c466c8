/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "pairs.h"
#include "service/snapshot.h"

/* A file, what was loaded of it, and what was said. */
struct bench {
	char path[32];
	struct snapshot s;
	char *errors, *warnings;
	FILE *error_stream, *warning_stream;
	size_t error_size, warning_size;
	int fds_before;
};

static void
bench_open(struct bench *b, const char *text)
{
	int fd;

	*b = (struct bench){ .path = "/tmp/snapshot-XXXXXX" };
	b->fds_before = pairs_open_fds();
	fd = mkstemp(b->path);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	b->error_stream = open_memstream(&b->errors, &b->error_size);
	b->warning_stream = open_memstream(&b->warnings, &b->warning_size);
}

static void
bench_close(struct bench *b)
{
	snapshot_fini(&b->s);
	fclose(b->error_stream);
	fclose(b->warning_stream);
	free(b->errors);
	free(b->warnings);
	unlink(b->path);
	cr_expect_eq(pairs_open_fds(), b->fds_before, "a descriptor is left");
}

static void
expect_said(FILE *stream, char *const *text, const char *words)
{
	fflush(stream);
	cr_expect_not_null(
	    strstr(*text, words), "\"%s\" lacks \"%s\"", *text, words);
}

static void
load(struct bench *b)
{
	cr_assert_eq(snapshot_load(b->path, b->error_stream, &b->s), 0);
	cr_assert_not_null(b->s.config);
	cr_expect_null(b->s.pools);
}

static int
make_pools(struct bench *b, uint16_t own)
{
	return snapshot_make_pools(
	    &b->s, &own, own != 0, b->error_stream, b->warning_stream, NULL);
}

static bool
has_port(const struct pool *p, uint16_t port)
{
	for (size_t i = 0; i < p->range_count; i++)
		if (port >= p->ranges[i].first && port <= p->ranges[i].last)
			return true;
	return false;
}

Test(snapshot, without_a_file_it_is_the_defaults)
{
	struct bench b;

	bench_open(&b, "");
	cr_assert_eq(snapshot_load(NULL, b.error_stream, &b.s), 0);
	cr_expect_eq(b.s.config->listen_count, 1);
	cr_expect_str_eq(b.s.config->egresses[0].name, "default");
	cr_expect_neq(b.s.host.port_last, 0, "the host was not read");
	bench_close(&b);
}

Test(snapshot, an_empty_file_is_the_defaults)
{
	struct bench b;

	bench_open(&b, "");
	load(&b);
	cr_expect_eq(b.s.config->listen_count, 1);
	bench_close(&b);
}

Test(snapshot, a_file_is_read)
{
	struct bench b;

	bench_open(&b, "[proxy]\nworkers = 7\n");
	load(&b);
	cr_expect_eq(b.s.config->workers, 7);
	bench_close(&b);
}

static void
expect_control(const char *file, const char *path, const char *words)
{
	char control[CONFIG_PATH_MAX + 1], why[SNAPSHOT_WHY_MAX];

	snapshot_find_control(file, control, why);
	cr_expect_str_eq(control, path);
	cr_expect(
	    words[0] == '\0' ? why[0] == '\0' : strstr(why, words) != NULL,
	    "\"%s\" lacks \"%s\"", why, words);
	cr_expect_null(strchr(why, '\n'));
}

/* A word about it is a hint; without bind = explicit it is a warning. */
Test(snapshot, what_the_file_asks_for_is_no_warning)
{
	static const char *const files[] = {
		"[egress e]\nports = 40000\nbind = explicit\n",
		"[egress e]\nports = 40000\n",
	};
	struct bench b;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char *hints;
		size_t size;
		FILE *stream = open_memstream(&hints, &size);

		bench_open(&b, files[i]);
		load(&b);
		b.s.host.port_first = 32768;
		b.s.host.port_last = 60999;
		memset(b.s.host.reserved, 0, sizeof(b.s.host.reserved));
		b.s.host.range_option = false;
		cr_assert_eq(snapshot_make_pools(&b.s, NULL, 0, b.error_stream,
				 b.warning_stream, stream),
		    0);
		fclose(stream);
		fflush(b.warning_stream);
		cr_expect_eq(size != 0, i == 0, "%s", hints);
		cr_expect_eq(b.warning_size != 0, i == 1, "%s", b.warnings);
		free(hints);
		bench_close(&b);
	}
}

Test(snapshot, a_control_socket_is_found_though_the_file_is_wrong)
{
	static const char fallback[] = "/run/fourfold/control.sock";
	struct bench b;

	bench_open(&b, "[control]\nsocket = /a\n");
	expect_control(b.path, "/a", "");
	bench_close(&b);
	bench_open(&b, "[control]\nsocket = /a\n[proxy]\nworkers = x\ny\n");
	expect_control(b.path, "/a", "has errors");
	bench_close(&b);
	expect_control(NULL, fallback, "");
	expect_control("/nonexistent/f.conf", fallback,
	    "/nonexistent/f.conf: cannot be read: ");
	expect_control("/tmp", fallback, "/tmp: cannot be read: ");
}

/* More than is read at once. */
Test(snapshot, a_long_file_is_read_to_its_end)
{
	enum { COMMENTS = 200 * 1000 };
	struct bench b;
	char *text = malloc(COMMENTS + 64);

	cr_assert_not_null(text);
	for (size_t i = 0; i < COMMENTS; i += 2)
		memcpy(text + i, ";\n", 2);
	strcpy_bounded(text + COMMENTS, 64, "[proxy]\nworkers = 9\n");
	bench_open(&b, text);
	load(&b);
	cr_expect_eq(b.s.config->workers, 9);
	bench_close(&b);
	free(text);
}

Test(snapshot, what_cannot_be_read_is_named)
{
	struct bench b;

	bench_open(&b, "");
	cr_expect_eq(snapshot_load("/nonexistent/f.conf", b.error_stream, &b.s),
	    -ENOENT);
	expect_said(b.error_stream, &b.errors, "/nonexistent/f.conf: ");
	expect_said(b.error_stream, &b.errors, strerror(ENOENT));
	cr_expect_lt(snapshot_load("/tmp", b.error_stream, &b.s), 0);
	expect_said(b.error_stream, &b.errors, "/tmp: ");
	cr_expect_null(b.s.config);
	bench_close(&b);
}

Test(snapshot, what_is_too_big_is_not_read)
{
	struct bench b;

	bench_open(&b, "");
	cr_assert_eq(truncate(b.path, 17 * 1024 * 1024), 0);
	cr_expect_eq(snapshot_load(b.path, b.error_stream, &b.s), -EFBIG);
	expect_said(b.error_stream, &b.errors, b.path);
	bench_close(&b);
}

Test(snapshot, errors_of_the_file_have_its_name_and_their_line)
{
	struct bench b;
	char where[64];

	bench_open(&b, "[proxy]\nworkers = many\n\nunknown = 1\n");
	cr_expect_eq(snapshot_load(b.path, b.error_stream, &b.s), -EINVAL);
	snprintf(where, sizeof(where), "%s:2: ", b.path);
	expect_said(b.error_stream, &b.errors, where);
	snprintf(where, sizeof(where), "%s:4: ", b.path);
	expect_said(b.error_stream, &b.errors, where);
	cr_expect_null(b.s.config);
	bench_close(&b);
}

Test(snapshot, own_ports_are_not_in_a_pool_of_the_hosts_range)
{
	struct bench b;
	uint16_t own;

	bench_open(&b, "");
	load(&b);
	own = b.s.host.port_first;
	cr_assert_eq(make_pools(&b, own), 0);
	cr_expect_not(has_port(&b.s.pools[0], own));
	cr_expect(has_port(&b.s.pools[0], (uint16_t)(own + 1)));
	/* Again, as after a reload. */
	cr_assert_eq(make_pools(&b, 0), 0);
	cr_expect(has_port(&b.s.pools[0], own));
	bench_close(&b);
}

Test(snapshot, an_own_port_in_a_named_pool_is_an_error)
{
	struct bench b;

	bench_open(&b, "[egress out]\nports = 40000-40009\n");
	load(&b);
	cr_expect_eq(make_pools(&b, 40005), -EINVAL);
	expect_said(b.error_stream, &b.errors, "[egress out] ");
	expect_said(b.error_stream, &b.errors, "40005");
	cr_expect_eq(make_pools(&b, 40010), 0);
	bench_close(&b);
}

/* What the file alone does not show: its "auto" is this host's range. */
Test(snapshot, pools_that_overlap_are_named)
{
	struct preflight_host host;
	struct bench b;
	char text[256];

	preflight_read(&host);
	snprintf(text, sizeof(text),
	    "[egress one]\naddresses = 127.0.0.1\n"
	    "[egress two]\naddresses = 127.0.0.0/30\nports = %u\n"
	    "[egress three]\naddresses = 127.0.0.2\nports = %u\n",
	    host.port_last, host.port_last - 1u);
	bench_open(&b, text);
	load(&b);
	cr_expect_eq(make_pools(&b, 0), -EINVAL);
	expect_said(b.error_stream, &b.errors, "[egress one]");
	expect_said(b.error_stream, &b.errors, "[egress two]");
	cr_expect_null(strstr(b.errors, "three"), "%s", b.errors);
	bench_close(&b);
}

/* By range where the host has it: the kernel has no room for both. */
Test(snapshot, pools_that_bind_a_port_in_two_ways_are_named)
{
	struct preflight_host host;
	struct bench b;
	char text[256];

	preflight_read(&host);
	snprintf(text, sizeof(text),
	    "[egress one]\naddresses = 127.0.0.1\nports = %u\n"
	    "[egress two]\naddresses = 127.0.0.2\nports = %u\n"
	    "bind = explicit\n",
	    host.port_last, host.port_last);
	bench_open(&b, text);
	load(&b);
	if (make_pools(&b, 0) == 0) {
		cr_expect_eq(b.s.pools[0].ranges[0].bind, POOL_EXPLICIT);
	} else {
		expect_said(b.error_stream, &b.errors, "[egress one] and [");
		expect_said(b.error_stream, &b.errors, "explicitly");
	}
	bench_close(&b);
}

Test(snapshot, each_egress_that_cannot_be_is_named)
{
	struct bench b;

	bench_open(&b,
	    "[egress good]\naddresses = 127.0.0.1\nports = 40000\n"
	    "[egress far]\naddresses = 192.0.2.1\nports = 40000\n"
	    "[egress farther]\naddresses = 198.51.100.1\nports = 40000\n");
	load(&b);
	cr_expect_eq(make_pools(&b, 0), -EINVAL);
	expect_said(b.error_stream, &b.errors, "[egress far] ");
	expect_said(b.error_stream, &b.errors, "[egress farther] ");
	cr_expect_null(strstr(b.errors, "good"), "%s", b.errors);
	bench_close(&b);
}

Test(snapshot, each_way_to_bind_is_what_the_file_says)
{
	static const struct {
		const char *text;
		bool by_kernel;
		uint8_t bind;
	} ways[] = {
		{ "[egress e]\nports = 40000\nbind = kernel\n", true, 0 },
		{ "[egress e]\nports = 40000\nbind = explicit\n", false,
		    POOL_EXPLICIT },
	};

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		struct bench b;

		bench_open(&b, ways[i].text);
		load(&b);
		if (make_pools(&b, 0) == 0) {
			const struct pool *p = &b.s.pools[0];

			cr_expect_eq(p->by_kernel, ways[i].by_kernel);
			cr_expect(
			    p->by_kernel || p->ranges[0].bind == ways[i].bind);
		} else {
			expect_said(b.error_stream, &b.errors, "[egress e] ");
		}
		bench_close(&b);
	}
}
