/* What the host does for kernels of Hopper's own: asks whether they can run, and describes matrices to the copy engine. The driver's
 * encoder is found at run time, so that nothing here links against the driver. */
#ifndef CT_CUDA_TENSOR_MAP_H
#define CT_CUDA_TENSOR_MAP_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdint.h>

/* How many multiprocessors the card has; 0 unless it is a Hopper and `kernel` was built for it (90a): elsewhere the body of
 * such a kernel is empty. */
static inline int ct_cu_hopper(const void *kernel)
{
    int device = 0, major = 0, minor = 0, count = 0;
    struct cudaFuncAttributes a;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess || major != 9 ||
        minor != 0 || cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
        cudaFuncGetAttributes(&a, kernel) != cudaSuccess || a.ptxVersion != 90)
        return 0;
    return count;
}

/* Tiles of 64 16-bit columns by `rows` rows, swizzled for the tensor cores (hopper.cuh), of an array of 2 or 4 dimensions.
 * size: elements, innermost first; pitch: bytes between neighbours of every dimension but the first, multiples of 16. What lies
 * outside reads as zero. */
static inline int ct_tensor_map(CUtensorMap *map, const void *base, uint32_t dims, const uint64_t *size,
                                const uint64_t *pitch, uint32_t rows)
{
    typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                               const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                               CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    void *found = NULL;
    cudaDriverEntryPointQueryResult how;
    cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &how);
    if (e != cudaSuccess || !found)
        return e != cudaSuccess ? (int)e : (int)cudaErrorNotSupported;
    cuuint32_t box[4] = {64, rows, 1, 1}, step[4] = {1, 1, 1, 1};
    CUresult r = ((encode_fn *)found)(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, dims, (void *)(uintptr_t)base,
                                      (const cuuint64_t *)size, (const cuuint64_t *)pitch, box, step,
                                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ? 0 : (int)cudaErrorInvalidValue;
}

#endif
