#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/check.h"

#define US_PER_S 1000000U

/* 9999-12-31T23:59:59.999999Z */
#define LAST_US (253402300800U * (uint64_t)US_PER_S - 1)

static uint64_t read_clock(clockid_t which)
{
    struct timespec now;
    CHECK(clock_gettime(which, &now) == 0);
    return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

void clock_text(uint64_t wall_us, char text[CLOCK_TEXT_BYTES])
{
    struct tm parts;
    wall_us = wall_us < LAST_US ? wall_us : LAST_US;
    time_t seconds = (time_t)(wall_us / US_PER_S);
    CHECK(gmtime_r(&seconds, &parts) != NULL);
    size_t len = strftime(text, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(text + len, CLOCK_TEXT_BYTES - len, ".%06uZ", (unsigned)(wall_us % US_PER_S));
}

/* By hand: strftime would name days and months in the process's locale. */
void clock_http_date(uint64_t wall_us, char text[CLOCK_HTTP_DATE_BYTES])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm parts;
    wall_us = wall_us < LAST_US ? wall_us : LAST_US;
    time_t seconds = (time_t)(wall_us / US_PER_S);
    CHECK(gmtime_r(&seconds, &parts) != NULL);
    (void)snprintf(text, CLOCK_HTTP_DATE_BYTES, "%s, %02u %s %04u %02u:%02u:%02u GMT",
                   days[parts.tm_wday % 7], (unsigned)parts.tm_mday % 100,
                   months[parts.tm_mon % 12], (unsigned)(parts.tm_year + 1900) % 10000,
                   (unsigned)parts.tm_hour % 100, (unsigned)parts.tm_min % 100,
                   (unsigned)parts.tm_sec % 100);
}
