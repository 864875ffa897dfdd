#pragma once
/* Checks that stay on in every build. CHECK is for facts whose failure means that memory may
 * already be wrong: it reports and aborts. A fact that only one exchange depends on is EXPECT
 * (sidecar/exchange), which ends that exchange. Any thread. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* The result of a fallible function must be looked at. */
#define MUST_USE                        __attribute__((warn_unused_result))
#define NORETURN                        __attribute__((noreturn))
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
/* What is rare or long, out of a caller that is frequent and short: its registers need no saving.
 */
#define NOINLINE __attribute__((noinline))

/* One fact per CHECK: the message is the fact. */
#define CHECK(fact) (LIKELY(fact) ? (void)0 : check_failed(#fact, __FILE__, __LINE__))

/* Reports the broken fact, with the running exchange if there is one, and aborts. */
NORETURN void check_failed(const char *fact, const char *file, int line);

/* Names what this thread is working on (the id of an exchange; 0: none), so that a failed CHECK can
 * say so. */
void check_set_running(uint64_t exchange_id);

/* Mutation tests (tests/mutants) break one named rule at a time: MUTANT(n) is true when the
 * environment variable PILLION_MUTANT is n. In every other build it is the constant 0. */
#ifdef PILLION_MUTANTS
int check_mutant(int number);
#define MUTANT(n) check_mutant(n)
#else
#define MUTANT(n) 0
#endif

/* The struct that holds `member` at `pointer`. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define CONTAINER_OF_CONST(pointer, type, member)                                                  \
    ((const type *)(const void *)((const char *)(pointer)-offsetof(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
