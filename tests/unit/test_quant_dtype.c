/* The table of weight types: known vectors, corner cases of the 16-bit floats, names and sizes, the random fillers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/mem.h"
#include "quant/dtype.h"

static const ct_dtype_info *need(const char *name)
{
    const ct_dtype_info *t = ct_dtype_by_name(name);
    assert_non_null(t);
    return t;
}

/* Byte i of a block is (37 i + 11) mod 256, then d = 1 and m or dmin = 0.5 in half floats at their places. The values were
 * made with ggml's own decoders, those of the two iq4 types with gguf-py's (docs/FORMATS.md). */
static const struct vector {
    const char *name;
    int32_t d_at, dmin_at; /* byte offsets, -1 = none */
    double first[4], middle, last, sum, weighted;
} vectors[] = {
    {"q8_0", 0, -1, {85, 122, -97, -60}, -91, -48, -176, -8080},
    {"q4_0", 0, -1, {-3, 2, 7, -4}, -3, 0, -21, -518},
    {"q4_1", 0, 2, {15.5, 4.5, 9.5, 14.5}, 9.5, 12.5, 261, 4247},
    {"q5_0", 0, -1, {9, -2, 3, -8}, 14, 1, 15, 112},
    {"q5_1", 0, 2, {19.5, 24.5, 29.5, 18.5}, 19.5, 5.5, 521, 8165},
    {"q2_k", 80, 82, {33, 0, 11, 22}, 7.5, 4.5, 2059, 243130},
    {"q3_k", 108, -1, {81, -108, 27, -54}, 2, 42, 958, 177145},
    {"q4_k", 0, 2, {315.5, -25.5, 129.5, 284.5}, 423, 48.5, 54440, 7572840},
    {"q5_k", 0, 2, {811.5, -25.5, 625.5, 284.5}, 1047, 108.5, 116216, 16027448},
    {"q6_k", 208, -1, {-1431, 1696, 583, -530}, -351, -60, 4612, 784420},
    {"iq4_nl", 0, -1, {-35, 25, 113, -49}, -35, 1, -257, -6919},
    {"iq4_xs", 0, -1, {65, -1, -69, 83}, -585, -16, -11005, -2091134},
};

static void decodes_known_vectors(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++) {
        const struct vector *k = &vectors[v];
        const ct_dtype_info *t = need(k->name);
        for (size_t shift = 0; shift < 4; shift++) { /* sources need no alignment */
            uint8_t raw[256 + 4] = {0}, *block = raw + shift;
            float y[256];
            size_t n = (size_t)t->block_elems;
            for (int32_t i = 0; i < t->block_bytes; i++)
                block[i] = (uint8_t)(37 * i + 11);
            block[k->d_at] = 0x00;
            block[k->d_at + 1] = 0x3c;
            if (k->dmin_at >= 0) {
                block[k->dmin_at] = 0x00;
                block[k->dmin_at + 1] = 0x38;
            }
            t->decode(y, block, 1);
            double sum = 0, weighted = 0;
            for (size_t i = 0; i < n; i++) {
                sum += (double)y[i];
                weighted += (double)y[i] * (double)(i + 1);
            }
            for (size_t i = 0; i < 4; i++)
                assert_true((double)y[i] == k->first[i]);
            assert_true((double)y[n / 2] == k->middle);
            assert_true((double)y[n - 1] == k->last);
            assert_true(sum == k->sum);
            assert_true(weighted == k->weighted);
        }
    }
}

static void decodes_floats(void **state)
{
    (void)state;
    static const struct {
        uint16_t bits;
        float value;
    } halves[] = {{0x0000, 0.0f},     {0x0001, 0x1p-24f},  {0x03ff, 0x1.ff8p-15f}, {0x0400, 0x1p-14f},
                  {0x3c00, 1.0f},     {0xbc00, -1.0f},     {0x7bff, 65504.0f},     {0xfbff, -65504.0f},
                  {0x7c00, INFINITY}, {0xfc00, -INFINITY}, {0x3555, 0x1.554p-2f},  {0x8001, -0x1p-24f}};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        float y;
        uint8_t b[3] = {0, (uint8_t)halves[i].bits, (uint8_t)(halves[i].bits >> 8)};
        need("f16")->decode(&y, b + 1, 1);
        assert_true(y == halves[i].value);
    }
    float y[2];
    need("f16")->decode(y, "\x00\x80\x01\x7e", 2);
    assert_true(y[0] == 0.0f && signbit(y[0]));
    assert_true(isnan(y[1]));
    need("bf16")->decode(y, "\x80\x3f\x80\xff", 2); /* 1 and -inf */
    assert_true(y[0] == 1.0f && isinf(y[1]) && signbit(y[1]));
    need("f32")->decode(y, "\x00\x00\xc0\x3f\x01\x00\x00\x80", 2); /* 1.5 and the smallest negative number */
    assert_true(y[0] == 1.5f && y[1] == -0x1p-149f);
}

static void knows_names_and_sizes(void **state)
{
    (void)state;
    size_t n = 0;
    for (const ct_dtype_info *t; (t = ct_dtype_at(n)) != NULL; n++) {
        size_t bytes = 0;
        assert_ptr_equal(ct_dtype_get((int32_t)t->type), t);
        assert_ptr_equal(ct_dtype_by_name(t->name), t);
        assert_true(ct_row_bytes(t, (size_t)t->block_elems * 3, &bytes));
        assert_int_equal(bytes, t->block_bytes * 3);
        assert_true(ct_row_bytes(t, 0, &bytes) && bytes == 0);
        if (t->block_elems > 1)
            assert_false(ct_row_bytes(t, (size_t)t->block_elems + 1, &bytes));
        assert_true(t->block_elems % t->group == 0);
        assert_true(t->quantized == (t->group > 1));
    }
    assert_int_equal(n, 70);
    assert_null(ct_dtype_at(SIZE_MAX));
    size_t bytes;
    assert_false(ct_row_bytes(need("f32"), SIZE_MAX / 2, &bytes));
    assert_null(ct_dtype_get(-1));
    assert_null(ct_dtype_get(39)); /* MXFP4 of GGUF: known by name, not read */
    assert_null(ct_dtype_by_name(""));
    assert_null(ct_dtype_by_name("q4"));
    assert_string_equal(ct_gguf_type_name(3), "Q4_1");
    assert_string_equal(ct_gguf_type_name(12), "Q4_K");
    assert_string_equal(ct_gguf_type_name(23), "IQ4_XS");
    assert_string_equal(ct_gguf_type_name(42), "Q2_0");
    assert_string_equal(ct_gguf_type_name(4), "unknown"); /* withdrawn */
    assert_string_equal(ct_gguf_type_name(43), "unknown");
    assert_string_equal(ct_gguf_type_name(INT32_MIN), "unknown");
    assert_string_equal(ct_gguf_type_name(INT32_MAX), "unknown");
}

/* Fillers: finite, of the spread asked for, a pure function of (seed, stream, block), inside their bytes. */
static void fills_at_random(void **state)
{
    (void)state;
    const float sigmas[] = {1e-6f, 0.0068f, 0.02f, 1.0f, 100.0f};
    for (size_t k = 0; ct_dtype_at(k); k++) {
        const ct_dtype_info *t = ct_dtype_at(k);
        size_t n = 65536 / (size_t)t->block_elems, size = (size_t)t->block_bytes;
        uint8_t *a = ct_calloc(n + 2, size), *b = ct_calloc(n + 2, size);
        float *y = ct_calloc(65536, sizeof *y);
        assert_true(a && b && y);
        for (size_t s = 0; s < sizeof sigmas / sizeof sigmas[0]; s++) {
            memset(a, 0xee, (n + 2) * size);
            t->random(a + size, n, 42, 7, 1000, sigmas[s]);
            for (size_t i = 0; i < size; i++)
                assert_true(a[i] == 0xee && a[(n + 1) * size + i] == 0xee);
            t->decode(y, a + size, n);
            double mean = 0, square = 0;
            size_t zeros = 0;
            for (size_t i = 0; i < 65536; i++) {
                assert_true(isfinite(y[i]));
                mean += (double)y[i];
                square += (double)y[i] * (double)y[i];
                zeros += y[i] == 0.0f;
            }
            mean /= 65536;
            double spread = sqrt(square / 65536);
            assert_true(zeros < 65536 / 4);
            if (sigmas[s] >= 0.001f) { /* below, halves round scales to their smallest value */
                assert_true(fabs(spread / (double)sigmas[s] - 1) < 0.03);
                assert_true(fabs(mean) < 0.05 * (double)sigmas[s]);
            }
        }
        t->random(a, 16, 42, 7, 1000, 0.02f); /* the same blocks, drawn alone and from the middle */
        for (size_t i = 0; i < 16; i++) {
            memset(b, 0, size);
            t->random(b, 1, 42, 7, 1000 + i, 0.02f);
            assert_memory_equal(a + i * size, b, size);
        }
        t->random(b, 16, 43, 7, 1000, 0.02f);
        assert_memory_not_equal(a, b, 16 * size);
        t->random(b, 16, 42, 8, 1000, 0.02f);
        assert_memory_not_equal(a, b, 16 * size);
        ct_free(a);
        ct_free(b);
        ct_free(y);
    }
}

/* Every quant value must turn up: a kernel that is wrong for one of them may not hide behind the filler. */
static void fills_with_every_quant(void **state)
{
    (void)state;
    uint8_t block[34 * 512];
    bool seen[256] = {false};
    need("q4_0")->random(block, 512, 1, 1, 0, 1.0f);
    for (size_t i = 0; i < 512; i++)
        for (size_t j = 0; j < 16; j++)
            seen[block[18 * i + 2 + j] & 15] = seen[block[18 * i + 2 + j] >> 4] = true;
    for (size_t q = 0; q < 16; q++)
        assert_true(seen[q]);
    memset(seen, 0, sizeof seen);
    need("q5_0")->random(block, 512, 1, 1, 0, 1.0f);
    for (size_t i = 0; i < 512; i++) {
        const uint8_t *p = block + 22 * i;
        for (uint32_t j = 0; j < 32; j++)
            seen[(p[6 + j % 16] >> 4 * (j / 16) & 15) | (p[2 + j / 8] >> j % 8 & 1) << 4] = true;
    }
    for (size_t q = 0; q < 32; q++)
        assert_true(seen[q]);
    memset(seen, 0, sizeof seen);
    need("q8_0")->random(block, 512, 1, 1, 0, 1.0f);
    for (size_t i = 0; i < 512; i++)
        for (size_t j = 0; j < 32; j++)
            seen[block[34 * i + 2 + j]] = true;
    assert_false(seen[0x80]); /* -128 is not what encoders write */
    size_t n = 0;
    for (size_t q = 0; q < 256; q++)
        n += seen[q];
    assert_true(n > 240);
}

/* Likewise every bit of a block but those of its halves, set and clear: scales, minima and quants of all types. */
static void fills_with_every_bit(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++) {
        const ct_dtype_info *t = need(vectors[v].name);
        uint8_t block[256], ones[256] = {0}, zeros[256] = {0};
        for (uint64_t i = 0; i < 2048; i++) {
            t->random(block, 1, 1, 1, i, 1.0f);
            for (int32_t b = 0; b < t->block_bytes; b++) {
                ones[b] |= block[b];
                zeros[b] |= (uint8_t)~block[b];
            }
        }
        for (int32_t b = 0; b < t->block_bytes; b++) {
            int32_t d = b - vectors[v].d_at, m = b - vectors[v].dmin_at;
            if (d == 0 || d == 1 || (vectors[v].dmin_at >= 0 && (m == 0 || m == 1)))
                continue;
            if (ones[b] != 255 || zeros[b] != 255)
                fail_msg("%s: byte %d of a block never has the bits %02x set, %02x clear", t->name, b, 255 ^ ones[b],
                         255 ^ zeros[b]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_known_vectors),  cmocka_unit_test(decodes_floats),
        cmocka_unit_test(knows_names_and_sizes),  cmocka_unit_test(fills_at_random),
        cmocka_unit_test(fills_with_every_quant), cmocka_unit_test(fills_with_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
