/* Tensors onto a backend: one by one, each packed in slices that are forgotten at once, so that a load never holds two copies.
 * All weights lie in one block: the kernel gives it huge pages, where small matrices of their own would each lie in small ones
 * (decode of the 270M model then waits a third of its time for address translation).
 * What a tensor is called and how large it must be is names.c's; what packing does is the backend's. Read forward.c next. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/names.h"

struct load {
    ct_gemma *m;
    ct_tensors *t;
    ct_pool *pool;
    bool needs_tensors;
    ct_tell tell;
    double done, total; /* bytes of tensors */
};

static ct_weight *field_of(const ct_gemma *m, const ct_name *n, int32_t layer)
{
    return (ct_weight *)(n->per_layer ? (char *)&m->layers[layer] + n->field : (char *)m + n->field);
}

/* A norm weight that is not a number would spoil every row; in a matrix the first forward finds it and names the layer. */
static ct_status check_vector(const ct_weight *w, const uint8_t *src, ct_error *err)
{
    enum { STEP = 256 };
    float v[STEP];
    size_t bytes;
    if (w->dtype->quantized || !ct_row_bytes(w->dtype, STEP, &bytes))
        return ct_fail(err, CT_EUNSUPPORTED, w->name, "expected the norm weight '%s' in f32, f16 or bf16, found %s",
                       w->name, w->dtype->name);
    for (int32_t i = 0; i < w->cols; i += STEP) {
        int32_t n = w->cols - i < STEP ? w->cols - i : STEP;
        ct_row_decode(w->dtype, v, src + (size_t)(i / STEP) * bytes, (size_t)n);
        for (int32_t j = 0; j < n; j++)
            if (!isfinite(v[j]))
                return ct_fail(err, CT_ENUMERIC, w->name,
                               "expected finite weights, found %s in element %d of '%s': the file is "
                               "damaged or was badly trained",
                               isnan(v[j]) ? "NaN" : "infinity", i + j, w->name);
    }
    return CT_OK;
}

/* Norms are the only vectors of Gemma 3. Where a file keeps them without their 1, it is added here, in f32. */
static bool adds_one(const ct_tensors *t, ct_weight_use use)
{
    return use == CT_WEIGHT_VECTOR && ct_tensors_norms_centred(t);
}

static ct_status add_one(float **out, const ct_weight *w, const ct_tensor *tensor, const uint8_t *src, ct_error *err)
{
    *out = NULL;
    if (tensor->dtype->quantized)
        return ct_fail(err, CT_EUNSUPPORTED, w->name, "expected the norm weight '%s' in f32, f16 or bf16, found %s",
                       w->name, tensor->dtype->name);
    *out = ct_alloc((size_t)w->cols * sizeof **out);
    if (*out == NULL)
        return ct_fail(err, CT_ENOMEM, w->name, "no memory for the norm weight '%s'", w->name);
    ct_row_decode(tensor->dtype, *out, src, (size_t)w->cols);
    for (int32_t i = 0; i < w->cols; i++)
        (*out)[i] += 1;
    return CT_OK;
}

/* Finds a weight's tensor and fills in what it is. *tensor is NULL for an optional one that is not there. */
static ct_status describe(struct load *l, const ct_name *n, int32_t layer, const ct_tensor **tensor, ct_error *err)
{
    const ct_gemma *m = l->m;
    ct_status st = ct_name_find(tensor, l->t, n, layer, &m->cfg, err);
    if (st != CT_OK || *tensor == NULL)
        return st;
    ct_weight *w = field_of(m, n, layer);
    w->dtype = adds_one(l->t, n->use) ? ct_dtype_get(CT_F32) : (*tensor)->dtype;
    w->use = n->use;
    w->rows = ct_name_dim(&m->cfg, n->rows);
    w->cols = ct_name_dim(&m->cfg, n->cols);
    ct_name_format(n, ct_tensors_naming(l->t), layer, w->name);
    if (!m->backend->supports(w->dtype, w->use))
        return ct_fail(err, CT_EUNSUPPORTED, w->name,
                       "expected a type that backend %s computes with for '%s', found %s: try another backend or "
                       "quantization",
                       m->backend->name, w->name, w->dtype->name);
    return CT_OK;
}

/* Bytes of a weight in the block, and of a run of its rows. */
static size_t packed_bytes(const ct_gemma *m, const ct_weight *w, int32_t rows)
{
    ct_weight part = *w;
    part.rows = rows;
    return m->backend->weight_bytes ? m->backend->weight_bytes(&part) : 0;
}

#define SLICE ((size_t)16 << 20) /* bytes of a file that are mapped in beside their packed form */
#define SLICE_ROWS 256           /* where rows may be cut, see weight_bytes */

/* Packs a matrix into its place, slice by slice. */
static ct_status pack(struct load *l, ct_weight *w, const ct_tensor *tensor, const uint8_t *src, ct_error *err)
{
    const ct_backend *b = l->m->backend;
    bool in_place = false;
    size_t row = tensor->bytes / (size_t)w->rows, at = 0;
    size_t fit = SLICE / row / SLICE_ROWS * SLICE_ROWS;
    int32_t step = w->use == CT_WEIGHT_VECTOR || fit == 0 ? w->rows : fit < (size_t)w->rows ? (int32_t)fit : w->rows;
    for (int32_t from = 0; from < w->rows; from += step) {
        ct_weight part = *w;
        part.rows = from + step < w->rows ? step : w->rows - from;
        part.buf = ct_buffer_part(&w->buf, at, packed_bytes(l->m, w, part.rows));
        ct_status st = b->weight_load(&part, src + (size_t)from * row, l->pool, &in_place, err);
        if (st != CT_OK)
            return st;
        at += part.buf.bytes;
        ct_tensor_forget_part(l->t, tensor, (size_t)from * row, (size_t)part.rows * row);
    }
    return CT_OK;
}

static ct_status load_one(struct load *l, const ct_name *n, int32_t layer, size_t *used, ct_error *err)
{
    ct_gemma *m = l->m;
    const ct_tensor *tensor;
    ct_status st = ct_name_find(&tensor, l->t, n, layer, &m->cfg, err);
    if (st != CT_OK || tensor == NULL)
        return st;
    ct_weight *w = field_of(m, n, layer);
    float *own = NULL;
    bool in_place = false;
    const uint8_t *src = ct_tensor_bytes(l->t, tensor);
    if (src == NULL)
        return ct_fail(err, CT_ENOMEM, w->name, "no memory for the %zu bytes of tensor '%s'", tensor->bytes, w->name);
    if (adds_one(l->t, w->use)) {
        if ((st = add_one(&own, w, tensor, src, err)) != CT_OK)
            return st;
        src = (const uint8_t *)own;
    }
    if (w->use == CT_WEIGHT_VECTOR && (st = check_vector(w, src, err)) != CT_OK)
        goto done;
    size_t bytes = packed_bytes(m, w, w->rows);
    if (bytes > 0) {
        w->buf = ct_buffer_part(&m->block, *used, bytes);
        *used += ct_round_up(bytes, 64);
        st = pack(l, w, tensor, src, err);
    } else {
        st = m->backend->weight_load(w, src, l->pool, &in_place, err);
        bytes = w->buf.bytes ? w->buf.bytes : tensor->bytes;
    }
    if (st != CT_OK)
        goto done;
    if (in_place)
        l->needs_tensors = true;
    else
        ct_tensor_forget(l->t, tensor);
    m->weight_bytes += bytes;
    m->parameters += tensor->n_elems;
    l->done += (double)tensor->bytes;
    if (l->tell.fn)
        l->tell.fn(l->tell.arg, "loading", l->done, l->total);
    m->decode_bytes += bytes;
done:
    ct_free(own);
    return st;
}

size_t ct_gemma_bytes(const ct_tensors *t, const ct_backend *b)
{
    size_t total = 0, made = 0;
    for (size_t i = 0; b->weight_bytes && i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        ct_weight w = {.dtype = x->dtype, .use = x->n_dims > 1 ? CT_WEIGHT_MATRIX : CT_WEIGHT_VECTOR};
        size_t rows = x->n_elems / x->ne[0];
        if (x->ne[0] > INT32_MAX || rows > INT32_MAX || !b->supports(x->dtype, w.use))
            continue; /* the load itself has a sentence for it */
        w.cols = (int32_t)x->ne[0];
        w.rows = (int32_t)rows;
        if (!ct_add_ok(total, ct_round_up(b->weight_bytes(&w), 64), &total))
            return SIZE_MAX;
        if (x->data == NULL && x->bytes > made)
            made = x->bytes; /* a synthetic tensor lies in memory while it is packed */
    }
    return ct_add_ok(total, made, &total) ? total : SIZE_MAX;
}

/* Describes every weight, then makes the block that holds them all. */
static ct_status lay_out(struct load *l, ct_error *err)
{
    ct_gemma *m = l->m;
    size_t total = 0;
    const ct_name *n;
    const ct_tensor *tensor;
    for (size_t i = 0; (n = ct_name_at(i)) != NULL; i++)
        for (int32_t layer = 0; layer < (n->per_layer ? m->cfg.layers : 1); layer++) {
            ct_status st = describe(l, n, layer, &tensor, err);
            if (st != CT_OK)
                return st;
            const ct_weight *w = field_of(m, n, layer);
            if (tensor && !ct_add_ok(total, ct_round_up(packed_bytes(m, w, w->rows), 64), &total))
                return ct_fail(err, CT_ENOMEM, NULL, "the weights need more memory than can be addressed");
        }
    size_t room = m->backend->memory_free ? m->backend->memory_free() : SIZE_MAX;
    if (total > room)
        return ct_fail(err, CT_ENOMEM, m->backend->name,
                       "the weights need %.2f GB of the device's memory, and %.2f GB are free: try a smaller type of "
                       "weights, or -b cpu",
                       (double)total * 1e-9, (double)room * 1e-9);
    return total > 0 ? m->backend->buffer_alloc(&m->block, total, err) : CT_OK;
}

ct_status ct_gemma_load(ct_gemma *m, ct_tensors *t, const ct_backend *b, const char *isa, ct_pool *pool,
                        bool *needs_tensors, ct_error *err)
{
    return ct_gemma_load_told(m, t, b, isa, pool, &(ct_tell){NULL, NULL}, needs_tensors, err);
}

ct_status ct_gemma_load_told(ct_gemma *m, ct_tensors *t, const ct_backend *b, const char *isa, ct_pool *pool,
                             const ct_tell *tell, bool *needs_tensors, ct_error *err)
{
    struct load l = {.m = m, .t = t, .pool = pool, .tell = *tell};
    *m = (ct_gemma){.backend = b};
    *needs_tensors = false;
    ct_status st = ct_config_read(&m->cfg, t, err);
    if (st != CT_OK)
        goto done;
    m->ops = b->ops(isa);
    if (m->ops == NULL) {
        st = ct_fail(err, CT_EUNSUPPORTED, isa, "backend %s has no instruction set '%s' on this machine", b->name,
                     isa ? isa : "best");
        goto done;
    }
    if ((st = ct_ops_check(b->name, m->ops, err)) != CT_OK)
        goto done;
    m->layers = ct_calloc((size_t)m->cfg.layers, sizeof *m->layers);
    if (m->layers == NULL) {
        st = ct_fail(err, CT_ENOMEM, NULL, "no memory for the list of %d layers", m->cfg.layers);
        goto done;
    }
    if ((st = lay_out(&l, err)) != CT_OK)
        goto done;
    for (size_t i = 0; i < ct_tensors_count(t); i++)
        l.total += (double)ct_tensors_at(t, i)->bytes;
    const ct_name *n;
    size_t used = 0;
    for (size_t i = 0; (n = ct_name_at(i)) != NULL; i++)
        for (int32_t layer = 0; layer < (n->per_layer ? m->cfg.layers : 1); layer++)
            if ((st = load_one(&l, n, layer, &used, err)) != CT_OK)
                goto done;
    if (m->head.rows > 0) /* untied: of the embedding one token reads one row */
        m->decode_bytes -= m->embed.buf.bytes - m->embed.buf.bytes / (size_t)m->embed.rows;
    *needs_tensors = l.needs_tensors;
done:
    if (st != CT_OK)
        ct_gemma_free(m);
    return st;
}

void ct_gemma_free(ct_gemma *m)
{
    if (m == NULL || m->backend == NULL)
        return;
    const ct_name *n;
    for (size_t i = 0; (n = ct_name_at(i)) != NULL; i++)
        for (int32_t layer = 0; layer < (n->per_layer ? m->cfg.layers : 1); layer++)
            if (!n->per_layer || m->layers)
                m->backend->weight_free(
                    field_of(m, n, layer)); /* a weight never loaded is all zero, which frees to nothing */
    ct_rough_free(m);
    if (m->block.bytes > 0)
        m->backend->buffer_free(&m->block);
    ct_free(m->layers);
    *m = (ct_gemma){0};
}
