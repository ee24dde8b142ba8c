/* Entry to expand.cu: packed weights and activations as bf16, as the tensor cores want them. */
#ifndef CT_CUDA_EXPAND_CUH
#define CT_CUDA_EXPAND_CUH

#include "cuda/cuda_kernels.h"

/* dst[n][pitch] bf16 (pitch in elements, a multiple of 8) = rows first .. first + n - 1 of w, rounded to nearest. Columns from
 * w.cols on are left as they are. first is a multiple of 16. Returns a cudaError_t. */
int ct_cu_expand(cudaStream_t s, void *dst, size_t pitch, const ct_cu_weight *w, int32_t first, int32_t n);

/* y = x rounded to nearest, zeros behind its columns up to the pitch; and back: y = x. */
int ct_cu_round(cudaStream_t s, ct_cu_mat16 y, ct_cu_mat x);
int ct_cu_widen(cudaStream_t s, ct_cu_mat y, ct_cu_mat16 x);

#endif
