/* SPDX-License-Identifier: ISC */
/*
 * dns: a small name server for tests, on a thread of its own: UDP and TCP on
 * one port of one address, answers from a table, and the ways to fail that
 * real servers have. It stays in the network namespace it was started in.
 */
#ifndef FOURFOLD_TEST_DNS_H
#define FOURFOLD_TEST_DNS_H

#include "base/addr.h"

enum dns_type {
	DNS_A,
	DNS_AAAA,
	DNS_CNAME,
	DNS_ALIVE, /* the name exists, were it without addresses */
	/* Not records but manners of the name: */
	DNS_SILENT,    /* no answer */
	DNS_SERVFAIL,  /* answers SERVFAIL */
	DNS_TRUNCATED, /* UDP answers are empty and say "truncated" */
	DNS_REVERSED,  /* a UDP answer goes out after the next one */
	DNS_NO_AAAA,   /* questions for AAAA get SERVFAIL */
};

struct dns_record {
	const char *name; /* lower case, no dot at the end; "*.a" is all of a */
	enum dns_type type;
	const char *value; /* an address, the name of a CNAME, or NULL */
};

struct dns;

/* Serves the table, which must live as long, on `at` (port 0: any). A name
 * that is not in it does not exist. NULL with errno on failure. */
struct dns *dns_start(
    const struct addr *at, const struct dns_record *records, size_t count);
void dns_stop(struct dns *dns);

/* Where it listens, with the port. */
const struct addr *dns_address(const struct dns *dns);

/* Questions that came so far by UDP, and by TCP. */
unsigned dns_udp_count(struct dns *dns);
unsigned dns_tcp_count(struct dns *dns);

#endif
