/* Linear kernels for AVX-512 with VNNI: products straight from packed tiles (decode), unpacking into panels (prompts), and
 * activations into planes. Layouts: tile.h, loaders: load_avx512.h. Arithmetic and order: kernels.h; dot and gemm (gemm_avx512.c)
 * give the same bits.
 *
 * Floor of decode: a group of 16 rows x 32 columns is 168 to 544 bytes, 40 to 120 cycles of one core's share of memory; the
 * two-plane product takes 16 dot instructions and about 20 others, so decode waits for memory with every type. */
#include "cpu/load_avx512.h"

/* d += quads of weights times one quad of activations at x, which the instruction broadcasts itself. Broadcasts of their own take
 * as many slots of the core again: with them a group of q8_0 times one row is 18.9 cycles (of a 2.6 GHz clock), so 13.7, and
 * the floor, 16 products at one per cycle, 11.8. Compilers do not make this form of the intrinsic. */
INLINE __m512i dot4(__m512i d, __m512i w, const int8_t *x)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(d) : "v"(w), "m"(*(const int32_t(*)[1])(const void *)x));
    return d;
}

/* The integer sums of `quads` quads of a group: exact rows add 256 times the high plane. The planes are two chains: a product
 * waits four cycles for the one before it. */
INLINE __m512i int_sum(int from, int quads, const struct group *q, const int8_t *hi, const int8_t *lo, int32_t init,
                       bool exact)
{
    __m512i d = _mm512_set1_epi32(init), high = _mm512_setzero_si512();
    UNROLL for (int v = 0; v < quads; v++)
    {
        if (exact)
            high = dot4(high, q->w[from + v], hi + v * 4);
        d = dot4(d, q->w[from + v], (exact ? lo : hi) + v * 4);
    }
    return exact ? _mm512_add_epi32(_mm512_slli_epi32(high, 8), d) : d;
}

/* Asks for the bytes that a stream of groups (bytes each) will want AHEAD later, into the second-level cache: the hardware's
 * prefetcher loses the thread at the many loads of activations between two groups. One core, q8_0 on a Zen 4 that reads 15-19
 * GB/s at that minute: 8 GB/s without, 7-11 into the first-level cache (its few miss buffers fill up), 14-16 like this. */
#define AHEAD 8192
INLINE void prefetch(const uint8_t *tile, int32_t g, size_t bytes, int lines)
{
    const char *p = (const char *)tile + (size_t)g * bytes + AHEAD;
    UNROLL for (int v = 0; v < lines; v++) _mm_prefetch(p + v * 64, _MM_HINT_T1);
}

/* One group times n rows, added to acc[n]. */
INLINE void dot_group(load_fn *load, size_t bytes, int lines, int halves, bool has_min, int n, bool exact, int32_t g,
                      const struct tile_type *tt, const uint8_t *tile, const struct acts *a, const struct init *init,
                      int32_t row, __m512 *acc)
{
    struct group q;
    load(tile, tt, g, &q);
    if (a->ahead)
        prefetch(tile, g, bytes, lines);
    UNROLL for (int t = 0; t < n; t++)
    {
        size_t r = (size_t)(row + t), at = r * (size_t)a->groups + (size_t)g;
        const int8_t *hi = a->hi + r * (size_t)a->cols + g * 32;
        const int8_t *lo = exact ? a->lo + r * (size_t)a->cols + g * 32 : NULL;
        __m512 sa = _mm512_set1_ps(a->scale[at]);
        UNROLL for (int h = 0; h < halves; h++)
        {
            int quads = 8 / halves, from = h * quads;
            __m512i d = int_sum(from, quads, &q, hi + from * 4, exact ? lo + from * 4 : NULL,
                                init->v[at * (size_t)halves + (size_t)h], exact);
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_mul_ps(q.s[h], sa), acc[t]);
            if (has_min) {
                float sum = halves == 1 ? a->scaled_sum[at] : a->half_sum[2 * at + (size_t)h];
                acc[t] = _mm512_fnmadd_ps(q.m[h], _mm512_set1_ps(sum), acc[t]);
            }
        }
    }
}

/* `per` groups to a round of the loop: 4 for types in super-blocks, whose loaders then know their shifts. */
INLINE void dot_int(load_fn *load, size_t bytes, int lines, int per, int halves, bool has_min, int n, bool exact,
                    const struct tile_type *tt, const uint8_t *tile, const struct acts *a, const struct init *init,
                    int32_t row, float *out)
{
    __m512 acc[DOT_ROWS];
    UNROLL for (int t = 0; t < n; t++) acc[t] = _mm512_setzero_ps();
    for (int32_t g = 0; g < a->groups; g += per)
        UNROLL for (int u = 0; u < per; u++)
            dot_group(load, bytes, lines, halves, has_min, n, exact, per == 1 ? g : (g & ~(per - 1)) + u, tt, tile, a,
                      init, row, acc);
    UNROLL for (int t = 0; t < n; t++) _mm512_storeu_ps(out + t * TILE, acc[t]);
}

/* The compiler makes one body per number of rows and planes. */
#define DOT_BODY(name, bytes, lines, per, halves, has_min, n, exact)                                 \
    dot_int(load_##name, bytes, lines, per, halves, has_min, n, exact, tt, tile, a, init, row, out); \
    break
#define DOT_INT(name, bytes, lines, per, halves, has_min)                                                              \
    static void dot_##name##_avx512(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,             \
                                    const struct init *init, int32_t row, int32_t n, bool exact, float *out)           \
    {                                                                                                                  \
        switch (n * 2 + exact) {                                                                                       \
        case 2: DOT_BODY(name, bytes, lines, per, halves, has_min, 1, false);                                          \
        case 3: DOT_BODY(name, bytes, lines, per, halves, has_min, 1, true);                                           \
        case 4: DOT_BODY(name, bytes, lines, per, halves, has_min, 2, false);                                          \
        case 5: DOT_BODY(name, bytes, lines, per, halves, has_min, 2, true);                                           \
        case 6: DOT_BODY(name, bytes, lines, per, halves, has_min, 3, false);                                          \
        case 7: DOT_BODY(name, bytes, lines, per, halves, has_min, 3, true);                                           \
        case 8: DOT_BODY(name, bytes, lines, per, halves, has_min, 4, false);                                          \
        default: DOT_BODY(name, bytes, lines, per, halves, has_min, 4, true);                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void unpack_##name##_avx512(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p) \
    {                                                                                                                  \
        for (int32_t g = 0; g < cols / 32; g++) {                                                                      \
            struct group q;                                                                                            \
            load_##name(tile, tt, g, &q);                                                                              \
            prefetch(tile, g, bytes, lines);                                                                           \
            UNROLL for (int v = 0; v < 8; v++) _mm512_store_si512(p->q + (size_t)g * 512 + v * 64, q.w[v]);            \
            UNROLL for (int h = 0; h < halves; h++) _mm512_store_ps(p->scale + (g * halves + h) * TILE, q.s[h]);       \
            if (has_min) {                                                                                             \
                UNROLL for (int h = 0; h < halves; h++) _mm512_store_ps(p->min + (g * halves + h) * TILE, q.m[h]);     \
            }                                                                                                          \
        }                                                                                                              \
    }
DOT_INT(q8_0, 544, 9, 1, 1, false)
DOT_INT(q4_0, 288, 5, 1, 1, false)
DOT_INT(q4_1, 320, 5, 1, 1, true)
DOT_INT(q5_0, 352, 6, 1, 1, false)
DOT_INT(q5_1, 384, 6, 1, 1, true)
DOT_INT(q2_k, 168, 3, 1, 2, true)
DOT_INT(q3_k, 220, 4, 1, 2, false)
DOT_INT(q4_k, 288, 5, 4, 1, true)
DOT_INT(q5_k, 352, 6, 4, 1, true)
DOT_INT(q6_k, 420, 7, 4, 2, false)
DOT_INT(iq4_nl, 288, 5, 1, 1, false)
DOT_INT(iq4_xs, 272, 5, 1, 1, false)
/* A line more than the quants take: that of the scales. */
#define DOT_MLX(name, bits) DOT_INT(name, mlx_group_bytes(&tt->mlx), bits + 1, 1, 1, true)
DOT_MLX(mlx2, 2)
DOT_MLX(mlx3, 3)
DOT_MLX(mlx4, 4)
DOT_MLX(mlx5, 5)
DOT_MLX(mlx6, 6)
DOT_MLX(mlx8, 8)
DOT_INT(mxfp4, mlx_group_bytes(&tt->mlx), 5, 1, 1, false)

/* ---- activations ---- */

static void quantize_avx512(const float *x, int32_t cols, int8_t *hi, int8_t *lo, float *scale, int32_t *sum,
                            float *scaled_sum)
{
    const float full = lo ? 32512.0f : 127.0f; /* 127 * 256: the high plane stays within -127..127 */
    for (int32_t g = 0; g < cols / 32; g++) {
        __m512 a = _mm512_loadu_ps(x + g * 32), b = _mm512_loadu_ps(x + g * 32 + 16);
        float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        /* NaN and infinity must come out as NaN, not as a number: the scale carries them through every product. */
        __mmask16 bad = _mm512_fpclass_ps_mask(a, 0x99) | _mm512_fpclass_ps_mask(b, 0x99);
        float inv = amax > 0 ? full / amax : 0;
        if (!(inv <= 3e38f))
            inv = 0;
        float s = inv > 0 ? amax / full : 0;
        if (bad) {
            s = __builtin_nanf("");
            inv = 0;
            a = b = _mm512_setzero_ps(); /* their integers would overflow the sums */
        }
        __m512 vi = _mm512_set1_ps(inv);
        __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, vi)), qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, vi));
        if (lo) {
            __m512i half = _mm512_set1_epi32(128);
            __m512i ha = _mm512_srai_epi32(_mm512_add_epi32(qa, half), 8);
            __m512i hb = _mm512_srai_epi32(_mm512_add_epi32(qb, half), 8);
            __m512i la = _mm512_sub_epi32(qa, _mm512_slli_epi32(ha, 8)),
                    lb = _mm512_sub_epi32(qb, _mm512_slli_epi32(hb, 8));
            _mm_storeu_si128((__m128i *)(void *)(lo + g * 32), _mm512_cvtepi32_epi8(la));
            _mm_storeu_si128((__m128i *)(void *)(lo + g * 32 + 16), _mm512_cvtepi32_epi8(lb));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32), _mm512_cvtepi32_epi8(ha));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32 + 16), _mm512_cvtepi32_epi8(hb));
        } else {
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32), _mm512_cvtepi32_epi8(qa));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32 + 16), _mm512_cvtepi32_epi8(qb));
        }
        sum[2 * g] = _mm512_reduce_add_epi32(qa);
        sum[2 * g + 1] = _mm512_reduce_add_epi32(qb);
        scale[g] = s;
        scaled_sum[g] = s * (float)(sum[2 * g] + sum[2 * g + 1]);
    }
}

void ct_cpu_linear_avx512(struct kernels *k)
{
    k->quantize = quantize_avx512;
#define SET(type, name)                 \
    k->dot[type] = dot_##name##_avx512; \
    k->unpack[type] = unpack_##name##_avx512;
    SET(CT_Q8_0, q8_0)
    SET(CT_Q4_0, q4_0)
    SET(CT_Q4_1, q4_1)
    SET(CT_Q5_0, q5_0)
    SET(CT_Q5_1, q5_1)
    SET(CT_Q2_K, q2_k)
    SET(CT_Q3_K, q3_k)
    SET(CT_Q4_K, q4_k)
    SET(CT_Q5_K, q5_k)
    SET(CT_Q6_K, q6_k)
    SET(CT_IQ4_NL, iq4_nl)
    SET(CT_IQ4_XS, iq4_xs)
    SET(KERNEL_MLX + 2, mlx2)
    SET(KERNEL_MLX + 3, mlx3)
    SET(KERNEL_MLX + 4, mlx4)
    SET(KERNEL_MLX + 5, mlx5)
    SET(KERNEL_MLX + 6, mlx6)
    SET(KERNEL_MLX + 8, mlx8)
    SET(KERNEL_MXFP4, mxfp4)
#undef SET
    ct_cpu_gemm_avx512(k);
    ct_cpu_float_avx512(k);
}
