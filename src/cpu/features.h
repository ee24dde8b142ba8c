/* What this processor can do, asked once per call from the processor itself (and the operating system, which must save the
 * registers). */
#ifndef CT_CPU_FEATURES_H
#define CT_CPU_FEATURES_H

#include <stdbool.h>

/* AVX-512 F, BW, DQ, VL, VNNI and BF16: what the _avx512 files are compiled for. */
bool ct_cpu_has_avx512(void);

#endif
