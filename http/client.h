#pragma once
/* One HTTP/1.1 request to HOST:PORT and its answer, for the command-line tool: it blocks, on a loop
 * of its own. Not for programs that serve. */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

struct http_client_request {
    const char *server;        /* "127.0.0.1:15014", "[::1]:15014" or "localhost:15014" */
    const char *method;        /* null: "GET", or "POST" where there is a body */
    const char *path;          /* with its query */
    const char *content_type;  /* of the body; null: "application/json" */
    const char *authorization; /* null: none */
    struct slice body;
    uint32_t timeout_ms; /* for all of it; 0: 10 s */
    uint32_t body_max;   /* bytes of an answer; 0: 64 MiB */
};

struct http_client_answer {
    uint16_t status;
    struct slice content_type; /* empty: none */
    struct slice body;         /* a zero byte stands behind it */
    void *memory;              /* what both point into */
};

/* True when an answer came, whatever its status. Else *err has a line for people:
 * "connect to 127.0.0.1:15014: connection refused". */
bool http_client_ask(const struct http_client_request *request, struct http_client_answer *answer,
                     struct error *err) MUST_USE;
/* May be called on an answer that was never filled, if it is zeroed. */
void http_client_answer_fini(struct http_client_answer *answer);
