#pragma once
/* The mesh's certificate authority and the key of its tokens, which outlive a control plane's
 * restart, and a stranger's authority that the mesh does not know. Made once a process, in a
 * folder that goes with it: what reads them are the real modules, by file. */

#include <stdint.h>

#include "base/arena.h"
#include "base/crypto.h"
#include "base/tls.h"
#include "control/serve/ca.h"

struct authority {
    struct arena arena;
    const char *folder;     /* null: not opened */
    const char *mesh_root;  /* file */
    const char *token_key;  /* file */
    struct crypto_key *key; /* of tokens */
    struct ca *mesh;
    struct ca *stranger;
};

/* The first call makes it. Ends the program where there is no room for it. */
void authority_open(struct authority *authority);
/* Takes the folder away. */
void authority_close(struct authority *authority);

/* The mesh's, with another life for certificates; ca_free it. */
struct ca *authority_reopen(const struct authority *authority, uint32_t ttl_s) MUST_USE;
/* The file with a token for that service account of namespace default. */
const char *authority_token(struct authority *authority, const char *account);

/* A certificate that a simulated run shows without having asked for it. */
struct tls_identity *authority_issue(const struct ca *ca, const char *identity, uint32_t ttl_s,
                                     uint64_t wall_us) MUST_USE;
struct tls_trust *authority_trust(const struct authority *authority) MUST_USE;
