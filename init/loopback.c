#include "init/loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "init/netlink.h"

#define LO_INDEX 1 /* in every network namespace */

static const struct in6_addr source = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6}}};

struct request {
    struct nlmsghdr head;
    struct ifaddrmsg address;
    struct rtattr local_head;
    struct in6_addr local;
};

static_assert(sizeof(struct request) ==
                  NLMSG_HDRLEN + sizeof(struct ifaddrmsg) + RTA_LENGTH(sizeof(struct in6_addr)),
              "netlink has no gaps here");

static enum loopback_result change(uint16_t type, uint16_t flags, int no_change, const char *what,
                                   struct error *err)
{
    struct request request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = type,
                 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)},
        .address = {.ifa_family = AF_INET6,
                    .ifa_prefixlen = 128,
                    .ifa_flags = IFA_F_NODAD | IFA_F_PERMANENT,
                    .ifa_scope = RT_SCOPE_HOST,
                    .ifa_index = LO_INDEX},
        .local_head = {.rta_len = RTA_LENGTH(sizeof source), .rta_type = IFA_LOCAL},
        .local = source,
    };
    int result = netlink_ask(NETLINK_ROUTE, &request.head);
    if (result == 0 || result == no_change) {
        return LOOPBACK_DONE;
    }
    /* EACCES: disable_ipv6 is set on lo; the others: no IPv6 in the kernel. */
    if (result == EACCES || result == EOPNOTSUPP || result == EAFNOSUPPORT) {
        return LOOPBACK_NO_IPV6;
    }
    errno = result;
    (void)error_errno(err, "%s ::6/128 %s lo", what, type == RTM_NEWADDR ? "to" : "from");
    return LOOPBACK_FAILED;
}

enum loopback_result loopback_add(struct error *err)
{
    return change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, EEXIST, "add", err);
}

enum loopback_result loopback_remove(struct error *err)
{
    return change(RTM_DELADDR, 0, EADDRNOTAVAIL, "remove", err);
}

/* Whether the address is on any interface is all that a source address needs, and is what
 * /proc/net/if_inet6 says: one address in 32 hexadecimal digits at the start of each line. */
enum loopback_result loopback_check(struct error *err)
{
    FILE *file = fopen("/proc/net/if_inet6", "re");
    if (file == NULL) {
        if (errno == ENOENT) {
            return LOOPBACK_NO_IPV6;
        }
        (void)error_errno(err, "/proc/net/if_inet6");
        return LOOPBACK_FAILED;
    }
    char line[256];
    bool any = false;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        any = true;
        found = strncmp(line, "00000000000000000000000000000006 ", 33) == 0;
    }
    (void)fclose(file);
    if (found) {
        return LOOPBACK_DONE;
    }
    return any ? LOOPBACK_ABSENT : LOOPBACK_NO_IPV6;
}
