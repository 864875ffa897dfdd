#include "init/netlink.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

/* Any message but NLMSG_ERROR is the answer to a question; an error of 0 is an acknowledgement. */
static int receive(int kernel)
{
    union {
        struct {
            struct nlmsghdr head;
            struct nlmsgerr error;
        } in;
        uint8_t bytes[4096]; /* an error repeats the request behind itself */
    } answer;
    ssize_t got = recv(kernel, &answer, sizeof answer, 0);
    if (got < 0) {
        return errno;
    }
    if ((size_t)got < sizeof answer.in.head) {
        return EPROTO;
    }
    if (answer.in.head.nlmsg_type != NLMSG_ERROR) {
        return 0;
    }
    return (size_t)got < sizeof answer.in ? EPROTO : -answer.in.error.error;
}

int netlink_ask(int family, const struct nlmsghdr *request)
{
    CHECK(request != NULL);
    CHECK(request->nlmsg_len >= sizeof *request);
    int kernel = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    if (kernel < 0) {
        return errno;
    }
    struct sockaddr_nl to = {.nl_family = AF_NETLINK};
    ssize_t sent =
        sendto(kernel, request, request->nlmsg_len, 0, (const struct sockaddr *)&to, sizeof to);
    int result = sent < 0 ? errno : receive(kernel);
    (void)close(kernel);
    return result;
}
