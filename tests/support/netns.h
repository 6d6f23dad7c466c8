/* SPDX-License-Identifier: ISC */
/*
 * netns: runs a piece of a test in a child in a network namespace of its own,
 * where it is root over addresses, routes and sysctls.
 */
#ifndef FOURFOLD_TEST_NETNS_H
#define FOURFOLD_TEST_NETNS_H

/* There is no namespace to be had, or no ip command. */
#define NETNS_NONE 126
/* The child died of a signal (an assertion, a sanitizer). */
#define NETNS_DIED 127

/*
 * With lo up and the commands of `setup` (ended by NULL) done, runs `body` and
 * returns what it returned: 0 when all was well, below 126 otherwise.
 */
int netns_run(const char *const *setup, int (*body)(void));

#endif
