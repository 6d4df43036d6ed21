#pragma once
#include <zlib.h>

/// `deflateInit2` is a macro over `deflateInit2_`, which wants the header's version and size; macros do not import.
/// A window of 15 + 16 bits asks for a gzip wrapper (zlib.h, deflateInit2).
static inline int triage_deflate_init_gzip(z_stream *stream, int level) {
    return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}
