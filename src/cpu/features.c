/* See features.h. Bits as in the vendors' manuals for CPUID leaves 1 and 7 and XCR0. */
#include "cpu/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

bool ct_cpu_has_avx512(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || (xcr0() & 0xe6) != 0xe6) /* XMM, YMM, opmask, ZMM state */
        return false;
    bool fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    bool avx2 = b >> 5 & 1, f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
    bool vnni = c >> 11 & 1;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return false;
    bool bf16 = a >> 5 & 1;
    return fma && f16c && avx2 && f && dq && bw && vl && vnni && bf16;
}

#else

bool ct_cpu_has_avx512(void) { return false; }

#endif
