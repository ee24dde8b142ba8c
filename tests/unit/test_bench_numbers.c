/* Medians, loops, and quality on the tiny model: figures that can be known by other means. */
#include "model_fixture.h"

#include <math.h>

#include "bench/bench.h"

static void test_record(void **state)
{
    (void)state;
    const double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2}, same[] = {2, 2, 2, 2};
    assert_true(ct_median(odd, 3) == 3);
    assert_true(ct_median(even, 4) == 2.5);
    assert_true(ct_median(same, 4) == 2);
    assert_true(ct_median(odd, 0) == 0);
    assert_true(ct_median(odd, 1) == 5);
    assert_true(ct_quantile(even, 4, 0.99) == 4);
    assert_true(ct_quantile(even, 4, 0) == 1);
    assert_true(ct_quantile(even, 4, 0.5) == 2);
    assert_true(ct_spread(same, 4) == 0 && ct_spread(odd, 1) == 0);
    assert_true(fabs(ct_spread(odd, 3) - 2) < 1e-12);
}

/* n ids that never repeat, then `cover` ids of period p. */
static size_t make(int32_t *ids, size_t n, size_t p, size_t cover)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(1000 + i);
    for (size_t i = 0; i < cover; i++)
        ids[n + i] = (int32_t)(i % p);
    return n + cover;
}

static void test_loops(void **state)
{
    (void)state;
    static int32_t ids[2000];
    int32_t period = -1, start = -1;
    assert_false(ct_find_loop(ids, 0, &period, &start));
    assert_true(ct_find_loop(ids, make(ids, 50, 1, 30), &period, &start)); /* one token, thirty times */
    assert_int_equal(period, 1);
    assert_int_equal(start, 50);
    assert_false(ct_find_loop(ids, make(ids, 50, 1, 29), &period, &start));
    assert_true(ct_find_loop(ids, make(ids, 10, 12, 36), &period, &start)); /* three times */
    assert_int_equal(period, 12);
    assert_int_equal(start, 10);
    assert_false(ct_find_loop(ids, make(ids, 10, 12, 35), &period, &start));
    assert_true(ct_find_loop(ids, make(ids, 10, 12, 41), &period, &start)); /* the last one cut */
    assert_true(ct_find_loop(ids, make(ids, 0, 100, 300), &period, &start));
    assert_int_equal(period, 100);
    assert_false(ct_find_loop(ids, make(ids, 0, 101, 404), &period, &start)); /* longer than the rule looks */
    size_t n = make(ids, 10, 5, 60);
    ids[n++] = 7777; /* a loop that the text left again */
    assert_false(ct_find_loop(ids, n, &period, &start));
    n = make(ids, 10, 5, 60);
    ids[n - 20] = 7777; /* an item that differs, close to the end */
    assert_false(ct_find_loop(ids, n, &period, &start));
    assert_true(ct_find_loop(ids, make(ids, 3, 4, 40), NULL, NULL));
}

static void test_kv_types(void **state)
{
    (void)state;
    int32_t k = 0, v = 0;
    ct_error err = {0};
    assert_int_equal(ct_kv_types(NULL, &k, &v, &err), CT_OK);
    assert_true(k == -1 && v == -1);
    assert_int_equal(ct_kv_types("f16", &k, &v, &err), CT_OK);
    assert_true(k == CT_F16 && v == CT_F16);
    assert_int_equal(ct_kv_types("f32,bf16", &k, &v, &err), CT_OK);
    assert_true(k == CT_F32 && v == CT_BF16);
    static const char *const wrong[] = {"", "f", "f322", "f32,", ",f32", "f32,bf16,f16", "F32"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_fail(ct_kv_types(wrong[i], &k, &v, &err), CT_EINVAL, &err, "bf16");
}

/* The nll of ct_score is the sum over the log-softmax of each prefix, computed here the plain way. */
static void test_score(void **state)
{
    (void)state;
    ct_error err = {0};
    loaded l;
    load_tiny(&l, "ref", 1);
    ct_subject who = {&l.gemma, NULL, l.pool};
    static const int32_t ids[] = {2, 300, 17, 450, 300, 9, 77};
    const size_t n = sizeof ids / sizeof ids[0];
    double sum = 0, mean = 0, nll = 0, least = 0;
    size_t weakest = 0, plain_weakest = 0;
    ct_top top[3];
    for (size_t i = 1; i < n; i++) {
        ct_session *s = NULL;
        ct_session_options o = {.context = 16, .type_k = -1, .type_v = -1, .exact = true};
        expect_ok(ct_session_create(&s, &l.gemma, l.pool, &o, &err), &err);
        expect_ok(ct_session_feed(s, ids, i, false, NULL, NULL, NULL, &err), &err);
        const float *logits = ct_session_logits(s);
        double surprise = ct_logsumexp(logits, l.gemma.cfg.vocab) - (double)logits[ids[i]];
        if (i >= 3)
            sum += surprise;
        if (i >= 3 && surprise > least) {
            least = surprise;
            plain_weakest = i;
        }
        ct_session_free(s);
    }
    expect_ok(ct_score(&who, ids, n, 3, true, -1, -1, NULL, &mean, &weakest, &nll, top, 3, &err), &err);
    assert_true(fabs(nll - sum) < 1e-4);
    assert_true(fabs(mean + sum / 4) < 1e-4);
    assert_int_equal(weakest, plain_weakest);
    assert_true(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
    const int32_t wrong[] = {2, -1};
    expect_fail(ct_score(&who, wrong, 2, 1, true, -1, -1, NULL, &mean, NULL, NULL, NULL, 0, &err), CT_EINVAL, &err,
                "vocabulary");
    expect_fail(ct_score(&who, ids, 0, 1, true, -1, -1, NULL, &mean, NULL, NULL, NULL, 0, &err), CT_EINVAL, &err,
                "ids");
    unload_model(&l);
}

/* Perplexity by the protocol, against scores of the chunks by hand; the same for any number of threads. */
static void test_perplexity(void **state)
{
    (void)state;
    enum { C = 64, CHUNKS = 2 };
    ct_error err = {0};
    size_t n = 0;
    const char *text = ct_quality_text(&n);
    double first_ppl = 0;
    for (int32_t threads = 1; threads <= 3; threads += 2) {
        loaded l;
        ct_vocab *vocab = NULL;
        ct_ids ids = {0};
        ct_perplexity p;
        load_tiny(&l, "cpu", threads);
        ct_tensors *t = NULL; /* the loaded model has let go of its own */
        expect_ok(ct_gguf_open(&t, TINY, &err), &err);
        expect_ok(ct_vocab_create(&vocab, t, &err), &err);
        ct_tensors_close(t);
        ct_subject who = {&l.gemma, vocab, l.pool};
        ct_eval_options o = {.context = C, .chunks = CHUNKS, .type_k = -1, .type_v = -1, .exact = true};
        expect_ok(ct_eval_perplexity(&who, text, n, &o, NULL, &p, &err), &err);
        assert_int_equal(p.tokens, CHUNKS * (C / 2 - 1));
        expect_ok(ct_tokenize(vocab, text, n, true, false, &ids, &err), &err);
        double sum = 0;
        for (int32_t c = 0; c < CHUNKS; c++) {
            double nll = 0;
            ids.ids[c * C] = ct_vocab_bos(vocab);
            expect_ok(
                ct_score(&who, ids.ids + c * C, C, C / 2 + 1, true, -1, -1, NULL, NULL, NULL, &nll, NULL, 0, &err),
                &err);
            sum += nll;
        }
        assert_true(fabs(p.ppl / exp(sum / (double)p.tokens) - 1) < 1e-6);
        assert_true(first_ppl == 0 || first_ppl == p.ppl);
        first_ppl = p.ppl;
        ct_kl kl;
        expect_ok(ct_eval_kl(&who, &who, text, n, &o, NULL, &kl, &err), &err);
        assert_true(kl.kl_mean == 0 && kl.top1_agree == 1 && fabs(kl.ppl / p.ppl - 1) < 1e-9);
        o.decode_path = true;
        expect_ok(ct_eval_kl(&who, &who, text, n, &o, NULL, &kl, &err), &err);
        assert_true(kl.kl_mean >= 0 && kl.kl_mean < 1e-2 && kl.kl_p99 >= kl.kl_mean);
        expect_fail(ct_eval_perplexity(&who, text, 20, &o, NULL, &p, &err), CT_EINVAL, &err, "two chunks");
        ct_ids_deinit(&ids);
        ct_vocab_free(vocab);
        unload_model(&l);
    }
}

/* The shipped text fills what the main job needs on a model of the real vocabulary; here only that it is plain. */
static void test_quality_text(void **state)
{
    (void)state;
    size_t n = 0, words = 0;
    const char *text = ct_quality_text(&n);
    assert_int_equal(strlen(text), n);
    for (size_t i = 0; i < n; i++) {
        assert_true((unsigned char)text[i] < 0x80);
        words += text[i] == ' ';
    }
    assert_true(words > 1000); /* a token is at most a word of plain English: two chunks of 512 */
}

static void test_fixed(void **state)
{
    (void)state;
    ct_error err = {0};
    loaded l;
    double samples[3], share[3];
    load_tiny(&l, "cpu", 2);
    ct_subject who = {&l.gemma, NULL, l.pool};
    ct_bench_case t = {.prompt = 70, .depth = 20, .batch = 3, .repeats = 3, .type_k = -1, .type_v = -1};
    expect_ok(ct_bench_run(&who, 1e9, 1e12, &t, NULL, samples, share, &err), &err);
    for (size_t i = 0; i < 3; i++)
        assert_true(samples[i] > 0 && share[i] > 0);
    t = (ct_bench_case){.generate = 5, .depth = 600, .batch = 2, .repeats = 3, .type_k = -1, .type_v = -1};
    expect_ok(ct_bench_run(&who, 0, 0, &t, NULL, samples, share, &err), &err);
    assert_true(samples[2] > 0 && share[2] == 0);
    t.prompt = 5;
    expect_fail(ct_bench_run(&who, 0, 0, &t, NULL, samples, share, &err), CT_EINVAL, &err, "bench");
    t = (ct_bench_case){.generate = 5, .batch = 0, .repeats = 3};
    expect_fail(ct_bench_run(&who, 0, 0, &t, NULL, samples, share, &err), CT_EINVAL, &err, "bench");
    assert_true(ct_decode_bytes_at(&l.gemma, -1, -1, 100) > (double)l.gemma.decode_bytes);
    assert_true(ct_decode_bytes_at(&l.gemma, CT_F32, CT_F32, 100) > ct_decode_bytes_at(&l.gemma, CT_F16, CT_F16, 100));
    assert_true(ct_prompt_ops(&l.gemma, 20, 0) > ct_prompt_ops(&l.gemma, 10, 0));
    ct_bench_text text;
    ct_sampling how = {.top_p = 1, .repeat_penalty = 1};
    expect_fail(ct_bench_prompt(&who, 0, 0, 0, 10, 1, &how, NULL, &text, &err), CT_EINVAL, &err, "tokenizer");
    unload_model(&l);
}

static void test_bandwidth(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_pool *pool = NULL;
    expect_ok(ct_pool_create(&pool, 2, &err), &err);
    double rate = ct_read_bandwidth(pool, 0.05);
    ct_pool_free(pool);
    assert_true(rate > 1e8 && rate < 1e13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record), cmocka_unit_test(test_loops),      cmocka_unit_test(test_kv_types),
        cmocka_unit_test(test_score),  cmocka_unit_test(test_perplexity), cmocka_unit_test(test_quality_text),
        cmocka_unit_test(test_fixed),  cmocka_unit_test(test_bandwidth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
