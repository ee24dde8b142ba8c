/* llama.cpp's mixtures: the names, the rules by layer, the types of rows that are no whole blocks, and tensor by tensor those of a
 * synthetic model, which has what llama.cpp's own quantizer makes of the default model (scripts/check_convert.sh compares more). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "convert/mixture.h"
#include "formats/tensors.h"

static const ct_mixture_model m270 = {.layers = 18, .heads = 4, .kv_heads = 1, .tied = true};
static const ct_mixture_model m12b = {.layers = 48, .heads = 16, .kv_heads = 8, .tied = true};

static const char *type_of(const char *mixture, const ct_mixture_model *m, const char *name, int32_t layer, size_t row)
{
    const ct_mixture *x = ct_mixture_find(mixture);
    assert_non_null(x);
    return ct_mixture_type(x, m, name, layer, row)->name;
}

static void knows_names(void **state)
{
    (void)state;
    assert_string_equal(ct_mixture_find("Q4_K_M")->name, "q4_k_m");
    assert_string_equal(ct_mixture_find("q5_k")->name, "q5_k_m");
    assert_string_equal(ct_mixture_find("BF16")->name, "bf16");
    assert_null(ct_mixture_find("q4_k_x"));
    assert_null(ct_mixture_find(""));
    assert_null(ct_mixture_find("a name that is longer than any"));
    for (size_t i = 0; ct_mixture_at(i); i++) {
        assert_ptr_equal(ct_mixture_find(ct_mixture_at(i)->name), ct_mixture_at(i));
        assert_non_null(ct_dtype_get((int32_t)ct_mixture_at(i)->base));
    }
}

static void has_the_types_of_a_file(void **state)
{
    (void)state;
    static const char *const sizes[] = {"270m", "1b", "4b", "12b", "27b"};
    static const ct_mixture_model models[] = {{18, 4, 1, true, false},
                                              {26, 4, 1, true, false},
                                              {34, 8, 4, true, false},
                                              {48, 16, 8, true, false},
                                              {62, 32, 16, true, false}};
    for (size_t s = 0; s < 5; s++) {
        ct_tensors *t;
        char spec[32];
        snprintf(spec, sizeof spec, "%s:q4_k_m", sizes[s]);
        assert_int_equal(ct_synthetic_open(&t, spec, NULL), CT_OK);
        for (size_t i = 0; i < ct_tensors_count(t); i++) {
            const ct_tensor *x = ct_tensors_at(t, i);
            char name[64] = "";
            int layer = 0;
            if (x->n_dims < 2)
                continue;
            if (sscanf(x->name.data, "blk.%d.%63[a-z_]", &layer, name) != 2)
                assert_int_equal(sscanf(x->name.data, "%63[a-z_]", name), 1);
            assert_string_equal(type_of("q4_k_m", &models[s], name, layer, x->ne[0]), x->dtype->name);
        }
        ct_tensors_close(t);
    }
}

static void follows_the_rules(void **state)
{
    (void)state;
    static const bool more18[18] = {1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1};
    for (int32_t i = 0; i < 18; i++)
        assert_string_equal(type_of("q5_k_m", &m270, "ffn_down", i, 2048), more18[i] ? "q6_k" : "q5_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "attn_v", 1, 3840), "q5_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "attn_v", 2, 3840), "q4_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "ffn_down", 2, 15360), "q5_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "ffn_down", 3, 15360), "q4_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "attn_output", 3, 4096), "q4_k");
    assert_string_equal(type_of("q3_k_m", &m12b, "attn_q", 3, 3840), "q3_k");
    assert_string_equal(type_of("q2_k", &m12b, "attn_v", 0, 3840), "q3_k");
    assert_string_equal(type_of("q2_k", &m270, "attn_v", 0, 1024), "q4_k");
    assert_string_equal(type_of("iq4_xs", &m12b, "ffn_down", 5, 15360), "q5_k");
    assert_string_equal(type_of("iq4_xs", &m12b, "ffn_down", 6, 15360), "iq4_xs");
    ct_mixture_model important = m12b;
    important.importance = true;
    assert_string_equal(type_of("iq4_xs", &important, "ffn_down", 5, 15360), "iq4_xs");
    assert_string_equal(type_of("q4_0", &important, "ffn_down", 5, 15360), "q4_1");
    assert_string_equal(type_of("q4_0", &important, "ffn_down", 6, 15360), "q4_0");
    assert_string_equal(type_of("q4_0", &m12b, "ffn_down", 5, 15360), "q4_0");
}

static void falls_back(void **state)
{
    (void)state;
    static const char *const falls[][2] = {{"q2_k", "q4_0"},   {"q3_k_s", "q4_0"}, {"q4_k_s", "q5_0"},
                                           {"q5_k_s", "q5_1"}, {"q6_k", "q8_0"},   {"iq4_xs", "iq4_nl"},
                                           {"q4_0", "q4_0"}};
    for (size_t i = 0; i < sizeof falls / sizeof falls[0]; i++) {
        assert_string_equal(type_of(falls[i][0], &m270, "attn_q", 9, 640), falls[i][1]);
        assert_string_equal(type_of(falls[i][0], &m270, "attn_q", 9, 1000), "f16");
    }
    assert_string_equal(type_of("q4_0", &m270, "token_embd", 0, 640), "q8_0");
    assert_string_equal(type_of("q4_0", &m12b, "token_embd", 0, 3840), "q6_k");
    assert_string_equal(type_of("q8_0", &m12b, "token_embd", 0, 3840), "q8_0");
    assert_string_equal(type_of("bf16", &m270, "token_embd", 0, 640), "bf16");
    ct_mixture_model untied = m12b;
    untied.tied = false;
    assert_string_equal(type_of("q4_k_m", &untied, "token_embd", 0, 3840), "q4_k");
    assert_string_equal(type_of("q4_k_m", &untied, "output", 0, 3840), "q6_k");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(knows_names), cmocka_unit_test(has_the_types_of_a_file),
                                       cmocka_unit_test(follows_the_rules), cmocka_unit_test(falls_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
