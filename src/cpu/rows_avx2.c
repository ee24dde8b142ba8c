/* Row kernels for AVX2 with FMA and F16C: the templates on 8 lanes. */
#include "cpu/vec_avx2.h"
#include "cpu/rows_vec.h"

void ct_cpu_rows_avx2(struct kernels *k) { fill_rows(k); }
