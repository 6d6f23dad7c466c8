#!/bin/sh
# SPDX-License-Identifier: ISC
# format.sh TREE: fails unless every C file is as .clang-format wants it.
# The layout differs between versions of clang-format: 14 is the one.
set -u
tree=$1

if command -v clang-format-14 >/dev/null; then
	clang_format=clang-format-14
elif clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
	clang_format=clang-format
else
	echo "format: clang-format 14 is missing: nothing was checked"
	exit 1
fi
files=$(find "$tree/proxy" "$tree/tests" -name '*.[ch]' | wc -l)
if [ "$files" -eq 0 ]; then
	echo "format: no C file under $tree: nothing was checked"
	exit 1
fi
find "$tree/proxy" "$tree/tests" -name '*.[ch]' -print0 |
	xargs -0 "$clang_format" --style=file --dry-run --Werror || exit 1
echo "format: $files files are as they should be"
