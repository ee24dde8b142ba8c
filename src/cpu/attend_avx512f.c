/* Attention over a chunk for AVX-512 without VNNI and BF16: the template on 16 lanes. */
#include "cpu/vec_avx512f.h"
#include "cpu/attend_vec.h"

void ct_cpu_attend_avx512f(struct kernels *k) { k->attend = k->attend_quant = KERNEL(attend); }
