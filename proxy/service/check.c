/* SPDX-License-Identifier: ISC */
#include "service/check.h"

#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "egress/hostfile.h"
#include "service/control.h"
#include "service/privileges.h"
#include "service/report.h"
#include "service/snapshot.h"

/* Descriptors of each process that are looked at for sockets first: those that
 * listen are among them. */
#define FIRST_LINKS 1024

/* Ports tried whether they are blocked: some 30 us each. */
#define TRIED_PORTS_MAX 1000

#define PORT_COUNT 65536

/* The unit has systemd make it, when it starts. */
#define UNIT_FOLDER "/run/fourfold"

struct check {
	struct snapshot s;
	FILE *errors;
	FILE *hints; /* lines, that end up in `hint_text` */
	char *hint_text;
	size_t hint_size;
	struct capacity capacity;
	struct strangers strangers;
	char program[STRANGER_PROGRAM_MAX + 1]; /* our own name */
	bool wrong;
};

/* ---- who else is there ---- */

static bool
bit_is_set(const uint8_t *bits, uint32_t port)
{
	return bits[port / 8] >> port % 8 & 1;
}

static void
set_bits(uint8_t *bits, uint32_t first, uint32_t last)
{
	for (uint32_t port = first; port <= last; port++)
		bits[port / 8] |= (uint8_t)(1 << port % 8);
}

/* All of the pools, and who listens where we want to. */
static void
wanted_ports(const struct check *k, struct strangers_ports *out)
{
	const struct config *c = k->s.config;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < c->egress_count; i++) {
		const struct pool *p = &k->s.pools[i];

		for (unsigned r = 0; r < p->range_count; r++)
			set_bits(
			    out->any, p->ranges[r].first, p->ranges[r].last);
	}
	for (size_t i = 0; i < c->listen_count; i++)
		for (size_t a = 0; a < c->listens[i].address_count; a++) {
			struct config_ports p =
			    c->listens[i].addresses[a].ports;

			set_bits(out->listens, p.first, p.last);
		}
}

/* What is being sorted out, and what was found of ports so far. */
struct sieve {
	const struct check *check;
	unsigned tries;
	uint8_t tried[PORT_COUNT / 8], blocked[PORT_COUNT / 8];
};

static bool
is_blocked(struct sieve *s, uint16_t port)
{
	if (!bit_is_set(s->tried, port) && s->tries > 0) {
		s->tries--;
		set_bits(s->tried, port, port);
		if (strangers_block(port))
			set_bits(s->blocked, port, port);
	}
	return bit_is_set(s->blocked, port);
}

static bool
is_another(const struct stranger *one, void *arg)
{
	const struct check *k = arg;

	return one->pid == 0 || strcmp(one->program, k->program) != 0;
}

/* A connection is in the way when its port is blocked; most share theirs. */
static bool
is_in_the_way(const struct stranger *one, void *arg)
{
	struct sieve *s = arg;
	const struct snapshot *snapshot = &s->check->s;

	if (one->state == STRANGER_LISTENS)
		return true;
	for (size_t i = 0; i < snapshot->config->egress_count; i++) {
		const struct pool *p = &snapshot->pools[i];

		if (!advice_concerns(p, one))
			continue;
		return one->state == STRANGER_BOUND ||
		       (advice_shares(p, one->local.port) &&
			   is_blocked(s, one->local.port));
	}
	return false;
}

static void
read_program(char *name, size_t size)
{
	char *text = hostfile_read("", "/proc/self/comm");

	if (text != NULL)
		text[strcspn(text, "\n")] = '\0';
	strcpy_bounded(name, size, text != NULL ? text : "");
	free(text);
}

static void
find_strangers(struct check *k)
{
	struct strangers_ports *ports = malloc(sizeof(*ports));
	struct sieve *sieve = calloc(1, sizeof(*sieve));
	int error;

	must(ports != NULL && sieve != NULL);
	wanted_ports(k, ports);
	read_program(k->program, sizeof(k->program));
	error = strangers_ask(ports, &k->strangers);
	if (error != 0 && error != -ENOMEM) {
		strangers_fini(&k->strangers);
		error = strangers_read("", ports, &k->strangers);
	}
	if (error != 0)
		fprintf(k->errors,
		    "other programs' sockets cannot be read: %s\n",
		    strerror(-error));
	strangers_name("", &k->strangers, FIRST_LINKS);
	strangers_filter(&k->strangers, is_another, k);
	*sieve = (struct sieve){ .check = k, .tries = TRIED_PORTS_MAX };
	strangers_filter(&k->strangers, is_in_the_way, sieve);
	strangers_name("", &k->strangers, UINT32_MAX);
	strangers_filter(&k->strangers, is_another, k);
	free(sieve);
	free(ports);
}

/* ---- would it start? ---- */

static int
try_listener(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(addr_domain(a), SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;
	int error = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->family == ADDR_V6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&ss, len) != 0)
		error = -errno;
	close(fd);
	return error;
}

/* Who listens there, if it is somebody else; NULL: a Fourfold that runs
 * already, or nobody to be seen. */
static const struct stranger *
who_listens(const struct check *k, const struct addr *a)
{
	for (size_t i = 0; i < k->strangers.count; i++) {
		const struct stranger *s = &k->strangers.items[i];

		if (s->state == STRANGER_LISTENS && s->local.port == a->port &&
		    (addr_equal_ip(&s->local, a) ||
			addr_is_unspecified_ip(&s->local) ||
			addr_is_unspecified_ip(a)))
			return s;
	}
	return NULL;
}

static void
check_port(struct check *k, const char *listener, const struct addr *a)
{
	int error = try_listener(a);
	const struct stranger *s;
	char text[ADDR_TEXT_MAX];

	if (error == 0)
		return;
	s = error == -EADDRINUSE ? who_listens(k, a) : NULL;
	if (s != NULL && s->pid == 0)
		fprintf(k->hints,
		    "[listen %s] %s is in use by a program of uid %u (root "
		    "sees which); unless that is Fourfold it does not start\n",
		    listener, addr_format(a, text), s->uid);
	if (error == -EADDRINUSE && (s == NULL || s->pid == 0))
		return;
	k->wrong = true;
	fprintf(k->errors, "[listen %s] %s: ", listener, addr_format(a, text));
	if (s != NULL)
		fprintf(k->errors,
		    "%s (pid %d, uid %u) listens there already\n", s->program,
		    s->pid, s->uid);
	else if (error == -EADDRNOTAVAIL)
		fprintf(k->errors,
		    "not an address of this host; this mends it: ip address "
		    "add %s dev lo\n",
		    addr_format_ip(a, text));
	else if (error == -EACCES)
		fprintf(k->errors,
		    "ports below net.ipv4.ip_unprivileged_port_start (%u) take "
		    "privileges: start it as root, or this mends it: sysctl -w "
		    "net.ipv4.ip_unprivileged_port_start=%u\n",
		    k->s.host.unprivileged_first, a->port);
	else
		fprintf(k->errors, "%s\n", strerror(-error));
}

static void
check_folder(struct check *k, const char *what, const char *path)
{
	size_t len = (size_t)(strrchr(path, '/') - path);
	bool unit =
	    len == strlen(UNIT_FOLDER) && memcmp(path, UNIT_FOLDER, len) == 0;

	k->wrong |= !unit;
	fprintf(unit ? k->hints : k->errors,
	    "%s%s: its folder does not exist%s; this mends it: mkdir -p "
	    "%.*s\n",
	    what, path,
	    unit ? ", which the unit makes; where it is not started by that"
		 : "",
	    (int)len, path);
}

/* A unix socket. Whose the one is that is there already cannot be told: it may
 * well be that of the Fourfold which is about to read this file again. */
static void
check_path(struct check *k, const char *what, const char *path)
{
	int error = unixpath_check(path);
	const char *why;

	if (error == 0)
		return;
	if (error == -EADDRINUSE) {
		fprintf(k->hints,
		    "%s%s: a program listens there already; unless that is "
		    "the Fourfold which this file is for it does not start\n",
		    what, path);
		return;
	}
	if (error == -ENOENT) {
		check_folder(k, what, path);
		return;
	}
	why = error == -EEXIST ? "there is a file that is not a socket; name "
				 "another path"
	      : error == -EACCES
		  ? "this user may make no file in its folder; start it as "
		    "another, or name another path"
		  : strerror(-error);
	k->wrong = true;
	fprintf(k->errors, "%s%s: %s\n", what, path, why);
}

/* Where the file does not ask for a socket, Fourfold runs without. */
static void
check_control(struct check *k)
{
	const struct config *c = k->s.config;
	FILE *out = c->control_asked ? k->errors : k->hints;
	int error;

	if (c->control_path[0] == '\0')
		return;
	if (c->control_asked)
		check_path(k, "[control] socket = ", c->control_path);
	error = control_check_group(c);
	if (error == 0)
		return;
	k->wrong |= c->control_asked;
	fprintf(out, "[control] group = %s: ", c->control_group);
	if (!c->control_asked)
		fputs("there is no control socket, since ", out);
	if (error == -ENOENT)
		fprintf(out,
		    "there is no such group; this mends it: groupadd --system "
		    "%s\n",
		    c->control_group);
	else
		fputs("this user is not a member of it; start it as root, or "
		      "as one who is\n",
		    out);
}

static void
check_listeners(struct check *k)
{
	const struct config *c = k->s.config;
	char what[CONFIG_NAME_MAX + 32];

	for (size_t i = 0; i < c->listen_count; i++) {
		const struct config_listen *l = &c->listens[i];

		for (size_t n = 0; n < l->address_count; n++) {
			const struct config_address *at = &l->addresses[n];
			struct addr a = at->ip;

			if (a.family == ADDR_NONE) {
				snprintf(what, sizeof(what),
				    "[listen %s] unix:", l->name);
				check_path(k, what, at->path);
				continue;
			}
			for (unsigned port = at->ports.first;
			     port <= at->ports.last; port++) {
				a.port = (uint16_t)port;
				check_port(k, l->name, &a);
			}
		}
	}
}

/* Who is not root cannot tell what root would do. */
static void
check_user(struct check *k)
{
	const char *user = k->s.config->user;
	struct identity id;

	if (privileges_find(user, &id) != -ENOENT)
		return;
	k->wrong = true;
	if (user[0] != '\0')
		fprintf(k->errors,
		    "user = %s: no such user; this mends it: useradd --system "
		    "%s\n",
		    user, user);
	else
		fputs("user = auto: there is neither a user \"fourfold\" nor "
		      "\"nobody\"; this mends it: useradd --system fourfold\n",
		    k->errors);
}

/* The limit that the master raises its own to. */
static uint64_t
descriptors_of(const struct preflight_host *h)
{
	uint64_t allowed = (uint64_t)h->files_allowed;

	return h->files_hard < allowed ? h->files_hard : allowed;
}

static void
check_sizes(struct check *k)
{
	const struct capacity_host host = {
		.descriptors = descriptors_of(&k->s.host),
		.processors = capacity_processors(),
	};

	if (capacity_find(k->s.config, &host, k->errors, &k->capacity) != 0)
		k->wrong = true;
}

/* ---- all together ---- */

/* The ports that the file gives our listeners; port 0 is not known before the
 * start. */
static size_t
own_ports(const struct config *c, uint16_t *ports)
{
	size_t n = 0;

	for (size_t i = 0; i < c->listen_count; i++) {
		for (size_t a = 0; a < c->listens[i].address_count; a++) {
			struct config_ports p =
			    c->listens[i].addresses[a].ports;

			for (unsigned port = p.first;
			     port != 0 && port <= p.last && n < PORT_COUNT;
			     port++)
				ports[n++] = (uint16_t)port;
		}
	}
	return n;
}

static void
check_pools(struct check *k)
{
	uint16_t *ports = calloc(PORT_COUNT, sizeof(*ports));

	must(ports != NULL);
	if (snapshot_make_pools(&k->s, ports, own_ports(k->s.config, ports),
		k->errors, k->hints, k->hints) != 0)
		k->wrong = true;
	must(k->s.pools != NULL);
	free(ports);
}

static void
write_advice(const struct check *k, const struct advice_facts *facts, FILE *out)
{
	FILE *f;
	char *text = NULL;
	size_t size = 0;

	f = open_memstream(&text, &size);
	must(f != NULL);
	fputs(k->hint_text, f);
	(void)advice_write(facts, f);
	fclose(f);
	fprintf(out, "\nHost: Linux %s; what stands in the way\n",
	    k->s.host.release);
	if (size == 0)
		fputs("  nothing\n", out);
	for (char *rest = text, *line; rest != NULL && *rest != '\0';) {
		line = strsep(&rest, "\n");
		fprintf(out, "  %s\n", line);
	}
	free(text);
}

static void
write_all(const struct check *k, FILE *out)
{
	const struct advice_facts facts = { .config = k->s.config,
		.host = &k->s.host,
		.pools = k->s.pools,
		.capacity = &k->capacity,
		.processors = capacity_processors(),
		.strangers = &k->strangers };

	report_write(&facts, out);
	write_advice(k, &facts, out);
}

int
check_run(const char *path, FILE *out, FILE *errors)
{
	struct check k = { .errors = errors };

	if (snapshot_load(path, errors, &k.s) != 0)
		return 2;
	k.hints = open_memstream(&k.hint_text, &k.hint_size);
	must(k.hints != NULL);
	strangers_init(&k.strangers);
	check_pools(&k);
	check_sizes(&k);
	check_user(&k);
	find_strangers(&k);
	check_listeners(&k);
	check_control(&k);
	fclose(k.hints);
	if (!k.wrong) {
		write_all(&k, out);
		fprintf(out, "\n%s: no errors\n",
		    path != NULL ? path : "built-in defaults");
	}
	strangers_fini(&k.strangers);
	free(k.hint_text);
	snapshot_fini(&k.s);
	return k.wrong ? 2 : 0;
}
