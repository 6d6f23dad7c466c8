/* SPDX-License-Identifier: ISC */
/*
 * tree: a host of a test's own making: a folder with files in the places where
 * the kernel has them.
 */
#ifndef FOURFOLD_TESTS_TREE_H
#define FOURFOLD_TESTS_TREE_H

#define TREE_PATH_MAX 64

/* An empty one; its name goes to `root`. */
void tree_make(char root[TREE_PATH_MAX]);
/* Removes it with all that is in it. */
void tree_remove(const char *root);

/* Makes root/path a file with this text, or a link to `target`; the folders
 * above it are made. */
void tree_put(const char *root, const char *path, const char *text);
void tree_link(const char *root, const char *path, const char *target);

#endif
