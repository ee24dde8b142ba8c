/* THE table of weight types: what the bytes of a weight mean.
 *
 * A type is a row: its GGUF id, its name, how many elements and bytes a block has, and a decoder that is exact, slow and
 * single-threaded. Everything that reads a weight (ref, the packers, inspect, the embedding look-up) starts from a row of
 * this table; nothing else in the program knows a block layout, except the packers of fast kernels, which are checked
 * against these decoders. */
#ifndef CT_QUANT_DTYPE_H
#define CT_QUANT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ids of MLX's affine types: bits, group, and what scales and biases are (0 bf16, 1 f16, 2 f32). */
#define CT_MLX_FIRST 1000
#define CT_MLX_ID(bits, group, scales) (CT_MLX_FIRST + (bits)*100 + (group) / 32 * 10 + (scales))
#define CT_MLX_IDS(bits, group)                                                                                     \
    CT_MLX##bits##_G##group = CT_MLX_ID(bits, group, 0), CT_MLX##bits##_G##group##_F16 = CT_MLX_ID(bits, group, 1), \
    CT_MLX##bits##_G##group##_F32 = CT_MLX_ID(bits, group, 2)
#define CT_MLX_ALL(bits) CT_MLX_IDS(bits, 32), CT_MLX_IDS(bits, 64), CT_MLX_IDS(bits, 128)

/* Values below CT_MLX_FIRST are the type ids of the GGUF format. */
typedef enum ct_dtype {
    CT_F32 = 0,
    CT_F16 = 1,
    CT_Q4_0 = 2,
    CT_Q4_1 = 3,
    CT_Q5_0 = 6,
    CT_Q5_1 = 7,
    CT_Q8_0 = 8,
    CT_Q2_K = 10,
    CT_Q3_K = 11,
    CT_Q4_K = 12,
    CT_Q5_K = 13,
    CT_Q6_K = 14,
    CT_IQ4_NL = 20,
    CT_IQ4_XS = 23,
    CT_BF16 = 30,
    CT_MXFP4 = CT_MLX_FIRST, /* MLX's order of nibbles; GGUF's type of that name (39) has another */
    CT_MLX_ALL(2),
    CT_MLX_ALL(3),
    CT_MLX_ALL(4),
    CT_MLX_ALL(5),
    CT_MLX_ALL(6),
    CT_MLX_ALL(8)
} ct_dtype;

typedef struct ct_dtype_info {
    ct_dtype type;
    const char *name;    /* lower case, as users type it: "q4_k" */
    int32_t block_elems; /* elements in a block; a row is a whole number of blocks */
    int32_t block_bytes;
    int32_t group; /* elements that share one scale: 32, 16 (q2_k, q3_k, q6_k), 1 for floats */
    bool quantized;
    /* Decodes n_blocks blocks into n_blocks * block_elems floats. src needs no alignment. */
    void (*decode)(float *dst, const void *src, size_t n_blocks);
    /* Fills n_blocks blocks with valid random content, elements of about normal spread with standard deviation sigma,
     * a pure function of (seed, stream, first_block + i): for synthetic models and for checks. */
    void (*random)(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma);
} ct_dtype_info;

/* What the indices of iq4_nl and iq4_xs stand for, in units of a scale: denser around zero, where most weights are. A part of
 * the format; the kernels look the numbers up as well. */
extern const int8_t ct_iq4_values[16];

/* Sixteen values of E2M1, mxfp4's nibbles, twice: 0, 1/2, 1, 3/2, 2, 3, 4, 6, then the negative ones. */
extern const int8_t ct_e2m1_twice[16];

/* NULL when carat does not know the type. The second takes ids of the GGUF format only, as a file claims them. */
const ct_dtype_info *ct_dtype_get(int32_t type);
const ct_dtype_info *ct_dtype_of_gguf(uint64_t gguf_type);
const ct_dtype_info *ct_dtype_by_name(const char *name);
/* Rows of the table in order, for checks and help texts; NULL past the end. */
const ct_dtype_info *ct_dtype_at(size_t i);
/* The GGUF name of any type id ("IQ4_XS"), known to carat or not, for error sentences; "type 77" forms are the caller's. */
const char *ct_gguf_type_name(int32_t gguf_type);

/* An affine type of MLX: value = scale q + bias, q of `bits` unsigned bits, one scale and one bias per `group` elements, both of
 * type `scales` (CT_BF16, CT_F16 or CT_F32). A block is { scale, bias, quants }, as the three tensors of a folder have them:
 * quants are one little-endian stream of bits. */
typedef struct ct_mlx {
    int32_t bits, group;
    ct_dtype scales;
} ct_mlx;
/* NULL for bits, groups or scales that MLX does not have. False for types that are no affine ones of MLX. */
const ct_dtype_info *ct_mlx_dtype(ct_mlx m);
bool ct_mlx_of(const ct_dtype_info *t, ct_mlx *m);

/* Bytes of a row of n elements; false if n is not a whole number of blocks or the size overflows. */
bool ct_row_bytes(const ct_dtype_info *t, size_t n, size_t *bytes);

/* Decodes n elements (whole blocks) starting at src. */
void ct_row_decode(const ct_dtype_info *t, float *dst, const void *src, size_t n);

#endif
