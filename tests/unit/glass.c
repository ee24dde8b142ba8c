/* A device in a glass box: the oracle behind memory that the CPU must not touch.
 *
 * Buffers have no host address; what is behind their device address only this file reads. Ops see copies of rows, tables and
 * indexes that `begin` made, and everything else of them is poison; runs that repeat are recorded at their second time and played
 * back from then on, so whatever the engine does between ops is seen to be missing. */
#include "glass.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, TABLES = 4, CALLS = 4096, RECORDS = 8 };

enum op { EMBED, ROPE_TABLE, RMSNORM, LINEAR, HEAD_NORM, ROPE, KV_STORE, ATTENTION, GEGLU, NORM_ADD, SOFTCAP, GATHER };

struct call { /* of any op: the fields that it has no use for stay empty */
    enum op op;
    ct_view a, b, d, y[CT_LINEAR_MAX];
    const ct_weight *w[CT_LINEAR_MAX];
    ct_kv kv;
    ct_attn attn;
    ct_rope rope;
    int32_t m, n, n_prompt;
    float f;
};

struct record {
    int32_t n, n_prompt, n_index, times, n_calls;
    const ct_kv *kv;
    struct call *calls;
};

struct stream {
    ct_arena scratch;
    int32_t token[ROWS], pos[ROWS], seq[ROWS], index[ROWS];
    struct {
        const int32_t *host;
        int32_t *copy;
    } tables[TABLES];
    struct record records[RECORDS];
    struct record *recording;
    bool open;
};

int32_t glass_replays, glass_fail_at;

/* ---- what the box does ---- */

static ct_view opened(ct_view v, ct_buffer *room)
{
    if (v.buf == NULL)
        return v;
    *room = *v.buf;
    if (room->host != NULL)
        abort(); /* not one of ours */
    room->host = room->device;
    v.buf = room;
    return v;
}

static void execute(struct stream *s, const struct call *k)
{
    const ct_ops *ref = ct_backend_get("ref")->ops(NULL);
    ct_ctx c = {.scratch = &s->scratch, .ops = ref};
    ct_rows rows = {.n = k->n, .n_prompt = k->n_prompt, .token = s->token, .pos = s->pos, .seq = s->seq};
    ct_buffer room[4 + CT_LINEAR_MAX];
    ct_view a = opened(k->a, &room[0]), b = opened(k->b, &room[1]), d = opened(k->d, &room[2]), y[CT_LINEAR_MAX];
    ct_weight w[CT_LINEAR_MAX];
    const ct_weight *ws[CT_LINEAR_MAX];
    ct_kv kv = k->kv;
    for (int32_t i = 0; i < CT_LINEAR_MAX; i++) {
        y[i] = opened(k->y[i], &room[4 + i]);
        ws[i] = &w[i];
        if (k->w[i]) {
            w[i] = *k->w[i];
            w[i].buf.host = w[i].buf.device;
        }
    }
    if (kv.pool) {
        room[3] = *kv.pool;
        room[3].host = room[3].device;
        kv.pool = &room[3];
        for (int32_t i = 0; i < TABLES; i++)
            if (s->tables[i].host == k->kv.table)
                kv.table = s->tables[i].copy;
    }
    switch (k->op) {
    case EMBED: ref->embed(&c, a, ws[0], &rows, k->f); break;
    case ROPE_TABLE: ref->rope_table(&c, a, &rows, &k->rope); break;
    case RMSNORM: ref->rmsnorm(&c, a, b, ws[0], k->f); break;
    case LINEAR: ref->linear(&c, k->m, y, a, ws, &rows); break;
    case HEAD_NORM: ref->head_norm(&c, a, ws[0], k->m, k->f); break;
    case ROPE: ref->rope(&c, a, b, k->m); break;
    case KV_STORE: ref->kv_store(&c, a, b, &kv, &rows); break;
    case ATTENTION: ref->attention(&c, a, b, &kv, &rows, &k->attn); break;
    case GEGLU: ref->geglu(&c, a, b, d); break;
    case NORM_ADD: ref->norm_add(&c, a, b, ws[0], k->f); break;
    case SOFTCAP: ref->softcap(&c, a, k->f); break;
    case GATHER: ref->gather(&c, a, b, s->index); break;
    }
}

static void call(ct_ctx *c, struct call k)
{
    struct stream *s = c->stream;
    if (!s->open)
        abort(); /* an op outside begin and end */
    if (s->recording) {
        struct record *r = s->recording;
        if (r->n_calls == CALLS)
            abort();
        r->calls[r->n_calls++] = k;
    }
    execute(s, &k);
}

/* ---- the table ---- */

static void embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale)
{
    call(c, (struct call){.op = EMBED, .a = y, .w = {w}, .n = rows->n, .f = scale});
}

static void rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    call(c, (struct call){.op = ROPE_TABLE, .a = cs, .rope = *how, .n = rows->n});
}

static void rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    call(c, (struct call){.op = RMSNORM, .a = y, .b = x, .w = {w}, .f = eps});
}

static void linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows)
{
    struct call k = {.op = LINEAR, .a = x, .m = m, .n = rows->n, .n_prompt = rows->n_prompt};
    for (int32_t i = 0; i < m; i++) {
        k.y[i] = y[i];
        k.w[i] = w[i];
    }
    call(c, k);
}

static void head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps)
{
    call(c, (struct call){.op = HEAD_NORM, .a = x, .w = {w}, .m = heads, .f = eps});
}

static void rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads)
{
    call(c, (struct call){.op = ROPE, .a = x, .b = cs, .m = heads});
}

static void kv_store(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows)
{
    call(c, (struct call){.op = KV_STORE, .a = k, .b = v, .kv = *kv, .n = rows->n});
}

static void attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    call(c, (struct call){.op = ATTENTION, .a = o, .b = q, .kv = *kv, .n = rows->n, .attn = *how});
}

static void geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    call(c, (struct call){.op = GEGLU, .a = y, .b = gate, .d = up});
}

static void norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps)
{
    call(c, (struct call){.op = NORM_ADD, .a = x, .b = y, .w = {w}, .f = eps});
}

static void softcap(ct_ctx *c, ct_view x, float cap) { call(c, (struct call){.op = SOFTCAP, .a = x, .f = cap}); }

static void gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index)
{
    (void)index;
    call(c, (struct call){.op = GATHER, .a = y, .b = x});
}

/* ---- memory ---- */

static ct_status buffer_alloc(ct_buffer *b, size_t bytes, ct_error *err)
{
    *b = (ct_buffer){.device = ct_pages_alloc(bytes, false), .bytes = bytes};
    b->impl = b->device;
    return b->device ? CT_OK : ct_fail(err, CT_ENOMEM, "glass", "no memory in the box");
}

static void buffer_free(ct_buffer *b)
{
    ct_pages_free(b->device, b->bytes);
    *b = (ct_buffer){0};
}

static size_t weight_bytes(const ct_weight *w)
{
    size_t bytes = 0;
    if (w->use == CT_WEIGHT_VECTOR)
        return (size_t)w->cols * sizeof(float);
    return ct_row_bytes(w->dtype, (size_t)w->cols, &bytes) ? bytes * (size_t)w->rows : 0;
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
    if (w->use == CT_WEIGHT_VECTOR)
        ct_row_decode(w->dtype, w->buf.device, src, (size_t)w->cols);
    else
        memcpy(w->buf.device, src, weight_bytes(w));
    return CT_OK;
}

static void weight_free(ct_weight *w)
{
    if (w->buf.impl)
        buffer_free(&w->buf);
    w->buf = (ct_buffer){0};
}

static ct_status broken(ct_error *err)
{
    if (glass_fail_at > 0 && --glass_fail_at == 0)
        return ct_fail(err, CT_EIO, "glass", "the glass box broke in attention");
    return CT_OK;
}

static ct_status read_box(const ct_buffer *b, size_t off, void *dst, size_t bytes, ct_error *err)
{
    memcpy(dst, (uint8_t *)b->device + off, bytes);
    return broken(err);
}

static ct_status write_box(const ct_buffer *b, size_t off, const void *src, size_t bytes, ct_error *err)
{
    memcpy((uint8_t *)b->device + off, src, bytes);
    return broken(err);
}

static size_t memory_free(void) { return (size_t)1 << 34; }

/* ---- streams ---- */

static void stream_free(void *stream)
{
    struct stream *s = stream;
    for (int32_t i = 0; i < TABLES; i++)
        free(s->tables[i].copy);
    for (int32_t i = 0; i < RECORDS; i++)
        free(s->records[i].calls);
    ct_arena_deinit(&s->scratch);
    free(s);
}

static ct_status stream_create(void **stream, const ct_limits *l, ct_error *err)
{
    struct stream *s = calloc(1, sizeof *s);
    *stream = NULL;
    if (l->rows > ROWS || s == NULL || !ct_arena_init(&s->scratch, ct_backend_get("ref")->scratch_bytes(l))) {
        free(s);
        return ct_fail(err, CT_ENOMEM, "glass", "no memory for a stream");
    }
    *stream = s;
    return CT_OK;
}

static void send(int32_t *copy, const int32_t *host, int32_t n)
{
    memset(copy, 0x7e, ROWS * sizeof *copy);
    if (host)
        memcpy(copy, host, (size_t)n * sizeof *copy);
}

static void send_table(struct stream *s, const ct_kv *kv, const ct_rows *rows)
{
    int32_t i = 0;
    size_t stride = (size_t)kv->table_stride, n = stride * (size_t)kv->sequences;
    while (s->tables[i].host != NULL && s->tables[i].host != kv->table)
        if (++i == TABLES)
            i = 0, s->tables[0].host = NULL; /* of a cache that has gone */
    s->tables[i].host = kv->table;
    free(s->tables[i].copy);
    s->tables[i].copy = malloc(n * sizeof(int32_t));
    memset(s->tables[i].copy, 0x7e, n * sizeof(int32_t));
    for (int32_t r = 0; r < rows->n; r++)
        memcpy(s->tables[i].copy + (size_t)rows->seq[r] * stride, kv->table + (size_t)rows->seq[r] * stride,
               stride * sizeof(int32_t));
}

static struct record *record_of(struct stream *s, const ct_rows *rows, const ct_kv *kv, int32_t n_index)
{
    for (int32_t i = 0; i < RECORDS; i++) {
        struct record *r = &s->records[i];
        if (r->times == 0)
            *r = (struct record){.n = rows->n, .n_prompt = rows->n_prompt, .n_index = n_index, .kv = kv};
        if (r->n == rows->n && r->n_prompt == rows->n_prompt && r->n_index == n_index && r->kv == kv)
            return r;
    }
    return NULL;
}

static bool begin(ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv, const int32_t *index, int32_t n_index,
                  bool repeats)
{
    struct stream *s = c->stream;
    if (s->open)
        abort();
    s->open = true;
    send(s->token, rows->token, rows->n);
    send(s->pos, rows->pos, rows->n);
    send(s->seq, rows->seq, rows->n);
    send(s->index, index, n_index);
    for (int32_t i = 0; i < n_kv; i++)
        if (i == 0 || kv[i].table != kv[i - 1].table)
            send_table(s, &kv[i], rows);
    struct record *r = repeats ? record_of(s, rows, kv, n_index) : NULL;
    s->recording = NULL;
    if (r == NULL)
        return true;
    if (++r->times == 2) {
        r->calls = malloc(CALLS * sizeof *r->calls);
        s->recording = r->calls ? r : NULL;
    }
    if (r->times <= 2)
        return true;
    for (int32_t i = 0; i < r->n_calls; i++)
        execute(s, &r->calls[i]);
    glass_replays++;
    return false;
}

static ct_status end(ct_ctx *c, ct_error *err)
{
    struct stream *s = c->stream;
    s->open = false;
    return broken(err);
}

static const char *const isas[] = {"box", NULL};

static const ct_ops table = {
    .isa = "box",
    .embed = embed,
    .rope_table = rope_table,
    .rmsnorm = rmsnorm,
    .linear = linear,
    .head_norm = head_norm,
    .rope = rope,
    .kv_store = kv_store,
    .attention = attention,
    .geglu = geglu,
    .norm_add = norm_add,
    .softcap = softcap,
    .gather = gather,
};

static const ct_ops *ops(const char *isa) { return isa == NULL || strcmp(isa, "box") == 0 ? &table : NULL; }

const ct_backend *glass_backend(void)
{
    static ct_backend b;
    const ct_backend *ref = ct_backend_get("ref");
    b = (ct_backend){.name = "glass",
                     .default_kv = CT_F32,
                     .isas = isas,
                     .ops = ops,
                     .buffer_alloc = buffer_alloc,
                     .buffer_free = buffer_free,
                     .weight_bytes = weight_bytes,
                     .weight_load = weight_load,
                     .weight_free = weight_free,
                     .supports = ref->supports,
                     .kv_page_bytes = ref->kv_page_bytes,
                     .scratch_bytes = ref->scratch_bytes,
                     .memory_free = memory_free,
                     .read = read_box,
                     .write = write_box,
                     .stream_create = stream_create,
                     .stream_free = stream_free,
                     .begin = begin,
                     .end = end};
    return &b;
}
