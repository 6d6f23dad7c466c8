#!/bin/sh
# SPDX-License-Identifier: ISC
# banned.sh TREE: fails when a C file calls what is not to be called: functions
# that know no bounds or no errors, and byte order outside proxy/base/addr.c.
set -u
tree=$1

cd "$tree" || exit 1
find proxy tests -name '*.[ch]' -print >/dev/null || exit 1

# calls WORDS [EXCEPTION]: file:line of each call of one of them, none in a
# file named EXCEPTION.
calls() {
	find proxy tests -name '*.[ch]' ! -path "${2:-}" -exec \
		grep -nE "(^|[^[:alnum:]_])($1)[[:blank:]]*\(" /dev/null {} +
}

status=0
if calls 'strcpy|strcat|sprintf|vsprintf|strtok|atoi|gets|alloca'; then
	echo "banned: calls without bounds or errors; see base/base.h"
	status=1
fi
if calls 'htons|ntohs|htonl|ntohl' proxy/base/addr.c; then
	echo "banned: byte order changes in proxy/base/addr.c alone"
	status=1
fi
[ $status -ne 0 ] || echo "banned: none is called"
exit $status
