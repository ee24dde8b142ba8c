/* What this processor can do, asked once per call from the processor itself (and the operating system, which must save the
 * registers). False for an instruction set of another architecture. */
#ifndef CT_CPU_FEATURES_H
#define CT_CPU_FEATURES_H

#include <stdbool.h>

bool ct_cpu_has_avx2(void);    /* AVX2, FMA and F16C: what the _avx2 files are compiled for */
bool ct_cpu_has_avx512f(void); /* that and AVX-512 F, BW, DQ and VL: the _avx512f files */
bool ct_cpu_has_avx512(void);  /* that and AVX-512 VNNI and BF16: the _avx512 files */
bool ct_cpu_has_neon(void);    /* Arm's Advanced SIMD with the dot product: the _neon files */
bool ct_cpu_has_i8mm(void);    /* that and int8 matrix multiplication: the _i8mm files */

#endif
