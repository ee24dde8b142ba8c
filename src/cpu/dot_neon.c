/* Linear kernels for Arm NEON with the dot product extension: the templates on 4 lanes. Panels: gemm_neon.c. */
#include "cpu/vec_neon.h"
#include "cpu/dot_vec.h"
#include "cpu/float_vec.h"

void ct_cpu_linear_neon(struct kernels *k)
{
    fill_dot(k);
    fill_float(k);
    ct_cpu_gemm_neon(k);
}
