/* Tiles: how the cpu backend packs a weight.
 *
 * A matrix [N,K] is cut into tiles of 16 output rows; a tile holds its 16 rows over all of K, one 512-bit vector holds
 * four neighbouring weights (one int8 dot product step) of each row, and a matrix-vector product streams tile after
 * tile. Packing only moves words of GGUF's blocks and bits of MLX's: a tile has the file's bits per weight, nothing is
 * decoded.
 * One layout per type for all instruction sets.
 *
 * Notation: r row in the tile (0..15), g group of 32 columns, v quad of columns in the group (0..7), i column of it.
 * "quad vector" = 64 bytes, byte r*4+i. "pairs of": one f16 scale per row and block, [2][16] scales of two blocks, one
 * cache line, then the quants of the two. So a tile is read in one direction, line by line: with all scales in front a Zen 4
 * core read 14 GB/s, with pairs 28.
 *
 *   q8_0    pairs of [K/32] x { quants [8 quad vectors], q ^ 0x80: unsigned, offset 128 }
 *   q4_0    pairs of [K/32] x { quants [4]: low nibbles quads 0..3, high nibbles quads 4..7 }; offset 8
 *   iq4_nl  as q4_0; a nibble stands for ct_iq4_values; offset 128
 *   q5_0    as q4_0, and before the 4 vectors of a group 8 x u64: bit r*4+i of word v is the fifth bit; offset 16
 *   q4_1    [K/32] x { scale f16 [16]; m f16 [16], the min is -m; quants [4] as q4_0 }
 *   q5_1    [K/32] x { scale f16 [16]; m f16 [16]; fifth bits 8 x u64; quants [4] as q5_0 }
 *   q2_k    [K/256] x { d f16 [16]; dmin f16 [16]; S, M nibbles u8 [16][16], one per 16 columns; quants [2][8]: bits 2t..2t+1 of
 *           vector v of half h: group 4h+t }
 *   q3_k    pairs of [K/256] x { S u8 [12][16] as in the block; third bits [8]: bit g; quants [2][8] as q2_k };
 *           offset 4
 *   q4_k    [K/256] x { d f16 [16]; dmin f16 [16]; S,M nibbles u8 [8][16], high u8 [4][16]; quants [4][8]: vector v of
 *           chunk c: low nibbles quad v of group 2c, high nibbles quad v of group 2c+1 }
 *   q5_k    as q4_k, before the quants fifth bits [8]: bit g
 *   q6_k    pairs of [K/256] x { scales i8 [16][16]; halves of 128 columns [2] x { low bits [16 vectors]; high bits [8] } }
 *           group t of a half: nibble (t>>1) of low vector (t&1)*8+v, bits 2t..2t+1 of high vector v; offset 32
 *   iq4_xs  [K/256] x { d f16 [16]; S high u16 [16]; S nibbles u8 [4][16]; quants [8][4] as iq4_nl }; offset 128
 *   mlx     [K/G] x { scales [16]; biases [16]; [G/32] x planes of a group's quants }; 2, 4 and 8 bits have one plane, 3 bits the
 *           third and the lower two, 5 the fifth and the lower four, 6 the lower four and the upper two. 8 bits [8], offset 128; 4 bits
 *           [4] as q4_0; 2 bits [2]: bits 2t..2t+1 of vector j: quad 2t+j; 1 bit: 8 x u64 as q5_0
 *   mxfp4   [ceil(K/128)] x { exponents of half a scale u8 [4][16]; [4] or less x quants [4] as q4_0 }; a nibble stands for
 *           ct_e2m1_twice, offset 12
 *   bf16    [ceil(K/2)] pair vectors: 2 x u16 of each row;   f16 u16 [K][16];   f32 f32 [K][16] */
#ifndef CT_CPU_TILE_H
#define CT_CPU_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

#define TILE 16

enum tile_kind {
    TILE_INT,  /* unsigned ints times a scale per group */
    TILE_BF16, /* pairs for a bf16 dot product */
    TILE_F32   /* decoded to f32 */
};

/* How a tile of an MLX type is laid out. */
enum mlx_scales { MLX_BF16, MLX_F16, MLX_F32, MLX_E8M0 };
struct mlx_form {
    int32_t bits, shift;    /* 1 << shift groups of 32 share a scale (mxfp4: a line of scales) */
    int32_t line;           /* bytes of scales and biases in front of them */
    enum mlx_scales scales; /* of each, and of each bias */
};

struct tile_type {
    ct_dtype type;
    int32_t kernel; /* index in the tables of kernels.h */
    enum tile_kind kind;
    int32_t offset;                /* what was added to make quants unsigned */
    int32_t halves;                /* scales per group of 32: 1 or 2 */
    bool has_min;                  /* value = scale * q - min, a min beside each scale */
    size_t (*bytes)(int32_t cols); /* of a tile, a multiple of 64 */
    /* Packs rows 0..n-1 (n <= 16) of row-major blocks, row_bytes apart, into a zeroed tile. False if a scale or a float
     * weight is NaN or infinite: one such number would spoil every token. */
    bool (*pack)(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols);
    /* One row's group of 32 columns back: unsigned quants q[32], scale[halves], min[halves]; TILE_INT only. */
    void (*lane)(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min);
    struct mlx_form mlx; /* of MLX's types */
};

const struct tile_type *ct_tile_type(ct_dtype type); /* NULL when the type is not packed */
const struct tile_type *ct_tile_mlx(ct_dtype type);  /* the same of MLX's types, pack_mlx.c */

/* Kernels that are one for several types of MLX: of all with so many bits, and of mxfp4. */
enum { KERNEL_MXFP4 = 32, KERNEL_MLX = 32, N_KERNELS = KERNEL_MLX + 9 };

/* Values of row r of a tile, any type. */
void ct_tile_row(const struct tile_type *tt, const uint8_t *tile, int32_t cols, int32_t r, float *out);

/* Where block b of a run of pairs has its scales and its quants, and what n blocks take (an odd last one has a line of its own). */
static inline size_t unit_scales(int32_t b, size_t bytes)
{
    return (size_t)(b >> 1) * (64 + 2 * bytes) + (size_t)(b & 1) * 32;
}
static inline size_t unit_quants(int32_t b, size_t bytes)
{
    return (size_t)(b >> 1) * (64 + 2 * bytes) + 64 + (size_t)(b & 1) * bytes;
}
static inline size_t unit_bytes(int32_t n, size_t bytes) { return (size_t)((n + 1) >> 1) * 64 + (size_t)n * bytes; }

/* Where group g of 32 columns has its scales and its quants, MLX's types; and what g groups take. */
static inline size_t mlx_scales_at(const struct mlx_form *f, int32_t g)
{
    return (size_t)(g >> f->shift) * (size_t)(f->line + (f->bits * 64 << f->shift));
}
static inline size_t mlx_quants_at(const struct mlx_form *f, int32_t g)
{
    return mlx_scales_at(f, g) + (size_t)(f->line + (g & ((1 << f->shift) - 1)) * f->bits * 64);
}
static inline size_t mlx_group_bytes(const struct mlx_form *f)
{
    return (size_t)(f->bits * 64 + (f->line >> f->shift));
}

/* Bytes of a group of 32 columns or of a super-block of 256; those of types in pairs without their scales. */
enum {
    Q8_0_GROUP = 512,
    Q4_0_GROUP = 256,
    Q5_0_GROUP = 320,
    Q4_1_GROUP = 320,
    Q5_1_GROUP = 384,
    Q2_K_SUPER = 1344,
    Q3_K_SUPER = 1728,
    Q4_K_SUPER = 2304,
    Q5_K_SUPER = 2816,
    Q6_K_SUPER = 3328,
    Q6_K_HALF = 1536,
    IQ4_XS_SUPER = 2176
};

/* Twice the values of mxfp4's nibbles (ct_e2m1_twice), and 12. */
extern const uint8_t ct_mxfp4_quants[16];

static inline const uint8_t *tile_at(const ct_weight *w, const struct tile_type *tt, int32_t tile)
{
    return (const uint8_t *)w->buf.host + (size_t)tile * tt->bytes(w->cols);
}

static inline int32_t tile_count(const ct_weight *w) { return (w->rows + TILE - 1) / TILE; }

#endif
