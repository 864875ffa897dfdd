#pragma once
/* Questions to pillion-control's API (its forms: control/serve/api.h). Blocks. One thread. */

#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"

#define CONTROL_API_DEFAULT "127.0.0.1:15014"

struct control_question {
    const char *server; /* HOST:PORT */
    const char *path;
    const json_t *body; /* null: GET; else POST */
    uint32_t timeout_ms;
};

enum control_answer {
    CONTROL_ANSWER,
    CONTROL_SILENT,  /* no answer at all: *err says why; asking again may help */
    CONTROL_REFUSED, /* another status than 200, or no JSON object: *err quotes it */
};

/* *answer is a new reference, an object, with CONTROL_ANSWER; else null. */
enum control_answer control_ask(const struct control_question *question, json_t **answer,
                                struct error *err) MUST_USE;
