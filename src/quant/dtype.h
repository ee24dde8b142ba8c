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

/* Values are the type ids of the GGUF format. */
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
    CT_BF16 = 30
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

/* NULL when carat does not know the type. */
const ct_dtype_info *ct_dtype_get(int32_t gguf_type);
const ct_dtype_info *ct_dtype_by_name(const char *name);
/* Rows of the table in order, for checks and help texts; NULL past the end. */
const ct_dtype_info *ct_dtype_at(size_t i);
/* The GGUF name of any type id ("IQ4_XS"), known to carat or not, for error sentences; "type 77" forms are the caller's. */
const char *ct_gguf_type_name(int32_t gguf_type);

/* Bytes of a row of n elements; false if n is not a whole number of blocks or the size overflows. */
bool ct_row_bytes(const ct_dtype_info *t, size_t n, size_t *bytes);

/* Decodes n elements (whole blocks) starting at src. */
void ct_row_decode(const ct_dtype_info *t, float *dst, const void *src, size_t n);

#endif
