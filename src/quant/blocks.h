/* The two functions behind every row of types.def. Only this room calls them by name; everyone else goes through the
 * table of dtype.h, which also says what they promise. */
#ifndef CT_QUANT_BLOCKS_H
#define CT_QUANT_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#define CT_TYPE(type, name, elems, bytes, group, quantized)                                                 \
    void ct_decode_##name(float *dst, const void *src, size_t n_blocks);                                    \
    void ct_random_##name(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, \
                          float sigma);
#include "quant/types.def"
#undef CT_TYPE

#endif
