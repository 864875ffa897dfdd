#include "policy/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "policy/array.h"

#define PROBLEM_TEXT_MAX 1024

static const char *const severities[] = {
#define POLICY_SEVERITY_TEXT(name, text, meaning) text,
    POLICY_SEVERITIES(POLICY_SEVERITY_TEXT)
#undef POLICY_SEVERITY_TEXT
};

void policy_problems_init(struct policy_problems *problems, struct arena *arena)
{
    *problems = (struct policy_problems){.arena = arena};
}

void policy_problem_add(struct policy_problems *problems, enum policy_severity severity,
                        struct policy_where where, const char *format, ...)
{
    CHECK((size_t)severity < COUNT_OF(severities));
    if (problems->count >= POLICY_PROBLEMS_MAX) {
        return;
    }
    char text[PROBLEM_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);

    struct arena *arena = problems->arena;
    struct policy_problem problem = {
        .severity = severity,
        .file = arena_text(arena, slice_of_text(where.file)),
        .line = where.line,
        .object = arena_text(arena, slice_of_text(where.object)),
        .path = arena_text(arena, slice_of_text(where.path)),
        .text = arena_text(arena, slice_of_text(text)),
    };
    ARRAY_PUSH(arena, problems->at, problems->count, problem);
}

const char *policy_severity_name(enum policy_severity severity)
{
    CHECK((size_t)severity < COUNT_OF(severities));
    return severities[severity];
}

size_t policy_problems_count(const struct policy_problems *problems, enum policy_severity severity)
{
    size_t count = 0;
    for (size_t i = 0; i < problems->count; i++) {
        count += problems->at[i].severity == severity;
    }
    return count;
}

const char *policy_problem_text(struct arena *arena, const struct policy_problem *problem)
{
    const char *line = problem->line > 0 ? arena_printf(arena, ":%u", (unsigned)problem->line) : "";
    return arena_printf(arena, "%s%s: %s: %s%s%s%s%s", problem->file, line,
                        policy_severity_name(problem->severity), problem->object,
                        problem->object[0] != '\0' ? ": " : "", problem->path,
                        problem->path[0] != '\0' ? ": " : "", problem->text);
}
