#include "init/nft.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <string.h>
#include <sys/socket.h>

#include "init/netlink.h"

#include "base/check.h"
#include "base/slice.h"

#define NEEDS_ADMIN                                                                                \
    "not permitted: the capability NET_ADMIN in this network namespace is needed (root has it)"
#define NEEDS_NF_TABLES "this kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)"

/* Asks for the generation of the rules, which changes nothing and needs what all else needs:
 * without that libnftables writes to stderr by itself, and ends the process where it has no socket.
 */
bool nft_check_kernel(struct error *err)
{
    const struct {
        struct nlmsghdr head;
        struct nfgenmsg family;
    } question = {
        .head = {.nlmsg_len = sizeof question,
                 .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
                 .nlmsg_flags = NLM_F_REQUEST},
        .family = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0},
    };
    int result = netlink_ask(NETLINK_NETFILTER, &question.head);
    switch (result) {
    case 0:
        return true;
    case EPERM:
        return error_set(err, NEEDS_ADMIN);
    case EINVAL: /* no such subsystem */
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
        return error_set(err, NEEDS_NF_TABLES);
    default:
        errno = result;
        return error_errno(err, "asking the kernel for nf_tables");
    }
}

static bool says(const char *text, int reason)
{
    return strstr(text, strerror(reason)) != NULL; // NOLINT(concurrency-mt-unsafe)
}

/* What nft says begins with its own place in the script, which nobody has seen: keep the reason. */
static bool fail(struct nft_ctx *nft, struct error *err)
{
    const char *said = nft_ctx_get_error_buffer(nft);
    struct slice rest = slice_of_text(said);
    struct slice line = rest.len > 0 ? slice_cut(&rest, '\n') : SLICE("nft gives no reason");
    return error_set(err, "nftables: %.*s", SLICE_ARG(line));
}

static struct nft_ctx *open_nft(struct error *err)
{
    if (!nft_check_kernel(err)) {
        return NULL;
    }
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (nft == NULL || nft_ctx_buffer_error(nft) != 0 || nft_ctx_buffer_output(nft) != 0) {
        if (nft != NULL) {
            nft_ctx_free(nft);
        }
        (void)error_set(err, "nftables: out of memory");
        return NULL;
    }
    nft_ctx_output_set_flags(nft, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_NUMERIC_PRIO);
    return nft;
}

bool nft_run(const char *script, struct error *err)
{
    CHECK(script != NULL);
    struct nft_ctx *nft = open_nft(err);
    if (nft == NULL) {
        return false;
    }
    bool done = nft_run_cmd_from_buffer(nft, script) == 0 || fail(nft, err);
    nft_ctx_free(nft);
    return done;
}

bool nft_list(const char *table, struct arena *arena, const char **text, struct error *err)
{
    CHECK(table != NULL);
    *text = NULL;
    struct nft_ctx *nft = open_nft(err);
    if (nft == NULL) {
        return false;
    }
    const char *command = arena_printf(arena, "list table inet %s", table);
    bool listed = true;
    if (nft_run_cmd_from_buffer(nft, command) == 0) {
        *text = arena_text(arena, slice_of_text(nft_ctx_get_output_buffer(nft)));
    } else if (!says(nft_ctx_get_error_buffer(nft), ENOENT)) {
        listed = fail(nft, err);
    }
    nft_ctx_free(nft);
    return listed;
}
