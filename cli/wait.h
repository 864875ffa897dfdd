#pragma once
/* What `pillion wait` asks and shows. Pure. */

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "policy/parse.h"

/* The body of POST /api/wait for these objects in exactly these versions. A new reference. */
json_t *wait_question(const struct policy_documents *documents, uint64_t timeout_ms) MUST_USE;

/* Shows control's answer, a line each object; *live: all of them are, everywhere. False with *err
 * where the answer has another form. */
bool wait_print(FILE *out, const json_t *answer, struct arena *arena, bool *live,
                struct error *err) MUST_USE;
