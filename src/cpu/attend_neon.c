/* Attention over a chunk for Arm NEON with the dot product extension: the template on 4 lanes. */
#include "cpu/vec_neon.h"
#include "cpu/attend_vec.h"

void ct_cpu_attend_neon(struct kernels *k) { k->attend = k->attend_quant = KERNEL(attend); }
