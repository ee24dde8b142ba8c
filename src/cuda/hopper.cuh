/* Hopper's own instructions in small functions: barriers in shared memory, tensor copies, warpgroup matrix products.
 *
 * Everything here needs compute capability 9.0a; other architectures compile the callers to nothing. Shared-memory operands
 * are tiles of 64 16-bit columns (128 bytes a row) in the 128-byte swizzle that the copy engine writes: 16-byte chunk c of row
 * r lies at chunk c ^ (r % 8). Names and formats are those of the PTX manual, "Asynchronous Warpgroup Level Matrix Instructions". */
#ifndef CT_CUDA_HOPPER_CUH
#define CT_CUDA_HOPPER_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define CT_WG 128       /* threads of a warpgroup */
#define CT_SW_COLS 64   /* 16-bit columns of a swizzled tile */
#define CT_SW_ROW 128   /* its bytes per row */
#define CT_SW_ATOM 1024 /* eight rows: tiles start at multiples of it */

static __device__ __forceinline__ uint32_t smem_of(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* ---- barriers ---- */

static __device__ __forceinline__ void bar_init(uint64_t *bar, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_of(bar)), "r"(arrivals));
}

/* Makes initialised barriers known to the copy engine and to the other blocks of a cluster. */
static __device__ __forceinline__ void bar_init_done(void) { asm volatile("fence.mbarrier_init.release.cluster;"); }

static __device__ __forceinline__ void bar_expect(uint64_t *bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_of(bar)), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void bar_arrive(uint64_t *bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_of(bar)) : "memory");
}

/* Arrives at the same barrier of another block of the cluster. Not more than the default ordering: with .release.cluster the
 * compiler flushes all memory accesses, every time. What was read through the tensor cores needs none. */
static __device__ __forceinline__ void bar_arrive_at(uint64_t *bar, uint32_t block)
{
    asm volatile("{\n.reg .b32 a;\nmapa.shared::cluster.u32 a, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [a];\n}" ::"r"(smem_of(bar)),
                 "r"(block)
                 : "memory");
}

static __device__ __forceinline__ void bar_wait(uint64_t *bar, uint32_t phase)
{
    asm volatile("{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\n"
                 "bra WAIT;\nDONE:\n}" ::"r"(smem_of(bar)),
                 "r"(phase)
                 : "memory");
}

/* A barrier of some threads of the block; id 0 is __syncthreads. */
static __device__ __forceinline__ void named_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

static __device__ __forceinline__ void cluster_sync(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* The same where threads of a warp may come at different times. */
static __device__ __forceinline__ void cluster_sync_all(void)
{
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

static __device__ __forceinline__ uint32_t cluster_rank(void)
{
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}

/* Ordinary stores to shared memory become visible to the tensor cores and the copy engine. */
static __device__ __forceinline__ void fence_async_proxy(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- tensor copies, global to shared ---- */

static __device__ __forceinline__ void copy_2d(void *dst, const CUtensorMap *map, uint64_t *bar, int32_t x, int32_t y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(smem_of(dst)),
                 "l"(map), "r"(smem_of(bar)), "r"(x), "r"(y)
                 : "memory");
}

/* bytes (a multiple of 16) that lie together. */
static __device__ __forceinline__ void copy_bytes(void *dst, const void *src, uint32_t bytes, uint64_t *bar)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(smem_of(dst)),
        "l"(src), "r"(bytes), "r"(smem_of(bar))
        : "memory");
}

/* To the same place in every block of mask, completing on the same barrier of each. */
static __device__ __forceinline__ void copy_2d_all(void *dst, const CUtensorMap *map, uint64_t *bar, int32_t x,
                                                   int32_t y, uint16_t mask)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(smem_of(dst)),
                 "l"(map), "r"(smem_of(bar)), "r"(x), "r"(y), "h"(mask)
                 : "memory");
}

static __device__ __forceinline__ void copy_4d(void *dst, const CUtensorMap *map, uint64_t *bar, int32_t x, int32_t y,
                                               int32_t z, int32_t w)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(smem_of(dst)),
                 "l"(map), "r"(smem_of(bar)), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}

static __device__ __forceinline__ void map_prefetch(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map));
}

/* ---- warpgroup matrix products ---- */

/* An operand whose rows run along the product's sum (K-major): rows of 64 columns, eight rows every 1024 bytes. A step of 16
 * columns along the sum is 32 bytes. */
static __device__ __forceinline__ uint64_t desc_k(uint32_t smem)
{
    return (uint64_t)(smem >> 4 & 0x3fff) | 1ull << 16 | (uint64_t)(CT_SW_ATOM >> 4) << 32 | 1ull << 62;
}

/* An operand whose rows are steps of the sum (MN-major): 64 columns to a tile, tiles tile_bytes apart. A step of 16 rows along
 * the sum is 2048 bytes. */
static __device__ __forceinline__ uint64_t desc_mn(uint32_t smem, uint32_t tile_bytes)
{
    return (uint64_t)(smem >> 4 & 0x3fff) | (uint64_t)(tile_bytes >> 4) << 16 | (uint64_t)(CT_SW_ATOM >> 4) << 32 |
           1ull << 62;
}

static __device__ __forceinline__ void wg_fence(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
static __device__ __forceinline__ void wg_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> static __device__ __forceinline__ void wg_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Uses of d stay behind the wait that comes before this. */
template <int N> static __device__ __forceinline__ void wg_settled(float (&d)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

template <int REGS> static __device__ __forceinline__ void regs_more(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGS));
}
template <int REGS> static __device__ __forceinline__ void regs_fewer(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGS));
}

#define CT_D8(d, i)                                                                                             \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define CT_D32(d, i) CT_D8(d, i), CT_D8(d, i + 8), CT_D8(d, i + 16), CT_D8(d, i + 24)
#define CT_S0                                                                                                         \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%" \
    "30,%31"
#define CT_S1                                                                                                          \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
    "%60,%61,%62,%63"
#define CT_S2                                                                                                          \
    "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91," \
    "%92,%93,%94,%95"
#define CT_S3                                                                                                          \
    "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%" \
    "119,%120,%121,%122,%123,%124,%125,%126,%127"

/* The sums of a product: N / 2 registers, ... are their constraints; A, B, P: the numbers of the operands behind them. */
#define CT_WGMMA_SS(shape, type, sums, A, B, P, ...)                                                    \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P ", 0;\n"                                        \
                 "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" sums "}, %" A ", %" B \
                 ", p, 1, 1, 0, 0;\n}"                                                                  \
                 : __VA_ARGS__                                                                          \
                 : "l"(a), "l"(b), "r"(add))
#define CT_WGMMA_RS(shape, type, sums, A, B, P, ...)                                                     \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P ", 0;\n"                                         \
                 "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" sums "}, {" A "}, %" B \
                 ", p, 1, 1, 1;\n}"                                                                      \
                 : __VA_ARGS__                                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))

template <class T> static constexpr bool ct_is_bf16 = __is_same(T, __nv_bfloat16);

/* D[64][N] (+)= A[64][16] B[N][16]^T, both K-major in shared memory; add = 0 overwrites D. T: __nv_bfloat16 or __half.
 * Lane l of warp w holds rows 16 w + l / 4 (d[4 i], d[4 i + 1]) and 8 more (d[4 i + 2], d[4 i + 3]), columns 8 i + 2 (l % 4), + 1. */
template <int N, class T>
static __device__ __forceinline__ void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int add)
{
    static_assert(N == 64 || N == 128 || N == 256, "no such product was written");
    if constexpr (N == 64 && ct_is_bf16<T>)
        CT_WGMMA_SS("m64n64k16", "bf16", CT_S0, "32", "33", "34", CT_D32(d, 0));
    if constexpr (N == 64 && !ct_is_bf16<T>)
        CT_WGMMA_SS("m64n64k16", "f16", CT_S0, "32", "33", "34", CT_D32(d, 0));
    if constexpr (N == 128 && ct_is_bf16<T>)
        CT_WGMMA_SS("m64n128k16", "bf16", CT_S0 "," CT_S1, "64", "65", "66", CT_D32(d, 0), CT_D32(d, 32));
    if constexpr (N == 128 && !ct_is_bf16<T>)
        CT_WGMMA_SS("m64n128k16", "f16", CT_S0 "," CT_S1, "64", "65", "66", CT_D32(d, 0), CT_D32(d, 32));
    if constexpr (N == 256)
        CT_WGMMA_SS("m64n256k16", "bf16", CT_S0 "," CT_S1 "," CT_S2 "," CT_S3, "128", "129", "130", CT_D32(d, 0),
                    CT_D32(d, 32), CT_D32(d, 64), CT_D32(d, 96));
}

/* D[64][128] += A[64][16] B[16][128], on sums at .. at + 63 of d: A in registers (as the sums lie, in pairs), B MN-major in shared
 * memory. */
template <int AT, class T, int N>
static __device__ __forceinline__ void wgmma_rs_half(float (&d)[N], const uint32_t (&a)[4], uint64_t b)
{
    const int add = 1;
    if constexpr (ct_is_bf16<T>)
        CT_WGMMA_RS("m64n128k16", "bf16", CT_S0 "," CT_S1, "%64,%65,%66,%67", "68", "69", CT_D32(d, AT),
                    CT_D32(d, AT + 32));
    else
        CT_WGMMA_RS("m64n128k16", "f16", CT_S0 "," CT_S1, "%64,%65,%66,%67", "68", "69", CT_D32(d, AT),
                    CT_D32(d, AT + 32));
}

/* D[64][N] += A[64][16] B[16][N]. halves: as products of 128 columns, for kernels with too few registers at their entry for 256 sums
 * (the assembler's check); tile_bytes is then what desc_mn was given. */
template <int N, class T, bool HALVES>
static __device__ __forceinline__ void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
                                                uint32_t tile_bytes)
{
    static_assert(N == 128 || N == 256, "no such product was written");
    const int add = 1;
    if constexpr (N == 128) {
        wgmma_rs_half<0, T>(d, a, b);
    } else if constexpr (HALVES) {
        wgmma_rs_half<0, T>(d, a, b);
        wgmma_rs_half<64, T>(d, a, b + (2 * tile_bytes >> 4));
    } else if constexpr (ct_is_bf16<T>) {
        CT_WGMMA_RS("m64n256k16", "bf16", CT_S0 "," CT_S1 "," CT_S2 "," CT_S3, "%128,%129,%130,%131", "132", "133",
                    CT_D32(d, 0), CT_D32(d, 32), CT_D32(d, 64), CT_D32(d, 96));
    } else {
        CT_WGMMA_RS("m64n256k16", "f16", CT_S0 "," CT_S1 "," CT_S2 "," CT_S3, "%128,%129,%130,%131", "132", "133",
                    CT_D32(d, 0), CT_D32(d, 32), CT_D32(d, 64), CT_D32(d, 96));
    }
}

#endif
