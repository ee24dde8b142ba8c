/* Unpacking of integer tiles into panels, for any vectors. Included after vec_<isa>.h and panel_store, which says in which
 * order the gemm of that instruction set wants the quants of a part: eight quads of a group. */
#ifndef CT_CPU_UNPACK_VEC_H
#define CT_CPU_UNPACK_VEC_H

#include "cpu/load_vec.h"

#define UNPACK_INT(type, name, bytes, lines, halves, has_min, wide)                                                   \
    static void KERNEL(unpack_##name)(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p) \
    {                                                                                                                 \
        for (int32_t g = 0; g < cols / 32; g++) {                                                                     \
            prefetch(tile, g, bytes, lines);                                                                          \
            UNROLL for (int part = 0; part < PARTS; part++)                                                           \
            {                                                                                                         \
                struct group q;                                                                                       \
                load_##name(tile, tt, g, part, &q);                                                                   \
                panel_store(p->q + (size_t)g * 512, part, q.w, wide);                                                 \
                UNROLL for (int h = 0; h < halves; h++)                                                               \
                    vf_store(p->scale + (g * halves + h) * TILE + part * LANES, q.s[h]);                              \
                UNROLL for (int h = 0; has_min && h < halves; h++)                                                    \
                    vf_store(p->min + (g * halves + h) * TILE + part * LANES, q.m[h]);                                \
            }                                                                                                         \
        }                                                                                                             \
    }
INT_TYPES(UNPACK_INT)

static void fill_unpack(struct kernels *k)
{
#define SET_UNPACK(type, name, bytes, lines, halves, has_min, wide) k->unpack[type] = KERNEL(unpack_##name);
    INT_TYPES(SET_UNPACK)
}

#endif
