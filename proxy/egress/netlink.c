/* SPDX-License-Identifier: ISC */
#include "egress/netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* The kernel fills what the reader offers, up to 32 KiB a message. */
#define DUMP_BYTES 32768

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

int
netlink_open(int protocol)
{
	/* The kernel answers a dump inside the call: this is for the day it
	 * does not. */
	const struct timeval patience = { .tv_sec = 1 };
	const int on = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return fd;
}

/* A dump under way. */
struct dump {
	netlink_take *take;
	void *arg;
	bool done, interrupted;
};

static int
take_message(struct dump *d, struct nlmsghdr *message)
{
	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		d->interrupted = true;
	if (message->nlmsg_type == NLMSG_DONE) {
		d->done = true;
		return 0;
	}
	if (message->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(message);

		if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
			return -EPROTO;
		return e->error < 0 ? e->error : -EPROTO;
	}
	return d->take(message, d->arg);
}

static int
take_bytes(struct dump *d, uint8_t *buf, ssize_t len)
{
	for (struct nlmsghdr *m = (void *)buf; NLMSG_OK(m, len) && !d->done;
	     m = NLMSG_NEXT(m, len)) {
		int error = take_message(d, m);

		if (error != 0)
			return error;
	}
	return 0;
}

static int
read_answer(int fd, uint8_t *buf, struct dump *d)
{
	while (!d->done) {
		ssize_t len = recv(fd, buf, DUMP_BYTES, MSG_TRUNC);
		int error;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		if (len == 0 || len > DUMP_BYTES)
			return -EMSGSIZE;
		error = take_bytes(d, buf, len);
		if (error != 0)
			return error;
	}
	return d->interrupted ? -ESTALE : 0;
}

int
netlink_dump(
    int fd, const struct nlmsghdr *request, netlink_take *take, void *arg)
{
	struct dump d = { .take = take, .arg = arg };
	uint8_t *buf;
	int error;

	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	buf = malloc(DUMP_BYTES);
	if (buf == NULL)
		return -ENOMEM;
	error = read_answer(fd, buf, &d);
	free(buf);
	return error;
}
