#pragma once
/* The codec of no protocol: every byte is body of the one stream 1, FIN is its end. With it an
 * opaque TCP connection is a channel like any other, and a tunnel is two streams with a relay
 * between. */

#include "http/codec.h"

struct codec *codec_raw_new(void) MUST_USE;
/* True for it: its end of writing is FIN. */
bool codec_is_raw(const struct codec *codec);
