#pragma once
/* ::6/128 on lo. From 127.0.0.6 the sidecar dials the workload without more, since all of 127/8 is
 * local; for IPv6 only ::1 is, so the address has to be added. By rtnetlink (rtnetlink(7)), in the
 * caller's network namespace. One thread. */

#include <stdbool.h>

#include "base/check.h"
#include "base/error.h"

enum loopback_result {
    LOOPBACK_DONE,
    LOOPBACK_ABSENT,  /* only of loopback_check: IPv6 is on, the address is not there */
    LOOPBACK_NO_IPV6, /* the kernel or this namespace has IPv6 switched off: nothing to capture */
    LOOPBACK_FAILED,  /* *err says why */
};

/* Each gives the same when it is called again. */
enum loopback_result loopback_add(struct error *err) MUST_USE;
enum loopback_result loopback_remove(struct error *err) MUST_USE;
enum loopback_result loopback_check(struct error *err) MUST_USE;
