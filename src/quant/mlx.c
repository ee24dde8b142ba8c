/* MLX's weight types: what a group means, and random ones. Affine groups of 2 to 8 bits in blocks of our own making (the three
 * tensors of a folder are interleaved, see formats/mlx.c), and mxfp4. Exact, slow, single-threaded, any alignment.
 *
 * With 16-bit scales every product is exact in a float, and the sum with the bias is the one rounding; with f32 scales the
 * product is rounded as well. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/dtype.h"
#include "quant/words.h"

enum scales { bf16, f16, f32 };

static inline uint32_t load_le(const uint8_t *p, size_t bytes)
{
    uint32_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * i;
    return v;
}

static inline float scale_at(const uint8_t *p, enum scales type)
{
    return type == f32    ? ct_f32_from_bits(load_le(p, 4))
           : type == bf16 ? ct_bf16_to_f32((uint16_t)load_le(p, 2))
                          : ct_f16_to_f32((uint16_t)load_le(p, 2));
}

static inline void put_scale(uint8_t *p, float v, enum scales type)
{
    float most = fmaxf(-65504.0f, fminf(v, 65504.0f));
    uint32_t u = type == f32 ? ct_bits_from_f32(v) : type == bf16 ? ct_f32_to_bf16(v) : ct_f32_to_f16(most);
    for (size_t i = 0; i < (type == f32 ? 4 : 2); i++)
        p[i] = (uint8_t)(u >> 8 * i);
}

/* Element k of a group is bits k*bits .. k*bits + bits-1 of a little-endian stream. x = scale q + bias. */
static inline void decode(float *dst, const uint8_t *p, size_t n_blocks, size_t bits, size_t group, enum scales type)
{
    const size_t wide = type == f32 ? 4 : 2;
    for (size_t i = 0; i < n_blocks; i++) {
        float scale = scale_at(p, type), bias = scale_at(p + wide, type);
        p += 2 * wide;
        for (size_t k = 0; k < group; k++) {
            const uint8_t *at = p + k * bits / 8;
            size_t shift = k * bits % 8;
            uint32_t q = load_le(at, shift + bits > 8 ? 2 : 1) >> shift & ((1u << bits) - 1);
            float product = scale * (float)q;
            *dst++ = product + bias;
        }
        p += group * bits / 8;
    }
}

/* Quants are uniform, with variance (4^bits - 1) / 12; the scale has a random sign and the bias takes the mean out. */
static inline void fill(uint8_t *p, size_t n_blocks, uint64_t key, uint64_t first, float sigma, size_t bits,
                        size_t group, enum scales type)
{
    const size_t wide = type == f32 ? 4 : 2, bytes = group * bits / 8, words = 1 + (bytes + 7) / 8;
    const float levels = (float)(1u << bits);
    float step = sigma / (sqrtf((levels * levels - 1) / 12) * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++) {
        uint64_t n = (first + i) * words, r = word(key, n);
        float scale = fmaxf(step * scale_factor(r),
                            0x1p-24f); /* never zero, whatever sigma is and the type of scales */
        scale = r >> 63 ? -scale : scale;
        put_scale(p, scale, type);
        put_scale(p + wide, -0.5f * (levels - 1) * scale_at(p, type), type);
        p += 2 * wide;
        for (size_t k = 0; k < bytes; k += 8) {
            uint8_t eight[8];
            store_u64(eight, word(key, n + 1 + k / 8));
            memcpy(p + k, eight, bytes - k < 8 ? bytes - k : 8);
        }
        p += bytes;
    }
}

#define CT_MLX(id, bits, group, suffix, scale_bytes)                                                        \
    void ct_decode_mlx##bits##_g##group##suffix(float *dst, const void *src, size_t n_blocks)               \
    {                                                                                                       \
        decode(dst, src, n_blocks, bits, group, (enum scales)(id % 10));                                    \
    }                                                                                                       \
    void ct_random_mlx##bits##_g##group##suffix(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, \
                                                uint64_t first_block, float sigma)                          \
    {                                                                                                       \
        fill(dst, n_blocks, key_of(seed, stream), first_block, sigma, bits, group, (enum scales)(id % 10)); \
    }
#include "quant/mlx.def"
#undef CT_MLX

const int8_t ct_e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* u8 e; u8 qs[16]: element k is the low (k even) or high nibble of qs[k/2], an E2M1 number. x = 2^(e - 127) V[n]; e = 0 stands
 * for 2^-127, e = 255 for NaN. */
void ct_decode_mxfp4(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 17, dst += 32) {
        float scale = p[0] == 255 ? NAN : ldexpf(0.5f, (int)p[0] - 127);
        for (size_t k = 0; k < 32; k++)
            dst[k] = scale * (float)ct_e2m1_twice[p[1 + k / 2] >> k % 2 * 4 & 15];
    }
}

/* The sixteen values have a mean square of 8.5625. Scales are powers of two: of the two around sigma's, each as often as makes
 * the mean square sigma^2. */
void ct_random_mxfp4(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = fmaxf(sigma / 2.92618f, 0x1p-100f);
    int low = ilogbf(step);
    float over = ldexpf(step, -low); /* 1 .. 2 */
    uint64_t often = (uint64_t)((over * over - 1.0f) / 3.0f * 65536.0f);
    for (size_t i = 0; i < n_blocks; i++, p += 17) {
        uint64_t n = (first_block + i) * 3;
        int e = low + 127 + ((word(key, n) >> 40 & 0xffff) < often);
        p[0] = (uint8_t)(e > 254 ? 254 : e);
        store_u64(p + 1, word(key, n + 1));
        store_u64(p + 9, word(key, n + 2));
    }
}
