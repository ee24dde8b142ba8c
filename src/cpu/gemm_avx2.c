/* Products of panels for AVX2 with FMA and F16C: the template on 8 lanes. */
#include "cpu/vec_avx2.h"
#include "cpu/gemm_vec.h"

void ct_cpu_gemm_avx2(struct kernels *k) { fill_gemm(k); }
