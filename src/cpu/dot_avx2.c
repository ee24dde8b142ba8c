/* Linear kernels for AVX2 with FMA and F16C: the templates on 8 lanes. Panels: gemm_avx2.c. */
#include "cpu/vec_avx2.h"
#include "cpu/dot_vec.h"
#include "cpu/float_vec.h"

void ct_cpu_linear_avx2(struct kernels *k)
{
    fill_dot(k);
    fill_float(k);
    ct_cpu_gemm_avx2(k);
}
