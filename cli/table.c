#include "cli/table.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/utf8.h"

#define GAP      2
#define MINUTE_S UINT64_C(60)
#define HOUR_S   UINT64_C(3600)
#define DAY_S    UINT64_C(86400)

/* Characters, not bytes: every byte but those that continue one. */
static size_t width(const char *text)
{
    size_t count = 0;
    for (const char *c = text; *c != '\0'; c++) {
        count += ((uint8_t)*c & 0xC0U) != 0x80U;
    }
    return count;
}

static size_t column_width(const char *const *cells, size_t rows, size_t columns, size_t column)
{
    size_t widest = 0;
    for (size_t row = 0; row < rows; row++) {
        size_t one = width(cells[row * columns + column]);
        widest = one > widest ? one : widest;
    }
    return widest;
}

void table_print(FILE *out, const char *const *cells, size_t rows, size_t columns)
{
    CHECK(columns > 0);
    struct arena arena;
    arena_init(&arena, NULL);
    size_t *widths = ARENA_ARRAY(&arena, size_t, columns);
    for (size_t column = 0; column < columns; column++) {
        widths[column] = column_width(cells, rows, columns, column);
    }
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++) {
            const char *cell = cells[row * columns + column];
            bool last = column + 1 == columns;
            int padding = last ? 0 : (int)(widths[column] - width(cell) + GAP);
            (void)fprintf(out, "%s%*s", cell, padding, "");
        }
        (void)fputc('\n', out);
    }
    arena_fini(&arena);
}

const char *table_text(struct arena *arena, struct slice text)
{
    char *copy = arena_text(arena, text);
    bool utf8 = utf8_valid(text);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        bool c1 = c == 0xC2 && i + 1 < text.len && text.at[i + 1] < 0xA0;
        if (c < 0x20 || c == 0x7F || c1 || (c >= 0x80 && !utf8)) {
            copy[i] = '?';
        }
        if (c1) {
            copy[++i] = '?';
        }
    }
    return copy;
}

const char *table_duration(struct arena *arena, uint64_t seconds)
{
    if (seconds < MINUTE_S) {
        return arena_printf(arena, "%" PRIu64 "s", seconds);
    }
    if (seconds < HOUR_S) {
        return arena_printf(arena, "%" PRIu64 "m%02" PRIu64 "s", seconds / MINUTE_S,
                            seconds % MINUTE_S);
    }
    if (seconds < DAY_S) {
        return arena_printf(arena, "%" PRIu64 "h%02" PRIu64 "m", seconds / HOUR_S,
                            seconds % HOUR_S / MINUTE_S);
    }
    return arena_printf(arena, "%" PRIu64 "d%02" PRIu64 "h", seconds / DAY_S,
                        seconds % DAY_S / HOUR_S);
}
