#!/bin/sh
# SPDX-License-Identifier: ISC
# variables.sh NM LIBRARY...: fails when a library exports a variable, or has
# one in a file that can change. State is passed in, as a pointer.
set -u
nm=$1
shift

objects=$("$nm" --format=sysv "$@") || exit 1
case $objects in
*FUNC\|*) ;;
*)
	echo "variables: no function in $*: nothing was checked"
	exit 1
	;;
esac

# name | value | class | type | size | line | section: a constant with a
# pointer in it lies in .data.rel.ro and is none to change. Names with two
# underscores in front are the compiler's.
printf '%s\n' "$objects" | awk -F '[[:blank:]]*[|][[:blank:]]*' '
/^Symbols from .*\[.*\]:$/ {
	file = $0
	gsub(/^.*\[|\]:$/, "", file)
	next
}
NF < 7 || $4 !~ /^(OBJECT|TLS|COMMON)$/ || $1 ~ /^__/ { next }
$3 ~ /^[A-TV-Z]$/ {
	print "variables: " file " exports " $1
	bad = 1
	next
}
$3 !~ /^[rRU]$/ && $7 !~ /^\.data\.rel\.ro/ {
	print "variables: " file " has a static variable, " $1
	bad = 1
}
END {
	if (!bad)
		print "variables: there are none"
	exit bad
}'
