#include "sidecar/fail.h"

#define ROW(value, cause_, http_, grpc_, flag_, proxy_status_, unseen_, meaning_)                  \
    [FAIL_##value] = {.flag = (flag_),                                                             \
                      .proxy_status = (proxy_status_),                                             \
                      .meaning = (meaning_),                                                       \
                      .http = (http_),                                                             \
                      .grpc = (grpc_),                                                             \
                      .cause = FAIL_CAUSE_##cause_,                                                \
                      .unseen = (unseen_),                                                         \
                      .name = #value},

static const struct fail_facts facts[FAIL_COUNT] = {FAILS(ROW)};

const struct fail_facts *fail_facts(enum fail fail)
{
    CHECK((unsigned)fail < FAIL_COUNT);
    return &facts[fail];
}

const char *fail_name(enum fail fail)
{
    return fail_facts(fail)->name;
}

bool fail_from_name(struct slice name, enum fail *fail)
{
    for (unsigned i = 0; i < FAIL_COUNT; i++) {
        if (slice_eq(name, slice_of_text(facts[i].name))) {
            *fail = (enum fail)i;
            return true;
        }
    }
    return false;
}

struct slice fail_details(enum fail fail, char text[FAIL_DETAILS_MAX])
{
    struct slice name = slice_head(slice_of_text(fail_name(fail)), FAIL_DETAILS_MAX);
    for (size_t i = 0; i < name.len; i++) {
        text[i] = (char)slice_lower(name.at[i]);
    }
    return slice_of(text, name.len);
}
