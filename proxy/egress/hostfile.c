/* SPDX-License-Identifier: ISC */
#include "egress/hostfile.h"

#include <inttypes.h>
#include <stdlib.h>

/* The list of reserved ports has 384 KiB at its longest. */
#define TEXT_BYTES (512 * 1024)

#define BUFFER_BYTES (64 * 1024)

FILE *
hostfile_open(const char *root, const char *path)
{
	char whole[HOSTFILE_PATH_MAX];
	int len = snprintf(whole, sizeof(whole), "%s%s", root, path);
	FILE *f = NULL;

	if (len > 0 && (size_t)len < sizeof(whole))
		f = fopen(whole, "re");
	/* What these files say of their blocks would have it read in bits. */
	if (f != NULL)
		(void)setvbuf(f, NULL, _IOFBF, BUFFER_BYTES);
	return f;
}

char *
hostfile_read(const char *root, const char *path)
{
	FILE *f = hostfile_open(root, path);
	char *text;
	size_t used = 0;

	if (f == NULL)
		return NULL;
	text = malloc(TEXT_BYTES);
	if (text != NULL) {
		used = fread(text, 1, TEXT_BYTES - 1, f);
		text[used] = '\0';
	}
	fclose(f);
	return text;
}

int64_t
hostfile_number(const char *root, const char *path, int64_t otherwise)
{
	FILE *f = hostfile_open(root, path);
	int64_t value;

	if (f == NULL)
		return otherwise;
	if (fscanf(f, "%" SCNd64, &value) != 1)
		value = otherwise;
	fclose(f);
	return value;
}
