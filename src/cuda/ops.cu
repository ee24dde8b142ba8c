/* The table of operations of the backend cuda. An op enqueues and returns.
 *
 * Two things happen behind the table: norms, attention and geglu also leave what they made packed for the product that comes next
 * (struct packed, struct rounded), and the three ops between the first product of a layer and its attention become one launch
 * (struct pending). It knows no model; how steps begin, end and repeat is stream.cu's. */
#include "cuda/stream.cuh"

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

static void written(struct stream *st, ct_cu_mat m)
{
    const float *end = m.p + (size_t)m.rows * m.stride, *x = st->packed.x, *r = st->rounded.x.p;
    if (x && x < end && m.p < x + (size_t)st->packed.n * st->packed.stride)
        st->packed.x = NULL;
    if (r && r < end && m.p < r + (size_t)st->rounded.x.rows * st->rounded.x.stride)
        st->rounded.x.p = NULL;
}

/* ---- prompt rows ---- */

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
        cu_note(st, ct_cuda_round(st->s, now.h, x), "linear");
        st->rounded = now;
    }
    return st->rounded.h;
}

/* Whoever comes but a product finds x in f32. */
static void settle(struct stream *st)
{
    struct rounded *r = &st->rounded;
    if (r->x.p && r->owed)
        cu_note(st, ct_cuda_widen(st->s, r->x, r->h), "linear_geglu");
    r->owed = false;
}

/* ---- pending heads ---- */

void cu_flush(struct stream *st)
{
    struct pending *p = &st->pending;
    settle(st);
    if (!p->k)
        return;
    ct_cu_mat none = {};
    cu_note(st,
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
    cu_note(st, cu_pack(st->s, p, kind, x), "linear");
    struct packed now = {x.p, x.stride, x.rows, x.cols, kind, p};
    st->packed = now;
    st->turn = at;
    return p;
}

/* ---- the table ---- */

static void op_embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale)
{
    STREAM;
    cu_flush(st);
    cu_note(st, cu_embed(st->s, mat(y), weight(w), dev_rows(st, 0, rows->n), scale), "embed");
    written(st, mat(y));
}

static void op_rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    STREAM;
    cu_flush(st);
    cu_note(st, cu_rope_table(st->s, mat(cs), dev_rows(st, 0, rows->n), how->theta, how->factor, how->head_dim), "rope_table");
    written(st, mat(cs));
}

static void op_rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    STREAM;
    int kind;
    cu_flush(st);
    ct_cu_mat ym = mat(y);
    struct planes p = planes_for(st, ym, &kind);
    cu_note(st, cu_norm(st->s, ym, mat(x), vector(w), eps, p, kind), "rmsnorm");
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
            cu_note(st, cu_linear(st->s, k, ys, ws, p, at, x.rows - at < CU_PASS ? x.rows - at : CU_PASS), "linear");
    }
}

static void op_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows)
{
    STREAM;
    ct_cu_mat ys[CT_LINEAR_MAX], xm = mat(x);
    ct_cu_weight ws[CT_LINEAR_MAX];
    int n = rows->n, np = c->exact ? 0 : rows->n_prompt;
    if (!(st->rounded.owed && np > 0 && is_rounded(st, rows_of(xm, 0, np))))
        cu_flush(st);
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
            cu_note(st, e, "linear");
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
    cu_flush(st);
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
        cu_note(st, e, "linear_geglu");
    }
    if (np < n) {
        ct_cu_mat part[2] = {rows_of(ym, np, n - np), rows_of(um, np, n - np)};
        products(st, 2, part, rows_of(xm, np, n - np), ws);
        struct planes p = planes_for(st, part[0], &kind);
        cu_note(st, cu_geglu(st->s, part[0], part[0], part[1], p, kind), "linear_geglu");
        made(st, part[0], p, kind);
    }
}

static void op_head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps)
{
    STREAM;
    ct_cu_mat none = {}, xm = mat(x);
    cu_flush(st);
    cu_note(st, cu_heads(st->s, xm, vector(w), heads, none, NULL, 0, none, eps, none, NULL, dev_rows(st, 0, xm.rows), xm.cols / heads),
         "head_norm");
    written(st, xm);
}

static void op_rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads)
{
    STREAM;
    ct_cu_mat none = {}, xm = mat(x);
    cu_flush(st);
    cu_note(st, cu_heads(st->s, xm, NULL, heads, none, NULL, 0, mat(cs), 0.0f, none, NULL, dev_rows(st, 0, xm.rows), xm.cols / heads),
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
        cu_note(st, cu_heads(st->s, xm, vector(w), heads, p->km, p->w, p->heads, p->cs, eps, p->vm, &p->kv, dev_rows(st, 0, xm.rows), d),
             "norm_rope");
        p->k = p->store = false;
        return;
    }
    cu_flush(st);
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
    cu_flush(st);
    cu_note(st, cu_heads(st->s, none, NULL, 0, km, NULL, kv->kv_heads, none, 0.0f, mat(v), &d, dev_rows(st, 0, rows->n), kv->head_dim),
         "kv_store");
}

static void op_attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    STREAM;
    ct_cu_mat om = mat(o), qm = mat(q);
    ct_cu_kv d = cache(st, kv);
    int n = rows->n, np = c->exact ? 0 : rows->n_prompt, kind, e = CT_CU_NOT_MINE, runs = 0;
    cu_flush(st);
    while (runs < st->n_runs && st->runs[runs].first < np)
        runs++;
    if (np > 0)
        e = ct_cuda_flash(st->s, rows_of(om, 0, np), rows_of(qm, 0, np), &d, st->runs, runs, how->heads, how->window, how->scale,
                          c->deterministic, st->more, st->more_bytes);
    if (e == CT_CU_NOT_MINE)
        np = 0;
    else
        cu_note(st, e, "attention");
    written(st, om);
    if (np == n)
        return;
    ct_cu_mat part = rows_of(om, np, n - np);
    struct planes p = planes_for(st, part, &kind);
    if (kv->head_dim % 32 != 0 || part.cols % 256 != 0)
        kind = -1;
    cu_note(st,
         cu_attention(st->s, part, rows_of(qm, np, n - np), &d, dev_rows(st, np, n - np), how->heads, how->window, how->scale,
                      st->bucket, st->context, st->attention, p, kind),
         "attention");
    made(st, part, p, kind);
}

static void op_geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    STREAM;
    struct planes none = {};
    cu_flush(st);
    cu_note(st, cu_geglu(st->s, mat(y), mat(gate), mat(up), none, -1), "geglu");
    written(st, mat(y));
}

static void op_norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps)
{
    STREAM;
    struct planes none = {};
    ct_cu_mat xm = mat(x);
    cu_flush(st);
    cu_note(st, cu_norm_add(st->s, xm, xm, mat(y), vector(w), NULL, eps, none, -1), "norm_add");
    written(st, xm);
}

static void op_norm_add_norm(ct_ctx *c, ct_view z, ct_view x, ct_view y, const ct_weight *w, const ct_weight *next, float eps)
{
    STREAM;
    int kind;
    ct_cu_mat zm = mat(z), xm = mat(x);
    cu_flush(st);
    written(st, xm);
    struct planes p = planes_for(st, zm, &kind);
    cu_note(st, cu_norm_add(st->s, zm, xm, mat(y), vector(w), vector(next), eps, p, kind), "norm_add_norm");
    made(st, zm, p, kind);
}

static void op_softcap(ct_ctx *c, ct_view x, float cap)
{
    STREAM;
    cu_flush(st);
    cu_note(st, cu_softcap(st->s, mat(x), cap), "softcap");
    written(st, mat(x));
}

static void op_gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index)
{
    STREAM;
    (void)index; /* begin has sent it */
    cu_flush(st);
    cu_note(st, cu_gather(st->s, mat(y), mat(x), st->dev + 3 * st->rows), "gather");
    written(st, mat(y));
}

void cu_ops_fill(ct_ops *table)
{
    table->embed = op_embed;
    table->rope_table = op_rope_table;
    table->rmsnorm = op_rmsnorm;
    table->linear = op_linear;
    table->head_norm = op_head_norm;
    table->rope = op_rope;
    table->norm_rope = op_norm_rope;
    table->kv_store = op_kv_store;
    table->attention = op_attention;
    table->geglu = op_geglu;
    table->linear_geglu = op_linear_geglu;
    table->norm_add = op_norm_add;
    table->norm_add_norm = op_norm_add_norm;
    table->softcap = op_softcap;
    table->gather = op_gather;
}
