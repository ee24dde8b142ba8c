/* Products of integer weights straight from tiles, for any vectors. Included after vec_<isa>.h, whose dot step it is built on:
 * four quads of one part of a tile against four quads of a row. Arithmetic and order: kernels.h; dot and gemm (gemm_vec.h)
 * give the same bits, and so does every instruction set that has a fused multiply-add.
 *
 * A tile's rows are PARTS vectors. A row's activations are brought into the form that the dot step wants once per group. */
#ifndef CT_CPU_DOT_VEC_H
#define CT_CPU_DOT_VEC_H

#include "cpu/load_vec.h"

/* Parts from..from+parts-1 of a tile times n rows. */
INLINE void dot_parts(load_fn *load, size_t bytes, int lines, int halves, bool has_min, bool wide, int n, bool exact,
                      int from, int parts, const struct tile_type *tt, const uint8_t *tile, const struct acts *a,
                      const struct init *init, int32_t row, float *out)
{
    vf acc[PARTS][DOT_ROWS];
    UNROLL for (int p = 0; p < parts; p++) { UNROLL for (int t = 0; t < n; t++) acc[p][t] = vf_set(0); }
    for (int32_t g = 0; g < a->groups; g++) {
        struct xgroup x[DOT_ROWS];
        if (a->ahead && from == 0)
            prefetch(tile, g, bytes, lines);
        UNROLL for (int t = 0; t < n; t++)
        {
            size_t at = (size_t)(row + t) * (size_t)a->cols + (size_t)g * 32;
            xgroup_make(&x[t], a->hi + at, exact ? a->lo + at : NULL, wide, exact);
        }
        UNROLL for (int p = 0; p < parts; p++)
        {
            struct group q;
            struct wquads w[2];
            load(tile, tt, g, from + p, &q);
            UNROLL for (int s = 0; s < 2; s++) wquads_make(&w[s], q.w + 4 * s, wide, exact);
            UNROLL for (int t = 0; t < n; t++)
            {
                size_t at = (size_t)(row + t) * (size_t)a->groups + (size_t)g;
                vf sa = vf_set(a->scale[at]);
                vi d = start_of(init, at, halves, 0, wide);
                UNROLL for (int s = 0; s < 2; s++)
                {
                    if (s == 1 && halves == 2)
                        d = start_of(init, at, halves, 1, wide);
                    d = dot_step(d, &w[s], &x[t], s, wide, exact);
                    if (s == 1 || halves == 2)
                        acc[p][t] = vf_fma(vf_from_int(d), q.s[halves == 2 ? s : 0] * sa, acc[p][t]);
                    if (has_min && halves == 2)
                        acc[p][t] = vf_fnma(q.m[s], vf_set(a->half_sum[2 * at + (size_t)s]), acc[p][t]);
                }
                if (has_min && halves == 1)
                    acc[p][t] = vf_fnma(q.m[0], vf_set(a->scaled_sum[at]), acc[p][t]);
            }
        }
    }
    UNROLL for (int p = 0; p < parts; p++)
    {
        UNROLL for (int t = 0; t < n; t++) vf_store(out + t * TILE + (from + p) * LANES, acc[p][t]);
    }
}

/* All parts at once where the registers hold the sums of n rows, else part by part: the second one reads from the cache. */
INLINE void dot_int(load_fn *load, size_t bytes, int lines, int halves, bool has_min, bool wide, int n, bool exact,
                    const struct tile_type *tt, const uint8_t *tile, const struct acts *a, const struct init *init,
                    int32_t row, float *out)
{
    if (n <= FEW_ROWS)
        dot_parts(load, bytes, lines, halves, has_min, wide, n, exact, 0, PARTS, tt, tile, a, init, row, out);
    else
        for (int from = 0; from < PARTS; from += VECS)
            dot_parts(load, bytes, lines, halves, has_min, wide, n, exact, from, VECS < PARTS ? VECS : PARTS, tt, tile,
                      a, init, row, out);
}

/* The compiler makes one body per number of rows and planes. */
#define DOT_INT(type, name, bytes, lines, halves, has_min, wide)                                                  \
    static void KERNEL(dot_##name)(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,         \
                                   const struct init *init, int32_t row, int32_t n, bool exact, float *out)       \
    {                                                                                                             \
        switch (n * 2 + exact) {                                                                                  \
        case 2: dot_int(load_##name, bytes, lines, halves, has_min, wide, 1, false, tt, tile, a, init, row, out); \
            break;                                                                                                \
        case 3: dot_int(load_##name, bytes, lines, halves, has_min, wide, 1, true, tt, tile, a, init, row, out);  \
            break;                                                                                                \
        case 4: dot_int(load_##name, bytes, lines, halves, has_min, wide, 2, false, tt, tile, a, init, row, out); \
            break;                                                                                                \
        case 5: dot_int(load_##name, bytes, lines, halves, has_min, wide, 2, true, tt, tile, a, init, row, out);  \
            break;                                                                                                \
        case 6: dot_int(load_##name, bytes, lines, halves, has_min, wide, 3, false, tt, tile, a, init, row, out); \
            break;                                                                                                \
        case 7: dot_int(load_##name, bytes, lines, halves, has_min, wide, 3, true, tt, tile, a, init, row, out);  \
            break;                                                                                                \
        case 8: dot_int(load_##name, bytes, lines, halves, has_min, wide, 4, false, tt, tile, a, init, row, out); \
            break;                                                                                                \
        default: dot_int(load_##name, bytes, lines, halves, has_min, wide, 4, true, tt, tile, a, init, row, out); \
            break;                                                                                                \
        }                                                                                                         \
    }
INT_TYPES(DOT_INT)

static void fill_dot(struct kernels *k)
{
#define SET_DOT(type, name, bytes, lines, halves, has_min, wide) k->dot[type] = KERNEL(dot_##name);
    INT_TYPES(SET_DOT)
}

#endif
