/* The integer dot step of Arm NEON with the dot product extension on registers alone: see rate.c. */
#include "cpu/vec_neon.h"
#include "cpu/rate_vec.h"

int32_t ct_cpu_rate_neon(int64_t rounds) { return rate(rounds); }
