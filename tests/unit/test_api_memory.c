/* What an inspection says a model and a session will take is what they then reserve, byte for byte, for every type of cache: the
 * sums are the engine's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "carat.h"
#include "carat_jobs.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

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
        cmocka_unit_test(grows_with_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
