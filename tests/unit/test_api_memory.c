/* What an inspection says a model and a session will take is what they then reserve, byte for byte, for every type of cache: the
 * sums are the engine's own. And what they reserve is what base/mem.h counts as taken, then and while they work: the sums are
 * right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "carat.h"
#include "carat_jobs.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"
#define TYPES CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny-types.gguf"

static void good(carat_status st, const carat_error *err)
{
    if (st != CARAT_OK)
        fail_msg("%s", err->text);
}

static void as_reserved(void **state)
{
    (void)state;
    static const char *const kv[] = {NULL, "bf16", "f32", "f16,f32", "q8", "q8,q4"};
    static const int32_t contexts[] = {64, 100, 640, 0};
    carat_error err;
    carat_inspection *i;
    carat_model *m;
    carat_model_info info;
    good(carat_inspect(&i, TINY, &err), &err);
    good(carat_model_open(&m, TINY, NULL, &err), &err);
    carat_model_get_info(m, &info);
    int32_t compared = 0;
    for (size_t k = 0; k < sizeof kv / sizeof kv[0]; k++)
        for (size_t c = 0; c < sizeof contexts / sizeof contexts[0]; c++) {
            carat_memory mem;
            carat_session *s = NULL;
            carat_session_options o = carat_session_options_default();
            o.kv = kv[k];
            o.context = contexts[c];
            if (carat_session_create(&s, m, &o, &err) != CARAT_OK)
                continue; /* heads too small for groups of 32 */
            good(carat_inspection_memory(i, contexts[c], kv[k], &mem, &err), &err);
            assert_int_equal(mem.total - mem.weights, carat_session_bytes(s));
            assert_int_equal(mem.total,
                             mem.weights + mem.cache_local + mem.cache_global + mem.snapshots + mem.activations);
            assert_true(mem.weights >= info.weight_bytes);
            assert_true(mem.weights < info.weight_bytes + 64 * carat_inspection_tensors(i)); /* each begins on a line */
            carat_session_free(s);
            compared++;
        }
    assert_true(compared >= 16);
    carat_model_close(m);
    carat_inspection_free(i);
}

/* Within what malloc rounds up and handles of a few hundred bytes. */
static void about(const char *what, size_t taken, size_t said, size_t slack)
{
    if (taken + slack < said || taken > said + slack)
        fail_msg("%s: %zu bytes were said, %zu taken", what, said, taken);
}

/* What a model takes besides its weights: its vocabulary, and the threads' own. */
static size_t besides(const char *path, const carat_model_options *opt)
{
    carat_model_options o = *opt;
    carat_model *m;
    carat_error err;
    size_t before = ct_mem_live();
    o.vocab_only = true;
    good(carat_model_open(&m, path, &o, &err), &err);
    size_t taken = ct_mem_live() - before;
    carat_model_close(m);
    return taken;
}

/* A prompt of several chunks, tokens, and a cut back: more than one kind of step. */
static void work(carat_session *s, const carat_model *m)
{
    carat_token ids[600], token;
    carat_error err;
    carat_sampling how = carat_sampling_default(m);
    size_t n = (size_t)carat_session_context(s) < 600 ? (size_t)carat_session_context(s) - 8 : 600;
    for (size_t i = 0; i < n; i++)
        ids[i] = (carat_token)(i * 37 % 400 + 7);
    good(carat_session_feed(s, ids, n, &err), &err);
    for (int i = 0; i < 4; i++)
        good(carat_session_next(s, &how, &token, &err), &err);
    good(carat_session_sync(s, ids, n / 2, &err), &err);
    good(carat_session_next(s, &how, &token, &err), &err);
}

static void as_taken(void **state)
{
    (void)state;
    static const char *const paths[] = {TINY, TYPES}, *const backends[] = {"cpu", "ref"};
    static const char *const kv[] = {NULL, "f32", "q8,q4"};
    static const int32_t contexts[] = {64, 640, 0};
    carat_error err;
    for (size_t p = 0; p < 2; p++)
        for (size_t b = 0; b < 2; b++) {
            carat_inspection *i;
            carat_model *m;
            carat_memory mem;
            carat_model_info info;
            carat_model_options o = carat_model_options_default();
            o.backend = backends[b];
            good(carat_inspect(&i, paths[p], &err), &err);
            good(carat_inspection_memory(i, 64, NULL, &mem, &err), &err);
            size_t rest = besides(paths[p], &o), before = ct_mem_live();
            good(carat_model_open(&m, paths[p], &o, &err), &err);
            carat_model_get_info(m, &info);
            if (b == 0) /* the oracle reads the file's own pages */
                about("weights", ct_mem_live() - before - rest, mem.weights, 32768 + 4096 * (size_t)info.threads);
            for (size_t k = 0; k < sizeof kv / sizeof kv[0]; k++)
                for (size_t c = 0; c < sizeof contexts / sizeof contexts[0]; c++) {
                    carat_session *s;
                    carat_session_options so = carat_session_options_default();
                    so.kv = kv[k];
                    so.context = contexts[c];
                    before = ct_mem_live();
                    ct_mem_peak_reset();
                    good(carat_session_create(&s, m, &so, &err), &err);
                    about(paths[p], ct_mem_live() - before, carat_session_bytes(s), 4096);
                    if (b == 0) {
                        good(carat_inspection_memory(i, contexts[c], kv[k], &mem, &err), &err);
                        about("inspected", ct_mem_live() - before, mem.total - mem.weights, 4096);
                    }
                    if (b == 0 || contexts[c] == 64)
                        work(s, m);
                    about("at work", ct_mem_peak() - before, carat_session_bytes(s), 4096);
                    carat_session_free(s);
                    assert_int_equal(ct_mem_live(), before);
                }
            carat_model_close(m);
            carat_inspection_free(i);
        }
}

static void grows_with_the_context(void **state)
{
    (void)state;
    carat_error err;
    carat_inspection *i;
    carat_memory small, large, narrow;
    good(carat_inspect(&i, "synthetic:4b:q4_0", &err), &err);
    good(carat_inspection_memory(i, 8192, "bf16", &small, &err), &err);
    good(carat_inspection_memory(i, 32768, "bf16", &large, &err), &err);
    good(carat_inspection_memory(i, 32768, "q8", &narrow, &err), &err);
    assert_int_equal(large.cache_local, small.cache_local); /* a ring does not */
    assert_int_equal(large.cache_global, 4 * small.cache_global);
    assert_true(narrow.cache_global < large.cache_global && narrow.cache_local < large.cache_local);
    assert_int_equal(carat_inspection_memory(i, 1 << 20, NULL, &small, &err), CARAT_EINVAL);
    assert_non_null(strstr(err.text, "trained for"));
    assert_int_equal(carat_inspection_memory(i, 64, "q5", &small, &err), CARAT_EINVAL);
    carat_inspection_free(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_reserved),
        cmocka_unit_test(as_taken),
        cmocka_unit_test(grows_with_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
