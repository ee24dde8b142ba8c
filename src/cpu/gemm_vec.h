/* Products of unpacked integer panels with blocks of rows, for any vectors. Included after vec_<isa>.h; see dot_vec.h. Panels
 * hold unsigned quants in the order of tiles. A block's activations are brought into the form that the dot step wants once per
 * GEMM_CHUNK groups. */
#ifndef CT_CPU_GEMM_VEC_H
#define CT_CPU_GEMM_VEC_H

#include "cpu/load_vec.h"

INLINE void panel_store(uint8_t *q, int part, const vi w[8], bool wide)
{
    (void)wide;
    UNROLL for (int v = 0; v < 8; v++) vi_store(q + v * 64 + part * PART_BYTES, w[v]);
}

#include "cpu/unpack_vec.h"

#define GEMM_CHUNK 8 /* groups whose activations are prepared at once: 3 KiB for a block of rows */

/* What a block product works on besides its activations. */
struct block {
    const struct panel *const *p; /* [2] */
    const struct acts *a;
    const struct init *init;
    const float *sums; /* scaled sums of activations, per group or half group, for types with a min; else NULL */
    int32_t row, halves;
};

/* VECS vectors of results (from the first-th of the 2 * PARTS of two panels) times n rows, groups g0..g1-1. out holds the sums
 * so far. */
INLINE void gemm_vectors(const struct block *b, int first, int n, bool wide, bool exact, size_t g0, size_t g1,
                         const struct xgroup *x, float *out)
{
    vf acc[VECS][GEMM_ROWS];
    const size_t groups = (size_t)b->a->groups, halves = (size_t)b->halves;
    const struct panel *p[VECS];
    int part[VECS];
    UNROLL for (int j = 0; j < VECS; j++)
    {
        p[j] = b->p[(first + j) / PARTS];
        part[j] = (first + j) % PARTS;
        UNROLL for (int t = 0; t < n; t++)
            acc[j][t] = vf_load(out + ((first + j) / PARTS * n + t) * TILE + part[j] * LANES);
    }
    for (size_t g = g0; g < g1; g++) {
        vi d[VECS][GEMM_ROWS];
        const struct xgroup *xg = x + (g - g0) * GEMM_ROWS;
        UNROLL for (int s = 0; s < 2; s++)
        {
            if (s == 0 || halves == 2)
                UNROLL for (int t = 0; t < n; t++)
                {
                    size_t at = (size_t)(b->row + t) * groups + g;
                    UNROLL for (int j = 0; j < VECS; j++) d[j][t] = start_of(b->init, at, (int)halves, s, wide);
                }
            UNROLL for (int j = 0; j < VECS; j++)
            {
                vi q[4];
                struct wquads w;
                UNROLL for (int v = 0; v < 4; v++) q[v] = quad(p[j]->q + g * 512, s * 4 + v, part[j]);
                wquads_make(&w, q, wide, exact);
                UNROLL for (int t = 0; t < n; t++) d[j][t] = dot_step(d[j][t], &w, &xg[t], s, wide, exact);
            }
            if (s == 0 && halves == 1)
                continue;
            const size_t h = s == 1 ? halves - 1 : 0;
            UNROLL for (int j = 0; j < VECS; j++)
            {
                vf sw = vf_load(p[j]->scale + (g * halves + h) * TILE + part[j] * LANES);
                UNROLL for (int t = 0; t < n; t++)
                {
                    vf sa = vf_set(b->a->scale[(size_t)(b->row + t) * groups + g]);
                    acc[j][t] = vf_fma(vf_from_int(d[j][t]), sw * sa, acc[j][t]);
                }
                if (b->sums == NULL)
                    continue;
                vf m = vf_load(p[j]->min + (g * halves + h) * TILE + part[j] * LANES);
                UNROLL for (int t = 0; t < n; t++)
                {
                    vf ss = vf_set(b->sums[((size_t)(b->row + t) * groups + g) * halves + h]);
                    acc[j][t] = vf_fnma(m, ss, acc[j][t]);
                }
            }
        }
    }
    UNROLL for (int j = 0; j < VECS; j++)
    {
        UNROLL for (int t = 0; t < n; t++)
            vf_store(out + ((first + j) / PARTS * n + t) * TILE + part[j] * LANES, acc[j][t]);
    }
}

INLINE void gemm_rows(int n, bool wide, bool exact, const struct block *b, float *out)
{
    struct xgroup x[GEMM_CHUNK][GEMM_ROWS];
    const struct acts *a = b->a;
    const size_t groups = (size_t)a->groups;
    memset(out, 0, sizeof(float) * 2 * (size_t)n * TILE);
    for (size_t g0 = 0; g0 < groups; g0 += GEMM_CHUNK) {
        size_t g1 = g0 + GEMM_CHUNK < groups ? g0 + GEMM_CHUNK : groups;
        for (size_t g = g0; g < g1; g++)
            for (int t = 0; t < n; t++) {
                size_t at = (size_t)(b->row + t) * (size_t)a->cols + g * 32;
                xgroup_make(&x[g - g0][t], a->hi + at, exact ? a->lo + at : NULL, wide, exact);
            }
        for (int first = 0; first < 2 * PARTS; first += VECS)
            gemm_vectors(b, first, n, wide, exact, g0, g1, x[0], out);
    }
}

#define GEMM_BODY(n)                                                                                                \
    static void KERNEL(gemm##n##_narrow)(const struct block *b, float *out) { gemm_rows(n, false, false, b, out); } \
    static void KERNEL(gemm##n##_wide)(const struct block *b, float *out) { gemm_rows(n, true, false, b, out); }    \
    static void KERNEL(gemm##n##_narrow_exact)(const struct block *b, float *out)                                   \
    {                                                                                                               \
        gemm_rows(n, false, true, b, out);                                                                          \
    }                                                                                                               \
    static void KERNEL(gemm##n##_wide_exact)(const struct block *b, float *out) { gemm_rows(n, true, true, b, out); }
GEMM_BODY(1)
GEMM_BODY(2)
GEMM_BODY(3)
GEMM_BODY(4)
GEMM_BODY(5)
GEMM_BODY(6)

static void KERNEL(gemm_int)(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                             const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                             float *out)
{
    static void (*const bodies[GEMM_ROWS][4])(const struct block *, float *) = {
#define ROW(n) \
    {KERNEL(gemm##n##_narrow), KERNEL(gemm##n##_wide), KERNEL(gemm##n##_narrow_exact), KERNEL(gemm##n##_wide_exact)}
        ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6),
#undef ROW
    };
    const struct panel *const p[2] = {a, b ? b : a}; /* a lone last tile is computed twice: odd tile counts are rare */
    const float *sums = tt->halves == 1 ? x->scaled_sum : x->half_sum;
    const struct block block = {p, x, init, tt->has_min ? sums : NULL, row, tt->halves};
    bodies[n - 1][exact * 2 + (tt->offset >= 64)](&block, out); /* wide: see INT_TYPES */
}

static void fill_gemm(struct kernels *k)
{
    fill_unpack(k);
    k->gemm[TILE_INT] = KERNEL(gemm_int);
}

#endif
