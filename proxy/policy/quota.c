/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "policy/quota_layout.h"

#define PAGE 4096

/* Idle subjects that one operation looks at, to forget them. */
#define SWEEP_AT_ONCE 2

/* Each ms pays `rate` off, so that `rate` sessions are paid in a second; more
 * are never owed: after so long without a new one no debt is left. */
#define SESSION_DEBT UINT64_C(1000)
#define DEBT_OF_RATE UINT64_C(1000)
#define PAID_MS      1000

/* Writes what is true: whoever dies, dies before or after it, and the compiler
 * moves nothing across. */
static void
set_truth(_Atomic uint32_t *place, uint32_t value)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(place, value, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static uint64_t
place_block(uint64_t *end, uint64_t bytes)
{
	uint64_t at = *end;

	*end = (at + bytes + PAGE - 1) / PAGE * PAGE;
	return at;
}

static void
lay_out(struct quota *q, uint32_t subjects)
{
	uint64_t share = subjects / QUOTA_SHARDS + 1, buckets = 16, end = 0;

	/* Shards are not filled evenly: this is eight times the deviation. */
	q->cells = (uint32_t)(share + share / 4 + 64);
	while (buckets < share)
		buckets *= 2;
	q->bucket_mask = (uint32_t)buckets - 1;
	place_block(&end, sizeof(*q));
	q->buckets_at =
	    place_block(&end, QUOTA_SHARDS * buckets * sizeof(uint32_t));
	q->cells_at = place_block(
	    &end, (uint64_t)QUOTA_SHARDS * q->cells * sizeof(struct cell));
	q->bytes = end;
}

size_t
quota_bytes(uint32_t subjects)
{
	struct quota q;

	lay_out(&q, subjects);
	return q.bytes;
}

static int
init_mutexes(struct quota *q)
{
	int error = 0;

	for (unsigned i = 0; i < QUOTA_SHARDS && error == 0; i++)
		error = robust_init(&q->shards[i].mutex);
	return error;
}

int
quota_init(void *memory, uint32_t subjects, const uint8_t key[QUOTA_KEY_BYTES],
    struct quota **out)
{
	struct quota *q = memory;
	int error;

	must((uintptr_t)memory % PAGE == 0);
	lay_out(q, subjects);
	memcpy(q->key, key, sizeof(q->key));
	error = init_mutexes(q);
	if (error == 0)
		*out = q;
	return error;
}

struct quota_subject
quota_client(const struct addr *client, unsigned bits_v4, unsigned bits_v6)
{
	struct addr plain = addr_unmap(client);
	struct quota_subject s = { .kind = QUOTA_CLIENT,
		.family = plain.family };
	unsigned bits = 0;

	must(bits_v4 <= 32 && bits_v6 <= 128);
	if (plain.family == ADDR_V4)
		bits = bits_v4;
	else if (plain.family == ADDR_V6)
		bits = bits_v6;
	memcpy(s.ip, plain.ip, bits / 8);
	if (bits % 8 != 0)
		s.ip[bits / 8] =
		    (uint8_t)(plain.ip[bits / 8] & (0xff << (8 - bits % 8)));
	return s;
}

struct quota_subject
quota_arrivals(const struct addr *client, unsigned bits_v4, unsigned bits_v6)
{
	struct quota_subject s = quota_client(client, bits_v4, bits_v6);

	s.kind = QUOTA_ARRIVALS;
	return s;
}

struct quota_subject
quota_user(uint16_t id)
{
	return (struct quota_subject){ .kind = QUOTA_USER, .user = id };
}

uint32_t
quota_place(
    const struct quota *q, const struct quota_subject *s, uint32_t *bucket)
{
	uint64_t words[3] = { 0 };
	uint64_t hash;

	_Static_assert(
	    sizeof(*s) <= sizeof(words), "a subject is hashed whole");
	memcpy(words, s, sizeof(*s));
	hash = hash_words(q->key, words);
	*bucket = (uint32_t)(hash / QUOTA_SHARDS) & q->bucket_mask;
	return hash % QUOTA_SHARDS;
}

struct quota_hold
quota_lock(struct quota *q, uint32_t shard)
{
	char *block = (char *)q;
	struct quota_hold h = { .q = q,
		.s = &q->shards[shard],
		.buckets = (uint32_t *)(void *)(block + q->buckets_at) +
			   (size_t)shard * (q->bucket_mask + 1),
		.cells = (struct cell *)(void *)(block + q->cells_at) +
			 (size_t)shard * q->cells };
	int error = robust_lock(&h.s->mutex);

	must(error == 0 || error == EOWNERDEAD);
	if (error == EOWNERDEAD) {
		/* First the mending: should we die in it, the next does it. */
		quota_rebuild(&h);
		h.s->rebuilds++;
		robust_mended(&h.s->mutex);
	}
	return h;
}

void
quota_unlock(struct quota_hold *h)
{
	robust_unlock(&h->s->mutex);
}

/* Locks the shard of a subject. */
static struct quota_hold
lock_of(struct quota *q, const struct quota_subject *s, uint32_t *bucket)
{
	return quota_lock(q, quota_place(q, s, bucket));
}

static uint32_t
find_in(
    const struct quota_hold *h, uint32_t bucket, const struct quota_subject *s)
{
	uint32_t n = h->buckets[bucket];

	while (n != 0) {
		struct cell *c = quota_cell(h, n);

		if (memcmp(&c->subject, s, sizeof(*s)) == 0)
			return n;
		n = c->chain;
	}
	return 0;
}

/* A subject's main cell, or 0. */
static uint32_t
find(const struct quota_hold *h, const struct quota_subject *s)
{
	uint32_t bucket;

	quota_place(h->q, s, &bucket);
	return find_in(h, bucket, s);
}

static void
idle_append(struct quota_hold *h, uint32_t n)
{
	struct main_part *m = &quota_cell(h, n)->main;
	uint32_t head = h->s->idle;

	if (head == 0) {
		m->prev = m->next = n;
		h->s->idle = n;
		return;
	}
	m->next = head;
	m->prev = quota_cell(h, head)->main.prev;
	quota_cell(h, m->prev)->main.next = n;
	quota_cell(h, head)->main.prev = n;
}

static void
idle_remove(struct quota_hold *h, uint32_t n)
{
	struct main_part *m = &quota_cell(h, n)->main;

	quota_cell(h, m->prev)->main.next = m->next;
	quota_cell(h, m->next)->main.prev = m->prev;
	if (h->s->idle == n)
		h->s->idle = m->next == n ? 0 : m->next;
}

static void
free_cell(struct quota_hold *h, uint32_t n)
{
	struct cell *c = quota_cell(h, n);

	set_truth(&c->state, CELL_FREE);
	c->chain = h->s->free;
	h->s->free = n;
}

/* Forgets a subject that is idle, and not on the list of those any more. */
static void
forget(struct quota_hold *h, uint32_t n)
{
	struct cell *c = quota_cell(h, n);
	uint32_t bucket, *link;

	quota_place(h->q, &c->subject, &bucket);
	for (link = &h->buckets[bucket]; *link != n;
	     link = &quota_cell(h, *link)->chain)
		must(*link != 0);
	*link = c->chain;
	free_cell(h, n);
}

static void
forget_oldest(struct quota_hold *h)
{
	uint32_t n = h->s->idle;

	idle_remove(h, n);
	forget(h, n);
}

static bool
has_paid(const struct cell *c, uint64_t now_ms)
{
	return c->main.debt == 0 || now_ms >= c->main.at_ms + PAID_MS;
}

/* A little of the housekeeping at each operation. */
static void
sweep(struct quota_hold *h, uint64_t now_ms)
{
	for (unsigned i = 0; i < SWEEP_AT_ONCE && h->s->idle != 0; i++) {
		if (!has_paid(quota_cell(h, h->s->idle), now_ms))
			return;
		forget_oldest(h);
	}
}

/* A cell without meaning yet; when there is none, that of the subject that has
 * been idle longest. 0: all have sessions. */
static uint32_t
take_cell(struct quota_hold *h)
{
	uint32_t n;

	if (h->s->free == 0 && h->s->high < h->q->cells)
		return ++h->s->high;
	if (h->s->free == 0 && h->s->idle != 0)
		forget_oldest(h);
	n = h->s->free;
	if (n != 0)
		h->s->free = quota_cell(h, n)->chain;
	return n;
}

static uint32_t
add_subject(
    struct quota_hold *h, uint32_t bucket, const struct quota_subject *s)
{
	uint32_t n = take_cell(h);
	struct cell *c;

	if (n == 0)
		return 0;
	c = quota_cell(h, n);
	memset(c, 0, sizeof(*c));
	c->subject = *s;
	set_truth(&c->state, CELL_BUSY);
	c->chain = h->buckets[bucket];
	h->buckets[bucket] = n;
	return n;
}

static void
wake(struct quota_hold *h, uint32_t n)
{
	struct cell *c = quota_cell(h, n);

	idle_remove(h, n);
	memset(c->main.count, 0, sizeof(c->main.count));
	set_truth(&c->state, CELL_BUSY);
}

/* What becomes of a subject that has no session. */
static void
settle(struct quota_hold *h, uint32_t n, uint64_t now_ms)
{
	struct cell *c = quota_cell(h, n);

	while (c->more != 0) {
		uint32_t more = c->more;

		c->more = quota_cell(h, more)->more;
		free_cell(h, more);
	}
	if (has_paid(c, now_ms)) {
		forget(h, n);
	} else {
		set_truth(&c->state, CELL_IDLE);
		idle_append(h, n);
	}
}

struct quota_counts
quota_counts(struct cell *c)
{
	if (cell_state(c) == CELL_MORE)
		return (struct quota_counts){ c->count, QUOTA_MORE_HAS };
	must(cell_state(c) == CELL_BUSY);
	return (struct quota_counts){ c->main.count, QUOTA_MAIN_HAS };
}

static uint32_t
worker_of(uint32_t count)
{
	return count >> 24;
}

static uint32_t
number_of(uint32_t count)
{
	return count & QUOTA_COUNT_MAX;
}

/* Where a busy subject's sessions in `worker` are counted; otherwise NULL, and
 * `spare` is a place that could be, or NULL. */
static worker_count *
find_count(
    struct quota_hold *h, uint32_t n, uint8_t worker, worker_count **spare)
{
	*spare = NULL;
	for (; n != 0; n = quota_cell(h, n)->more) {
		struct quota_counts counts = quota_counts(quota_cell(h, n));

		for (unsigned i = 0; i < counts.n; i++) {
			uint32_t count = counts.count[i];

			if (worker_of(count) == worker)
				return &counts.count[i];
			if (count == 0 && *spare == NULL)
				*spare = &counts.count[i];
		}
	}
	return NULL;
}

/* The same, and makes one; NULL: no room. */
static worker_count *
make_count(struct quota_hold *h, uint32_t n, uint8_t worker)
{
	struct cell *c = quota_cell(h, n), *more;
	worker_count *spare, *found = find_count(h, n, worker, &spare);
	uint32_t new;

	if (found != NULL || spare != NULL)
		return found != NULL ? found : spare;
	new = take_cell(h);
	if (new == 0)
		return NULL;
	more = quota_cell(h, new);
	memset(more, 0, sizeof(*more));
	more->subject = c->subject;
	more->more = c->more;
	set_truth(&more->state, CELL_MORE);
	c->more = new;
	return &more->count[0];
}

/* What is left of the debt by now. */
static uint64_t
debt_now(const struct cell *c, uint32_t rate, uint64_t now_ms)
{
	uint64_t passed = now_ms > c->main.at_ms ? now_ms - c->main.at_ms : 0;
	uint64_t paid = passed >= PAID_MS ? c->main.debt : passed * rate;

	return c->main.debt > paid ? c->main.debt - paid : 0;
}

static void
charge(struct cell *c, uint32_t rate, uint64_t now_ms)
{
	uint64_t debt;

	if (rate == 0) {
		c->main.debt = 0;
		return;
	}
	debt = debt_now(c, rate, now_ms) + SESSION_DEBT;
	/* Should we die in between, then the debt is too old, never too small.
	 * Another worker's time may be ahead of ours. */
	if (now_ms > c->main.at_ms)
		c->main.at_ms = now_ms;
	atomic_signal_fence(memory_order_seq_cst);
	c->main.debt = (uint32_t)debt;
}

static enum quota_verdict
judge(const struct cell *c, uint32_t sessions, uint32_t rate, uint64_t now_ms)
{
	if (sessions != 0 && c->main.sum >= sessions)
		return QUOTA_SESSIONS;
	if (rate != 0 &&
	    debt_now(c, rate, now_ms) + SESSION_DEBT > rate * DEBT_OF_RATE)
		return QUOTA_RATE;
	return QUOTA_OK;
}

/* Counts one more session; `n` is a subject's cell that may, 0: it has none. */
static enum quota_verdict
enter(struct quota_hold *h, uint32_t n, uint32_t bucket, uint8_t worker,
    const struct quota_subject *subject, uint32_t rate, uint64_t now_ms)
{
	worker_count *count;
	struct cell *c;

	if (n == 0)
		n = add_subject(h, bucket, subject);
	else if (cell_state(quota_cell(h, n)) == CELL_IDLE)
		wake(h, n);
	if (n == 0)
		return QUOTA_NO_ROOM;
	count = make_count(h, n, worker);
	if (count == NULL || number_of(*count) == QUOTA_COUNT_MAX)
		return QUOTA_NO_ROOM;
	c = quota_cell(h, n);
	set_truth(count, (uint32_t)worker << 24 | (number_of(*count) + 1));
	c->main.sum++;
	charge(c, rate, now_ms);
	return QUOTA_OK;
}

enum quota_verdict
quota_enter(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint32_t sessions, uint32_t rate,
    uint64_t now_ms)
{
	enum quota_verdict verdict = QUOTA_OK;
	struct quota_hold h;
	uint32_t bucket, n;

	must(worker != 0 && subject->kind != 0 && rate <= QUOTA_RATE_MAX);
	h = lock_of(q, subject, &bucket);
	sweep(&h, now_ms);
	n = find_in(&h, bucket, subject);
	if (n != 0)
		verdict = judge(quota_cell(&h, n), sessions, rate, now_ms);
	if (verdict == QUOTA_OK)
		verdict = enter(&h, n, bucket, worker, subject, rate, now_ms);
	quota_unlock(&h);
	return verdict;
}

/* Ends so many sessions of those that `place` counts. */
static void
subtract(struct quota_hold *h, uint32_t n, worker_count *place, uint32_t number,
    uint64_t now_ms)
{
	struct cell *c = quota_cell(h, n);
	uint32_t count = *place;

	must(number_of(count) >= number && c->main.sum >= number);
	set_truth(place, number_of(count) == number ? 0 : count - number);
	c->main.sum -= number;
	if (c->main.sum == 0)
		settle(h, n, now_ms);
}

static void
refund(struct cell *c)
{
	c->main.debt = c->main.debt > SESSION_DEBT
			   ? c->main.debt - (uint32_t)SESSION_DEBT
			   : 0;
}

static void
leave(struct quota *q, uint8_t worker, const struct quota_subject *subject,
    bool was_none, uint64_t now_ms)
{
	uint32_t bucket, n;
	struct quota_hold h = lock_of(q, subject, &bucket);
	worker_count *place, *spare;

	n = find_in(&h, bucket, subject);
	must(n != 0 && cell_state(quota_cell(&h, n)) == CELL_BUSY);
	place = find_count(&h, n, worker, &spare);
	must(place != NULL);
	if (was_none)
		refund(quota_cell(&h, n));
	subtract(&h, n, place, 1, now_ms);
	sweep(&h, now_ms);
	quota_unlock(&h);
}

void
quota_leave(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint64_t now_ms)
{
	leave(q, worker, subject, false, now_ms);
}

void
quota_cancel(struct quota *q, uint8_t worker,
    const struct quota_subject *subject, uint64_t now_ms)
{
	leave(q, worker, subject, true, now_ms);
}

static bool
has_counts(const struct cell *c)
{
	return cell_state(c) == CELL_BUSY || cell_state(c) == CELL_MORE;
}

/* A subject without sessions is left to sweep(), which knows the time. */
static void
drop_in(struct quota_hold *h, uint32_t n, uint8_t worker)
{
	struct cell *c = quota_cell(h, n);
	struct quota_counts counts = quota_counts(c);

	for (unsigned i = 0; i < counts.n; i++) {
		uint32_t count = counts.count[i];

		if (worker_of(count) != worker)
			continue;
		if (cell_state(c) == CELL_MORE)
			n = find(h, &c->subject);
		subtract(h, n, &counts.count[i], number_of(count), 0);
		return;
	}
}

void
quota_drop_worker(struct quota *q, uint8_t worker)
{
	must(worker != 0);
	for (uint32_t i = 0; i < QUOTA_SHARDS; i++) {
		struct quota_hold h = quota_lock(q, i);

		for (uint32_t n = 1; n <= h.s->high; n++)
			if (has_counts(quota_cell(&h, n)))
				drop_in(&h, n, worker);
		quota_unlock(&h);
	}
}

uint32_t
quota_count(struct quota *q, const struct quota_subject *subject)
{
	uint32_t bucket, n, sum = 0;
	struct quota_hold h = lock_of(q, subject, &bucket);

	n = find_in(&h, bucket, subject);
	if (n != 0)
		sum = quota_cell(&h, n)->main.sum;
	quota_unlock(&h);
	return sum;
}

static uint32_t
sum_of(struct cell *c)
{
	struct quota_counts counts = quota_counts(c);
	uint32_t sum = 0;

	for (unsigned i = 0; i < counts.n; i++)
		sum += number_of(counts.count[i]);
	return sum;
}

/* First the main cells: each in its bucket, with what it counts itself. */
static void
rebuild_main(struct quota_hold *h, uint32_t n)
{
	struct cell *c = quota_cell(h, n);
	uint32_t bucket;

	quota_place(h->q, &c->subject, &bucket);
	c->chain = h->buckets[bucket];
	h->buckets[bucket] = n;
	c->more = 0;
	c->main.sum = 0;
	if (cell_state(c) == CELL_IDLE)
		idle_append(h, n);
	else
		c->main.sum = sum_of(c);
}

/* Then the others. One whose subject has ended is free. */
static void
rebuild_more(struct quota_hold *h, uint32_t n)
{
	struct cell *c = quota_cell(h, n), *main;
	uint32_t main_n = find(h, &c->subject);

	if (main_n == 0 || cell_state(quota_cell(h, main_n)) != CELL_BUSY) {
		must(sum_of(c) == 0);
		free_cell(h, n);
		return;
	}
	main = quota_cell(h, main_n);
	c->more = main->more;
	main->more = n;
	main->main.sum += sum_of(c);
}

void
quota_rebuild(struct quota_hold *h)
{
	uint32_t n;

	memset(h->buckets, 0, (h->q->bucket_mask + 1) * sizeof(*h->buckets));
	h->s->free = h->s->idle = 0;
	for (n = 1; n <= h->s->high; n++) {
		uint32_t state = cell_state(quota_cell(h, n));

		if (state == CELL_FREE)
			free_cell(h, n);
		else if (state != CELL_MORE)
			rebuild_main(h, n);
	}
	for (n = 1; n <= h->s->high; n++)
		if (cell_state(quota_cell(h, n)) == CELL_MORE)
			rebuild_more(h, n);
	/* Whoever died before the first session was counted, or behind the
	 * last. */
	for (n = 1; n <= h->s->high; n++) {
		struct cell *c = quota_cell(h, n);

		if (cell_state(c) == CELL_BUSY && c->main.sum == 0)
			settle(h, n, 0);
	}
}
