/* SPDX-License-Identifier: ISC */
/*
 * The kernel's tables of sockets, and of whose they are, from any text: what is
 * found is what was asked for, and the table that it would be in reads the
 * same.
 *
 * Input: a byte of what is asked for; then, each up to the next byte of 0xff:
 * the table of IPv4, that of IPv6, a program's name, a descriptor's target.
 */
#include <inttypes.h>

#include "egress/strangers.h"
#include "files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PID      77
#define LINE_MAX 511 /* as much of a line as is read at once */

static unsigned
count_lines(struct program text)
{
	unsigned count = 1 + (unsigned)(text.left / LINE_MAX);

	for (size_t i = 0; i < text.left; i++)
		count += text.at[i] == '\n';
	return count;
}

/* Every other port, or all; of those that listen others. */
static void
pick_ports(struct program *p, struct strangers_ports *ports)
{
	uint8_t what = program_byte(p);

	memset(ports->any, what & 1 ? 0x55 : 0xff, sizeof(ports->any));
	memset(ports->listens, what & 2 ? 0xaa : 0xff, sizeof(ports->listens));
}

static void
check_one(const struct strangers_ports *ports, const struct stranger *s)
{
	uint16_t port = s->local.port;
	bool any = ports->any[port / 8] >> port % 8 & 1;
	bool listens = ports->listens[port / 8] >> port % 8 & 1;

	must(any || listens);
	must(any || s->state == STRANGER_LISTENS || s->state == STRANGER_GONE);
	must(s->state == STRANGER_LISTENS || s->state == STRANGER_CONNECTED ||
	     s->state == STRANGER_GONE);
	must((s->state == STRANGER_GONE) == (s->inode == 0));
	must(s->pid == 0 && s->program[0] == '\0' && s->local.scope == 0);
}

/* The line that the kernel would have for it. */
static void
put_line(FILE *f, const struct stranger *s)
{
	static const char *const states[] = { [STRANGER_LISTENS] = "0A",
		[STRANGER_CONNECTED] = "01",
		[STRANGER_GONE] = "06" };
	size_t words = s->local.family == ADDR_V4 ? 1 : 4;
	uint32_t ip[4];

	memcpy(ip, s->local.ip, sizeof(ip));
	fprintf(f, "   0: ");
	for (size_t i = 0; i < words; i++)
		fprintf(f, "%08" PRIX32, ip[i]);
	fprintf(f, ":%04X ", (unsigned)s->local.port);
	for (size_t i = 0; i < words; i++)
		fprintf(f, "00000000");
	fprintf(f,
	    ":0000 %s 00000000:00000000 00:00000000 00000000 %5" PRIu32
	    " 0 %" PRIu64 " 1 0\n",
	    states[s->state], s->uid, s->inode);
}

static void
put_table(const char *root, const char *name, enum addr_family family,
    const struct strangers *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	must(f != NULL);
	for (size_t i = 0; i < s->count; i++) {
		if (s->items[i].local.family == family)
			put_line(f, &s->items[i]);
	}
	must(fclose(f) == 0);
	files_put(root, name, text, len);
	free(text);
}

static void
check_reads_the_same(const char *root, const struct strangers *s)
{
	struct strangers_ports all;
	struct strangers again;

	memset(&all, 0xff, sizeof(all));
	put_table(root, "/proc/net/tcp", ADDR_V4, s);
	put_table(root, "/proc/net/tcp6", ADDR_V6, s);
	strangers_init(&again);
	must(strangers_read(root, &all, &again) == 0);
	must(again.count == s->count);
	for (size_t i = 0; i < s->count; i++) {
		const struct stranger *a = &s->items[i], *b = &again.items[i];

		must(addr_equal(&a->local, &b->local) && a->uid == b->uid);
		must(a->state == b->state && a->inode == b->inode);
	}
	strangers_fini(&again);
}

/* There is one process with one descriptor. */
static void
check_names(const char *root, struct strangers *s)
{
	size_t count = s->count, named = 0;

	strangers_name(root, s, 10);
	must(s->count == count);
	for (size_t i = 0; i < s->count; i++) {
		const struct stranger *one = &s->items[i];

		must(memchr(one->program, '\0', sizeof(one->program)) != NULL);
		must(strchr(one->program, '\n') == NULL);
		must(one->pid == 0 || (one->pid == PID && one->inode != 0));
		must(one->pid != 0 || one->program[0] == '\0');
		named += one->pid != 0;
	}
	must(named <= 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program program = { data, size }, v4, v6;
	struct strangers_ports ports;
	char root[FILES_ROOT_MAX];
	struct strangers s;
	size_t i = 0;

	files_root(root);
	pick_ports(&program, &ports);
	v4 = program_part(&program);
	v6 = program_part(&program);
	files_put_part(root, "/proc/net/tcp", v4);
	files_put_part(root, "/proc/net/tcp6", v6);
	files_put_part(root, "/proc/77/comm", program_part(&program));
	files_link_part(root, "/proc/77/fd/3", program_part(&program));
	strangers_init(&s);
	must(strangers_read(root, &ports, &s) == 0);
	must(s.count <= count_lines(v4) + count_lines(v6));
	/* First those of IPv4. */
	for (; i < s.count && s.items[i].local.family == ADDR_V4; i++)
		check_one(&ports, &s.items[i]);
	must(i <= count_lines(v4));
	for (; i < s.count; i++) {
		must(s.items[i].local.family == ADDR_V6);
		check_one(&ports, &s.items[i]);
	}
	check_reads_the_same(root, &s);
	check_names(root, &s);
	strangers_fini(&s);
	return 0;
}
