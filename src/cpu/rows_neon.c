/* Row kernels for Arm NEON with the dot product extension: the templates on 4 lanes. */
#include "cpu/vec_neon.h"
#include "cpu/rows_vec.h"

void ct_cpu_rows_neon(struct kernels *k) { fill_rows(k); }
