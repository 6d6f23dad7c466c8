/* SPDX-License-Identifier: ISC */
/*
 * ledger_fixture: a ledger in memory that children share, and short words for
 * what the tests of the ledger do with it.
 */
#ifndef FOURFOLD_LEDGER_FIXTURE_H
#define FOURFOLD_LEDGER_FIXTURE_H

#include <sys/mman.h>

#include <criterion/criterion.h>

#include "egress/ledger.h"

static inline struct ledger *
fixture_ledger(uint32_t leases, uint32_t targets)
{
	static const uint8_t key[LEDGER_KEY_BYTES] = { 4, 0, 4 };
	size_t bytes = ledger_bytes(leases, targets);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct ledger *l = NULL;

	cr_assert_neq(memory, MAP_FAILED);
	cr_assert_eq(ledger_init(memory, leases, targets, key, &l), 0);
	return l;
}

static inline void
fixture_add(struct pool *p, const char *source)
{
	struct prefix prefix;

	cr_assert_eq(prefix_parse(source, &prefix), 0);
	cr_assert_eq(pool_add_source(p, &prefix), 0);
}

static inline struct pool
fixture_pool(const char *source, uint16_t first, uint16_t last)
{
	struct pool p;

	pool_init(&p, "test");
	fixture_add(&p, source);
	cr_assert_eq(pool_add_ports(&p, first, last, POOL_RANGE), 0);
	return p;
}

static inline void
fixture_set(struct ledger *l, unsigned id, const char *source, uint16_t first,
    uint16_t last)
{
	struct pool p = fixture_pool(source, first, last);

	cr_assert_eq(ledger_set_pool(l, id, &p), 0);
}

static inline struct addr
fixture_at(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse(text, &a), 0, "%s", text);
	return a;
}

static inline int
fixture_lease(struct ledger *l, unsigned pool, const char *target,
    uint64_t now_ms, struct ledger_lease *out)
{
	struct ledger_holder holder = { .session = 7, .worker = 1 };
	struct addr a = fixture_at(target);

	holder.client = fixture_at("198.51.100.1:5");
	return ledger_lease(l, pool, &a, &holder, now_ms, out);
}

/* Takes what pool 0 has for the target at `now`: how many slots. */
static inline unsigned
fixture_take_all(struct ledger *l, const char *target, uint64_t now_ms)
{
	struct ledger_lease lease;
	unsigned count = 0;

	while (fixture_lease(l, 0, target, now_ms, &lease) == 0)
		count++;
	return count;
}

static inline void
fixture_check(struct ledger *l)
{
	char why[200];

	cr_assert_eq(ledger_check(l, why, sizeof(why)), 0, "%s", why);
}

#endif
