/* See features.h. Bits as in the vendors' manuals for CPUID leaves 1 and 7 and XCR0; on Arm, the kernel's words. */
#include "cpu/features.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* What a processor says of itself; all zero where leaves or the saving of registers are missing. */
struct leaves {
    uint32_t c1, b7, c7, a7_1;
    uint64_t saved;
};

static struct leaves ask(void)
{
    struct leaves l = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))
        return l;
    l.c1 = c;
    l.saved = xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return (struct leaves){0};
    l.b7 = b;
    l.c7 = c;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        l.a7_1 = a;
    return l;
}

bool ct_cpu_has_avx2(void)
{
    struct leaves l = ask();
    bool fma = l.c1 >> 12 & 1, f16c = l.c1 >> 29 & 1, avx2 = l.b7 >> 5 & 1;
    return fma && f16c && avx2 && (l.saved & 0x6) == 0x6; /* XMM, YMM state */
}

bool ct_cpu_has_avx512f(void)
{
    struct leaves l = ask();
    bool f = l.b7 >> 16 & 1, dq = l.b7 >> 17 & 1, bw = l.b7 >> 30 & 1, vl = l.b7 >> 31 & 1;
    return ct_cpu_has_avx2() && f && dq && bw && vl && (l.saved & 0xe6) == 0xe6; /* opmask and ZMM state too */
}

bool ct_cpu_has_avx512(void)
{
    struct leaves l = ask();
    bool vnni = l.c7 >> 11 & 1, bf16 = l.a7_1 >> 5 & 1;
    return ct_cpu_has_avx512f() && vnni && bf16;
}

#else

bool ct_cpu_has_avx2(void) { return false; }
bool ct_cpu_has_avx512f(void) { return false; }
bool ct_cpu_has_avx512(void) { return false; }

#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* The kernel's numbers (its arch/arm64 hwcap header), written out for C libraries that are older than they are. */
bool ct_cpu_has_neon(void)
{
    unsigned long asimd = 1ul << 1, asimddp = 1ul << 20;
    return (getauxval(AT_HWCAP) & (asimd | asimddp)) == (asimd | asimddp);
}

bool ct_cpu_has_i8mm(void) { return ct_cpu_has_neon() && (getauxval(AT_HWCAP2) >> 13 & 1); }

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static bool flag(const char *name)
{
    int32_t value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

bool ct_cpu_has_neon(void) { return flag("hw.optional.arm.FEAT_DotProd"); }
bool ct_cpu_has_i8mm(void) { return ct_cpu_has_neon() && flag("hw.optional.arm.FEAT_I8MM"); }

#else

bool ct_cpu_has_neon(void) { return false; }
bool ct_cpu_has_i8mm(void) { return false; }

#endif
