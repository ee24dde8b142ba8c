/* Synthetic models: the published shapes and sizes, the mixture of types, bytes that are the same every time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/tensors.h"

static ct_tensors *open_spec(const char *spec)
{
    ct_tensors *t;
    ct_error err = {0};
    if (ct_synthetic_open(&t, spec, &err) != CT_OK)
        fail_msg("%s: %s", spec, err.text);
    return t;
}

static uint32_t number(const ct_tensors *t, const char *key)
{
    uint32_t v = 0;
    assert_int_equal(ct_kv_u32(t, key, &v, NULL), CT_OK);
    return v;
}

static const char *type_of(const ct_tensors *t, const char *name)
{
    const ct_tensor *x = ct_tensors_find(t, name);
    assert_non_null(x);
    return x->dtype->name;
}

static void has_published_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *size;
        uint64_t parameters; /* docs/MODEL.md */
        uint32_t layers, hidden, head_dim, window;
        double factor;
    } sizes[] = {{"270m", 268098176u, 18, 640, 256, 512, 1},
                 {"1b", 999885952u, 26, 1152, 256, 512, 1},
                 {"4b", 3880099328u, 34, 2560, 256, 1024, 8},
                 {"12b", 11765788416u, 48, 3840, 256, 1024, 8},
                 {"27b", 27009002240u, 62, 5376, 128, 1024, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ct_tensors *t = open_spec(sizes[i].size);
        uint64_t elems = 0;
        size_t bytes = 0;
        for (size_t k = 0; k < ct_tensors_count(t); k++) {
            const ct_tensor *x = ct_tensors_at(t, k);
            elems += x->n_elems;
            bytes += x->bytes;
            assert_string_equal(x->dtype->name, x->n_dims == 1 ? "f32" : "bf16");
        }
        assert_true(elems == sizes[i].parameters);
        assert_int_equal(bytes, ct_tensors_file_bytes(t));
        assert_int_equal(ct_tensors_count(t), 2 + 13 * sizes[i].layers);
        assert_int_equal(number(t, "gemma3.block_count"), sizes[i].layers);
        assert_int_equal(number(t, "gemma3.embedding_length"), sizes[i].hidden);
        assert_int_equal(number(t, "gemma3.attention.key_length"), sizes[i].head_dim);
        assert_int_equal(number(t, "gemma3.attention.sliding_window"), sizes[i].window);
        double factor = 1;
        assert_int_equal(ct_kv_f64(t, "gemma3.rope.scaling.factor", &factor, NULL), CT_OK);
        assert_true(factor == sizes[i].factor);
        ct_str arch = {NULL, 0};
        assert_int_equal(ct_kv_string(t, "general.architecture", &arch, NULL), CT_OK);
        assert_true(ct_str_is(arch, "gemma3"));
        assert_null(ct_tensors_kv(t, "tokenizer.ggml.tokens"));
        ct_tensors_close(t);
    }
}

static void mixes_types(void **state)
{
    (void)state;
    ct_tensors *t = open_spec("270m:q4_k_m");
    assert_string_equal(ct_tensors_path(t), "synthetic:270m:q4_k_m");
    assert_string_equal(ct_tensors_format(t), "synthetic");
    assert_int_equal(ct_tensors_file_bytes(t), 246587904); /* as the published file's tensors */
    assert_string_equal(type_of(t, "token_embd.weight"), "q8_0");
    assert_string_equal(type_of(t, "blk.0.attn_v.weight"), "q8_0");
    assert_string_equal(type_of(t, "blk.0.ffn_down.weight"), "q6_k");
    assert_string_equal(type_of(t, "blk.2.attn_v.weight"), "q5_0");
    assert_string_equal(type_of(t, "blk.2.ffn_down.weight"), "q4_k");
    assert_string_equal(type_of(t, "blk.2.attn_q.weight"), "q5_0");
    assert_string_equal(type_of(t, "blk.2.attn_output.weight"), "q4_k");
    assert_string_equal(type_of(t, "blk.2.attn_norm.weight"), "f32");
    static const int more[] = {0, 1, 4, 7, 10, 13, 15, 16, 17, -1};
    for (int layer = 0, k = 0; layer < 18; layer++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", layer);
        assert_string_equal(type_of(t, name), layer == more[k] ? "q6_k" : "q4_k");
        k += layer == more[k];
    }
    ct_tensors_close(t);
    t = open_spec("4b:q4_k_m");
    assert_string_equal(type_of(t, "token_embd.weight"), "q6_k");
    assert_string_equal(type_of(t, "blk.4.attn_v.weight"), "q4_k");
    assert_string_equal(type_of(t, "blk.6.attn_v.weight"), "q6_k");
    ct_tensors_close(t);
    t = open_spec("1b:q4_0");
    assert_string_equal(type_of(t, "token_embd.weight"), "q4_0");
    assert_string_equal(type_of(t, "blk.0.attn_v.weight"), "q4_0");
    ct_tensors_close(t);
}

/* The same bytes again after they were forgotten and in another directory; spread and mean as planned. */
static void makes_bytes_on_demand(void **state)
{
    (void)state;
    static const char *const specs[] = {"270m",        "270m:f16",  "270m:q8_0", "270m:q4_0",
                                        "270m:q4_k_m", "270m:mlx4", "270m:mlx8"};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        ct_tensors *t = open_spec(specs[i]), *u = open_spec(specs[i]);
        const ct_tensor *x = ct_tensors_find(t, "blk.3.ffn_gate.weight"),
                        *y = ct_tensors_find(u, "blk.3.ffn_gate.weight");
        const uint8_t *p = ct_tensor_bytes(t, x), *q = ct_tensor_bytes(u, y);
        assert_true(p && q && p != q);
        assert_ptr_equal(p, ct_tensor_bytes(t, x));
        assert_memory_equal(p, q, x->bytes);
        ct_tensor_forget(t, x);
        ct_tensor_forget(t, x);
        p = ct_tensor_bytes(t, x);
        assert_memory_equal(p, q, x->bytes);
        float row[640];
        double square = 0;
        for (size_t r = 0; r < 2048; r++) {
            ct_row_decode(x->dtype, row, p + r * (x->bytes / 2048), 640);
            for (size_t k = 0; k < 640; k++)
                square += (double)row[k] * (double)row[k];
        }
        assert_true(fabs(sqrt(square / (double)x->n_elems) * sqrt(640) - 1) < 0.02);
        const ct_tensor *norm = ct_tensors_find(t, "blk.3.attn_norm.weight");
        ct_row_decode(norm->dtype, row, ct_tensor_bytes(t, norm), 640);
        double mean = 0;
        for (size_t k = 0; k < 640; k++)
            mean += (double)row[k] / 640;
        assert_true(fabs(mean - 1) < 0.03 && row[0] != row[1]);
        ct_tensors_close(u);
        ct_tensors_close(t);
    }
}

static void refuses_other_specs(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",      ":",          "2b",  "270m:", "270m:q4_k", "270m:Q8_0",
                                        ":q8_0", "12b:q8_0:x", "270", "270mm", "27b:"};
    ct_tensors *t;
    ct_error err;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(ct_synthetic_open(&t, wrong[i], &err), CT_EINVAL);
        assert_null(t);
        assert_non_null(strstr(err.text, "270m 1b 4b 12b 27b"));
        assert_non_null(strstr(err.text, "q4_k_m"));
    }
    assert_int_equal(ct_synthetic_open(&t, "4b:mlx5", NULL), CT_EINVAL);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    ct_status st = CT_ENOMEM;
    for (size_t n = 1; st != CT_OK; n++) {
        ct_tensors *t;
        ct_error err = {0};
        ct_mem_fail_at(n);
        st = ct_synthetic_open(&t, "1b:q4_k_m", &err);
        ct_mem_fail_at(0);
        assert_true(st == CT_OK || (st == CT_ENOMEM && t == NULL && err.text[0]));
        assert_true(n < 100);
        ct_tensors_close(t);
    }
    ct_tensors *t = open_spec("1b");
    ct_mem_fail_at(1);
    assert_null(ct_tensor_bytes(t, ct_tensors_at(t, 2)));
    ct_mem_fail_at(0);
    assert_non_null(ct_tensor_bytes(t, ct_tensors_at(t, 2)));
    ct_tensors_close(t);
}

/* Whole, or run by run from anywhere: the same bytes. */
static void makes_parts(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_k.weight", "blk.3.ffn_norm.weight", "blk.1.attn_output.weight"};
    ct_tensors *t = open_spec("270m:q4_k_m");
    uint8_t scratch[4096];
    for (size_t i = 0; i < 3; i++) {
        const ct_tensor *x = ct_tensors_find(t, names[i]);
        size_t block = (size_t)x->dtype->block_bytes, run = sizeof scratch / block * block;
        const uint8_t *whole = ct_tensor_bytes(t, x);
        for (size_t off = 0; off < x->bytes; off += run) {
            size_t n = x->bytes - off < run ? x->bytes - off : run;
            assert_memory_equal(ct_tensor_part(t, x, off, n, scratch), whole + off, n);
        }
    }
    ct_tensors_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_published_sizes), cmocka_unit_test(makes_parts),
        cmocka_unit_test(mixes_types),         cmocka_unit_test(makes_bytes_on_demand),
        cmocka_unit_test(refuses_other_specs), cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
