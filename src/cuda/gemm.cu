/* Linear maps of prompt rows: rounds the input to bf16, expands what is not bf16 into scratch, a part at a time, and multiplies
 * on the tensor cores. gemm_wgmma.cuh is the product, expand.cu makes bf16 of every type. Cards without warpgroup products are told
 * to take the slow way. */
#include "cuda/cuda_kernels.h"

#include <string.h>

#include "cuda/expand.cuh"
#include "cuda/gemm_wgmma.cuh"
#include "cuda/tensor_map.h"

#define ALIGN 1024               /* of what lies in scratch */
#define EXPANDED_MAX (128 << 20) /* bytes of expanded weights at a time */
#define FEW_ROWS 48              /* below it, kernels that read packed weights once are faster */

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* Elements of a row in scratch. */
static size_t pitch_of(int32_t cols) { return ct_cu_pitch16(cols); }

int ct_cuda_gemm_create(ct_cu_gemm **out)
{
    *out = NULL; /* nothing to keep between calls */
    return 0;
}

void ct_cuda_gemm_free(ct_cu_gemm *g) { (void)g; }

size_t ct_cuda_gemm_scratch(int32_t rows, int32_t max_cols, int32_t max_out)
{
    size_t pitch = pitch_of(max_cols) * 2, all = round_up((size_t)max_out, 16) * pitch,
           least = 2 * (GEMM_N * pitch + ALIGN);
    size_t expanded = all < EXPANDED_MAX ? all : EXPANDED_MAX;
    return round_up((size_t)rows * pitch, ALIGN) + round_up(expanded > least ? expanded : least, ALIGN) + 2 * ALIGN;
}

/* The scratch of a call: the rounded input, then room for weights. */
struct room {
    uint8_t *x, *w;
    size_t pitch, w_bytes;
};

static bool divide(struct room *r, int32_t rows, int32_t cols, void *scratch, size_t bytes)
{
    uintptr_t at = round_up((uintptr_t)scratch, ALIGN);
    r->pitch = pitch_of(cols);
    r->x = (uint8_t *)at;
    r->w = r->x + round_up((size_t)rows * r->pitch * 2, ALIGN);
    size_t used = (size_t)(r->w - (uint8_t *)scratch);
    r->w_bytes = bytes > used ? bytes - used : 0;
    return r->w_bytes >= 2 * (GEMM_N * r->pitch * 2 + ALIGN); /* two tiles of weights must fit */
}

/* How a product is cut: outputs in a tile, blocks in a cluster. */
struct cut {
    int32_t n, cluster, row_tiles;
    int blocks;
};

/* The cut that is likely fastest. A block takes a time in proportion to its rounds of tiles and their width; narrow tiles read more
 * from shared memory and from the second-level cache: 128 outputs take 0.55, 64 take 0.5 of the time of 256
 * (docs/KERNELS.md). */
static struct cut cut_of(int32_t rows, int32_t outs, int blocks)
{
    static const struct {
        int32_t n, cluster;
        double cost;
    } cuts[] = {{256, 2, 1.0}, {128, 2, 0.55}, {64, 1, 0.5}};
    struct cut best = {0, 0, 0, blocks};
    double least = 0.0;
    for (int i = 0; i < 3; i++) {
        int32_t high = GEMM_M * cuts[i].cluster, row_tiles = (rows + high - 1) / high;
        int32_t tiles = row_tiles * ((outs + cuts[i].n - 1) / cuts[i].n), at_once = blocks / cuts[i].cluster;
        double cost = (double)((tiles + at_once - 1) / at_once) * cuts[i].cost;
        if (!best.n || cost < least) {
            best.n = cuts[i].n;
            best.cluster = cuts[i].cluster;
            best.row_tiles = row_tiles;
            least = cost;
        }
    }
    return best;
}

static int map_rows(CUtensorMap *map, const void *p, int32_t rows, int32_t cols, size_t pitch_bytes, int32_t box)
{
    uint64_t size[2] = {(uint64_t)cols, (uint64_t)rows}, pitch[1] = {pitch_bytes};
    return ct_tensor_map(map, p, 2, size, pitch, (uint32_t)box);
}

/* A map of rows first .. first + n - 1 of w: in place if they are bf16, else expanded at *to, which moves on. */
static int map_weight(cudaStream_t s, CUtensorMap *map, const ct_cu_weight *w, int32_t first, int32_t n, size_t pitch,
                      int32_t box, uint8_t **to)
{
    if (w->type == CT_BF16)
        return map_rows(map, w->p + (size_t)first * w->pitch, n, w->cols, w->pitch, box);
    int e = ct_cu_expand(s, *to, pitch, w, first, n);
    if (!e)
        e = map_rows(map, *to, n, w->cols, pitch * 2, box);
    *to += round_up((size_t)n * pitch * 2, ALIGN);
    return e;
}

/* Outputs that fit into `bytes` of scratch: whole tiles, unless all that is left fits. */
static int32_t that_fit(const ct_cu_weight *w, int32_t left, size_t bytes, size_t pitch)
{
    if (w->type == CT_BF16 || (size_t)left * pitch * 2 + ALIGN <= bytes)
        return left;
    size_t rows = bytes > ALIGN ? (bytes - ALIGN) / (pitch * 2) : 0;
    return (int32_t)(rows / GEMM_N * GEMM_N);
}

template <int FORM, int N, int CLUSTER> static int launch_cut(cudaStream_t s, const struct gemm_params *p, int blocks)
{
    size_t bytes = sizeof(struct gemm_shared<N>);
    cudaError_t e = cudaFuncSetAttribute(gemm_wgmma<FORM, N, CLUSTER>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)bytes);
    if (e != cudaSuccess)
        return (int)e;
    int tiles = p->row_tiles * p->out_tiles, most = blocks / CLUSTER, clusters = tiles < most ? tiles : most;
    cudaLaunchAttribute cluster;
    cudaLaunchConfig_t how;
    memset(&how, 0, sizeof how);
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = CLUSTER;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    how.gridDim = dim3((unsigned)(clusters * CLUSTER));
    how.blockDim = dim3(3 * CT_WG);
    how.dynamicSmemBytes = bytes;
    how.stream = s;
    how.attrs = &cluster;
    how.numAttrs = 1;
    return (int)cudaLaunchKernelEx(&how, gemm_wgmma<FORM, N, CLUSTER>, *p);
}

template <int FORM> static int launch(cudaStream_t s, const struct gemm_params *p, struct cut c)
{
    return c.n == 256   ? launch_cut<FORM, 256, 2>(s, p, c.blocks)
           : c.n == 128 ? launch_cut<FORM, 128, 2>(s, p, c.blocks)
                        : launch_cut<FORM, 64, 1>(s, p, c.blocks);
}

/* What a call works with. */
struct call {
    cudaStream_t stream;
    struct room room;
    int blocks;
};

bool ct_cuda_gemm_takes(int32_t rows, bool deterministic)
{
    return rows > 0 && (deterministic || rows >= FEW_ROWS) &&
           ct_cu_hopper((const void *)gemm_wgmma<GEMM_F32, 256, 2>) > 0;
}

/* to_round: rows whose rounded form lies in scratch. false: not for this card, these few rows or this little scratch. */
static bool begin(struct call *c, cudaStream_t s, int32_t rows, int32_t to_round, int32_t cols, bool deterministic,
                  void *scratch, size_t scratch_bytes)
{
    c->stream = s;
    c->blocks = ct_cu_hopper((const void *)gemm_wgmma<GEMM_F32, 256, 2>);
    return c->blocks && (deterministic || rows >= FEW_ROWS) && divide(&c->room, to_round, cols, scratch, scratch_bytes);
}

static int round_input(const struct call *c, ct_cu_mat16 *r, ct_cu_mat x)
{
    ct_cu_mat16 made = {c->room.x, x.rows, x.cols, c->room.pitch};
    *r = made;
    return ct_cu_round(c->stream, made, x);
}

static int prepare(struct gemm_params *p, const ct_cu_mat16 *x, struct cut cut)
{
    memset(p, 0, sizeof *p);
    p->rows = x->rows;
    p->steps = (x->cols + GEMM_K - 1) / GEMM_K;
    p->row_tiles = cut.row_tiles;
    return map_rows(&p->x, x->p, x->rows, x->cols, x->pitch * 2, GEMM_M);
}

/* y[i] = x w[i]^T: as many outputs at a time as fit, of as many matrices. */
static int products(const struct call *c, int32_t m, const ct_cu_mat *y, const ct_cu_mat16 *x, const ct_cu_weight *w)
{
    struct gemm_params p;
    int32_t outs = 0, i = 0, from = 0; /* matrix, output */
    for (int32_t j = 0; j < m; j++)
        outs += y[j].cols;
    struct cut cut = cut_of(x->rows, outs, c->blocks);
    int32_t box = gemm_box(false, cut.n, cut.cluster);
    size_t pitch = pitch_of(x->cols);
    int e = prepare(&p, x, cut);
    while (i < m && !e) {
        uint8_t *to = c->room.w, *end = to + c->room.w_bytes;
        p.out_tiles = 0;
        for (p.m = 0; p.m < CT_LINEAR_MAX && i < m && !e; p.m++) {
            int32_t n = that_fit(&w[i], y[i].cols - from, (size_t)(end - to), pitch);
            if (n == 0)
                break;
            e = map_weight(c->stream, &p.w[p.m], &w[i], from, n, pitch, box, &to);
            struct gemm_out out = {y[i].p + from, y[i].stride, n, p.out_tiles};
            p.out[p.m] = out;
            p.out_tiles += (n + cut.n - 1) / cut.n;
            from += n;
            if (from == y[i].cols) {
                from = 0;
                i++;
            }
        }
        if (!e)
            e = launch<GEMM_F32>(c->stream, &p, cut);
    }
    return e;
}

/* y[rows][stride] = gelu(x gate^T) * (x up^T), f32 or bf16 as FORM says. */
template <int FORM>
static int gated(const struct call *c, void *y, size_t stride, const ct_cu_mat16 *x, const ct_cu_weight *gate,
                 const ct_cu_weight *up)
{
    struct gemm_params p;
    struct cut cut = cut_of(x->rows, 2 * gate->rows, c->blocks);
    int32_t box = gemm_box(true, cut.n, cut.cluster);
    size_t pitch = pitch_of(x->cols), half = c->room.w_bytes / 2, size = FORM == GEMM_GEGLU_F32 ? 4 : 2;
    int e = prepare(&p, x, cut);
    p.m = 1;
    for (int32_t from = 0, n; from < gate->rows && !e; from += n) {
        uint8_t *to = c->room.w;
        int32_t left = gate->rows - from, n_gate = that_fit(gate, left, half, pitch),
                n_up = that_fit(up, left, half, pitch);
        n = n_gate < n_up ? n_gate : n_up;
        e = map_weight(c->stream, &p.w[0], gate, from, n, pitch, box, &to);
        if (!e)
            e = map_weight(c->stream, &p.w[1], up, from, n, pitch, box, &to);
        struct gemm_out out = {(uint8_t *)y + (size_t)from * size, stride, n, 0};
        p.out[0] = out;
        p.out_tiles = (n + cut.n / 2 - 1) / (cut.n / 2);
        if (!e)
            e = launch<FORM>(c->stream, &p, cut);
    }
    return e;
}

int ct_cuda_gemm(ct_cu_gemm *g, cudaStream_t s, int32_t m, const ct_cu_mat *y, ct_cu_mat x, const ct_cu_weight *w,
                 bool deterministic, void *scratch, size_t scratch_bytes)
{
    (void)g;
    struct call c;
    ct_cu_mat16 r;
    if (!begin(&c, s, x.rows, x.rows, x.cols, deterministic, scratch, scratch_bytes))
        return CT_CU_NOT_MINE;
    int e = round_input(&c, &r, x);
    return e ? e : products(&c, m, y, &r, w);
}

int ct_cuda_gemm_half(ct_cu_gemm *g, cudaStream_t s, int32_t m, const ct_cu_mat *y, ct_cu_mat16 x,
                      const ct_cu_weight *w, bool deterministic, void *scratch, size_t scratch_bytes)
{
    (void)g;
    struct call c;
    return begin(&c, s, x.rows, 0, x.cols, deterministic, scratch, scratch_bytes) ? products(&c, m, y, &x, w)
                                                                                  : CT_CU_NOT_MINE;
}

int ct_cuda_gemm_geglu(ct_cu_gemm *g, cudaStream_t s, ct_cu_mat y, ct_cu_mat x, ct_cu_weight gate, ct_cu_weight up,
                       bool deterministic, void *scratch, size_t scratch_bytes)
{
    (void)g;
    struct call c;
    ct_cu_mat16 r;
    if (!begin(&c, s, x.rows, x.rows, x.cols, deterministic, scratch, scratch_bytes))
        return CT_CU_NOT_MINE;
    int e = round_input(&c, &r, x);
    return e ? e : gated<GEMM_GEGLU_F32>(&c, y.p, y.stride, &r, &gate, &up);
}

int ct_cuda_gemm_geglu_half(ct_cu_gemm *g, cudaStream_t s, ct_cu_mat16 y, ct_cu_mat16 x, ct_cu_weight gate,
                            ct_cu_weight up, bool deterministic, void *scratch, size_t scratch_bytes)
{
    (void)g;
    struct call c;
    if (!begin(&c, s, x.rows, 0, x.cols, deterministic, scratch, scratch_bytes))
        return CT_CU_NOT_MINE;
    return gated<GEMM_GEGLU_BF16>(&c, y.p, y.pitch, &x, &gate, &up);
}

int ct_cuda_round(cudaStream_t s, ct_cu_mat16 y, ct_cu_mat x) { return ct_cu_round(s, y, x); }

int ct_cuda_widen(cudaStream_t s, ct_cu_mat y, ct_cu_mat16 x) { return ct_cu_widen(s, y, x); }
