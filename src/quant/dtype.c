/* The table of weight types, made from types.def, and the look-ups in it. What a block means is in blocks.c; this file
 * knows names and sizes only. */
#include "quant/dtype.h"

#include <string.h>

#include "base/mem.h"
#include "quant/blocks.h"

static const ct_dtype_info table[] = {
#define CT_TYPE(type, name, elems, bytes, group, quantized) \
    {type, #name, elems, bytes, group, quantized, ct_decode_##name, ct_random_##name},
#include "quant/types.def"
#undef CT_TYPE
};

#define N_TYPES (sizeof table / sizeof table[0])

const ct_dtype_info *ct_dtype_at(size_t i) { return i < N_TYPES ? &table[i] : NULL; }

const ct_dtype_info *ct_dtype_get(int32_t type)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if ((int32_t)table[i].type == type)
            return &table[i];
    return NULL;
}

const ct_dtype_info *ct_dtype_of_gguf(uint64_t gguf_type)
{
    return gguf_type < CT_MLX_FIRST ? ct_dtype_get((int32_t)gguf_type) : NULL;
}

static const ct_dtype scale_types[] = {CT_BF16, CT_F16, CT_F32}; /* by the last digit of an id */

const ct_dtype_info *ct_mlx_dtype(ct_mlx m)
{
    if (m.bits < 2 || m.bits > 8 || (m.group != 32 && m.group != 64 && m.group != 128))
        return NULL;
    for (int32_t s = 0; s < 3; s++)
        if (scale_types[s] == m.scales)
            return ct_dtype_get(CT_MLX_ID(m.bits, m.group, s)); /* 7 bits have no row */
    return NULL;
}

bool ct_mlx_of(const ct_dtype_info *t, ct_mlx *m)
{
    int32_t id = (int32_t)t->type - CT_MLX_FIRST;
    if (id <= 0)
        return false;
    *m = (ct_mlx){.bits = id / 100, .group = id / 10 % 10 * 32, .scales = scale_types[id % 10]};
    return true;
}

const ct_dtype_info *ct_dtype_by_name(const char *name)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

const char *ct_gguf_type_name(int32_t gguf_type)
{
    /* Index = id. Holes are ids that were given out once and withdrawn (4, 5, 31..33, 36..38). */
    static const char *const names[] = {
        [0] = "F32",     [1] = "F16",    [2] = "Q4_0",     [3] = "Q4_1",    [6] = "Q5_0",     [7] = "Q5_1",
        [8] = "Q8_0",    [9] = "Q8_1",   [10] = "Q2_K",    [11] = "Q3_K",   [12] = "Q4_K",    [13] = "Q5_K",
        [14] = "Q6_K",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
        [20] = "IQ4_NL", [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS", [24] = "I8",      [25] = "I16",
        [26] = "I32",    [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",  [30] = "BF16",    [34] = "TQ1_0",
        [35] = "TQ2_0",  [39] = "MXFP4", [40] = "NVFP4",   [41] = "Q1_0",   [42] = "Q2_0",
    };
    const char *name = NULL;
    if (gguf_type >= 0 && (size_t)gguf_type < sizeof names / sizeof names[0])
        name = names[gguf_type];
    return name ? name : "unknown";
}

bool ct_row_bytes(const ct_dtype_info *t, size_t n, size_t *bytes)
{
    size_t elems = (size_t)t->block_elems;
    return n % elems == 0 && ct_mul_ok(n / elems, (size_t)t->block_bytes, bytes);
}

void ct_row_decode(const ct_dtype_info *t, float *dst, const void *src, size_t n)
{
    t->decode(dst, src, n / (size_t)t->block_elems);
}
