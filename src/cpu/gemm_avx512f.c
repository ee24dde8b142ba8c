/* Products of panels for AVX-512 without VNNI and BF16: the template on 16 lanes. */
#include "cpu/vec_avx512f.h"
#include "cpu/gemm_vec.h"

void ct_cpu_gemm_avx512f(struct kernels *k) { fill_gemm(k); }
