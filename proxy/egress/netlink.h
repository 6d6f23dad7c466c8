/* SPDX-License-Identifier: ISC */
/*
 * netlink: asks the kernel for a table and reads the answer, message by
 * message. It knows nothing of what is in them.
 */
#ifndef FOURFOLD_NETLINK_H
#define FOURFOLD_NETLINK_H

#include <linux/netlink.h>

#include "base/base.h"

/* A descriptor, or a negative errno. One for each dump: what a broken-off one
 * left must not be read by the next. */
MUST_USE int netlink_open(int protocol);

/* A negative errno ends the dump. */
typedef int netlink_take(struct nlmsghdr *message, void *arg);

/*
 * Sends `request` and gives each message of the answer to `take`, the end
 * aside. 0, a negative errno, or -ESTALE: all was read, but the table changed
 * meanwhile.
 */
MUST_USE int netlink_dump(
    int fd, const struct nlmsghdr *request, netlink_take *take, void *arg);

#endif
