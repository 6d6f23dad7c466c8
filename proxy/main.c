/* SPDX-License-Identifier: ISC */
/*
 * main: the command line.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "policy/config.h"
#include "service/commands.h"
#include "service/master.h"

static int
run(const struct command_line *line)
{
	return master_run(line->path);
}

/* Options that belong to some of the commands, as bits. */
enum {
	TAKES_JSON = 1,
	TAKES_ONCE = 2,
	TAKES_TOP = 4,
	TAKES_CLIENT = 8,
	TAKES_USER = 16,
	TAKES_TARGET = 32,
	TAKES_LIMIT = 64,
	TAKES_SOCKET = 128,
};

static const struct command {
	const char *name, *words; /* what comes behind it, for the usage */
	unsigned least, most;     /* words */
	unsigned takes;
	int (*run)(const struct command_line *line);
	const char *meaning;
} commands[] = {
	{ "run", "", 0, 0, 0, run, "run the proxy (without a word, too)" },
	{ "check", "", 0, 0, 0, command_check, "check the file and the host" },
	{ "passwd", "", 0, 0, 0, command_passwd, "make a password's hash" },
	{ "status", "", 0, 0, TAKES_JSON | TAKES_TOP | TAKES_SOCKET,
	    command_status, "what the running one holds" },
	{ "top", "", 0, 0, TAKES_ONCE | TAKES_TOP | TAKES_SOCKET, command_top,
	    "the same, again each second" },
	{ "who", "IP:PORT [TARGET]", 1, 2,
	    TAKES_JSON | TAKES_TARGET | TAKES_LIMIT | TAKES_SOCKET, command_who,
	    "who has a source port" },
	{ "sessions", "", 0, 0,
	    TAKES_JSON | TAKES_CLIENT | TAKES_USER | TAKES_TARGET |
		TAKES_LIMIT | TAKES_SOCKET,
	    command_sessions, "its sessions" },
	{ "kill", "SESSION", 1, 1, TAKES_SOCKET, command_kill,
	    "end one of them" },
};

enum {
	OPTION_HELP_OPTIONS = 256,
	OPTION_JSON,
	OPTION_ONCE,
	OPTION_TOP,
	OPTION_CLIENT,
	OPTION_USER,
	OPTION_TARGET,
	OPTION_LIMIT,
	OPTION_SOCKET,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ "help-options", no_argument, NULL, OPTION_HELP_OPTIONS },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "once", no_argument, NULL, OPTION_ONCE },
	{ "top", required_argument, NULL, OPTION_TOP },
	{ "client", required_argument, NULL, OPTION_CLIENT },
	{ "user", required_argument, NULL, OPTION_USER },
	{ "target", required_argument, NULL, OPTION_TARGET },
	{ "limit", required_argument, NULL, OPTION_LIMIT },
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ NULL, 0, NULL, 0 },
};

/* An option of some commands: the word it is written with, and where its value
 * goes. */
static const struct {
	int option;
	unsigned bit;
	const char *word;
	size_t offset; /* of a const char * in struct command_line; 0: none */
} own_options[] = {
	{ OPTION_JSON, TAKES_JSON, "--json", 0 },
	{ OPTION_ONCE, TAKES_ONCE, "--once", 0 },
	{ OPTION_TOP, TAKES_TOP, "--top N",
	    offsetof(struct command_line, top) },
	{ OPTION_CLIENT, TAKES_CLIENT, "--client ADDRESS|PREFIX|unix",
	    offsetof(struct command_line, client) },
	{ OPTION_USER, TAKES_USER, "--user NAME",
	    offsetof(struct command_line, user) },
	{ OPTION_TARGET, TAKES_TARGET, "--target IP[:PORT]",
	    offsetof(struct command_line, target) },
	{ OPTION_LIMIT, TAKES_LIMIT, "--limit N",
	    offsetof(struct command_line, limit) },
	{ OPTION_SOCKET, TAKES_SOCKET, "--socket PATH",
	    offsetof(struct command_line, socket) },
};

static void
print_usage(FILE *out)
{
	fputs("usage: fourfold [COMMAND] [-c FILE] [OPTION...]\n\n", out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		const struct command *c = &commands[i];
		int len = fprintf(out, "  %s%s%s", c->name,
		    c->words[0] != '\0' ? " " : "", c->words);

		fprintf(
		    out, "%*s%s\n", len < 26 ? 26 - len : 1, "", c->meaning);
		for (size_t o = 0; o < ARRAY_LEN(own_options); o++)
			if (c->takes & own_options[o].bit)
				fprintf(
				    out, "      [%s]\n", own_options[o].word);
	}
	fputs(
	    "\n  --help-options          what the file may say\n"
	    "  --version, --help\n"
	    "\n"
	    "Without a file: SOCKS5 on 127.0.0.1:1080, source ports from the\n"
	    "host's own range. status, top, who, sessions and kill ask by the\n"
	    "control socket of --socket, or else of the file.\n"
	    "Signals: HUP reloads the file; TERM lets sessions end, then\n"
	    "stops; a second TERM stops at once.\n"
	    "Exit status: 0 stopped or done, 1 cannot, 2 bad usage or file.\n",
	    out);
}

#define HINT "fourfold --help says what there is\n"

static int
bad_usage(const char *what, const char *word)
{
	fprintf(stderr, "fourfold: %s: %s\n" HINT, what, word);
	return 2;
}

/* Notes an option of some commands. */
static void
note_option(
    int option, const char *value, struct command_line *line, unsigned *given)
{
	for (size_t i = 0; i < ARRAY_LEN(own_options); i++) {
		size_t offset = own_options[i].offset;

		if (own_options[i].option != option)
			continue;
		*given |= own_options[i].bit;
		if (offset != 0)
			memcpy((char *)line + offset, &value, sizeof(value));
	}
	line->json |= option == OPTION_JSON;
	line->once |= option == OPTION_ONCE;
}

static int
run_command(const char *name, struct command_line *line, unsigned given,
    unsigned words, char *const *rest)
{
	const struct command *c = commands;

	while (c < commands + ARRAY_LEN(commands) && strcmp(c->name, name) != 0)
		c++;
	if (c == commands + ARRAY_LEN(commands))
		return bad_usage("no such command", name);
	if (words < c->least)
		return bad_usage("it lacks a word", c->name);
	if (words > c->most)
		return bad_usage("one word too many", rest[c->most]);
	for (size_t i = 0; i < ARRAY_LEN(own_options); i++)
		if (given & own_options[i].bit & ~c->takes)
			return bad_usage("not an option of that command",
			    own_options[i].word);
	for (unsigned i = 0; i < words; i++)
		line->words[i] = rest[i];
	return c->run(line);
}

int
main(int argc, char **argv)
{
	struct command_line line = { 0 };
	unsigned given = 0;
	int option;

	while ((option = getopt_long(argc, argv, "c:hV", long_options, NULL)) !=
	       -1) {
		switch (option) {
		case 'c':
			line.path = optarg;
			break;
		case 'h':
			print_usage(stdout);
			return 0;
		case 'V':
			puts("fourfold " FOURFOLD_VERSION);
			return 0;
		case OPTION_HELP_OPTIONS:
			config_describe(stdout);
			return 0;
		case '?': /* getopt has said what it is */
			fputs(HINT, stderr);
			return 2;
		default:
			note_option(option, optarg, &line, &given);
		}
	}
	if (optind == argc)
		return run_command("run", &line, given, 0, NULL);
	return run_command(argv[optind], &line, given,
	    (unsigned)(argc - optind - 1), argv + optind + 1);
}
