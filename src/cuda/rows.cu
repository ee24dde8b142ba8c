/* Operations that work row by row: embedding, norms, rotations, the cache's store, geglu and the rest. f32 throughout, sums in a
 * fixed order. At decode these are latency, not bandwidth: few threads per value, one launch for what stands together. */
#include "cuda/internal.cuh"

#define NORM_THREADS 1024
#define NORM_MOST 16 /* columns a thread keeps: the widest row is 16384 (config.c) */

static __global__ void rows_in(const int32_t *mapped, int32_t *dev, int room, int n)
{
    after_previous(); /* and the next begins when this is done: rows may be read before after_previous() */
    for (int i = threadIdx.x; i < 4 * n; i += blockDim.x)
        dev[i / n * room + i % n] = ((volatile const int32_t *)mapped)[i / n * room + i % n];
    __threadfence();
}

int cu_rows_in(cudaStream_t s, const int32_t *mapped, int32_t *dev, int room, int n)
{
    return launch(rows_in, 1, 256, 0, s, mapped, dev, room, n);
}

template <int TYPE> static __global__ void embed(ct_cu_mat y, ct_cu_weight w, const int32_t *token, float scale)
{
    after_previous();
    let_next_begin();
    int row = blockIdx.y, at = token[row];
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (w.cols + 31) / 32 * 4; i += gridDim.x * blockDim.x) {
        float v[8];
        int g = i / 4, t = i % 4;
        ct_cu_decode8<TYPE>(v, w.p, w.pitch, at, g, t);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            int col = 32 * g + 16 * (k / 4) + 4 * t + k % 4;
            if (col < w.cols)
                y.p[row * y.stride + col] = v[k] * scale;
        }
    }
}

int cu_embed(cudaStream_t s, ct_cu_mat y, ct_cu_weight w, struct dev_rows r, float scale)
{
    int e = 0;
#define CALL(T) e = launch(embed<T>, dim3(((w.cols + 31) / 32 * 4 + 127) / 128, r.n), 128, 0, s, y, w, r.token, scale)
    CT_CU_EACH_TYPE(w.type, CALL)
#undef CALL
    return e;
}

/* Angles in f64: at 100k positions an f32 angle is off by whole degrees. */
static __global__ void rope_table(ct_cu_mat cs, const int32_t *pos, double log2_theta, double factor, int d)
{
    after_previous();
    let_next_begin();
    int row = blockIdx.x, half = d / 2;
    for (int j = threadIdx.x; j < half; j += blockDim.x) {
        double a = pos[row] * exp2(-2.0 * j / d * log2_theta) / factor, sn, cn;
        sincos(a, &sn, &cn);
        cs.p[row * cs.stride + j] = (float)cn;
        cs.p[row * cs.stride + half + j] = (float)sn;
    }
}

int cu_rope_table(cudaStream_t s, ct_cu_mat cs, struct dev_rows r, double theta, double factor, int d)
{
    return launch(rope_table, r.n, 128, 0, s, cs, r.pos, log2(theta), factor, d);
}

/* ---- norms ---- */

static __device__ float block_sum(float v)
{
    __shared__ float part[33];
    v = warp_sum(v);
    __syncthreads(); /* part may still be read from the call before */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        float s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
        s = warp_sum(s);
        if (threadIdx.x == 0)
            part[32] = s;
    }
    __syncthreads();
    return part[32];
}

/* A block per row, IT columns a thread, all loads in flight together and the weights' before the wait. ADD: x += norm(b) w, then with
 * NORM y = norm(x) next; else y = norm(x) w. */
template <bool ADD, bool NORM, int IT>
static __global__ void __launch_bounds__(NORM_THREADS)
    norm(ct_cu_mat y, ct_cu_mat x, ct_cu_mat b, const float *w, const float *next, float eps, struct planes pk, int kind)
{
    int row = blockIdx.x, cols = x.cols;
    float v[IT], u[IT], w0[IT], w1[IT], sum = 0.0f;
    let_next_begin();
#pragma unroll
    for (int i = 0; i < IT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        w0[i] = c < cols ? w[c] : 0.0f;
        w1[i] = ADD && NORM && c < cols ? next[c] : 0.0f;
    }
    after_previous();
    const float *from = ADD ? b.p + row * b.stride : x.p + row * x.stride;
#pragma unroll
    for (int i = 0; i < IT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        v[i] = c < cols ? from[c] : 0.0f;
        u[i] = ADD && c < cols ? x.p[row * x.stride + c] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < IT; i++)
        sum += v[i] * v[i];
    float r = 1.0f / sqrtf(block_sum(sum) / (float)cols + eps);
    if (ADD) {
        sum = 0.0f;
#pragma unroll
        for (int i = 0; i < IT; i++) {
            int c = i * blockDim.x + threadIdx.x;
            v[i] = u[i] + v[i] * r * w0[i];
            sum += v[i] * v[i];
            if (c < cols)
                x.p[row * x.stride + c] = v[i];
        }
        if (!NORM)
            return;
        r = 1.0f / sqrtf(block_sum(sum) / (float)cols + eps);
    }
    int padded = kind >= 0 ? (cols + 255) / 256 * 256 : cols;
#pragma unroll
    for (int i = 0; i < IT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        float z = v[i] * r * (ADD ? w1[i] : w0[i]);
        if (c < cols)
            y.p[row * y.stride + c] = z;
        if (kind >= 0 && c < padded) /* a whole warp, or none of it */
            pack_group(pk, kind, c / 32, row, c < cols ? z : 0.0f, 1.0f);
    }
}

template <bool ADD, bool NORM>
static int run_norm(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, ct_cu_mat b, const float *w, const float *next, float eps,
                    struct planes pk, int kind)
{
    int padded = (x.cols + 255) / 256 * 256, it = 1;
    while (padded / it > NORM_THREADS)
        it *= 2;
    int threads = (padded / it + 31) / 32 * 32;
    return launch(it == 1   ? norm<ADD, NORM, 1>
                  : it == 2 ? norm<ADD, NORM, 2>
                  : it == 4 ? norm<ADD, NORM, 4>
                  : it == 8 ? norm<ADD, NORM, 8>
                            : norm<ADD, NORM, NORM_MOST>,
                  x.rows, threads, 0, s, y, x, b, w, next, eps, pk, kind);
}

int cu_norm(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, const float *w, float eps, struct planes pk, int kind)
{
    return run_norm<false, true>(s, y, x, x, w, w, eps, pk, kind);
}

int cu_norm_add(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, ct_cu_mat b, const float *w, const float *next, float eps,
                struct planes pk, int kind)
{
    if (next)
        return run_norm<true, true>(s, y, x, b, w, next, eps, pk, kind);
    return run_norm<true, false>(s, y, x, b, w, w, eps, pk, -1);
}

/* ---- heads ---- */

#define HEAD_MOST 512

static __device__ float at_most_f16(float f) { return f > 65504.0f ? 65504.0f : f < -65504.0f ? -65504.0f : f; }

/* A warp stores a head of d elements (in shared memory) as a page has it; see ref_attention.c for the quantised ones. */
static __device__ void store_head(uint8_t *part, ct_dtype type, int kv_heads, int h, int at, int d, const float *v)
{
    int lane = threadIdx.x % 32;
    size_t row = (size_t)h * CT_KV_PAGE + at;
    if (type != CT_Q8_0 && type != CT_Q4_1) {
        for (int j = lane; j < d; j += 32)
            if (type == CT_F32)
                ((float *)part)[row * d + j] = v[j];
            else if (type == CT_BF16)
                ((__nv_bfloat16 *)part)[row * d + j] = __float2bfloat16_rn(v[j]);
            else
                ((__half *)part)[row * d + j] = __float2half_rn(v[j]);
        return;
    }
    uint8_t *scales = part + ct_cu_kv_scales(type, kv_heads, d);
    bool q8 = type == CT_Q8_0;
    for (int g = 0; g < d / 32; g++) {
        float x = v[32 * g + lane], lo = x, hi = x;
#pragma unroll
        for (int o = 16; o > 0; o /= 2) {
            lo = fminf(lo, __shfl_xor_sync(~0u, lo, o));
            hi = fmaxf(hi, __shfl_xor_sync(~0u, hi, o));
        }
        bool finite = __all_sync(~0u, fabsf(x) <= 3.402823466e38f);
        __half hm = __float2half_rn(at_most_f16(q8 || !finite ? 0.0f : lo));
        float m = q8 ? 0.0f : __half2float(hm);
        __half hd = __float2half_rn(at_most_f16(fmaxf(q8 ? fmaxf(-lo, hi) / 127.0f : (hi - m) / 15.0f, 0.0f)));
        if (!finite)
            hd = __ushort_as_half(0x7e00);
        float dd = __half2float(hd), inverse = dd > 0.0f ? 1.0f / dd : 0.0f;
        int q = finite ? (int)fminf(fmaxf(rintf((x - m) * inverse), q8 ? -127.0f : 0.0f), q8 ? 127.0f : 15.0f) : 0;
        if (q8) {
            ((int8_t *)part)[row * d + 32 * g + lane] = (int8_t)q;
            if (lane == 0)
                ((__half *)scales)[row * (d / 32) + g] = hd;
        } else {
            int other = __shfl_down_sync(~0u, q, 16);
            if (lane < 16)
                part[(row * d + 32 * g) / 2 + lane] = (uint8_t)(q | other << 4);
            if (lane == 0) {
                ((__half *)scales)[(row * (d / 32) + g) * 2] = hd;
                ((__half *)scales)[(row * (d / 32) + g) * 2 + 1] = hm;
            }
        }
    }
}

/* A warp per head and row: heads of q, then of k, then of v. */
static __global__ void __launch_bounds__(128)
    heads(ct_cu_mat q, const float *wq, int hq, ct_cu_mat k, const float *wk, int hk, ct_cu_mat cs, float eps, ct_cu_mat v,
          ct_cu_kv kv, int store, const int32_t *pos, const int32_t *seq, int d)
{
    __shared__ float shared[8][HEAD_MOST]; /* heads, then angles, of each warp */
    int lane = threadIdx.x % 32, head = blockIdx.x * 4 + threadIdx.x / 32, row = blockIdx.y;
    float *x = shared[threadIdx.x / 32];
    bool is_q = head < hq, is_v = head >= hq + hk;
    const float *w = is_q ? wq : wk, *a = cs.p ? cs.p + row * cs.stride : NULL;
    /* What an earlier kernel than the last wrote, or nobody: weights, angles, rows and tables, and the page that comes of them. */
    float ws[HEAD_MOST / 32], as[HEAD_MOST / 32];
    uint8_t *part = NULL;
    int at = 0;
#pragma unroll
    for (int i = 0; i < HEAD_MOST / 32; i++) {
        ws[i] = w && !is_v && 32 * i + lane < d ? w[32 * i + lane] : 1.0f;
        as[i] = a && !is_v && 32 * i + lane < d ? a[32 * i + lane] : 0.0f;
    }
    if (store && !is_q) {
        at = pos[row];
        int slot = at / CT_KV_PAGE;
        int page = kv.table[(size_t)seq[row] * kv.table_stride + (kv.ring ? slot % kv.ring : slot)];
        part = kv.pages + (size_t)page * kv.page_bytes + (is_v ? kv.v_off : 0);
    }
    after_previous();
    let_next_begin();
    if (head >= hq + hk + (store ? hk : 0))
        return;
    int h = is_q ? head : is_v ? head - hq - hk : head - hq;
    float *p = is_q ? q.p + row * q.stride : is_v ? v.p + row * v.stride : k.p + row * k.stride;
    p += (size_t)h * d;
    float v_[HEAD_MOST / 32], sum = 0.0f;
#pragma unroll
    for (int i = 0; i < HEAD_MOST / 32; i++)
        v_[i] = 32 * i + lane < d ? p[32 * i + lane] : 0.0f;
#pragma unroll
    for (int i = 0; i < HEAD_MOST / 32; i++)
        sum += v_[i] * v_[i];
    float r = !is_v && w ? 1.0f / sqrtf(warp_sum(sum) / (float)d + eps) : 1.0f;
#pragma unroll
    for (int i = 0; i < HEAD_MOST / 32; i++)
        if (32 * i + lane < d)
            x[32 * i + lane] = v_[i] * r * ws[i];
    __syncwarp();
    if (!is_v && a) { /* angles go through shared memory, as halves of a head may lie in other lanes */
        float *angle = shared[4 + threadIdx.x / 32];
#pragma unroll
        for (int i = 0; i < HEAD_MOST / 32; i++)
            if (32 * i + lane < d)
                angle[32 * i + lane] = as[i];
        __syncwarp();
        for (int j = lane; j < d / 2; j += 32) {
            float x0 = x[j], x1 = x[j + d / 2], c = angle[j], s = angle[j + d / 2];
            x[j] = x0 * c - x1 * s;
            x[j + d / 2] = x1 * c + x0 * s;
        }
        __syncwarp();
    }
    if (!is_v && (w || a))
        for (int j = lane; j < d; j += 32)
            p[j] = x[j];
    if (is_q || !store)
        return;
    store_head(part, is_v ? kv.type_v : kv.type_k, kv.kv_heads, h, at % CT_KV_PAGE, d, x);
}

int cu_heads(cudaStream_t s, ct_cu_mat q, const float *wq, int hq, ct_cu_mat k, const float *wk, int hk, ct_cu_mat cs,
             float eps, ct_cu_mat v, const ct_cu_kv *kv, struct dev_rows r, int d)
{
    ct_cu_kv none = {};
    int rows = q.p ? q.rows : k.rows;
    hq = q.p ? hq : 0;
    hk = k.p ? hk : 0;
    return launch(heads, dim3((hq + hk * (kv ? 2 : 1) + 3) / 4, rows), 128, 0, s, q, wq, hq, k, wk, hk, cs, eps, v,
                  kv ? *kv : none, kv != NULL, r.pos, r.seq, d);
}

/* ---- the rest ---- */

static __device__ __forceinline__ float gelu(float g)
{
    return 0.5f * g * (1.0f + tanhf(0.79788456080286535588f * (g + 0.044715f * g * g * g)));
}

static __global__ void geglu(ct_cu_mat y, ct_cu_mat gate, ct_cu_mat up, struct planes pk, int kind)
{
    let_next_begin();
    after_previous();
    int row = blockIdx.y, c = blockIdx.x * blockDim.x + threadIdx.x;
    float z = c < y.cols ? gelu(gate.p[row * gate.stride + c]) * up.p[row * up.stride + c] : 0.0f;
    if (c < y.cols)
        y.p[row * y.stride + c] = z;
    if (kind >= 0)
        pack_group(pk, kind, c / 32, row, z, 1.0f); /* blocks of 256 are the planes' padding, too */
}

int cu_geglu(cudaStream_t s, ct_cu_mat y, ct_cu_mat gate, ct_cu_mat up, struct planes pk, int kind)
{
    return launch(geglu, dim3((y.cols + 255) / 256, y.rows), 256, 0, s, y, gate, up, pk, kind);
}

static __global__ void softcap(ct_cu_mat x, float cap)
{
    after_previous();
    let_next_begin();
    for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < x.cols; c += gridDim.x * blockDim.x)
        x.p[blockIdx.y * x.stride + c] = cap * tanhf(x.p[blockIdx.y * x.stride + c] / cap);
}

int cu_softcap(cudaStream_t s, ct_cu_mat x, float cap)
{
    return launch(softcap, dim3((x.cols + 255) / 256, x.rows), 256, 0, s, x, cap);
}

static __global__ void gather(ct_cu_mat y, ct_cu_mat x, const int32_t *index)
{
    after_previous();
    let_next_begin();
    for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < y.cols; c += gridDim.x * blockDim.x)
        y.p[blockIdx.y * y.stride + c] = x.p[index[blockIdx.y] * x.stride + c];
}

int cu_gather(cudaStream_t s, ct_cu_mat y, ct_cu_mat x, const int32_t *index)
{
    return launch(gather, dim3((y.cols + 255) / 256, y.rows), 256, 0, s, y, x, index);
}

/* A block per row. */
static __global__ void pack(struct planes p, int kind, ct_cu_mat x)
{
    __shared__ float part[32];
    let_next_begin();
    after_previous();
    int row = blockIdx.x, padded = (x.cols + 255) / 256 * 256, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const float *from = x.p + row * x.stride;
    float inv = 1.0f;
    if (kind == PLANES_F16) { /* the row's largest at 2^14, so that hi + lo lose nothing that matters and nothing overflows */
        float most = 0.0f;
        for (int c = threadIdx.x; c < x.cols; c += blockDim.x)
            most = fmaxf(most, fabsf(from[c]));
        most = warp_max(most);
        if (threadIdx.x % 32 == 0)
            part[warp] = most;
        __syncthreads();
        most = warp_max(threadIdx.x % 32 < warps ? part[threadIdx.x % 32] : 0.0f);
        int e = 0;
        frexpf(most, &e);
        e = most > 0.0f && most < __int_as_float(0x7f800000) ? min(max(14 - e, -126), 126) : 0;
        inv = ldexpf(1.0f, e);
        if (threadIdx.x == 0)
            p.scale[row] = ldexpf(1.0f, -e);
    }
    for (int g = warp + blockIdx.y * warps; g < padded / 32; g += warps * gridDim.y) {
        int c = 32 * g + threadIdx.x % 32;
        pack_group(p, kind, g, row, c < x.cols ? from[c] : 0.0f, inv);
    }
}

int cu_pack(cudaStream_t s, struct planes p, int kind, ct_cu_mat x)
{
    int groups = (x.cols + 255) / 256 * 8;
    return launch(pack, dim3(x.rows, kind == PLANES_F16 ? 1 : (groups + 31) / 32), 256, 0, s, p, kind, x);
}
