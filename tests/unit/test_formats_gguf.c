/* The GGUF reader: everything a sound file may hold is found again, and everything a damaged one may claim is refused in a
 * sentence. Thousands of damaged variants of one small file; none may crash, none may be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/system.h"
#include "formats/tensors.h"
#include "gguf_write.h"

static char path[64];

static int make_path(void **state)
{
    (void)state;
    /* Fifteen thousand small files: in memory where the system has such a place. */
    snprintf(path, sizeof path, "%s/carat-gguf-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void save(const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A sound file with every value type, arrays of every element type, and tensors of several types. */
static void sample(gguf_writer *w, uint32_t version, uint32_t align)
{
    static const char *const words[] = {"", "one", "\xe2\x96\x81two", "a\nb"};
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}, truths[3] = {0, 1, 1};
    uint8_t data[256 * 4];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % 60); /* no NaNs in any type */
    gguf_begin(w, version, align);
    gguf_kv_string(w, "general.architecture", "gemma3");
    gguf_kv_u8(w, "u8", 200);
    gguf_kv_i8(w, "i8", -100);
    gguf_kv_u16(w, "u16", 60000);
    gguf_kv_i16(w, "i16", -30000);
    gguf_kv_u32(w, "u32", 4000000000u);
    gguf_kv_i32(w, "i32", -2000000000);
    gguf_kv_f32(w, "f32", 1.5f);
    gguf_kv_bool(w, "bool", 1);
    gguf_kv_string_n(w, "bytes", "a\0b\xff", 4);
    gguf_kv_string(w, "empty", "");
    gguf_kv_u64(w, "u64", UINT64_MAX);
    gguf_kv_i64(w, "i64", INT64_MIN);
    gguf_kv_f64(w, "f64", -2.25);
    gguf_kv_array(w, "array.u8", GGUF_U8, 8, bytes, 8);
    gguf_kv_array(w, "array.u16", GGUF_U16, 4, bytes, 8);
    gguf_kv_array(w, "array.u32", GGUF_U32, 2, "\4\0\0\0\4\0\0\0", 8);
    gguf_kv_array(w, "array.mixed", GGUF_I32, 2, "\4\0\0\0\5\0\0\0", 8);
    gguf_kv_array(w, "array.f32", GGUF_F32, 2, bytes, 8);
    gguf_kv_array(w, "array.u64", GGUF_U64, 1, bytes, 8);
    gguf_kv_array(w, "array.f64", GGUF_F64, 1, bytes, 8);
    gguf_kv_array(w, "array.bool", GGUF_BOOL, 3, truths, 3);
    gguf_kv_array(w, "array.none", GGUF_F32, 0, NULL, 0);
    gguf_kv_strings(w, "array.string", 4, words);
    gguf_tensor(w, "norm.weight", 1, (const uint64_t[]){8}, 0, data, 32);
    gguf_tensor(w, "a.weight", 2, (const uint64_t[]){64, 3}, 2, data, 18 * 2 * 3);
    gguf_tensor(w, "b.weight", 2, (const uint64_t[]){256, 1}, 14, data, 210);
    gguf_tensor(w, "c.weight", 4, (const uint64_t[]){2, 3, 2, 1}, 30, data, 24);
    gguf_end(w);
}

/* Reads every byte that the directory vouches for. */
static void use_everything(ct_tensors *t)
{
    volatile size_t sum = 0;
    for (size_t i = 0; i < ct_tensors_kv_count(t); i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        for (size_t j = 0; j < kv->key.len; j++)
            sum += (uint8_t)kv->key.data[j];
        bool strings = kv->type == CT_KV_STRING || (kv->type == CT_KV_ARRAY && kv->elem_type == CT_KV_STRING);
        for (uint64_t k = 0; strings && k < kv->count; k++)
            for (size_t j = 0; j < kv->strings[k].len; j++)
                sum += (uint8_t)kv->strings[k].data[j];
        if (!strings) {
            static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
            for (size_t j = 0; j < kv->count * size[kv->type == CT_KV_ARRAY ? kv->elem_type : kv->type]; j++)
                sum += kv->data[j];
        }
    }
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        const uint8_t *p = ct_tensor_bytes(t, x);
        size_t row;
        assert_true(x->n_elems == x->ne[0] * x->ne[1] * x->ne[2] * x->ne[3]);
        assert_true(ct_row_bytes(x->dtype, x->ne[0], &row) && row * (x->n_elems / x->ne[0]) == x->bytes);
        for (size_t j = 0; j < x->bytes; j++)
            sum += p[j];
        ct_tensor_forget(t, x);
    }
    (void)sum;
}

/* Opens what was saved. A refusal must be a sentence fit for a terminal; whatever is accepted must be usable. */
static ct_status try_open(ct_error *err)
{
    ct_tensors *t = (ct_tensors *)1;
    *err = (ct_error){0};
    ct_status st = ct_gguf_open(&t, path, err);
    if (st == CT_OK) {
        use_everything(t);
        ct_tensors_close(t);
        return st;
    }
    assert_null(t);
    assert_int_equal(err->code, st);
    assert_true(strlen(err->text) > 20);
    for (const char *p = err->text; *p; p++)
        assert_true(*p >= 0x20 && *p < 0x7f);
    return st;
}

static void refused(ct_status expected, const char *words)
{
    ct_error err;
    ct_status st = try_open(&err);
    if (st != expected || strstr(err.text, words) == NULL)
        fail_msg("expected %s with \"%s\", found %s: %s", ct_status_name(expected), words, ct_status_name(st),
                 err.text);
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
            assert_true(ct_str_is(kv->strings[0], "") && ct_str_is(kv->strings[1], "one"));
            assert_true(ct_str_is(kv->strings[3], "a\nb"));
            kv = ct_tensors_kv(t, "bytes");
            assert_true(kv && kv->strings[0].len == 4 && memcmp(kv->strings[0].data, "a\0b\xff", 4) == 0);
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
        assert_int_equal(gguf_save_n(&w, path, n), 0);
        ct_status st = try_open(&err);
        assert_int_equal(st, n < end ? CT_EFORMAT : CT_OK);
    }
    assert_int_equal(gguf_save_n(&w, path, end - 100), 0);
    char words[96];
    snprintf(words, sizeof words, "expected %zu bytes (the end of the tensor 'c.weight'), found %zu", end, end - 100);
    refused(CT_EFORMAT, words);
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
            assert_int_equal(gguf_save(&w, path), 0);
            accepted += try_open(&err) == CT_OK;
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
        save(copy, size);
        try_open(&err);
    }
    free(copy);
    gguf_free(&w);
}

/* ---- lies, one at a time ------------------------------------------------------------------------------------------- */

static void put_u64_at(gguf_writer *w, size_t at, uint64_t v) { memcpy(w->file.data + at, &v, 8); }
static void put_u32_at(gguf_writer *w, size_t at, uint32_t v) { memcpy(w->file.data + at, &v, 4); }

static void refuses_lying_counts_and_versions(void **state)
{
    (void)state;
    static const uint64_t wild[] = {1u << 20,   UINT32_MAX, 1ull << 32,         INT64_MAX,
                                    1ull << 63, UINT64_MAX, UINT64_MAX / 14 + 1};
    gguf_writer w;
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        sample(&w, 3, 32);
        put_u64_at(&w, 8, wild[i]);
        save(w.file.data, w.file.n);
        refused(CT_EFORMAT, "tensors, found");
        gguf_free(&w);
        sample(&w, 3, 32);
        put_u64_at(&w, 16, wild[i]);
        save(w.file.data, w.file.n);
        refused(CT_EFORMAT, "metadata keys, found");
        gguf_free(&w);
    }
    static const struct {
        uint32_t version;
        const char *words;
    } versions[] = {{0, "version 0"},           {1, "version 1"},           {4, "version 4"},
                    {0x03000000, "big-endian"}, {0x02000000, "big-endian"}, {UINT32_MAX, "version 4294967295"}};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        sample(&w, 3, 32);
        put_u32_at(&w, 4, versions[i].version);
        save(w.file.data, w.file.n);
        refused(CT_EUNSUPPORTED, versions[i].words);
        gguf_free(&w);
    }
}

/* A file with one key whose value part is given as bytes. */
static void with_value(const char *key, uint32_t type, const void *value, size_t bytes)
{
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv(&w, key, type, value, bytes);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    gguf_free(&w);
}

static void refuses_lying_values(void **state)
{
    (void)state;
    static const uint64_t wild[] = {1000,      UINT32_MAX, 1ull << 61,     1ull << 62,
                                    INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        with_value("key", GGUF_STRING, &wild[i], 8);
        refused(CT_EFORMAT, "a metadata string at byte");
        for (uint32_t type = GGUF_U8; type <= GGUF_F64; type++) {
            uint8_t array[12];
            memcpy(array, &type, 4);
            memcpy(array + 4, &wild[i], 8);
            with_value("key", GGUF_ARRAY, array, 12);
            if (type == GGUF_ARRAY)
                refused(CT_EUNSUPPORTED, "array of arrays");
            else
                refused(CT_EFORMAT, "the array 'key' claims");
        }
        gguf_writer w;
        gguf_begin(&w, 3, 32);
        gguf_kv_u32(&w, "key", 1);
        gguf_end(&w);
        put_u64_at(&w, 24, wild[i]);
        save(w.file.data, w.file.n);
        refused(CT_EFORMAT, "a metadata key");
        gguf_free(&w);
    }
    with_value("key", 13, "12345678", 8);
    refused(CT_EFORMAT, "found 13");
    with_value("key", UINT32_MAX, "12345678", 8);
    refused(CT_EFORMAT, "found 4294967295");
    with_value("key", GGUF_ARRAY, "\x0d\0\0\0\1\0\0\0\0\0\0\0\0", 13);
    refused(CT_EFORMAT, "found 13");
    with_value("key", GGUF_BOOL, "\2", 1);
    refused(CT_EFORMAT, "0 or 1");
    with_value("key", GGUF_ARRAY, "\7\0\0\0\3\0\0\0\0\0\0\0\0\1\2", 15);
    refused(CT_EFORMAT, "0 or 1");
    with_value("", GGUF_U32, "1234", 4);
    refused(CT_EFORMAT, "metadata key of 1 to");
    with_value("\x1b[31mred", GGUF_BOOL, "\2", 1); /* nothing of a file reaches a terminal unchanged */
    refused(CT_EFORMAT, "'?[31mred'");
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv_u32(&w, "a", 1);
    gguf_kv_u32(&w, "b", 1);
    gguf_kv_u32(&w, "a", 1);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    refused(CT_EFORMAT, "'a' twice");
    gguf_free(&w);
    char *big = malloc(70000); /* the longest key allowed, and one more */
    assert_non_null(big);
    memset(big, 'k', 70000);
    ct_error err;
    big[65535] = '\0';
    with_value(big, GGUF_U32, "1234", 4);
    assert_int_equal(try_open(&err), CT_OK);
    big[65535] = 'k';
    big[65536] = '\0';
    with_value(big, GGUF_U32, "1234", 4);
    refused(CT_EFORMAT, "found 65536");
    free(big);
}

static void with_alignment(uint32_t align)
{
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv_u32(&w, "general.alignment", align);
    gguf_tensor(&w, "a", 1, (const uint64_t[]){8}, 0, "12345678123456781234567812345678", 32);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    gguf_free(&w);
}

static void refuses_odd_alignments(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0, 3, 24, 33, 0x80000001u, UINT32_MAX};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        with_alignment(odd[i]);
        refused(CT_EFORMAT, "power of two");
    }
    with_alignment(1u << 31); /* a power of two, but then the data lie beyond the end */
    refused(CT_EFORMAT, "truncated");
    with_value("general.alignment", GGUF_STRING,
               "\2\0\0\0\0\0\0\0"
               "32",
               10);
    refused(CT_EFORMAT, "general.alignment");
    with_value("split.count", GGUF_U16, "\3\0", 2);
    refused(CT_EUNSUPPORTED, "first of 3 parts"); /* more of this in test_formats_split.c */
    with_value("split.count", GGUF_U16, "\1\0", 2);
    ct_error err;
    assert_int_equal(try_open(&err), CT_OK);
}

/* A file with a sound tensor of 32 bytes and then one that is described as asked. */
static void with_tensor(const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    gguf_writer w;
    uint8_t data[64] = {0};
    gguf_begin(&w, 3, 32);
    gguf_tensor(&w, "first", 1, (const uint64_t[]){8}, 0, data, 32);
    gguf_tensor_info(&w, name, n_dims, ne, type, offset);
    gguf_pad(&w.data, 32);
    gguf_put(&w.data, data, 32);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    gguf_free(&w);
}

static void refuses_lying_tensors(void **state)
{
    (void)state;
    ct_error err;
    uint64_t eight[16] = {8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    with_tensor("x", 1, eight, 0, 32);
    assert_int_equal(try_open(&err), CT_OK);
    with_tensor("x", 4, eight, 0, 32);
    assert_int_equal(try_open(&err), CT_OK);
    with_tensor("x", 0, eight, 0, 32);
    refused(CT_EFORMAT, "1 to 4 dimensions");
    with_tensor("x", 5, eight, 0, 32);
    refused(CT_EFORMAT, "1 to 4 dimensions");
    with_tensor("x", 15, eight, 0, 32);
    refused(CT_EFORMAT, "1 to 4 dimensions");
    with_tensor("first", 1, eight, 0, 32);
    refused(CT_EFORMAT, "'first' twice");
    with_tensor("", 1, eight, 0, 32);
    refused(CT_EFORMAT, "a tensor name of 1 to 64 bytes");
    with_tensor("12345678901234567890123456789012345678901234567890123456789012345", 1, eight, 0, 32);
    refused(CT_EFORMAT, "found 65");
    static const uint64_t offsets[] = {16, 33, 31, UINT64_MAX, UINT64_MAX - 31, 1ull << 63, INT64_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        with_tensor("x", 1, eight, 0, offsets[i]);
        assert_int_equal(try_open(&err), CT_EFORMAT);
    }
    with_tensor("x", 1, eight, 0, 64);
    refused(CT_EFORMAT, "truncated");
    with_tensor("x", 1, eight, 0, 0);
    refused(CT_EFORMAT, "overlap");
    with_tensor("x", 1, (const uint64_t[]){9}, 0, 32);
    refused(CT_EFORMAT, "the end of the tensor 'x'");
    /* shapes */
    static const uint64_t shapes[][4] = {{0, 1, 1, 1},
                                         {8, 0, 1, 1},
                                         {8, 1, 1, 0},
                                         {1ull << 32, 1ull << 32, 1, 1},
                                         {1ull << 63, 2, 1, 1},
                                         {UINT64_MAX, 1, 1, 1},
                                         {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                         {8, 1ull << 61, 8, 1},
                                         {8, INT64_MAX, 1, 1},
                                         {1ull << 62, 1, 1, 1},
                                         {1ull << 61, 1, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        static const uint32_t types[] = {0, 1, 2, 6, 8, 12, 14, 30};
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
            with_tensor("x", 4, shapes[i], types[k], 32);
            assert_int_equal(try_open(&err), CT_EFORMAT);
        }
    }
    with_tensor("x", 1, (const uint64_t[]){33}, 8, 32);
    refused(CT_EFORMAT, "q8_0 comes in blocks of 32");
    with_tensor("x", 1, (const uint64_t[]){32}, 12, 32);
    refused(CT_EFORMAT, "q4_k comes in blocks of 256");
    /* types */
    for (uint32_t type = 0; type < 64; type++)
        if (ct_dtype_get((int32_t)type) == NULL) {
            with_tensor("x", 1, eight, type, 32);
            refused(CT_EUNSUPPORTED, "the tensor 'x' has type");
        }
    with_tensor("x", 1, eight, 22, 32);
    refused(CT_EUNSUPPORTED, "type 22 (IQ2_S)");
    with_tensor("x", 1, eight, UINT32_MAX, 32);
    refused(CT_EUNSUPPORTED, "type 4294967295 (unknown)");
}

static void accepts_gaps_and_any_order(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    uint8_t data[256] = {0};
    gguf_begin(&w, 3, 32);
    gguf_tensor_info(&w, "late", 1, (const uint64_t[]){8}, 0, 128);
    gguf_tensor_info(&w, "early", 1, (const uint64_t[]){8}, 0, 32);
    gguf_put(&w.data, data, sizeof data);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    assert_int_equal(try_open(&err), CT_OK);
    gguf_free(&w);
    gguf_begin(&w, 3, 32); /* no tensors at all: a vocabulary file */
    gguf_kv_u32(&w, "key", 1);
    gguf_end(&w);
    save(w.file.data, w.file.n);
    assert_int_equal(try_open(&err), CT_OK);
    gguf_free(&w);
}

static void names_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t n;
        const char *words;
    } files[] = {
        {"", 0, "an empty file"},
        {"G", 1, "does not begin with"},
        {"GGU", 3, "does not begin with"},
        {"GGML-something", 14, "does not begin with"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0", 55, "Git LFS pointer"},
        {"<!DOCTYPE html><html>", 21, "a web page"},
        {"\n <HTML lang=en>", 16, "a web page"},
        {"PK\x03\x04....", 8, "a zip archive"},
        {"\x1f\x8b\x08....", 7, "compressed"},
        {"\x20\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}    ", 45, "a safetensors file"},
        {"{\"error\": \"Entry not found\"}", 28, "a JSON file"},
        {"Entry not found", 15, "does not begin with"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0", 12, "nothing but zeros"},
        {"tjgg\1\0\0\0", 8, "older than GGUF"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        save(files[i].data, files[i].n);
        refused(CT_EFORMAT, files[i].words);
    }
    ct_error err;
    ct_tensors *t;
    assert_int_equal(ct_gguf_open(&t, "/nowhere/model.gguf", &err), CT_ENOTFOUND);
    assert_null(t);
    assert_int_equal(ct_gguf_open(&t, "/tmp", &err), CT_EIO);
}

/* ---- resources ----------------------------------------------------------------------------------------------------- */

static void survives_failing_allocations(void **state)
{
    (void)state;
    gguf_writer w;
    ct_error err;
    sample(&w, 3, 32);
    assert_int_equal(gguf_save(&w, path), 0);
    ct_status st = CT_ENOMEM;
    size_t n = 0;
    while (st != CT_OK) { /* until an n is reached that the reader does not need */
        ct_mem_fail_at(++n);
        st = try_open(&err);
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
    assert_int_equal(gguf_save(&w, path), 0);
    size_t calls = ct_mem_calls();
    uint64_t start = ct_now_ns();
    assert_int_equal(try_open(&err), CT_OK);
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
    for (size_t i = 0; ct_dtype_at(i); i++)
        assert_true(seen[ct_dtype_at(i)->type]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sound_files),        cmocka_unit_test(gives_typed_values),
        cmocka_unit_test(refuses_every_truncation), cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(survives_random_damage),   cmocka_unit_test(refuses_lying_counts_and_versions),
        cmocka_unit_test(refuses_lying_values),     cmocka_unit_test(refuses_odd_alignments),
        cmocka_unit_test(refuses_lying_tensors),    cmocka_unit_test(accepts_gaps_and_any_order),
        cmocka_unit_test(names_other_files),        cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(stays_in_proportion),      cmocka_unit_test(reads_the_fixtures),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
