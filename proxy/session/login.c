/* SPDX-License-Identifier: ISC */
#include "session/login.h"

#include <sys/eventfd.h>
#include <sys/random.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/list.h"
#include "policy/auth.h"
#include "policy/quota.h"

/* Checks that wait for the thread: some three seconds of work. */
#define QUEUE_MAX 64

/* How many of them one client may have. */
#define CLIENT_QUEUE_MAX 8

/* RFC 1929 has one byte for the length of each. */
#define FIELD_MAX 255

#define MAC_BYTES 32

/* What is remembered: 1024 checks, each in the set that its MAC names. */
#define SETS        256
#define SET_ENTRIES 4

struct remembered_set {
	uint8_t macs[SET_ENTRIES][MAC_BYTES];
	unsigned count; /* ever entered; the oldest gives way */
};

/*
 * One verification, and the logins that wait for it: sessions of one client
 * come in crowds, and all ask the same. Only the thread touches it while it is
 * RUNNING, `logins` aside, which is the loop's alone.
 */
struct check {
	struct link link; /* on the queue or among the finished */
	struct link same; /* in the service's `checks` */
	struct list logins;
	enum check_state {
		CHECK_QUEUED,
		CHECK_RUNNING, /* on no list of the thread's */
		CHECK_FINISHED,
	} state;
	uint8_t mac[MAC_BYTES];
	struct quota_subject client; /* who asked first */
	size_t user;                 /* whose hash is verified */
	const char *hash;            /* NULL: there is no user at all */
	bool known; /* else the result is wrong, whatever is verified */
	bool right; /* valid when FINISHED */
	size_t password_len;
	char password[FIELD_MAX];
};

struct login {
	struct link link; /* in a check's `logins`, or among the answered */
	struct login_service *service;
	struct check *check; /* NULL: answered */
	enum login_result result;
	size_t user;
	login_done_fn *done;
	void *arg;
};

struct login_service {
	const struct config *config;
	struct event readable; /* of `wake_fd` */
	int wake_fd;
	uint8_t key[MAC_BYTES];

	/* The loop's alone. */
	struct remembered_set sets[SETS];
	struct list checks;   /* all that are not finished and delivered */
	struct list answered; /* logins whose callback is due */

	/* Shared with the thread, under `lock`. */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct list queue;    /* QUEUED, oldest first */
	size_t queued;        /* how many */
	struct list finished; /* FINISHED, for the loop to take */
	bool stopping;
};

static void
lock(struct login_service *s)
{
	must(pthread_mutex_lock(&s->lock) == 0);
}

static void
unlock(struct login_service *s)
{
	must(pthread_mutex_unlock(&s->lock) == 0);
}

/* Makes the loop call on_readable() in its next pass. */
static void
wake_loop(struct login_service *s)
{
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(s->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	/* EAGAIN: so many are unread that it is readable anyway. */
	must(n == sizeof(one) || errno == EAGAIN);
}

static void
check_free(struct check *c)
{
	link_remove(&c->link);
	link_remove(&c->same);
	OPENSSL_cleanse(c, sizeof(*c));
	free(c);
}

/* With the lock held; NULL when it is time to stop. */
static struct check *
take_check(struct login_service *s)
{
	struct link *link;
	struct check *c;

	while (!s->stopping && list_is_empty(&s->queue))
		must(pthread_cond_wait(&s->wanted, &s->lock) == 0);
	link = list_first(&s->queue);
	if (s->stopping || link == NULL)
		return NULL;
	c = container_of(link, struct check, link);
	link_remove(link);
	s->queued--;
	c->state = CHECK_RUNNING;
	return c;
}

static void *
verify_all(void *arg)
{
	struct login_service *s = arg;
	struct check *c;

	lock(s);
	while ((c = take_check(s)) != NULL) {
		bool right;

		unlock(s);
		right = auth_verify(c->hash, c->password, c->password_len);
		OPENSSL_cleanse(c->password, sizeof(c->password));
		lock(s);
		c->right = right && c->known;
		c->state = CHECK_FINISHED;
		list_append(&s->finished, &c->link);
		wake_loop(s);
	}
	unlock(s);
	return NULL;
}

static struct remembered_set *
set_of(struct login_service *s, const uint8_t *mac)
{
	return &s->sets[mac[0] % SETS];
}

static bool
is_remembered(struct login_service *s, const uint8_t *mac)
{
	const struct remembered_set *set = set_of(s, mac);
	bool found = false;

	for (unsigned i = 0; i < SET_ENTRIES && i < set->count; i++)
		found |= CRYPTO_memcmp(set->macs[i], mac, MAC_BYTES) == 0;
	return found;
}

static void
remember(struct login_service *s, const uint8_t *mac)
{
	struct remembered_set *set = set_of(s, mac);

	if (is_remembered(s, mac))
		return;
	memcpy(set->macs[set->count % SET_ENTRIES], mac, MAC_BYTES);
	set->count++;
	/* Full sets stay full when the number wraps. */
	if (set->count == 2 * SET_ENTRIES)
		set->count = SET_ENTRIES;
}

/* The login is answered: its callback comes from the loop. */
static void
answer(struct login *l, enum login_result result, size_t user)
{
	link_remove(&l->link);
	l->check = NULL;
	l->result = result;
	l->user = user;
	list_append(&l->service->answered, &l->link);
}

static void
finish_check(struct login_service *s, struct check *c)
{
	struct link *link;

	if (c->right)
		remember(s, c->mac);
	while ((link = list_first(&c->logins)) != NULL)
		answer(container_of(link, struct login, link),
		    c->right ? LOGIN_OK : LOGIN_WRONG, c->user);
	check_free(c);
}

static void
finish_checks(struct login_service *s)
{
	struct list finished;
	struct link *link;

	list_init(&finished);
	lock(s);
	list_move_all(&finished, &s->finished);
	unlock(s);
	while ((link = list_first(&finished)) != NULL)
		finish_check(s, container_of(link, struct check, link));
}

/*
 * What callbacks start is answered in a later pass. Cancelling takes a login
 * off the batch as off any list. The service is not touched once callbacks
 * run: the last of them may free it.
 */
static void
deliver(struct login_service *s)
{
	struct list batch;
	struct link *link;

	list_init(&batch);
	list_move_all(&batch, &s->answered);
	while ((link = list_first(&batch)) != NULL) {
		struct login *l = container_of(link, struct login, link);
		struct login copy = *l;

		link_remove(&l->link);
		free(l);
		copy.done(copy.result, copy.user, copy.arg);
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct login_service *s = arg;
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)what;
	must(n == sizeof(count) || errno == EAGAIN || errno == EINTR);
	finish_checks(s);
	deliver(s);
}

/* What a client says it is. */
struct claim {
	const char *user, *password;
	size_t user_len, password_len;
	struct addr client;
};

/* Of which user, or of none, and the MAC of all that the answer hangs on. */
struct identity {
	bool known;
	size_t user;
	uint8_t mac[MAC_BYTES];
};

static size_t
append(uint8_t *to, size_t at, const void *bytes, size_t len)
{
	if (len != 0)
		memcpy(to + at, bytes, len);
	return at + len;
}

/*
 * Claims with equal MACs have equal answers. Each field but the last has a
 * fixed length or its length before it. False when there is no memory.
 */
static bool
identify(
    struct login_service *s, const struct claim *claim, struct identity *out)
{
	uint8_t text[32 + FIELD_MAX + AUTH_HASH_MAX + FIELD_MAX];
	const struct config_user *u =
	    config_find_user(s->config, claim->user, claim->user_len);
	const char *who = u != NULL ? u->password : claim->user;
	size_t who_len = u != NULL ? strlen(u->password) : claim->user_len;
	size_t at = 0;
	bool made;

	must(claim->user_len <= FIELD_MAX && claim->password_len <= FIELD_MAX);
	must(who_len <= FIELD_MAX);
	out->known = u != NULL;
	out->user = u != NULL ? (size_t)(u - s->config->users) : 0;
	at = append(text, at, &out->known, sizeof(out->known));
	at = append(text, at, &out->user, sizeof(out->user));
	at = append(text, at, &who_len, sizeof(who_len));
	at = append(text, at, who, who_len);
	at = append(text, at, claim->password, claim->password_len);
	made = HMAC(EVP_sha256(), s->key, sizeof(s->key), text, at, out->mac,
		   NULL) != NULL;
	OPENSSL_cleanse(text, sizeof(text));
	return made;
}

/* Signals are for the thread of the loop. */
static int
start_thread(struct login_service *s)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	error = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (error != 0)
		return -error;
	error = pthread_create(&s->thread, NULL, verify_all, s);
	must(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return -error;
}

static int
open_wake(struct login_service *s, struct event_base *base)
{
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0)
		return -errno;
	if (event_assign(&s->readable, base, s->wake_fd, EV_READ | EV_PERSIST,
		on_readable, s) == 0 &&
	    event_add(&s->readable, NULL) == 0)
		return 0;
	close(s->wake_fd);
	return -ENOMEM;
}

/*
 * The first use of OpenSSL reads files and fills some 300 KiB: not while
 * clients wait, and not at all where nobody logs in.
 */
static bool
warm_up(struct login_service *s)
{
	struct claim nobody = { .user = "", .password = "" };
	struct identity ignored;

	return s->config->user_count == 0 || identify(s, &nobody, &ignored);
}

static bool
make_key(struct login_service *s)
{
	return getrandom(s->key, sizeof(s->key), 0) == sizeof(s->key);
}

struct login_service *
login_service_new(struct event_base *base, const struct config *config)
{
	struct login_service *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = config;
	list_init(&s->checks);
	list_init(&s->answered);
	list_init(&s->queue);
	list_init(&s->finished);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wanted, NULL);
	if (!make_key(s) || !warm_up(s) || open_wake(s, base) != 0)
		goto no_wake;
	if (start_thread(s) == 0)
		return s;
	event_del(&s->readable);
	close(s->wake_fd);
no_wake:
	pthread_cond_destroy(&s->wanted);
	pthread_mutex_destroy(&s->lock);
	OPENSSL_cleanse(s, sizeof(*s));
	free(s);
	return NULL;
}

void
login_service_free(struct login_service *service)
{
	struct link *link;

	if (service == NULL)
		return;
	lock(service);
	service->stopping = true;
	must(pthread_cond_signal(&service->wanted) == 0);
	unlock(service);
	must(pthread_join(service->thread, NULL) == 0);
	/* Checks nobody waits for any more may have been under way. */
	while ((link = list_first(&service->checks)) != NULL) {
		struct check *c = container_of(link, struct check, same);

		must(list_is_empty(&c->logins));
		check_free(c);
	}
	must(list_is_empty(&service->answered));
	event_del(&service->readable);
	close(service->wake_fd);
	pthread_cond_destroy(&service->wanted);
	pthread_mutex_destroy(&service->lock);
	OPENSSL_cleanse(service, sizeof(*service));
	free(service);
}

bool
login_is_known(struct login_service *service, const char *user, size_t user_len,
    const char *password, size_t password_len, size_t *index)
{
	struct claim claim = { .user = user,
		.password = password,
		.user_len = user_len,
		.password_len = password_len };
	struct identity id;

	if (!identify(service, &claim, &id) || !is_remembered(service, id.mac))
		return false;
	*index = id.user;
	return true;
}

/*
 * Hashes may differ in cost, so a name that nobody has borrows the hash of a
 * user, and the same one each time: it costs what some user costs.
 */
static size_t
borrow_user(struct login_service *s, const struct claim *claim)
{
	uint8_t mac[MAC_BYTES] = { 0 };
	uint32_t number;

	if (HMAC(EVP_sha256(), s->key, sizeof(s->key),
		(const uint8_t *)claim->user, claim->user_len, mac,
		NULL) == NULL)
		return 0;
	memcpy(&number, mac, sizeof(number));
	return number % s->config->user_count;
}

static struct check *
check_new(struct login_service *s, const struct claim *claim,
    const struct identity *id)
{
	struct check *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	link_init(&c->link);
	list_init(&c->logins);
	memcpy(c->mac, id->mac, MAC_BYTES);
	c->client = quota_client(&claim->client, s->config->client_bits_v4,
	    s->config->client_bits_v6);
	c->known = id->known;
	c->user = id->user;
	if (!c->known && s->config->user_count != 0)
		c->user = borrow_user(s, claim);
	if (s->config->user_count != 0)
		c->hash = s->config->users[c->user].password;
	c->password_len = claim->password_len;
	if (claim->password_len != 0)
		memcpy(c->password, claim->password, claim->password_len);
	list_append(&s->checks, &c->same);
	return c;
}

/* The same claim, if its check is under way. */
static struct check *
find_check(struct login_service *s, const uint8_t *mac)
{
	struct link *link, *following;

	LIST_EACH_SAFE (link, following, &s->checks) {
		struct check *c = container_of(link, struct check, same);

		if (CRYPTO_memcmp(c->mac, mac, MAC_BYTES) == 0)
			return c;
	}
	return NULL;
}

/* Has the client its part of the queue, and more to ask? */
static bool
is_greedy(struct login_service *s, const struct quota_subject *client)
{
	struct link *link, *following;
	unsigned n = 0;

	if (client->family == ADDR_NONE)
		return false;
	LIST_EACH_SAFE (link, following, &s->checks)
		n += memcmp(&container_of(link, struct check, same)->client,
			 client, sizeof(*client)) == 0;
	return n > CLIENT_QUEUE_MAX;
}

/* False when the queue is full, or the client's part of it. */
static bool
enqueue(struct login_service *s, struct check *c)
{
	bool room, greedy = is_greedy(s, &c->client);

	lock(s);
	room = s->queued < QUEUE_MAX && !greedy;
	if (room) {
		list_append(&s->queue, &c->link);
		s->queued++;
		must(pthread_cond_signal(&s->wanted) == 0);
	}
	unlock(s);
	return room;
}

/* Gives `l` to a check, or answers it when there is no room for one. */
static int
begin(struct login *l, const struct claim *claim)
{
	struct login_service *s = l->service;
	struct identity id;
	struct check *c;

	if (!identify(s, claim, &id))
		return -ENOMEM;
	c = find_check(s, id.mac);
	if (c == NULL) {
		c = check_new(s, claim, &id);
		if (c == NULL)
			return -ENOMEM;
		if (!enqueue(s, c)) {
			check_free(c);
			answer(l, LOGIN_BUSY, 0);
			wake_loop(s);
			return 0;
		}
	}
	l->check = c;
	list_append(&c->logins, &l->link);
	return 0;
}

struct login *
login_start(struct login_service *service, const struct addr *client,
    const char *user, size_t user_len, const char *password,
    size_t password_len, login_done_fn *done, void *arg)
{
	struct claim claim = { user, password, user_len, password_len,
		*client };
	struct login *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	link_init(&l->link);
	l->service = service;
	l->done = done;
	l->arg = arg;
	if (begin(l, &claim) == 0)
		return l;
	free(l);
	return NULL;
}

/* Nobody waits for `c`: off the queue, unless the thread is at it. */
static void
abandon(struct login_service *s, struct check *c)
{
	bool queued;

	lock(s);
	queued = c->state == CHECK_QUEUED;
	if (queued) {
		link_remove(&c->link);
		s->queued--;
	}
	unlock(s);
	if (queued)
		check_free(c);
}

void
login_cancel(struct login **login)
{
	struct login *l = *login;

	if (l == NULL)
		return;
	*login = NULL;
	link_remove(&l->link);
	if (l->check != NULL && list_is_empty(&l->check->logins))
		abandon(l->service, l->check);
	free(l);
}
