/* What the files of src/cuda share: how weights, activations and the cache lie in the card's memory, and the C-callable entry
 * points of its kernels. It knows no model and no engine; ops.cu translates the table of operations into these.
 *
 * All pointers are device pointers unless said. Entry points only enqueue on the stream that they are given: they allocate
 * nothing, wait for nothing and may run while a graph is captured, unless said. They return 0, or a cudaError_t. */
#ifndef CT_CUDA_CUDA_KERNELS_H
#define CT_CUDA_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "backend/backend.h" /* ct_dtype, CT_KV_PAGE */

/* A matrix of f32 activations. stride is in elements; rows start at any multiple of 4 bytes (the model's at 64). */
typedef struct ct_cu_mat {
    float *p;
    int32_t rows, cols;
    size_t stride;
} ct_cu_mat;

/* ---- weights ----
 *
 * [rows, cols] in one of three layouts. Rows are padded to a multiple of 16, columns (K) to a multiple of 128 for types of
 * blocks of 32 and for floats (K-quants come in 256s); padding reads as zero weights, whatever they are multiplied with.
 *
 * Floats (f32, f16, bf16): row-major, `pitch` bytes a row: ready for cuBLASLt with ld = pitch / element size.
 *
 * Tiles (q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k): 16 rows at a time, `pitch` bytes a tile; a tile is a run of records along
 * K, of 128 elements (256 for K-quants) of all 16 rows. Within a record, elements lie as a warp feeds them to the tensor cores
 * (mma.m16n8k32.s8, operand A). Element e of a group of 32 is: s = e / 16, t = e % 16 / 4, b = e % 4; row r of the tile: h = r / 8,
 * lane = 4 (r % 8) + t. Group w of four consecutive ones (a "half" of a K-quant's record, the whole of another's).
 *   nibbles  [h 2][lane 32] 16 bytes = words w = 0..3: byte b has s = 0 in its low, s = 1 in its high nibble   (1024 bytes)
 *   bytes    [w/2 2][h 2][lane 32] 16 bytes: 8 (w % 2) + 4 s + b                                               (2048)
 *   ones     [lane 32][h 2] u32: bit 8 b + 2 w + s                                                             (256)
 *   twos     [lane 32][h 2][w/2 2] u32: bits 8 b + 2 (2 (w % 2) + s) and the next                              (512)
 * Records:
 *   q4_0  nibbles (n ^ 8) | f16 d [16 rows][4 groups]                        1152 bytes    x = d (n - 8)
 *   q4_1  nibbles n | {f16 d, m} [16][4]                                     1280          x = d n + m
 *   q5_0  nibbles | ones, n of five bits | f16 d [16][4]                     1408          x = d (n - 16)
 *   q5_1  nibbles | ones | {f16 d, m} [16][4]                                1536          x = d n + m
 *   q8_0  bytes (two's complement) | f16 d [16][4]                           2176          x = d q
 *   q4_k  nibbles [half 2] | header [16]                                     2304          x = d S n - dmin M
 *   q5_k  nibbles [half 2] | ones [half 2] | header [16]                     2816          x = d S n - dmin M
 *   q6_k  nibbles [half 2] | twos [half 2] (top bit flipped) | i8 S [16][16] | f16 d [16]   3360   x = d S (n - 32), S per 16
 * header = {f16 d, dmin; u32 low nibbles of S[8]; u32 low nibbles of M[8]; u32 top pairs: S[j] at 2 j, M[j] at 16 + 2 j}.
 *
 * Blocks (q2_k q3_k iq4_nl iq4_xs): the file's own, row-major, `pitch` bytes a row (rows not padded).
 *
 * dequant.cuh decodes them all: 8 elements of a row at a time. */
typedef struct ct_cu_weight {
    const uint8_t *p;
    ct_dtype type;
    int32_t rows, cols;
    size_t pitch;
} ct_cu_weight;

/* ---- cache ----
 *
 * A page (backend.h: ct_kv) holds CT_KV_PAGE = 64 positions of all K kv heads: keys first, values from v_off on. Either is
 *   floats    [K][64][d] of its type (f32, f16, bf16)
 *   CT_Q8_0   i8 [K][64][d], then f16 scales [K][64][d/32]
 *   CT_Q4_1   nibbles [K][64][d/2] (byte j of a group of 32: element j low, j + 16 high), then {f16 d, m} [K][64][d/32]
 * A part begins at a multiple of 64 bytes. ct_cu_kv_part gives its size, ct_cu_kv_scales where its scales are. */
#ifdef __CUDACC__
#define CT_CU_BOTH __host__ __device__
#else
#define CT_CU_BOTH
#endif

static inline CT_CU_BOTH size_t ct_cu_kv_scales(ct_dtype t, int32_t kv_heads, int32_t d)
{
    size_t n = (size_t)CT_KV_PAGE * (size_t)kv_heads * (size_t)d;
    return t == CT_F32 ? n * 4 : t == CT_Q8_0 ? n : t == CT_Q4_1 ? n / 2 : n * 2;
}

static inline CT_CU_BOTH size_t ct_cu_kv_part(ct_dtype t, int32_t kv_heads, int32_t d)
{
    size_t groups = (size_t)CT_KV_PAGE * (size_t)kv_heads * (size_t)(d / 32);
    size_t n = ct_cu_kv_scales(t, kv_heads, d) + (t == CT_Q8_0 ? groups * 2 : t == CT_Q4_1 ? groups * 4 : 0);
    return (n + 63) & ~(size_t)63;
}

typedef struct ct_cu_kv {
    ct_dtype type_k, type_v;
    int32_t kv_heads, head_dim;
    int32_t ring,
        table_stride; /* position p of sequence s: page table[s * table_stride + (ring ? p / 64 % ring : p / 64)] */
    const int32_t *table;
    uint8_t *pages; /* page i at pages + i * page_bytes */
    size_t page_bytes, v_off;
} ct_cu_kv;

/* Rows of one sequence that stand together in the batch: rows first .. first + n - 1 are its positions pos .. pos + n - 1.
 * These lie on the host. */
typedef struct ct_cu_run {
    int32_t first, n, seq, pos;
} ct_cu_run;

/* ---- prompt rows: gemm*.cu ---- */

typedef struct ct_cu_gemm ct_cu_gemm;
/* What the products need for their life (cuBLASLt's handle, plans); one per stream. May allocate. NULL in *out without an
 * error means that there is nothing to make. */
int ct_cuda_gemm_create(ct_cu_gemm **out);
void ct_cuda_gemm_free(ct_cu_gemm *g);
/* Device bytes that a call with at most so many rows, columns (K) and outputs (N, all m matrices together) wants as scratch. */
size_t ct_cuda_gemm_scratch(int32_t rows, int32_t max_cols, int32_t max_out);
/* y[i][n, w[i].rows] = x[n, cols] w[i]^T for m <= CT_LINEAR_MAX matrices, f32 in and out; products with bf16 operands and f32
 * sums are enough for prompt rows. y[i].cols may be less than w[i].rows. deterministic: a row's bits must not depend on n nor on
 * the rows beside it. Returns 0, a cudaError_t, or CT_CU_NOT_MINE: nothing was enqueued and the caller takes the slow way.
 * Never called while a graph is captured. */
#define CT_CU_NOT_MINE (-1)
int ct_cuda_gemm(ct_cu_gemm *g, cudaStream_t s, int32_t m, const ct_cu_mat *y, ct_cu_mat x, const ct_cu_weight *w,
                 bool deterministic, void *scratch, size_t scratch_bytes);
/* y[n, F] = gelu_tanh(x gate^T) * (x up^T); as above. y has gate.rows columns. */
int ct_cuda_gemm_geglu(ct_cu_gemm *g, cudaStream_t s, ct_cu_mat y, ct_cu_mat x, ct_cu_weight gate, ct_cu_weight up,
                       bool deterministic, void *scratch, size_t scratch_bytes);

/* Activations rounded to bf16: [rows][pitch]. p lies at a multiple of 16 bytes; what is behind cols in a row is not read. */
typedef struct ct_cu_mat16 {
    void *p;
    int32_t rows, cols;
    size_t pitch; /* elements: ct_cu_pitch16 */
} ct_cu_mat16;

static inline CT_CU_BOTH size_t ct_cu_pitch16(int32_t cols) { return ((size_t)cols + 63) / 64 * 64; }

/* Would a call with so many rows be taken? */
bool ct_cuda_gemm_takes(int32_t rows, bool deterministic);
/* The same with an input, or a result, that is (to be) rounded already: of the scratch, only the part
 * for weights is wanted (ct_cuda_gemm_scratch with rows 0). */
int ct_cuda_gemm_half(ct_cu_gemm *g, cudaStream_t s, int32_t m, const ct_cu_mat *y, ct_cu_mat16 x,
                      const ct_cu_weight *w, bool deterministic, void *scratch, size_t scratch_bytes);
int ct_cuda_gemm_geglu_half(ct_cu_gemm *g, cudaStream_t s, ct_cu_mat16 y, ct_cu_mat16 x, ct_cu_weight gate,
                            ct_cu_weight up, bool deterministic, void *scratch, size_t scratch_bytes);
int ct_cuda_round(cudaStream_t s, ct_cu_mat16 y, ct_cu_mat x);
int ct_cuda_widen(cudaStream_t s, ct_cu_mat y, ct_cu_mat16 x);

/* ---- prompt rows: flash*.cu ---- */

/* o[n, H d] = softmax(q k^T scale) v for the rows of the runs (host array; rows are those of q and o), each over its own
 * sequence's cached positions j <= pos and, with a window W > 0, pos - j < W; the rows' own keys are already stored. q, k, v and
 * the probabilities may be rounded to bf16 on their way into a product; sums are f32. A row's bits depend on its own run's
 * rows at most, with deterministic on nothing but its own position and keys. Any head size that is a multiple of 16 up to 256 and any pair of
 * cache types, or CT_CU_NOT_MINE. */
int ct_cuda_flash(cudaStream_t s, ct_cu_mat o, ct_cu_mat q, const ct_cu_kv *kv, const ct_cu_run *runs, int32_t n_runs,
                  int32_t heads, int32_t window, float scale, bool deterministic, void *scratch, size_t scratch_bytes);
size_t ct_cuda_flash_scratch(int32_t rows, int32_t heads, int32_t head_dim);

#ifdef __cplusplus
}
#endif

#endif
