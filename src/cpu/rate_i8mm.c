/* Arm's int8 matrix instruction on registers alone: see rate.c. Each is 32 multiplications and 32 additions. */
#include "cpu/vec_neon.h"
#include "cpu/cpu.h"

int32_t ct_cpu_rate_i8mm(int64_t rounds)
{
    vi acc[RATE_CHAINS], w = vi_set8(3), x = vi_set8(5);
    UNROLL for (int i = 0; i < RATE_CHAINS; i++) acc[i] = vi_set32(i);
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+w"(w), "+w"(x)); /* the loop must not be folded into a product */
        UNROLL for (int i = 0; i < RATE_CHAINS; i++)
            acc[i] = vmmlaq_s32(acc[i], vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
    }
    for (int i = 1; i < RATE_CHAINS; i++)
        acc[0] = vi_add32(acc[0], acc[i]);
    return vi_sum(acc[0]);
}
