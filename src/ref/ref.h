/* The oracle's own header: its operations, one function per row of backend/ops.def, and two things they share.
 *
 * ref is the specification of the model's arithmetic in portable C: every sum in f64, in one fixed order, on one thread,
 * each output rounded to f32 once. It is never optimised beyond staying usable. Start with ref_norm.c, the shortest, and
 * end with ref_attention.c; ref_backend.c is the table. */
#ifndef CT_REF_REF_H
#define CT_REF_REF_H

#include "backend/backend.h"

#define CT_OP(name, need, args) CT_REF_##need(name, args)
#define CT_REF_REQUIRED(name, args) void ct_ref_##name args;
#define CT_REF_OPTIONAL(name, args)
#include "backend/ops.def"
#undef CT_REF_OPTIONAL
#undef CT_REF_REQUIRED
#undef CT_OP
void ct_ref_linear_top(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const ct_rough *rough,
                       ct_screen *const *how); /* optional, and no fusion */

size_t ct_ref_kv_page_bytes(ct_dtype type_k, ct_dtype type_v, int32_t kv_heads, int32_t head_dim);
/* n elements (whole blocks of 32) as a quantised cache has them: GGUF blocks of CT_Q8_0 or CT_Q4_1. */
void ct_ref_kv_encode(uint8_t *dst, const float *src, int32_t n, ct_dtype t);
size_t ct_ref_linear_scratch(const ct_limits *l);
size_t ct_ref_top_scratch(const ct_limits *l);
size_t ct_ref_attention_scratch(const ct_limits *l);

/* An f32 vector weight [cols], as weight_load left it. */
static inline const float *ct_ref_vector(const ct_weight *w) { return w->buf.host; }

/* Row r of a matrix weight: the file's own blocks. */
static inline const uint8_t *ct_ref_blocks(const ct_weight *w, int32_t r)
{
    size_t row_bytes = (size_t)(w->cols / w->dtype->block_elems) * (size_t)w->dtype->block_bytes;
    return (const uint8_t *)w->buf.host + (size_t)r * row_bytes;
}

#endif
