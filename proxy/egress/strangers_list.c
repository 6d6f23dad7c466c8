/* SPDX-License-Identifier: ISC */
/*
 * The part that reads /proc: tables of sockets, and whose they are.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostfile.h"
#include "egress/strangers.h"

/* Descriptors looked at for names, some 7 us each, so that it ends in time on
 * any host. */
#define LINKS_MAX 50000

void
strangers_init(struct strangers *s)
{
	*s = (struct strangers){ 0 };
}

void
strangers_fini(struct strangers *s)
{
	free(s->items);
	strangers_init(s);
}

int
strangers_add(struct strangers *s, const struct stranger *one)
{
	if (s->count == s->room) {
		size_t room = s->room == 0 ? 64 : s->room * 2;
		struct stranger *items =
		    reallocarray(s->items, room, sizeof(*items));

		if (items == NULL)
			return -ENOMEM;
		s->items = items;
		s->room = room;
	}
	s->items[s->count++] = *one;
	return 0;
}

void
strangers_filter(struct strangers *s, strangers_test *keep, void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->count; i++) {
		if (keep(&s->items[i], arg))
			s->items[kept++] = s->items[i];
	}
	s->count = kept;
}

const char *
stranger_state_name(enum stranger_state state)
{
	switch (state) {
	case STRANGER_LISTENS:
		return "listens";
	case STRANGER_BOUND:
		return "bound";
	case STRANGER_CONNECTED:
		return "connected";
	case STRANGER_GONE:
		return "gone";
	}
	must_never("a state that is none");
}

/* `digits` of hexadecimal; false when they are none. */
static bool
parse_hex(const char *text, size_t digits, uint32_t *out)
{
	uint32_t value = 0;

	for (size_t i = 0; i < digits; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | (uint32_t)(c - 'A' + 10);
		else
			return false;
	}
	*out = value;
	return true;
}

/* "0100007F:1F90": words of four bytes as this machine keeps them, which is how
 * they are shown, and the port. */
static bool
parse_local(const char *text, size_t words, struct addr *out)
{
	uint32_t ip[4] = { 0 }, port;

	for (size_t i = 0; i < words; i++) {
		if (!parse_hex(text + 8 * i, 8, &ip[i]))
			return false;
	}
	text += 8 * words;
	if (*text != ':' || !parse_hex(text + 1, 4, &port))
		return false;
	*out =
	    addr_from_bytes(words == 1 ? ADDR_V4 : ADDR_V6, ip, (uint16_t)port);
	return true;
}

static bool
bit_is_set(const uint8_t *bits, uint16_t port)
{
	return bits[port / 8] >> port % 8 & 1;
}

bool
strangers_want(const struct strangers_ports *ports, uint16_t port,
    enum stranger_state state)
{
	return bit_is_set(ports->any, port) ||
	       (state == STRANGER_LISTENS && bit_is_set(ports->listens, port));
}

/*
 * A line of the table: number, local and remote address, state, queues, timer,
 * retransmits, uid, timeout, inode. Most lines are not asked for, so the port
 * comes first. A client that has not come through to a listener yet is none.
 */
static bool
parse_socket(const char *line, size_t words,
    const struct strangers_ports *ports, struct stranger *out)
{
	const size_t address = 8 * words + sizeof(":0050");
	const char *at = strchr(line, ':');
	struct stranger one = { 0 };
	uint32_t state;

	/* What is cut off is not read. */
	if (at == NULL || strlen(at) < 2 + 2 * address + 3 ||
	    !parse_local(at + 2, words, &one.local) ||
	    !parse_hex(at + 2 + 2 * address, 2, &state) ||
	    state == TCP_SYN_RECV)
		return false;
	one.state = state == TCP_LISTEN ? STRANGER_LISTENS : STRANGER_CONNECTED;
	if (!strangers_want(ports, one.local.port, one.state))
		return false;
	if (sscanf(at + 2 + 2 * address + 2,
		" %*s %*s %*s %" SCNu32 " %*s %" SCNu64, &one.uid,
		&one.inode) != 2)
		return false;
	if (one.inode == 0)
		one.state = STRANGER_GONE;
	*out = one;
	return true;
}

static int
read_table(const char *root, const char *path, size_t words,
    const struct strangers_ports *ports, struct strangers *s)
{
	FILE *f = hostfile_open(root, path);
	char line[512];
	struct stranger one;
	int error = 0;

	/* Without IPv6 there is no such table. */
	if (f == NULL)
		return errno == ENOENT ? 0 : -errno;
	while (error == 0 && fgets(line, sizeof(line), f) != NULL) {
		if (parse_socket(line, words, ports, &one))
			error = strangers_add(s, &one);
	}
	fclose(f);
	return error;
}

int
strangers_read(
    const char *root, const struct strangers_ports *ports, struct strangers *s)
{
	int error = read_table(root, "/proc/net/tcp", 1, ports, s);

	return error == 0 ? read_table(root, "/proc/net/tcp6", 4, ports, s)
			  : error;
}

static int
compare_inodes(const void *a, const void *b)
{
	const struct stranger *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Processes being looked through, one after the other. */
struct walk {
	const char *root;
	struct strangers *all;  /* by inode */
	size_t unnamed;         /* those with an inode that are left */
	unsigned links;         /* that may be looked at still */
	unsigned process_links; /* of each process */
	int pid;
	char program[STRANGER_PROGRAM_MAX + 1]; /* "": not read yet */
};

static void
read_program(struct walk *w)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", w->pid);
	f = hostfile_open(w->root, path);
	if (f == NULL)
		return;
	if (fgets(w->program, sizeof(w->program), f) == NULL)
		w->program[0] = '\0';
	w->program[strcspn(w->program, "\n")] = '\0';
	fclose(f);
}

static void
look_at_link(struct walk *w, int folder, const char *name)
{
	struct stranger key = { 0 }, *one;
	char target[64];
	ssize_t len = readlinkat(folder, name, target, sizeof(target) - 1);

	if (len <= 0)
		return;
	target[len] = '\0';
	/* Those that are gone have the inode 0, and nobody has them. */
	if (sscanf(target, "socket:[%" SCNu64 "]", &key.inode) != 1 ||
	    key.inode == 0)
		return;
	one = bsearch(
	    &key, w->all->items, w->all->count, sizeof(key), compare_inodes);
	/* The first one that has it is as good as those it has forked. */
	if (one == NULL || one->pid != 0)
		return;
	if (w->program[0] == '\0')
		read_program(w);
	one->pid = w->pid;
	strcpy_bounded(one->program, sizeof(one->program), w->program);
	w->unnamed--;
}

static DIR *
open_folder(const char *root, const char *path)
{
	char whole[HOSTFILE_PATH_MAX];
	int len = snprintf(whole, sizeof(whole), "%s%s", root, path);

	return len > 0 && (size_t)len < sizeof(whole) ? opendir(whole) : NULL;
}

static void
look_at_process(struct walk *w)
{
	const struct dirent *entry;
	unsigned left =
	    w->links < w->process_links ? w->links : w->process_links;
	char path[64];
	DIR *folder;

	w->program[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/fd", w->pid);
	folder = open_folder(w->root, path);
	/* It has ended, or is none of ours to look at. */
	if (folder == NULL)
		return;
	while (
	    w->unnamed > 0 && left > 0 && (entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		left--;
		w->links--;
		look_at_link(w, dirfd(folder), entry->d_name);
	}
	closedir(folder);
}

void
strangers_name(const char *root, struct strangers *s, unsigned links)
{
	struct walk w = { .root = root,
		.all = s,
		.links = LINKS_MAX,
		.process_links = links };
	const struct dirent *entry;
	DIR *folder = open_folder(root, "/proc");

	if (folder == NULL)
		return;
	for (size_t i = 0; i < s->count; i++)
		w.unnamed += s->items[i].inode != 0 && s->items[i].pid == 0;
	if (w.unnamed > 0)
		qsort(s->items, s->count, sizeof(*s->items), compare_inodes);
	while (
	    w.unnamed > 0 && w.links > 0 && (entry = readdir(folder)) != NULL) {
		if (sscanf(entry->d_name, "%d", &w.pid) == 1 && w.pid > 0)
			look_at_process(&w);
	}
	closedir(folder);
}
