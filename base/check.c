#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

/* Per thread: what a crash report should name. The one mutable global of this file. */
static _Thread_local uint64_t running_exchange;

void check_set_running(uint64_t exchange_id)
{
    running_exchange = exchange_id;
}

void check_failed(const char *fact, const char *file, int line)
{
    /* stderr directly: the log's own state may be what is broken. */
    (void)fprintf(stderr, "CHECK failed: %s at %s:%d (exchange %llu)\n", fact, file, line,
                  (unsigned long long)running_exchange);
    abort();
}

#ifdef PILLION_MUTANTS
int check_mutant(int number)
{
    const char *text = getenv("PILLION_MUTANT");
    return text != NULL && strtol(text, NULL, 10) == number;
}
#endif
