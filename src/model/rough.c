/* The rough copy of the head: its rows at four bits, and how far each may be off. What it is for: ops.def, linear_top.
 *
 * Made at open, where a screened head was asked for, from the same tensor that the head was packed from; nobody else has it or
 * pays for it. The error of a row's logit is the product of what rounding left over with the activations. Over the columns what is
 * left over is as good as random, so its standard deviation is its length times theirs, over the root of the width. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/names.h"
#include "quant/encode.h"

#define SLICE_ROWS 4096 /* encoded at a time; a multiple of 256, see weight_bytes */
#define TASK_ROWS 64
#define MOST_ROWS 16 /* that share an entry of most */

struct encode {
    const ct_weight *head;
    const uint8_t *src; /* [n] rows of the head's type */
    uint8_t *dst;       /* [n] rows of q4_0 */
    float *spread;      /* [n] */
    float *most;        /* [n / 16] */
    float *row;         /* [threads][cols] */
    size_t src_row, dst_row;
    int32_t n;
};

static void encode_task(void *arg, int32_t task, int32_t worker)
{
    const struct encode *e = arg;
    size_t cols = (size_t)e->head->cols;
    float *row = e->row + (size_t)worker * cols;
    int32_t to = (task + 1) * TASK_ROWS < e->n ? (task + 1) * TASK_ROWS : e->n;
    for (int32_t r = task * TASK_ROWS; r < to; r++) {
        ct_row_decode(e->head->dtype, row, e->src + (size_t)r * e->src_row, cols);
        float *most = &e->most[r / MOST_ROWS];
        e->spread[r] = (float)sqrt(ct_q4_0_encode(e->dst + (size_t)r * e->dst_row, row, cols / 32) / (double)cols);
        *most = e->spread[r] > *most ? e->spread[r] : *most;
    }
}

static size_t packed(const ct_gemma *m, const ct_weight *w, int32_t rows)
{
    ct_weight part = *w;
    part.rows = rows;
    return m->backend->weight_bytes(&part);
}

/* A rough copy is worth its reading where the head has at least four thirds of its bytes. NULL, or why there is none. */
static const char *why_not(const ct_gemma *m)
{
    const ct_weight *head = ct_head_of(m);
    const ct_dtype_info *t = head->dtype, *q4 = ct_dtype_get(CT_Q4_0);
    if (m->ops->linear_top == NULL)
        return "this backend has no other way";
    if (m->cfg.softcap > 0)
        return "its logits are capped";
    if (head->cols % q4->block_elems != 0 || !m->backend->supports(q4, CT_WEIGHT_MATRIX))
        return "its rows have no copy at four bits";
    int64_t bits = (int64_t)t->block_bytes * q4->block_elems, rough = (int64_t)q4->block_bytes * t->block_elems;
    return bits * 3 < rough * 4 ? "it is hardly larger than a copy at four bits" : NULL;
}

size_t ct_rough_bytes(const ct_config *c)
{
    return (size_t)c->embed_rows * (size_t)c->dim / 32 * 18 + (size_t)SLICE_ROWS * (size_t)c->dim +
           (size_t)c->embed_rows * sizeof(float);
}

ct_status ct_rough_make(ct_gemma *m, ct_tensors *t, ct_pool *pool, const ct_tell *tell, ct_error *err)
{
    const ct_weight *head = ct_head_of(m);
    ct_rough *rough = &m->rough;
    const char *reason = why_not(m);
    if (reason) {
        CT_WARN(&m->cfg, "the head is read in full: %s (%s, %s)", reason, m->backend->name, head->dtype->name);
        return CT_OK;
    }
    const ct_tensor *tensor;
    ct_status st = ct_name_find(&tensor, t, ct_name_row(m->head.rows > 0 ? "output" : "token_embd"), 0, &m->cfg, err);
    if (st != CT_OK)
        return st;
    bool cut = m->backend->weight_bytes != NULL, in_place = false; /* else the backend takes a matrix as a whole */
    int32_t rows = head->rows, step = cut && rows > SLICE_ROWS ? SLICE_ROWS : rows;
    ct_weight w = {.dtype = ct_dtype_get(CT_Q4_0), .use = CT_WEIGHT_MATRIX, .rows = rows, .cols = head->cols};
    struct encode e = {.head = head, .src = ct_tensor_bytes(t, tensor)};
    snprintf(w.name, sizeof w.name, "the head's rough copy");
    if (e.src == NULL || !ct_row_bytes(head->dtype, (size_t)w.cols, &e.src_row) ||
        !ct_row_bytes(w.dtype, (size_t)w.cols, &e.dst_row))
        return ct_fail(err, CT_ENOMEM, head->name, "no memory for the %zu bytes of tensor '%s'", tensor->bytes,
                       head->name);
    e.dst = ct_alloc((size_t)step * e.dst_row);
    e.row = ct_alloc((size_t)ct_pool_threads(pool) * (size_t)w.cols * sizeof *e.row);
    rough->spread = ct_alloc((size_t)rows * sizeof *rough->spread);
    rough->most = ct_calloc((size_t)(rows + MOST_ROWS - 1) / MOST_ROWS, sizeof *rough->most);
    if (e.dst == NULL || e.row == NULL || rough->spread == NULL || rough->most == NULL) {
        st = ct_fail(err, CT_ENOMEM, w.name, "no memory for a copy of the head at four bits");
        goto done;
    }
    if (cut && (st = m->backend->buffer_alloc(&rough->w.buf, packed(m, &w, rows), err)) != CT_OK)
        goto done;
    size_t at = 0;
    for (int32_t from = 0; from < rows && st == CT_OK; from += step) {
        ct_weight part = w;
        e.n = part.rows = rows - from < step ? rows - from : step;
        e.spread = rough->spread + from;
        e.most = rough->most + from / MOST_ROWS;
        ct_pool_run(pool, (e.n + TASK_ROWS - 1) / TASK_ROWS, encode_task, &e);
        if (cut)
            part.buf = ct_buffer_part(&rough->w.buf, at, packed(m, &w, part.rows));
        st = m->backend->weight_load(&part, e.dst, pool, cut ? &in_place : NULL, err);
        at += part.buf.bytes;
        if (!cut)
            rough->w.buf = part.buf;
        else
            ct_tensor_forget_part(t, tensor, (size_t)from * e.src_row, (size_t)part.rows * e.src_row);
        e.src += (size_t)part.rows * e.src_row;
        if (tell->fn)
            tell->fn(tell->arg, "screening", (double)(from + part.rows), (double)rows);
    }
    w.buf = rough->w.buf;
    rough->w = w;
    m->weight_bytes += w.buf.bytes;
    if (cut)
        ct_tensor_forget(t, tensor);
done:
    if (st != CT_OK)
        ct_rough_free(m);
    ct_free(e.dst);
    ct_free(e.row);
    return st;
}

void ct_rough_free(ct_gemma *m)
{
    ct_rough *r = &m->rough;
    if (m->backend->weight_bytes && r->w.buf.bytes > 0)
        m->backend->buffer_free(&r->w.buf);
    else
        m->backend->weight_free(&r->w);
    ct_free(r->spread);
    ct_free(r->most);
    *r = (ct_rough){.spread = NULL};
}
