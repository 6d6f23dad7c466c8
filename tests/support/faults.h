/* SPDX-License-Identifier: ISC */
/*
 * faults: what may go wrong on other hosts, done to a process before it
 * becomes the daemon. Safe between fork() and exec().
 */
#ifndef FOURFOLD_TESTS_FAULTS_H
#define FOURFOLD_TESTS_FAULTS_H

#include "base/base.h"

/* setsockopt(IP_LOCAL_PORT_RANGE) fails with ENOPROTOOPT from now on, as on
 * Linux before 6.3. */
MUST_USE bool faults_refuse_port_range(void);

/* No process starts a second thread from now on: EAGAIN. */
MUST_USE bool faults_refuse_threads(void);

/* This system call (SYS_...) fails with `error` from now on. */
MUST_USE bool faults_refuse_call(uint32_t number, uint16_t error);

/* Descriptors a process, soft and hard. */
MUST_USE bool faults_limit_files(unsigned long files);

#endif
