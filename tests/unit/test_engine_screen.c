/* What a choice hangs on, said before the head is read; a session that screens chooses as one that does not; four bits. */
#include <math.h>

#include "model_fixture.h"
#include "quant/encode.h"

static const ct_sampling greedy = {.top_p = 1, .repeat_penalty = 1, .penalty_last = -1};

static void test_reach(void **state)
{
    (void)state;
    enum { VOCAB = 2000, MOST = 1024 };
    ct_error err;
    ct_sampler *s;
    int32_t also[MOST], top, n, history[1500];
    for (int32_t i = 0; i < 1500; i++)
        history[i] = i;
    expect_ok(ct_sampler_create(&s, VOCAB, &err), &err);

    ct_sampling how = greedy;
    assert_true(ct_sample_reach(s, &how, history, 9, MOST, &top, also, &n));
    assert_int_equal(top, 1);
    assert_int_equal(n, 0);

    how.temperature = 1;
    how.top_k = 64;
    assert_true(ct_sample_reach(s, &how, history, 9, MOST, &top, also, &n));
    assert_int_equal(top, 64);

    /* Each token that is pushed down makes room for another; one that stands there twice counts once. */
    int32_t twice[] = {5, 6, 5, 7};
    how.repeat_penalty = 1.1;
    assert_true(ct_sample_reach(s, &how, twice, 4, MOST, &top, also, &n));
    assert_int_equal(n, 3);
    assert_int_equal(top, 67);
    how.penalty_last = 1;
    assert_true(ct_sample_reach(s, &how, twice, 4, MOST, &top, also, &n));
    assert_int_equal(n, 1);
    assert_int_equal(also[0], 7);

    ct_bias bias[] = {{1999, 4}, {7, -1}};
    how.bias = bias;
    how.n_bias = 2;
    assert_true(ct_sample_reach(s, &how, twice, 4, MOST, &top, also, &n));
    assert_int_equal(n, 2);
    assert_int_equal(top, 66);

    /* Everything counts: no top-k, a larger one, more tokens touched than there is room for. */
    how = greedy;
    how.temperature = 1;
    assert_false(ct_sample_reach(s, &how, history, 9, MOST, &top, also, &n));
    how.top_k = MOST + 1;
    assert_false(ct_sample_reach(s, &how, history, 9, MOST, &top, also, &n));
    how.top_k = 64;
    how.frequency_penalty = 0.5;
    how.penalty_last = -1;
    assert_false(ct_sample_reach(s, &how, history, 1500, MOST, &top, also, &n));
    assert_false(ct_sample_reach(s, &how, history, 1000, MOST, &top, also, &n)); /* 1064 of them */
    assert_true(ct_sample_reach(s, &how, history, 900, MOST, &top, also, &n));
    ct_sampler_free(s);
}

static const ct_gemma *screened(loaded *m, const char *backend)
{
    ct_error err;
    bool needs;
    *m = (loaded){0};
    expect_ok(ct_gguf_open(&m->tensors, TINY, &err), &err);
    expect_ok(ct_pool_create(&m->pool, 2, &err), &err);
    expect_ok(ct_gemma_load(&m->gemma, m->tensors, ct_backend_get(backend), NULL, m->pool, &needs, &err), &err);
    expect_ok(ct_rough_make(&m->gemma, m->tensors, m->pool, &(ct_tell){NULL, NULL}, &err), &err);
    return &m->gemma;
}

static void test_session(void **state)
{
    (void)state;
    enum { N = 40 };
    static const char *const hosts[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++)
        for (int way = 0; way < 3; way++) {
            loaded plain, rough;
            ct_error err;
            load_tiny(&plain, hosts[b], 2);
            const ct_gemma *g = screened(&rough, hosts[b]);
            assert_true(g->rough.w.rows == g->cfg.embed_rows);
            ct_session *s[2] = {open_session(&plain, 64, 16, 1, false), open_session(&rough, 64, 16, 1, false)};
            ct_sampling how = greedy;
            if (way > 0) {
                how.temperature = 1;
                how.top_k = way == 1 ? 8 : 0;
                how.seed = 3;
                how.repeat_penalty = 1.2;
            }
            int32_t ids[6], token[2];
            double logprob;
            make_ids(ids, 6, 1, g->cfg.vocab);
            for (int k = 0; k < 2; k++)
                expect_ok(ct_session_feed(s[k], ids, 6, false, NULL, NULL, NULL, &err), &err);
            for (int i = 0; i < N; i++) {
                for (int k = 0; k < 2; k++) {
                    expect_ok(ct_session_sample(s[k], &how, &token[k], &logprob, &err), &err);
                    ct_session_expect(s[k], i % 5 == 4 ? NULL : &how);
                    expect_ok(ct_session_decode(s[k], token[k], &err), &err);
                }
                assert_int_equal(token[0], token[1]);
                if (i % 7 == 6) /* whoever looks at all of them gets all of them */
                    assert_memory_equal(ct_session_logits(s[0]), ct_session_logits(s[1]),
                                        (size_t)g->cfg.vocab * sizeof(float));
                if (i % 3 == 2) { /* chosen otherwise than was said */
                    ct_sampling other = how;
                    other.temperature = 2;
                    other.top_k = 0;
                    for (int k = 0; k < 2; k++)
                        expect_ok(ct_session_sample(s[k], &other, &token[k], &logprob, &err), &err);
                    assert_int_equal(token[0], token[1]);
                }
            }
            int64_t heads, scored;
            ct_session_heads(s[1], &heads, &scored);
            assert_int_equal(heads, N);
            assert_true(scored > 0);
            for (int k = 0; k < 2; k++)
                ct_session_free(s[k]);
            unload_model(&plain);
            unload_model(&rough);
        }
}

/* The sum of squared errors is that of what the decoder gives back, and small: a step is an eighth of the largest. */
static void test_four_bits(void **state)
{
    (void)state;
    enum { BLOCKS = 64, N = BLOCKS * 32 };
    float x[N], y[N];
    uint8_t q[BLOCKS * 18];
    for (int i = 0; i < N; i++)
        x[i] = i < 64 ? 0.0f : sinf((float)i * 1.7f) * expf((float)(i / 32 % 16) - 8.0f);
    double said = ct_q4_0_encode(q, x, BLOCKS), found = 0.0, all = 0.0;
    ct_row_decode(ct_dtype_get(CT_Q4_0), y, q, N);
    for (int i = 0; i < N; i++) {
        found += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        all += (double)x[i] * (double)x[i];
    }
    for (int i = 0; i < 64; i++)
        assert_true(y[i] == 0.0f);
    assert_true(fabs(said - found) < 1e-4 * found);
    assert_true(found > 0.0 && found < 0.01 * all);

    float odd[32] = {[3] = 1e-9f, [7] = -2e-9f}; /* too small for a step in half precision */
    assert_true(ct_q4_0_encode(q, odd, 1) < 1e-17);
    ct_row_decode(ct_dtype_get(CT_Q4_0), y, q, 32);
    for (int i = 0; i < 32; i++)
        assert_true(y[i] == 0.0f);
}

/* A device has no rough copy, and says so; everything goes on. */
static void test_no_use(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    bool needs;
    m = (loaded){0};
    expect_ok(ct_gguf_open(&m.tensors, TINY, &err), &err);
    expect_ok(ct_pool_create(&m.pool, 1, &err), &err);
    expect_ok(ct_gemma_load(&m.gemma, m.tensors, glass_backend(), NULL, m.pool, &needs, &err), &err);
    int32_t before = m.gemma.cfg.n_warnings;
    expect_ok(ct_rough_make(&m.gemma, m.tensors, m.pool, &(ct_tell){NULL, NULL}, &err), &err);
    assert_int_equal(m.gemma.rough.w.rows, 0);
    assert_int_equal(m.gemma.cfg.n_warnings, before + 1);
    assert_non_null(strstr(m.gemma.cfg.warnings[before], "read in full"));
    unload_model(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reach), cmocka_unit_test(test_session),
                                       cmocka_unit_test(test_four_bits), cmocka_unit_test(test_no_use)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
