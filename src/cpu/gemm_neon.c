/* Products of panels for Arm NEON with the dot product extension: the template on 4 lanes. */
#include "cpu/vec_neon.h"
#include "cpu/gemm_vec.h"

void ct_cpu_gemm_neon(struct kernels *k) { fill_gemm(k); }
