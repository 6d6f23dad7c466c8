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

static void
print_usage(FILE *out)
{
	fputs(
	    "usage: fourfold [run] [-c FILE]    run the proxy\n"
	    "       fourfold check [-c FILE]    check the file and the host\n"
	    "       fourfold passwd             make the hash of a password\n"
	    "       fourfold --help-options     what the file may say\n"
	    "       fourfold --version | --help\n"
	    "\n"
	    "Without a file: SOCKS5 on 127.0.0.1:1080, source ports from the\n"
	    "host's own range.\n"
	    "Signals: HUP reloads the file; TERM lets sessions end, then\n"
	    "stops; a second TERM stops at once.\n"
	    "Exit status: 0 stopped, 1 cannot start, 2 bad usage or file.\n",
	    out);
}

static int
bad_usage(const char *what, const char *word)
{
	fprintf(stderr, "fourfold: %s: %s\n", what, word);
	print_usage(stderr);
	return 2;
}

enum { OPTION_HELP_OPTIONS = 256 };

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ "help-options", no_argument, NULL, OPTION_HELP_OPTIONS },
	{ NULL, 0, NULL, 0 },
};

static int
run_command(const char *command, const char *path)
{
	if (strcmp(command, "run") == 0)
		return master_run(path);
	if (strcmp(command, "check") == 0)
		return command_check(path);
	if (strcmp(command, "passwd") == 0)
		return command_passwd();
	return bad_usage("no such command", command);
}

int
main(int argc, char **argv)
{
	const char *path = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "c:hV", long_options, NULL)) !=
	       -1) {
		switch (option) {
		case 'c':
			path = optarg;
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
		default:
			print_usage(stderr);
			return 2;
		}
	}
	if (argc - optind > 1)
		return bad_usage(
		    "one command at a time, not also", argv[optind + 1]);
	return run_command(optind < argc ? argv[optind] : "run", path);
}
