#include "base/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ALLOWED_MAX  256 /* bytes of the sentence that says what is allowed */
#define NAME_MAX_LEN 64U

#define SECOND_US OPTION_SECOND

/* Units from the largest on. */
struct unit {
    const char *name;
    uint64_t size;
};

static const struct unit durations[] = {{"h", 3600 * SECOND_US},
                                        {"m", 60 * SECOND_US},
                                        {"s", SECOND_US},
                                        {"ms", OPTION_MILLISECOND},
                                        {"us", 1}};
static const struct unit sizes[] = {
    {"GiB", 1U << 30}, {"Gi", 1U << 30}, {"MiB", 1U << 20}, {"Mi", 1U << 20},
    {"KiB", 1U << 10}, {"Ki", 1U << 10}, {"B", 1},          {"", 1}};

/* ---- values ---- */

/* whole + part / scale, as it was written: "12.50" is 12, 50, 100. */
struct decimal {
    uint64_t whole;
    uint64_t part; /* below 10^9 */
    uint64_t scale;
};

static size_t count_digits(struct slice text)
{
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9') {
        digits++;
    }
    return digits;
}

/* Cuts a decimal off the front of *rest. */
static bool take_decimal(struct slice *rest, struct decimal *number)
{
    size_t digits = count_digits(*rest);
    *number = (struct decimal){.scale = 1};
    if (!slice_to_u64(slice_head(*rest, digits), UINT64_MAX, &number->whole)) {
        return false;
    }
    *rest = slice_from(*rest, digits);
    if (rest->len == 0 || rest->at[0] != '.') {
        return true;
    }
    *rest = slice_from(*rest, 1);
    digits = count_digits(*rest);
    if (digits > 9 || !slice_to_u64(slice_head(*rest, digits), UINT64_MAX, &number->part)) {
        return false;
    }
    *rest = slice_from(*rest, digits);
    for (; digits > 0; digits--) {
        number->scale *= 10;
    }
    return true;
}

/* Cuts the name of a unit off the front of *rest; null where there is none. */
static const struct unit *take_unit(struct slice *rest, const struct unit *units, size_t count)
{
    size_t letters = 0;
    while (letters < rest->len && (rest->at[letters] < '0' || rest->at[letters] > '9')) {
        letters++;
    }
    struct slice name = slice_head(*rest, letters);
    *rest = slice_from(*rest, letters);
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(name, slice_of_text(units[i].name))) {
            return &units[i];
        }
    }
    return NULL;
}

/* "12.5s": cuts it off the front of *rest and adds it to *sum. Exact, or false. */
static bool take_quantity(struct slice *rest, const struct unit *units, size_t count, uint64_t *sum)
{
    struct decimal number;
    if (!take_decimal(rest, &number)) {
        return false;
    }
    const struct unit *unit = take_unit(rest, units, count);
    if (unit == NULL || number.whole > UINT64_MAX / unit->size) {
        return false;
    }
    /* part < 10^9 and no unit is over 3.6 * 10^9, so that their product fits. */
    uint64_t fraction = number.part * unit->size;
    uint64_t value = number.whole * unit->size;
    uint64_t more = fraction / number.scale;
    if (fraction % number.scale != 0 || value > UINT64_MAX - more ||
        *sum > UINT64_MAX - more - value) {
        return false;
    }
    *sum += value + more;
    return true;
}

bool options_parse_duration(struct slice text, uint64_t *us)
{
    uint64_t sum = 0;
    if (slice_eq(text, SLICE("0"))) {
        *us = 0;
        return true;
    }
    do {
        if (!take_quantity(&text, durations, COUNT_OF(durations), &sum)) {
            return false;
        }
    } while (text.len > 0);
    *us = sum;
    return true;
}

bool options_parse_size(struct slice text, uint64_t *bytes)
{
    uint64_t sum = 0;
    if (!take_quantity(&text, sizes, COUNT_OF(sizes), &sum) || text.len > 0) {
        return false;
    }
    *bytes = sum;
    return true;
}

bool options_check_target(struct slice text)
{
    size_t colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':') {
        colon--;
    }
    uint64_t port;
    if (colon < 2 || !slice_to_u64(slice_from(text, colon), UINT16_MAX, &port) || port == 0) {
        return false;
    }
    struct slice host = slice_head(text, colon - 1);
    if (host.at[0] == '[') {
        struct addr addr;
        return host.len > 2 && host.at[host.len - 1] == ']' &&
               addr_parse_ip(slice_of(host.at + 1, host.len - 2), &addr);
    }
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = slice_lower(host.at[i]);
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '.' && c != '_') {
            return false;
        }
    }
    return true;
}

/* The largest unit that gives a whole number. */
static void format_quantity(uint64_t value, const struct unit *units, size_t count, char *text,
                            size_t size)
{
    size_t i = 0;
    while (i + 1 < count && (units[i].size > value || value % units[i].size != 0)) {
        i++;
    }
    (void)snprintf(text, size, "%" PRIu64 "%s", value / units[i].size,
                   value > 0 ? units[i].name : "");
}

static void format_bound(const struct option *option, uint64_t value, char *text, size_t size)
{
    if (option->kind == OPTION_KIND_DURATION) {
        format_quantity(value, durations, COUNT_OF(durations), text, size);
    } else if (option->kind == OPTION_KIND_SIZE) {
        format_quantity(value, sizes, COUNT_OF(sizes), text, size);
    } else {
        (void)snprintf(text, size, "%" PRIu64, value);
    }
}

/* "a time as 500ms, 5s, 1m30s, 24h, from 1s to 10m" */
static void describe_allowed(const struct option *option, char *text, size_t size)
{
    static const char *const words[] = {
#define OPTION_ALLOWED(name, type, word, allowed) allowed,
        OPTION_KINDS(OPTION_ALLOWED)
#undef OPTION_ALLOWED
    };
    if (option->kind == OPTION_KIND_CHOICE) {
        size_t used = 0;
        for (size_t i = 0; option->choices[i] != NULL && used < size; i++) {
            used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "",
                                     option->choices[i]);
        }
        return;
    }
    char low[32];
    char high[32];
    format_bound(option, option->min, low, sizeof low);
    format_bound(option, option->max, high, sizeof high);
    if (option->max > 0) {
        (void)snprintf(text, size, "%s, from %s to %s", words[option->kind], low, high);
    } else if (option->min > 0) {
        (void)snprintf(text, size, "%s, at least %s", words[option->kind], low);
    } else {
        (void)snprintf(text, size, "%s", words[option->kind]);
    }
}

static bool in_range(const struct option *option, uint64_t value)
{
    return value >= option->min && (option->max == 0 || value <= option->max);
}

static bool parse_bool(struct slice text, bool *value)
{
    *value = slice_eq(text, SLICE("true"));
    return *value || slice_eq(text, SLICE("false"));
}

static bool parse_fraction(const char *text, double *value)
{
    char *end;
    if (text[0] == '\0' || strspn(text, "0123456789.") != strlen(text)) {
        return false;
    }
    *value = strtod(text, &end);
    return *end == '\0';
}

static bool parse_choice(const struct option *option, const char *text, unsigned *value)
{
    for (unsigned i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static void list_add(struct arena *arena, struct option_list *list, const char *text)
{
    /* Grows when the count is a power of two: few are ever given, and the arena is for good. */
    if ((list->count & (list->count - 1)) == 0) {
        const char **more = ARENA_ARRAY(arena, const char *, list->count > 0 ? list->count * 2 : 1);
        if (list->count > 0) {
            (void)memcpy(more, list->items, list->count * sizeof *more);
        }
        list->items = more;
    }
    list->items[list->count++] = text;
}

/* Sets the field from the text; false where the value is not allowed. */
static bool set_field(const struct option *option, void *field, const char *text,
                      struct arena *arena)
{
    struct slice value = slice_of_text(text);
    uint64_t number = 0;
    switch (option->kind) {
    case OPTION_KIND_BOOL:
        return parse_bool(value, field);
    case OPTION_KIND_INT:
    case OPTION_KIND_SIZE:
    case OPTION_KIND_DURATION:
        if (!(option->kind == OPTION_KIND_INT    ? slice_to_u64(value, UINT64_MAX, &number)
              : option->kind == OPTION_KIND_SIZE ? options_parse_size(value, &number)
                                                 : options_parse_duration(value, &number)) ||
            !in_range(option, number)) {
            return false;
        }
        *(uint64_t *)field = number;
        return true;
    case OPTION_KIND_FRACTION:
        return parse_fraction(text, field);
    case OPTION_KIND_STRING:
        *(const char **)field = text;
        return true;
    case OPTION_KIND_LIST:
        list_add(arena, field, text);
        return true;
    case OPTION_KIND_CHOICE:
        return parse_choice(option, text, field);
    case OPTION_KIND_ADDRESS:
        return addr_parse(value, field);
    case OPTION_KIND_TARGET:
        *(const char **)field = text;
        return options_check_target(value);
    }
    return false;
}

/* ---- sources ---- */

struct parse {
    const struct options_program *program;
    struct arena *arena;
    uint8_t *into;
    bool *given; /* by a flag, an option each */
    struct error *err;
};

/* `source` is how the user wrote the option: "--workers" or "PILLION_WORKERS". */
static bool set_from(const struct parse *p, const struct option *option, const char *source,
                     const char *text)
{
    if (set_field(option, p->into + option->offset, text, p->arena)) {
        return true;
    }
    char allowed[ALLOWED_MAX];
    describe_allowed(option, allowed, sizeof allowed);
    return error_set(p->err, "%s: \"%s\" is not allowed; allowed: %s", source, text, allowed);
}

/* The items of a list that stands in one text. */
static bool set_from_text(const struct parse *p, const struct option *option, const char *source,
                          const char *text)
{
    if (option->kind != OPTION_KIND_LIST) {
        return set_from(p, option, source, text);
    }
    struct slice rest = slice_of_text(text);
    while (rest.at != NULL) {
        struct slice item = slice_trim(slice_cut(&rest, ','));
        if (item.len > 0 && !set_from(p, option, source, arena_text(p->arena, item))) {
            return false;
        }
    }
    return true;
}

/* PILLION_CONTROL_ADDRESS of control-address. */
static void variable_name(const struct option *option, char *name, size_t size)
{
    (void)snprintf(name, size, "PILLION_%s", option->name);
    for (char *at = name; *at != '\0'; at++) {
        if (*at >= 'a' && *at <= 'z') {
            *at = (char)(*at - 'a' + 'A');
        } else if (*at == '-') {
            *at = '_';
        }
    }
}

/* Null where it is not set or empty. */
static const char *variable(char *const *environment, const char *name)
{
    size_t len = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=') {
            const char *value = *environment + len + 1;
            return *value != '\0' ? value : NULL;
        }
    }
    return NULL;
}

/* What no flag gave: from the environment, else the default. */
static bool fill_rest(const struct parse *p, char *const *environment)
{
    for (size_t i = 0; i < p->program->count; i++) {
        const struct option *option = &p->program->options[i];
        char name[NAME_MAX_LEN + 16];
        variable_name(option, name, sizeof name);
        const char *value = p->given[i] ? NULL : variable(environment, name);
        if (value != NULL) {
            if (!set_from_text(p, option, name, value)) {
                return false;
            }
        } else if (!p->given[i] && option->fallback != NULL) {
            CHECK(set_from_text(p, option, "the default", option->fallback));
        }
    }
    return true;
}

/* ---- flags ---- */

/* How many letters must be put in, taken out or changed to make one of the other (Levenshtein);
 * both are at most NAME_MAX_LEN long. */
static size_t distance(struct slice a, struct slice b)
{
    size_t row[NAME_MAX_LEN + 1];
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = diagonal + (a.at[i - 1] != b.at[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b.len];
}

static bool refuse_unknown(const struct parse *p, struct slice name)
{
    struct slice cut = slice_head(name, NAME_MAX_LEN);
    const char *nearest = NULL;
    size_t least = cut.len / 3 + 2; /* further away is no help */
    for (size_t i = 0; i < p->program->count; i++) {
        size_t apart = distance(cut, slice_of_text(p->program->options[i].name));
        if (apart < least) {
            least = apart;
            nearest = p->program->options[i].name;
        }
    }
    if (nearest != NULL) {
        return error_set(p->err, "unknown option --%.*s; did you mean --%s?", SLICE_ARG(name),
                         nearest);
    }
    return error_set(p->err, "unknown option --%.*s; --help lists all", SLICE_ARG(name));
}

static const struct option *find_option(const struct parse *p, struct slice name, char letter)
{
    for (size_t i = 0; i < p->program->count; i++) {
        const struct option *option = &p->program->options[i];
        if (letter != 0 ? option->letter == letter : slice_eq(name, slice_of_text(option->name))) {
            return option;
        }
    }
    return NULL;
}

/* One flag at argv[*at]; moves *at to the last argument that it took. */
static bool take_flag(const struct parse *p, const struct options_input *input, int *at)
{
    const char *arg = input->argv[*at];
    bool is_long = arg[1] == '-';
    const char *equals = is_long ? strchr(arg, '=') : NULL;
    size_t name_len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    struct slice name = slice_from(slice_of(arg, name_len), 2);
    const struct option *option = NULL;
    if (is_long) {
        option = find_option(p, name, 0);
    } else if (name_len == 2) {
        option = find_option(p, name, arg[1]);
    }
    if (option == NULL) {
        return is_long ? refuse_unknown(p, name)
                       : error_set(p->err, "unknown option %s; --help lists all", arg);
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (value == NULL && option->kind == OPTION_KIND_BOOL) {
        value = "true";
    }
    if (value == NULL) {
        const char *next = *at + 1 < input->argc ? input->argv[*at + 1] : NULL;
        if (next == NULL || strncmp(next, "--", 2) == 0) {
            char allowed[ALLOWED_MAX];
            describe_allowed(option, allowed, sizeof allowed);
            return error_set(p->err, "--%s needs a value; allowed: %s", option->name, allowed);
        }
        value = next;
        (*at)++;
    }
    char source[NAME_MAX_LEN + 4];
    (void)snprintf(source, sizeof source, "--%s", option->name);
    p->given[option - p->program->options] = true;
    return set_from(p, option, source, value);
}

static bool take_word(const struct parse *p, const char *word, struct option_list *words)
{
    if (words == NULL || words->count >= p->program->max_words) {
        return error_set(p->err, "\"%s\" is one word too many; --help shows the usage", word);
    }
    list_add(p->arena, words, word);
    return true;
}

enum options_result options_parse(const struct options_program *program,
                                  const struct options_input *input, struct arena *arena,
                                  void *into, struct option_list *words, struct error *err)
{
    CHECK(words != NULL || program->max_words == 0);
    struct parse p = {.program = program,
                      .arena = arena,
                      .into = into,
                      .given = ARENA_ARRAY(arena, bool, program->count),
                      .err = err};
    bool flags_end = false;
    for (size_t i = 0; i < program->count; i++) {
        CHECK(strlen(program->options[i].name) <= NAME_MAX_LEN);
    }
    if (words != NULL) {
        *words = (struct option_list){NULL, 0};
    }
    for (int at = 1; at < input->argc; at++) {
        const char *arg = input->argv[at];
        if (flags_end || arg[0] != '-' || arg[1] == '\0') {
            if (!take_word(&p, arg, words)) {
                return OPTIONS_BAD;
            }
        } else if (strcmp(arg, "--") == 0) {
            flags_end = true;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            return OPTIONS_HELP;
        } else if (strcmp(arg, "--version") == 0) {
            return OPTIONS_VERSION;
        } else if (!take_flag(&p, input, &at)) {
            return OPTIONS_BAD;
        }
    }
    return fill_rest(&p, input->environment) ? OPTIONS_RUN : OPTIONS_BAD;
}

/* ---- help ---- */

static void print_option(const struct option *option, FILE *out)
{
    static const char *const words[] = {
#define OPTION_WORD(name, type, word, allowed) word,
        OPTION_KINDS(OPTION_WORD)
#undef OPTION_WORD
    };
    const char *word = option->unit != NULL ? option->unit : words[option->kind];
    char name[NAME_MAX_LEN + 16];
    char allowed[ALLOWED_MAX];
    variable_name(option, name, sizeof name);
    describe_allowed(option, allowed, sizeof allowed);
    (void)fprintf(out, "  ");
    if (option->letter != 0) {
        (void)fprintf(out, "-%c, ", option->letter);
    }
    (void)fprintf(out, "--%s%s%s\n", option->name, word[0] != '\0' ? " " : "", word);
    (void)fprintf(out, "      %s\n", option->meaning);
    bool any_text = option->kind == OPTION_KIND_STRING || option->kind == OPTION_KIND_LIST;
    if (!any_text) {
        (void)fprintf(out, "      allowed: %s\n", allowed);
    }
    (void)fprintf(out, "      %s%s", option->kind == OPTION_KIND_LIST ? "may be repeated; " : "",
                  name);
    const char *fallback =
        option->fallback_words != NULL ? option->fallback_words : option->fallback;
    if (fallback != NULL && fallback[0] != '\0') {
        (void)fprintf(out, "; default %s", fallback);
    }
    (void)fprintf(out, "\n");
}

void options_print_help(const struct options_program *program, FILE *out)
{
    (void)fprintf(out, "usage: %s [OPTION]...%s%s\n%s\n\n", program->name,
                  program->words != NULL ? " " : "", program->words != NULL ? program->words : "",
                  program->summary);
    for (size_t i = 0; i < program->count; i++) {
        print_option(&program->options[i], out);
    }
    (void)fprintf(out, "  -h, --help\n      this text\n  --version\n      the version\n");
}
