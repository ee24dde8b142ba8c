/* Lies to the GGUF reader, told one at a time: counts, lengths, types, alignments, shapes, offsets, names, and files of other
 * kinds. Each must be refused by the sentence that names it. Random damage is in test_formats_gguf.c. */
#include "gguf_try.h"

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
        refused_file(&w, CT_EFORMAT, "tensors, found");
        sample(&w, 3, 32);
        put_u64_at(&w, 16, wild[i]);
        refused_file(&w, CT_EFORMAT, "metadata keys, found");
    }
    static const struct {
        uint32_t version;
        const char *words;
    } versions[] = {{0, "version 0"},           {1, "version 1"},           {4, "version 4"},
                    {0x03000000, "big-endian"}, {0x02000000, "big-endian"}, {UINT32_MAX, "version 4294967295"}};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        sample(&w, 3, 32);
        put_u32_at(&w, 4, versions[i].version);
        refused_file(&w, CT_EUNSUPPORTED, versions[i].words);
    }
}

/* A file with one key whose value part is given as bytes. */
static gguf_writer *with_value(const char *key, uint32_t type, const void *value, size_t bytes)
{
    static gguf_writer w; /* whoever tries it frees it */
    gguf_begin(&w, 3, 32);
    gguf_kv(&w, key, type, value, bytes);
    gguf_end(&w);
    return &w;
}

static void refuses_lying_values(void **state)
{
    (void)state;
    static const uint64_t wild[] = {1000,      UINT32_MAX, 1ull << 61,     1ull << 62,
                                    INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        refused_file(with_value("key", GGUF_STRING, &wild[i], 8), CT_EFORMAT, "a metadata string at byte");
        for (uint32_t type = GGUF_U8; type <= GGUF_F64; type++) {
            uint8_t array[12];
            memcpy(array, &type, 4);
            memcpy(array + 4, &wild[i], 8);
            bool nested = type == GGUF_ARRAY;
            refused_file(with_value("key", GGUF_ARRAY, array, 12), nested ? CT_EUNSUPPORTED : CT_EFORMAT,
                         nested ? "array of arrays" : "the array 'key' claims");
        }
        gguf_writer w;
        gguf_begin(&w, 3, 32);
        gguf_kv_u32(&w, "key", 1);
        gguf_end(&w);
        put_u64_at(&w, 24, wild[i]);
        refused_file(&w, CT_EFORMAT, "a metadata key");
    }
    refused_file(with_value("key", 13, "12345678", 8), CT_EFORMAT, "found 13");
    refused_file(with_value("key", UINT32_MAX, "12345678", 8), CT_EFORMAT, "found 4294967295");
    refused_file(with_value("key", GGUF_ARRAY, "\x0d\0\0\0\1\0\0\0\0\0\0\0\0", 13), CT_EFORMAT, "found 13");
    refused_file(with_value("key", GGUF_BOOL, "\2", 1), CT_EFORMAT, "0 or 1");
    refused_file(with_value("key", GGUF_ARRAY, "\7\0\0\0\3\0\0\0\0\0\0\0\0\1\2", 15), CT_EFORMAT, "0 or 1");
    refused_file(with_value("", GGUF_U32, "1234", 4), CT_EFORMAT, "metadata key of 1 to");
    /* nothing of a file reaches a terminal unchanged */
    refused_file(with_value("\x1b[31mred", GGUF_BOOL, "\2", 1), CT_EFORMAT, "'?[31mred'");
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv_u32(&w, "a", 1);
    gguf_kv_u32(&w, "b", 1);
    gguf_kv_u32(&w, "a", 1);
    gguf_end(&w);
    refused_file(&w, CT_EFORMAT, "'a' twice");
    char *big = malloc(70000); /* the longest key allowed, and one more */
    assert_non_null(big);
    memset(big, 'k', 70000);
    big[65535] = '\0';
    assert_int_equal(try_file(with_value(big, GGUF_U32, "1234", 4)), CT_OK);
    big[65535] = 'k';
    big[65536] = '\0';
    refused_file(with_value(big, GGUF_U32, "1234", 4), CT_EFORMAT, "found 65536");
    free(big);
}

static gguf_writer *with_alignment(uint32_t align)
{
    static gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv_u32(&w, "general.alignment", align);
    gguf_tensor(&w, "a", 1, (const uint64_t[]){8}, 0, "12345678123456781234567812345678", 32);
    gguf_end(&w);
    return &w;
}

static void refuses_odd_alignments(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0, 3, 24, 33, 0x80000001u, UINT32_MAX};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        refused_file(with_alignment(odd[i]), CT_EFORMAT, "power of two");
    }
    /* a power of two, but then the data lie beyond the end */
    refused_file(with_alignment(1u << 31), CT_EFORMAT, "truncated");
    refused_file(with_value("general.alignment", GGUF_STRING,
                            "\2\0\0\0\0\0\0\0"
                            "32",
                            10),
                 CT_EFORMAT, "general.alignment");
    refused_file(with_value("split.count", GGUF_U16, "\3\0", 2), CT_EUNSUPPORTED,
                 "part 1 of 3"); /* more of this in test_formats_split.c */
    assert_int_equal(try_file(with_value("split.count", GGUF_U16, "\1\0", 2)), CT_OK);
}

/* A file with a sound tensor of 32 bytes and then one that is described as asked. */
static gguf_writer *with_tensor(const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    static gguf_writer w;
    uint8_t data[64] = {0};
    gguf_begin(&w, 3, 32);
    gguf_tensor(&w, "first", 1, (const uint64_t[]){8}, 0, data, 32);
    gguf_tensor_info(&w, name, n_dims, ne, type, offset);
    gguf_pad(&w.data, 32);
    gguf_put(&w.data, data, 32);
    gguf_end(&w);
    return &w;
}

static void refuses_lying_tensors(void **state)
{
    (void)state;
    uint64_t eight[16] = {8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(try_file(with_tensor("x", 1, eight, 0, 32)), CT_OK);
    assert_int_equal(try_file(with_tensor("x", 4, eight, 0, 32)), CT_OK);
    refused_file(with_tensor("x", 0, eight, 0, 32), CT_EFORMAT, "1 to 4 dimensions");
    refused_file(with_tensor("x", 5, eight, 0, 32), CT_EFORMAT, "1 to 4 dimensions");
    refused_file(with_tensor("x", 15, eight, 0, 32), CT_EFORMAT, "1 to 4 dimensions");
    refused_file(with_tensor("first", 1, eight, 0, 32), CT_EFORMAT, "'first' twice");
    refused_file(with_tensor("", 1, eight, 0, 32), CT_EFORMAT, "a tensor name of 1 to 64 bytes");
    refused_file(with_tensor("12345678901234567890123456789012345678901234567890123456789012345", 1, eight, 0, 32),
                 CT_EFORMAT, "found 65");
    static const uint64_t offsets[] = {16, 33, 31, UINT64_MAX, UINT64_MAX - 31, 1ull << 63, INT64_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        assert_int_equal(try_file(with_tensor("x", 1, eight, 0, offsets[i])), CT_EFORMAT);
    }
    refused_file(with_tensor("x", 1, eight, 0, 64), CT_EFORMAT, "truncated");
    refused_file(with_tensor("x", 1, eight, 0, 0), CT_EFORMAT, "overlap");
    refused_file(with_tensor("x", 1, (const uint64_t[]){9}, 0, 32), CT_EFORMAT, "the end of the tensor 'x'");
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
            assert_int_equal(try_file(with_tensor("x", 4, shapes[i], types[k], 32)), CT_EFORMAT);
        }
    }
    refused_file(with_tensor("x", 1, (const uint64_t[]){33}, 8, 32), CT_EFORMAT, "q8_0 comes in blocks of 32");
    refused_file(with_tensor("x", 1, (const uint64_t[]){32}, 12, 32), CT_EFORMAT, "q4_k comes in blocks of 256");
    /* types */
    for (uint32_t type = 0; type < 64; type++)
        if (ct_dtype_get((int32_t)type) == NULL) {
            refused_file(with_tensor("x", 1, eight, type, 32), CT_EUNSUPPORTED, "the tensor 'x' has type");
        }
    refused_file(with_tensor("x", 1, eight, 22, 32), CT_EUNSUPPORTED, "type 22 (IQ2_S)");
    refused_file(with_tensor("x", 1, eight, UINT32_MAX, 32), CT_EUNSUPPORTED, "type 4294967295 (unknown)");
}

static void accepts_gaps_and_any_order(void **state)
{
    (void)state;
    gguf_writer w;
    uint8_t data[256] = {0};
    gguf_begin(&w, 3, 32);
    gguf_tensor_info(&w, "late", 1, (const uint64_t[]){8}, 0, 128);
    gguf_tensor_info(&w, "early", 1, (const uint64_t[]){8}, 0, 32);
    gguf_put(&w.data, data, sizeof data);
    gguf_end(&w);
    assert_int_equal(try_file(&w), CT_OK);
    gguf_begin(&w, 3, 32); /* no tensors at all: a vocabulary file */
    gguf_kv_u32(&w, "key", 1);
    gguf_end(&w);
    assert_int_equal(try_file(&w), CT_OK);
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
        refused(files[i].data, files[i].n, CT_EFORMAT, files[i].words);
    }
    ct_error err;
    ct_tensors *t;
    assert_int_equal(ct_gguf_open(&t, "/nowhere/model.gguf", &err), CT_ENOTFOUND);
    assert_null(t);
    assert_int_equal(ct_gguf_open(&t, "/tmp", &err), CT_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_lying_counts_and_versions),
        cmocka_unit_test(refuses_lying_values),
        cmocka_unit_test(refuses_odd_alignments),
        cmocka_unit_test(refuses_lying_tensors),
        cmocka_unit_test(accepts_gaps_and_any_order),
        cmocka_unit_test(names_other_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
