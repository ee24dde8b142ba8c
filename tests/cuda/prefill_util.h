/* What the prompt side's test and timing programs share: random numbers, device memory, timing, and a reading of every cache
 * type in double precision. Programs, not the library: they print and exit. */
#ifndef CT_TESTS_CUDA_PREFILL_UTIL_H
#define CT_TESTS_CUDA_PREFILL_UTIL_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_kernels.h"

#define MUST(call)                                                               \
    do {                                                                         \
        int must_e = (int)(call);                                                \
        if (must_e != 0) {                                                       \
            printf("%s:%d: %s gave %d, %s\n", __FILE__, __LINE__, #call, must_e, \
                   cudaGetErrorString((cudaError_t)must_e));                     \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

struct rng {
    uint64_t s;
};

static inline uint64_t draw(struct rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline int32_t below(struct rng *r, int32_t n) { return (int32_t)(draw(r) % (uint64_t)n); }

static inline float normal(struct rng *r)
{
    double u = ((double)(draw(r) >> 11) + 1.0) * 0x1p-53, v = (double)(draw(r) >> 11) * 0x1p-53;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static inline void *device(size_t bytes)
{
    void *p = NULL;
    MUST(cudaMalloc(&p, bytes));
    return p;
}

static inline void *device_copy(const void *src, size_t bytes)
{
    void *p = device(bytes);
    MUST(cudaMemcpy(p, src, bytes, cudaMemcpyHostToDevice));
    return p;
}

static inline uint16_t bf16_bits(float f)
{
    __nv_bfloat16 h = __float2bfloat16(f);
    uint16_t u;
    memcpy(&u, &h, 2);
    return u;
}

static inline double bf16_value(uint16_t u)
{
    uint32_t w = (uint32_t)u << 16;
    float f;
    memcpy(&f, &w, 4);
    return (double)f;
}

static inline uint16_t f16_bits(float f)
{
    __half h = __float2half(f);
    uint16_t u;
    memcpy(&u, &h, 2);
    return u;
}

static inline double f16_value(uint16_t u)
{
    __half h;
    memcpy(&h, &u, 2);
    return (double)__half2float(h);
}

/* A cache of random content: `pages` pages on the host, and on the device. */
struct cache {
    ct_cu_kv kv; /* device pointers */
    uint8_t *host;
    int32_t *table;
    size_t bytes;
};

static inline void fill_part(struct rng *r, uint8_t *p, ct_dtype t, int32_t kv_heads, int32_t d)
{
    size_t n = (size_t)CT_KV_PAGE * (size_t)kv_heads * (size_t)d, groups = n / 32;
    uint8_t *scales = p + ct_cu_kv_scales(t, kv_heads, d);
    if (t == CT_BF16 || t == CT_F16 || t == CT_F32) {
        for (size_t i = 0; i < n; i++) {
            float f = normal(r);
            uint16_t h = t == CT_BF16 ? bf16_bits(f) : f16_bits(f);
            if (t == CT_F32)
                memcpy(p + 4 * i, &f, 4);
            else
                memcpy(p + 2 * i, &h, 2);
        }
        return;
    }
    for (size_t i = 0; i < (t == CT_Q8_0 ? n : n / 2); i++)
        p[i] = t == CT_Q8_0 ? (uint8_t)(int8_t)fmaxf(-127.0f, fminf(127.0f, 42.0f * normal(r))) : (uint8_t)draw(r);
    for (size_t i = 0; i < groups; i++) {
        uint16_t d16 = f16_bits((t == CT_Q8_0 ? 0.024f : 0.22f) * (1.0f + 0.2f * normal(r)));
        uint16_t m16 = f16_bits(-1.6f + 0.1f * normal(r));
        memcpy(scales + i * (t == CT_Q8_0 ? 2 : 4), &d16, 2);
        if (t == CT_Q4_1)
            memcpy(scales + i * 4 + 2, &m16, 2);
    }
}

static inline double cached(const uint8_t *p, ct_dtype t, int32_t kv_heads, int32_t d, int32_t head, int32_t at,
                            int32_t e)
{
    size_t row = (size_t)head * CT_KV_PAGE + (size_t)at, i = row * (size_t)d + (size_t)e, g = i / 32;
    const uint8_t *scales = p + ct_cu_kv_scales(t, kv_heads, d);
    uint16_t h, m;
    float f;
    switch (t) {
    case CT_F32: memcpy(&f, p + 4 * i, 4); return (double)f;
    case CT_F16: memcpy(&h, p + 2 * i, 2); return f16_value(h);
    case CT_BF16: memcpy(&h, p + 2 * i, 2); return bf16_value(h);
    case CT_Q8_0: memcpy(&h, scales + 2 * g, 2); return f16_value(h) * (double)(int8_t)p[i];
    default:
        memcpy(&h, scales + 4 * g, 2);
        memcpy(&m, scales + 4 * g + 2, 2);
        return f16_value(h) * (double)(p[g * 16 + i % 16] >> (i % 32 < 16 ? 0 : 4) & 15) + f16_value(m);
    }
}

/* Pages in shuffled order; table_stride pages for each of `sequences`. Large caches repeat 8 random pages. */
static inline struct cache cache_make(struct rng *r, ct_dtype k, ct_dtype v, int32_t kv_heads, int32_t d, int32_t ring,
                                      int32_t table_stride, int32_t sequences)
{
    struct cache c;
    memset(&c, 0, sizeof c);
    int32_t pages = sequences * table_stride;
    c.kv.type_k = k;
    c.kv.type_v = v;
    c.kv.kv_heads = kv_heads;
    c.kv.head_dim = d;
    c.kv.ring = ring;
    c.kv.table_stride = table_stride;
    c.kv.v_off = ct_cu_kv_part(k, kv_heads, d);
    c.kv.page_bytes = c.kv.v_off + ct_cu_kv_part(v, kv_heads, d);
    c.bytes = (size_t)pages * c.kv.page_bytes;
    c.host = (uint8_t *)malloc(c.bytes);
    c.table = (int32_t *)malloc((size_t)pages * sizeof *c.table);
    for (int32_t i = 0; i < pages; i++) {
        uint8_t *p = c.host + (size_t)i * c.kv.page_bytes;
        if (i >= 32) {
            memcpy(p, c.host + (size_t)(i % 32) * c.kv.page_bytes, c.kv.page_bytes);
        } else {
            fill_part(r, p, k, kv_heads, d);
            fill_part(r, p + c.kv.v_off, v, kv_heads, d);
        }
        c.table[i] = i;
    }
    for (int32_t i = pages - 1; i > 0; i--) {
        int32_t j = below(r, i + 1), swap = c.table[i];
        c.table[i] = c.table[j];
        c.table[j] = swap;
    }
    c.kv.pages = (uint8_t *)device_copy(c.host, c.bytes);
    c.kv.table = (int32_t *)device_copy(c.table, (size_t)pages * sizeof *c.table);
    return c;
}

static inline void cache_free(struct cache *c)
{
    MUST(cudaFree(c->kv.pages));
    MUST(cudaFree((void *)c->kv.table));
    free(c->host);
    free(c->table);
}

/* The page, on the host, of position p of sequence s. */
static inline const uint8_t *cache_page(const struct cache *c, int32_t s, int32_t p)
{
    int32_t slot = p / CT_KV_PAGE;
    return c->host +
           (size_t)c->table[s * c->kv.table_stride + (c->kv.ring ? slot % c->kv.ring : slot)] * c->kv.page_bytes;
}

static inline int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median time of a call in milliseconds; *spread: of the middle half. */
template <class F> static inline float time_of(F call, int32_t warm, int32_t times, float *spread)
{
    float ms[64];
    cudaEvent_t a, b;
    MUST(cudaEventCreate(&a));
    MUST(cudaEventCreate(&b));
    for (int32_t i = 0; i < warm; i++)
        call();
    for (int32_t i = 0; i < times; i++) {
        MUST(cudaEventRecord(a, 0));
        call();
        MUST(cudaEventRecord(b, 0));
        MUST(cudaEventSynchronize(b));
        MUST(cudaEventElapsedTime(&ms[i], a, b));
    }
    qsort(ms, (size_t)times, sizeof ms[0], compare_floats);
    if (spread)
        *spread = (ms[times * 3 / 4] - ms[times / 4]) / ms[times / 2];
    MUST(cudaEventDestroy(a));
    MUST(cudaEventDestroy(b));
    return ms[times / 2];
}

static __global__ void fill_normal(float *p, size_t n, uint32_t seed, float sigma)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint64_t z = (i + 1) * 0x9e3779b97f4a7c15ull + seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        float u = ((float)(uint32_t)(z >> 40) + 1.0f) * 0x1p-24f, v = (float)(uint32_t)(z & 0xffffff) * 0x1p-24f;
        p[i] = sigma * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
    }
}

static __global__ void to_bf16(__nv_bfloat16 *dst, const float *src, size_t n)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        dst[i] = __float2bfloat16(src[i]);
}

static inline float *device_normal(size_t n, uint32_t seed, float sigma)
{
    float *p = (float *)device(n * sizeof(float));
    fill_normal<<<1024, 256>>>(p, n, seed, sigma);
    MUST(cudaGetLastError());
    return p;
}

static inline __nv_bfloat16 *device_bf16(size_t n, uint32_t seed, float sigma)
{
    float *p = device_normal(n, seed, sigma);
    __nv_bfloat16 *q = (__nv_bfloat16 *)device(n * 2);
    to_bf16<<<1024, 256>>>(q, p, n);
    MUST(cudaDeviceSynchronize());
    MUST(cudaFree(p));
    return q;
}

#endif
