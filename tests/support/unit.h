#pragma once
/* What every unit test includes: cmocka, which wants these four before it, in any order of the
 * formatter. */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
