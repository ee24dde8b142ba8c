/* The int8 dot product on registers alone: see rate.c. One instruction is 64 multiplications and 64 additions. */
#include <immintrin.h>

#include "cpu/cpu.h"

int32_t ct_cpu_rate_avx512(int64_t rounds)
{
    __m512i acc[12], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (int i = 0; i < 12; i++)
        acc[i] = _mm512_set1_epi32(i);
    for (int64_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
        __asm__ volatile("" : "+v"(a), "+v"(b)); /* the loop must not be folded into a product */
    }
    __m512i sum = acc[0];
    for (int i = 1; i < 12; i++)
        sum = _mm512_add_epi32(sum, acc[i]);
    return _mm512_reduce_add_epi32(
        _mm512_and_si512(sum, _mm512_set1_epi32(0xffff))); /* any of it will do, without overflow */
}
