/* What the kernels' files and the table (stream.cuh) share: device views of what ops are given, packed activations, and the
 * launch that lets a kernel begin while the one before it ends.
 *
 * Every kernel here is launched with `launch`, and every one calls after_previous() before it touches anything that a kernel
 * writes; what it reads of the weights before that (prefetch) may overlap with its predecessor. */
#ifndef CT_CUDA_INTERNAL_CUH
#define CT_CUDA_INTERNAL_CUH

#include "cuda/cuda_kernels.h"

#include "cuda/dequant.cuh"

/* Activations as operand B of the tensor cores: for each group of 32 columns, for each of n rows, for each t of 4 lanes 16 bytes
 * (integers) or 32 bytes (halves). Columns are padded to 128 with zeros, K-quants to 256.
 *   integers: x = scale * (256 hi + lo), scale = amax of the group / 32639; words {hi s = 0, hi s = 1, lo s = 0, lo s = 1}, see cuda_kernels.h
 *   halves:   x = hi + lo (bf16), or scale * (hi + lo) (f16, scale a power of two per row); elements 8 t .. 8 t + 7 of the group: hi, then lo
 * scale and sum (integers: of the group's dequantised elements) are [group][n].
 *   rows:     x rounded to bf16, row-major, n columns a row: what gemm.cu takes (ct_cu_mat16) */
struct planes {
    uint8_t *data;
    float *scale, *sum;
    int n;
};

enum plane_kind { PLANES_INT8, PLANES_BF16, PLANES_F16, PLANES_ROWS };

static inline size_t planes_bytes(int n, int cols)
{
    size_t k = ((size_t)cols + 255) / 256 * 256;
    return (size_t)n * k * 4 + (size_t)n * k / 32 * 8 + 256;
}

static inline struct planes planes_at(void *p, int n, int cols)
{
    size_t k = ((size_t)cols + 255) / 256 * 256;
    float *scale = (float *)((uint8_t *)p + (size_t)n * k * 4);
    return (struct planes){(uint8_t *)p, scale, scale + (size_t)n * k / 32, n};
}

/* The rows of a run, on the device. */
struct dev_rows {
    const int32_t *token, *pos, *seq, *index;
    int n;
};

#ifdef __CUDACC__

static __device__ __forceinline__ void after_previous(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void let_next_begin(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

extern int cu_overlap; /* 1: this card starts kernels before the last has ended */

template <typename... P, typename... A>
static int launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A... args)
{
    cudaLaunchAttribute attr[1];
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t cfg = {};
    cfg.gridDim = grid;
    cfg.blockDim = block;
    cfg.dynamicSmemBytes = shared;
    cfg.stream = s;
    cfg.attrs = attr;
    cfg.numAttrs = cu_overlap;
    return (int)cudaLaunchKernelEx(&cfg, kernel, static_cast<P>(args)...);
}

static __device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int o = 16; o > 0; o /= 2)
        v += __shfl_xor_sync(~0u, v, o);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int o = 16; o > 0; o /= 2)
        v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
    return v;
}

/* Writes a group of 32 elements of row `col` of a batch of p.n, one element per lane, into planes. inv: 1 / the row's scale (f16). */
static __device__ __forceinline__ void pack_group(struct planes p, int kind, int g, int col, float x, float inv)
{
    int e = threadIdx.x & 31;
    if (kind == PLANES_ROWS) {
        ((__nv_bfloat16 *)p.data)[(size_t)col * p.n + g * 32 + e] = __float2bfloat16_rn(x);
    } else if (kind == PLANES_INT8) {
        float amax = warp_max(fabsf(x));
        float scale = amax * (1.0f / 32639.0f), back = amax > 0.0f ? 32639.0f / amax : 0.0f;
        if (!(scale >= 1.17549435e-38f)) { /* too small to count, or NaN: which must not be lost */
            back = 0.0f;
            scale = amax >= 0.0f && amax < 1.0f ? 0.0f : __int_as_float(0x7fc00000);
        }
        if (x != x)
            scale = x;
        scale = __shfl_sync(~0u, __any_sync(~0u, x != x) ? __int_as_float(0x7fc00000) : scale, 0);
        int q = __float2int_rn(fminf(fmaxf(x * back, -32639.0f), 32639.0f)), hi = (q + 128) >> 8, lo = q - 256 * hi;
        int sum = q;
#pragma unroll
        for (int o = 16; o > 0; o /= 2)
            sum += __shfl_xor_sync(~0u, sum, o);
        int8_t *d = (int8_t *)p.data + ((size_t)(g * p.n + col) * 4 + (e % 16) / 4) * 16 + e / 16 * 4 + e % 4;
        d[0] = (int8_t)hi;
        d[8] = (int8_t)lo;
        if (e == 0) {
            p.scale[g * p.n + col] = scale;
            p.sum[g * p.n + col] = scale * (float)sum;
        }
    } else {
        uint16_t *d = (uint16_t *)(p.data + ((size_t)(g * p.n + col) * 4 + e / 8) * 32) + e % 8;
        if (kind == PLANES_BF16) {
            __nv_bfloat16 hi = __float2bfloat16_rn(x), lo = __float2bfloat16_rn(x - __bfloat162float(hi));
            if (fabsf(x) > 3.3e38f) { /* rounding up would make infinity of it, and hi - x of infinity NaN */
                hi = __float2bfloat16_rz(x);
                lo = __float2bfloat16_rn(fabsf(x) < __int_as_float(0x7f800000) ? x - __bfloat162float(hi) : 0.0f);
            }
            d[0] = __bfloat16_as_ushort(hi);
            d[8] = __bfloat16_as_ushort(lo);
        } else {
            float v = x * inv;
            __half hi = __float2half_rn(v), lo = __float2half_rn(v - __half2float(hi));
            d[0] = __half_as_ushort(hi);
            d[8] = __half_as_ushort(lo);
        }
    }
}

#endif

/* ---- rows.cu ---- */

/* The first n of each of four arrays of `room`, from host memory that the card sees. */
int cu_rows_in(cudaStream_t s, const int32_t *mapped, int32_t *dev, int room, int n);
int cu_embed(cudaStream_t s, ct_cu_mat y, ct_cu_weight w, struct dev_rows r, float scale);
int cu_rope_table(cudaStream_t s, ct_cu_mat cs, struct dev_rows r, double theta, double factor, int d);
/* y = norm(x) w; with add: x += norm(b) w first, then, if y.p, y = norm(x) next. pk: kind of the planes that are made of y
 * besides, or -1. */
int cu_norm(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, const float *w, float eps, struct planes pk, int kind);
int cu_norm_add(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, ct_cu_mat b, const float *w, const float *next, float eps,
                struct planes pk, int kind);
/* Heads of q, k (either may have p NULL): norm with weights (NULL: none), rotation by cs (p NULL: none); then k and v into the
 * cache, if kv. */
int cu_heads(cudaStream_t s, ct_cu_mat q, const float *wq, int hq, ct_cu_mat k, const float *wk, int hk, ct_cu_mat cs,
             float eps, ct_cu_mat v, const ct_cu_kv *kv, struct dev_rows r, int d);
int cu_geglu(cudaStream_t s, ct_cu_mat y, ct_cu_mat gate, ct_cu_mat up, struct planes pk, int kind);
int cu_softcap(cudaStream_t s, ct_cu_mat x, float cap);
int cu_gather(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, const int32_t *index);
int cu_pack(cudaStream_t s, struct planes p, int kind, ct_cu_mat x);

/* ---- linear.cu ---- */

/* What a weight type multiplies with, and how many rows one pass over the weights takes. */
enum plane_kind cu_plane_kind(ct_dtype t);
#define CU_PASS 64
/* y[i] = x w[i]^T for rows first .. first + n - 1 (n <= CU_PASS) of planes p of p.n rows; all w of types with the same kind of planes. */
int cu_linear(cudaStream_t s, int m, const ct_cu_mat *y, const ct_cu_weight *w, struct planes p, int first, int n);
/* ---- attention.cu ---- */

size_t cu_attention_scratch(int rows, int heads, int d, int context);
/* Any rows, one at a time: decode, and the slow way for prompts. longest: upper limit of the rows' positions + 1; context: what
 * the scratch was made for. scratch begins zeroed and is nobody else's. */
int cu_attention(cudaStream_t s, ct_cu_mat o, ct_cu_mat q, const ct_cu_kv *kv, struct dev_rows r, int heads, int window,
                 float scale, int longest, int context, void *scratch, struct planes pk, int kind);

/* ---- pack.cu ---- */

/* Packs rows of a file (row-major blocks, on the device) into dst; sets *bad for NaN and infinity in scales or floats. */
int cu_repack(cudaStream_t s, uint8_t *dst, const uint8_t *src, ct_dtype t, int rows, int cols, int *bad);

#endif
