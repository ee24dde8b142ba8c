/* Products of packed weights with few rows: decode, and whatever has no better kernel. Every weight byte is read once for up to
 * CU_PASS rows.
 *
 * Weights are operand A of the tensor cores (16 rows of them), packed activations operand B (8 rows at a time): integers with two
 * planes of int8, each group of 32 scaled in f32 by itself, so integer sums are exact; halves with two planes of 16 bits. A block
 * takes one tile of 16 weight rows; its warps take the tile's records in turn, and their sums are added in one order. So a row's
 * bits depend neither on the number of rows nor on what is beside it.
 *
 * While it waits for the kernel before it, a block already asks for its weights: memory is busy through the small kernels. */
#include "cuda/internal.cuh"

#define WARPS 8

/* Elements of a step of a warp along K: a record, or so many floats. */
static __host__ __device__ constexpr int step_elems(int type) { return ct_cu_is_float(type) ? 128 : ct_cu_record_elems(type); }

enum plane_kind cu_plane_kind(ct_dtype t)
{
    return t == CT_BF16 ? PLANES_BF16 : t == CT_F16 ? PLANES_F16 : PLANES_INT8;
}

struct job { /* up to four matrices side by side */
    ct_cu_weight w[CT_LINEAR_MAX];
    ct_cu_mat y[CT_LINEAR_MAX];
    int tiles[CT_LINEAR_MAX + 1]; /* first tile of each; the last is their number */
    struct planes p;
    int first, n;
};

static __device__ __forceinline__ void mma_s8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, bool u8)
{
    if (u8)
        asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void mma_s8_16(int c[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}

template <bool BF16>
static __device__ __forceinline__ void mma_16(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                              uint32_t b1)
{
    if (BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint4 weights16(const uint8_t *p)
{
    uint4 v; /* read once: past L1 */
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

static __device__ __forceinline__ uint2 weights8(const uint8_t *p)
{
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}

static __device__ __forceinline__ float low_half(uint32_t v) { return __half2float(__ushort_as_half((unsigned short)v)); }
static __device__ __forceinline__ float high_half(uint32_t v) { return low_half(v >> 16); }

static __device__ __forceinline__ uint32_t word(const uint4 v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/* ---- the raw bytes of a step, as a lane holds them ---- */

template <int TYPE> struct raw {
    static constexpr int HALVES = ct_cu_record_elems(TYPE) / 128;
    uint4 q[TYPE == CT_Q8_0 ? 4 : 2 * HALVES]; /* [half][row h], or [w/2][h] */
    uint2 ones[TYPE == CT_Q5_0 || TYPE == CT_Q5_1 || TYPE == CT_Q5_K ? HALVES : 1]; /* rows h = 0, 1 */
    uint4 twos[TYPE == CT_Q6_K ? HALVES : 1];                                       /* h = 0: x y, h = 1: z w */
    uint4 head[2];                                                                  /* scales of rows r, r + 8 */
    uint16_t d[2];

    __device__ __forceinline__ void load(const uint8_t *rec, int lane)
    {
        int r = lane / 4;
#pragma unroll
        for (int i = 0; i < (TYPE == CT_Q8_0 ? 4 : 2 * HALVES); i++)
            q[i] = weights16(rec + i * 512 + lane * 16);
        if constexpr (TYPE == CT_Q5_0 || TYPE == CT_Q5_1 || TYPE == CT_Q5_K) {
#pragma unroll
            for (int i = 0; i < HALVES; i++)
                ones[i] = weights8(rec + HALVES * 1024 + i * 256 + lane * 8);
        }
        if constexpr (TYPE == CT_Q6_K) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                twos[i] = weights16(rec + 2048 + i * 512 + lane * 16);
                head[i] = weights16(rec + 3072 + (r + 8 * i) * 16);
                d[i] = *(const uint16_t *)(rec + 3328 + (r + 8 * i) * 2);
            }
        } else if constexpr (TYPE == CT_Q4_K || TYPE == CT_Q5_K) {
#pragma unroll
            for (int i = 0; i < 2; i++)
                head[i] = weights16(rec + (TYPE == CT_Q4_K ? 2048 : 2560) + (r + 8 * i) * 16);
        } else if constexpr (TYPE == CT_Q4_1 || TYPE == CT_Q5_1) {
#pragma unroll
            for (int i = 0; i < 2; i++)
                head[i] = weights16(rec + (TYPE == CT_Q4_1 ? 1024 : 1280) + (r + 8 * i) * 16);
        } else {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint2 v = weights8(rec + (TYPE == CT_Q4_0 ? 1024 : TYPE == CT_Q5_0 ? 1280 : 2048) + (r + 8 * i) * 8);
                head[i] = make_uint4(v.x, v.y, 0, 0);
            }
        }
    }

    /* Operand A of group w of half u, and the scale and minimum of rows r and r + 8 (q6_k: scales of both 16s). */
    __device__ __forceinline__ void group(int u, int w, uint32_t a[4], float s[2], float m[2]) const
    {
        if constexpr (TYPE == CT_Q8_0) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                a[h] = word(q[w / 2 * 2 + h], w % 2 * 2);
                a[2 + h] = word(q[w / 2 * 2 + h], w % 2 * 2 + 1);
            }
        } else {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint32_t v = word(q[u * 2 + h], w);
                if constexpr (TYPE == CT_Q4_0) { /* 16 (n - 8) in two's complement */
                    a[h] = v << 4 & 0xf0f0f0f0u;
                    a[2 + h] = v & 0xf0f0f0f0u;
                } else if constexpr (TYPE == CT_Q6_K) { /* 4 (n - 32) */
                    uint32_t two = w / 2 ? (h ? twos[u].w : twos[u].y) : (h ? twos[u].z : twos[u].x);
                    int at = 4 * (w % 2); /* of s = 0; bits at, at + 1 go to 6, 7 */
                    a[h] = (v << 2 & 0x3c3c3c3cu) | (two << (6 - at) & 0xc0c0c0c0u);
                    a[2 + h] = (v >> 2 & 0x3c3c3c3cu) | (two << (4 - at) & 0xc0c0c0c0u);
                } else {
                    a[h] = v & 0x0f0f0f0fu;
                    a[2 + h] = v >> 4 & 0x0f0f0f0fu;
                    if constexpr (TYPE == CT_Q5_0 || TYPE == CT_Q5_1 || TYPE == CT_Q5_K) {
                        uint32_t one = h ? ones[u].y : ones[u].x;
                        a[h] |= (2 * w <= 4 ? one << (4 - 2 * w) : one >> (2 * w - 4)) & 0x10101010u;
                        a[2 + h] |= (2 * w + 1 <= 4 ? one << (3 - 2 * w) : one >> (2 * w - 3)) & 0x10101010u;
                    }
                }
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if constexpr (TYPE == CT_Q4_1 || TYPE == CT_Q5_1) {
                uint32_t v = word(head[h], w);
                s[h] = low_half(v);
                m[h] = high_half(v);
            } else if constexpr (TYPE == CT_Q4_K || TYPE == CT_Q5_K) {
                float a_s, a_m;
                ct_cu_scale_min(head[h], 4 * u + w, &a_s, &a_m);
                s[h] = low_half(head[h].x) * a_s;
                m[h] = -high_half(head[h].x) * a_m;
            } else if constexpr (TYPE == CT_Q6_K) {
                uint32_t v = word(head[h], u * 2 + w / 2) >> (w % 2 * 16);
                float dd = __half2float(__ushort_as_half(d[h])) * 0.25f;
                s[h] = dd * (float)(int8_t)v;
                m[h] = dd * (float)(int8_t)(v >> 8);
            } else {
                uint32_t v = w / 2 ? head[h].y : head[h].x;
                s[h] = (w % 2 ? high_half(v) : low_half(v)) * (TYPE == CT_Q4_0 ? 0.0625f : 1.0f);
                m[h] = TYPE == CT_Q5_0 ? -16.0f * s[h] : 0.0f;
            }
        }
    }

    static constexpr bool MIN = TYPE != CT_Q8_0 && TYPE != CT_Q4_0 && TYPE != CT_Q6_K;
};

/* Rows r and r + 8 of 128 columns of 16-bit floats: [step of 32][h]. */
template <> struct raw<CT_BF16> {
    uint4 q[8];
    __device__ __forceinline__ void load(const uint8_t *at, size_t pitch)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            q[2 * i] = weights16(at + i * 64);
            q[2 * i + 1] = weights16(at + 8 * pitch + i * 64);
        }
    }
};
template <> struct raw<CT_F16> : raw<CT_BF16> {};

/* Not volatile, so that the compiler may have many in flight; not .nc either, as the kernel before wrote them. What keeps them
 * behind after_previous() is that their addresses come out of `behind`. */
static __device__ __forceinline__ uint4 activations16(const uint8_t *p)
{
    uint4 v;
    asm("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

static __device__ __forceinline__ float activation(const float *p)
{
    float v;
    asm("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(p));
    return v;
}

static __device__ __forceinline__ struct planes behind(struct planes p)
{
    asm volatile("" : "+l"(p.data), "+l"(p.scale), "+l"(p.sum)::"memory");
    return p;
}

/* One step of a warp: all of K's elements [k0, k0 + step) of 16 rows, times NT * 8 rows of activations. ONE: only the first is
 * there, and only lanes with t = 0 have results. */
template <int TYPE, int NT, bool ONE>
static __device__ __forceinline__ void multiply(float acc[NT][4], const raw<TYPE> &a, int step, struct planes p, int first, int n)
{
    int lane = threadIdx.x % 32, col = lane / 4, t = lane % 4;
    const uint4 zero = make_uint4(0, 0, 0, 0);
    if constexpr (TYPE == CT_BF16 || TYPE == CT_F16) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int g = step * 4 + i;
            const uint4 x = a.q[2 * i], y = a.q[2 * i + 1];
#pragma unroll
            for (int nt = 0; nt < NT; nt++) {
                uint4 hi = zero, lo = zero;
                if (8 * nt + col < n) {
                    const uint8_t *b = p.data + ((size_t)(g * p.n + first + 8 * nt + col) * 4 + t) * 32;
                    hi = activations16(b);
                    lo = activations16(b + 16);
                }
                mma_16<TYPE == CT_BF16>(acc[nt], x.x, y.x, x.y, y.y, hi.x, hi.y);
                mma_16<TYPE == CT_BF16>(acc[nt], x.z, y.z, x.w, y.w, hi.z, hi.w);
                mma_16<TYPE == CT_BF16>(acc[nt], x.x, y.x, x.y, y.y, lo.x, lo.y);
                mma_16<TYPE == CT_BF16>(acc[nt], x.z, y.z, x.w, y.w, lo.z, lo.w);
            }
        }
    } else {
        constexpr int HALVES = ct_cu_record_elems(TYPE) / 128;
#pragma unroll
        for (int u = 0; u < HALVES; u++)
#pragma unroll
            for (int w = 0; w < 4; w++) {
                int g = (step * HALVES + u) * 4 + w;
                uint32_t q[4];
                float s[2], m[2];
                a.group(u, w, q, s, m);
#pragma unroll
                for (int nt = 0; nt < NT; nt++) {
                    uint4 b = zero;
                    if (8 * nt + col < n)
                        b = activations16(p.data + ((size_t)(g * p.n + first + 8 * nt + col) * 4 + t) * 16);
                    float xs[2] = {0.0f, 0.0f}, xm[2] = {0.0f, 0.0f};
#pragma unroll
                    for (int j = 0; j < (ONE ? 1 : 2); j++)
                        if (8 * nt + 2 * t + j < n) {
                            xs[j] = activation(p.scale + g * p.n + first + 8 * nt + 2 * t + j);
                            if (raw<TYPE>::MIN)
                                xm[j] = activation(p.sum + g * p.n + first + 8 * nt + 2 * t + j);
                        }
                    int hi[4] = {0, 0, 0, 0}, lo[4] = {0, 0, 0, 0};
                    if constexpr (TYPE == CT_Q6_K) {
                        int hi2[4] = {0, 0, 0, 0}, lo2[4] = {0, 0, 0, 0};
                        mma_s8_16(hi, q[0], q[1], b.x);
                        mma_s8_16(lo, q[0], q[1], b.z);
                        mma_s8_16(hi2, q[2], q[3], b.y);
                        mma_s8_16(lo2, q[2], q[3], b.w);
#pragma unroll
                        for (int i = 0; i < 4; i += ONE ? 2 : 1)
                            acc[nt][i] += ((float)(hi[i] * 256 + lo[i]) * s[i / 2] + (float)(hi2[i] * 256 + lo2[i]) * m[i / 2]) * xs[i % 2];
                    } else {
                        mma_s8(hi, q, b.x, b.y, raw<TYPE>::MIN);
                        mma_s8(lo, q, b.z, b.w, raw<TYPE>::MIN);
#pragma unroll
                        for (int i = 0; i < 4; i += ONE ? 2 : 1) {
                            acc[nt][i] += (float)(hi[i] * 256 + lo[i]) * (s[i / 2] * xs[i % 2]);
                            if (raw<TYPE>::MIN)
                                acc[nt][i] += m[i / 2] * xm[i % 2];
                        }
                    }
                }
            }
    }
}

static __device__ __forceinline__ void prefetch(const uint8_t *p, uint32_t bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes & ~15u) : "memory");
#endif
}

/* Where a lane's part of a warp's first step lies in a tile. */
template <int TYPE>
static __device__ __forceinline__ void load(raw<TYPE> &a, const ct_cu_weight &w, int tile, int step)
{
    int lane = threadIdx.x % 32;
    if constexpr (ct_cu_is_float(TYPE))
        a.load(w.p + ((size_t)tile * 16 + lane / 4) * w.pitch + (size_t)step * 256 + lane % 4 * 16, w.pitch);
    else
        a.load(w.p + tile * w.pitch + (size_t)step * ct_cu_record_bytes(TYPE), lane);
}

/* Blocks that share an SM: as many as have registers without spilling. */
static constexpr int per_sm(int type, int nt)
{
    bool few = type == CT_Q4_0 || type == CT_Q4_1 || type == CT_Q5_0 || type == CT_Q8_0;
    return nt >= 8 && !few ? 1 : nt >= 4 || !few ? 2 : 3;
}

template <int TYPE, int NT, bool ONE> static __global__ void __launch_bounds__(32 * WARPS, per_sm(TYPE, NT)) linear(struct job j)
{
    extern __shared__ float sums[]; /* [warps][16][NT * 8] */
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32, i = 0, tile = blockIdx.x;
    while (tile >= j.tiles[i + 1])
        i++;
    tile -= j.tiles[i];
    const ct_cu_weight &w = j.w[i];
    int steps = (w.cols + step_elems(TYPE) - 1) / step_elems(TYPE);
    raw<TYPE> a;
    load<TYPE>(a, w, tile, warp < steps ? warp : 0);
    if (threadIdx.x == 0 && !ct_cu_is_float(TYPE))
        prefetch(w.p + tile * w.pitch, (uint32_t)w.pitch);
    if (threadIdx.x < 16 && ct_cu_is_float(TYPE))
        prefetch(w.p + (tile * 16 + threadIdx.x) * w.pitch, (uint32_t)w.pitch);
    let_next_begin();
    after_previous();
    const struct planes p = behind(j.p);
    float acc[NT][4];
#pragma unroll
    for (int k = 0; k < NT; k++)
        acc[k][0] = acc[k][1] = acc[k][2] = acc[k][3] = 0.0f;
    for (int step = warp; step < steps; step += warps) {
        raw<TYPE> now = a;
        if (step + warps < steps)
            load<TYPE>(a, w, tile, step + warps);
        multiply<TYPE, NT, ONE>(acc, now, step, p, j.first, j.n);
    }
    /* c[0], c[1]: weight row lane / 4, activation rows 2 t, 2 t + 1; c[2], c[3]: weight row + 8 */
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            sums[(warp * NT * 8 + nt * 8 + lane % 4 * 2 + k % 2) * 16 + lane / 4 + k / 2 * 8] = acc[nt][k];
    __syncthreads();
    for (int k = threadIdx.x; k < 16 * j.n; k += blockDim.x) {
        int r = k % 16, col = k / 16;
        float s = 0.0f;
        for (int u = 0; u < warps; u++)
            s += sums[(u * NT * 8 + col) * 16 + r];
        if (TYPE == CT_F16)
            s *= j.p.scale[j.first + col];
        int out = tile * 16 + r;
        if (out < j.y[i].cols)
            j.y[i].p[(size_t)(j.first + col) * j.y[i].stride + out] = s;
    }
}

template <int TYPE, int NT, bool ONE> static int run(cudaStream_t s, const struct job &j)
{
    int steps = (j.w[0].cols + step_elems(TYPE) - 1) / step_elems(TYPE), warps = steps < WARPS ? steps : WARPS;
    return launch(linear<TYPE, NT, ONE>, j.tiles[CT_LINEAR_MAX], 32 * warps, (size_t)warps * 16 * NT * 8 * sizeof(float), s, j);
}

template <int TYPE> static int run_type(cudaStream_t s, const struct job &j)
{
    return j.n == 1    ? run<TYPE, 1, true>(s, j)
           : j.n <= 8  ? run<TYPE, 1, false>(s, j)
           : j.n <= 16 ? run<TYPE, 2, false>(s, j)
           : j.n <= 32 ? run<TYPE, 4, false>(s, j)
                       : run<TYPE, 8, false>(s, j);
}

/* Types without a packing of their own: a warp per output, f32, decoded as it goes. x comes back from its planes, so that the
 * arithmetic of a row is the same everywhere. */
template <int TYPE> static __global__ void __launch_bounds__(128) general(struct job j)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, i = 0, tile = blockIdx.x;
    while (tile >= j.tiles[i + 1])
        i++;
    tile -= j.tiles[i];
    const ct_cu_weight &w = j.w[i];
    let_next_begin();
    after_previous();
    const struct planes p = behind(j.p);
    for (int r = warp; r < 16; r += 4) {
        int out = tile * 16 + r;
        if (out >= w.rows || out >= j.y[i].cols)
            return;
        for (int col = 0; col < j.n; col++) {
            float sum = 0.0f;
            for (int k = lane; k < (w.cols + 31) / 32 * 4; k += 32) {
                int g = k / 4, t = k % 4;
                float v[8], part = 0.0f;
                ct_cu_decode8<TYPE>(v, w.p, w.pitch, out, g, t);
                uint4 b = activations16(p.data + ((size_t)(g * p.n + j.first + col) * 4 + t) * 16);
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    int hi = (int8_t)((e < 4 ? b.x : b.y) >> 8 * (e % 4)), lo = (int8_t)((e < 4 ? b.z : b.w) >> 8 * (e % 4));
                    part += v[e] * (float)(256 * hi + lo);
                }
                sum += part * activation(p.scale + g * p.n + j.first + col);
            }
            sum = warp_sum(sum);
            if (lane == 0)
                j.y[i].p[(size_t)(j.first + col) * j.y[i].stride + out] = sum;
        }
    }
}

template <int TYPE> static int run_general(cudaStream_t s, const struct job &j)
{
    return launch(general<TYPE>, j.tiles[CT_LINEAR_MAX], 128, 0, s, j);
}

int cu_linear(cudaStream_t s, int m, const ct_cu_mat *y, const ct_cu_weight *w, struct planes p, int first, int n)
{
    int e = 0;
    bool done[CT_LINEAR_MAX] = {false, false, false, false};
    for (int from = 0; from < m && e == 0; from++) { /* those of one type together */
        if (done[from])
            continue;
        struct job j = {};
        int k = 0;
        for (int i = from; i < m; i++)
            if (!done[i] && w[i].type == w[from].type) {
                done[i] = true;
                j.w[k] = w[i];
                j.y[k] = y[i];
                j.tiles[k + 1] = j.tiles[k] + ((y[i].cols < w[i].rows ? y[i].cols : w[i].rows) + 15) / 16;
                k++;
            }
        for (; k < CT_LINEAR_MAX; k++)
            j.tiles[k + 1] = j.tiles[k];
        j.p = p;
        j.first = first;
        j.n = n;
        switch (w[from].type) {
        case CT_BF16: e = run_type<CT_BF16>(s, j); break;
        case CT_F16: e = run_type<CT_F16>(s, j); break;
        case CT_Q4_0: e = run_type<CT_Q4_0>(s, j); break;
        case CT_Q4_1: e = run_type<CT_Q4_1>(s, j); break;
        case CT_Q5_0: e = run_type<CT_Q5_0>(s, j); break;
        case CT_Q5_1: e = run_type<CT_Q5_1>(s, j); break;
        case CT_Q8_0: e = run_type<CT_Q8_0>(s, j); break;
        case CT_Q4_K: e = run_type<CT_Q4_K>(s, j); break;
        case CT_Q5_K: e = run_type<CT_Q5_K>(s, j); break;
        case CT_Q6_K: e = run_type<CT_Q6_K>(s, j); break;
        case CT_F32: e = run_general<CT_F32>(s, j); break;
        case CT_Q2_K: e = run_general<CT_Q2_K>(s, j); break;
        case CT_Q3_K: e = run_general<CT_Q3_K>(s, j); break;
        case CT_IQ4_NL: e = run_general<CT_IQ4_NL>(s, j); break;
        case CT_IQ4_XS: e = run_general<CT_IQ4_XS>(s, j); break;
        }
    }
    return e;
}
