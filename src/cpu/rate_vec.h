/* The inner loop of rate.c for any vectors: RATE_CHAINS sums, four quads of each per round. Included after vec_<isa>.h. */
#ifndef CT_CPU_RATE_VEC_H
#define CT_CPU_RATE_VEC_H

#include "cpu/cpu.h"

INLINE int32_t rate(int64_t rounds)
{
    vi acc[RATE_CHAINS], w[4], x = vi_set8(5);
    UNROLL for (int i = 0; i < RATE_CHAINS; i++) acc[i] = vi_set32(i);
    UNROLL for (int i = 0; i < 4; i++) w[i] = vi_set8((int8_t)(i + 1));
    for (int64_t r = 0; r < rounds; r++)
        UNROLL for (int i = 0; i < RATE_CHAINS; i++)
        {
            /* The loop must not be folded into a product, nor one chain's product serve another. */
            __asm__ volatile("" : "+" RATE_REGISTER(x));
            acc[i] = dot_rate(acc[i], w, x);
        }
    for (int i = 1; i < RATE_CHAINS; i++)
        acc[0] = vi_add32(acc[0], acc[i]);
    return vi_sum(acc[0]);
}

#endif
