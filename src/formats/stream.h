/* Small pieces gathered into large writes: headers, metadata, JSON. Errors stick: after the first, nothing is written, and
 * ct_stream_end has it; so a caller asks once. */
#ifndef CT_FORMATS_STREAM_H
#define CT_FORMATS_STREAM_H

#include "base/file.h"
#include "formats/tensors.h"

typedef struct ct_stream { /* the caller's memory */
    ct_writer *w;          /* borrowed */
    ct_error *err;         /* nullable, the caller's */
    ct_status status;
    uint64_t total; /* bytes put so far */
    size_t n;
    uint8_t held[8192];
} ct_stream;

void ct_stream_begin(ct_stream *s, ct_writer *w, ct_error *err);
void ct_stream_put(ct_stream *s, const void *data, size_t size);
void ct_stream_zeros(ct_stream *s, size_t n);
void ct_stream_u32(ct_stream *s, uint32_t v); /* little-endian */
void ct_stream_u64(ct_stream *s, uint64_t v);
void ct_stream_text(ct_stream *s, const char *z);                                                /* without its NUL */
void ct_stream_format(ct_stream *s, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* up to 255 bytes */
/* A string in JSON's quotes. Bytes that are no UTF-8 become U+FFFD. */
void ct_stream_quoted(ct_stream *s, ct_str v);
/* Hands what is held to the writer, which stays open. */
ct_status ct_stream_end(ct_stream *s);

#endif
