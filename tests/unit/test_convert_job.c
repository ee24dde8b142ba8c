/* The conversion of a model: every tensor is what encoding its decoded rows gives, whatever the number of threads; keys are kept;
 * whatever is wrong is a sentence and leaves nothing behind. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "convert/encode.h"
#include "model/names.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

static char folder[64], path[128];
static ct_pool *pool;

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/carat-convert-XXXXXX");
    if (mkdtemp(folder) == NULL || ct_pool_create(&pool, 3, NULL) != CT_OK)
        return -1;
    snprintf(path, sizeof path, "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    ct_pool_free(pool);
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static ct_status convert_to(const char *in, const char *out, const ct_convert_options *o, const ct_convert_job *job,
                            ct_conversion *r, ct_error *err)
{
    ct_tensors *t;
    assert_int_equal(ct_tensors_open(&t, in, err), CT_OK);
    ct_status st = ct_convert(t, out, o, pool, job, r, err);
    ct_tensors_close(t);
    return st;
}

static ct_status convert(const char *in, const char *type, ct_conversion *r, ct_error *err)
{
    ct_convert_options o = {.type = type, .force = true};
    ct_convert_job quiet = {0};
    return convert_to(in, path, &o, &quiet, r, err);
}

static float *floats_of(ct_tensors *t, const ct_tensor *x)
{
    float *f = malloc(x->n_elems * sizeof *f);
    assert_non_null(f);
    ct_row_decode(x->dtype, f, ct_tensor_bytes(t, x), x->n_elems);
    return f;
}

/* One tensor against its source: the same numbers, as near as the type is. */
static void compare(ct_tensors *in, ct_tensors *out, const ct_tensor *x)
{
    char name[64] = "";
    memcpy(name, x->name.data, x->name.len);
    const ct_tensor *src = ct_tensors_find(in, name);
    assert_non_null(src);
    assert_memory_equal(src->ne, x->ne, sizeof x->ne);
    float *want = floats_of(in, src), *got = floats_of(out, x);
    const ct_encoder *e = ct_encoder_get(x->dtype->type);
    uint8_t *bytes = malloc(x->bytes);
    assert_non_null(bytes);

    if (src->dtype == x->dtype)
        assert_memory_equal(ct_tensor_bytes(out, x), ct_tensor_bytes(in, src), x->bytes);
    else {
        assert_non_null(e);
        size_t row = x->bytes / (x->n_elems / x->ne[0]);
        for (size_t r = 0; r < x->n_elems / x->ne[0]; r++)
            assert_true(ct_encode(e, bytes + r * row, want + r * x->ne[0], x->ne[0], NULL));
        assert_memory_equal(ct_tensor_bytes(out, x), bytes, x->bytes);
    }
    double wrong = 0, all = 0;
    for (size_t i = 0; i < x->n_elems; i++) {
        wrong += pow((double)got[i] - (double)want[i], 2);
        all += pow((double)want[i], 2);
    }
    assert_true(wrong <= 0.02 * all); /* q4_0 stays under 1 % */
    free(bytes);
    free(want);
    free(got);
}

static void converts_every_tensor(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q5_1", "q6_k"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        ct_error err = {0};
        ct_conversion r;
        ct_tensors *in, *out;
        if (convert(TINY, types[i], &r, &err) != CT_OK)
            fail_msg("%s: %s", types[i], err.text);
        assert_int_equal(ct_tensors_open(&in, TINY, &err), CT_OK);
        assert_int_equal(ct_tensors_open(&out, path, &err), CT_OK);
        assert_int_equal(ct_tensors_count(in), ct_tensors_count(out));
        assert_int_equal(r.tensors, ct_tensors_count(out));
        assert_int_equal(r.bytes_out, ct_tensors_file_bytes(out));
        for (size_t k = 0; k < ct_tensors_count(out); k++) {
            const ct_tensor *x = ct_tensors_at(out, k);
            if (x->n_dims == 1)
                assert_string_equal(x->dtype->name, "f32");
            else if (strncmp(x->name.data, "token_embd", 10) != 0 && x->ne[0] % 256 == 0)
                assert_string_equal(x->dtype->name, types[i]);
            compare(in, out, x);
        }
        ct_tensors_close(in);
        ct_tensors_close(out);
    }
}

static void keeps_the_keys(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_conversion r;
    ct_tensors *in, *out;
    uint32_t type = 99, version = 99;
    assert_int_equal(convert(TINY, "bf16", &r, &err), CT_OK);
    assert_int_equal(ct_tensors_open(&in, TINY, &err), CT_OK);
    assert_int_equal(ct_tensors_open(&out, path, &err), CT_OK);
    for (size_t i = 0; i < ct_tensors_kv_count(in); i++) {
        const ct_kv_pair *a = ct_tensors_kv_at(in, i), *b;
        char key[128] = "";
        memcpy(key, a->key.data, a->key.len);
        if (strcmp(key, "general.file_type") == 0 || strcmp(key, "general.quantization_version") == 0)
            continue;
        b = ct_tensors_kv(out, key);
        assert_non_null(b);
        assert_true(a->type == b->type && a->elem_type == b->elem_type && a->count == b->count && a->len == b->len);
        if (a->spans)
            for (uint64_t k = 0; k < a->count; k++) {
                ct_str x = ct_kv_str(a, k), y = ct_kv_str(b, k);
                assert_int_equal(x.len, y.len);
                assert_memory_equal(x.data, y.data, x.len);
            }
        else if (a->len > 0)
            assert_memory_equal(a->data, b->data, a->len);
    }
    assert_int_equal(ct_kv_u32(out, "general.file_type", &type, &err), CT_OK);
    assert_int_equal(ct_kv_u32(out, "general.quantization_version", &version, &err), CT_OK);
    assert_int_equal(type, 32);
    assert_int_equal(version, 2);
    ct_tensors_close(in);
    ct_tensors_close(out);
}

/* What is of that type already goes over as it is. */
static void copies_what_fits(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_conversion r;
    ct_tensors *out;
    assert_int_equal(convert("synthetic:270m:q8_0", "q8_0", &r, &err), CT_OK);
    assert_int_equal(ct_tensors_open(&out, path, &err), CT_OK);
    assert_int_equal(ct_tensors_find(out, "token_embd.weight")->ne[1], 262144);
    assert_int_equal(r.n_notes, 0); /* the same type: nothing is lost */
    ct_tensors_close(out);
}

static bool remove_one(void *arg, const char *name)
{
    char inner[512];
    snprintf(inner, sizeof inner, "%s/%s", (const char *)arg, name);
    unlink(inner);
    return true;
}

static ct_status remove_all(const char *where)
{
    ct_status st = ct_list_folder(where, remove_one, (void *)(uintptr_t)where, NULL);
    return st == CT_OK && rmdir(where) == 0 ? CT_OK : CT_EIO;
}

/* A tensor of a folder against the one of the GGUF file that it was made of. */
static void compare_twin(ct_tensors *in, ct_tensors *out, const ct_name *n, int32_t layer, double budget)
{
    char gguf[CT_NAME_MAX], hf[CT_NAME_MAX];
    ct_name_format(n, CT_NAMES_GGUF, layer, gguf);
    ct_name_format(n, CT_NAMES_HF, layer, hf);
    const ct_tensor *a = ct_tensors_find(in, gguf), *b = ct_tensors_find(out, hf);
    assert_true((a == NULL) == (b == NULL));
    if (a == NULL)
        return;
    assert_memory_equal(a->ne, b->ne, sizeof a->ne);
    float *want = floats_of(in, a), *got = floats_of(out, b);
    float one = n->use == CT_WEIGHT_VECTOR ? 1.0f : 0.0f;
    double wrong = 0, all = 0;
    for (size_t i = 0; i < a->n_elems; i++) {
        wrong += pow((double)(got[i] + one) - (double)want[i], 2);
        all += pow((double)want[i], 2);
    }
    assert_true(wrong <= budget * all);
    free(want);
    free(got);
}

static size_t files_seen;
static bool count_one(void *arg, const char *name)
{
    (void)arg;
    files_seen += strstr(name, ".safetensors") != NULL && strstr(name, ".json") == NULL;
    return true;
}

static void writes_folders(void **state)
{
    (void)state;
    static const struct {
        const char *type, *format;
        int32_t group;
        size_t shard, files;
        double budget; /* of the error's square, relative */
    } cases[] = {{"f32", "Hugging Face", 0, 0, 1, 1e-12},
                 {"bf16", "Hugging Face", 0, 400000, 6, 1e-5},
                 {"mlx4", "MLX", 32, 0, 1, 0.02},
                 {"mlx4", "MLX", 64, 100000, 10, 0.02},
                 {"mlx8", "MLX", 128, 0, 1, 1e-4}};
    char made[128], back[160];
    snprintf(made, sizeof made, "%s/made", folder);
    snprintf(back, sizeof back, "%s/back.gguf", folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ct_error err = {0};
        ct_conversion r;
        ct_tensors *in, *out;
        ct_convert_job quiet = {0};
        ct_convert_options o = {.type = cases[i].type, .group = cases[i].group, .shard = cases[i].shard, .force = true};
        if (convert_to(TINY, made, &o, &quiet, &r, &err) != CT_OK)
            fail_msg("%s: %s", cases[i].type, err.text);
        assert_string_equal(r.format, cases[i].format);
        files_seen = 0;
        assert_int_equal(ct_list_folder(made, count_one, NULL, &err), CT_OK);
        assert_true(cases[i].files == 1 ? files_seen == 1 : files_seen >= cases[i].files);
        assert_int_equal(ct_tensors_open(&in, TINY, &err), CT_OK);
        if (ct_tensors_open(&out, made, &err) != CT_OK)
            fail_msg("%s: %s", cases[i].type, err.text);
        assert_int_equal(ct_tensors_count(in), ct_tensors_count(out));
        const ct_name *n;
        for (size_t k = 0; (n = ct_name_at(k)) != NULL; k++)
            for (int32_t layer = 0; layer < (n->per_layer ? 7 : 1); layer++)
                compare_twin(in, out, n, layer, cases[i].budget);
        ct_tensors_close(out);
        /* And back again: a folder is read as well as any file. */
        o = (ct_convert_options){.type = "f32", .force = true};
        if (convert_to(made, back, &o, &quiet, &r, &err) != CT_OK)
            fail_msg("%s back: %s", cases[i].type, err.text);
        assert_int_equal(ct_tensors_open(&out, back, &err), CT_OK);
        assert_int_equal(ct_tensors_kv(out, "tokenizer.ggml.tokens")->count,
                         ct_tensors_kv(in, "tokenizer.ggml.tokens")->count);
        const ct_tensor *x = ct_tensors_find(in, "blk.3.ffn_norm.weight"),
                        *y = ct_tensors_find(out, "blk.3.ffn_norm.weight");
        for (size_t k = 0; k < x->n_elems; k++)
            assert_true(fabsf(((const float *)(const void *)x->data)[k] - ((const float *)(const void *)y->data)[k]) <
                        0.01f);
        ct_tensors_close(in);
        ct_tensors_close(out);
        assert_int_equal(convert_to(TINY, made, &o, &quiet, &r, &err), CT_EIO); /* something is in it */
        assert_non_null(strstr(err.text, "with something in it"));
        assert_int_equal(remove_all(made), CT_OK);
        unlink(back);
    }
}

struct stop {
    int polls, at;
    double last;
};

static bool until(void *arg)
{
    struct stop *s = arg;
    return s->polls++ < s->at;
}

static void forward(void *arg, const char *what, double done, double total)
{
    struct stop *s = arg;
    assert_string_equal(what, "converting");
    assert_true(done > s->last && done <= total);
    s->last = done;
}

static void stops_when_asked(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_conversion r;
    unlink(path);
    ct_convert_options o = {.type = "f16"};
    struct stop s = {.at = 20};
    ct_convert_job job = {until, forward, &s};
    assert_int_equal(convert_to(TINY, path, &o, &job, &r, &err), CT_EINTERRUPTED);
    assert_false(ct_is_there(path));
    assert_true(s.last > 0);
    s = (struct stop){.at = 1 << 30};
    assert_int_equal(convert_to(TINY, path, &o, &job, &r, &err), CT_OK);
    assert_true(s.last == (double)r.bytes_in);
}

static void refused(const char *in, const char *out, const ct_convert_options *o, ct_status expected, const char *words)
{
    ct_error err = {0};
    ct_conversion r;
    ct_convert_job quiet = {0};
    ct_status st = convert_to(in, out, o, &quiet, &r, &err);
    if (st != expected || strstr(err.text, words) == NULL)
        fail_msg("expected %s with \"%s\", found %s: %s", ct_status_name(expected), words, ct_status_name(st),
                 err.text);
}

static void refuses(void **state)
{
    (void)state;
    char name[160];
    ct_convert_options bf16 = {.type = "bf16"}, forced = {.type = "bf16", .force = true};
    assert_int_equal(ct_file_write(path, "before", 6, NULL), CT_OK);
    refused(TINY, path, &bf16, CT_EIO, "is there already");
    refused(TINY, TINY, &forced, CT_EIO, "is what is read");
    refused("synthetic:270m", path, &(ct_convert_options){.type = "q4_k_x", .force = true}, CT_EINVAL, "q4_k_m");
    refused("synthetic:270m", path, &(ct_convert_options){.type = "mlx4"}, CT_EINVAL, "folder");
    refused("synthetic:270m", "x", &(ct_convert_options){.type = "mlx7"}, CT_EINVAL, "8 bits");
    refused("synthetic:270m", path, &(ct_convert_options){.type = "q8_0", .group = 32}, CT_EINVAL, "group");
    refused("synthetic:270m", folder, &(ct_convert_options){.type = "q8_0"}, CT_EINVAL, "folder");
    refused("synthetic:270m", "x.safetensors", &bf16, CT_EINVAL, "folder");
    snprintf(name, sizeof name, "%s/none/x.gguf", folder);
    refused("synthetic:270m", name, &bf16, CT_ENOTFOUND, name);
    char *text;
    size_t n;
    assert_int_equal(ct_file_read(&text, &n, path, NULL), CT_OK);
    assert_string_equal(text, "before");
    ct_free(text);
}

/* A number that f16 cannot hold, in the third row of a matrix. */
static void refuses_numbers(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_conversion r;
    ct_map map;
    char name[128];
    snprintf(name, sizeof name, "%s/large.gguf", folder);
    assert_int_equal(convert(TINY, "f32", &r, &err), CT_OK);
    assert_int_equal(ct_map_open(&map, path, &err), CT_OK);
    ct_tensors *t;
    assert_int_equal(ct_tensors_open(&t, path, &err), CT_OK);
    const ct_tensor *x = ct_tensors_find(t, "blk.2.ffn_up.weight");
    size_t at = ct_tensors_file_bytes(t); /* where the tensor lies in the file: its bytes are somewhere in it */
    for (size_t i = 0; i + x->bytes <= map.size; i += 32)
        if (memcmp(map.data + i, x->data, x->bytes) == 0) {
            at = i;
            break;
        }
    assert_true(at < map.size);
    uint8_t *copy = malloc(map.size);
    assert_non_null(copy);
    const float large = 70000.0f, none = NAN;
    memcpy(copy, map.data, map.size);
    memcpy(copy + at + 2 * x->ne[0] * 4 + 12, &large, 4);
    assert_int_equal(ct_file_write(name, copy, map.size, &err), CT_OK);
    ct_convert_options f16 = {.type = "f16", .force = true}, bf16 = {.type = "bf16", .force = true};
    refused(name, path, &f16, CT_ENUMERIC, "row 2 of 'blk.2.ffn_up.weight'");
    assert_int_equal(convert(name, "bf16", &r, &err), CT_OK);
    memcpy(copy + at, &none, 4);
    assert_int_equal(ct_file_write(name, copy, map.size, &err), CT_OK);
    refused(name, path, &bf16, CT_ENUMERIC, "row 0 of 'blk.2.ffn_up.weight'");
    free(copy);
    ct_tensors_close(t);
    ct_map_close(&map);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(converts_every_tensor), cmocka_unit_test(keeps_the_keys),
                                       cmocka_unit_test(copies_what_fits),      cmocka_unit_test(stops_when_asked),
                                       cmocka_unit_test(writes_folders),        cmocka_unit_test(refuses),
                                       cmocka_unit_test(refuses_numbers)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
