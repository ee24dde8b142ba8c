/* MLX's weight types: known vectors, every type against a reader of single bits, corner values of scales, names and ids. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "quant/dtype.h"

#define BLOCK_MAX (8 + 128)

static const int32_t all_bits[] = {2, 3, 4, 5, 6, 8}, all_groups[] = {32, 64, 128};
static const ct_dtype all_scales[] = {CT_BF16, CT_F16, CT_F32};

static size_t scale_bytes(ct_mlx m) { return m.scales == CT_F32 ? 4 : 2; }

static void put_scale(uint8_t *p, float v, ct_mlx m)
{
    uint32_t u = m.scales == CT_F32 ? ct_bits_from_f32(v) : m.scales == CT_F16 ? ct_f32_to_f16(v) : ct_f32_to_bf16(v);
    for (size_t i = 0; i < scale_bytes(m); i++)
        p[i] = (uint8_t)(u >> 8 * i);
}

/* Byte i of the quants is (37 i + 11) mod 256, the scale -1, the bias 0.5, 64 elements. The values are those of
 * mlx.core.dequantize 0.32.4. */
static void decodes_known_vectors(void **state)
{
    (void)state;
    static const struct {
        int32_t bits;
        float first[4], middle, last;
        double sum, weighted;
    } vectors[] = {
        {2, {-2.5f, -1.5f, 0.5f, 0.5f}, -2.5f, 0.5f, -61, -2027},
        {3, {-2.5f, -0.5f, 0.5f, 0.5f}, -6.5f, -1.5f, -197, -6949},
        {4, {-10.5f, 0.5f, 0.5f, -2.5f}, -10.5f, -7.5f, -434, -14260},
        {5, {-10.5f, 0.5f, -11.5f, -9.5f}, -14.5f, -20.5f, -931, -30765},
        {6, {-10.5f, 0.5f, -18.5f, -20.5f}, -2.5f, -52.5f, -2008, -64225},
        {8, {-10.5f, -47.5f, -84.5f, -121.5f}, -170.5f, -37.5f, -8192, -273552},
    };
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++)
        for (size_t s = 0; s < 3; s++) {
            ct_mlx m = {vectors[v].bits, 64, all_scales[s]};
            const ct_dtype_info *t = ct_mlx_dtype(m);
            uint8_t raw[BLOCK_MAX + 1], *block = raw + 1; /* sources need no alignment */
            float y[64];
            double sum = 0, weighted = 0;
            assert_non_null(t);
            put_scale(block, -1.0f, m);
            put_scale(block + scale_bytes(m), 0.5f, m);
            for (int32_t i = 0; i < 8 * m.bits; i++)
                block[2 * scale_bytes(m) + (size_t)i] = (uint8_t)(37 * i + 11);
            t->decode(y, block, 1);
            for (size_t i = 0; i < 64; i++) {
                sum += (double)y[i];
                weighted += (double)y[i] * (double)(i + 1);
            }
            assert_memory_equal(y, vectors[v].first, sizeof vectors[v].first);
            assert_true(y[32] == vectors[v].middle && y[63] == vectors[v].last);
            assert_true(sum == vectors[v].sum && weighted == vectors[v].weighted);
        }
    uint8_t block[17] = {128};
    float y[32];
    double sum = 0, weighted = 0;
    for (int32_t i = 0; i < 16; i++)
        block[1 + i] = (uint8_t)(37 * i + 11);
    ct_dtype_get(CT_MXFP4)->decode(y, block, 1);
    for (size_t i = 0; i < 32; i++) {
        sum += (double)y[i];
        weighted += (double)y[i] * (double)(i + 1);
    }
    assert_true(y[0] == -3.0f && y[1] == 0.0f && y[3] == 3.0f && y[16] == 3.0f && y[31] == 3.0f);
    assert_true(sum == 19 && weighted == 418);
}

static void decodes_every_type_bit_by_bit(void **state)
{
    (void)state;
    for (size_t b = 0; b < 6; b++)
        for (size_t g = 0; g < 3; g++)
            for (size_t s = 0; s < 3; s++) {
                ct_mlx m = {all_bits[b], all_groups[g], all_scales[s]};
                const ct_dtype_info *t = ct_mlx_dtype(m);
                uint8_t blocks[2 * (BLOCK_MAX + 8)];
                float y[2 * 128];
                assert_non_null(t);
                t->random(blocks, 2, 3, 4, 5, 0.02f);
                t->decode(y, blocks, 2);
                for (int32_t i = 0; i < 2 * m.group; i++) {
                    const uint8_t *block = blocks + i / m.group * t->block_bytes;
                    const uint8_t *q = block + 2 * scale_bytes(m);
                    uint32_t n = 0;
                    for (int32_t k = 0; k < m.bits; k++) {
                        int32_t at = i % m.group * m.bits + k;
                        n |= (uint32_t)(q[at / 8] >> at % 8 & 1) << k;
                    }
                    float pair[2];
                    ct_dtype_get((int32_t)m.scales)->decode(pair, block, 2);
                    float product = pair[0] * (float)n;
                    assert_true(y[i] == product + pair[1]);
                }
            }
}

static void decodes_corner_scales(void **state)
{
    (void)state;
    uint8_t block[17];
    float y[32];
    memset(block, 0x72, sizeof block); /* 1, 6 */
    const ct_dtype_info *t = ct_dtype_get(CT_MXFP4);
    block[0] = 0;
    t->decode(y, block, 1);
    assert_true(y[0] == 0x1p-127f && y[1] == 6 * 0x1p-127f);
    block[0] = 254;
    t->decode(y, block, 1);
    assert_true(y[0] == 0x1p127f && isinf(y[1]));
    block[0] = 255;
    t->decode(y, block, 1);
    assert_true(isnan(y[0]) && isnan(y[1]));
    uint8_t nan[20] = {0xc0, 0x7f}; /* a bf16 NaN for a scale: what it touches is NaN, and the packers refuse it */
    ct_dtype_get(CT_MLX4_G32)->decode(y, nan, 1);
    assert_true(isnan(y[0]) && isnan(y[31]));
}

static void knows_names_and_ids(void **state)
{
    (void)state;
    size_t affine = 0;
    ct_mlx m;
    for (size_t i = 0; ct_dtype_at(i); i++) {
        const ct_dtype_info *t = ct_dtype_at(i);
        if (!ct_mlx_of(t, &m))
            continue;
        affine++;
        assert_ptr_equal(ct_mlx_dtype(m), t);
        assert_int_equal(t->block_elems, m.group);
        assert_int_equal(t->block_bytes, m.group * m.bits / 8 + 2 * (int32_t)scale_bytes(m));
    }
    assert_int_equal(affine, 54);
    assert_ptr_equal(ct_mlx_dtype((ct_mlx){4, 64, CT_BF16}), ct_dtype_by_name("mlx4_g64"));
    assert_ptr_equal(ct_mlx_dtype((ct_mlx){8, 128, CT_F32}), ct_dtype_by_name("mlx8_g128_f32"));
    assert_ptr_equal(ct_dtype_get(CT_MLX3_G32_F16), ct_dtype_by_name("mlx3_g32_f16"));
    assert_null(ct_mlx_dtype((ct_mlx){7, 64, CT_BF16}));
    assert_null(ct_mlx_dtype((ct_mlx){1, 64, CT_BF16}));
    assert_null(ct_mlx_dtype((ct_mlx){9, 64, CT_BF16}));
    assert_null(ct_mlx_dtype((ct_mlx){4, 16, CT_BF16}));
    assert_null(ct_mlx_dtype((ct_mlx){4, 256, CT_BF16}));
    assert_null(ct_mlx_dtype((ct_mlx){4, 64, CT_Q4_0}));
    assert_false(ct_mlx_of(ct_dtype_get(CT_MXFP4), &m));
    assert_false(ct_mlx_of(ct_dtype_get(CT_Q8_0), &m));
    /* No GGUF file may claim them by their id. */
    assert_null(ct_dtype_of_gguf(CT_MLX4_G64));
    assert_null(ct_dtype_of_gguf(CT_MXFP4));
    assert_null(ct_dtype_of_gguf((uint64_t)1 << 32));
    assert_ptr_equal(ct_dtype_of_gguf(2), ct_dtype_get(CT_Q4_0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_known_vectors),
        cmocka_unit_test(decodes_every_type_bit_by_bit),
        cmocka_unit_test(decodes_corner_scales),
        cmocka_unit_test(knows_names_and_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
