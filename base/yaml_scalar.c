#include "base/yaml_scalar.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER_TEXT 400

enum integer {
    INTEGER_FITS,
    INTEGER_TOO_LARGE,
    INTEGER_NOT,
};

/* Digits with Go's prefixes: 0x, 0o, 0b, and 0 for octal. `text` holds no underscores. */
static enum integer parse_integer(const char *text, int64_t *value)
{
    bool negative = text[0] == '-';
    text += text[0] == '-' || text[0] == '+';
    unsigned base = 10;
    if (text[0] == '0' && text[1] != '\0') {
        char prefix = (char)slice_lower((uint8_t)text[1]);
        base = prefix == 'x' ? 16 : prefix == 'b' ? 2 : 8;
        text += prefix == 'x' || prefix == 'b' || prefix == 'o' ? 2 : 1;
    }
    uint64_t sum = 0;
    bool fits = true;
    if (text[0] == '\0') {
        return INTEGER_NOT;
    }
    for (; *text != '\0'; text++) {
        uint8_t c = slice_lower((uint8_t)*text);
        unsigned digit = 99;
        if (c >= '0' && c <= '9') {
            digit = c - (unsigned)'0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - (unsigned)'a' + 10;
        }
        if (digit >= base) {
            return INTEGER_NOT;
        }
        fits = fits && sum <= ((uint64_t)INT64_MAX + negative - digit) / base;
        sum = fits ? sum * base + digit : sum;
    }
    if (!fits) {
        return INTEGER_TOO_LARGE;
    }
    *value = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return INTEGER_FITS;
}

static size_t skip_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [-+]? (.digits | digits (. digits?)?) ([eE] [-+]? digits)? */
static bool looks_like_float(const char *text)
{
    text += *text == '-' || *text == '+';
    size_t whole = skip_digits(text);
    text += whole;
    if (*text == '.') {
        size_t part = skip_digits(text + 1);
        if (whole == 0 && part == 0) {
            return false;
        }
        text += 1 + part;
    } else if (whole == 0) {
        return false;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        size_t exponent = skip_digits(text);
        if (exponent == 0) {
            return false;
        }
        text += exponent;
    }
    return *text == '\0';
}

/* True when the scalar is a number; sets kind and value then. */
static bool resolve_number(struct yaml_node *node)
{
    uint8_t first = node->text.at[0];
    bool digit = (first >= '0' && first <= '9') || first == '+' || first == '-';
    char plain[MAX_NUMBER_TEXT + 1];
    size_t len = 0;
    if ((!digit && first != '.') || node->text.len > MAX_NUMBER_TEXT) {
        return false;
    }
    for (size_t i = 0; i < node->text.len; i++) {
        if (node->text.at[i] != '_' || !digit) {
            plain[len++] = (char)node->text.at[i];
        }
    }
    plain[len] = '\0';
    enum integer integer = digit ? parse_integer(plain, &node->integer) : INTEGER_NOT;
    if (integer == INTEGER_FITS) {
        node->kind = YAML_KIND_INT;
        return true;
    }
    if (!looks_like_float(plain)) {
        return false; /* a number in another base beyond 64 bits ends here too: a string */
    }
    double number = strtod(plain, NULL);
    if (number > 1.7976931348623157e308 || number < -1.7976931348623157e308) {
        return false;
    }
    node->kind = YAML_KIND_FLOAT;
    node->number = number;
    return true;
}

static bool one_of(struct slice text, const char *const words[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(text, slice_of_text(words[i]))) {
            return true;
        }
    }
    return false;
}

bool yaml_scalar_resolve(struct yaml_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const trues[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                        "True", "TRUE", "on",  "On",  "ON"};
    static const char *const falses[] = {"n",     "N",     "no",  "No",  "NO", "false",
                                         "False", "FALSE", "off", "Off", "OFF"};
    static const char *const infinite[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",  ".INF",
                                           "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"};
    if (one_of(node->text, nulls, COUNT_OF(nulls))) {
        node->kind = YAML_KIND_NULL;
    } else if (one_of(node->text, trues, COUNT_OF(trues))) {
        node->kind = YAML_KIND_BOOL;
        node->boolean = true;
    } else if (one_of(node->text, falses, COUNT_OF(falses))) {
        node->kind = YAML_KIND_BOOL;
        node->boolean = false;
    } else if (one_of(node->text, infinite, COUNT_OF(infinite))) {
        return false;
    } else if (!resolve_number(node)) {
        node->kind = YAML_KIND_STRING;
    }
    return true;
}

enum yaml_tag yaml_scalar_tag(struct yaml_node *node, struct slice tag)
{
    static const struct {
        const char *name;
        enum yaml_kind kind;
    } tags[] = {
        {"null", YAML_KIND_NULL},   {"bool", YAML_KIND_BOOL},  {"int", YAML_KIND_INT},
        {"float", YAML_KIND_FLOAT}, {"str", YAML_KIND_STRING}, {"timestamp", YAML_KIND_STRING},
    };
    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        if (!slice_eq(tag, slice_of_text(tags[i].name))) {
            continue;
        }
        if (tags[i].kind == YAML_KIND_STRING) {
            node->kind = YAML_KIND_STRING;
        } else if (tags[i].kind == YAML_KIND_FLOAT && node->kind == YAML_KIND_INT) {
            node->kind = YAML_KIND_FLOAT;
            node->number = (double)node->integer;
        }
        return node->kind == tags[i].kind ? YAML_TAG_FITS : YAML_TAG_MISFIT;
    }
    return YAML_TAG_UNKNOWN;
}
