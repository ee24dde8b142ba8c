/* What an inspection shows of a file that carat would not run, with metadata of every type; and the small figures of the jobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "carat.h"
#include "carat_jobs.h"
#include "gguf_write.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

static const char *value_of(carat_inspection *i, const char *want)
{
    const char *key, *value;
    for (size_t n = 0; n < carat_inspection_keys(i); n++) {
        carat_inspection_key(i, n, &key, &value);
        if (strcmp(key, want) == 0)
            return value;
    }
    return "not there";
}

static void every_type_of_value(void **state)
{
    (void)state;
    static const uint16_t words[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const char *const texts[] = {"one", "a text that is longer than what is shown of an element"};
    char path[64], long_text[300];
    carat_inspection *i = NULL;
    carat_memory need;
    carat_error err;
    gguf_writer w;
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    snprintf(path, sizeof path, "/tmp/carat-inspect-%ld", (long)getpid());
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "general.architecture", "llama");
    gguf_kv_u8(&w, "u8", 200);
    gguf_kv_i8(&w, "i8", -7);
    gguf_kv_u16(&w, "u16", 60000);
    gguf_kv_i16(&w, "i16", -300);
    gguf_kv_u32(&w, "u32", 4000000000u);
    gguf_kv_i32(&w, "i32", -70000);
    gguf_kv_f32(&w, "f32", 0.25f);
    gguf_kv_bool(&w, "yes", 1);
    gguf_kv_bool(&w, "no", 0);
    gguf_kv_u64(&w, "u64", UINT64_MAX);
    gguf_kv_i64(&w, "i64", INT64_MIN);
    gguf_kv_f64(&w, "f64", 1e-300);
    gguf_kv_array(&w, "words", GGUF_U16, 9, words, sizeof words);
    gguf_kv_strings(&w, "texts", 2, texts);
    gguf_kv_string(&w, "long", long_text);
    gguf_end(&w);
    assert_int_equal(gguf_save(&w, path), 0);
    gguf_free(&w);
    if (carat_inspect(&i, path, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    static const char *const want[][2] = {{"u8", "200"},
                                          {"i8", "-7"},
                                          {"u16", "60000"},
                                          {"i16", "-300"},
                                          {"u32", "4000000000"},
                                          {"i32", "-70000"},
                                          {"f32", "0.25"},
                                          {"yes", "true"},
                                          {"no", "false"},
                                          {"u64", "18446744073709551615"},
                                          {"i64", "-9223372036854775808"},
                                          {"words", "9 of [1, 2, 3, 4, 5, 6, ...]"}};
    for (size_t n = 0; n < sizeof want / sizeof want[0]; n++)
        assert_string_equal(value_of(i, want[n][0]), want[n][1]);
    assert_true(strtod(value_of(i, "f64"), NULL) == 1e-300);
    assert_non_null(strstr(value_of(i, "texts"), "2 of [one, a text"));
    assert_non_null(strstr(value_of(i, "texts"), "..."));
    assert_true(strlen(value_of(i, "long")) < 200);
    assert_non_null(strstr(carat_inspection_verdict(i), "llama"));
    assert_int_equal(carat_inspection_info(i)->layers, 0);
    assert_null(carat_inspection_info(NULL));
    assert_null(carat_inspection_verdict(NULL));
    assert_int_equal(carat_inspection_memory(i, 0, NULL, &need, &err), CARAT_EUNSUPPORTED); /* as the verdict has it */
    assert_non_null(strstr(err.text, "llama"));
    carat_inspection_free(i);
    unlink(path);
    assert_int_equal(carat_inspect(&i, path, &err), CARAT_ENOTFOUND);
}

static void small_figures(void **state)
{
    (void)state;
    static const double samples[] = {3, 1, 2, 10};
    carat_model *m = NULL;
    carat_machine machine;
    carat_error err;
    carat_top top[2];
    carat_bench_text text;
    double nll = 0;
    carat_token ids[3] = {2, 30, 31};
    carat_model_options o = carat_model_options_default();
    carat_session_options so = carat_session_options_default();
    o.threads = 1;
    assert_true(carat_median(samples, 4) == 2.5 && carat_median(samples, 3) == 2);
    assert_true(carat_spread(samples, 4) > 4 && carat_spread(samples, 1) == 0 && carat_spread(NULL, 3) == 0);
    assert_int_equal(carat_bench_prompts(), 3);
    assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_OK);
    assert_int_equal(carat_machine_measure(m, &machine, &err), CARAT_OK);
    assert_true(machine.cpu[0] && machine.cores >= 1 && machine.threads == 1);
    assert_true(machine.memory > 1 << 26 && machine.bandwidth > 1e8);
    so.kv = "q8";
    so.exact = true;
    assert_int_equal(carat_logits(m, ids, 3, &so, top, 2, &nll, &err), CARAT_OK);
    assert_true(top[0].logprob >= top[1].logprob && nll > 0);
    so.kv = "int3";
    assert_int_equal(carat_logits(m, ids, 3, &so, top, 2, &nll, &err), CARAT_EINVAL);
    assert_int_equal(carat_logits(m, ids, 3, NULL, NULL, 0, NULL, &err), CARAT_OK);
    assert_int_equal(carat_bench_prompt(m, NULL, 99, 0, 5, 1, NULL, &text, &err), CARAT_EINVAL);
    assert_null(text.text);
    carat_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type_of_value), cmocka_unit_test(small_figures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
