/* The oracle against numbers worked out by hand: tiny vectors, so that what everything else is checked against is not
 * itself unchecked. Values are exact in f32 or given to more digits than f32 holds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "base/half.h"

struct bench {
    ct_arena scratch;
    ct_ctx c;
    const ct_ops *ops;
    const ct_backend *b;
};

static int setup(void **state)
{
    static struct bench t;
    t.b = ct_backend_get("ref");
    assert_non_null(t.b);
    t.ops = t.b->ops(NULL);
    assert_int_equal(ct_ops_check("ref", t.ops, NULL), CT_OK);
    ct_limits l = {.rows = 8,
                   .max_cols = 512,
                   .max_out = 64,
                   .heads = 8,
                   .kv_heads = 4,
                   .head_dim = 256,
                   .context = 512,
                   .threads = 1};
    assert_true(ct_arena_init(&t.scratch, t.b->scratch_bytes(&l)));
    t.c = (ct_ctx){.scratch = &t.scratch, .ops = t.ops};
    *state = &t;
    return 0;
}

static int teardown(void **state)
{
    struct bench *t = *state;
    ct_arena_deinit(&t->scratch);
    return 0;
}

static ct_view view(ct_buffer *b, float *data, int32_t rows, int32_t cols)
{
    *b = (ct_buffer){.host = data, .bytes = (size_t)rows * (size_t)cols * 4};
    return (ct_view){.buf = b, .rows = rows, .cols = cols, .stride = (size_t)cols, .type = CT_F32};
}

static ct_weight vector(const struct bench *t, const float *data, int32_t n)
{
    ct_weight w = {.dtype = ct_dtype_get(CT_F32), .use = CT_WEIGHT_VECTOR, .rows = 1, .cols = n, .name = "w"};
    bool in_place = true;
    assert_int_equal(t->b->weight_load(&w, data, NULL, &in_place, NULL), CT_OK);
    assert_false(in_place);
    return w;
}

static void near(float got, double want)
{
    if (!(fabs((double)got - want) <= 6e-8 * fabs(want) + 1e-12))
        fail_msg("got %.9g, want %.9g", (double)got, want);
}

static void test_rmsnorm(void **state)
{
    struct bench *t = *state;
    ct_buffer bx, by;
    float x[4] = {1, -2, 3, -4}, y[4];
    const float wv[4] = {1, 2, 0.5f, -1};
    ct_weight w = vector(t, wv, 4);
    t->ops->rmsnorm(&t->c, view(&by, y, 1, 4), view(&bx, x, 1, 4), &w, 0.0f);
    const double r = 0.36514837167011072; /* 1/sqrt(30/4) */
    near(y[0], r);
    near(y[1], -4 * r);
    near(y[2], 1.5 * r);
    near(y[3], 4 * r);
    /* eps: mean square 7.5 + 0.5 = 8 */
    t->ops->rmsnorm(&t->c, view(&by, y, 1, 4), view(&bx, x, 1, 4), &w, 0.5f);
    near(y[0], 0.35355339059327373);
    /* zeros stay zeros: eps keeps the division alive */
    memset(x, 0, sizeof x);
    t->ops->rmsnorm(&t->c, view(&by, y, 1, 4), view(&bx, x, 1, 4), &w, 1e-6f);
    for (int i = 0; i < 4; i++)
        assert_true(y[i] == 0.0f);
    t->b->weight_free(&w);
}

static void test_head_norm(void **state)
{
    struct bench *t = *state;
    ct_buffer bx;
    float x[4] = {3, 4, 0, 5}; /* two heads of two: mean squares 12.5 and 12.5 */
    const float wv[2] = {1, 2};
    ct_weight w = vector(t, wv, 2);
    t->ops->head_norm(&t->c, view(&bx, x, 1, 4), &w, 2, 0.0f);
    near(x[0], 0.84852813742385703);
    near(x[1], 2.2627416997969521);
    near(x[2], 0.0);
    near(x[3], 2.8284271247461901);
    t->b->weight_free(&w);
}

static void test_norm_add(void **state)
{
    struct bench *t = *state;
    ct_buffer bx, by;
    float x[2] = {100000, 1}, y[2] = {3, 4};
    const float wv[2] = {1, 1};
    ct_weight w = vector(t, wv, 2);
    t->ops->norm_add(&t->c, view(&bx, x, 1, 2), view(&by, y, 1, 2), &w, 0.0f);
    near(x[0], 100000.84852813742);
    near(x[1], 2.1313708498984761);
    t->b->weight_free(&w);
}

static void test_rope(void **state)
{
    struct bench *t = *state;
    ct_buffer bc, bx;
    float cs[8], x[4] = {1, 0, 0, 2};
    const int32_t pos[2] = {1, 131071};
    ct_rows rows = {.n = 2, .pos = pos};
    t->ops->rope_table(&t->c, view(&bc, cs, 2, 4), &rows, &(ct_rope){.theta = 10000, .factor = 1, .head_dim = 4});
    near(cs[0], 0.54030230586813977); /* cos 1 */
    near(cs[1], 0.99995000041666528); /* cos 0.01: theta^(-2/4) */
    near(cs[2], 0.84147098480789650);
    near(cs[3], 0.0099998333341666645);
    near(cs[4], -0.81798349938794910); /* cos and sin of 131071 */
    near(cs[6], -0.57524168375478932);
    /* Pairs (0,2) and (1,3): halves, not neighbours. */
    t->ops->rope(&t->c, view(&bx, x, 1, 4), view(&bc, cs, 1, 4), 1);
    near(x[0], 0.54030230586813977);
    near(x[2], 0.84147098480789650);
    near(x[1], -0.019999666668333329);
    near(x[3], 1.9999000008333306);
    /* factor 8: position 8 has the angles of position 1 */
    const int32_t eight[1] = {8};
    rows = (ct_rows){.n = 1, .pos = eight};
    t->ops->rope_table(&t->c, view(&bc, cs, 1, 4), &rows, &(ct_rope){.theta = 10000, .factor = 8, .head_dim = 4});
    near(cs[0], 0.54030230586813977);
    near(cs[3], 0.0099998333341666645);
}

static void test_geglu(void **state)
{
    struct bench *t = *state;
    ct_buffer bg, bu;
    float gate[6] = {0, 1, -1, 3, 100000, -100000}, up[6] = {5, 2, 1, 1, 2, 2};
    ct_view g = view(&bg, gate, 1, 6);
    t->ops->geglu(&t->c, g, g, view(&bu, up, 1, 6)); /* in place */
    near(gate[0], 0);
    near(gate[1], 2 * 0.84119199060827670);
    near(gate[2], -0.15880800939172330);
    near(gate[3], 2.9963625846440806);
    near(gate[4], 200000);
    near(gate[5], 0);
}

static void test_linear_and_embed(void **state)
{
    struct bench *t = *state;
    ct_buffer bx, by;
    const float data[6] = {1, 2, 3, -1, 0.5f, 0.25f}; /* [2,3] */
    float x[6] = {1, 10, 100, 2, 4, 8}, y[4];
    const int32_t token[2] = {1, 0};
    ct_weight w = {.dtype = ct_dtype_get(CT_F32), .use = CT_WEIGHT_EMBED, .rows = 2, .cols = 3, .name = "w"};
    bool in_place = false;
    assert_int_equal(t->b->weight_load(&w, data, NULL, &in_place, NULL), CT_OK);
    assert_true(in_place);
    const ct_weight *const ws[1] = {&w};
    ct_rows rows = {.n = 2, .n_prompt = 1, .token = token};
    ct_view vy = view(&by, y, 2, 2);
    t->ops->linear(&t->c, 1, &vy, view(&bx, x, 2, 3), ws, &rows);
    near(y[0], 321);
    near(y[1], 29);
    near(y[2], 34);
    near(y[3], 2);
    assert_int_equal(t->scratch.used, 0);
    float e[6];
    t->ops->embed(&t->c, view(&by, e, 2, 3), &w, &rows, 2.0f);
    near(e[0], -2);
    near(e[2], 0.5);
    near(e[5], 6);
    const int32_t index[3] = {1, 1, 0};
    float g[9];
    t->ops->gather(&t->c, view(&by, g, 3, 3), view(&bx, x, 2, 3), index);
    assert_memory_equal(g, x + 3, 12);
    assert_memory_equal(g + 3, x + 3, 12);
    assert_memory_equal(g + 6, x, 12);
    t->b->weight_free(&w);

    /* A Q8_0 row: 32 quants times a half. */
    uint8_t block[34] = {0};
    uint16_t half = ct_f32_to_f16(0.5f);
    memcpy(block, &half, 2);
    block[2] = 3;            /* element 0: 1.5 */
    block[33] = (uint8_t)-4; /* element 31: -2 */
    float x8[32], y8[1];
    for (int i = 0; i < 32; i++)
        x8[i] = (float)(i + 1);
    ct_weight q = {.dtype = ct_dtype_get(CT_Q8_0), .use = CT_WEIGHT_MATRIX, .rows = 1, .cols = 32, .name = "q"};
    assert_int_equal(t->b->weight_load(&q, block, NULL, &in_place, NULL), CT_OK);
    const ct_weight *const qs[1] = {&q};
    rows.n = 1;
    vy = view(&by, y8, 1, 1);
    t->ops->linear(&t->c, 1, &vy, view(&bx, x8, 1, 32), qs, &rows);
    near(y8[0], 1.5 - 64);
    t->b->weight_free(&q);

    /* A row that is not whole blocks is refused, in a sentence. */
    ct_error err;
    q.cols = 33;
    assert_int_equal(t->b->weight_load(&q, block, NULL, &in_place, &err), CT_EFORMAT);
    assert_non_null(strstr(err.text, "whole blocks of 32"));
}

/* Two keys with scores 0 and ln 3: weights 1/4 and 3/4. Then a window that leaves one. */
static void test_attention(void **state)
{
    struct bench *t = *state;
    static const ct_dtype types[] = {CT_F32, CT_F16, CT_BF16};
    for (size_t i = 0; i < 3; i++) {
        ct_buffer pool, bk, bv, bq, bo;
        const int32_t table[2] = {1, 0}; /* pages in any order */
        const int32_t pos[2] = {63, 64}, seq[2] = {0, 0};
        ct_kv kv = {.type_k = types[i],
                    .type_v = types[i],
                    .kv_heads = 1,
                    .head_dim = 2,
                    .table_stride = 2,
                    .table = table,
                    .pool = &pool};
        kv.page_bytes = t->b->kv_page_bytes(kv.type_k, kv.type_v, 1, 2);
        assert_int_equal(t->b->buffer_alloc(&pool, 2 * kv.page_bytes, NULL), CT_OK);
        float k[4] = {0, 5, 1, 7}, v[4] = {4, 8, -4, 16}, q[4] = {0, 0, 2.1972245773362196f, 0}, o[4];
        ct_rows rows = {.n = 2, .pos = pos, .seq = seq};
        t->ops->kv_store(&t->c, view(&bk, k, 2, 2), view(&bv, v, 2, 2), &kv, &rows);
        /* window 2: row 0 sees positions 62 and 63 (62 is zeros: equal weights), row 1 sees 63 and 64. */
        t->ops->attention(&t->c, view(&bo, o, 2, 2), view(&bq, q, 2, 2), &kv, &rows,
                          &(ct_attn){.heads = 1, .window = 2, .scale = 0.5f});
        near(o[0], 2);
        near(o[1], 4);
        assert_true(fabsf(o[2] - (1 - 3)) < 1e-6f); /* q is ln 9 rounded to f32 */
        assert_true(fabsf(o[3] - (2 + 12)) < 1e-6f);
        t->ops->attention(&t->c, view(&bo, o, 2, 2), view(&bq, q, 2, 2), &kv, &rows,
                          &(ct_attn){.heads = 1, .window = 1, .scale = 0.5f});
        near(o[0], 4);
        near(o[3], 16);
        assert_int_equal(t->scratch.used, 0);
        t->b->buffer_free(&pool);
    }
}

/* Query head h reads kv head h / (H/K); position p of a ring of two pages overwrites p - 128. */
static void test_groups_and_ring(void **state)
{
    struct bench *t = *state;
    ct_buffer pool, bk, bv, bq, bo;
    const int32_t table[4] = {0, 1, 2, 3}; /* two sequences of two pages */
    ct_kv kv = {.type_k = CT_F32,
                .type_v = CT_F32,
                .kv_heads = 2,
                .head_dim = 2,
                .ring = 2,
                .table_stride = 2,
                .table = table,
                .pool = &pool};
    kv.page_bytes = t->b->kv_page_bytes(CT_F32, CT_F32, 2, 2);
    assert_int_equal(t->b->buffer_alloc(&pool, 4 * kv.page_bytes, NULL), CT_OK);
    float k[4] = {0}, q[8] = {0}, o[8];
    for (int32_t p = 0; p < 300; p++) {
        for (int32_t s = 0; s < 2; s++) {
            float v[4] = {(float)p, 0, (float)(1000 * s), 1};
            ct_rows rows = {.n = 1, .pos = &p, .seq = &s};
            t->ops->kv_store(&t->c, view(&bk, k, 1, 4), view(&bv, v, 1, 4), &kv, &rows);
        }
    }
    int32_t pos = 299, seq = 1;
    ct_rows rows = {.n = 1, .pos = &pos, .seq = &seq};
    t->ops->attention(&t->c, view(&bo, o, 1, 8), view(&bq, q, 1, 8), &kv, &rows,
                      &(ct_attn){.heads = 4, .window = 65, .scale = 1.0f});
    near(o[0], 267); /* mean of 235..299 */
    near(o[2], 267);
    near(o[4], 1000);
    near(o[7], 1);
    t->b->buffer_free(&pool);
}

/* 16-bit caches round to nearest, ties to even. */
static void test_store_rounds(void **state)
{
    struct bench *t = *state;
    ct_buffer pool, bk, bv;
    const int32_t table[1] = {0}, pos[1] = {0}, seq[1] = {0};
    ct_kv kv = {.type_k = CT_BF16,
                .type_v = CT_F16,
                .kv_heads = 1,
                .head_dim = 2,
                .table_stride = 1,
                .table = table,
                .pool = &pool};
    kv.page_bytes = t->b->kv_page_bytes(CT_BF16, CT_F16, 1, 2);
    assert_int_equal(t->b->buffer_alloc(&pool, kv.page_bytes, NULL), CT_OK);
    float k[2] = {1.00390625f, 1.01171875f}, v[2] = {1.00048828125f, 2049.0f}; /* ties: down, up; down, down */
    ct_rows rows = {.n = 1, .pos = pos, .seq = seq};
    t->ops->kv_store(&t->c, view(&bk, k, 1, 2), view(&bv, v, 1, 2), &kv, &rows);
    const uint16_t *h = pool.host;
    assert_int_equal(h[0], 0x3f80);
    assert_int_equal(h[1], 0x3f82);
    assert_int_equal(h[64 * 2 + 0], 0x3c00);
    assert_int_equal(h[64 * 2 + 1], 0x6800);
    t->b->buffer_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rmsnorm),      cmocka_unit_test(test_head_norm),
        cmocka_unit_test(test_norm_add),     cmocka_unit_test(test_rope),
        cmocka_unit_test(test_geglu),        cmocka_unit_test(test_linear_and_embed),
        cmocka_unit_test(test_attention),    cmocka_unit_test(test_groups_and_ring),
        cmocka_unit_test(test_store_rounds),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
