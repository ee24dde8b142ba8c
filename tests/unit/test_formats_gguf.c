/* The GGUF reader: everything a sound file may hold is found again, and a file that is cut, changed byte by byte or at random is
 * refused in a sentence or good to its last byte. Lies told on purpose are in test_formats_gguf_lies.c. */
#include "gguf_try.h"

#include "base/rng.h"
#include "base/system.h"

static char path[64];

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/carat-gguf-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

/* ---- sound files --------------------------------------------------------------------------------------------------- */

static void reads_sound_files(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++)
        for (uint32_t align = 8; align <= 4096; align *= 8) {
            gguf_writer w;
            ct_error err;
            ct_tensors *t;
            sample(&w, version, align);
            assert_int_equal(gguf_save(&w, path), 0);
            assert_int_equal(ct_gguf_open(&t, path, &err), CT_OK);
            assert_string_equal(ct_tensors_path(t), path);
            assert_string_equal(ct_tensors_format(t), version == 2 ? "GGUF v2" : "GGUF v3");
            assert_int_equal(ct_tensors_file_bytes(t), w.file.n);
            assert_int_equal(ct_tensors_count(t), 4);
            assert_int_equal(ct_tensors_kv_count(t), 25); /* the sample's and general.alignment */
            use_everything(t);
            const ct_tensor *x = ct_tensors_find(t, "a.weight");
            assert_non_null(x);
            assert_ptr_equal(x, ct_tensors_at(t, 1));
            assert_true(x->n_dims == 2 && x->ne[0] == 64 && x->ne[1] == 3 && x->ne[2] == 1 && x->bytes == 108);
            assert_string_equal(x->dtype->name, "q4_0");
            assert_true(x->data[0] == 0 && x->data[59] == 59 && x->data[61] == 1);
            assert_null(ct_tensors_find(t, "a.weigh"));
            assert_null(ct_tensors_find(t, "a.weight2"));
            assert_null(ct_tensors_find(t, ""));
            assert_null(ct_tensors_at(t, 4));
            assert_null(ct_tensors_kv(t, "u"));
            const ct_kv_pair *kv = ct_tensors_kv(t, "array.string");
            assert_true(kv && kv->count == 4 && kv->elem_type == CT_KV_STRING);
            assert_true(ct_str_is(ct_kv_str(kv, 0), "") && ct_str_is(ct_kv_str(kv, 1), "one"));
            assert_true(ct_str_is(ct_kv_str(kv, 3), "a\nb"));
            kv = ct_tensors_kv(t, "bytes");
            assert_true(kv && ct_kv_str(kv, 0).len == 4 && memcmp(ct_kv_str(kv, 0).data, "a\0b\xff", 4) == 0);
            ct_tensors_close(t);
            gguf_free(&w);
        }
    ct_tensors_close(NULL);
}

static void gives_typed_values(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    ct_tensors *t;
    sample(&w, 3, 32);
    assert_int_equal(gguf_save(&w, path), 0);
    assert_int_equal(ct_gguf_open(&t, path, NULL), CT_OK);
    uint32_t u = 77;
    double d = 0;
    bool b = false;
    ct_str s = {NULL, 0};
    assert_int_equal(ct_kv_u32(t, "absent", &u, &err), CT_OK);
    assert_int_equal(u, 77);
    assert_true(ct_kv_u32(t, "u8", &u, &err) == CT_OK && u == 200);
    assert_true(ct_kv_u32(t, "u16", &u, &err) == CT_OK && u == 60000);
    assert_true(ct_kv_u32(t, "u32", &u, &err) == CT_OK && u == 4000000000u);
    assert_true(ct_kv_u32(t, "array.u32", &u, &err) == CT_OK && u == 4); /* one value for all layers */
    u = 77;
    static const char *const no_u32[] = {"i8",         "i16",         "i32",          "i64",       "u64",
                                         "f32",        "f64",         "bool",         "bytes",     "array.f32",
                                         "array.bool", "array.mixed", "array.string", "array.none"};
    for (size_t i = 0; i < sizeof no_u32 / sizeof no_u32[0]; i++) {
        assert_true(ct_kv_u32(t, no_u32[i], &u, &err) != CT_OK && u == 77);
        assert_non_null(strstr(err.text, no_u32[i]));
    }
    assert_true(ct_kv_f64(t, "f32", &d, &err) == CT_OK && d == 1.5);
    assert_true(ct_kv_f64(t, "f64", &d, &err) == CT_OK && d == -2.25);
    assert_true(ct_kv_f64(t, "i16", &d, &err) == CT_OK && d == -30000);
    assert_true(ct_kv_f64(t, "i64", &d, &err) == CT_OK && d == -0x1p63);
    assert_true(ct_kv_f64(t, "u64", &d, &err) == CT_OK && d == 0x1p64);
    assert_int_equal(ct_kv_f64(t, "bytes", &d, &err), CT_EFORMAT);
    assert_int_equal(ct_kv_f64(t, "array.f32", &d, &err), CT_EFORMAT);
    assert_true(ct_kv_bool(t, "bool", &b, &err) == CT_OK && b);
    assert_int_equal(ct_kv_bool(t, "u8", &b, &err), CT_EFORMAT);
    assert_true(ct_kv_string(t, "general.architecture", &s, &err) == CT_OK && ct_str_is(s, "gemma3"));
    assert_true(ct_kv_string(t, "empty", &s, &err) == CT_OK && s.len == 0);
    assert_int_equal(ct_kv_string(t, "array.string", &s, &err), CT_EFORMAT);
    assert_non_null(strstr(err.text, "array of string"));
    ct_tensors_close(t);
    gguf_free(&w);
}

/* ---- damage -------------------------------------------------------------------------------------------------------- */

static void refuses_every_truncation(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    sample(&w, 3, 32);
    size_t end = w.file.n - 8; /* the last tensor has 24 bytes of 32 */
    for (size_t n = 0; n < w.file.n; n++) {
        assert_int_equal(try_open(w.file.data, n, &err), n < end ? CT_EFORMAT : CT_OK);
    }
    char words[96];
    snprintf(words, sizeof words, "expected %zu bytes (the end of the tensor 'c.weight'), found %zu", end, end - 100);
    refused(w.file.data, end - 100, CT_EFORMAT, words);
    gguf_free(&w);
}

/* Every byte of the header with the values that lies are made of. */
static void survives_every_changed_byte(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    sample(&w, 3, 32);
    size_t header = w.file.n - w.data.n, accepted = 0;
    for (size_t i = 0; i < header; i++) {
        uint8_t was = w.file.data[i];
        const uint8_t values[] = {0, 0xff, 0x80, 0x7f, (uint8_t)(was + 1), (uint8_t)(was - 1), (uint8_t)(was ^ 0x10)};
        for (size_t v = 0; v < sizeof values; v++) {
            w.file.data[i] = values[v];
            accepted += try_open(w.file.data, w.file.n, &err) == CT_OK;
        }
        w.file.data[i] = was;
    }
    assert_true(accepted > 0 && accepted < header * 7); /* a changed letter of a name is no damage one can see */
    gguf_free(&w);
}

static void survives_random_damage(void **state)
{
    (void)state;
    const uint64_t seed = 20250312;
    gguf_writer w;
    ct_error err;
    sample(&w, 3, 32);
    size_t n = w.file.n, header = n - w.data.n;
    uint8_t *copy = malloc(n * 2);
    assert_non_null(copy);
    for (uint64_t round = 0; round < 4000; round++) {
        uint64_t at = round * 100, kind = ct_rng_u64(seed, 1, at) % 4;
        size_t size = n;
        memcpy(copy, w.file.data, n);
        for (uint64_t k = 1; k <= 1 + ct_rng_u64(seed, 2, at) % 12; k++) {
            uint64_t r = ct_rng_u64(seed, 3, at + k);
            size_t i = (size_t)(r % header);
            if (kind == 0)
                copy[i] ^= (uint8_t)(1u << (r >> 32) % 8);
            else if (kind == 1)
                copy[i] = (uint8_t)(r >> 40);
            else if (kind == 2 && i + 8 <= n) /* a wild 64-bit number, small or near a limit */
                memcpy(copy + i, &(uint64_t){(r >> 60) % 2 ? r >> 32 : UINT64_MAX << (r >> 56) % 64}, 8);
            else if (kind == 3) { /* a piece cut out: everything behind it moves */
                size_t cut = 1 + (size_t)(r >> 48) % 16;
                if (i + cut < size) {
                    memmove(copy + i, copy + i + cut, size - i - cut);
                    size -= cut;
                }
            }
        }
        try_open(copy, size, &err);
    }
    free(copy);
    gguf_free(&w);
}

/* ---- resources ----------------------------------------------------------------------------------------------------- */

static void survives_failing_allocations(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    sample(&w, 3, 32);
    ct_status st = CT_ENOMEM;
    size_t n = 0;
    while (st != CT_OK) { /* until an n is reached that the reader does not need */
        ct_mem_fail_at(++n);
        st = try_open(w.file.data, w.file.n, &err);
        ct_mem_fail_at(0);
        assert_true(n < 100);
        if (st != CT_OK)
            assert_int_equal(st, CT_ENOMEM);
    }
    assert_true(n > 5);
    gguf_free(&w);
}

/* Time and memory stay in proportion to the file: many keys, many tensors, many strings, names alike but for their ends. */
static void stays_in_proportion(void **state)
{
    (void)state;
    enum { N = 50000 };
    gguf_writer w;
    ct_error err;
    char name[64];
    gguf_begin(&w, 3, 32);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a.key.with.a.long.and.common.beginning.%u", i * 7919 % N);
        gguf_kv_u32(&w, name, i);
        gguf_tensor(&w, name, 1, (const uint64_t[]){1}, 0, "1234", 4);
    }
    gguf_kv_array(&w, "strings", GGUF_STRING, 200000, NULL, 0);
    for (uint32_t i = 0; i < 200000; i++)
        gguf_put_str(&w.kv, "", 0);
    gguf_end(&w);
    size_t calls = ct_mem_calls();
    uint64_t start = ct_now_ns();
    assert_int_equal(try_open(w.file.data, w.file.n, &err), CT_OK);
    assert_true(ct_seconds_since(start) < 5); /* a tenth of a second where nothing else runs */
    assert_true(ct_mem_calls() - calls < 100);
    gguf_free(&w);
}

static void reads_the_fixtures(void **state)
{
    (void)state;
    static const char *const files[] = {CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf",
                                        CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny-types.gguf"};
    bool seen[64] = {false};
    for (size_t f = 0; f < 2; f++) {
        ct_error err;
        ct_tensors *t;
        uint32_t layers = 0;
        assert_int_equal(ct_gguf_open(&t, files[f], &err), CT_OK);
        assert_true(ct_kv_u32(t, "gemma3.block_count", &layers, &err) == CT_OK && layers == 7);
        for (size_t i = 0; i < ct_tensors_count(t); i++)
            seen[ct_tensors_at(t, i)->dtype->type] = true;
        use_everything(t);
        ct_tensors_close(t);
    }
    for (size_t i = 0; ct_dtype_at(i); i++) /* MLX's types have no GGUF files */
        assert_true(ct_dtype_at(i)->type >= CT_MLX_FIRST || seen[ct_dtype_at(i)->type]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sound_files),        cmocka_unit_test(gives_typed_values),
        cmocka_unit_test(refuses_every_truncation), cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(survives_random_damage),   cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(stays_in_proportion),      cmocka_unit_test(reads_the_fixtures),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
