/* SPDX-License-Identifier: ISC */
#include "io/poller.h"

#include <errno.h>
#include <unistd.h>

void
poller_init(struct poller *p, struct event_base *base)
{
	p->base = base;
	p->epoll = -1;
	p->count = 0;
	p->next = p->end = 0;
}

void
poller_fini(struct poller *p)
{
	must(p->count == 0);
	if (p->epoll == -1)
		return;
	event_del(&p->ready);
	close(p->epoll);
	p->epoll = -1;
}

int
poller_run(struct poller *p)
{
	if (p->epoll == -1)
		return 0;
	p->next = 0;
	p->end = epoll_wait(p->epoll, p->batch, POLLER_BATCH, 0);
	while (p->next < p->end) {
		struct epoll_event *e = &p->batch[p->next++];
		struct watch *w = e->data.ptr;

		/* NULL: it was stopped by one before it. */
		if (w != NULL)
			w->run(w, e->events);
	}
	return p->end > 0 ? p->end : 0;
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)poller_run(arg);
}

static int
open_set(struct poller *p)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (event_assign(&p->ready, p->base, fd, EV_READ | EV_PERSIST, on_ready,
		p) != 0 ||
	    event_add(&p->ready, NULL) != 0) {
		close(fd);
		return -ENOMEM;
	}
	p->epoll = fd;
	return 0;
}

int
poller_add(struct poller *p, struct watch *w, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI | EPOLLOUT |
					       EPOLLRDHUP | EPOLLET,
		.data.ptr = w };
	int error = p->epoll == -1 ? open_set(p) : 0;

	if (error != 0)
		return error;
	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		return -errno;
	w->fd = fd;
	p->count++;
	return 0;
}

void
poller_remove(struct poller *p, struct watch *w)
{
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	poller_forget(p, w);
}

void
poller_forget(struct poller *p, struct watch *w)
{
	for (int i = p->next; i < p->end; i++)
		if (p->batch[i].data.ptr == w)
			p->batch[i].data.ptr = NULL;
	w->fd = -1;
	must(p->count > 0);
	p->count--;
}
