/* The forward itself: fused operations against their spelling, the watch, the head, what a model says of its own size. */
#include "model_fixture.h"

#include <math.h>

enum { N = 40 };

struct trace {
    int32_t n, stop_at;
    int32_t layer[64];
    double sum[64]; /* of the last row's residual */
};

static int note(void *arg, int32_t layer, ct_view x)
{
    struct trace *t = arg;
    const float *row = ct_view_row(x, x.rows - 1);
    double sum = 0;
    for (int32_t j = 0; j < x.cols; j++)
        sum += fabs((double)row[j]);
    assert_int_equal(x.rows, N);
    t->layer[t->n] = layer;
    t->sum[t->n++] = sum;
    return layer == t->stop_at;
}

/* One prompt of N rows through a step and a cache of its own; logits of the rows of out. */
static void run(const loaded *m, const int32_t *ids, bool exact, const int32_t *out, int32_t n_out, float *logits,
                struct trace *trace)
{
    ct_error err;
    ct_step step;
    ct_kvcache kc;
    int32_t pos[N], seq[N] = {0};
    for (int32_t i = 0; i < N; i++)
        pos[i] = i;
    expect_ok(ct_step_create(&step, &m->gemma, N, N, 64, ct_pool_threads(m->pool), &err), &err);
    expect_ok(ct_kvcache_create(&kc, &m->gemma, 1, 64, N, CT_F32, CT_F32, &err), &err);
    ct_ctx c = {.pool = m->pool, .scratch = &step.scratch, .exact = exact, .ops = m->gemma.ops};
    ct_rows rows = {.n = N, .n_prompt = N, .token = ids, .pos = pos, .seq = seq};
    ct_forward(&m->gemma, &c, &step, &rows, kc.layers, out, n_out, trace ? note : NULL, trace);
    for (int32_t i = 0; logits && i < n_out; i++)
        memcpy(logits + (size_t)i * (size_t)m->gemma.cfg.vocab, ct_view_row(step.logits, i),
               (size_t)m->gemma.cfg.vocab * sizeof *logits);
    ct_kvcache_free(&kc);
    ct_step_free(&step, &m->gemma);
}

static double worst_of(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static void fused_equals_its_spelling(void **state)
{
    (void)state;
    for (int32_t b = 0; b < N_HOST_BACKENDS; b++) {
        loaded m;
        load_tiny(&m, backends[b], 2);
        int32_t ids[N], out[] = {0, 17, N - 1};
        make_ids(ids, N, 4, m.gemma.cfg.vocab);
        size_t n = 3 * (size_t)m.gemma.cfg.vocab;
        float *fused = malloc(n * 4), *plain = malloc(n * 4);
        const ct_ops *all = m.gemma.ops;
        ct_ops some = *all;
        for (int32_t without = 0; without < 4; without++) {
            some = *all;
            if (without == 0 || without == 3)
                some.norm_rope = NULL;
            if (without == 1 || without == 3)
                some.linear_geglu = NULL;
            if (without == 2 || without == 3)
                some.norm_add_norm = NULL;
            m.gemma.ops = all;
            run(&m, ids, true, out, 3, fused, NULL);
            m.gemma.ops = &some;
            run(&m, ids, true, out, 3, plain, NULL);
            double worst = worst_of(fused, plain, n);
            if (worst > 0.05)
                fail_msg("%s: without fusion %d logits differ by %g", backends[b], without, worst);
        }
        m.gemma.ops = all;
        free(fused);
        free(plain);
        unload_model(&m);
    }
}

static void watch_sees_every_layer(void **state)
{
    (void)state;
    loaded m;
    load_tiny(&m, "ref", 1);
    int32_t ids[N], layers = m.gemma.cfg.layers, out[] = {3, N - 1};
    make_ids(ids, N, 4, m.gemma.cfg.vocab);
    size_t n = 2 * (size_t)m.gemma.cfg.vocab;
    float *seen = malloc(n * 4), *unseen = malloc(n * 4);
    struct trace t = {.stop_at = 1000};
    run(&m, ids, false, out, 2, seen, &t);
    run(&m, ids, false, out, 2, unseen, NULL);
    assert_memory_equal(seen, unseen, n * 4); /* looking changes nothing */
    assert_int_equal(t.n, layers + 1);
    for (int32_t i = 0; i <= layers; i++) {
        assert_int_equal(t.layer[i], i - 1);
        assert_true(t.sum[i] > 0 && isfinite(t.sum[i]));
    }
    struct trace early = {.stop_at = 2};
    run(&m, ids, false, out, 0, NULL, &early);
    assert_int_equal(early.n, 4);
    assert_true(early.sum[3] == t.sum[3]);
    free(seen);
    free(unseen);
    unload_model(&m);
}

static void softcap_bends_the_logits(void **state)
{
    (void)state;
    loaded m;
    load_tiny(&m, "ref", 1);
    int32_t ids[N], out[] = {N - 1}, vocab = m.gemma.cfg.vocab;
    make_ids(ids, N, 4, vocab);
    float *plain = malloc((size_t)vocab * 4), *capped = malloc((size_t)vocab * 4);
    run(&m, ids, false, out, 1, plain, NULL);
    m.gemma.cfg.softcap = 2;
    run(&m, ids, false, out, 1, capped, NULL);
    for (int32_t i = 0; i < vocab; i++)
        assert_true(fabs((double)capped[i] - 2 * tanh((double)plain[i] / 2)) < 1e-5 && fabsf(capped[i]) <= 2);
    free(plain);
    free(capped);
    unload_model(&m);
}

/* A head of its own: here the embedding turned by one row, so that the logits turn with it. */
static void head_may_be_untied(void **state)
{
    (void)state;
    loaded m;
    load_tiny(&m, "ref", 1);
    int32_t ids[N], out[] = {N - 1}, vocab = m.gemma.cfg.vocab;
    make_ids(ids, N, 4, vocab);
    float *tied = malloc((size_t)vocab * 4), *untied = malloc((size_t)vocab * 4);
    run(&m, ids, false, out, 1, tied, NULL);
    ct_weight head = m.gemma.embed; /* ref keeps the file's rows */
    size_t row = head.buf.bytes / (size_t)head.rows, rest = head.buf.bytes - row;
    uint8_t *turned = malloc(head.buf.bytes);
    memcpy(turned, (uint8_t *)head.buf.host + row, rest);
    memcpy(turned + rest, head.buf.host, row);
    head.buf.host = turned;
    m.gemma.head = head;
    run(&m, ids, false, out, 1, untied, NULL);
    assert_memory_equal(untied, tied + 1, (size_t)(vocab - 1) * 4);
    assert_memory_equal(untied + vocab - 1, tied, 4);
    m.gemma.head = (ct_weight){0};
    free(turned);
    free(tied);
    free(untied);
    unload_model(&m);
}

static void a_model_knows_its_size(void **state)
{
    (void)state;
    ct_error err;
    ct_tensors *t;
    expect_ok(ct_gguf_open(&t, TINY, &err), &err);
    uint64_t elements = 0;
    for (size_t i = 0; i < ct_tensors_count(t); i++)
        elements += ct_tensors_at(t, i)->n_elems;
    for (int32_t b = 0; b < N_HOST_BACKENDS; b++) {
        loaded m;
        load_tiny(&m, backends[b], 2);
        assert_int_equal(m.gemma.parameters, elements);
        assert_int_equal(m.gemma.decode_bytes, m.gemma.weight_bytes); /* tied: every byte is read for a token */
        assert_true(m.gemma.weight_bytes > elements / 2 && m.gemma.weight_bytes < elements * 5);
        unload_model(&m);
        ct_gemma_free(&m.gemma); /* twice, and of nothing: fine */
    }
    ct_pool *pool;
    bool needs;
    ct_gemma m;
    expect_ok(ct_pool_create(&pool, 1, &err), &err);
    expect_fail(ct_gemma_load(&m, t, ct_backend_get("ref"), "avx9000", pool, &needs, &err), CT_EUNSUPPORTED, &err,
                "avx9000");
    ct_pool_free(pool);
    ct_tensors_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_equals_its_spelling), cmocka_unit_test(watch_sees_every_layer),
        cmocka_unit_test(softcap_bends_the_logits),  cmocka_unit_test(head_may_be_untied),
        cmocka_unit_test(a_model_knows_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
