/* SPDX-License-Identifier: ISC */
/*
 * Password hashes from any text. Only what is cheap is verified, or nothing
 * else would be done.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char cheap[] = "$scrypt$ln=1,r=1,p=1$";
	char *text = malloc(size + 1);

	must(text != NULL);
	if (size != 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (auth_hash_is_valid(text) &&
	    strncmp(text, cheap, strlen(cheap)) == 0)
		auth_verify(text, "password", 8);
	free(text);
	return 0;
}
