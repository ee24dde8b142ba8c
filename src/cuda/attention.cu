/* Attention of single rows over the cache: decode, and prompts where nothing faster is there.
 *
 * A block takes one row, one kv head (its queries share what is loaded) and a run of pages; the last block of a row and kv head to
 * finish adds the parts up, in order. How a row's keys are cut depends on its own position alone, so its bits do not depend on
 * what else is in the batch. Everything is f32 but what the cache holds. */
#include "cuda/internal.cuh"

#define THREADS 128
#define MOST_SPLITS 64
#define ROWS_AT_ONCE 64 /* a launch's; bounds the parts' memory */

struct place {
    int from, pages, per, splits;
};

/* Pages and splits of a row. */
static __device__ __forceinline__ struct place place_of(int pos, int window)
{
    struct place p;
    p.from = window && pos >= window ? pos - window + 1 : 0;
    p.pages = pos / CT_KV_PAGE - p.from / CT_KV_PAGE + 1;
    p.per = (p.pages + MOST_SPLITS - 1) / MOST_SPLITS;
    p.splits = (p.pages + p.per - 1) / p.per;
    return p;
}

/* Eight elements from element e (a multiple of 8) of position `at` of head h. */
template <bool FAST>
static __device__ __forceinline__ void load8(float x[8], const uint8_t *part, ct_dtype type, int kv_heads, int d, int h, int at, int e)
{
    size_t i = ((size_t)h * CT_KV_PAGE + at) * d + e;
    if (FAST || type == CT_BF16) {
        uint4 v = *(const uint4 *)((const uint16_t *)part + i);
        const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            x[2 * k] = __uint_as_float(w[k] << 16);
            x[2 * k + 1] = __uint_as_float(w[k] & 0xffff0000u);
        }
    } else if (type == CT_F16) {
        for (int k = 0; k < 8; k++)
            x[k] = __half2float(((const __half *)part)[i + k]);
    } else if (type == CT_F32) {
        for (int k = 0; k < 8; k++)
            x[k] = ((const float *)part)[i + k];
    } else {
        const __half *scales = (const __half *)(part + ct_cu_kv_scales(type, kv_heads, d));
        size_t g = ((size_t)h * CT_KV_PAGE + at) * (d / 32) + e / 32;
        if (type == CT_Q8_0) {
            float s = __half2float(scales[g]);
            for (int k = 0; k < 8; k++)
                x[k] = s * (float)((const int8_t *)part)[i + k];
        } else {
            float s = __half2float(scales[2 * g]), m = __half2float(scales[2 * g + 1]);
            const uint8_t *q = part + (i - e % 32) / 2 + e % 16;
            for (int k = 0; k < 8; k++)
                x[k] = s * (float)(q[k] >> (e % 32 / 16 * 4) & 15) + m;
        }
    }
}

/* Two neighbouring elements. */
template <bool FAST>
static __device__ __forceinline__ float2 load2(const uint8_t *part, ct_dtype type, int kv_heads, int d, int h, int at, int e)
{
    size_t i = ((size_t)h * CT_KV_PAGE + at) * d + e;
    if (FAST || type == CT_BF16) {
        uint32_t v = *(const uint32_t *)((const uint16_t *)part + i);
        return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
    }
    if (type == CT_F16)
        return __half22float2(*(const __half2 *)((const __half *)part + i));
    if (type == CT_F32)
        return *(const float2 *)((const float *)part + i);
    const __half *scales = (const __half *)(part + ct_cu_kv_scales(type, kv_heads, d));
    size_t g = ((size_t)h * CT_KV_PAGE + at) * (d / 32) + e / 32;
    if (type == CT_Q8_0) {
        float s = __half2float(scales[g]);
        return make_float2(s * (float)((const int8_t *)part)[i], s * (float)((const int8_t *)part)[i + 1]);
    }
    float s = __half2float(scales[2 * g]), m = __half2float(scales[2 * g + 1]);
    const uint8_t *q = part + (i - e % 32) / 2 + e % 16;
    int shift = e % 32 / 16 * 4;
    return make_float2(s * (float)(q[0] >> shift & 15) + m, s * (float)(q[1] >> shift & 15) + m);
}

/* scratch: parts [row][head][split][d + 2] (sums, largest score, sum of weights), then counters [row][block of heads]. */
template <int G, bool FAST>
static __global__ void __launch_bounds__(THREADS)
    attend(ct_cu_mat o, ct_cu_mat q, ct_cu_kv kv, const int32_t *pos, const int32_t *seq, int first, int heads, int window,
           float scale, float *parts, int *counters, int splits_room, struct planes pk, int kind)
{
    extern __shared__ float shared[]; /* q [G][d], scores [G][64], factor, largest, sum [G] */
    int row = first + blockIdx.z, d = kv.head_dim, group = heads / kv.kv_heads, blocks = (group + G - 1) / G;
    int h = blockIdx.y / blocks, h0 = h * group + blockIdx.y % blocks * G, n_heads = min(G, h * group + group - h0);
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    float *qs = shared, *score = qs + G * d, *factor = score + G * CT_KV_PAGE, *largest = factor + G, *total = largest + G;
    __shared__ int is_last;
    let_next_begin();
    struct place at = place_of(pos[row], window); /* rows were sent by an earlier kernel than the last */
    int split = blockIdx.x;
    if (split >= at.splits) {
        after_previous();
        return;
    }
    int page0 = at.from / CT_KV_PAGE + split * at.per, page1 = min(page0 + at.per, pos[row] / CT_KV_PAGE + 1);
    const int32_t *table = kv.table + (size_t)seq[row] * kv.table_stride;
#if __CUDA_ARCH__ >= 900
    if (FAST && tid < 2 && page0 + (tid ^ 1) < page1) { /* asks for old keys and values while q is being made */
        int p0 = page0 + (tid ^ 1), n = min(pos[row] - p0 * CT_KV_PAGE, CT_KV_PAGE) * d * 2 / 16 * 16;
        const uint8_t *k = kv.pages + (size_t)table[kv.ring ? p0 % kv.ring : p0] * kv.page_bytes + (size_t)h * CT_KV_PAGE * d * 2;
        if (n > 0) {
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(k), "r"(n) : "memory");
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(k + kv.v_off), "r"(n) : "memory");
        }
    }
#endif
    after_previous();
    for (int i = tid; i < n_heads * d; i += THREADS)
        qs[i] = q.p[row * q.stride + (size_t)h0 * d + i] * scale;
    for (int i = n_heads * d + tid; i < G * d; i += THREADS)
        qs[i] = 0.0f;
    if (tid < G) {
        largest[tid] = -INFINITY;
        total[tid] = 0.0f;
    }
    float acc[G][2][2];
#pragma unroll
    for (int g = 0; g < G; g++)
        acc[g][0][0] = acc[g][0][1] = acc[g][1][0] = acc[g][1][1] = 0.0f;
    __syncthreads();
    for (int page = page0; page < page1; page++) {
        const uint8_t *k = kv.pages + (size_t)table[kv.ring ? page % kv.ring : page] * kv.page_bytes, *v = k + kv.v_off;
        int lo = max(at.from - page * CT_KV_PAGE, 0), hi = min(pos[row] - page * CT_KV_PAGE + 1, CT_KV_PAGE);
        /* Scores: a warp takes 16 keys, four at a time; lanes share the head's elements. */
#pragma unroll 1
        for (int j = warp * 16; j < warp * 16 + 16; j += 4) {
            if (j >= hi || j + 4 <= lo) { /* nobody's */
                for (int i = lane; i < 4 * G; i += 32)
                    score[i / 4 * CT_KV_PAGE + j + i % 4] = -INFINITY;
                continue;
            }
            float dot[G][4];
#pragma unroll
            for (int g = 0; g < G; g++)
                dot[g][0] = dot[g][1] = dot[g][2] = dot[g][3] = 0.0f;
            {
                for (int e = lane * 8; e < d; e += 256) {
                    float x[4][8];
#pragma unroll
                    for (int u = 0; u < 4; u++)
                        load8<FAST>(x[u], k, kv.type_k, kv.kv_heads, d, h, j + u, e);
#pragma unroll
                    for (int g = 0; g < G; g++) {
                        float4 a = *(const float4 *)(qs + g * d + e), b = *(const float4 *)(qs + g * d + e + 4);
#pragma unroll
                        for (int u = 0; u < 4; u++)
                            dot[g][u] += x[u][0] * a.x + x[u][1] * a.y + x[u][2] * a.z + x[u][3] * a.w + x[u][4] * b.x +
                                         x[u][5] * b.y + x[u][6] * b.z + x[u][7] * b.w;
                    }
                }
            }
#pragma unroll
            for (int g = 0; g < G; g++) { /* 4 sums over 32 lanes: lanes 0, 8, 16, 24 end with one each */
                bool up = lane & 16, upper = lane & 8;
                float a = (up ? dot[g][2] : dot[g][0]) + __shfl_xor_sync(~0u, up ? dot[g][0] : dot[g][2], 16);
                float b = (up ? dot[g][3] : dot[g][1]) + __shfl_xor_sync(~0u, up ? dot[g][1] : dot[g][3], 16);
                float s = (upper ? b : a) + __shfl_xor_sync(~0u, upper ? a : b, 8);
                s += __shfl_xor_sync(~0u, s, 4);
                s += __shfl_xor_sync(~0u, s, 2);
                s += __shfl_xor_sync(~0u, s, 1);
                int key = j + lane / 8;
                if (lane % 8 == 0)
                    score[g * CT_KV_PAGE + key] = key >= lo && key < hi ? s : -INFINITY;
            }
        }
        __syncthreads();
        for (int g = warp; g < G; g += THREADS / 32) {
            float a = score[g * CT_KV_PAGE + lane], b = score[g * CT_KV_PAGE + 32 + lane], m = largest[g];
            float most = fmaxf(warp_max(fmaxf(a, b)), m);
            if (__any_sync(~0u, isnan(a) || isnan(b))) /* fmaxf drops it */
                most = NAN;
            a = expf(a - most);
            b = expf(b - most);
            score[g * CT_KV_PAGE + lane] = a;
            score[g * CT_KV_PAGE + 32 + lane] = b;
            float s = warp_sum(a + b);
            if (lane == 0) {
                factor[g] = m == -INFINITY ? 0.0f : expf(m - most);
                largest[g] = most;
                total[g] = total[g] * factor[g] + s;
            }
        }
        __syncthreads();
#pragma unroll
        for (int g = 0; g < G; g++) {
            float f = factor[g];
            acc[g][0][0] *= f;
            acc[g][0][1] *= f;
            acc[g][1][0] *= f;
            acc[g][1][1] *= f;
        }
#pragma unroll
        for (int u = 0; u < 2; u++)
            if (u * 256 + tid * 2 < d) {
#pragma unroll 8
                for (int j = lo; j < hi; j++) {
                    float2 x = load2<FAST>(v, kv.type_v, kv.kv_heads, d, h, j, u * 256 + tid * 2);
#pragma unroll
                    for (int g = 0; g < G; g++) {
                        float p = score[g * CT_KV_PAGE + j];
                        acc[g][u][0] += p * x.x;
                        acc[g][u][1] += p * x.y;
                    }
                }
            }
        __syncthreads();
    }
    float *out = qs; /* [G][d]: the queries are done with */
    if (at.splits == 1) {
#pragma unroll
        for (int g = 0; g < G; g++)
            for (int u = 0; u < 2; u++)
                if (u * 256 + tid * 2 < d && g < n_heads) {
                    out[g * d + u * 256 + tid * 2] = acc[g][u][0] / total[g];
                    out[g * d + u * 256 + tid * 2 + 1] = acc[g][u][1] / total[g];
                }
        __syncthreads();
    } else {
        size_t room = (size_t)d + 2;
        float *mine = parts + (((size_t)blockIdx.z * heads + h0) * splits_room) * room;
#pragma unroll
        for (int g = 0; g < G; g++)
            if (g < n_heads) {
                float *p = mine + ((size_t)g * splits_room + split) * room;
                for (int u = 0; u < 2; u++)
                    if (u * 256 + tid * 2 < d) {
                        p[u * 256 + tid * 2] = acc[g][u][0];
                        p[u * 256 + tid * 2 + 1] = acc[g][u][1];
                    }
                if (tid == 0) {
                    p[d] = largest[g];
                    p[d + 1] = total[g];
                }
            }
        __threadfence();
        __syncthreads();
        int *counter = counters + blockIdx.z * gridDim.y + blockIdx.y;
        if (tid == 0)
            is_last = atomicAdd(counter, 1) == at.splits - 1;
        __syncthreads();
        if (!is_last)
            return;
        __threadfence();
        if (tid == 0)
            *counter = 0; /* for the next launch */
        for (int g = 0; g < n_heads; g++) {
            const float *p = mine + (size_t)g * splits_room * room;
            float most = -INFINITY, sum = 0.0f;
            for (int s = 0; s < at.splits; s++) {
                float m = __ldcg(p + s * room + d);
                most = m > most || m != m ? m : most;
            }
            for (int s = 0; s < at.splits; s++)
                sum += __ldcg(p + s * room + d + 1) * expf(__ldcg(p + s * room + d) - most);
            for (int e = tid; e < d; e += THREADS) {
                float x = 0.0f;
#pragma unroll 4
                for (int s = 0; s < at.splits; s++)
                    x += __ldcg(p + s * room + e) * expf(__ldcg(p + s * room + d) - most);
                out[g * d + e] = x / sum;
            }
        }
        __syncthreads();
    }
    for (int i = tid; i < n_heads * d; i += THREADS) {
        o.p[row * o.stride + (size_t)h0 * d + i] = out[i];
        if (kind >= 0) /* d is a multiple of 32 then, and a warp has a group */
            pack_group(pk, kind, (h0 * d + i) / 32, row, out[i], 1.0f);
    }
}

static int splits_for(int context)
{
    int pages = context / CT_KV_PAGE + 2;
    return pages < MOST_SPLITS ? pages : MOST_SPLITS;
}

size_t cu_attention_scratch(int rows, int heads, int d, int context)
{
    size_t n = (size_t)(rows < ROWS_AT_ONCE ? rows : ROWS_AT_ONCE) * (size_t)heads;
    return n * splits_for(context) * ((size_t)d + 2) * sizeof(float) + (size_t)ROWS_AT_ONCE * 128 * sizeof(int) + 256;
}

template <int G>
static int run(cudaStream_t s, ct_cu_mat o, ct_cu_mat q, const ct_cu_kv *kv, struct dev_rows r, int heads, int window, float scale,
               int splits, int room, float *parts, int *counters, struct planes pk, int kind)
{
    int d = kv->head_dim, group = heads / kv->kv_heads, e = 0;
    size_t shared = (size_t)G * (d + CT_KV_PAGE + 3) * sizeof(float);
    bool fast = kv->type_k == CT_BF16 && kv->type_v == CT_BF16;
    for (int from = 0; from < r.n && e == 0; from += ROWS_AT_ONCE) {
        int n = r.n - from < ROWS_AT_ONCE ? r.n - from : ROWS_AT_ONCE;
        dim3 grid(splits, kv->kv_heads * ((group + G - 1) / G), n);
        e = launch(fast ? attend<G, true> : attend<G, false>, grid, THREADS, shared, s, o, q, *kv, r.pos, r.seq, from, heads, window,
                   scale, parts, counters, room, pk, kind);
    }
    return e;
}

int cu_attention(cudaStream_t s, ct_cu_mat o, ct_cu_mat q, const ct_cu_kv *kv, struct dev_rows r, int heads, int window,
                 float scale, int longest, int context, void *scratch, struct planes pk, int kind)
{
    int group = heads / kv->kv_heads, room = splits_for(context);
    int keys = window && window < longest ? window : longest, splits = splits_for(keys) < room ? splits_for(keys) : room;
    int *counters = (int *)scratch; /* stay where they are, whatever the shape: they must be zero between launches */
    float *parts = (float *)((uint8_t *)scratch + (((size_t)ROWS_AT_ONCE * 128 * sizeof(int)) + 255) / 256 * 256);
    if (group == 1)
        return run<1>(s, o, q, kv, r, heads, window, scale, splits, room, parts, counters, pk, kind);
    if (group == 2)
        return run<2>(s, o, q, kv, r, heads, window, scale, splits, room, parts, counters, pk, kind);
    return run<4>(s, o, q, kv, r, heads, window, scale, splits, room, parts, counters, pk, kind);
}
