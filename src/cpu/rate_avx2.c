/* The integer dot step of AVX2 with FMA and F16C on registers alone: see rate.c. */
#include "cpu/vec_avx2.h"
#include "cpu/rate_vec.h"

int32_t ct_cpu_rate_avx2(int64_t rounds) { return rate(rounds); }
