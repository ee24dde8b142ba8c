/* Attention over a chunk for AVX2 with FMA and F16C: the template on 8 lanes. */
#include "cpu/vec_avx2.h"
#include "cpu/attend_vec.h"

void ct_cpu_attend_avx2(struct kernels *k) { k->attend = k->attend_quant = KERNEL(attend); }
