/* SPDX-License-Identifier: ISC */
#include <stdio.h>

int
main(void)
{
	puts("fourfold " FOURFOLD_VERSION);
	return 0;
}
