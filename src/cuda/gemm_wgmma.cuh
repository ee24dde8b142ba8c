/* Y = X W^T on Hopper's tensor cores: bf16 operands, f32 sums, up to four matrices W that share X in one launch.
 *
 * Persistent blocks of a warpgroup that copies and two that compute, 64 rows each by N outputs: 256, or fewer where a product has
 * too few tiles to fill the card. Two blocks of a cluster work on neighbouring rows of X and share the tiles of W by multicast. Sums run along K in one order, whatever the shape, so a row's bits
 * do not depend on the rows beside it. The gated form has gate's rows in the left half of a tile of W and up's in the right,
 * so that gelu(gate) * up needs no trip through memory. It knows bf16 only: expand.cu makes that of every other type. */
#ifndef CT_CUDA_GEMM_WGMMA_CUH
#define CT_CUDA_GEMM_WGMMA_CUH

#include <math_constants.h>

#include "cuda/cuda_kernels.h"
#include "cuda/hopper.cuh"

#define GEMM_M 128 /* rows of X in a block's tile */
#define GEMM_N 256 /* outputs in a tile, at most */
#define GEMM_K 64  /* columns in a step: one swizzled tile */
#ifndef GEMM_GROUP
#define GEMM_GROUP 8 /* clusters of rows that share W's tiles through the second-level cache before the next outputs */
#endif

enum gemm_form { GEMM_F32, GEMM_GEGLU_F32, GEMM_GEGLU_BF16 };

struct gemm_out {
    void *p;
    size_t stride; /* elements */
    int32_t cols;  /* outputs wanted */
    int32_t tile;  /* number of its first tile of outputs */
};

struct gemm_params {
    CUtensorMap x;                /* [rows][K] in tiles of 128 rows */
    CUtensorMap w[CT_LINEAR_MAX]; /* [outputs][K] in tiles of gemm_box rows; gated: gate, up */
    struct gemm_out out[CT_LINEAR_MAX];
    int32_t m, rows, steps;       /* steps of GEMM_K along K */
    int32_t row_tiles, out_tiles; /* in clusters of rows; of all matrices */
};

/* Rows of W in a copy. */
static __host__ __device__ constexpr int gemm_box(bool gated, int n, int cluster)
{
    return gated || cluster == 2 ? n / 2 : n;
}

/* Steps in flight: as many as shared memory holds. */
template <int N> static constexpr int gemm_stages = N == 256 ? 4 : N == 128 ? 6 : 8;

template <int N> struct gemm_shared {
    uint8_t x[gemm_stages<N>][GEMM_M * CT_SW_ROW];
    uint8_t w[gemm_stages<N>][N * CT_SW_ROW];
    uint64_t full[gemm_stages<N>], free_[gemm_stages<N>];
};

struct gemm_tile {
    int32_t row, matrix, out; /* first row of the cluster; first output within the matrix */
};

/* Rows run fastest, in groups, so that blocks that run together share both operands. width: outputs in a tile. */
template <int CLUSTER>
static __device__ __forceinline__ struct gemm_tile gemm_tile_at(const struct gemm_params &p, int32_t i, int32_t width)
{
    int32_t per_group = GEMM_GROUP * p.out_tiles, g = i / per_group, rest = i % per_group;
    int32_t high = min(GEMM_GROUP, p.row_tiles - g * GEMM_GROUP), n = rest / high;
    struct gemm_tile t = {(g * GEMM_GROUP + rest % high) * GEMM_M * CLUSTER, 0, 0};
    while (t.matrix + 1 < p.m && p.out[t.matrix + 1].tile <= n)
        t.matrix++;
    t.out = (n - p.out[t.matrix].tile) * width;
    return t;
}

template <bool GATED, int N, int CLUSTER>
static __device__ __forceinline__ void gemm_fetch(struct gemm_shared<N> *s, const struct gemm_params &p, uint32_t rank)
{
    constexpr int BOX = gemm_box(GATED, N, CLUSTER);
    int32_t tiles = p.row_tiles * p.out_tiles, stage = 0;
    uint32_t phase = 1;
    for (int32_t i = (int32_t)blockIdx.x / CLUSTER; i < tiles; i += (int32_t)gridDim.x / CLUSTER) {
        struct gemm_tile t = gemm_tile_at<CLUSTER>(p, i, GATED ? N / 2 : N);
        int32_t row = t.row + (int32_t)rank * GEMM_M;
        for (int32_t k = 0; k < p.steps; k++) {
            bar_wait(&s->free_[stage], phase);
            bar_expect(&s->full[stage], (GEMM_M + N) * CT_SW_ROW);
            copy_2d(s->x[stage], &p.x, &s->full[stage], k * GEMM_K, row);
            if constexpr (CLUSTER == 2) { /* this block's half of the tile of W, to both */
                const CUtensorMap *w = GATED ? &p.w[rank] : &p.w[t.matrix];
                copy_2d_all(s->w[stage] + rank * BOX * CT_SW_ROW, w, &s->full[stage], k * GEMM_K,
                            GATED ? t.out : t.out + (int32_t)rank * BOX, 3);
            } else {
                copy_2d(s->w[stage], &p.w[GATED ? 0 : t.matrix], &s->full[stage], k * GEMM_K, t.out);
                if (GATED)
                    copy_2d(s->w[stage] + BOX * CT_SW_ROW, &p.w[1], &s->full[stage], k * GEMM_K, t.out);
            }
            if (++stage == gemm_stages<N>) {
                stage = 0;
                phase ^= 1;
            }
        }
    }
}

static __device__ __forceinline__ float gemm_gelu(float x)
{
    /* The tanh form: (1 + tanh z) / 2 = 1 / (1 + exp(-2 z)), which ends in 1 and in 0. */
    float z = 0.7978845608f * (x + 0.044715f * x * x * x);
    return __fdividef(x, 1.0f + __expf(-2.0f * z));
}

/* Four lanes hold four values each: lane q gets the q-th value of all four, in the lanes' order. */
template <class T> static __device__ __forceinline__ void gemm_transpose(T (&v)[4], int32_t q)
{
    T a = __shfl_xor_sync(0xffffffff, q & 1 ? v[0] : v[1], 1), b = __shfl_xor_sync(0xffffffff, q & 1 ? v[2] : v[3], 1);
    v[0] = q & 1 ? a : v[0];
    v[1] = q & 1 ? v[1] : a;
    v[2] = q & 1 ? b : v[2];
    v[3] = q & 1 ? v[3] : b;
    a = __shfl_xor_sync(0xffffffff, q & 2 ? v[0] : v[2], 2);
    b = __shfl_xor_sync(0xffffffff, q & 2 ? v[1] : v[3], 2);
    v[0] = q & 2 ? a : v[0];
    v[2] = q & 2 ? v[2] : a;
    v[1] = q & 2 ? b : v[1];
    v[3] = q & 2 ? v[3] : b;
}

/* Four neighbouring outputs to y: those before left. */
static __device__ __forceinline__ void gemm_put4(float *y, float a, float b, float c, float d, int32_t left)
{
    if (left >= 4 && (uintptr_t)y % 16 == 0) {
        *(float4 *)y = make_float4(a, b, c, d);
        return;
    }
    const float v[4] = {a, b, c, d};
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (j < left)
            y[j] = v[j];
}

/* The warpgroup's 64 x N sums to memory. Lanes swap values first, so that each writes 16 bytes and every store of a warp covers
 * whole sectors of 32: scattered or halved sectors cost a tenth of the time of short sums. */
template <int FORM, int N>
static __device__ __forceinline__ void gemm_store(const float (&acc)[N / 2], const struct gemm_params &p,
                                                  struct gemm_tile t, int32_t row, int32_t lane)
{
    constexpr int COLS = FORM == GEMM_F32 ? N : N / 2;
    const struct gemm_out &out = p.out[t.matrix];
    int32_t q = lane % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        bool there = row + 8 * r < p.rows;
        size_t at = (size_t)(row + 8 * r) * out.stride;
#pragma unroll
        for (int i = 0; i < COLS / 8; i += 4) {
            float a[4], b[4]; /* columns 8 (i + j) + 2 q and the next */
#pragma unroll
            for (int j = 0; j < 4; j++) {
                a[j] = acc[4 * (i + j) + 2 * r];
                b[j] = acc[4 * (i + j) + 2 * r + 1];
                if (FORM != GEMM_F32) {
                    a[j] = gemm_gelu(a[j]) * acc[N / 4 + 4 * (i + j) + 2 * r];
                    b[j] = gemm_gelu(b[j]) * acc[N / 4 + 4 * (i + j) + 2 * r + 1];
                }
            }
            if constexpr (
                FORM ==
                GEMM_GEGLU_BF16) { /* scratch: rows of whole groups of 64 columns; lane q writes columns 8 (i + q) .. */
                uint32_t v[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    __nv_bfloat162 h = __floats2bfloat162_rn(a[j], b[j]);
                    v[j] = (uint32_t)__bfloat16_as_ushort(h.x) | (uint32_t)__bfloat16_as_ushort(h.y) << 16;
                }
                gemm_transpose(v, q);
                int32_t col = t.out + (i + q) * 8;
                if (there && col < out.cols)
                    *(uint4 *)((__nv_bfloat16 *)out.p + at + col) = make_uint4(v[0], v[1], v[2], v[3]);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j += 2) { /* lane q writes columns 8 (i + j + q % 2) + 4 (q / 2) .. + 3 */
                    float x = __shfl_xor_sync(0xffffffff, q & 1 ? a[j] : a[j + 1], 1);
                    float y = __shfl_xor_sync(0xffffffff, q & 1 ? b[j] : b[j + 1], 1);
                    int32_t col = t.out + (i + j + (q & 1)) * 8 + q / 2 * 4, left = there ? out.cols - col : 0;
                    float *to = (float *)out.p + at + col;
                    if (q & 1)
                        gemm_put4(to, x, y, a[j + 1], b[j + 1], left);
                    else
                        gemm_put4(to, a[j], b[j], x, y, left);
                }
            }
        }
    }
}

template <int FORM, int N, int CLUSTER>
static __device__ __forceinline__ void gemm_compute(struct gemm_shared<N> *s, const struct gemm_params &p,
                                                    uint32_t rank, int32_t wg, int32_t thread)
{
    int32_t tiles = p.row_tiles * p.out_tiles, stage = 0, lane = thread % 32, warp = thread / 32;
    uint32_t phase = 0;
    float acc[N / 2];
    for (int32_t i = (int32_t)blockIdx.x / CLUSTER; i < tiles; i += (int32_t)gridDim.x / CLUSTER) {
        struct gemm_tile t = gemm_tile_at<CLUSTER>(p, i, FORM == GEMM_F32 ? N : N / 2);
        int32_t last = -1; /* the stage that the product still under way reads */
        for (int32_t k = 0; k < p.steps; k++) {
            bar_wait(&s->full[stage], phase);
            uint32_t x = smem_of(s->x[stage]) + (uint32_t)wg * 64 * CT_SW_ROW, w = smem_of(s->w[stage]);
            wg_fence();
#pragma unroll
            for (int j = 0; j < GEMM_K / 16; j++)
                wgmma_ss<N, __nv_bfloat16>(acc, desc_k(x + j * 32), desc_k(w + j * 32), k > 0 || j > 0);
            wg_commit();
            wg_wait<1>(); /* the step before is through: its stage is free in both blocks */
            if (last >= 0 && lane < CLUSTER)
                bar_arrive_at(&s->free_[last], (uint32_t)lane);
            last = stage;
            if (++stage == gemm_stages<N>) {
                stage = 0;
                phase ^= 1;
            }
        }
        wg_wait<0>();
        wg_settled(acc);
        if (lane < CLUSTER)
            bar_arrive_at(&s->free_[last], (uint32_t)lane);
        gemm_store<FORM, N>(acc, p, t, t.row + (int32_t)rank * GEMM_M + wg * 64 + warp * 16 + lane / 4, lane);
    }
}

template <int FORM, int N, int CLUSTER>
static __global__ void __launch_bounds__(3 * CT_WG, 1) gemm_wgmma(const __grid_constant__ struct gemm_params p)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(CT_SW_ATOM) uint8_t raw[];
    struct gemm_shared<N> *s = (struct gemm_shared<N> *)raw;
    int32_t wg = (int32_t)threadIdx.x / CT_WG, thread = (int32_t)threadIdx.x % CT_WG;
    uint32_t rank = cluster_rank();
    if (threadIdx.x == 0) {
        map_prefetch(&p.x);
        for (int i = 0; i < gemm_stages<N>; i++) {
            bar_init(&s->full[i], 1);
            bar_init(&s->free_[i], 8 * CLUSTER); /* warps that compute */
        }
        bar_init_done();
    }
    cluster_sync();
    if (wg == 0) {
        regs_fewer<24>();
        if (thread == 0)
            gemm_fetch<FORM != GEMM_F32, N, CLUSTER>(s, p, rank);
    } else {
        regs_more<240>();
        gemm_compute<FORM, N, CLUSTER>(s, p, rank, wg - 1, thread);
    }
    cluster_sync_all(); /* the other block may still write into this one's memory, or arrive at its barriers */
#endif
}

#endif
