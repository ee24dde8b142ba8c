/* Attention of prompt rows: cuts runs of rows into blocks and starts flash_wgmma.cuh. Other cards than Hopper, head sizes but 128
 * and 256 and mixed caches that nobody asks for in one option are told to take the slow way. */
#include "cuda/cuda_kernels.h"

#include <string.h>

#include "cuda/flash_wgmma.cuh"
#include "cuda/tensor_map.h"

static int kind_of(ct_dtype t)
{
    return t == CT_BF16 ? KIND_BF16 : t == CT_F16 ? KIND_F16 : t == CT_Q8_0 ? KIND_Q8 : t == CT_Q4_1 ? KIND_Q4 : -1;
}

/* Keys or values as [page][kv head][64][d]. Nobody knows how many pages there are: the table is right. */
static int map_part(CUtensorMap *map, const uint8_t *base, const ct_cu_kv *kv)
{
    uint64_t d = (uint64_t)kv->head_dim, row = d * 2;
    uint64_t size[4] = {d, CT_KV_PAGE, (uint64_t)kv->kv_heads, 1u << 24};
    uint64_t pitch[3] = {row, row * CT_KV_PAGE, kv->page_bytes};
    return ct_tensor_map(map, base, 4, size, pitch, CT_KV_PAGE);
}

template <int D, int KK, int KV>
static int launch(cudaStream_t stream, const CUtensorMap *k, const CUtensorMap *v, const struct params *p)
{
    size_t bytes = sizeof(struct shared<D>);
    bytes += (size_t)packed_of(KK, keys_of<D> * D) + (size_t)packed_of(KV, keys_of<D> * D);
    cudaError_t e = cudaFuncSetAttribute(flash<D, KK, KV>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (e != cudaSuccess)
        return (int)e;
    flash<D, KK, KV><<<(unsigned)(p->tiles * p->kv_heads), (2 + fetchers_of(KK)) * CT_WG, bytes, stream>>>(*k, *v, *p);
    return (int)cudaGetLastError();
}

typedef int launch_fn(cudaStream_t stream, const CUtensorMap *k, const CUtensorMap *v, const struct params *p);

/* The pairs of cache types that a user can ask for in one option, and q8 keys with other values. */
template <int D> static launch_fn *launcher(int k, int v)
{
    if (k == KIND_BF16 && v == KIND_BF16)
        return launch<D, KIND_BF16, KIND_BF16>;
    if (k == KIND_F16 && v == KIND_F16)
        return launch<D, KIND_F16, KIND_F16>;
    if (k == KIND_BF16 && v == KIND_F16)
        return launch<D, KIND_BF16, KIND_F16>;
    if (k == KIND_Q8 && v == KIND_Q8)
        return launch<D, KIND_Q8, KIND_Q8>;
    if (k == KIND_Q4 && v == KIND_Q4)
        return launch<D, KIND_Q4, KIND_Q4>;
    if (k == KIND_Q8 && v == KIND_Q4)
        return launch<D, KIND_Q8, KIND_Q4>;
    return NULL;
}

size_t ct_cuda_flash_scratch(int32_t rows, int32_t heads, int32_t head_dim)
{
    (void)rows;
    (void)heads;
    (void)head_dim;
    return 0;
}

int ct_cuda_flash(cudaStream_t stream, ct_cu_mat o, ct_cu_mat q, const ct_cu_kv *kv, const ct_cu_run *runs,
                  int32_t n_runs, int32_t heads, int32_t window, float scale, bool deterministic, void *scratch,
                  size_t scratch_bytes)
{
    (void)deterministic; /* a row's bits never depend on its neighbours: keys nobody sees add zeros */
    (void)scratch;
    (void)scratch_bytes;
    int k = kind_of(kv->type_k), v = kind_of(kv->type_v), d = kv->head_dim, group = heads / kv->kv_heads;
    launch_fn *go = k < 0 || v < 0 ? NULL : d == 256 ? launcher<256>(k, v) : d == 128 ? launcher<128>(k, v) : NULL;
    if (!go || group > ROWS || !ct_cu_hopper((const void *)flash<256, KIND_BF16, KIND_BF16>))
        return CT_CU_NOT_MINE;
    struct params p;
    memset(&p, 0, sizeof p);
    p.q = q.p;
    p.o = o.p;
    p.q_stride = q.stride;
    p.o_stride = o.stride;
    p.wide = (uintptr_t)q.p % 16 == 0 && q.stride % 4 == 0 && (uintptr_t)o.p % 16 == 0 && o.stride % 4 == 0;
    p.table = kv->table;
    p.pages = kv->pages;
    p.page_bytes = kv->page_bytes;
    p.v_off = kv->v_off;
    p.table_stride = kv->table_stride;
    p.ring = kv->ring;
    p.kv_heads = kv->kv_heads;
    p.group = group;
    p.tokens = ROWS / group;
    p.window = window;
    p.scale_log2 = scale * 1.4426950408889634f;
    CUtensorMap map_k, map_v;
    memset(&map_k, 0, sizeof map_k);
    memset(&map_v, 0, sizeof map_v);
    int e = k == KIND_BF16 || k == KIND_F16 ? map_part(&map_k, kv->pages, kv) : 0;
    if (!e && (v == KIND_BF16 || v == KIND_F16))
        e = map_part(&map_v, kv->pages + kv->v_off, kv);
    for (int32_t at = 0; at < n_runs && !e; at += p.n_runs) {
        p.tiles = 0;
        for (p.n_runs = 0; p.n_runs < MAX_RUNS && at + p.n_runs < n_runs; p.n_runs++) {
            const ct_cu_run *r = &runs[at + p.n_runs];
            struct run one = {r->first, r->n, r->seq, r->pos, p.tiles};
            p.run[p.n_runs] = one;
            p.tiles += (r->n + p.tokens - 1) / p.tokens;
        }
        if (p.tiles > 0)
            e = go(stream, &map_k, &map_v, &p);
    }
    return e;
}
