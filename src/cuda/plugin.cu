/* The backend cuda: the table of operations over the kernels of this folder, streams, recorded steps, memory.
 *
 * An op enqueues and returns. Two things happen behind the table: norms, attention and geglu also leave what they made packed for
 * the product that comes next (struct packed), and the three ops between the first product of a layer and its attention become
 * one launch (struct pending). Steps that repeat are captured as a graph at their second time. It knows no model. */
#include <stdio.h>
#include <string.h>

#include "cuda/internal.cuh"
extern "C" {
#include "backend/plugin.h"
}

enum { TABLES = 4, GRAPHS = 16 };

struct table {
    const int32_t *host; /* the engine's */
    int32_t *mirror, *dev;
    size_t n;
};

struct graph {
    int n, n_index, bucket, times;
    const ct_kv *kv;
    bool exact, deterministic;
    cudaGraphExec_t exec;
};

struct packed { /* planes that hold what is at x */
    const float *x;
    size_t stride;
    int n, cols, kind;
    struct planes p;
};

struct rounded { /* rows of bf16 that hold what is at x; owed: x itself has not been written */
    ct_cu_mat x;
    ct_cu_mat16 h;
    bool owed;
};

struct pending { /* norm and rotation of k, then its store, wait for the same of q */
    bool k, store;
    ct_cu_mat km, vm, cs;
    const float *w;
    int heads, d;
    float eps;
    ct_cu_kv kv;
};

struct stream {
    cudaStream_t s;
    int rows, context, n, n_prompt, longest, bucket, error;
    int prompt_rows; /* of this step, where gemm.cu takes them */
    int32_t *mapped, *dev; /* [4][rows] token, pos, seq, index */
    struct table tables[TABLES];
    struct graph graphs[GRAPHS];
    struct graph *capturing, *replayed;
    ct_cu_run *runs;
    int n_runs, hint, turn; /* hint: kind of planes that the last product wanted; turn: which planes are free */
    uint8_t *scratch, *planes[2], *attention, *more;
    float *up;
    size_t planes_room[2], attention_bytes, more_bytes, up_stride;
    struct packed packed;
    struct rounded rounded; /* of prompt rows */
    uint16_t *half;         /* memory for it */
    struct pending pending;
    struct ct_cu_gemm *gemm;
    const char *op;
};

int cu_overlap = 0;

static struct {
    int sms;
    char isa[16];
} device;

static ct_status failed(ct_error *err, int e, const char *what)
{
    return ct_fail(err, CT_EIO, "cuda", "the CUDA device reported '%s' in %s: the session is lost, -b cpu goes on without it",
                   cudaGetErrorString((cudaError_t)e), what);
}

/* ---- operands ---- */

static ct_cu_mat mat(ct_view v)
{
    ct_cu_mat m = {(float *)((uint8_t *)v.buf->device + v.off), v.rows, v.cols, v.stride};
    return m;
}

static ct_cu_weight weight(const ct_weight *w)
{
    ct_cu_weight d = {(const uint8_t *)w->buf.device, w->dtype->type, w->rows, w->cols, ct_cu_pitch(w->dtype->type, w->cols)};
    return d;
}

static const float *vector(const ct_weight *w) { return (const float *)w->buf.device; }

static ct_cu_mat rows_of(ct_cu_mat m, int first, int n)
{
    m.p += (size_t)first * m.stride;
    m.rows = n;
    return m;
}

static ct_cu_kv cache(struct stream *st, const ct_kv *kv)
{
    ct_cu_kv d = {kv->type_k, kv->type_v, kv->kv_heads, kv->head_dim, kv->ring, kv->table_stride};
    for (int i = 0; i < TABLES; i++)
        if (st->tables[i].host == kv->table)
            d.table = st->tables[i].dev;
    d.pages = (uint8_t *)kv->pool->device + kv->off;
    d.page_bytes = kv->page_bytes;
    d.v_off = ct_cu_kv_part(kv->type_k, kv->kv_heads, kv->head_dim);
    return d;
}

static struct dev_rows dev_rows(struct stream *st, int first, int n)
{
    struct dev_rows r = {st->dev + first, st->dev + st->rows + first, st->dev + 2 * st->rows + first, st->dev + 3 * st->rows, n};
    return r;
}

static void note(struct stream *st, int e, const char *op)
{
    if (e && !st->error) {
        st->error = e;
        st->op = op;
    }
#ifndef NDEBUG
    if (!st->error && !st->capturing && (e = (int)cudaStreamSynchronize(st->s)) != 0) {
        st->error = e;
        st->op = op;
    }
#endif
}

static void written(struct stream *st, ct_cu_mat m)
{
    const float *end = m.p + (size_t)m.rows * m.stride, *x = st->packed.x, *r = st->rounded.x.p;
    if (x && x < end && m.p < x + (size_t)st->packed.n * st->packed.stride)
        st->packed.x = NULL;
    if (r && r < end && m.p < r + (size_t)st->rounded.x.rows * st->rounded.x.stride)
        st->rounded.x.p = NULL;
}

/* ---- prompt rows ---- */

static size_t half_pitch(int cols) { return ((size_t)cols + 255) / 256 * 256; }

static bool is_rounded(const struct stream *st, ct_cu_mat x)
{
    const struct rounded *r = &st->rounded;
    return r->x.p == x.p && r->x.stride == x.stride && r->x.rows == x.rows && r->x.cols == x.cols;
}

/* x in bf16, made now unless it is there. A product uses up what was owed to it. */
static ct_cu_mat16 rounded_of(struct stream *st, ct_cu_mat x)
{
    if (!is_rounded(st, x)) {
        struct rounded now = {x, {st->half, x.rows, x.cols, half_pitch(x.cols)}, false};
        note(st, ct_cuda_round(st->s, now.h, x), "linear");
        st->rounded = now;
    }
    return st->rounded.h;
}

/* Whoever comes but a product finds x in f32. */
static void settle(struct stream *st)
{
    struct rounded *r = &st->rounded;
    if (r->x.p && r->owed)
        note(st, ct_cuda_widen(st->s, r->x, r->h), "linear_geglu");
    r->owed = false;
}

/* ---- pending heads ---- */

static void flush(struct stream *st)
{
    struct pending *p = &st->pending;
    settle(st);
    if (!p->k)
        return;
    ct_cu_mat none = {};
    note(st,
         cu_heads(st->s, none, NULL, 0, p->km, p->w, p->heads, p->cs, p->eps, p->vm, p->store ? &p->kv : NULL,
                  dev_rows(st, 0, p->km.rows), p->d),
         "norm_rope");
    p->k = p->store = false;
}

/* ---- packing ---- */

/* Planes that an op may fill with [n, cols] beside its own output; kind -1: nobody would want them. */
static struct planes planes_for(struct stream *st, ct_cu_mat y, int *kind)
{
    struct planes none = {};
    *kind = -1;
    if (st->prompt_rows > 0 && y.rows == st->prompt_rows && y.rows == st->n) { /* the next products are gemm.cu's */
        struct planes rows = {(uint8_t *)st->half, NULL, NULL, (int)half_pitch(y.cols)};
        *kind = PLANES_ROWS;
        return rows;
    }
    if (st->hint < 0 || st->hint == PLANES_F16 || y.rows > CU_PASS || planes_bytes(y.rows, y.cols) > st->planes_room[1 - st->turn])
        return none;
    *kind = st->hint;
    return planes_at(st->planes[1 - st->turn], y.rows, y.cols);
}

static void made(struct stream *st, ct_cu_mat y, struct planes p, int kind)
{
    written(st, y);
    if (kind < 0)
        return;
    if (kind == PLANES_ROWS) {
        struct rounded now = {y, {p.data, y.rows, y.cols, (size_t)p.n}, false};
        st->rounded = now;
        return;
    }
    struct packed now = {y.p, y.stride, y.rows, y.cols, kind, p};
    st->packed = now;
    st->turn = 1 - st->turn;
}

/* The planes of x, made now unless they are there. */
static struct planes planes_of(struct stream *st, ct_cu_mat x, int kind)
{
    struct packed *k = &st->packed;
    st->hint = kind;
    if (k->x == x.p && k->stride == x.stride && k->n == x.rows && k->cols == x.cols && k->kind == kind)
        return k->p;
    int at = planes_bytes(x.rows, x.cols) <= st->planes_room[1 - st->turn] ? 1 - st->turn : 0;
    struct planes p = planes_at(st->planes[at], x.rows, x.cols);
    note(st, cu_pack(st->s, p, kind, x), "linear");
    struct packed now = {x.p, x.stride, x.rows, x.cols, kind, p};
    st->packed = now;
    st->turn = at;
    return p;
}

/* ---- the table ---- */

#define STREAM struct stream *st = (struct stream *)c->stream

static void op_embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale)
{
    STREAM;
    flush(st);
    note(st, cu_embed(st->s, mat(y), weight(w), dev_rows(st, 0, rows->n), scale), "embed");
    written(st, mat(y));
}

static void op_rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    STREAM;
    flush(st);
    note(st, cu_rope_table(st->s, mat(cs), dev_rows(st, 0, rows->n), how->theta, how->factor, how->head_dim), "rope_table");
    written(st, mat(cs));
}

static void op_rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    STREAM;
    int kind;
    flush(st);
    ct_cu_mat ym = mat(y);
    struct planes p = planes_for(st, ym, &kind);
    note(st, cu_norm(st->s, ym, mat(x), vector(w), eps, p, kind), "rmsnorm");
    made(st, ym, p, kind);
}

static void products(struct stream *st, int m, const ct_cu_mat *y, ct_cu_mat x, const ct_cu_weight *w)
{
    bool done[CT_LINEAR_MAX] = {false, false, false, false};
    for (int from = 0; from < m; from++) { /* those that want the same planes together */
        ct_cu_mat ys[CT_LINEAR_MAX];
        ct_cu_weight ws[CT_LINEAR_MAX];
        int k = 0, kind = cu_plane_kind(w[from].type);
        for (int i = from; i < m; i++)
            if (!done[i] && cu_plane_kind(w[i].type) == kind) {
                done[i] = true;
                ys[k] = y[i];
                ws[k++] = w[i];
            }
        if (k == 0)
            continue;
        struct planes p = planes_of(st, x, kind);
        for (int at = 0; at < x.rows; at += CU_PASS)
            note(st, cu_linear(st->s, k, ys, ws, p, at, x.rows - at < CU_PASS ? x.rows - at : CU_PASS), "linear");
    }
}

static void op_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows)
{
    STREAM;
    ct_cu_mat ys[CT_LINEAR_MAX], xm = mat(x);
    ct_cu_weight ws[CT_LINEAR_MAX];
    int n = rows->n, np = c->exact ? 0 : rows->n_prompt;
    if (!(st->rounded.owed && np > 0 && is_rounded(st, rows_of(xm, 0, np))))
        flush(st);
    for (int i = 0; i < m; i++) {
        ys[i] = mat(y[i]);
        ws[i] = weight(w[i]);
    }
    if (np > 0) {
        ct_cu_mat part[CT_LINEAR_MAX], xp = rows_of(xm, 0, np);
        for (int i = 0; i < m; i++)
            part[i] = rows_of(ys[i], 0, np);
        int e = CT_CU_NOT_MINE;
        if (ct_cuda_gemm_takes(np, c->deterministic))
            e = ct_cuda_gemm_half(st->gemm, st->s, m, part, rounded_of(st, xp), ws, c->deterministic, st->more, st->more_bytes);
        if (e == CT_CU_NOT_MINE) {
            settle(st);
            products(st, m, part, xp, ws);
        } else {
            st->rounded.owed = false; /* used up: see ops.def */
            note(st, e, "linear");
        }
    }
    if (np < n) {
        for (int i = 0; i < m; i++)
            ys[i] = rows_of(ys[i], np, n - np);
        products(st, m, ys, rows_of(xm, np, n - np), ws);
    }
    for (int i = 0; i < m; i++)
        written(st, mat(y[i]));
}

static void op_linear_geglu(ct_ctx *c, ct_view y, ct_view x, const ct_weight *gate, const ct_weight *up, const ct_rows *rows)
{
    STREAM;
    ct_cu_mat ym = mat(y), xm = mat(x), um = {st->up, y.rows, y.cols, st->up_stride};
    ct_cu_weight ws[2] = {weight(gate), weight(up)};
    int n = rows->n, np = c->exact ? 0 : rows->n_prompt, kind;
    flush(st);
    written(st, ym);
    if (np > 0) {
        ct_cu_mat yp = rows_of(ym, 0, np), xp = rows_of(xm, 0, np);
        int e = CT_CU_NOT_MINE;
        ct_cu_mat16 h = {st->up, np, ym.cols, half_pitch(ym.cols)}; /* their part of up is as wide as two rows of h */
        if (ct_cuda_gemm_takes(np, c->deterministic))
            e = ct_cuda_gemm_geglu_half(st->gemm, st->s, h, rounded_of(st, xp), ws[0], ws[1], c->deterministic, st->more, st->more_bytes);
        if (e == CT_CU_NOT_MINE) {
            ct_cu_mat part[2] = {yp, rows_of(um, 0, np)};
            struct planes none = {};
            products(st, 2, part, xp, ws);
            e = cu_geglu(st->s, part[0], part[0], part[1], none, -1);
        } else {
            struct rounded now = {yp, h, true};
            st->rounded = now;
        }
        note(st, e, "linear_geglu");
    }
    if (np < n) {
        ct_cu_mat part[2] = {rows_of(ym, np, n - np), rows_of(um, np, n - np)};
        products(st, 2, part, rows_of(xm, np, n - np), ws);
        struct planes p = planes_for(st, part[0], &kind);
        note(st, cu_geglu(st->s, part[0], part[0], part[1], p, kind), "linear_geglu");
        made(st, part[0], p, kind);
    }
}

static void op_head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps)
{
    STREAM;
    ct_cu_mat none = {}, xm = mat(x);
    flush(st);
    note(st, cu_heads(st->s, xm, vector(w), heads, none, NULL, 0, none, eps, none, NULL, dev_rows(st, 0, xm.rows), xm.cols / heads),
         "head_norm");
    written(st, xm);
}

static void op_rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads)
{
    STREAM;
    ct_cu_mat none = {}, xm = mat(x);
    flush(st);
    note(st, cu_heads(st->s, xm, NULL, heads, none, NULL, 0, mat(cs), 0.0f, none, NULL, dev_rows(st, 0, xm.rows), xm.cols / heads),
         "rope");
    written(st, xm);
}

static void op_norm_rope(ct_ctx *c, ct_view x, const ct_weight *w, ct_view cs, int32_t heads, float eps)
{
    STREAM;
    struct pending *p = &st->pending;
    ct_cu_mat xm = mat(x);
    int d = xm.cols / heads;
    written(st, xm);
    if (p->k && p->store && p->d == d && p->cs.p == mat(cs).p && p->km.rows == xm.rows && p->eps == eps) {
        note(st, cu_heads(st->s, xm, vector(w), heads, p->km, p->w, p->heads, p->cs, eps, p->vm, &p->kv, dev_rows(st, 0, xm.rows), d),
             "norm_rope");
        p->k = p->store = false;
        return;
    }
    flush(st);
    struct pending now = {true, false, xm, {}, mat(cs), vector(w), heads, d, eps, {}};
    *p = now;
}

static void op_kv_store(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows)
{
    STREAM;
    struct pending *p = &st->pending;
    ct_cu_mat km = mat(k), none = {};
    ct_cu_kv d = cache(st, kv);
    if (p->k && !p->store && p->km.p == km.p && p->km.rows == rows->n && p->heads == kv->kv_heads) {
        p->store = true;
        p->vm = mat(v);
        p->kv = d;
        return;
    }
    flush(st);
    note(st, cu_heads(st->s, none, NULL, 0, km, NULL, kv->kv_heads, none, 0.0f, mat(v), &d, dev_rows(st, 0, rows->n), kv->head_dim),
         "kv_store");
}

static void op_attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    STREAM;
    ct_cu_mat om = mat(o), qm = mat(q);
    ct_cu_kv d = cache(st, kv);
    int n = rows->n, np = c->exact ? 0 : rows->n_prompt, kind, e = CT_CU_NOT_MINE, runs = 0;
    flush(st);
    while (runs < st->n_runs && st->runs[runs].first < np)
        runs++;
    if (np > 0)
        e = ct_cuda_flash(st->s, rows_of(om, 0, np), rows_of(qm, 0, np), &d, st->runs, runs, how->heads, how->window, how->scale,
                          c->deterministic, st->more, st->more_bytes);
    if (e == CT_CU_NOT_MINE)
        np = 0;
    else
        note(st, e, "attention");
    written(st, om);
    if (np == n)
        return;
    ct_cu_mat part = rows_of(om, np, n - np);
    struct planes p = planes_for(st, part, &kind);
    if (kv->head_dim % 32 != 0 || part.cols % 256 != 0)
        kind = -1;
    note(st,
         cu_attention(st->s, part, rows_of(qm, np, n - np), &d, dev_rows(st, np, n - np), how->heads, how->window, how->scale,
                      st->bucket, st->context, st->attention, p, kind),
         "attention");
    made(st, part, p, kind);
}

static void op_geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    STREAM;
    struct planes none = {};
    flush(st);
    note(st, cu_geglu(st->s, mat(y), mat(gate), mat(up), none, -1), "geglu");
    written(st, mat(y));
}

static void op_norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps)
{
    STREAM;
    struct planes none = {};
    ct_cu_mat xm = mat(x);
    flush(st);
    note(st, cu_norm_add(st->s, xm, xm, mat(y), vector(w), NULL, eps, none, -1), "norm_add");
    written(st, xm);
}

static void op_norm_add_norm(ct_ctx *c, ct_view z, ct_view x, ct_view y, const ct_weight *w, const ct_weight *next, float eps)
{
    STREAM;
    int kind;
    ct_cu_mat zm = mat(z), xm = mat(x);
    flush(st);
    written(st, xm);
    struct planes p = planes_for(st, zm, &kind);
    note(st, cu_norm_add(st->s, zm, xm, mat(y), vector(w), vector(next), eps, p, kind), "norm_add_norm");
    made(st, zm, p, kind);
}

static void op_softcap(ct_ctx *c, ct_view x, float cap)
{
    STREAM;
    flush(st);
    note(st, cu_softcap(st->s, mat(x), cap), "softcap");
    written(st, mat(x));
}

static void op_gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index)
{
    STREAM;
    (void)index; /* begin has sent it */
    flush(st);
    note(st, cu_gather(st->s, mat(y), mat(x), st->dev + 3 * st->rows), "gather");
    written(st, mat(y));
}

/* ---- memory ---- */

static ct_status buffer_alloc(ct_buffer *b, size_t bytes, ct_error *err)
{
    memset(b, 0, sizeof *b);
    size_t room = 0, all = 0;
    cudaError_t e = cudaMalloc(&b->device, bytes ? bytes : 1);
    if (e == cudaSuccess && ((e = cudaMemset(b->device, 0, bytes)) != cudaSuccess || (e = cudaStreamSynchronize(0)) != cudaSuccess))
        cudaFree(b->device);
    if (e != cudaSuccess) {
        b->device = NULL;
        cudaGetLastError();
        cudaMemGetInfo(&room, &all);
        return ct_fail(err, CT_ENOMEM, "cuda", "%.2f GB of the device's memory are needed, and %.2f of its %.2f GB are free (%s)",
                       (double)bytes * 1e-9, (double)room * 1e-9, (double)all * 1e-9, cudaGetErrorString(e));
    }
    b->bytes = bytes;
    b->impl = b->device;
    return CT_OK;
}

static void buffer_free(ct_buffer *b)
{
    cudaFree(b->device);
    memset(b, 0, sizeof *b);
}

static size_t memory_free(void)
{
    size_t room = 0, all = 0, spare = (size_t)256 << 20; /* of the driver's own, and what packing takes for a moment */
    cudaMemGetInfo(&room, &all);
    return room > spare ? room - spare : 0;
}

static ct_status read_device(const ct_buffer *b, size_t off, void *dst, size_t bytes, ct_error *err)
{
    int e = (int)cudaMemcpy(dst, (const uint8_t *)b->device + off, bytes, cudaMemcpyDeviceToHost);
    return e ? failed(err, e, "a copy from its memory") : CT_OK;
}

static ct_status write_device(const ct_buffer *b, size_t off, const void *src, size_t bytes, ct_error *err)
{
    int e = (int)cudaMemcpy((uint8_t *)b->device + off, src, bytes, cudaMemcpyHostToDevice);
    if (!e)
        e = (int)cudaStreamSynchronize(0); /* of pageable memory the copy may return before all has arrived */
    return e ? failed(err, e, "a copy into its memory") : CT_OK;
}

static size_t weight_bytes(const ct_weight *w)
{
    if (w->use == CT_WEIGHT_VECTOR)
        return (size_t)w->cols * sizeof(float);
    return ct_cu_weight_size(w->dtype->type, w->rows, w->cols);
}

static void weight_free(ct_weight *w)
{
    if (w->buf.impl)
        buffer_free(&w->buf);
    memset(&w->buf, 0, sizeof w->buf);
}

static ct_status weight_load(ct_weight *w, const void *src, ct_pool *pool, bool *in_place, ct_error *err)
{
    (void)pool;
    *in_place = false;
    if (w->buf.device == NULL) {
        ct_status st = buffer_alloc(&w->buf, weight_bytes(w), err);
        if (st != CT_OK)
            return st;
    }
    size_t bytes = (size_t)w->cols / (size_t)w->dtype->block_elems * (size_t)w->dtype->block_bytes * (size_t)w->rows;
    uint8_t *staged = NULL;
    int e = 0, bad = 0;
    if (w->use == CT_WEIGHT_VECTOR) {
        float some[1024];
        for (int at = 0; at < w->cols && !e; at += 1024) {
            int n = w->cols - at < 1024 ? w->cols - at : 1024;
            w->dtype->decode(some, (const uint8_t *)src + (size_t)at * w->dtype->block_bytes, (size_t)n);
            e = (int)cudaMemcpy((float *)w->buf.device + at, some, (size_t)n * 4, cudaMemcpyHostToDevice);
        }
    } else if (ct_cu_is_float(w->dtype->type)) {
        size_t row = bytes / (size_t)w->rows, pitch = ct_cu_pitch(w->dtype->type, w->cols);
        e = (int)cudaMemset(w->buf.device, 0, weight_bytes(w));
        if (!e)
            e = (int)cudaMemcpy2D(w->buf.device, pitch, src, row, row, (size_t)w->rows, cudaMemcpyHostToDevice);
    } else {
        size_t at = (bytes + 15) / 16 * 16;
        e = (int)cudaMallocAsync((void **)&staged, at + 16, 0);
        if (!e)
            e = (int)cudaMemcpyAsync(staged, src, bytes, cudaMemcpyHostToDevice, 0);
        if (!e)
            e = (int)cudaMemsetAsync(staged + at, 0, 16, 0);
        if (!e)
            e = cu_repack(0, (uint8_t *)w->buf.device, staged, w->dtype->type, w->rows, w->cols, (int *)(staged + at));
        if (!e)
            e = (int)cudaMemcpy(&bad, staged + at, sizeof bad, cudaMemcpyDeviceToHost);
        if (staged)
            cudaFreeAsync(staged, 0);
    }
    if (!e)
        e = (int)cudaStreamSynchronize(0);
    if (e) {
        weight_free(w);
        return failed(err, e, "packing of a weight");
    }
    if (bad) {
        weight_free(w);
        return ct_fail(err, CT_ENUMERIC, w->name,
                       "expected finite weights, found NaN or infinity in tensor '%s'; the file is damaged or was converted "
                       "through float16",
                       w->name);
    }
    return CT_OK;
}

static bool supports(const ct_dtype_info *t, ct_weight_use use)
{
    bool known = false;
    (void)use;
#define ROW(T) known = true
    CT_CU_EACH_TYPE(t->type, ROW)
#undef ROW
    return known;
}

static size_t kv_page_bytes(ct_dtype k, ct_dtype v, int32_t kv_heads, int32_t d)
{
    return ct_cu_kv_part(k, kv_heads, d) + ct_cu_kv_part(v, kv_heads, d);
}

/* ---- streams ---- */

struct sizes {
    size_t planes[2], attention, up, more, half, rows;
};

static struct sizes sizes_of(const ct_limits *l)
{
    struct sizes z;
    int passed = l->rows < CU_PASS ? l->rows : CU_PASS;
    z.rows = ((size_t)l->rows * 4 * sizeof(int32_t) + 255) / 256 * 256;
    z.planes[0] = (planes_bytes(l->rows, l->max_cols) + 255) / 256 * 256;
    z.planes[1] = (planes_bytes(passed, l->max_cols) + 255) / 256 * 256;
    z.attention = (cu_attention_scratch(l->rows, l->heads, l->head_dim, l->context) + 255) / 256 * 256;
    z.up = (size_t)l->rows * half_pitch(l->max_out) * sizeof(float);
    z.half = ((size_t)l->rows * half_pitch(l->max_cols) * sizeof(uint16_t) + 255) / 256 * 256;
    size_t gemm = ct_cuda_gemm_scratch(0, l->max_cols, l->max_out * 2);
    size_t flash = ct_cuda_flash_scratch(l->rows, l->heads, l->head_dim);
    z.more = ((gemm > flash ? gemm : flash) + 255) / 256 * 256;
    return z;
}

static size_t scratch_bytes(const ct_limits *l)
{
    struct sizes z = sizes_of(l);
    return z.rows + z.planes[0] + z.planes[1] + z.attention + z.up + z.half + z.more;
}

static void stream_free(void *stream)
{
    struct stream *st = (struct stream *)stream;
    if (st == NULL)
        return;
    if (st->s)
        cudaStreamSynchronize(st->s);
    for (int i = 0; i < GRAPHS; i++)
        if (st->graphs[i].exec)
            cudaGraphExecDestroy(st->graphs[i].exec);
    for (int i = 0; i < TABLES; i++) {
        cudaFree(st->tables[i].dev);
        cudaFreeHost(st->tables[i].mirror);
    }
    ct_cuda_gemm_free(st->gemm);
    cudaFree(st->scratch);
    cudaFreeHost(st->mapped);
    cudaFreeHost(st->runs);
    if (st->s)
        cudaStreamDestroy(st->s);
    cudaFreeHost(st);
}

static ct_status stream_create(void **stream, const ct_limits *l, ct_error *err)
{
    struct sizes z = sizes_of(l);
    struct stream *st = NULL;
    *stream = NULL;
    int e = (int)cudaMallocHost((void **)&st, sizeof *st);
    if (e)
        return failed(err, e, "making a stream");
    memset((void *)st, 0, sizeof *st);
    st->rows = l->rows;
    st->context = l->context;
    st->hint = -1;
    e = (int)cudaStreamCreateWithFlags(&st->s, cudaStreamNonBlocking);
    if (!e)
        e = (int)cudaHostAlloc((void **)&st->mapped, (size_t)l->rows * 4 * sizeof(int32_t), cudaHostAllocMapped);
    if (!e)
        e = (int)cudaMallocHost((void **)&st->runs, (size_t)l->rows * sizeof *st->runs);
    if (!e)
        e = ct_cuda_gemm_create(&st->gemm);
    size_t total = scratch_bytes(l);
    if (!e)
        e = (int)cudaMalloc((void **)&st->scratch, total);
    if (!e)
        e = (int)cudaMemset(st->scratch, 0, total);
    if (!e)
        e = (int)cudaStreamSynchronize(0);
    if (e) {
        stream_free(st);
        if (e == (int)cudaErrorMemoryAllocation) {
            cudaGetLastError();
            return ct_fail(err, CT_ENOMEM, "cuda", "work space needs %.2f GB of the device's memory, and %.2f GB are free",
                           (double)total * 1e-9, (double)memory_free() * 1e-9);
        }
        return failed(err, e, "making a stream");
    }
    uint8_t *at = st->scratch;
    st->dev = (int32_t *)at;
    at += z.rows;
    for (int i = 0; i < 2; i++) {
        st->planes[i] = at;
        st->planes_room[i] = z.planes[i];
        at += z.planes[i];
    }
    st->attention = at;
    st->attention_bytes = z.attention;
    at += z.attention;
    st->up = (float *)at;
    st->up_stride = half_pitch(l->max_out);
    at += z.up;
    st->half = (uint16_t *)at;
    at += z.half;
    st->more = at;
    st->more_bytes = z.more;
    *stream = st;
    return CT_OK;
}

/* The rows' sequences of a page table, where they have changed. A cache that has gone leaves its place to another. */
static int send_table(struct stream *st, const ct_kv *kv, const ct_rows *rows)
{
    size_t stride = (size_t)kv->table_stride, n = stride * (size_t)kv->sequences;
    int i = 0, e = 0;
    while (i < TABLES && st->tables[i].host != kv->table && st->tables[i].host)
        i++;
    struct table *t = &st->tables[i < TABLES ? i : 0];
    if (t->host != kv->table || t->n < n) {
        cudaFree(t->dev);
        cudaFreeHost(t->mirror);
        t->dev = t->mirror = NULL;
        t->host = kv->table;
        t->n = n;
        e = (int)cudaMalloc((void **)&t->dev, n * sizeof(int32_t));
        if (!e)
            e = (int)cudaMallocHost((void **)&t->mirror, n * sizeof(int32_t));
        if (e)
            return e;
        memset(t->mirror, 0xff, n * sizeof(int32_t));
        e = (int)cudaMemsetAsync(t->dev, 0, n * sizeof(int32_t), st->s);
        for (int g = 0; g < GRAPHS; g++) { /* they hold the old address */
            if (st->graphs[g].exec)
                cudaGraphExecDestroy(st->graphs[g].exec);
            memset(&st->graphs[g], 0, sizeof st->graphs[g]);
        }
    }
    for (int r = 0; r < rows->n && !e; r++) {
        size_t at = (size_t)rows->seq[r] * stride;
        if ((r == 0 || rows->seq[r] != rows->seq[r - 1]) && memcmp(t->mirror + at, kv->table + at, stride * sizeof(int32_t)) != 0) {
            memcpy(t->mirror + at, kv->table + at, stride * sizeof(int32_t));
            e = (int)cudaMemcpyAsync(t->dev + at, t->mirror + at, stride * sizeof(int32_t), cudaMemcpyHostToDevice, st->s);
        }
    }
    return e;
}

static struct graph *graph_of(struct stream *st, const ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int n_index)
{
    for (int i = 0; i < GRAPHS; i++) {
        struct graph *g = &st->graphs[i];
        if (g->times == 0) {
            struct graph now = {rows->n, n_index, st->bucket, 0, kv, c->exact, c->deterministic, NULL};
            *g = now;
        }
        if (g->n == rows->n && g->n_index == n_index && g->bucket == st->bucket && g->kv == kv && g->exact == c->exact &&
            g->deterministic == c->deterministic)
            return g;
    }
    return NULL; /* so many shapes are no habit */
}

static bool begin(ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv, const int32_t *index, int32_t n_index, bool repeats)
{
    STREAM;
    int n = rows->n, e = 0;
    st->error = 0;
    st->op = "the step";
    st->packed.x = NULL;
    st->rounded.x.p = NULL;
    st->rounded.owed = false;
    st->prompt_rows = c->exact || !ct_cuda_gemm_takes(rows->n_prompt, c->deterministic) ? 0 : rows->n_prompt;
    st->pending.k = st->pending.store = false;
    st->capturing = st->replayed = NULL;
    st->n = n;
    st->n_prompt = rows->n_prompt;
    st->longest = 0;
    st->n_runs = 0;
    if (n > st->rows || n_index > st->rows) {
        st->error = (int)cudaErrorInvalidValue;
        return false;
    }
    const int32_t *from[4] = {rows->token, rows->pos, rows->seq, index};
    for (int i = 0; i < 4; i++)
        if (from[i])
            memcpy(st->mapped + (size_t)i * st->rows, from[i], (size_t)(i == 3 ? n_index : n) * sizeof(int32_t));
    for (int i = 0; i < n && rows->pos && rows->seq; i++) {
        ct_cu_run *last = &st->runs[st->n_runs - 1];
        st->longest = rows->pos[i] + 1 > st->longest ? rows->pos[i] + 1 : st->longest;
        if (i > 0 && i != rows->n_prompt && rows->seq[i] == last->seq && rows->pos[i] == last->pos + last->n) {
            last->n++;
        } else {
            ct_cu_run run = {i, 1, rows->seq[i], rows->pos[i]};
            st->runs[st->n_runs++] = run;
        }
    }
    for (st->bucket = 256; st->bucket < st->longest;)
        st->bucket *= 2;
    for (int i = 0; i < n_kv && !e; i++)
        if (i == 0 || kv[i].table != kv[i - 1].table)
            e = send_table(st, &kv[i], rows);
    note(st, e, "begin");
    struct graph *g = repeats && rows->n_prompt == 0 ? graph_of(st, c, rows, kv, n_index) : NULL;
    if (g && g->exec && !e) {
        note(st, (int)cudaGraphLaunch(g->exec, st->s), "the recorded step");
        st->replayed = g;
        return false;
    }
    if (g && ++g->times == 2 && !e) {
        e = (int)cudaStreamBeginCapture(st->s, cudaStreamCaptureModeThreadLocal);
        if (!e)
            st->capturing = g;
        note(st, e, "begin");
    }
    if (n > 0 || n_index > 0)
        note(st, cu_rows_in(st->s, st->mapped, st->dev, st->rows, n > n_index ? n : n_index), "begin");
    return true;
}

static ct_status end(ct_ctx *c, ct_error *err)
{
    STREAM;
    if (!st->replayed)
        flush(st);
    if (st->capturing) {
        cudaGraph_t graph = NULL;
        struct graph *g = st->capturing;
        st->capturing = NULL;
        int e = (int)cudaStreamEndCapture(st->s, &graph);
        if (!e)
            e = (int)cudaGraphInstantiate(&g->exec, graph, 0);
        if (graph)
            cudaGraphDestroy(graph);
        if (!e && !st->error)
            e = (int)cudaGraphLaunch(g->exec, st->s);
        note(st, e, "recording a step");
    }
    int e = (int)cudaStreamSynchronize(st->s);
    const char *what = st->error ? st->op : "one of the step's operations";
    if (st->error)
        e = st->error;
    st->error = 0;
    return e ? failed(err, e, what) : CT_OK;
}

/* ---- what the card can do ---- */

static __global__ void fill_some(uint4 *p, size_t n)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        p[i] = make_uint4((unsigned)i * 2654435761u, (unsigned)i ^ 0x9e3779b9u, (unsigned)(i * 40503u), (unsigned)i);
}

static __global__ void __launch_bounds__(512) read_all(const uint4 *p, size_t n, unsigned *sink)
{
    unsigned s = 0;
    size_t step = (size_t)gridDim.x * blockDim.x, i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 a = __ldcs(p + i), b = __ldcs(p + i + step), c = __ldcs(p + i + 2 * step), d = __ldcs(p + i + 3 * step);
        s ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    if (s == 0x12345678u)
        *sink = s;
}

static double read_rate(void)
{
    size_t bytes = (size_t)2 << 30, room = memory_free();
    if (bytes > room / 2)
        bytes = room / 2;
    uint4 *p = NULL;
    double best = 0;
    cudaEvent_t a, b;
    if (bytes < (size_t)256 << 20 || cudaMalloc((void **)&p, bytes + 16) != cudaSuccess)
        return 0;
    cudaEventCreate(&a);
    cudaEventCreate(&b);
    fill_some<<<1024, 512>>>(p, bytes / 16);
    for (int pass = 0; pass < 10; pass++) {
        float ms = 0;
        cudaEventRecord(a);
        read_all<<<device.sms * 4, 512>>>(p, bytes / 16, (unsigned *)(p + bytes / 16));
        cudaEventRecord(b);
        if (cudaEventSynchronize(b) != cudaSuccess || cudaEventElapsedTime(&ms, a, b) != cudaSuccess)
            break;
        if (pass > 0 && (double)bytes / (ms * 1e-3) > best)
            best = (double)bytes / (ms * 1e-3);
    }
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    cudaFree(p);
    return best;
}

/* ---- the door ---- */

static ct_ops table;
static const char *isas[2] = {device.isa, NULL};

static const ct_ops *ops(const char *isa) { return isa == NULL || strcmp(isa, device.isa) == 0 ? &table : NULL; }

static ct_status open_device(const ct_backend **out, ct_error *err)
{
    static ct_backend backend;
    int count = 0, driver = 0;
    cudaDeviceProp prop;
    *out = NULL;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e != cudaSuccess || driver == 0)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "there is no NVIDIA driver on this machine: install one, or use -b cpu");
    e = cudaGetDeviceCount(&count);
    if (e == cudaErrorInsufficientDriver)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "the NVIDIA driver is for CUDA %d.%d, and this carat was built with CUDA %d.%d: "
                       "install a newer driver, or use -b cpu", driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && count == 0))
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "no NVIDIA card is visible here (is CUDA_VISIBLE_DEVICES empty?): use -b cpu");
    if (e == cudaSuccess)
        e = cudaGetDeviceProperties(&prop, 0);
    size_t room = 0, all = 0;
    if (e == cudaSuccess)
        e = cudaMemGetInfo(&room, &all); /* makes the context: a busy or broken card says so here */
    if (e != cudaSuccess)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "the NVIDIA card cannot be used now (%s): use -b cpu", cudaGetErrorString(e));
    if (prop.major < 8)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "%s has compute capability %d.%d, and carat needs 8.0 or more: use -b cpu",
                       prop.name, prop.major, prop.minor);
    cudaFuncAttributes has;
    if (cudaFuncGetAttributes(&has, (const void *)fill_some) != cudaSuccess) {
        cudaGetLastError();
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "%s (compute capability %d.%d) is not among those that this carat was built for: "
                       "CUDA_ARCHS=%d make cuda builds for it", prop.name, prop.major, prop.minor, prop.major * 10 + prop.minor);
    }
    cu_overlap = prop.major >= 9;
    device.sms = prop.multiProcessorCount;
    snprintf(device.isa, sizeof device.isa, "sm_%d%d", prop.major, prop.minor);
    table.isa = device.isa;
    table.impl = &device;
    table.embed = op_embed;
    table.rope_table = op_rope_table;
    table.rmsnorm = op_rmsnorm;
    table.linear = op_linear;
    table.head_norm = op_head_norm;
    table.rope = op_rope;
    table.norm_rope = op_norm_rope;
    table.kv_store = op_kv_store;
    table.attention = op_attention;
    table.geglu = op_geglu;
    table.linear_geglu = op_linear_geglu;
    table.norm_add = op_norm_add;
    table.norm_add_norm = op_norm_add_norm;
    table.softcap = op_softcap;
    table.gather = op_gather;
    backend.name = "cuda";
    backend.default_kv = CT_BF16;
    backend.chunk = 2048; /* 512 rows leave half of the tensor cores' time on the table (docs/KERNELS.md) */
    backend.isas = isas;
    backend.ops = ops;
    backend.buffer_alloc = buffer_alloc;
    backend.buffer_free = buffer_free;
    backend.weight_bytes = weight_bytes;
    backend.weight_load = weight_load;
    backend.weight_free = weight_free;
    backend.supports = supports;
    backend.kv_page_bytes = kv_page_bytes;
    backend.scratch_bytes = scratch_bytes;
    backend.read_rate = read_rate;
    backend.memory_free = memory_free;
    backend.read = read_device;
    backend.write = write_device;
    backend.stream_create = stream_create;
    backend.stream_free = stream_free;
    backend.begin = begin;
    backend.end = end;
    *out = &backend;
    return CT_OK;
}

extern "C" __attribute__((visibility("default"))) extern const ct_plugin carat_cuda_plugin = {CT_HANDSHAKE, open_device};
