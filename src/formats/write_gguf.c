/* The GGUF writer, version 3: what llama.cpp expects to find, in the order in which it expects it. docs/FORMATS.md has the
 * layout; which keys there must be is known in convert/. */
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"
#include "formats/output_state.h"
#include "formats/stream.h"

#define ALIGNMENT 32u /* what a file has that does not say otherwise */

static uint64_t padded(uint64_t n) { return (n + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1); }

static void put_string(ct_stream *s, ct_str v)
{
    ct_stream_u64(s, v.len);
    ct_stream_put(s, v.data, v.len);
}

static void put_kv(ct_stream *s, const ct_kv_pair *kv)
{
    put_string(s, kv->key);
    ct_stream_u32(s, kv->type);
    ct_kv_type type = kv->type;
    if (kv->type == CT_KV_ARRAY) {
        type = kv->elem_type;
        ct_stream_u32(s, type);
        ct_stream_u64(s, kv->count);
    }
    if (type == CT_KV_STRING)
        for (uint64_t i = 0; i < kv->count; i++)
            put_string(s, ct_kv_str(kv, i));
    else
        ct_stream_put(s, kv->data, (size_t)kv->count * ct_kv_type_bytes(type));
}

/* Everything in front of the tensors' bytes; the places of the tensors follow from it. */
static ct_status put_head(ct_output *o, const ct_kv_pair *kv, size_t n_kv, ct_error *err)
{
    ct_stream s;
    uint64_t at = 0;
    ct_stream_begin(&s, o->files[0], err);
    ct_stream_text(&s, "GGUF");
    ct_stream_u32(&s, 3);
    ct_stream_u64(&s, o->n_tensors);
    ct_stream_u64(&s, n_kv);
    for (size_t i = 0; i < n_kv; i++)
        put_kv(&s, &kv[i]);
    for (size_t i = 0; i < o->n_tensors; i++) {
        const ct_out_tensor *x = &o->tensors[i];
        put_string(&s, (ct_str){x->name, strlen(x->name)});
        ct_stream_u32(&s, (uint32_t)x->n_dims);
        for (int32_t d = 0; d < x->n_dims; d++)
            ct_stream_u64(&s, x->ne[d]);
        ct_stream_u32(&s, (uint32_t)x->dtype->type);
        ct_stream_u64(&s, at);
        o->places[i].at = at;
        at += padded(x->bytes);
    }
    ct_stream_zeros(&s, (size_t)(padded(s.total) - s.total));
    for (size_t i = 0; i < o->n_tensors; i++)
        o->places[i].at += s.total;
    o->bytes = (size_t)(s.total + at);
    return ct_stream_end(&s);
}

/* Padding between tensors is a hole that reads as zeros; the last one needs its end to be written. */
static ct_status put_tail(ct_output *o, ct_error *err)
{
    static const uint8_t zeros[ALIGNMENT];
    if (o->n_tensors == 0)
        return CT_OK;
    uint64_t end = o->places[o->n_tensors - 1].at + o->tensors[o->n_tensors - 1].bytes;
    return ct_writer_put_at(o->files[0], end, zeros, (size_t)(o->bytes - end), err);
}

ct_status ct_gguf_create(ct_output **out, const char *path, const ct_kv_pair *kv, size_t n_kv,
                         const ct_out_tensor *tensors, size_t n_tensors, ct_error *err)
{
    *out = NULL;
    ct_output *o = ct_output_new(tensors, n_tensors, 1);
    if (o == NULL)
        return ct_fail(err, CT_ENOMEM, path, "out of memory while writing '%s'", path);
    ct_status st;
    if ((st = ct_writer_open(&o->files[0], path, err)) == CT_OK && (st = put_head(o, kv, n_kv, err)) == CT_OK)
        st = put_tail(o, err);
    if (st == CT_OK)
        *out = o;
    else
        ct_output_abandon(o);
    return st;
}
