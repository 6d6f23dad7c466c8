/* SPDX-License-Identifier: ISC */
/*
 * The three ways to bind a source port, and the choice between them. How a port
 * is bound shows from outside: a connection of the test's own that shares the
 * port works beside `range`, and not beside `explicit`.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "namespace.h"
#include "peer.h"
#include "socks.h"

#define PORT    40000
#define TARGETS 50

unsigned
it_needs(void)
{
	return IT_NAMESPACES;
}

struct scene {
	struct daemon *daemon;
	struct target target;
	struct pair pairs[TARGETS];
};

static const char *
config_of(const char *bind, char *config, size_t size)
{
	snprintf(config, size,
	    "[listen a]\naddress = 127.0.0.1:1080\n"
	    "[egress e]\nports = %d\nbind = %s\n",
	    PORT, bind);
	return config;
}

/* Sessions to many targets, all of them from PORT. */
static void
scene_open(struct scene *s, const char *bind, bool refuse_port_range)
{
	char config[256];

	s->daemon = daemon_start(&(struct daemon_setup){
	    .config = config_of(bind, config, sizeof(config)),
	    .refuse_port_range = refuse_port_range });
	struct addr proxy = daemon_address(s->daemon, "a");

	for (uint32_t i = 0; i < TARGETS; i++) {
		struct addr to = target_number(&s->target, i);

		pair_open_by(&s->pairs[i], peer_connect_numbered(i, &proxy),
		    &s->target, &to);
		IT_MUST(s->pairs[i].source.port == PORT, "source port %u",
		    s->pairs[i].source.port);
	}
}

static void
scene_close(struct scene *s)
{
	for (uint32_t i = 0; i < TARGETS; i++)
		pair_exchange(&s->pairs[i], i);
	pair_reset_all(s->pairs, TARGETS);
	daemon_stop(s->daemon);
}

/* Can the test use PORT itself, towards a target of its own? */
static bool
port_is_shared(const struct scene *s)
{
	struct addr to = target_at(&s->target, "127.99.99.99");
	int fd, error = peer_try_connect_sharing(PORT, &to, &fd);

	IT_MUST(error == 0 || error == EADDRNOTAVAIL, "connect: %s",
	    strerror(error));
	if (error == 0) {
		peer_reset(fd);
		close(target_accept(&s->target));
	}
	return error == 0;
}

Test(bind_modes, range_shares_the_port)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 50000);
	scene_open(&s, "range", false);
	cr_assert(port_is_shared(&s));
	scene_close(&s);
}

Test(bind_modes, auto_is_range_where_it_can_be)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 50000);
	scene_open(&s, "auto", false);
	cr_assert(port_is_shared(&s));
	cr_assert_eq(daemon_count_log(s.daemon, "event=bind_fallback"), 0);
	scene_close(&s);
}

Test(bind_modes, explicit_binds_the_port)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 50000);
	scene_open(&s, "explicit", false);
	cr_assert(!port_is_shared(&s));
	/* It is as asked for. */
	cr_assert_eq(daemon_count_log(s.daemon, "event=bind_fallback"), 0);
	scene_close(&s);
}

Test(bind_modes, kernel_leaves_the_choice_to_the_kernel)
{
	struct pair pairs[TARGETS];
	struct target target;

	namespace_enter_with_ports(&target, PORT, PORT);
	struct daemon *d = daemon_start(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:1080\n"
		      "[egress e]\nbind = kernel\n" });
	struct addr proxy = daemon_address(d, "a");

	for (uint32_t i = 0; i < TARGETS; i++) {
		struct addr to = target_number(&target, i);

		pair_open_by(
		    &pairs[i], peer_connect_numbered(i, &proxy), &target, &to);
		cr_assert_eq(pairs[i].source.port, PORT);
	}
	/* The kernel has no port left towards the first target. */
	struct addr to = target_number(&target, 0);
	int fd = peer_connect_numbered(TARGETS, &proxy);

	cr_assert_eq(socks_ask(fd, &to).code, 1);
	close(fd);
	pair_reset_all(pairs, TARGETS);
	daemon_stop(d);
}

Test(bind_modes, without_the_range_option_auto_is_explicit)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 50000);
	scene_open(&s, "auto", true);
	cr_assert(!port_is_shared(&s));
	cr_assert_geq(daemon_count_log(s.daemon, "level=warning"), 1);
	scene_close(&s);
}

Test(bind_modes, outside_the_sysctl_auto_is_explicit_with_a_warning)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 39999);
	scene_open(&s, "auto", false);
	cr_assert_geq(daemon_count_log(s.daemon, "level=warning"), 1);
	cr_assert(daemon_log_contains(s.daemon, "ip_local_port_range"));
	scene_close(&s);
}

Test(bind_modes, a_reserved_port_is_explicit_with_a_warning)
{
	struct scene s;

	namespace_enter_with_ports(&s.target, 30000, 50000);
	namespace_sysctl("ipv4/ip_local_reserved_ports", "40000");
	scene_open(&s, "auto", false);
	cr_assert_geq(daemon_count_log(s.daemon, "level=warning"), 1);
	cr_assert(daemon_log_contains(s.daemon, "ip_local_reserved_ports"));
	scene_close(&s);
}

/* The daemon does not start and says what stands in the way. */
static void
refuse_start(const char *bind, bool refuse_port_range, const char *word)
{
	char config[256];
	struct daemon *d = daemon_launch(&(struct daemon_setup){
	    .config = config_of(bind, config, sizeof(config)),
	    .refuse_port_range = refuse_port_range });
	int status = daemon_wait_exit(d);

	cr_assert(status == 1 || status == 2, "status %d", status);
	cr_assert(daemon_log_contains(d, word), "no word of %s", word);
	daemon_free(d);
}

Test(bind_modes, range_outside_the_sysctl_does_not_start)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 39999);
	refuse_start("range", false, "ip_local_port_range");
	/* The value to set holds both what is and what is wanted. */
	refuse_start("range", false, "30000");
	refuse_start("range", false, "40000");
}

Test(bind_modes, range_without_the_option_does_not_start)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 50000);
	refuse_start("range", true, "range");
}

Test(bind_modes, a_listener_inside_the_pool_does_not_start)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 50000);
	struct daemon *d = daemon_launch(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:40000\n"
		      "[egress e]\nports = 40000-40009\n" });
	int status = daemon_wait_exit(d);

	cr_assert(status == 1 || status == 2, "status %d", status);
	cr_assert(daemon_log_contains(d, "40000"));
	daemon_free(d);
}

Test(bind_modes, a_source_address_of_another_host_does_not_start)
{
	struct target target;

	namespace_enter_with_ports(&target, 30000, 50000);
	struct daemon *d = daemon_launch(&(struct daemon_setup){
	    .config = "[listen a]\naddress = 127.0.0.1:1080\n"
		      "[egress e]\naddresses = 192.0.2.7\n" });
	int status = daemon_wait_exit(d);

	cr_assert(status == 1 || status == 2, "status %d", status);
	cr_assert(daemon_log_contains(d, "192.0.2.7"));
	daemon_free(d);
}
