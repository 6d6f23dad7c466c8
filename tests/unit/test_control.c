/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "service/control.h"

struct scene {
	char folder[64], path[100];
	struct config config;
	struct log log;
	FILE *errors;
	char *text;
	size_t size;
};

static struct scene *
scene_open(void)
{
	struct scene *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	strcpy_bounded(s->folder, sizeof(s->folder), "/tmp/control-XXXXXX");
	cr_assert_not_null(mkdtemp(s->folder));
	snprintf(s->path, sizeof(s->path), "%s/sock", s->folder);
	strcpy_bounded(
	    s->config.control_path, sizeof(s->config.control_path), s->path);
	s->config.control_mode = 0660;
	log_init(&s->log, memfd_create("log", MFD_CLOEXEC), LOG_LEVEL_INFO,
	    LOG_PLAIN);
	s->errors = open_memstream(&s->text, &s->size);
	return s;
}

/* The folder is empty again. */
static void
scene_close(struct scene *s)
{
	unlink(s->path);
	cr_expect_eq(rmdir(s->folder), 0, "%s", strerror(errno));
	fclose(s->errors);
	close(s->log.fd);
	free(s->text);
	free(s);
}

static bool
was_logged(struct scene *s, const char *words)
{
	char text[4096];
	ssize_t n;

	cr_assert(log_flush(&s->log));
	n = pread(s->log.fd, text, sizeof(text) - 1, 0);
	cr_assert_geq(n, 0);
	text[n] = '\0';
	return strstr(text, words) != NULL;
}

static void
open_well(struct scene *s, struct control *c, const struct control *old)
{
	cr_assert_eq(control_open(c, &s->config, old, &s->log, s->errors), 0);
	cr_assert_neq(c->fd, -1);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), error = 0;

	strcpy_bounded(un.sun_path, sizeof(un.sun_path), path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0)
		error = errno;
	close(fd);
	return error;
}

static unsigned
mode_of(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return st.st_mode & 07777;
}

Test(control, none_is_made_where_none_is_wanted)
{
	struct scene *s = scene_open();
	struct control c;

	s->config.control_path[0] = '\0';
	cr_expect_eq(control_open(&c, &s->config, NULL, &s->log, s->errors), 0);
	cr_expect_eq(c.fd, -1);
	control_close(&c, NULL);
	scene_close(s);
}

Test(control, it_listens_with_the_mode_of_the_file_and_is_removed)
{
	struct scene *s = scene_open();
	struct control c;

	umask(077);
	open_well(s, &c, NULL);
	cr_expect_eq(mode_of(s->path), 0660, "%o", mode_of(s->path));
	cr_expect_eq(connect_to(s->path), 0);
	control_close(&c, NULL);
	cr_expect_eq(access(s->path, F_OK), -1);
	scene_close(s);
}

Test(control, its_group_is_as_told)
{
	struct scene *s = scene_open();
	struct control c;
	struct stat st;

	strcpy_bounded(s->config.control_group, sizeof(s->config.control_group),
	    "no such group");
	s->config.control_asked = true;
	cr_expect_eq(
	    control_open(&c, &s->config, NULL, &s->log, s->errors), -ENOENT);
	cr_expect_eq(access(s->path, F_OK), -1);
	if (geteuid() != 0)
		cr_skip_test("only root can give a file to any group");
	strcpy_bounded(
	    s->config.control_group, sizeof(s->config.control_group), "daemon");
	open_well(s, &c, NULL);
	cr_assert_eq(stat(s->path, &st), 0);
	cr_expect_eq(st.st_gid, 1);
	cr_expect_eq(mode_of(s->path), 0660);
	control_close(&c, NULL);
	scene_close(s);
}

/* What a crash left behind: a file on which nobody listens. */
static void
leave_stale(struct scene *s)
{
	struct unixpath file;
	int fd;

	cr_assert_eq(unixpath_bind(s->path, &file, &fd), 0);
	close(fd);
	cr_assert_eq(connect_to(s->path), ECONNREFUSED);
}

Test(control, a_dead_instances_file_is_replaced)
{
	struct scene *s = scene_open();
	struct control c;

	leave_stale(s);
	open_well(s, &c, NULL);
	cr_expect_eq(connect_to(s->path), 0);
	control_close(&c, NULL);
	scene_close(s);
}

Test(control, a_living_ones_is_not_taken)
{
	struct scene *s = scene_open();
	struct control first, second;

	open_well(s, &first, NULL);
	s->config.control_asked = true;
	cr_expect_eq(
	    control_open(&second, &s->config, NULL, &s->log, s->errors),
	    -EADDRINUSE);
	fflush(s->errors);
	cr_expect_not_null(strstr(s->text, "another instance"), "%s", s->text);
	cr_expect_not_null(strstr(s->text, s->path), "%s", s->text);
	cr_expect_eq(connect_to(s->path), 0);
	control_close(&first, NULL);
	scene_close(s);
}

Test(control, another_file_stays)
{
	struct scene *s = scene_open();
	struct control c;
	int fd = open(s->path, O_CREAT | O_WRONLY, 0600);

	s->config.control_asked = true;
	cr_expect_eq(
	    control_open(&c, &s->config, NULL, &s->log, s->errors), -EEXIST);
	cr_expect_eq(access(s->path, F_OK), 0);
	close(fd);
	scene_close(s);
}

Test(control, what_nobody_asked_for_may_be_missing)
{
	struct scene *s = scene_open();
	struct control c;

	snprintf(s->config.control_path, sizeof(s->config.control_path),
	    "%s/none/sock", s->folder);
	cr_expect_eq(control_open(&c, &s->config, NULL, &s->log, s->errors), 0);
	cr_expect_eq(c.fd, -1);
	cr_expect(was_logged(s, "level=info event=control_unavailable"));
	s->config.control_asked = true;
	cr_expect_eq(
	    control_open(&c, &s->config, NULL, &s->log, s->errors), -ENOENT);
	scene_close(s);
}

Test(control, the_next_one_takes_it_over)
{
	struct scene *s = scene_open();
	struct control old, new;

	open_well(s, &old, NULL);
	s->config.control_mode = 0600;
	open_well(s, &new, &old);
	cr_expect_eq(new.fd, old.fd);
	cr_expect_eq(mode_of(s->path), 0600);
	control_close(&old, &new);
	cr_expect_eq(connect_to(s->path), 0);
	/* And the other way: the new one does not stay. */
	old = new;
	open_well(s, &new, &old);
	control_close(&new, &old);
	cr_expect_eq(connect_to(s->path), 0);
	control_close(&old, NULL);
	scene_close(s);
}

Test(control, one_at_another_path_leaves_the_old_one_until_it_is_given_up)
{
	struct scene *s = scene_open();
	struct control old, new;
	char before[100];

	open_well(s, &old, NULL);
	strcpy_bounded(before, sizeof(before), s->path);
	snprintf(s->path, sizeof(s->path), "%s/other", s->folder);
	strcpy_bounded(
	    s->config.control_path, sizeof(s->config.control_path), s->path);
	open_well(s, &new, &old);
	cr_expect_eq(connect_to(before), 0);
	control_close(&old, &new);
	cr_expect_eq(access(before, F_OK), -1);
	cr_expect_eq(connect_to(s->path), 0);
	control_close(&new, NULL);
	scene_close(s);
}

/* A file that somebody put in the place of ours is not ours to remove. */
Test(control, a_file_in_its_place_stays)
{
	struct scene *s = scene_open();
	struct control c;
	int fd;

	open_well(s, &c, NULL);
	cr_assert_eq(unlink(s->path), 0);
	fd = open(s->path, O_CREAT | O_WRONLY, 0600);
	control_close(&c, NULL);
	cr_expect_eq(access(s->path, F_OK), 0);
	close(fd);
	scene_close(s);
}
