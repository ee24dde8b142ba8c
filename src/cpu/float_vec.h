/* Products of float weights, and activations into planes, for any vectors. Included after vec_<isa>.h.
 *
 * bf16, f16 and f32 weights are multiplied as f32 with f32 activations, for prompts too: without a bf16 dot product, rounding
 * the activations would save nothing. Two chains per result, even and odd columns, added at the end. */
#ifndef CT_CPU_FLOAT_VEC_H
#define CT_CPU_FLOAT_VEC_H

/* Columns 2k and 2k+1 of one part; the second of an odd last pair must not be asked of f16 and f32. */
INLINE vf column(int type, const uint8_t *tile, size_t k, int part)
{
    if (type == CT_F32)
        return vf_load(tile + k * 64 + part * LANES * 4);
    if (type == CT_F16)
        return vf_f16(tile + k * 32 + part * LANES * 2);
    vi pair = vi_load(tile + k / 2 * 64 + part * LANES * 4);
    return k & 1 ? vf_bf16_second(pair) : vf_bf16_first(pair);
}

#define MOST_VECS (VECS > PARTS ? VECS : PARTS)

/* vecs vectors of results (from the first-th of the tiles' parts) times n rows. */
INLINE void mul_vectors(int type, int first, int vecs, int n, const uint8_t *const tile[2], const struct acts *a,
                        int32_t row, float *out)
{
    vf even[MOST_VECS][GEMM_ROWS], odd[MOST_VECS][GEMM_ROWS];
    UNROLL for (int j = 0; j < vecs; j++) { UNROLL for (int t = 0; t < n; t++) even[j][t] = odd[j][t] = vf_set(0); }
    const float *x = a->x + (size_t)row * a->stride;
    size_t k = 0, cols = (size_t)a->cols;
    for (; k + 2 <= cols; k += 2)
        UNROLL for (int j = 0; j < vecs; j++)
        {
            const uint8_t *w = tile[(first + j) / PARTS];
            vf w0 = column(type, w, k, (first + j) % PARTS), w1 = column(type, w, k + 1, (first + j) % PARTS);
            UNROLL for (int t = 0; t < n; t++)
            {
                even[j][t] = vf_fma(w0, vf_set(x[(size_t)t * a->stride + k]), even[j][t]);
                odd[j][t] = vf_fma(w1, vf_set(x[(size_t)t * a->stride + k + 1]), odd[j][t]);
            }
        }
    UNROLL for (int j = 0; j < vecs; j++)
    {
        int i = (first + j) / PARTS, part = (first + j) % PARTS;
        UNROLL for (int t = 0; t < n; t++)
        {
            if (k < cols)
                even[j][t] = vf_fma(column(type, tile[i], k, part), vf_set(x[(size_t)t * a->stride + k]), even[j][t]);
            vf_store(out + (i * n + t) * TILE + part * LANES, even[j][t] + odd[j][t]);
        }
    }
}

INLINE void dot_floats(int type, int n, const uint8_t *tile, const struct acts *a, int32_t row, float *out)
{
    const uint8_t *const p[2] = {tile, tile};
    if (n <= FEW_ROWS)
        mul_vectors(type, 0, PARTS, n, p, a, row, out);
    else
        for (int first = 0; first < PARTS; first += VECS)
            mul_vectors(type, first, VECS < PARTS ? VECS : PARTS, n, p, a, row, out);
}

INLINE void gemm_floats(int type, int n, const uint8_t *const p[2], const struct acts *a, int32_t row, float *out)
{
    for (int first = 0; first < 2 * PARTS; first += VECS)
        mul_vectors(type, first, VECS, n, p, a, row, out);
}

#define DOT_FLOAT(name, type)                                                                               \
    static void KERNEL(dot_##name)(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,   \
                                   const struct init *init, int32_t row, int32_t n, bool exact, float *out) \
    {                                                                                                       \
        (void)tt;                                                                                           \
        (void)init;                                                                                         \
        (void)exact;                                                                                        \
        switch (n) {                                                                                        \
        case 1: dot_floats(type, 1, tile, a, row, out); break;                                              \
        case 2: dot_floats(type, 2, tile, a, row, out); break;                                              \
        case 3: dot_floats(type, 3, tile, a, row, out); break;                                              \
        default: dot_floats(type, 4, tile, a, row, out); break;                                             \
        }                                                                                                   \
    }
DOT_FLOAT(bf16, CT_BF16)
DOT_FLOAT(f16, CT_F16)
DOT_FLOAT(f32, CT_F32)

#define GEMM_FLOAT(name, type)                                                                                         \
    static void KERNEL(gemm_##name)(const struct tile_type *tt, const struct panel *a, const struct panel *b,          \
                                    const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact, \
                                    float *out)                                                                        \
    {                                                                                                                  \
        (void)tt;                                                                                                      \
        (void)init;                                                                                                    \
        (void)exact;                                                                                                   \
        const uint8_t *const p[2] = {a->tile, b ? b->tile : a->tile};                                                  \
        switch (n) {                                                                                                   \
        case 1: gemm_floats(type, 1, p, x, row, out); break;                                                           \
        case 2: gemm_floats(type, 2, p, x, row, out); break;                                                           \
        case 3: gemm_floats(type, 3, p, x, row, out); break;                                                           \
        case 4: gemm_floats(type, 4, p, x, row, out); break;                                                           \
        case 5: gemm_floats(type, 5, p, x, row, out); break;                                                           \
        default: gemm_floats(type, 6, p, x, row, out); break;                                                          \
        }                                                                                                              \
    }
GEMM_FLOAT(bf16, CT_BF16)
GEMM_FLOAT(f32, CT_F32)

/* bf16 and f32 serve as they are packed; f16 is converted once for all rows. */
static void KERNEL(unpack_packed)(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)tt;
    (void)cols;
    p->tile = tile;
}

static void KERNEL(unpack_f16)(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)tt;
    p->tile = p->q;
    for (size_t i = 0; i < (size_t)cols * TILE; i += LANES)
        vf_store(p->q + i * 4, vf_f16(tile + i * 2));
}

/* ---- activations ---- */

/* Sixteen numbers into planes; returns their sum. */
INLINE int32_t planes16(const float *x, vf inv, int8_t *hi, int8_t *lo)
{
    vi high[PARTS], low[PARTS], sum = vi_set32(0);
    UNROLL for (int i = 0; i < PARTS; i++)
    {
        vi q = vi_round(vf_load(x + i * LANES) * inv);
        sum = vi_add32(sum, q);
        high[i] = q;
        if (lo) {
            high[i] = vi_sar32i(vi_add32(q, vi_set32(128)), 8);
            low[i] = vi_sub32(q, vi_shl32i(high[i], 8));
        }
    }
    vi_store_s8(hi, high);
    if (lo)
        vi_store_s8(lo, low);
    return vi_sum(sum);
}

static void KERNEL(quantize)(const float *x, int32_t cols, int8_t *hi, int8_t *lo, float *scale, int32_t *sum,
                             float *scaled_sum)
{
    const float full = lo ? 32512.0f : 127.0f; /* 127 * 256: the high plane stays within -127..127 */
    for (int32_t g = 0; g < cols / 32; g++) {
        vf top = vf_set(0);
        bool bad = false;
        UNROLL for (int i = 0; i < 2 * PARTS; i++)
        {
            vf v = vf_load(x + g * 32 + i * LANES);
            bad = bad || vf_not_finite(v);
            top = vf_max(top, vf_abs(v));
        }
        float amax = bad ? 0 : vf_top(top), inv = amax > 0 ? full / amax : 0;
        if (!(inv <= 3e38f)) /* amax below 1e-34: as good as zero */
            inv = 0;
        float s = inv > 0 ? amax / full : 0;
        if (bad) {
            /* NaN and infinity must come out as NaN, not as a number: the scale carries them through every product. */
            s = __builtin_nanf("");
            memset(hi + g * 32, 0, 32);
            if (lo)
                memset(lo + g * 32, 0, 32);
            sum[2 * g] = sum[2 * g + 1] = 0;
        } else {
            UNROLL for (int h = 0; h < 2; h++)
            {
                int32_t at = g * 32 + h * 16;
                sum[2 * g + h] = planes16(x + at, vf_set(inv), hi + at, lo ? lo + at : NULL);
            }
        }
        scale[g] = s;
        scaled_sum[g] = s * (float)(sum[2 * g] + sum[2 * g + 1]);
    }
}

static void fill_float(struct kernels *k)
{
    k->quantize = KERNEL(quantize);
    k->dot[CT_BF16] = KERNEL(dot_bf16);
    k->dot[CT_F16] = KERNEL(dot_f16);
    k->dot[CT_F32] = KERNEL(dot_f32);
    k->unpack[CT_BF16] = k->unpack[CT_F32] = KERNEL(unpack_packed);
    k->unpack[CT_F16] = KERNEL(unpack_f16);
    k->gemm[TILE_BF16] = KERNEL(gemm_bf16);
    k->gemm[TILE_F32] = KERNEL(gemm_f32);
}

#endif
