/* The public API as a careless caller uses it: NULL everywhere, options of another size, things in the wrong order. Each call
 * returns a status and a sentence; none takes the process down. And as a careful one does: text, sessions, prefix reuse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "carat.h"
#include "carat_jobs.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

static carat_model *open_tiny(int32_t threads)
{
    carat_model *m = NULL;
    carat_error err;
    carat_model_options o = carat_model_options_default();
    o.threads = threads;
    if (carat_model_open(&m, TINY, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    return m;
}

static void expect(carat_status got, carat_status want, const carat_error *err)
{
    assert_int_equal(got, want);
    if (want != CARAT_OK) {
        assert_int_equal(err->code, want);
        assert_true(strlen(err->text) > 10);
    }
}

static void test_null(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = (carat_model *)(void *)&e;
    carat_session *s = NULL;
    size_t n = 0;
    const float *logits = NULL;
    carat_token t = 0;
    carat_sampling how = carat_sampling_default(NULL);
    carat_model_close(NULL);
    carat_session_free(NULL);
    carat_session_reset(NULL);
    carat_inspection_free(NULL);
    carat_bench_text_deinit(NULL);
    assert_int_equal(carat_session_length(NULL), 0);
    assert_int_equal(carat_session_ids(NULL, NULL, 0), 0);
    assert_int_equal(carat_session_context(NULL), 0);
    assert_int_equal(carat_session_bytes(NULL), 0);
    assert_int_equal(carat_session_text(NULL, 1, NULL, 0), 0);
    assert_false(carat_is_end(NULL, 1));
    assert_int_equal(carat_bos(NULL), -1);
    carat_model_get_info(NULL, NULL);
    expect(carat_model_open(NULL, "x", NULL, &e), CARAT_EINVAL, &e);
    expect(carat_model_open(&m, NULL, NULL, &e), CARAT_EINVAL, &e);
    assert_null(m);
    expect(carat_model_open(&m, "", NULL, &e), CARAT_EINVAL, &e);
    expect(carat_model_open(&m, "no/such/file.gguf", NULL, &e), CARAT_ENOTFOUND, &e);
    assert_int_equal(carat_model_open(&m, "no/such/file.gguf", NULL, NULL), CARAT_ENOTFOUND);
    expect(carat_model_open(&m, CARAT_SOURCE_DIR, NULL, &e), CARAT_ENOTFOUND, &e);
    expect(carat_session_create(&s, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_session_prompt(NULL, "x", 1, CARAT_RAW, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_session_feed(NULL, &t, 1, &e), CARAT_EINVAL, &e);
    expect(carat_session_sync(NULL, &t, 1, &e), CARAT_EINVAL, &e);
    expect(carat_session_next(NULL, &how, &t, &e), CARAT_EINVAL, &e);
    expect(carat_session_logits(NULL, &logits, &e), CARAT_EINVAL, &e);
    expect(carat_tokenize(NULL, "x", 1, true, false, NULL, 0, &n, &e), CARAT_EINVAL, &e);
    expect(carat_detokenize(NULL, &t, 1, false, NULL, 0, &n, &e), CARAT_EINVAL, &e);
    expect(carat_logits(NULL, &t, 1, NULL, NULL, 0, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_score(NULL, &t, 1, 1, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_eval_perplexity(NULL, "x", 1, NULL, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_eval_kl(NULL, NULL, "x", 1, NULL, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_machine_measure(NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_bench_run(NULL, NULL, NULL, NULL, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_bench_prompt(NULL, NULL, 0, 0, 1, 1, NULL, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_inspect(NULL, "x", &e), CARAT_EINVAL, &e);
    expect(carat_check("cpu", -1, 1, true, NULL, NULL, &e), CARAT_EINVAL, &e);
    assert_true(carat_median(NULL, 3) == 0);
}

static void test_options(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = NULL;
    carat_session *s = NULL;
    carat_token t = 0;
    carat_model_options mo = carat_model_options_default();
    mo.size = 3;
    expect(carat_model_open(&m, TINY, &mo, &e), CARAT_EINVAL, &e);
    mo = carat_model_options_default();
    mo.backend = "abacus";
    expect(carat_model_open(&m, TINY, &mo, &e), CARAT_ENOTFOUND, &e);
    mo = carat_model_options_default();
    mo.threads = -1;
    expect(carat_model_open(&m, TINY, &mo, &e), CARAT_EINVAL, &e);
    m = open_tiny(1);
    carat_session_options so = carat_session_options_default();
    so.kv = "int3";
    expect(carat_session_create(&s, m, &so, &e), CARAT_EINVAL, &e);
    so = carat_session_options_default();
    so.context = -1;
    expect(carat_session_create(&s, m, &so, &e), CARAT_EINVAL, &e);
    so.size = 0;
    expect(carat_session_create(&s, m, &so, &e), CARAT_EINVAL, &e);
    assert_null(s);
    so = carat_session_options_default();
    so.context = 16;
    expect(carat_session_create(&s, m, &so, &e), CARAT_OK, &e);
    carat_sampling how = carat_sampling_default(m);
    const float *logits = NULL;
    expect(carat_session_next(s, &how, &t, &e), CARAT_EINVAL, &e); /* nothing fed */
    expect(carat_session_logits(s, &logits, &e), CARAT_EINVAL, &e);
    expect(carat_session_prompt(s, "", 0, CARAT_RAW, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_session_prompt(s, "x", 1, (carat_prompt_form)9, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_session_prompt(s, "x", 1, CARAT_RAW, "system", &e), CARAT_EINVAL, &e);
    expect(carat_session_feed(s, &t, 0, &e), CARAT_EINVAL, &e);
    t = 1 << 30;
    expect(carat_session_feed(s, &t, 1, &e), CARAT_EINVAL, &e);
    char many[200];
    memset(many, '!', sizeof many);
    expect(carat_session_prompt(s, many, sizeof many, CARAT_RAW, NULL, &e), CARAT_ECONTEXT, &e);
    assert_non_null(strstr(e.text, "16"));
    assert_int_equal(carat_session_length(s), 0);
    expect(carat_session_prompt(s, "Hi", 2, CARAT_RAW, NULL, &e), CARAT_OK, &e); /* still usable */
    how.temperature = -1;
    expect(carat_session_next(s, &how, &t, &e), CARAT_EINVAL, &e);
    how.temperature = NAN;
    expect(carat_session_next(s, &how, &t, &e), CARAT_EINVAL, &e);
    how = carat_sampling_default(m);
    carat_status st = CARAT_OK;
    int32_t made = 0, before = carat_session_length(s);
    while ((st = carat_session_next(s, &how, &t, &e)) == CARAT_OK)
        made++;
    expect(st, CARAT_ECONTEXT, &e);
    assert_int_equal(made, 16 - before + 1); /* the last one is never fed */
    carat_session_free(s);
    carat_model_close(m);
}

static void test_vocab_only(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = NULL;
    carat_session *s = NULL;
    carat_token ids[8] = {0};
    carat_model_info info;
    size_t n = 0;
    char text[16];
    carat_model_options o = carat_model_options_default();
    o.vocab_only = true;
    expect(carat_model_open(&m, TINY, &o, &e), CARAT_OK, &e);
    carat_model_get_info(m, &info);
    assert_true(info.has_text);
    assert_int_equal(info.weight_bytes, 0);
    expect(carat_session_create(&s, m, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_logits(m, ids, 1, NULL, NULL, 0, NULL, &e), CARAT_EINVAL, &e);
    expect(carat_tokenize(m, "Hello there, you", SIZE_MAX, true, false, ids, 2, &n, &e), CARAT_OK, &e);
    assert_true(n > 2); /* counts all, writes two */
    assert_int_equal(ids[0], carat_bos(m));
    assert_int_equal(ids[2], 0);
    expect(carat_tokenize(m, NULL, 0, false, false, NULL, 0, &n, &e), CARAT_OK, &e);
    assert_int_equal(n, 0);
    expect(carat_tokenize(m, "Hey", 3, false, false, ids, 8, &n, &e), CARAT_OK, &e);
    size_t len = 0;
    expect(carat_detokenize(m, ids, n, false, text, 2, &len, &e), CARAT_OK, &e);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "He", 2);
    ids[0] = -1;
    expect(carat_detokenize(m, ids, n, false, text, sizeof text, &len, &e), CARAT_EINVAL, &e);
    carat_model_close(m);
}

/* A session that was synchronised gives the logits of one that was fed anew, whatever it held before. */
static void test_sync(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = open_tiny(2);
    carat_session *a = NULL, *b = NULL;
    carat_sampling how = carat_sampling_default(m);
    const float *la = NULL, *lb = NULL;
    carat_model_info info;
    carat_token t = 0;
    static const carat_token ids[] = {2, 300, 301, 302, 303, 304, 305, 306};
    static const size_t lengths[] = {3, 5, 5, 2, 8, 7};
    carat_model_get_info(m, &info);
    expect(carat_session_create(&a, m, NULL, &e), CARAT_OK, &e);
    expect(carat_session_create(&b, m, NULL, &e), CARAT_OK, &e);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        expect(carat_session_sync(a, ids, lengths[i], &e), CARAT_OK, &e);
        carat_session_reset(b);
        expect(carat_session_feed(b, ids, lengths[i], &e), CARAT_OK, &e);
        expect(carat_session_logits(a, &la, &e), CARAT_OK, &e);
        expect(carat_session_logits(b, &lb, &e), CARAT_OK, &e);
        assert_int_equal(carat_session_length(a), (int32_t)lengths[i]);
        assert_memory_equal(la, lb, (size_t)info.vocab * sizeof *la);
        if (i % 2)
            expect(carat_session_next(a, &how, &t, &e), CARAT_OK, &e); /* a token not fed yet must not count */
    }
    carat_session_free(a);
    carat_session_free(b);
    carat_model_close(m);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void test_interrupt(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = open_tiny(1);
    carat_session *s = NULL;
    carat_session_options o = carat_session_options_default();
    carat_job job = {.keep_going = never};
    carat_perplexity p;
    size_t n = 0;
    o.keep_going = never;
    expect(carat_session_create(&s, m, &o, &e), CARAT_OK, &e);
    expect(carat_session_prompt(s, "Hi", SIZE_MAX, CARAT_AUTO, NULL, &e), CARAT_EINTERRUPTED, &e);
    carat_eval_options eo = carat_eval_options_default();
    eo.context = 64;
    const char *text = carat_bench_quality_text(&n);
    expect(carat_eval_perplexity(m, text, n, &eo, &job, &p, &e), CARAT_EINTERRUPTED, &e);
    carat_session_free(s);
    carat_model_close(m);
}

/* Decoding allocates nothing. */
static void test_no_allocation(void **state)
{
    (void)state;
    carat_error e;
    carat_model *m = open_tiny(2);
    carat_session *s = NULL;
    carat_model_info info;
    carat_token t = 0;
    carat_sampling how = carat_sampling_default(m);
    carat_model_get_info(m, &info);
    char *text = malloc(info.text_max);
    expect(carat_session_create(&s, m, NULL, &e), CARAT_OK, &e);
    expect(carat_session_prompt(s, "Once upon a time", SIZE_MAX, CARAT_RAW, NULL, &e), CARAT_OK, &e);
    expect(carat_session_next(s, &how, &t, &e), CARAT_OK, &e);
    size_t before = ct_mem_calls();
    for (int i = 0; i < 200; i++) {
        expect(carat_session_next(s, &how, &t, &e), CARAT_OK, &e);
        carat_session_text(s, t, text, info.text_max);
    }
    assert_int_equal(ct_mem_calls(), before);
    free(text);
    carat_session_free(s);
    carat_model_close(m);
}

/* Every allocation fails once: each time a status, nothing leaks (the sanitizer's build sees), nothing crashes. */
static void test_failing_memory(void **state)
{
    (void)state;
    carat_error e;
    int32_t failures = 0;
    for (size_t n = 1; n < 2000; n++) {
        carat_model *m = NULL;
        carat_session *s = NULL;
        ct_mem_fail_at(n);
        carat_model_options o = carat_model_options_default();
        o.threads = 1;
        carat_status st = carat_model_open(&m, TINY, &o, &e);
        if (st == CARAT_OK)
            st = carat_session_create(&s, m, NULL, &e);
        if (st == CARAT_OK)
            st = carat_session_prompt(s, "Hello there", SIZE_MAX, CARAT_RAW, NULL, &e);
        ct_mem_fail_at(0);
        carat_session_free(s);
        carat_model_close(m);
        if (st == CARAT_OK)
            break;
        failures++;
        if (st != CARAT_ENOMEM)
            fail_msg("allocation %zu: expected ENOMEM, found %d: %s", n, st, e.text);
    }
    assert_true(failures > 5);
}

static void test_inspect(void **state)
{
    (void)state;
    carat_error e;
    carat_inspection *i = NULL;
    carat_memory a, b;
    carat_tensor_info t;
    const char *key = NULL, *value = NULL;
    expect(carat_inspect(&i, TINY, &e), CARAT_OK, &e);
    assert_null(carat_inspection_verdict(i));
    assert_true(carat_inspection_tensors(i) > 10);
    carat_inspection_tensor(i, 0, &t);
    assert_true(t.name[0] && t.bytes > 0 && t.n_dims > 0);
    carat_inspection_tensor(i, 100000, &t);
    assert_string_equal(t.name, "");
    for (size_t k = 0; k < carat_inspection_keys(i) + 1; k++)
        carat_inspection_key(i, k, &key, &value);
    assert_string_equal(key, "");
    expect(carat_inspection_memory(i, 512, NULL, &a, &e), CARAT_OK, &e);
    expect(carat_inspection_memory(i, 2048, "f32", &b, &e), CARAT_OK, &e);
    assert_true(b.cache_global > a.cache_global);
    assert_int_equal(a.total, a.weights + a.cache_local + a.cache_global + a.activations);
    expect(carat_inspection_memory(i, 512, "x", &a, &e), CARAT_EINVAL, &e);
    carat_inspection_free(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_null),    cmocka_unit_test(test_options),        cmocka_unit_test(test_vocab_only),
        cmocka_unit_test(test_sync),    cmocka_unit_test(test_interrupt),      cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_inspect), cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
