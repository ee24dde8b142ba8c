/* Files out: the part that is the same for every format. See output.h. */
#include "formats/output_state.h"

#include <string.h>

#include "base/mem.h"

ct_output *ct_output_new(const ct_out_tensor *tensors, size_t n_tensors, size_t n_files)
{
    ct_output *o = ct_calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->tensors = tensors;
    o->n_tensors = n_tensors;
    o->n_files = n_files;
    o->files = ct_calloc(n_files, sizeof *o->files);
    o->places = ct_calloc(n_tensors, sizeof *o->places);
    if (o->files && o->places)
        return o;
    ct_output_abandon(o);
    return NULL;
}

static void output_free(ct_output *o)
{
    ct_free(o->files);
    ct_free(o->places);
    ct_free(o);
}

void ct_output_abandon(ct_output *o)
{
    if (o == NULL)
        return;
    for (size_t i = 0; o->files && i < o->n_files; i++)
        ct_writer_abandon(o->files[i]);
    ct_folder_abandon(o->folder);
    output_free(o);
}

ct_status ct_output_commit(ct_output *o, ct_error *err)
{
    ct_status st = CT_OK;
    for (size_t i = 0; i < o->n_files && st == CT_OK; i++) {
        st = ct_writer_commit(o->files[i], err);
        o->files[i] = NULL;
    }
    if (st == CT_OK && o->folder) {
        st = ct_folder_commit(o->folder, err);
        o->folder = NULL;
    }
    ct_output_abandon(o);
    return st;
}

size_t ct_output_bytes(const ct_output *o) { return o->bytes; }

bool ct_out_tensor_measure(ct_out_tensor *x)
{
    size_t bytes;
    bool ok = ct_row_bytes(x->dtype, x->ne[0], &bytes);
    for (int32_t d = 1; ok && d < x->n_dims; d++)
        ok = ct_mul_ok(bytes, x->ne[d], &bytes);
    x->bytes = ok ? bytes : 0;
    return ok;
}

/* Blocks {scale, bias, quants} go apart: all quants of the tensor, all scales, all biases. */
static ct_status put_apart(ct_output *o, const struct out_place *p, size_t first, const uint8_t *src, size_t n,
                           ct_error *err)
{
    enum { AT_ONCE = 64 };
    uint8_t quants[AT_ONCE * 128], scales[AT_ONCE * 4], biases[AT_ONCE * 4];
    ct_writer *w = o->files[p->file];
    size_t s = p->scale_bytes, q = p->quant_bytes, block = 2 * s + q;
    ct_status st = CT_OK;
    for (size_t done = 0; done < n && st == CT_OK;) {
        size_t some = n - done < AT_ONCE ? n - done : AT_ONCE;
        for (size_t b = 0; b < some; b++, src += block) {
            memcpy(scales + b * s, src, s);
            memcpy(biases + b * s, src + s, s);
            memcpy(quants + b * q, src + 2 * s, q);
        }
        uint64_t b0 = first + done;
        if ((st = ct_writer_put_at(w, p->at + b0 * q, quants, some * q, err)) == CT_OK &&
            (st = ct_writer_put_at(w, p->scales + b0 * s, scales, some * s, err)) == CT_OK)
            st = ct_writer_put_at(w, p->biases + b0 * s, biases, some * s, err);
        done += some;
    }
    return st;
}

ct_status ct_output_put(ct_output *o, size_t i, size_t off, const void *data, size_t size, ct_error *err)
{
    const struct out_place *p = &o->places[i];
    size_t block = (size_t)o->tensors[i].dtype->block_bytes;
    if (p->scale_bytes > 0)
        return put_apart(o, p, off / block, data, size / block, err);
    return ct_writer_put_at(o->files[p->file], p->at + off, data, size, err);
}
