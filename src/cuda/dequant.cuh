/* What the packed weights of cuda_kernels.h mean, on the card: the one decoder per type that every kernel shares or is checked
 * against. Exact like quant/blocks.c: each product fits a float but the last.
 *
 * ct_cu_decode8<TYPE> gives the eight elements that one lane holds of a group of 32 of a row: elements 4 t .. 4 t + 3 and
 * 16 + 4 t .. 16 + 4 t + 3. It knows nothing of activations. */
#ifndef CT_CUDA_DEQUANT_CUH
#define CT_CUDA_DEQUANT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/cuda_kernels.h"

#define CT_CU_TILE 16

/* Elements and bytes of a record of a tile; 0 where the type has none. */
static __host__ __device__ constexpr int ct_cu_record_elems(int type)
{
    return type == CT_Q4_K || type == CT_Q5_K || type == CT_Q6_K                                               ? 256
           : type == CT_Q4_0 || type == CT_Q4_1 || type == CT_Q5_0 || type == CT_Q5_1 || type == CT_Q8_0 ? 128
                                                                                                          : 0;
}

static __host__ __device__ constexpr int ct_cu_record_bytes(int type)
{
    return type == CT_Q4_0   ? 1152
           : type == CT_Q4_1 ? 1280
           : type == CT_Q5_0 ? 1408
           : type == CT_Q5_1 ? 1536
           : type == CT_Q8_0 ? 2176
           : type == CT_Q4_K ? 2304
           : type == CT_Q5_K ? 2816
           : type == CT_Q6_K ? 3360
                             : 0;
}

static __host__ __device__ constexpr bool ct_cu_is_float(int type)
{
    return type == CT_F32 || type == CT_F16 || type == CT_BF16;
}

/* Bytes of a row (or of a tile of 16 rows), and of a whole matrix. */
static inline size_t ct_cu_pitch(ct_dtype type, int32_t cols)
{
    size_t k = ((size_t)cols + 127) / 128 * 128;
    if (ct_cu_is_float(type))
        return k * (type == CT_F32 ? 4 : 2);
    int elems = ct_cu_record_elems(type);
    if (elems)
        return ((size_t)cols + (size_t)elems - 1) / (size_t)elems * (size_t)ct_cu_record_bytes(type);
    return type == CT_Q2_K     ? (size_t)cols / 256 * 84
           : type == CT_Q3_K   ? (size_t)cols / 256 * 110
           : type == CT_IQ4_XS ? (size_t)cols / 256 * 136
                               : (size_t)cols / 32 * 18;
}

static inline size_t ct_cu_weight_size(ct_dtype type, int32_t rows, int32_t cols)
{
    size_t tiles = ((size_t)rows + CT_CU_TILE - 1) / CT_CU_TILE, pitch = ct_cu_pitch(type, cols);
    return ct_cu_record_elems(type) ? tiles * pitch : ct_cu_is_float(type) ? tiles * CT_CU_TILE * pitch : (size_t)rows * pitch;
}

#ifdef __CUDACC__

static __device__ __forceinline__ float ct_cu_half(const uint8_t *p) { return __half2float(*(const __half *)p); }

/* Any alignment: file blocks lie at multiples of two bytes. */
static __device__ __forceinline__ float ct_cu_half_at(const uint8_t *p)
{
    return __half2float(__ushort_as_half((unsigned short)(p[0] | p[1] << 8)));
}

static __device__ const int8_t ct_cu_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Scale and minimum j of a header, as multiples of d and dmin. */
static __device__ __forceinline__ void ct_cu_scale_min(uint4 head, int j, float *s, float *m)
{
    *s = (float)((head.y >> 4 * j & 15u) | (head.w >> 2 * j & 3u) << 4);
    *m = (float)((head.z >> 4 * j & 15u) | (head.w >> (16 + 2 * j) & 3u) << 4);
}

/* Group g (of 32) of row `row` of a matrix at p. */
template <int TYPE>
static __device__ __forceinline__ void ct_cu_decode8(float out[8], const uint8_t *p, size_t pitch, int row, int g, int t)
{
    if constexpr (ct_cu_is_float(TYPE)) {
        const uint8_t *at = p + (size_t)row * pitch;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            size_t k = (size_t)g * 32 + 16 * (i / 4) + 4 * t + i % 4;
            if (TYPE == CT_F32)
                out[i] = ((const float *)at)[k];
            else if (TYPE == CT_F16)
                out[i] = __half2float(((const __half *)at)[k]);
            else
                out[i] = __bfloat162float(((const __nv_bfloat16 *)at)[k]);
        }
    } else if constexpr (ct_cu_record_elems(TYPE) > 0) {
        constexpr int GROUPS = ct_cu_record_elems(TYPE) / 32, HALVES = GROUPS / 4;
        const uint8_t *rec = p + (size_t)(row / 16) * pitch + (size_t)(g / GROUPS) * ct_cu_record_bytes(TYPE);
        int r = row % 16, h = r / 8, lane = 4 * (r % 8) + t, j = g % GROUPS, half = j / 4, w = j % 4;
        int q[8];
        if constexpr (TYPE == CT_Q8_0) {
            uint2 v = *(const uint2 *)(rec + ((w / 2 * 2 + h) * 32 + lane) * 16 + w % 2 * 8);
#pragma unroll
            for (int b = 0; b < 4; b++) {
                q[b] = (int8_t)(v.x >> 8 * b);
                q[4 + b] = (int8_t)(v.y >> 8 * b);
            }
        } else {
            uint32_t v = *(const uint32_t *)(rec + half * 1024 + (h * 32 + lane) * 16 + w * 4);
#pragma unroll
            for (int b = 0; b < 4; b++) {
                q[b] = v >> 8 * b & 15;
                q[4 + b] = v >> (8 * b + 4) & 15;
            }
        }
        if constexpr (TYPE == CT_Q5_0 || TYPE == CT_Q5_1 || TYPE == CT_Q5_K) {
            uint32_t v = *(const uint32_t *)(rec + HALVES * 1024 + half * 256 + (lane * 2 + h) * 4);
#pragma unroll
            for (int i = 0; i < 8; i++)
                q[i] |= (v >> (8 * (i % 4) + 2 * w + i / 4) & 1) << 4;
        }
        if constexpr (TYPE == CT_Q6_K) {
            uint32_t v = *(const uint32_t *)(rec + 2048 + half * 512 + ((lane * 2 + h) * 2 + w / 2) * 4);
#pragma unroll
            for (int i = 0; i < 8; i++)
                q[i] = ((q[i] | (v >> (8 * (i % 4) + 2 * (2 * (w % 2) + i / 4)) & 3) << 4) ^ 32) - 32;
            float d = ct_cu_half(rec + 3328 + r * 2);
            const int8_t *s = (const int8_t *)(rec + 3072 + r * 16 + 2 * j);
#pragma unroll
            for (int i = 0; i < 8; i++)
                out[i] = d * (float)s[i / 4] * (float)q[i];
        } else if constexpr (TYPE == CT_Q4_K || TYPE == CT_Q5_K) {
            uint4 head = *(const uint4 *)(rec + (TYPE == CT_Q4_K ? 2048 : 2560) + r * 16);
            float s, m, d = __half2float(__ushort_as_half((unsigned short)head.x));
            float dmin = __half2float(__ushort_as_half((unsigned short)(head.x >> 16)));
            ct_cu_scale_min(head, j, &s, &m);
#pragma unroll
            for (int i = 0; i < 8; i++)
                out[i] = d * s * (float)q[i] - dmin * m;
        } else if constexpr (TYPE == CT_Q4_1 || TYPE == CT_Q5_1) {
            const uint8_t *s = rec + (TYPE == CT_Q4_1 ? 1024 : 1280) + (r * 4 + w) * 4;
#pragma unroll
            for (int i = 0; i < 8; i++)
                out[i] = ct_cu_half(s) * (float)q[i] + ct_cu_half(s + 2);
        } else {
            float d = ct_cu_half(rec + (TYPE == CT_Q4_0 ? 1024 : TYPE == CT_Q5_0 ? 1280 : 2048) + (r * 4 + w) * 2);
#pragma unroll
            for (int i = 0; i < 8; i++)
                out[i] = d * (float)(TYPE == CT_Q4_0 ? (q[i] ^ 8) - 8 : TYPE == CT_Q5_0 ? q[i] - 16 : q[i]);
        }
    } else { /* the file's blocks, see quant/blocks.c */
        const uint8_t *at = p + (size_t)row * pitch;
        if constexpr (TYPE == CT_IQ4_NL) {
            at += (size_t)g * 18;
            float d = ct_cu_half_at(at);
#pragma unroll
            for (int i = 0; i < 8; i++)
                out[i] = d * (float)ct_cu_iq4[at[2 + 4 * t + i % 4] >> 4 * (i / 4) & 15];
        } else {
            int j = g % 8;
            if constexpr (TYPE == CT_IQ4_XS) {
                at += (size_t)(g / 8) * 136;
                int high = at[2] | at[3] << 8, scale = (at[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4;
                float a = ct_cu_half_at(at) * (float)(scale - 32);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    out[i] = a * (float)ct_cu_iq4[at[8 + 16 * j + 4 * t + i % 4] >> 4 * (i / 4) & 15];
            } else if constexpr (TYPE == CT_Q2_K) {
                at += (size_t)(g / 8) * 84;
                float d = ct_cu_half_at(at + 80), dmin = ct_cu_half_at(at + 82);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    int s = at[2 * j + i / 4], n = at[16 + j / 4 * 32 + i / 4 * 16 + 4 * t + i % 4] >> j % 4 * 2 & 3;
                    out[i] = d * (float)(s & 15) * (float)n - dmin * (float)(s >> 4);
                }
            } else {
                static_assert(TYPE == CT_Q3_K, "a weight type without a decoder");
                at += (size_t)(g / 8) * 110;
                const uint8_t *sc = at + 96;
                float d = ct_cu_half_at(at + 108);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    int g16 = 2 * j + i / 4, l = i / 4 * 16 + 4 * t + i % 4;
                    int s = (sc[g16 % 8] >> g16 / 8 * 4 & 15) | (sc[8 + g16 % 4] >> g16 / 4 * 2 & 3) << 4;
                    int n = (at[32 + j / 4 * 32 + l] >> j % 4 * 2 & 3) | (at[l] >> j & 1) << 2;
                    out[i] = d * (float)(s - 32) * (float)(n - 4);
                }
            }
        }
    }
}

/* Calls F<TYPE>() for a type known at run time; every type of quant/types.def. */
#define CT_CU_EACH_TYPE(type, CALL)           \
    switch (type) {                           \
    case CT_F32: CALL(CT_F32); break;         \
    case CT_F16: CALL(CT_F16); break;         \
    case CT_BF16: CALL(CT_BF16); break;       \
    case CT_Q4_0: CALL(CT_Q4_0); break;       \
    case CT_Q4_1: CALL(CT_Q4_1); break;       \
    case CT_Q5_0: CALL(CT_Q5_0); break;       \
    case CT_Q5_1: CALL(CT_Q5_1); break;       \
    case CT_Q8_0: CALL(CT_Q8_0); break;       \
    case CT_Q2_K: CALL(CT_Q2_K); break;       \
    case CT_Q3_K: CALL(CT_Q3_K); break;       \
    case CT_Q4_K: CALL(CT_Q4_K); break;       \
    case CT_Q5_K: CALL(CT_Q5_K); break;       \
    case CT_Q6_K: CALL(CT_Q6_K); break;       \
    case CT_IQ4_NL: CALL(CT_IQ4_NL); break;   \
    case CT_IQ4_XS: CALL(CT_IQ4_XS); break;   \
    }

#endif
#endif
