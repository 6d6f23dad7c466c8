/* SPDX-License-Identifier: ISC */
#include "egress/hostnet.h"
