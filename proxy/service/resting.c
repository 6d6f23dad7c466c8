/* SPDX-License-Identifier: ISC */
#include "service/resting.h"

#include <errno.h>
#include <stdlib.h>

static const enum addr_family families[2] = { ADDR_V4, ADDR_V6 };

static void
on_rest(void *arg, uint16_t port, uint64_t until_ms)
{
	struct resting *r = arg;

	(void)until_ms;
	r->any = true;
	r->bits[port / 8] |= (uint8_t)(1 << port % 8);
}

bool
resting_has(const struct resting *r, uint16_t port)
{
	return (r->bits[port / 8] >> port % 8 & 1) != 0;
}

static uint32_t
count_ports(const struct resting *r, const struct pool *p)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < p->range_count && !p->by_kernel; i++)
		for (unsigned port = p->ranges[i].first;
		     port <= p->ranges[i].last; port++)
			n += resting_has(r, (uint16_t)port);
	return n;
}

static void
count_pool(struct resting *r, unsigned id, const struct pool *p)
{
	r->pools[id].ports = count_ports(r, p);
	for (unsigned i = 0; i < 2 && r->pools[id].ports > 0; i++) {
		r->pools[id].slots[i] = pool_slots(p, families[i]);
		r->pools[id].rested[i] =
		    r->pools[id].ports * pool_addresses(p, families[i]);
	}
}

int
resting_read(struct resting *r, struct ledger *l, uint64_t now_ms)
{
	struct pool *p;

	*r = (struct resting){ 0 };
	ledger_each_resting(l, now_ms, on_rest, r);
	if (!r->any)
		return 0;
	p = malloc(sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	for (unsigned id = 0; id < LEDGER_POOLS_MAX; id++)
		if (ledger_get_pool(l, id, p))
			count_pool(r, id, p);
	free(p);
	return 0;
}

uint32_t
resting_slots(const struct resting *r, const struct ledger_target_row *target,
    uint32_t held)
{
	unsigned family = target->target.family == ADDR_V6;
	uint32_t all = r->pools[target->pool].slots[family];
	uint32_t n = r->pools[target->pool].rested[family];

	/* The one that is the target itself is not among its slots. */
	if (n > 0 && target->slots < all && resting_has(r, target->target.port))
		n--;
	if (n > target->slots)
		n = target->slots;
	return n > held ? n - held : 0;
}
