/* Encoders: floats in, the bytes of a weight type out, so that the decoder of quant/ gives back what is nearest.
 *
 * An encoder is a row of a table, as a weight type is. It sees one row of a matrix at a time (or any whole blocks of it), keeps
 * no state and starts no threads: whoever has many rows cuts them over a pool, and the bytes do not depend on how. What "nearest"
 * means and how scales are chosen: docs/FORMATS.md, "How scales are chosen". Files and models are unknown here. */
#ifndef CT_CONVERT_ENCODE_H
#define CT_CONVERT_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "quant/dtype.h"

typedef struct ct_encoder ct_encoder;

struct ct_encoder {
    ct_dtype type;
    bool (*encode)(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance);
};

/* NULL for a type that carat reads but does not write. */
const ct_encoder *ct_encoder_get(ct_dtype type);

/* Encodes src[n], whole blocks of e->type, into dst (ct_row_bytes of them, any alignment). importance[n], or NULL: what an error
 * of each element costs, relative to the others of its block, finite and not negative; of a matrix [out, in] the mean square of
 * input j is right for element j of every row. Floats (f32, f16, bf16) do without. False, and dst undefined, if an element is NaN or infinite, or
 * passes what f16 holds (65504) where the element itself or a scale of its block is stored as f16. */
static inline bool ct_encode(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance)
{
    return e->encode(e, dst, src, n, importance);
}

#endif
