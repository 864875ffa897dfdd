#pragma once
/* The control plane's own interface on --api-address, for `pillion`, for scrapers and for people.
 * It asks for no credentials and changes nothing. JSON, but for /metrics.
 *
 *     GET /healthz          200 "ok" (also /healthz/live and /healthz/ready)
 *     GET /metrics          Prometheus' text format
 *     GET /api/status       {"version": "0.1.0", "trust_domain": "cluster.local", "generation": 7,
 *                            "changed": "2026-11-20T14:15:53.123456Z" or null,
 *                            "state_saved": false while the state folder does not take it,
 *                            "sidecars": [{
 *                              "id": node.id, "version": user agent, "identity": SPIFFE id or null,
 *                              "peer": "127.0.0.1:40000", "protocol": "delta" or "sotw",
 *                              "since": time, "generation": the mesh's,
 *                              "acknowledged": N, "acknowledged_at": time or null,
 *                              "behind": true or false,
 *                              "resources": N, "pending": N, "rejected": N,
 *                              "certificate_rest_s": seconds, or null where it is not known,
 *                              "nacks": [{"type": "CDS", "name": ..., "text": the client's words}]
 *                            }],
 *                            "problems": [{"severity", "file", "line", "object", "path", "text"}]}
 *     GET /api/objects      {"generation": 7, "objects": [{"id": "Service/default/order-service",
 *                            "kind", "namespace", "name", "file", "line", "generation",
 *                            "hash": 16 hexadecimal digits}]}
 *     POST /api/wait        {"objects": [{"kind", "namespace", "name", "hash"}], "timeout_ms": N}
 *                           answers when all of them are live everywhere, or at the time-out (0:
 *                           at once; at most 10 minutes):
 *                           {"live": true, "generation": 7, "objects": [{"id", "state",
 *                            "generation", "holders": N, "acknowledged": N,
 *                            "behind": [node ids, at most 20], "problem": text or null}]}
 *
 * "acknowledged" of a sidecar is the mesh's generation when everything that it is subscribed to is
 * in force as of that (changes that do not concern it need no answer), else the newest generation
 * among what is in force; "acknowledged_at" is when it last had answered all that it was sent.
 * "state" of an object that is waited for: "live" (in force, and acknowledged by every connected
 * client that holds something made from it; holders 0: none does), "behind" (in force, not
 * acknowledged everywhere), "other" (another version is in force: not read yet, or refused, then
 * "problem" says why), "absent" (no version is in force). Without "hash" any version will do. */

#include <stdbool.h>

#include "base/check.h"
#include "control/picture.h"
#include "control/serve/ads.h"
#include "control/serve/ca_service.h"
#include "http/server.h"

struct loop;
struct api;

#define API_WAIT_BODY    ((uint32_t)1 << 20)
#define API_WAIT_MAX_MS  UINT64_C(600000)
#define API_WAITERS_MAX  256U
#define API_WAIT_OBJECTS 10000U

struct api_options {
    struct loop *loop;
    const struct picture *picture;
    const struct ca_service *certificates; /* may be null */
};

struct api *api_new(const struct api_options *options) MUST_USE;
/* Answers all that waits. */
void api_free(struct api **api);
/* Whose clients are shown; the API's task is what ads_new is given as `progress`. */
void api_set_ads(struct api *api, const struct ads *ads);
struct task *api_get_task(struct api *api);

/* The rows of its server, whose owner is the api. */
const struct http_route *api_get_routes(size_t *count);
