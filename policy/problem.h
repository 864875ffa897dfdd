#pragma once
/* What is wrong with what people wrote: each problem names file, line, field and what is allowed.
 * The list and its texts live in the caller's arena. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/slice.h"

#define POLICY_SEVERITIES(X)                                                                       \
    X(ERROR, "error", "the object is refused; its last good version stays in force")               \
    X(PENDING, "pending", "the last good version stays in force until what is named appears")      \
    X(WARNING, "warning", "in force, but surely not what was meant")

enum policy_severity {
#define POLICY_SEVERITY_ENUM(name, text, meaning) POLICY_SEVERITY_##name,
    POLICY_SEVERITIES(POLICY_SEVERITY_ENUM)
#undef POLICY_SEVERITY_ENUM
};

struct policy_problem {
    enum policy_severity severity;
    const char *file;
    uint32_t line;      /* 0: the whole file */
    const char *object; /* "VirtualService/default/order-service"; "" where it is not known */
    const char *path;   /* "spec.http[0].route[1].weight"; "" for the whole object */
    const char *text;   /* what is wrong, and what is allowed */
};

struct policy_problems {
    struct arena *arena;
    struct policy_problem *at;
    size_t count;
};

void policy_problems_init(struct policy_problems *problems, struct arena *arena);

/* Where a problem is. Texts are copied. */
struct policy_where {
    const char *file;
    uint32_t line;
    const char *object;
    const char *path;
};

/* At most POLICY_PROBLEMS_MAX are kept; what comes after is dropped. */
#define POLICY_PROBLEMS_MAX 10000
void policy_problem_add(struct policy_problems *problems, enum policy_severity severity,
                        struct policy_where where, const char *format, ...) PRINTF_LIKE(4, 5);

/* "error", "pending", "warning". */
const char *policy_severity_name(enum policy_severity severity);
size_t policy_problems_count(const struct policy_problems *problems, enum policy_severity severity);

/* "FILE:LINE: error: VirtualService/default/order-service: spec.http[0].timeout: ..." in the arena.
 */
const char *policy_problem_text(struct arena *arena, const struct policy_problem *problem);
