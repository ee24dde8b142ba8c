/* Products of panels for Arm's int8 matrix instruction (i8mm): 2 rows of weights x 8 columns times 2 rows of activations, twice
 * the products of a dot product instruction. Everything else of the set is NEON's.
 *
 * Panels: [groups][4 pairs of quads][4 parts][2] vectors of 2 rows x 8 columns, signed: wide quants have their offset taken
 * out, narrow ones are as they are. Sums are the same integers, so dot (NEON's) gives the same bits. */
#include "cpu/vec_neon.h"
#undef KERNEL
#define KERNEL(name) name##_i8mm
#include "cpu/load_vec.h"

INLINE void panel_store(uint8_t *q, int part, const vi w[8], bool wide)
{
    UNROLL for (int v = 0; v < 8; v += 2)
    {
        vi flip = vi_set8(wide ? -128 : 0), a = vi_xor(w[v], flip), b = vi_xor(w[v + 1], flip);
        vi_store(q + v * 64 + part * 32, vzip1q_s32(a, b));
        vi_store(q + v * 64 + part * 32 + 16, vzip2q_s32(a, b));
    }
}

#include "cpu/unpack_vec.h"

#define GEMM_CHUNK 8                /* groups whose activations are prepared at once */
#define PAIRS ((GEMM_ROWS + 1) / 2) /* of rows of activations */

/* A group of two rows of activations: [pairs of quads] x (8 columns of one row, 8 of the other). */
struct xpair {
    int8x16_t hi[4], lo[4];
};

INLINE void zip_rows(int8x16_t out[4], const int8_t *a, const int8_t *b)
{
    UNROLL for (int i = 0; i < 2; i++)
    {
        int64x2_t ra = vreinterpretq_s64_s8(vld1q_s8(a + i * 16));
        int64x2_t rb = b ? vreinterpretq_s64_s8(vld1q_s8(b + i * 16)) : vdupq_n_s64(0);
        out[i * 2] = vreinterpretq_s8_s64(vzip1q_s64(ra, rb));
        out[i * 2 + 1] = vreinterpretq_s8_s64(vzip2q_s64(ra, rb));
    }
}

struct block {
    const struct panel *const *p; /* [2] */
    const struct acts *a;
    const struct init *init;
    const float *sums; /* as in gemm_vec.h */
    int32_t row, halves;
    bool wide;
};

/* The integer sums of one part (4 rows of weights) and one pair of rows over a half group: steps 2h, 2h+1. */
INLINE void half_sum(int32x4_t d[2], const int8x16_t *w, const int8x16_t x[2])
{
    UNROLL for (int s = 0; s < 2; s++)
    {
        d[0] = vmmlaq_s32(d[0], w[s * 2], x[s]);
        d[1] = vmmlaq_s32(d[1], w[s * 2 + 1], x[s]);
    }
}

/* One part of panel i times n rows, groups g0..g1-1. out holds the sums so far. */
INLINE void gemm_part(const struct block *b, int i, int part, int n, bool exact, size_t g0, size_t g1,
                      struct xpair x[][PAIRS], float *out)
{
    const struct panel *p = b->p[i];
    const size_t groups = (size_t)b->a->groups, halves = (size_t)b->halves;
    vf acc[GEMM_ROWS];
    UNROLL for (int t = 0; t < n; t++) acc[t] = vf_load(out + (i * n + t) * TILE + part * LANES);
    for (size_t g = g0; g < g1; g++) {
        int32x4_t d[PAIRS][2];
        UNROLL for (int h = 0; h < 2; h++)
        {
            int8x16_t w[4];
            UNROLL for (int s = 0; s < 4; s++) w[s] = vld1q_s8(
                (const int8_t *)p->q + g * 512 + (size_t)((h * 2 + s / 2) * 128 + part * 32 + s % 2 * 16));
            UNROLL for (int t = 0; t < n; t += 2)
            {
                const struct xpair *xp = &x[g - g0][t / 2];
                int32x4_t *dt = d[t / 2];
                if (h == 0 || halves == 2)
                    dt[0] = dt[1] = vi_set32(0);
                if (exact) {
                    int32x4_t high[2] = {vi_set32(0), vi_set32(0)};
                    half_sum(high, w, xp->hi + h * 2);
                    dt[0] = vi_add32(dt[0], vi_shl32i(high[0], 8));
                    dt[1] = vi_add32(dt[1], vi_shl32i(high[1], 8));
                    half_sum(dt, w, xp->lo + h * 2);
                } else {
                    half_sum(dt, w, xp->hi + h * 2);
                }
            }
            if (h == 0 && halves == 1)
                continue;
            const size_t scale = h == 1 ? halves - 1 : 0;
            vf sw = vf_load(p->scale + (g * halves + scale) * TILE + part * LANES);
            UNROLL for (int t = 0; t < n; t++)
            {
                size_t at = (size_t)(b->row + t) * groups + g;
                const int32x4_t *dt = d[t / 2];
                vi sum = t & 1 ? vuzp2q_s32(dt[0], dt[1]) : vuzp1q_s32(dt[0], dt[1]);
                if (!b->wide)
                    sum = vi_add32(sum, vi_set32(b->init->v[at * halves + scale]));
                acc[t] = vf_fma(vf_from_int(sum), sw * vf_set(b->a->scale[at]), acc[t]);
                if (b->sums) {
                    vf m = vf_load(p->min + (g * halves + scale) * TILE + part * LANES);
                    acc[t] = vf_fnma(m, vf_set(b->sums[at * halves + scale]), acc[t]);
                }
            }
        }
    }
    UNROLL for (int t = 0; t < n; t++) vf_store(out + (i * n + t) * TILE + part * LANES, acc[t]);
}

INLINE void gemm_rows(int n, bool exact, const struct block *b, float *out)
{
    struct xpair x[GEMM_CHUNK][PAIRS];
    const struct acts *a = b->a;
    const size_t groups = (size_t)a->groups, cols = (size_t)a->cols;
    memset(out, 0, sizeof(float) * 2 * (size_t)n * TILE);
    for (size_t g0 = 0; g0 < groups; g0 += GEMM_CHUNK) {
        size_t g1 = g0 + GEMM_CHUNK < groups ? g0 + GEMM_CHUNK : groups;
        for (size_t g = g0; g < g1; g++)
            for (int t = 0; t < n; t += 2) {
                size_t at = (size_t)(b->row + t) * cols + g * 32;
                zip_rows(x[g - g0][t / 2].hi, a->hi + at, t + 1 < n ? a->hi + at + cols : NULL);
                if (exact)
                    zip_rows(x[g - g0][t / 2].lo, a->lo + at, t + 1 < n ? a->lo + at + cols : NULL);
            }
        for (int i = 0; i < 2; i++)
            for (int part = 0; part < PARTS; part++)
                gemm_part(b, i, part, n, exact, g0, g1, x, out);
    }
}

static void KERNEL(gemm_int)(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                             const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                             float *out)
{
    const struct panel *const p[2] = {a, b ? b : a};
    const float *sums = tt->halves == 1 ? x->scaled_sum : x->half_sum;
    const struct block block = {p, x, init, tt->has_min ? sums : NULL, row, tt->halves, tt->offset >= 64};
    switch (n * 2 + exact) {
    case 2: gemm_rows(1, false, &block, out); break;
    case 3: gemm_rows(1, true, &block, out); break;
    case 4: gemm_rows(2, false, &block, out); break;
    case 5: gemm_rows(2, true, &block, out); break;
    case 6: gemm_rows(3, false, &block, out); break;
    case 7: gemm_rows(3, true, &block, out); break;
    case 8: gemm_rows(4, false, &block, out); break;
    case 9: gemm_rows(4, true, &block, out); break;
    case 10: gemm_rows(5, false, &block, out); break;
    case 11: gemm_rows(5, true, &block, out); break;
    case 12: gemm_rows(6, false, &block, out); break;
    default: gemm_rows(6, true, &block, out); break;
    }
}

void ct_cpu_gemm_i8mm(struct kernels *k)
{
    fill_unpack(k);
    k->gemm[TILE_INT] = KERNEL(gemm_int);
}
