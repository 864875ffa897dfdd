#include "base/net.h"

#include "base/loop.h"

const char *net_error_text(enum net_error error)
{
    static const char *const texts[] = {
#define X(value, text) [NET_ERROR_##value] = (text),
        NET_ERRORS(X)
#undef X
    };
    CHECK((unsigned)error < COUNT_OF(texts));
    return texts[error];
}

struct net_listener *net_listen(struct loop *loop, const struct addr *at, int backlog,
                                struct error *err)
{
    return loop->net->listen(loop, at, backlog, err);
}

struct net_conn *net_connect(struct loop *loop, const struct addr *to, const struct addr *from,
                             enum net_error *error)
{
    return loop->net->connect(loop, to, from, error);
}
