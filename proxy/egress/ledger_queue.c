/* SPDX-License-Identifier: ISC */
#include "egress/ledger_queue.h"

#include <errno.h>
#include <string.h>

static struct extra *
extra_at(const struct hold *h, uint32_t n)
{
	return ledger_extra(h->l, n);
}

/* By what the turn of a client or user is found. */
static enum extra_state
turn_key(const struct hold *h, uint32_t target, const uint64_t client[2],
    uint16_t user, uint64_t key[2])
{
	const struct pool *p =
	    shard_pool(h, target_pool(ledger_target_at(h->l, target)));

	if (user == 0) {
		party_cut_client(&p->rules, client, key);
		return EXTRA_CLIENT_TURN;
	}
	key[0] = user;
	key[1] = 0;
	return EXTRA_USER_TURN;
}

static void
count_waiting(struct hold *h, uint32_t target, int change)
{
	uint32_t desk = target_desk(ledger_target_at(h->l, target));
	struct extra *d = extra_at(h, desk);
	uint32_t before = d->desk.waiting;

	d->desk.waiting += (uint32_t)change;
	if (before == 0)
		ring_append(h->l, &h->l->extras, &h->s->waited, desk);
	if (d->desk.waiting == 0)
		ring_remove(h->l, &h->l->extras, &h->s->waited, desk);
	atomic_store_explicit(&h->s->waiting,
	    atomic_load_explicit(&h->s->waiting, memory_order_relaxed) +
		(uint32_t)change,
	    memory_order_relaxed);
}

bool
queue_append(struct hold *h, uint32_t n)
{
	const struct extra *e = extra_at(h, n);
	uint64_t key[2];
	enum extra_state state = turn_key(h, e->target, e->key, e->user, key);
	uint32_t turn = extra_get(h, e->target, state, key);
	struct extra *t = extra_at(h, turn);

	if (turn == 0)
		return false;
	if (t->turn.count++ == 0)
		desk_at(h, e->target)->desk.turn_count++;
	ring_append(h->l, &h->l->extras, &t->turn.waiting, n);
	count_waiting(h, e->target, 1);
	return true;
}

uint32_t
queue_enter(struct hold *h, uint32_t target, const struct tenant *tenant)
{
	uint32_t n = extra_take(h, target, EXTRA_WAITING);
	struct extra *e = extra_at(h, n);

	if (n == 0)
		return 0;
	memcpy(e->key, tenant->client, sizeof(e->key));
	e->wait.session = tenant->session;
	e->wait.gen = h->s->next_gen++;
	e->client_port = tenant->client_port;
	e->user = tenant->user;
	e->worker = tenant->worker;
	extra_enter(e, EXTRA_WAITING);
	if (!queue_append(h, n)) {
		extra_free(h, n);
		return 0;
	}
	return n;
}

void
queue_remove(struct hold *h, uint32_t n)
{
	const struct slab *slab = &h->l->extras;
	const struct extra *e = extra_at(h, n);
	struct extra *desk = desk_at(h, e->target);
	uint64_t key[2];
	enum extra_state state = turn_key(h, e->target, e->key, e->user, key);
	uint32_t turn = extra_find(h, e->target, state, key);
	struct extra *t = extra_at(h, turn);
	bool was_next = t->turn.waiting == n;

	must(turn != 0);
	ring_remove(h->l, slab, &t->turn.waiting, n);
	count_waiting(h, e->target, -1);
	if (--t->turn.count == 0) {
		desk->desk.turn_count--;
		extra_drop(h, desk, turn);
	} else if (was_next) { /* its client's next turn is the last */
		ring_remove(h->l, slab, &desk->desk.turns, turn);
		ring_append(h->l, slab, &desk->desk.turns, turn);
	}
}

void
queue_wake(struct ledger *l, unsigned worker)
{
	atomic_fetch_or(&l->wakes[worker / 64], UINT64_C(1) << worker % 64);
}

static void
post_mail(struct ledger *l, uint8_t worker)
{
	if (atomic_exchange(&l->mail[worker], 1) == 0)
		queue_wake(l, worker);
}

static struct tenant
tenant_of(const struct extra *e)
{
	return (struct tenant){ .client = { e->key[0], e->key[1] },
		.session = e->wait.session,
		.client_port = e->client_port,
		.user = e->user,
		.worker = e->worker };
}

/* Takes a slot for cell `n`. 0, or an error of shard_take(). */
static int
grant_to(struct hold *h, uint32_t n, uint64_t now_ms)
{
	struct extra *e = extra_at(h, n);
	const struct pool *p =
	    shard_pool(h, target_pool(ledger_target_at(h->l, e->target)));
	struct tenant tenant = tenant_of(e);
	uint32_t taken = 0;
	int error = shard_take(h, e->target, p, &tenant, now_ms, &taken);

	if (error != 0)
		return error;
	queue_remove(h, n);
	/* Before the record is held: whoever dies in between leaves a grant
	 * of nothing, that is seen, and not a slot that nobody returns. */
	e->wait.record = taken;
	e->wait.record_gen = ledger_record(h->l, taken)->gen + 1;
	extra_enter(e, EXTRA_GRANTED);
	shard_hold(h, taken, p, &tenant, now_ms);
	post_mail(h->l, e->worker);
	return 0;
}

void
queue_displace(struct hold *h, uint32_t turn)
{
	uint32_t n = extra_at(h, extra_at(h, turn)->turn.waiting)->link.prev;
	struct extra *e = extra_at(h, n);

	queue_remove(h, n);
	e->wait.record = 0;
	extra_enter(e, EXTRA_GRANTED);
	post_mail(h->l, e->worker);
}

bool
queue_has_room(const struct hold *h, uint32_t target,
    const struct tenant *tenant, uint32_t limit, uint32_t *victim)
{
	const struct extra *desk = desk_at(h, target);
	uint32_t own, fair, n;
	uint64_t key[2];
	enum extra_state state;

	*victim = 0;
	if (queue_length(h, target) < limit)
		return true;
	state = turn_key(h, target, tenant->client, tenant->user, key);
	n = extra_find(h, target, state, key);
	own = n == 0 ? 0 : extra_at(h, n)->turn.count;
	fair = limit / (desk->desk.turn_count + (n == 0));
	if (own >= fair)
		return false;
	/* Then another one has more than that. */
	n = desk->desk.turns;
	while (extra_at(h, n)->turn.count <= fair) {
		n = extra_at(h, n)->link.next;
		must(n != desk->desk.turns);
	}
	*victim = n;
	return true;
}

/* To the first whose turn it is and who may have one; false when there is
 * none. */
static bool
grant_one(struct hold *h, const struct extra *desk, uint64_t now_ms)
{
	uint32_t first = desk->desk.turns;
	uint32_t n = first;

	do {
		int error = grant_to(h, extra_at(h, n)->turn.waiting, now_ms);

		if (error == 0)
			return true;
		/* Its share, or what is kept for others: the next one. */
		if (error != -EDQUOT && error != -EBUSY)
			return false;
		n = extra_at(h, n)->link.next;
	} while (n != first);
	return false;
}

void
queue_grant_all(struct hold *h, uint32_t target, uint64_t now_ms)
{
	const struct target *t = ledger_target_at(h->l, target);
	const struct pool *p = shard_pool(h, target_pool(t));

	/* The pool may have changed while they waited. */
	if (!pool_has_family(p, target_family(t)))
		return;
	while (queue_length(h, target) != 0 &&
	       grant_one(h, extra_at(h, target_desk(t)), now_ms))
		;
}

bool
queue_holds_grant(const struct hold *h, const struct extra *e)
{
	const struct record *r = ledger_record(h->l, e->wait.record);

	return record_is_held(r) && r->gen == e->wait.record_gen;
}

/* ---- the public part ---- */

/* Locks the shard of a ticket; false when it is not live any more. */
static bool
lock_ticket(
    struct ledger *l, const struct ledger_ticket *ticket, struct hold *out)
{
	const struct extra *e;

	if (!shard_lock_cell(l, &l->extras, ticket->cell, out))
		return false;
	e = ledger_extra(l, ticket->cell);
	if ((extra_state(e) == EXTRA_WAITING ||
		extra_state(e) == EXTRA_GRANTED) &&
	    e->wait.gen == ticket->gen)
		return true;
	shard_unlock(out);
	return false;
}

bool
ledger_is_granted(struct ledger *l, const struct ledger_ticket *ticket)
{
	return atomic_load_explicit(&ledger_extra(l, ticket->cell)->state,
		   memory_order_acquire) != EXTRA_WAITING;
}

int
ledger_claim(struct ledger *l, struct ledger_ticket *ticket, uint64_t now_ms,
    struct ledger_lease *out)
{
	struct ledger_lease lease = { .record = LEDGER_EMPTY_LEASE };
	struct extra *e = ledger_extra(l, ticket->cell);
	struct addr target;
	struct hold h;
	uint64_t pools;
	int error = -ENOENT;

	if (!lock_ticket(l, ticket, &h)) {
		ticket->cell = LEDGER_EMPTY_LEASE;
		return -ENOENT;
	}
	if (extra_state(e) == EXTRA_WAITING) {
		shard_unlock(&h);
		return -EAGAIN;
	}
	if (queue_holds_grant(&h, e)) {
		shard_fill_lease(&h, e->wait.record,
		    shard_pool(&h, target_pool(ledger_target_at(l, e->target))),
		    &lease);
		error = 0;
	} else if (e->wait.record == 0) {
		error = -ENOBUFS;
	}
	target = target_addr(ledger_target_at(l, e->target));
	pools = shard_mirrors(&h, e->target);
	extra_free(&h, ticket->cell);
	shard_unlock(&h);
	ticket->cell = LEDGER_EMPTY_LEASE;
	if (error == 0 && !ledger_confirm(l, pools, &target, now_ms, &lease))
		error = -ENOENT;
	if (error == 0)
		*out = lease;
	return error;
}

void
ledger_cancel(struct ledger *l, struct ledger_ticket *ticket, uint64_t now_ms)
{
	struct extra *e = ledger_extra(l, ticket->cell);
	struct hold h;

	if (lock_ticket(l, ticket, &h)) {
		uint32_t target = e->target;

		if (extra_state(e) == EXTRA_WAITING) {
			queue_remove(&h, ticket->cell);
			extra_free(&h, ticket->cell);
			shard_settle(&h, target, now_ms);
		} else {
			uint32_t record = e->wait.record;
			bool held = queue_holds_grant(&h, e);

			extra_free(&h, ticket->cell);
			if (held) /* and so it goes to the next */
				shard_return(&h, record, LEDGER_HOT, now_ms);
		}
		shard_unlock(&h);
	}
	ticket->cell = LEDGER_EMPTY_LEASE;
}

static void
serve_shard(struct hold *h, uint64_t now_ms)
{
	uint32_t n, count = 0;

	(void)shard_recall(h, now_ms);
	n = h->s->waited;
	while (n != 0) {
		count++;
		n = extra_at(h, n)->link.next;
		if (n == h->s->waited)
			break;
	}
	n = h->s->waited;
	/* Only the one at hand can leave the ring. */
	for (; count > 0; count--) {
		uint32_t next = extra_at(h, n)->link.next;

		queue_grant(h, extra_at(h, n)->target, now_ms);
		n = next;
	}
}

void
ledger_serve(struct ledger *l, uint64_t now_ms)
{
	for (uint32_t i = 0; i < LEDGER_SHARDS; i++) {
		struct hold h;

		if (atomic_load_explicit(
			&l->shards[i].waiting, memory_order_relaxed) == 0)
			continue;
		h = shard_lock(l, i);
		serve_shard(&h, now_ms);
		shard_unlock(&h);
	}
}

bool
ledger_take_wakes(struct ledger *l, uint64_t workers[LEDGER_WAKE_WORDS])
{
	bool any = false;

	for (unsigned i = 0; i < LEDGER_WAKE_WORDS; i++) {
		workers[i] = 0;
		if (atomic_load_explicit(&l->wakes[i], memory_order_relaxed) !=
		    0)
			workers[i] = atomic_exchange(&l->wakes[i], 0);
		any |= workers[i] != 0;
	}
	return any;
}

bool
ledger_take_mail(struct ledger *l, uint8_t worker)
{
	return atomic_exchange(&l->mail[worker], 0) != 0;
}
