/* Linear kernels for AVX-512 without VNNI and BF16: the templates on 16 lanes. Panels: gemm_avx512f.c. */
#include "cpu/vec_avx512f.h"
#include "cpu/dot_vec.h"
#include "cpu/float_vec.h"

void ct_cpu_linear_avx512f(struct kernels *k)
{
    fill_dot(k);
    fill_float(k);
    ct_cpu_gemm_avx512f(k);
}
