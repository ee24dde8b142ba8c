/* Row kernels for AVX-512 without VNNI and BF16: the templates on 16 lanes. */
#include "cpu/vec_avx512f.h"
#include "cpu/rows_vec.h"

void ct_cpu_rows_avx512f(struct kernels *k) { fill_rows(k); }
