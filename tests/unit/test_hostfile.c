/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "egress/hostfile.h"
#include "tree.h"

Test(hostfile, the_whole_text_is_read)
{
	char root[TREE_PATH_MAX], *text;

	tree_make(root);
	tree_put(root, "/a/b", "one two\nthree\n");
	tree_put(root, "/a/empty", "");
	text = hostfile_read(root, "/a/b");
	cr_assert_not_null(text);
	cr_expect_str_eq(text, "one two\nthree\n");
	free(text);
	text = hostfile_read(root, "/a/empty");
	cr_assert_not_null(text);
	cr_expect_str_empty(text);
	free(text);
	cr_expect_null(hostfile_read(root, "/a/c"));
	tree_remove(root);
}

Test(hostfile, what_is_longer_than_any_such_file_is_cut)
{
	enum { LONG = 600 * 1024 };
	char root[TREE_PATH_MAX], *text, *much = malloc(LONG + 1);

	cr_assert_not_null(much);
	memset(much, 'x', LONG);
	much[LONG] = '\0';
	tree_make(root);
	tree_put(root, "/long", much);
	text = hostfile_read(root, "/long");
	cr_assert_not_null(text);
	cr_expect_eq(strlen(text), 512 * 1024 - 1);
	free(text);
	free(much);
	tree_remove(root);
}

Test(hostfile, a_number_is_read_or_stays_as_it_was)
{
	char root[TREE_PATH_MAX];

	tree_make(root);
	tree_put(root, "/n", "4096\n");
	tree_put(root, "/negative", "-1\n");
	tree_put(root, "/words", "many\n");
	cr_expect_eq(hostfile_number(root, "/n", 7), 4096);
	cr_expect_eq(hostfile_number(root, "/negative", 7), -1);
	cr_expect_eq(hostfile_number(root, "/words", 7), 7);
	cr_expect_eq(hostfile_number(root, "/none", 7), 7);
	tree_remove(root);
}

Test(hostfile, a_path_that_is_too_long_is_not_there)
{
	char root[HOSTFILE_PATH_MAX + 1];

	memset(root, '/', sizeof(root) - 1);
	root[sizeof(root) - 1] = '\0';
	/* Cut, it would be a folder that is there. */
	cr_expect_null(hostfile_open(root, "/proc"));
	cr_expect_eq(hostfile_number(root, "/proc/sys/fs/nr_open", 7), 7);
}

Test(hostfile, without_a_root_it_is_this_host)
{
	cr_expect_gt(hostfile_number("", "/proc/sys/fs/nr_open", 0), 0);
}
