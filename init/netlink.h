#pragma once
/* One request to the kernel over netlink(7), and whether it was taken. In the caller's network
 * namespace. One thread. */

#include <linux/netlink.h>

#include "base/check.h"

/* 0, or the errno that the kernel answers (or that the socket gave). What else is in the answer is
 * not looked at. `family`: NETLINK_ROUTE, NETLINK_NETFILTER. */
int netlink_ask(int family, const struct nlmsghdr *request) MUST_USE;
