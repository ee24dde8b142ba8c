/* Small pieces gathered into large writes: see stream.h. */
#include "formats/stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void ct_stream_begin(ct_stream *s, ct_writer *w, ct_error *err)
{
    s->w = w;
    s->err = err;
    s->status = CT_OK;
    s->total = 0;
    s->n = 0;
}

static void flush(ct_stream *s)
{
    if (s->status == CT_OK && s->n > 0)
        s->status = ct_writer_put(s->w, s->held, s->n, s->err);
    s->n = 0;
}

void ct_stream_put(ct_stream *s, const void *data, size_t size)
{
    s->total += size;
    if (size > sizeof s->held - s->n)
        flush(s);
    if (size > sizeof s->held) {
        if (s->status == CT_OK)
            s->status = ct_writer_put(s->w, data, size, s->err);
        return;
    }
    if (size > 0)
        memcpy(s->held + s->n, data, size);
    s->n += size;
}

void ct_stream_zeros(ct_stream *s, size_t n)
{
    static const uint8_t zeros[64];
    for (; n > sizeof zeros; n -= sizeof zeros)
        ct_stream_put(s, zeros, sizeof zeros);
    ct_stream_put(s, zeros, n);
}

void ct_stream_u32(ct_stream *s, uint32_t v)
{
    uint8_t le[4];
    for (int i = 0; i < 4; i++)
        le[i] = (uint8_t)(v >> 8 * i);
    ct_stream_put(s, le, 4);
}

void ct_stream_u64(ct_stream *s, uint64_t v)
{
    ct_stream_u32(s, (uint32_t)v);
    ct_stream_u32(s, (uint32_t)(v >> 32));
}

void ct_stream_text(ct_stream *s, const char *z) { ct_stream_put(s, z, strlen(z)); }

void ct_stream_format(ct_stream *s, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0)
        ct_stream_put(s, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void ct_stream_quoted(ct_stream *s, ct_str v)
{
    const uint8_t *p = (const uint8_t *)v.data;
    ct_stream_put(s, "\"", 1);
    for (size_t i = 0; i < v.len;) {
        int len = ct_utf8_step(p + i, v.len - i);
        if (p[i] == '"' || p[i] == '\\')
            ct_stream_format(s, "\\%c", p[i]);
        else if (p[i] == '\n')
            ct_stream_text(s, "\\n");
        else if (p[i] < 0x20 || p[i] == 0x7f)
            ct_stream_format(s, "\\u%04x", p[i]);
        else if (len <= 0)
            ct_stream_text(s, "\xef\xbf\xbd");
        else
            ct_stream_put(s, p + i, (size_t)len);
        i += len > 0 ? (size_t)len : 1;
    }
    ct_stream_put(s, "\"", 1);
}

ct_status ct_stream_end(ct_stream *s)
{
    flush(s);
    return s->status;
}
