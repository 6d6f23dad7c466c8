/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include "fakes.h"

struct login_service {
	size_t under_way;
};

struct login {
	struct login_service *service;
	login_done_fn *done;
	void *arg;
};

/* None for users that are nowhere. */
struct login_service *
login_service_new(struct event_base *base, const struct config *config)
{
	must(base != NULL);
	if (config->user_count > 0 && config->users == NULL)
		return NULL;
	return calloc(1, sizeof(struct login_service));
}

void
login_service_free(struct login_service *service)
{
	must(service == NULL || service->under_way == 0);
	free(service);
}

static bool
is_user(const char *user, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(user, name, len) == 0;
}

bool
login_is_known(struct login_service *service, const char *user, size_t user_len,
    const char *password, size_t password_len, size_t *index)
{
	must(service != NULL && password[password_len] == '\0');
	if (!is_user(user, user_len, FAKE_USER_KNOWN))
		return false;
	*index = 0;
	return true;
}

struct login *
login_start(struct login_service *service, const struct addr *client,
    const char *user, size_t user_len, const char *password,
    size_t password_len, login_done_fn *done, void *arg)
{
	struct login *l;

	(void)client;

	must(password[password_len] == '\0');
	if (is_user(user, user_len, FAKE_USER_WITHOUT_MEMORY))
		return NULL;
	l = calloc(1, sizeof(*l));
	must(l != NULL);
	*l = (struct login){ service, done, arg };
	service->under_way++;
	return l;
}

static void
end(struct login *l)
{
	must(l->service->under_way > 0);
	l->service->under_way--;
	free(l);
}

void
login_cancel(struct login **login)
{
	if (*login != NULL)
		end(*login);
	*login = NULL;
}

void
fake_login_answer(struct login *l, enum login_result result, size_t user)
{
	login_done_fn *done = l->done;
	void *arg = l->arg;

	end(l);
	done(result, user, arg);
}
