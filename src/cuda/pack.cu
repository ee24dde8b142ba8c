/* Packing at load: a file's row-major blocks, already on the card, into the layouts of cuda_kernels.h. One thread per (row, group
 * of 32, lane of four); what it writes for padding rows and columns is zero. Checked against quant/ by the check of linear. */
#include "cuda/internal.cuh"

static __device__ __forceinline__ uint32_t u32_at(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static __device__ __forceinline__ bool half_bad(const uint8_t *p) { return (p[1] & 0x7c) == 0x7c; }

/* Eight quants of row r, group g: bits b of q[0..3] are elements 4 t.., of q[4..7] 16 + 4 t... src is the row's block of g. */
template <int TYPE> static __device__ __forceinline__ void quants(int q[8], const uint8_t *b, int j, int t)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int e = 16 * (i / 4) + 4 * t + i % 4, l = 4 * t + i % 4;
        if (TYPE == CT_Q4_0)
            q[i] = (b[2 + l] >> 4 * (i / 4) & 15) ^ 8;
        else if (TYPE == CT_Q4_1)
            q[i] = b[4 + l] >> 4 * (i / 4) & 15;
        else if (TYPE == CT_Q5_0)
            q[i] = (b[6 + l] >> 4 * (i / 4) & 15) | (u32_at(b + 2) >> e & 1) << 4;
        else if (TYPE == CT_Q5_1)
            q[i] = (b[8 + l] >> 4 * (i / 4) & 15) | (u32_at(b + 4) >> e & 1) << 4;
        else if (TYPE == CT_Q8_0)
            q[i] = b[2 + e];
        else if (TYPE == CT_Q4_K)
            q[i] = b[16 + j / 2 * 32 + e] >> 4 * (j % 2) & 15;
        else if (TYPE == CT_Q5_K)
            q[i] = (b[48 + j / 2 * 32 + e] >> 4 * (j % 2) & 15) | (b[16 + e] >> j & 1) << 4;
        else if (TYPE == CT_Q6_K) /* half j / 4, run j % 4 */
            q[i] = ((b[j / 4 * 64 + (j & 1) * 32 + e] >> (j % 4 / 2 * 4) & 15) | (b[128 + j / 4 * 32 + e] >> 2 * (j % 4) & 3) << 4) ^ 32;
    }
}

template <int TYPE>
static __global__ void tiles(uint8_t *dst, const uint8_t *src, int rows, int cols, size_t pitch, int *bad)
{
    constexpr int ELEMS = ct_cu_record_elems(TYPE), GROUPS = ELEMS / 32, HALVES = GROUPS / 4;
    constexpr int BLOCK = ELEMS == 256 ? 256 : 32;
    constexpr int BYTES = TYPE == CT_Q4_0   ? 18
                          : TYPE == CT_Q4_1 ? 20
                          : TYPE == CT_Q5_0 ? 22
                          : TYPE == CT_Q5_1 ? 24
                          : TYPE == CT_Q8_0 ? 34
                          : TYPE == CT_Q4_K ? 144
                          : TYPE == CT_Q5_K ? 176
                                            : 210;
    int tile = blockIdx.y, per = (int)(pitch / ct_cu_record_bytes(TYPE)) * GROUPS;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < per * 64; i += gridDim.x * blockDim.x) {
        int t = i % 4, r = i / 4 % 16, g = i / 64, row = tile * 16 + r, h = r / 8, lane = 4 * (r % 8) + t;
        int j = g % GROUPS, half = j / 4, w = j % 4;
        uint8_t *rec = dst + tile * pitch + (size_t)(g / GROUPS) * ct_cu_record_bytes(TYPE);
        bool there = row < rows && g * 32 < cols;
        const uint8_t *b = src + (size_t)row * (cols / BLOCK) * BYTES + (size_t)(g * 32 / BLOCK) * BYTES;
        int q[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (there)
            quants<TYPE>(q, b, j, t);
        uint32_t lo = 0, hi = 0, ones = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            lo |= (uint32_t)(q[k] & 255) << 8 * k;
            hi |= (uint32_t)(q[4 + k] & 255) << 8 * k;
            ones |= (uint32_t)(q[k] >> 4 & 1) << (8 * k + 2 * w) | (uint32_t)(q[4 + k] >> 4 & 1) << (8 * k + 2 * w + 1);
        }
        if (TYPE == CT_Q8_0)
            *(uint2 *)(rec + ((w / 2 * 2 + h) * 32 + lane) * 16 + w % 2 * 8) = make_uint2(lo, hi);
        else
            *(uint32_t *)(rec + half * 1024 + (h * 32 + lane) * 16 + w * 4) = (lo & 0x0f0f0f0fu) | (hi & 0x0f0f0f0fu) << 4;
        /* Fields that groups share a word of: dst was zeroed. */
        if (TYPE == CT_Q5_0 || TYPE == CT_Q5_1 || TYPE == CT_Q5_K)
            atomicOr((uint32_t *)(rec + HALVES * 1024 + half * 256 + (lane * 2 + h) * 4), ones);
        if (TYPE == CT_Q6_K) {
            uint32_t twos = 0;
#pragma unroll
            for (int k = 0; k < 8; k++)
                twos |= (uint32_t)(q[k] >> 4 & 3) << (8 * (k % 4) + 2 * (2 * (w % 2) + k / 4));
            atomicOr((uint32_t *)(rec + 2048 + half * 512 + ((lane * 2 + h) * 2 + w / 2) * 4), twos);
        }
        if (t != 0 || !there)
            continue;
        if (TYPE == CT_Q4_1 || TYPE == CT_Q5_1) {
            *(uint32_t *)(rec + (TYPE == CT_Q4_1 ? 1024 : 1280) + (r * 4 + w) * 4) = u32_at(b);
            if (half_bad(b) || half_bad(b + 2))
                *bad = 1;
        } else if (ELEMS == 128) {
            *(uint16_t *)(rec + (TYPE == CT_Q4_0 ? 1024 : TYPE == CT_Q5_0 ? 1280 : 2048) + (r * 4 + w) * 2) =
                (uint16_t)(b[0] | b[1] << 8);
            if (half_bad(b))
                *bad = 1;
        } else if (j == 0 && TYPE != CT_Q6_K) {
            uint4 head = make_uint4(u32_at(b), 0, 0, 0);
            const uint8_t *sc = b + 4;
            for (int k = 0; k < 8; k++) {
                uint32_t s = k < 4 ? sc[k] & 63 : (sc[k + 4] & 15) | sc[k - 4] >> 6 << 4;
                uint32_t m = k < 4 ? sc[k + 4] & 63 : sc[k + 4] >> 4 | sc[k] >> 6 << 4;
                head.y |= (s & 15) << 4 * k;
                head.z |= (m & 15) << 4 * k;
                head.w |= s >> 4 << 2 * k | m >> 4 << (16 + 2 * k);
            }
            *(uint4 *)(rec + (TYPE == CT_Q4_K ? 2048 : 2560) + r * 16) = head;
            if (half_bad(b) || half_bad(b + 2))
                *bad = 1;
        } else if (TYPE == CT_Q6_K && j == 0) {
            for (int k = 0; k < 16; k++)
                rec[3072 + r * 16 + k] = b[192 + k];
            *(uint16_t *)(rec + 3328 + r * 2) = (uint16_t)(b[208] | b[209] << 8);
            if (half_bad(b + 208))
                *bad = 1;
        }
    }
}

/* Rows of floats, or of blocks as they are: bytes, and zeros behind. */
static __global__ void plain(uint8_t *dst, const uint8_t *src, size_t row_bytes, size_t pitch, int size, int *bad, ct_dtype t)
{
    int row = blockIdx.y;
    for (size_t i = (size_t)(blockIdx.x * blockDim.x + threadIdx.x) * size; i < row_bytes; i += (size_t)gridDim.x * blockDim.x * size)
        for (int k = 0; k < size; k++)
            dst[row * pitch + i + k] = src[row * row_bytes + i + k];
    (void)bad;
    (void)t;
}

/* Do the file's blocks have finite scales? at: offsets of up to two halves in a block of `bytes`. */
static __global__ void look(const uint8_t *src, size_t blocks, int bytes, int at0, int at1, int *bad)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < blocks; i += (size_t)gridDim.x * blockDim.x)
        if (half_bad(src + i * bytes + at0) || half_bad(src + i * bytes + at1))
            *bad = 1;
}

int cu_repack(cudaStream_t s, uint8_t *dst, const uint8_t *src, ct_dtype t, int rows, int cols, int *bad)
{
    size_t pitch = ct_cu_pitch(t, cols);
    int n_tiles = (rows + 15) / 16, e = (int)cudaMemsetAsync(dst, 0, ct_cu_weight_size(t, rows, cols), s);
    if (e)
        return e;
    for (int from = 0; from < n_tiles && ct_cu_record_elems(t); from += 32768) {
        dim3 grid(8, n_tiles - from < 32768 ? n_tiles - from : 32768);
        uint8_t *d = dst + from * pitch;
        size_t row_bytes = t == CT_Q4_0   ? cols / 32 * 18
                           : t == CT_Q4_1 ? cols / 32 * 20
                           : t == CT_Q5_0 ? cols / 32 * 22
                           : t == CT_Q5_1 ? cols / 32 * 24
                           : t == CT_Q8_0 ? cols / 32 * 34
                           : t == CT_Q4_K ? cols / 256 * 144
                           : t == CT_Q5_K ? cols / 256 * 176
                                          : cols / 256 * 210;
        const uint8_t *f = src + (size_t)from * 16 * row_bytes;
        int left = rows - from * 16;
        switch (t) {
        case CT_Q4_0: tiles<CT_Q4_0><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q4_1: tiles<CT_Q4_1><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q5_0: tiles<CT_Q5_0><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q5_1: tiles<CT_Q5_1><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q8_0: tiles<CT_Q8_0><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q4_K: tiles<CT_Q4_K><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        case CT_Q5_K: tiles<CT_Q5_K><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        default: tiles<CT_Q6_K><<<grid, 256, 0, s>>>(d, f, left, cols, pitch, bad); break;
        }
    }
    if (!ct_cu_record_elems(t)) {
        size_t row_bytes = ct_cu_is_float(t) ? (size_t)cols * (t == CT_F32 ? 4 : 2) : pitch;
        for (int from = 0; from < rows; from += 32768) {
            dim3 grid(4, rows - from < 32768 ? rows - from : 32768);
            plain<<<grid, 256, 0, s>>>(dst + from * pitch, src + from * row_bytes, row_bytes, pitch, 2, bad, t);
        }
        int bytes = t == CT_Q2_K ? 84 : t == CT_Q3_K ? 110 : t == CT_IQ4_XS ? 136 : 18;
        int at0 = t == CT_Q2_K ? 80 : t == CT_Q3_K ? 108 : 0, at1 = t == CT_Q2_K ? 82 : at0;
        if (!ct_cu_is_float(t))
            look<<<1024, 256, 0, s>>>(src, rows * pitch / bytes, bytes, at0, at1, bad);
    }
    return (int)cudaGetLastError();
}
