#include "xds/json_text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/base64.h"

#define NANOS_PER_SECOND     1000000000
#define DURATION_MAX_SECONDS 315576000000

/* ---- base64 ---- */

struct slice json_text_write_base64(struct arena *arena, struct slice bytes)
{
    char *text = (char *)arena_bytes(arena, BASE64_TEXT_MAX(bytes.len));
    return slice_of(text, base64_encode(BASE64_STANDARD, bytes, text));
}

bool json_text_read_base64(struct arena *arena, struct slice text, struct slice *bytes)
{
    size_t room = BASE64_DECODED_MAX(text.len);
    struct span into = {.at = arena_bytes(arena, room), .len = room};
    size_t len = 0;
    bool good = base64_decode(BASE64_STANDARD, text, into, &len) ||
                base64_decode(BASE64_URL, text, into, &len);
    *bytes = slice_of(into.at, len);
    return good;
}

/* ---- numbers ---- */

bool json_text_read_i64(struct slice text, int64_t *number)
{
    bool negative = text.len > 0 && text.at[0] == '-';
    uint64_t size = 0;
    if (!slice_to_u64(slice_from(text, negative ? 1 : 0), (uint64_t)INT64_MAX + (negative ? 1 : 0),
                      &size)) {
        return false;
    }
    *number = negative ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

bool json_text_read_double(struct slice text, double *number)
{
    static const struct {
        const char *text;
        double number;
    } special[] = {{"NaN", (double)NAN}, {"Infinity", HUGE_VAL}, {"-Infinity", -HUGE_VAL}};
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        if (slice_eq(text, slice_of_text(special[i].text))) {
            *number = special[i].number;
            return true;
        }
    }
    char copy[64];
    if (text.len == 0 || text.len >= sizeof copy) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (isdigit(c) == 0 && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E') {
            return false; /* strtod takes hexadecimal and names too */
        }
        copy[i] = (char)c;
    }
    copy[text.len] = '\0';
    char *end = NULL;
    *number = strtod(copy, &end);
    return *end == '\0' && isfinite(*number);
}

/* ".5" (with the point) as nanoseconds; nothing is 0. */
static bool take_fraction(struct slice text, int32_t *nanos)
{
    uint64_t digits = 0;
    *nanos = 0;
    if (text.len == 0) {
        return true;
    }
    if (text.at[0] != '.' || text.len > 10 ||
        !slice_to_u64(slice_from(text, 1), NANOS_PER_SECOND - 1, &digits)) {
        return false;
    }
    for (size_t i = text.len - 1; i < 9; i++) {
        digits *= 10;
    }
    *nanos = (int32_t)digits;
    return true;
}

/* ".500", ".000001", ".000000001" or nothing: three digits at a time, as every mapping writes it.
 */
static const char *fraction_text(struct arena *arena, int32_t nanos)
{
    if (nanos == 0) {
        return "";
    }
    if (nanos % 1000000 == 0) {
        return arena_printf(arena, ".%03d", nanos / 1000000);
    }
    return nanos % 1000 == 0 ? arena_printf(arena, ".%06d", nanos / 1000)
                             : arena_printf(arena, ".%09d", nanos);
}

/* ---- durations ---- */

bool json_text_read_duration(struct slice text, int64_t *seconds, int32_t *nanos)
{
    if (text.len < 2 || text.at[text.len - 1] != 's') {
        return false;
    }
    text.len--;
    bool negative = text.at[0] == '-';
    text = slice_from(text, negative ? 1 : 0);
    size_t point = slice_find(text, '.');
    uint64_t whole = 0;
    if (!slice_to_u64(slice_head(text, point), DURATION_MAX_SECONDS, &whole) ||
        !take_fraction(slice_from(text, point), nanos)) {
        return false;
    }
    *seconds = negative ? -(int64_t)whole : (int64_t)whole;
    *nanos = negative ? -*nanos : *nanos;
    return true;
}

const char *json_text_write_duration(struct arena *arena, int64_t seconds, int32_t nanos)
{
    /* A message from the wire may hold anything; unsigned arithmetic cannot overflow. */
    bool negative = seconds < 0 || nanos < 0;
    uint64_t whole = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;
    int32_t part = nanos > -NANOS_PER_SECOND && nanos < NANOS_PER_SECOND ? abs(nanos) : 0;
    return arena_printf(arena, "%s%llu%ss", negative ? "-" : "", (unsigned long long)whole,
                        fraction_text(arena, part));
}

/* ---- times ---- */

/* Days since 1970-01-01 of a day in the Gregorian calendar, years counted from March, so that the
 * leap day is the last of its year. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* `width` digits and then `after` (0: nothing) off the front. */
static bool take_digits(struct slice *text, unsigned width, uint8_t after, unsigned *number)
{
    uint64_t value = 0;
    size_t len = width + (after != 0 ? 1U : 0U);
    if (text->len < len || !slice_to_u64(slice_head(*text, width), 9999, &value) ||
        (after != 0 && text->at[width] != after)) {
        return false;
    }
    *text = slice_from(*text, len);
    *number = (unsigned)value;
    return true;
}

/* "Z" or "+02:00" as seconds. */
static bool take_offset(struct slice text, int64_t *seconds)
{
    unsigned hours = 0;
    unsigned minutes = 0;
    *seconds = 0;
    if (text.len == 1 && text.at[0] == 'Z') {
        return true;
    }
    if (text.len != 6 || (text.at[0] != '+' && text.at[0] != '-')) {
        return false;
    }
    bool west = text.at[0] == '-';
    text = slice_from(text, 1);
    if (!take_digits(&text, 2, ':', &hours) || !take_digits(&text, 2, 0, &minutes) || hours > 23 ||
        minutes > 59) {
        return false;
    }
    *seconds = (west ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
    return true;
}

/* "2026-01-31T" as days since 1970-01-01. */
static bool take_date(struct slice *text, int64_t *days)
{
    unsigned year = 0;
    unsigned month = 0;
    unsigned day = 0;
    if (!take_digits(text, 4, '-', &year) || !take_digits(text, 2, '-', &month) ||
        !take_digits(text, 2, 'T', &day) || year < 1 || month < 1 || month > 12 || day < 1 ||
        day > days_in_month(year, month)) {
        return false;
    }
    *days = days_from_civil(year, month, day);
    return true;
}

/* "12:00:00" as seconds; a leap second has no number in this count. */
static bool take_clock(struct slice *text, int64_t *seconds)
{
    unsigned hour = 0;
    unsigned minute = 0;
    unsigned second = 0;
    if (!take_digits(text, 2, ':', &hour) || !take_digits(text, 2, ':', &minute) ||
        !take_digits(text, 2, 0, &second) || hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    unsigned clock = hour * 3600 + minute * 60 + second;
    *seconds = clock;
    return true;
}

bool json_text_read_time(struct slice text, int64_t *seconds, int32_t *nanos)
{
    int64_t days = 0;
    int64_t clock = 0;
    int64_t offset = 0;
    if (!take_date(&text, &days) || !take_clock(&text, &clock)) {
        return false;
    }
    size_t zone = 0;
    while (zone < text.len && (text.at[zone] == '.' || isdigit(text.at[zone]) != 0)) {
        zone++;
    }
    if (!take_fraction(slice_head(text, zone), nanos) ||
        !take_offset(slice_from(text, zone), &offset)) {
        return false;
    }
    *seconds = days * 86400 + clock - offset;
    return true;
}

const char *json_text_write_time(struct arena *arena, int64_t seconds, int32_t nanos)
{
    /* Outside of years 1 to 9999 there is no text; the nearest end stands for it. */
    const int64_t first = -62135596800;
    const int64_t last = 253402300799;
    seconds = seconds < first ? first : seconds > last ? last : seconds;
    nanos = nanos >= 0 && nanos < NANOS_PER_SECOND ? nanos : 0;

    int64_t days = (seconds - first) / 86400; /* since 0001-01-01 */
    unsigned clock = (unsigned)((seconds - first) % 86400);
    unsigned year = (unsigned)(days / 366) + 1; /* not after the right one */
    const int64_t epoch = days_from_civil(1, 1, 1);
    while (year < 9999 && days_from_civil((int64_t)year + 1, 1, 1) - epoch <= days) {
        year++;
    }
    unsigned left = (unsigned)(days - (days_from_civil(year, 1, 1) - epoch));
    unsigned month = 1;
    while (left >= days_in_month(year, month)) {
        left -= days_in_month(year, month);
        month++;
    }
    return arena_printf(arena, "%04u-%02u-%02uT%02u:%02u:%02u%sZ", year, month, left + 1,
                        clock / 3600, clock / 60 % 60, clock % 60, fraction_text(arena, nanos));
}
