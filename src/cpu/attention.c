/* Cache and attention of the cpu backend.
 *
 * A page holds CT_KV_PAGE positions; inside, one kv head after the other, each its keys, then its values:
 *   keys    16-bit types other than f16: [64/16 tiles][d/2][16 positions][2]: a vector is one pair of dimensions of 16 positions
 *           f16, f32: [64/16 tiles][d][16 positions]
 *   values  bf16: [64/2][d][2 positions]: a vector is 16 dimensions of a pair of positions;   f16, f32: [64][d]
 * and of a quantised cache, whose groups are 32 dimensions of a position (kv_quant.h has the arithmetic):
 *   keys    q8: [64/16 tiles][d/32]{f16 scale[16], i8 [32][16]}   q4: [64/16][d/32]{f16 scale[16], f16 min[16], u8 [16][16]}
 *   values  q8: [d/32]{f16 scale[64], i8 [64][32]}                q4: [d/32]{f16 scale[64], f16 min[64], u8 [64][16]}
 *           a byte of q4 holds dimension j in its low, j + 16 in its high half
 * so that scores come 16 positions at a time and values accumulate 16 dimensions at a time, with nothing summed across lanes.
 *
 * Each query is worked off chunk by chunk (ATTEND_KEYS positions, aligned), and the partial softmax sums are merged in order:
 * a row's result depends on its own keys alone, not on the rows beside it, the page it landed in or the number of threads.
 * A decode row with a long past has its chunks computed by all threads at once; the merge is the same. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/cpu.h"
#include "cpu/kv_quant.h"

enum { TILES = CT_KV_PAGE / TILE, PAGES = ATTEND_KEYS / CT_KV_PAGE };

/* Bytes of one kv head's keys or values in a page. */
static size_t head_bytes(ct_dtype t, int32_t d)
{
    size_t n = (size_t)CT_KV_PAGE * (size_t)d;
    return kv_quantized(t) ? n / KV_GROUP * kv_block_bytes(t) : n * (t == CT_F32 ? 4 : 2);
}

size_t ct_cpu_kv_page_bytes(ct_dtype type_k, ct_dtype type_v, int32_t kv_heads, int32_t head_dim)
{
    return (size_t)kv_heads * (head_bytes(type_k, head_dim) + head_bytes(type_v, head_dim));
}

/* One kv head's keys in the page of position pos (or values, behind them). */
static uint8_t *page_of(const ct_kv *kv, int32_t seq, int32_t page, int32_t head)
{
    int32_t slot = kv->ring ? page % kv->ring : page;
    size_t number = (size_t)kv->table[(size_t)seq * (size_t)kv->table_stride + (size_t)slot];
    size_t per_head = head_bytes(kv->type_k, kv->head_dim) + head_bytes(kv->type_v, kv->head_dim);
    return (uint8_t *)kv->pool->host + kv->off + number * kv->page_bytes + (size_t)head * per_head;
}

struct store_job {
    ct_view k, v;
    const ct_kv *kv;
    const ct_rows *rows;
};

/* Scale, minimum and quants of a group into a column of a block of n columns that is [scale[n]][min[n]][quants], a column's
 * bytes `stride` apart: a tile of keys (n = 16, stride 16) or a page of values (n = 64, stride 1, columns one after the other). */
static void store_group(uint8_t *block, ct_dtype type, int32_t n, int32_t at, size_t stride, const float *x)
{
    struct kv_group g;
    kv_encode(&g, type, x);
    memcpy(block + (size_t)at * 2, &g.scale, 2);
    block += (size_t)n * 2;
    if (type == CT_Q4_1) {
        memcpy(block + (size_t)at * 2, &g.min, 2);
        block += (size_t)n * 2;
    }
    size_t bytes = type == CT_Q4_1 ? KV_GROUP / 2 : KV_GROUP;
    uint8_t *q = block + (size_t)at * (stride == 1 ? bytes : 1);
    for (size_t i = 0; i < bytes; i++)
        q[i * stride] = g.q[i];
}

static void store_quants(uint8_t *page, ct_dtype type, bool keys, int32_t at, int32_t d, const float *x)
{
    const int32_t columns = keys ? TILE : CT_KV_PAGE;
    const size_t block = (size_t)columns * kv_block_bytes(type);
    page += keys ? (size_t)(at / TILE) * (size_t)(d / KV_GROUP) * block : 0;
    for (int32_t i = 0; i < d / KV_GROUP; i++)
        store_group(page + (size_t)i * block, type, columns, at % columns, keys ? TILE : 1, x + i * KV_GROUP);
}

static void store_key(uint8_t *keys, ct_dtype type, int32_t at, int32_t d, const float *k)
{
    if (kv_quantized(type)) {
        store_quants(keys, type, true, at, d, k);
        return;
    }
    size_t tile = (size_t)(at / TILE) * (size_t)d * TILE, lane = (size_t)(at % TILE);
    for (int32_t i = 0; i < d; i++)
        if (type == CT_F32)
            ((float *)(void *)keys)[tile + (size_t)i * TILE + lane] = k[i];
        else if (type == CT_F16)
            ((uint16_t *)(void *)keys)[tile + (size_t)i * TILE + lane] = ct_f32_to_f16(k[i]);
        else
            ((uint16_t *)(void *)keys)[tile + (size_t)(i / 2) * 2 * TILE + lane * 2 + (size_t)(i & 1)] = ct_f32_to_bf16(
                k[i]);
}

static void store_value(uint8_t *values, ct_dtype type, int32_t at, int32_t d, const float *v, bool clear_next)
{
    size_t n = (size_t)d;
    if (kv_quantized(type)) {
        store_quants(values, type, false, at, d, v);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (type == CT_F32) {
            ((float *)(void *)values)[(size_t)at * n + i] = v[i];
        } else if (type == CT_F16) {
            ((uint16_t *)(void *)values)[(size_t)at * n + i] = ct_f32_to_f16(v[i]);
        } else {
            uint16_t *p = (uint16_t *)(void *)values + (size_t)(at / 2) * 2 * n + i * 2;
            p[at & 1] = ct_f32_to_bf16(v[i]);
            if (clear_next)
                p[1] = 0;
        }
}

static void store_task(void *arg, int32_t i, int32_t worker)
{
    (void)worker;
    const struct store_job *j = arg;
    const ct_kv *kv = j->kv;
    int32_t d = kv->head_dim, pos = j->rows->pos[i], seq = j->rows->seq[i], at = pos % CT_KV_PAGE;
    /* Values are multiplied in pairs of positions: the partner of the newest one, which is still to come (or old enough that
     * no row wants it), must be a number, or its zero probability would make NaN of a stale NaN. */
    bool next_follows = i + 1 < j->rows->n && j->rows->seq[i + 1] == seq && j->rows->pos[i + 1] == pos + 1;
    bool clear_next = !(at & 1) && !next_follows;
    for (int32_t h = 0; h < kv->kv_heads; h++) {
        uint8_t *page = page_of(kv, seq, pos / CT_KV_PAGE, h);
        store_key(page, kv->type_k, at, d, ct_view_row(j->k, i) + (size_t)h * (size_t)d);
        store_value(page + head_bytes(kv->type_k, d), kv->type_v, at, d, ct_view_row(j->v, i) + (size_t)h * (size_t)d,
                    clear_next);
    }
}

void ct_cpu_kv_store(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows)
{
    struct store_job j = {.k = k, .v = v, .kv = kv, .rows = rows};
    ct_pool_run(c->pool, rows->n, store_task, &j);
}

/* ---- attention ---- */

struct job {
    const struct kernels *k;
    ct_view o, q;
    const ct_kv *kv;
    const ct_rows *rows;
    const ct_attn *how;
    bool exact;
    int32_t group;          /* query heads per kv head */
    int32_t heads_per_call; /* query heads of a call: all of a group, or 8 of them */
    int32_t rows_per_call;
    int32_t parts;        /* calls per group of heads */
    const int32_t *block; /* first row of each block of rows; block[blocks] = end */
    uint8_t *scratch;     /* per worker */
    size_t scratch_bytes;
    float *partial; /* split row: [chunks][heads][2 + d] */
    int32_t row, first_chunk;
};

static size_t worker_scratch(int32_t d)
{
    size_t n = ATTEND_QUERIES, sd = (size_t)d;
    return ct_round_up(n * sd * 4 /* q */ + n * sd * 4 /* part */ + n * sd * 4 /* sum */ + n * 4 * 4 +
                           n * ATTEND_KEYS * 4 + 2 * n * sd * 2 + 2 * n * ATTEND_KEYS * 2,
                       64) +
           1024;
}

static int32_t chunks_of(int32_t context) { return context / ATTEND_KEYS + 2; }

size_t ct_cpu_attention_scratch(const ct_limits *l)
{
    return (size_t)l->threads * worker_scratch(l->head_dim) + ct_round_up((size_t)(l->rows + 1) * 4, 64) +
           (size_t)chunks_of(l->context) * (size_t)l->heads * (size_t)(l->head_dim + 2) * 4 + 4096;
}

/* First key that row i sees. */
static int32_t first_key(const struct job *j, int32_t i)
{
    int32_t pos = j->rows->pos[i], w = j->how->window;
    return w > 0 && pos >= w ? pos - w + 1 : 0;
}

static uint8_t *take(uint8_t **p, size_t bytes)
{
    uint8_t *at = *p;
    *p += ct_round_up(bytes, 64);
    return at;
}

/* Sets a call up: pointers into the worker's scratch, queries scaled. Query t of the call is head h0 + t % heads of row
 * r0 + t / heads. */
static void set_up(const struct job *j, struct attend *t, uint8_t *scratch, int32_t r0, int32_t rows, int32_t h0,
                   int32_t heads)
{
    int32_t d = j->kv->head_dim, n = rows * heads;
    size_t sn = ATTEND_QUERIES, sd = (size_t)d;
    *t = (struct attend){.type_k = j->kv->type_k, .type_v = j->kv->type_v, .d = d, .n = n, .exact = j->exact};
    float *q = (float *)(void *)take(&scratch, sn * sd * 4);
    t->o = (float *)(void *)take(&scratch, sn * sd * 4);
    t->m = (float *)(void *)take(&scratch, sn * 4);
    t->l = (float *)(void *)take(&scratch, sn * 4);
    t->scores = (float *)(void *)take(&scratch, sn * ATTEND_KEYS * 4);
    t->q_hi = (uint16_t *)(void *)take(&scratch, sn * sd * 2);
    t->q_lo = (uint16_t *)(void *)take(&scratch, sn * sd * 2);
    t->p_hi = (uint16_t *)(void *)take(&scratch, sn * ATTEND_KEYS * 2);
    t->p_lo = (uint16_t *)(void *)take(&scratch, sn * ATTEND_KEYS * 2);
    for (int32_t i = 0; i < n; i++) {
        const float *src = ct_view_row(j->q, r0 + i / heads) + (size_t)(h0 + i % heads) * sd;
        for (size_t k = 0; k < sd; k++)
            q[(size_t)i * sd + k] = src[k] * j->how->scale;
        t->q[i] = q + (size_t)i * sd;
        j->k->split_bf16(t->q[i], d, t->q_hi + (size_t)i * sd, t->q_lo + (size_t)i * sd);
    }
}

/* One chunk for a call that is set up. */
static void chunk(const struct job *j, struct attend *t, int32_t number, int32_t r0, int32_t heads, int32_t kv_head)
{
    int32_t base = number * ATTEND_KEYS, last = 0;
    for (int32_t i = 0; i < t->n; i++) {
        int32_t row = r0 + i / heads, lo = first_key(j, row) - base, hi = j->rows->pos[row] + 1 - base;
        t->lo[i] = lo < 0 ? 0 : lo;
        t->hi[i] = hi > ATTEND_KEYS ? ATTEND_KEYS : hi;
        if (t->hi[i] > last)
            last = t->hi[i];
    }
    for (int32_t p = 0; p < PAGES; p++) {
        if (p * CT_KV_PAGE >= last)
            break; /* pages past the newest position may not exist */
        t->k[p] = page_of(j->kv, j->rows->seq[r0], base / CT_KV_PAGE + p, kv_head);
        t->v[p] = t->k[p] + head_bytes(j->kv->type_k, j->kv->head_dim);
    }
    (kv_quantized(t->type_k) || kv_quantized(t->type_v) ? j->k->attend_quant : j->k->attend)(t);
}

/* (m, l, o) <- merged with a chunk's. An empty side has l = 0. */
static void merge(float *m, float *l, float *o, float pm, float pl, const float *po, int32_t d)
{
    if (pl == 0)
        return;
    if (*l == 0) {
        *m = pm;
        *l = pl;
        memcpy(o, po, (size_t)d * sizeof *o);
        return;
    }
    float top = *m > pm ? *m : pm, a = expf(*m - top), b = expf(pm - top);
    for (int32_t i = 0; i < d; i++)
        o[i] = o[i] * a + po[i] * b;
    *l = *l * a + pl * b;
    *m = top;
}

static void finish(float *out, const float *o, float l, int32_t d)
{
    float r = 1.0f / l;
    for (int32_t i = 0; i < d; i++)
        out[i] = o[i] * r;
}

/* A block of rows, one group's heads (or a part of them), all chunks in order. */
static void block_task(void *arg, int32_t task, int32_t worker)
{
    const struct job *j = arg;
    int32_t d = j->kv->head_dim, per_block = j->kv->kv_heads * j->parts;
    int32_t b = task / per_block, kv_head = task % per_block / j->parts, part = task % j->parts;
    int32_t r0 = j->block[b], rows = j->block[b + 1] - r0;
    int32_t h0 = kv_head * j->group + part * j->heads_per_call;
    int32_t left = j->group - part * j->heads_per_call, heads = left < j->heads_per_call ? left : j->heads_per_call;
    uint8_t *scratch = j->scratch + (size_t)worker * j->scratch_bytes;
    float *sum = (float *)(void *)take(&scratch, (size_t)ATTEND_QUERIES * (size_t)d * 4);
    float m[ATTEND_QUERIES], l[ATTEND_QUERIES] = {0};
    struct attend t;
    set_up(j, &t, scratch, r0, rows, h0, heads);
    int32_t from = first_key(j, r0) / ATTEND_KEYS, to = j->rows->pos[r0 + rows - 1] / ATTEND_KEYS;
    for (int32_t number = from; number <= to; number++) {
        chunk(j, &t, number, r0, heads, kv_head);
        for (int32_t i = 0; i < t.n; i++)
            merge(&m[i], &l[i], sum + (size_t)i * (size_t)d, t.m[i], t.l[i], t.o + (size_t)i * (size_t)d, d);
    }
    for (int32_t i = 0; i < t.n; i++)
        finish(ct_view_row(j->o, r0 + i / heads) + (size_t)(h0 + i % heads) * (size_t)d, sum + (size_t)i * (size_t)d,
               l[i], d);
}

/* One chunk of one decode row. */
static void split_task(void *arg, int32_t task, int32_t worker)
{
    const struct job *j = arg;
    int32_t d = j->kv->head_dim, per_chunk = j->kv->kv_heads * j->parts;
    int32_t n = task / per_chunk, kv_head = task % per_chunk / j->parts, part = task % j->parts;
    int32_t h0 = kv_head * j->group + part * j->heads_per_call;
    int32_t left = j->group - part * j->heads_per_call, heads = left < j->heads_per_call ? left : j->heads_per_call;
    struct attend t;
    set_up(j, &t, j->scratch + (size_t)worker * j->scratch_bytes, j->row, 1, h0, heads);
    chunk(j, &t, j->first_chunk + n, j->row, heads, kv_head);
    for (int32_t i = 0; i < heads; i++) {
        float *p = j->partial + ((size_t)n * (size_t)j->how->heads + (size_t)(h0 + i)) * (size_t)(d + 2);
        p[0] = t.m[i];
        p[1] = t.l[i];
        memcpy(p + 2, t.o + (size_t)i * (size_t)d, (size_t)d * sizeof *p);
    }
}

static void split_row(ct_ctx *c, struct job *j, int32_t row)
{
    int32_t d = j->kv->head_dim, heads = j->how->heads;
    j->row = row;
    j->first_chunk = first_key(j, row) / ATTEND_KEYS;
    int32_t chunks = j->rows->pos[row] / ATTEND_KEYS - j->first_chunk + 1;
    ct_pool_run(c->pool, chunks * j->kv->kv_heads * j->parts, split_task, j);
    for (int32_t h = 0; h < heads; h++) {
        /* The first chunk's partial result serves as the sum: chunk 0's record of this head. */
        float *first = j->partial + (size_t)h * (size_t)(d + 2);
        for (int32_t n = 1; n < chunks; n++) {
            const float *p = j->partial + ((size_t)n * (size_t)heads + (size_t)h) * (size_t)(d + 2);
            merge(&first[0], &first[1], first + 2, p[0], p[1], p + 2, d);
        }
        finish(ct_view_row(j->o, row) + (size_t)h * (size_t)d, first + 2, first[1], d);
    }
}

/* Cuts rows [from, to) into blocks of one sequence; returns how many. */
static int32_t cut(const struct job *j, int32_t from, int32_t to, int32_t *block)
{
    int32_t n = 0;
    for (int32_t i = from; i < to;) {
        int32_t e = i + 1;
        while (e < to && e - i < j->rows_per_call && j->rows->seq[e] == j->rows->seq[i])
            e++;
        block[n++] = i;
        i = e;
    }
    block[n] = to;
    return n;
}

void ct_cpu_attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    struct job j = {.k = ct_cpu_kernels(c), .o = o, .q = q, .kv = kv, .rows = rows, .how = how};
    int32_t threads = ct_pool_threads(c->pool);
    j.group = how->heads / kv->kv_heads;
    j.heads_per_call = j.group < ATTEND_QUERIES ? j.group : ATTEND_QUERIES;
    j.parts = (j.group + j.heads_per_call - 1) / j.heads_per_call;
    j.rows_per_call = ATTEND_QUERIES / j.heads_per_call;
    ct_arena_reset(c->scratch);
    j.scratch_bytes = worker_scratch(kv->head_dim);
    j.scratch = ct_arena_alloc(c->scratch, (size_t)threads * j.scratch_bytes);
    int32_t *block = ct_arena_alloc(c->scratch, (size_t)(rows->n + 1) * sizeof *block);
    j.block = block;
    for (int kind = 0; kind < 2; kind++) { /* prompt rows, then decode rows */
        int32_t from = kind ? rows->n_prompt : 0, to = kind ? rows->n : rows->n_prompt;
        if (from == to)
            continue;
        j.exact = kind || c->exact;
        if (kind && (to - from) * kv->kv_heads * j.parts < 2 * threads) {
            int32_t longest = 0;
            for (int32_t i = from; i < to; i++) {
                int32_t n = rows->pos[i] / ATTEND_KEYS - first_key(&j, i) / ATTEND_KEYS + 1;
                longest = n > longest ? n : longest;
            }
            if (longest > 1) {
                j.partial = ct_arena_alloc(c->scratch, (size_t)longest * (size_t)how->heads *
                                                           (size_t)(kv->head_dim + 2) * sizeof *j.partial);
                for (int32_t i = from; i < to; i++)
                    split_row(c, &j, i);
                continue;
            }
        }
        int32_t blocks = cut(&j, from, to, block);
        ct_pool_run(c->pool, blocks * kv->kv_heads * j.parts, block_task, &j);
    }
}
