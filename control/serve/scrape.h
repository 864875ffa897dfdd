#pragma once
/* What /metrics shows of the control plane. Everything is counted where it happens and gathered
 * here when somebody scrapes. One thread. */

#include "base/buf.h"
#include "base/check.h"
#include "control/status.h"

struct scrape;

struct scrape *scrape_new(void) MUST_USE;
void scrape_free(struct scrape **scrape);
/* Appends the text of now. */
void scrape_write(struct scrape *scrape, const struct status_sources *sources, struct buf *out);
