/* `pillion validate`: what pillion-control would say of a folder, without a daemon. Everything that
 * is named is taken as the whole mesh, and nothing as in force before: a VirtualService whose host
 * or subset is in none of the files is pending. */
#include "cli/command.h"
#include "cli/objects.h"
#include "policy/set.h"

#define O         struct validate_options
#define PATHS_MAX 10000

struct validate_options {
    const char *trust_domain;
    const char *root_namespace;
    bool strict;
};

static const struct option options[] = {
    OPTION("trust-domain", STRING, O, trust_domain, .fallback = "cluster.local",
           .meaning = "as pillion-control is given it"),
    OPTION("root-namespace", STRING, O, root_namespace, .fallback = "pillion-system", .unit = "NS",
           .meaning = "as pillion-control is given it"),
    OPTION("strict", BOOL, O, strict,
           .meaning = "exit 1 for what is pending and for warnings, too, not for errors only"),
};

static const struct options_program program = {
    .name = "pillion validate",
    .summary = "checks files and folders of objects, without a daemon",
    .words = "DIR|FILE...",
    .max_words = PATHS_MAX,
    .options = options,
    .count = COUNT_OF(options),
};

static void apply(struct objects *objects, const struct validate_options *given)
{
    struct model_options model = {.trust_domain = given->trust_domain,
                                  .root_namespace = given->root_namespace};
    struct policy_set set;
    policy_set_init(&set);
    (void)policy_set_apply(&set, &objects->documents, &model, &objects->problems);
    policy_set_fini(&set);
}

static int run(const struct call *call, struct error *err)
{
    const struct validate_options *given = call->options;
    if (call->words.count == 0) {
        (void)error_set(err, "nothing to check: name folders or files (- is standard input)");
        return EXIT_USAGE;
    }
    struct objects objects;
    objects_read(&objects, &call->words, call->arena);
    apply(&objects, given);
    objects_print_problems(&objects, call->out);
    const struct policy_problems *problems = &objects.problems;
    size_t errors = policy_problems_count(problems, POLICY_SEVERITY_ERROR);
    (void)fprintf(call->notes,
                  "files: %zu, objects: %zu; errors: %zu, pending: %zu, warnings: %zu\n",
                  objects.files, objects.documents.count, errors,
                  policy_problems_count(problems, POLICY_SEVERITY_PENDING),
                  policy_problems_count(problems, POLICY_SEVERITY_WARNING));
    bool bad = errors > 0 || (given->strict && problems->count > 0);
    objects_fini(&objects);
    return bad ? EXIT_NO : EXIT_DONE;
}

const struct command command_validate = {
    .name = "validate",
    .program = &program,
    .options_bytes = sizeof(O),
    .run = run,
};
