/* Attention of prompt rows over the paged cache, on Hopper's tensor cores.
 *
 * A block has 128 rows: `tokens` neighbouring tokens of a run times the query heads that share a kv head, so each key is fetched
 * once for all of them. Tiles of keys and values are brought into shared memory by the copy engine, for q8 and q4 in packed form,
 * which two warpgroups expand to f16; two warpgroups of 64 rows each compute: S = Q K^T, a softmax that is corrected as larger
 * scores turn up (Milakov and Gimelshein 2018; Dao et al., "FlashAttention", 2022), O += P V. The scores of the next tile are
 * computed while this tile's values are summed. It knows no model. docs/KERNELS.md has the figures. */
#ifndef CT_CUDA_FLASH_WGMMA_CUH
#define CT_CUDA_FLASH_WGMMA_CUH

#include "cuda/cuda_kernels.h"

#include <string.h>

#include "cuda/hopper.cuh"

#define ROWS 128       /* rows of a block */
#define STAGES 2       /* tiles of keys, and of values, in flight */
#define MAX_RUNS 64    /* in one launch: they travel as parameters */
#define RESCALE_LOG2 8 /* sums are only rescaled when the largest score has grown by 2^8: exact, and rarely needed */

enum kind { KIND_BF16, KIND_F16, KIND_Q8, KIND_Q4 };

struct run {
    int32_t first, n, seq, pos, tile; /* tile: number of its first block of rows */
};

struct params {
    const float *q; /* [rows][heads d] */
    float *o;       /* [rows][heads d] */
    size_t q_stride, o_stride;
    const int32_t *table;
    const uint8_t *pages;
    size_t page_bytes, v_off;
    int32_t table_stride, ring, kv_heads, group, tokens, window, tiles, n_runs;
    float scale_log2; /* scale / ln 2 */
    bool wide;        /* rows of q and o lie at multiples of 16 bytes */
    struct run run[MAX_RUNS];
};

/* Keys in a tile: as many as leave room for two tiles of keys and of values beside the queries. */
template <int D> static constexpr int keys_of = D == 256 ? 64 : 128;

template <int D> struct shared {
    uint8_t q[ROWS * D * 2];               /* [warpgroup][D / 64][64 rows][128 bytes] */
    uint8_t k[STAGES][keys_of<D> * D * 2]; /* [D / 64][keys][128 bytes] */
    uint8_t v[STAGES][keys_of<D> * D * 2];
    uint64_t k_full[STAGES], v_full[STAGES], k_free[STAGES], v_free[STAGES];
    uint64_t k_raw, v_raw, unused[6]; /* packed tiles have arrived; what follows is aligned to 128 bytes */
};

/* Bytes of a packed tile: quants, then scales, page by page. They lie behind the struct: keys, values. */
static __host__ __device__ constexpr int quants_of(int kind, int elems)
{
    return kind == KIND_Q8 ? elems : kind == KIND_Q4 ? elems / 2 : 0;
}
static __host__ __device__ constexpr int scales_of(int kind, int elems)
{
    return kind == KIND_Q8 ? elems / 16 : kind == KIND_Q4 ? elems / 8 : 0;
}
static __host__ __device__ constexpr int packed_of(int kind, int elems)
{
    return quants_of(kind, elems) + scales_of(kind, elems);
}

/* What a block works on. */
struct work {
    int32_t row, n, pos, seq, head; /* its first row, tokens, position of the first; kv head */
    int32_t key_lo, key_hi;         /* the keys that any of its rows may see */
    int32_t tile_lo, tiles;         /* tiles of keys */
};

template <int D> static __device__ __forceinline__ struct work work_of(const struct params &p)
{
    int32_t tile = p.tiles - 1 - (int32_t)blockIdx.x / p.kv_heads,
            i = 0; /* the deepest rows first: they take longest */
    while (i + 1 < p.n_runs && p.run[i + 1].tile <= tile)
        i++;
    int32_t at = (tile - p.run[i].tile) * p.tokens;
    struct work w;
    w.head = (int32_t)blockIdx.x % p.kv_heads;
    w.row = p.run[i].first + at;
    w.n = min(p.tokens, p.run[i].n - at);
    w.pos = p.run[i].pos + at;
    w.seq = p.run[i].seq;
    w.key_lo = p.window ? max(0, w.pos - p.window + 1) : 0;
    w.key_hi = w.pos + w.n - 1;
    w.tile_lo = w.key_lo / keys_of<D>;
    w.tiles = w.key_hi / keys_of<D> - w.tile_lo + 1;
    return w;
}

/* The page of the i-th 64 positions; past the last one, which nobody reads, the last. */
static __device__ __forceinline__ int32_t page_of(const struct params &p, const struct work &w, int32_t i)
{
    i = min(i, w.key_hi / CT_KV_PAGE);
    return p.table[(size_t)w.seq * (size_t)p.table_stride + (size_t)(p.ring ? i % p.ring : i)];
}

/* ---- the warpgroups that fetch ---- */

template <int D>
static __device__ __forceinline__ void fetch_tile(uint8_t *dst, const CUtensorMap *map, uint64_t *bar, int32_t head,
                                                  const int32_t *pages)
{
    bar_expect(bar, keys_of<D> * D * 2);
#pragma unroll
    for (int c = 0; c < D / 64; c++)
#pragma unroll
        for (int i = 0; i < keys_of<D> / CT_KV_PAGE; i++)
            copy_4d(dst + (c * keys_of<D> + i * CT_KV_PAGE) * CT_SW_ROW, map, bar, c * 64, 0, head, pages[i]);
}

static __device__ __forceinline__ __half2 half2_of(uint32_t bits)
{
    __half2 h;
    memcpy(&h, &bits, sizeof h);
    return h;
}

static __device__ __forceinline__ uint32_t bits_of(__half2 h)
{
    uint32_t u;
    memcpy(&u, &h, sizeof u);
    return u;
}

/* Four bytes b to 1024 + b in f16, in two pairs: 0x6400 is 1024, whose last bit is worth 1. */
static __device__ __forceinline__ void widen_bytes(uint32_t bytes, __half2 *lo, __half2 *hi)
{
    *lo = half2_of(__byte_perm(bytes, 0x64646464, 0x4140));
    *hi = half2_of(__byte_perm(bytes, 0x64646464, 0x4342));
}

/* Eight q8 elements: d q. */
static __device__ __forceinline__ uint4 expand_q8(uint32_t a, uint32_t b, __half2 d)
{
    const __half2 bias = __half2half2(__ushort_as_half(0x6480)); /* 1024 + 128 */
    __half2 x[4];
    widen_bytes(a ^ 0x80808080, &x[0], &x[1]);
    widen_bytes(b ^ 0x80808080, &x[2], &x[3]);
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        r[i] = bits_of(__hmul2(__hsub2(x[i], bias), d));
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* Eight q4 elements, already one to a byte: d n + m. */
static __device__ __forceinline__ uint4 expand_q4(uint32_t a, uint32_t b, __half2 d, __half2 m)
{
    const __half2 bias = __half2half2(__ushort_as_half(0x6400));
    __half2 x[4];
    widen_bytes(a, &x[0], &x[1]);
    widen_bytes(b, &x[2], &x[3]);
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        r[i] = bits_of(__hfma2(__hsub2(x[i], bias), d, m));
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* Where 16-byte chunk c of a key's row lies in a tile. */
template <int D> static __device__ __forceinline__ uint8_t *chunk_at(uint8_t *tile, int key, int c)
{
    return tile + ((c / 8) * keys_of<D> + key) * CT_SW_ROW + ((c % 8) ^ (key & 7)) * 16;
}

/* The packed bytes of a tile into shared memory, asynchronously: a head's 64 positions lie together in a page. */
template <int D, int KIND>
static __device__ __forceinline__ void fetch_packed(uint8_t *dst, const uint8_t *part, uint64_t *bar,
                                                    const struct params &p, int32_t head, const int32_t *pages)
{
    constexpr int PAGE = CT_KV_PAGE * D, QUANTS = quants_of(KIND, PAGE), SCALES = scales_of(KIND, PAGE);
    bar_expect(bar, packed_of(KIND, keys_of<D> * D));
#pragma unroll
    for (int i = 0; i < keys_of<D> / CT_KV_PAGE; i++) {
        const uint8_t *src = part + (size_t)pages[i] * p.page_bytes;
        copy_bytes(dst + i * QUANTS, src + (size_t)head * QUANTS, QUANTS, bar);
        copy_bytes(dst + quants_of(KIND, keys_of<D> * D) + i * SCALES,
                   src + (size_t)p.kv_heads * QUANTS + (size_t)head * SCALES, SCALES, bar);
    }
}

/* A packed tile becomes f16 in the tensor cores' order. */
template <int D, int KIND>
static __device__ __forceinline__ void expand_tile(uint8_t *dst, const uint8_t *packed, int32_t thread)
{
    constexpr int UNIT = KIND == KIND_Q8 ? 16 : 32, PER_ROW = D / UNIT; /* elements that a thread takes at a time */
    const uint8_t *scales = packed + quants_of(KIND, keys_of<D> * D);
#pragma unroll 4
    for (int at = thread; at < keys_of<D> * PER_ROW; at += CT_WG) {
        int key = at / PER_ROW, u = at % PER_ROW;
        uint4 r = *(const uint4 *)(packed + at * 16);
        if constexpr (KIND == KIND_Q8) {
            __half2 d = __half2half2(*(const __half *)(scales + at / 2 * 2));
            *(uint4 *)chunk_at<D>(dst, key, 2 * u) = expand_q8(r.x, r.y, d);
            *(uint4 *)chunk_at<D>(dst, key, 2 * u + 1) = expand_q8(r.z, r.w, d);
        } else {
            __half2 dm = *(const __half2 *)(scales + at * 4), d = __low2half2(dm), m = __high2half2(dm);
            const uint32_t low = 0x0f0f0f0f;
            *(uint4 *)chunk_at<D>(dst, key, 4 * u) = expand_q4(r.x & low, r.y & low, d, m);
            *(uint4 *)chunk_at<D>(dst, key, 4 * u + 1) = expand_q4(r.z & low, r.w & low, d, m);
            *(uint4 *)chunk_at<D>(dst, key, 4 * u + 2) = expand_q4(r.x >> 4 & low, r.y >> 4 & low, d, m);
            *(uint4 *)chunk_at<D>(dst, key, 4 * u + 3) = expand_q4(r.z >> 4 & low, r.w >> 4 & low, d, m);
        }
    }
}

template <int KIND> static constexpr bool is_packed = KIND == KIND_Q8 || KIND == KIND_Q4;

/* 16-bit caches: one thread keeps the copy engine busy. */
template <int D>
static __device__ __forceinline__ void fetch(struct shared<D> *s, const CUtensorMap *map_k, const CUtensorMap *map_v,
                                             const struct params &p, const struct work &w)
{
    constexpr int PAGES = keys_of<D> / CT_KV_PAGE;
    for (int32_t i = 0; i < w.tiles; i++) {
        int32_t stage = i % STAGES, pages[PAGES];
        uint32_t phase = (uint32_t)(i / STAGES + 1) & 1;
#pragma unroll
        for (int j = 0; j < PAGES; j++)
            pages[j] = page_of(p, w, (w.tile_lo + i) * PAGES + j);
        bar_wait(&s->k_free[stage], phase);
        fetch_tile<D>(s->k[stage], map_k, &s->k_full[stage], w.head, pages);
        bar_wait(&s->v_free[stage], phase);
        fetch_tile<D>(s->v[stage], map_v, &s->v_full[stage], w.head, pages);
    }
}

/* Packed keys, or values, by a warpgroup of their own: the next tile's bytes arrive while this one's are expanded. bar: a named
 * barrier of the warpgroup's. */
template <int D, int KIND>
static __device__ __forceinline__ void fetch_expand(uint8_t (*tiles)[keys_of<D> * D * 2], uint8_t *packed,
                                                    const uint8_t *part, uint64_t *raw, uint64_t *free_, uint64_t *full,
                                                    const struct params &p, const struct work &w, int32_t thread,
                                                    int bar)
{
    constexpr int PAGES = keys_of<D> / CT_KV_PAGE;
    int32_t pages[PAGES];
#pragma unroll
    for (int j = 0; j < PAGES; j++)
        pages[j] = page_of(p, w, w.tile_lo * PAGES + j);
    if (thread == 0)
        fetch_packed<D, KIND>(packed, part, raw, p, w.head, pages);
    for (int32_t i = 0; i < w.tiles; i++) {
        int32_t stage = i % STAGES;
#pragma unroll
        for (int j = 0; j < PAGES; j++)
            pages[j] = page_of(p, w, (w.tile_lo + i + 1) * PAGES + j);
        bar_wait(raw, (uint32_t)i & 1);
        bar_wait(&free_[stage], (uint32_t)(i / STAGES + 1) & 1);
        expand_tile<D, KIND>(tiles[stage], packed, thread);
        fence_async_proxy();
        bar_arrive(&full[stage]);
        named_sync(bar, CT_WG); /* all have read the packed bytes */
        if (thread == 0 && i + 1 < w.tiles)
            fetch_packed<D, KIND>(packed, part, raw, p, w.head, pages);
    }
}

/* ---- the warpgroups that compute ---- */

template <class T> static __device__ __forceinline__ uint32_t pack(float lo, float hi)
{
    uint32_t u;
    if constexpr (ct_is_bf16<T>) {
        __nv_bfloat162 h = __floats2bfloat162_rn(lo, hi);
        memcpy(&u, &h, sizeof u);
    } else {
        __half2 h = __floats2half2_rn(lo, hi);
        memcpy(&u, &h, sizeof u);
    }
    return u;
}

/* The warpgroup's 64 rows of queries, rounded, into shared memory. Row r is head r % group of token r / group. */
template <int D, class T>
static __device__ __forceinline__ void load_queries(uint8_t *dst, const struct params &p, const struct work &w,
                                                    int32_t first_row, int32_t thread)
{
    constexpr int PER_ROW = D / 8,
                  AT_ONCE = 8; /* loads in flight before the first store, which the compiler cannot know */
#pragma unroll 1
    for (int first = 0; first < 64 * PER_ROW; first += AT_ONCE * CT_WG) {
        float4 x[AT_ONCE][2];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = first + j * CT_WG + thread, r = first_row + i / PER_ROW, token = r / p.group;
            x[j][0] = x[j][1] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (token < w.n) {
                size_t head = (size_t)(w.head * p.group + r % p.group);
                const float *row = p.q + (size_t)(w.row + token) * p.q_stride + head * D;
                const float4 *src = (const float4 *)(row + (size_t)(i % PER_ROW) * 8);
                if (p.wide) {
                    x[j][0] = src[0];
                    x[j][1] = src[1];
                } else {
                    const float *v = (const float *)src;
                    x[j][0] = make_float4(v[0], v[1], v[2], v[3]);
                    x[j][1] = make_float4(v[4], v[5], v[6], v[7]);
                }
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = first + j * CT_WG + thread, row = i / PER_ROW, c = i % PER_ROW;
            float4 a = x[j][0], b = x[j][1];
            *(uint4 *)(dst + ((c / 8) * 64 + row) * CT_SW_ROW + ((c % 8) ^ (row & 7)) * 16) = make_uint4(
                pack<T>(a.x, a.y), pack<T>(a.z, a.w), pack<T>(b.x, b.y), pack<T>(b.z, b.w));
        }
    }
}

/* Values of keys that no row sees may be anything, NaN too, and 0 NaN is NaN: they become zeros. */
template <int D>
static __device__ __forceinline__ void blank_values(uint8_t *tile, int32_t from, int32_t to, int32_t thread)
{
    for (int32_t i = thread; i < (to - from) * (D / 8); i += CT_WG) {
        int32_t key = from + i / (D / 8), c = i % (D / 8);
        *(uint4 *)(tile + ((c / 8) * keys_of<D> + key) * CT_SW_ROW + (c % 8) * 16) = make_uint4(0, 0, 0, 0);
    }
}

template <int D, class TK>
static __device__ __forceinline__ void scores(float (&s)[keys_of<D> / 2], uint32_t q, uint32_t k)
{
#pragma unroll
    for (int i = 0; i < D / 16; i++)
        wgmma_ss<keys_of<D>, TK>(s, desc_k(q + (i / 4) * 64 * CT_SW_ROW + (i % 4) * 32),
                                 desc_k(k + (i / 4) * keys_of<D> * CT_SW_ROW + (i % 4) * 32), i > 0);
    wg_commit();
}

template <int D, class TV, bool HALVES>
static __device__ __forceinline__ void add_values(float (&o)[D / 2], const uint32_t (&prob)[keys_of<D> / 16][4],
                                                  uint32_t v)
{
#pragma unroll
    for (int i = 0; i < keys_of<D> / 16; i++)
        wgmma_rs<D, TV, HALVES>(o, prob[i], desc_mn(v + i * 16 * CT_SW_ROW, keys_of<D> * CT_SW_ROW),
                                keys_of<D> * CT_SW_ROW);
    wg_commit();
}

struct softmax {
    float max[2], sum[2]; /* of the thread's two rows; sum: of the thread's own columns */
    int32_t lo[2], hi[2]; /* the keys that the rows see */
};

/* Scores become probabilities relative to the rows' largest scores so far; factor: what the sums so far must be multiplied
 * with. Returns whether any row of the warp has a factor but 1. A row that has seen nothing yet has max -inf. */
template <int N>
static __device__ __forceinline__ bool soften(float (&s)[N], struct softmax *m, float scale_log2, bool masked,
                                              int32_t first_key, int32_t lane, float (&factor)[2])
{
    if (masked) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            int32_t key = first_key + i / 4 * 8 + lane % 4 * 2 + (i & 1), row = i >> 1 & 1;
            if (key < m->lo[row] || key > m->hi[row])
                s[i] = -INFINITY;
        }
    }
    bool any = false;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = s[2 * r];
#pragma unroll
        for (int i = 0; i < N / 4; i++)
            top = fmaxf(top, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
        factor[r] = 1.0f;
        if ((top - m->max[r]) * scale_log2 > (float)RESCALE_LOG2) { /* also the first time: finite - -inf */
            factor[r] = exp2f((m->max[r] - top) * scale_log2);
            m->max[r] = top;
            m->sum[r] *= factor[r];
            any = true;
        }
        float base = m->max[r] == -INFINITY ? 0.0f : m->max[r] * scale_log2, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < N / 4; i++) {
            float a = exp2f(fmaf(s[4 * i + 2 * r], scale_log2, -base));
            float b = exp2f(fmaf(s[4 * i + 2 * r + 1], scale_log2, -base));
            s[4 * i + 2 * r] = a;
            s[4 * i + 2 * r + 1] = b;
            sum += a + b;
        }
        m->sum[r] += sum;
    }
    return __any_sync(0xffffffff, any);
}

template <int D, class TV>
static __device__ __forceinline__ void to_probabilities(uint32_t (&prob)[keys_of<D> / 16][4],
                                                        const float (&s)[keys_of<D> / 2])
{
#pragma unroll
    for (int i = 0; i < keys_of<D> / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            prob[i][j] = pack<TV>(s[8 * i + 2 * j], s[8 * i + 2 * j + 1]);
}

template <int D, class TK, class TV, bool HALVES>
static __device__ __forceinline__ void compute(struct shared<D> *sh, const struct params &p, const struct work &w,
                                               int32_t wg, int32_t thread)
{
    constexpr int KEYS = keys_of<D>;
    int32_t warp = thread / 32, lane = thread % 32;
    uint8_t *q_tile = sh->q + wg * 64 * D * 2;
    load_queries<D, TK>(q_tile, p, w, wg * 64, thread);
    fence_async_proxy();
    named_sync(1 + wg, CT_WG);

    int32_t row[2] = {wg * 64 + warp * 16 + lane / 4, wg * 64 + warp * 16 + lane / 4 + 8};
    struct softmax m;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int32_t pos = w.pos + row[r] / p.group;
        m.max[r] = -INFINITY;
        m.sum[r] = 0.0f;
        m.hi[r] = row[r] / p.group < w.n ? pos : -1;
        m.lo[r] = p.window ? max(0, pos - p.window + 1) : 0;
    }
    /* Tiles in which every row of a full block sees every key need no mask. */
    int32_t clear_lo = p.window ? max(0, w.key_hi - p.window + 1) : 0, clear_hi = w.n < p.tokens ? -1 : w.pos;
    uint32_t q_at = smem_of(q_tile);
    float o[D / 2], s[KEYS / 2], factor[2];
    uint32_t prob[KEYS / 16][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[i] = 0.0f;

    auto values = [&](int32_t i) { /* waits for tile i's values; blanks what nobody sees */
                                   int32_t stage = i % STAGES, key = (w.tile_lo + i) * KEYS;
                                   bar_wait(&sh->v_full[stage], (uint32_t)(i / STAGES) & 1);
                                   if (key < w.key_lo || key + KEYS - 1 > w.key_hi) {
                                       blank_values<D>(sh->v[stage], 0, w.key_lo - key, thread);
                                       blank_values<D>(sh->v[stage], w.key_hi + 1 - key, KEYS, thread);
                                       fence_async_proxy();
                                       named_sync(1 + wg, CT_WG);
                                   }
    };
    auto masked = [&](int32_t i) {
        int32_t key = (w.tile_lo + i) * KEYS;
        return key < clear_lo || key + KEYS - 1 > clear_hi;
    };

    bar_wait(&sh->k_full[0], 0);
    wg_fence();
    scores<D, TK>(s, q_at, smem_of(sh->k[0]));
    wg_wait<0>();
    wg_settled(s);
    if (lane == 0)
        bar_arrive(&sh->k_free[0]);
    soften(s, &m, p.scale_log2, masked(0), w.tile_lo * KEYS, lane, factor);
    to_probabilities<D, TV>(prob, s);
    for (int32_t i = 1; i < w.tiles; i++) {
        int32_t stage = i % STAGES, before = (i - 1) % STAGES;
        bar_wait(&sh->k_full[stage], (uint32_t)(i / STAGES) & 1);
        values(i - 1);
        wg_settled(s);
        wg_settled(o);
        wg_fence();
        scores<D, TK>(s, q_at, smem_of(sh->k[stage]));
        add_values<D, TV, HALVES>(o, prob, smem_of(sh->v[before]));
        wg_wait<1>();
        wg_settled(s);
        if (lane == 0)
            bar_arrive(&sh->k_free[stage]);
        bool rescale = soften(s, &m, p.scale_log2, masked(i), (w.tile_lo + i) * KEYS, lane, factor);
        wg_wait<0>();
        wg_settled(o);
        if (lane == 0)
            bar_arrive(&sh->v_free[before]);
        if (rescale) {
#pragma unroll
            for (int j = 0; j < D / 2; j++)
                o[j] *= factor[j >> 1 & 1];
        }
        to_probabilities<D, TV>(prob, s);
    }
    values(w.tiles - 1);
    wg_settled(o);
    wg_fence();
    add_values<D, TV, HALVES>(o, prob, smem_of(sh->v[(w.tiles - 1) % STAGES]));
    wg_wait<0>();
    wg_settled(o);

#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = m.sum[r];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        float inverse = 1.0f / sum;
        int32_t token = row[r] / p.group;
        if (token >= w.n)
            continue;
        size_t head = (size_t)(w.head * p.group + row[r] % p.group);
        float *dst = p.o + (size_t)(w.row + token) * p.o_stride + head * D + (size_t)(lane % 4 * 2);
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            float a = o[4 * i + 2 * r] * inverse, b = o[4 * i + 2 * r + 1] * inverse;
            if (p.wide) {
                *(float2 *)(dst + i * 8) = make_float2(a, b);
            } else {
                dst[i * 8] = a;
                dst[i * 8 + 1] = b;
            }
        }
    }
}

template <int KIND> struct element {
    typedef __half type;
};
template <> struct element<KIND_BF16> {
    typedef __nv_bfloat16 type;
};

/* Warpgroups that fetch: one for the copy engine; one for keys and one for values where they are expanded. */
static __host__ __device__ constexpr int fetchers_of(int kind) { return kind == KIND_Q8 || kind == KIND_Q4 ? 2 : 1; }

template <int D, int KK, int KV>
static __global__ void __launch_bounds__((2 + fetchers_of(KK)) * CT_WG, 1)
    flash(const __grid_constant__ CUtensorMap map_k, const __grid_constant__ CUtensorMap map_v,
          const __grid_constant__ struct params p)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(CT_SW_ATOM) uint8_t raw[]; /* no room to align by hand */
    struct shared<D> *s = (struct shared<D> *)raw;
    constexpr bool packed = is_packed<KK>;
    static_assert(is_packed<KK> == is_packed<KV>, "a packed and a plain part do not go together");
    int32_t wg = (int32_t)threadIdx.x / CT_WG, thread = (int32_t)threadIdx.x % CT_WG;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            bar_init(&s->k_full[i], packed ? CT_WG : 1);
            bar_init(&s->v_full[i], packed ? CT_WG : 1);
            bar_init(&s->k_free[i], 8); /* warps that compute */
            bar_init(&s->v_free[i], 8);
        }
        bar_init(&s->k_raw, 1);
        bar_init(&s->v_raw, 1);
        bar_init_done();
    }
    __syncthreads();
    struct work w = work_of<D>(p);
    if constexpr (packed) {
        uint8_t *k_packed = (uint8_t *)(s + 1), *v_packed = k_packed + packed_of(KK, keys_of<D> * D);
        if (wg < 2) {
            regs_fewer<40>();
            if (wg == 0)
                fetch_expand<D, KK>(s->k, k_packed, p.pages, &s->k_raw, s->k_free, s->k_full, p, w, thread, 3);
            else
                fetch_expand<D, KV>(s->v, v_packed, p.pages + p.v_off, &s->v_raw, s->v_free, s->v_full, p, w, thread,
                                    4);
        } else {
            regs_more<216>();
            compute<D, typename element<KK>::type, typename element<KV>::type, true>(s, p, w, wg - 2, thread);
        }
    } else if (wg == 0) {
        regs_fewer<24>();
        if (thread == 0)
            fetch<D>(s, &map_k, &map_v, p, w);
    } else {
        regs_more<240>();
        compute<D, typename element<KK>::type, typename element<KV>::type, false>(s, p, w, wg - 1, thread);
    }
#endif
}

#endif
