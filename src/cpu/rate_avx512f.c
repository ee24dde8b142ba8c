/* The integer dot step of AVX-512 without VNNI and BF16 on registers alone: see rate.c. */
#include "cpu/vec_avx512f.h"
#include "cpu/rate_vec.h"

int32_t ct_cpu_rate_avx512f(int64_t rounds) { return rate(rounds); }
