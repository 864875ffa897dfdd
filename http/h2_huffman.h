#pragma once
/* HPACK's Huffman code (RFC 7541 5.2 and Appendix B). Pure functions. */

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

/* Decodes `in` into `out`. *len is the whole decoded length, also where it is above out.len: what
 * does not fit is counted, not stored. False: padding of a byte or more, padding that is not all
 * ones, or the EOS symbol (RFC 7541 5.2: a decoding error). */
bool huffman_decode(struct slice in, struct span out, size_t *len) MUST_USE;

/* Bytes that huffman_encode writes. */
size_t huffman_length(struct slice in);

/* Writes huffman_length(in) bytes at `out`; returns the position behind them. */
uint8_t *huffman_encode(struct slice in, uint8_t *out);
