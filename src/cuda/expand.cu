/* Weights of every type, and activations, as bf16 in scratch: what the matrix products of prompt rows read.
 *
 * One tensor, or a part of one, at a time: never a second copy of a model. A warp takes 8 rows of a tile of 16 and 128 columns,
 * each lane 32 elements of a row, so that packed words are read as they lie and whole 32-byte sectors are written.
 * dequant.cuh says what the bytes mean. Bound by memory: the packed bytes in, two bytes an element out. */
#include "cuda/expand.cuh"

#include "cuda/dequant.cuh"

#define THREADS 256
#define GROUPS 4 /* of 32 elements, per warp */

static __device__ __forceinline__ uint32_t pair_of(float lo, float hi)
{
    __nv_bfloat162 h = __floats2bfloat162_rn(lo, hi);
    return (uint32_t)__bfloat16_as_ushort(h.x) | (uint32_t)__bfloat16_as_ushort(h.y) << 16;
}

/* Warp i: columns 128 (i % units) .., rows first + 8 (i / units) ... */
template <int TYPE>
static __global__ void __launch_bounds__(THREADS)
    expand(uint16_t *dst, size_t pitch, ct_cu_weight w, int32_t first, int32_t n, int32_t units)
{
    int64_t warp = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    int32_t lane = (int32_t)threadIdx.x % 32, t = lane % 4, unit = (int32_t)(warp % units);
    int32_t at = (int32_t)(warp / units) * 8 + lane / 4, row = first + at;
    if (at >= n || row >= w.rows)
        return;
    uint16_t *to = dst + (size_t)at * pitch + (size_t)unit * 32 * GROUPS + (size_t)t * 4;
    float x[GROUPS][8];
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        if ((unit * GROUPS + g) * 32 < w.cols)
            ct_cu_decode8<TYPE>(x[g], w.p, w.pitch, row, unit * GROUPS + g, t);
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        if ((unit * GROUPS + g) * 32 < w.cols) {
            *(uint2 *)(to + g * 32) = make_uint2(pair_of(x[g][0], x[g][1]), pair_of(x[g][2], x[g][3]));
            *(uint2 *)(to + g * 32 + 16) = make_uint2(pair_of(x[g][4], x[g][5]), pair_of(x[g][6], x[g][7]));
        }
}

int ct_cu_expand(cudaStream_t s, void *dst, size_t pitch, const ct_cu_weight *w, int32_t first, int32_t n)
{
    int32_t units = (w->cols + 32 * GROUPS - 1) / (32 * GROUPS);
    int64_t threads = ((int64_t)n + 7) / 8 * units * 32;
    unsigned blocks = (unsigned)((threads + THREADS - 1) / THREADS);
#define CALL(TYPE) expand<TYPE><<<blocks, THREADS, 0, s>>>((uint16_t *)dst, pitch, *w, first, n, units)
    CT_CU_EACH_TYPE(w->type, CALL)
#undef CALL
    return (int)cudaGetLastError();
}

/* Eight columns a thread. wide: rows start at multiples of 16 bytes. */
static __global__ void __launch_bounds__(THREADS) round_rows(uint16_t *dst, size_t pitch, ct_cu_mat x, bool wide)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, per_row = (int64_t)(pitch / 8);
    int64_t row = i / per_row, col = i % per_row * 8;
    if (row >= x.rows)
        return;
    const float *src = x.p + (size_t)row * x.stride + col;
    float v[8];
    if (wide && col + 8 <= x.cols) {
        float4 a = *(const float4 *)src, b = *(const float4 *)(src + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = col + j < x.cols ? src[j] : 0.0f;
    }
    *(uint4 *)(dst + (size_t)row * pitch + col) = make_uint4(pair_of(v[0], v[1]), pair_of(v[2], v[3]),
                                                             pair_of(v[4], v[5]), pair_of(v[6], v[7]));
}

int ct_cu_round(cudaStream_t s, ct_cu_mat16 y, ct_cu_mat x)
{
    int64_t threads = (int64_t)x.rows * (int64_t)(y.pitch / 8);
    bool wide = x.stride % 4 == 0 && (uintptr_t)x.p % 16 == 0;
    round_rows<<<(unsigned)((threads + THREADS - 1) / THREADS), THREADS, 0, s>>>((uint16_t *)y.p, y.pitch, x, wide);
    return (int)cudaGetLastError();
}

static __global__ void __launch_bounds__(THREADS) widen_rows(ct_cu_mat y, const __nv_bfloat16 *x, size_t pitch)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = i / y.cols, col = i % y.cols;
    if (row < y.rows)
        y.p[(size_t)row * y.stride + (size_t)col] = __bfloat162float(x[(size_t)row * pitch + (size_t)col]);
}

int ct_cu_widen(cudaStream_t s, ct_cu_mat y, ct_cu_mat16 x)
{
    int64_t threads = (int64_t)y.rows * y.cols;
    widen_rows<<<(unsigned)((threads + THREADS - 1) / THREADS), THREADS, 0, s>>>(y, (const __nv_bfloat16 *)x.p,
                                                                                 x.pitch);
    return (int)cudaGetLastError();
}
