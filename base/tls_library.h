#pragma once
/* What of OpenSSL the TLS connections of this process use: a library context of their own, with
 * only the algorithms that TLS and certificates need. Made at the first call; any thread; lives as
 * long as the process. */

/* Never null. */
struct ossl_lib_ctx_st *tls_library(void);
