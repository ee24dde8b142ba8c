/* The kernels that an instruction set may override, and the operands they share.
 *
 * backend_cpu.c fills a table with portable C and lets each instruction set replace what it does better; drivers (linear.c,
 * attention.c, rows.c) cut the work into tasks and call through the table. A kernel works on one tile, one row or one block
 * of a few rows, allocates nothing and cannot fail.
 *
 * Two arithmetics for activations, chosen by what a row is, never by how many there are:
 *   one plane   int8 in groups of 32, scale = amax/127: prompts (KL about 1e-3 on the 270M model)
 *   two planes  16 bits in groups of 32, scale = amax/32512, as high and low int8 planes, q = 256*hi + lo: decode, and
 *               prompts when asked to be exact (KL about 2e-5)
 * Integer sums are exact, and the float part has one order (group by group), so any kernel of an instruction set gives the
 * same bits for a row whatever rows stand beside it. */
#ifndef CT_CPU_KERNELS_H
#define CT_CPU_KERNELS_H

#include "cpu/tile.h"

#define DOT_ROWS 4  /* rows that a dot kernel takes at once, straight from the packed tile */
#define GEMM_ROWS 6 /* rows of a block against two unpacked panels: 2 x 6 int + 2 x 6 float sums fit 32 registers */

/* Activation rows in the forms that weights want; filled once per linear call. groups = cols / 32. */
struct acts {
    int32_t n, n_prompt; /* rows; the first n_prompt have one plane */
    int32_t cols, groups;
    bool ahead;     /* kernels ask for the weights that come next themselves, see linear.c */
    const float *x; /* [n][stride] */
    size_t stride;
    int8_t *hi, *lo;   /* [n][cols]; lo of exact rows only */
    float *scale;      /* [n][groups] */
    int32_t *sum;      /* [n][2*groups] sums of 16 quants */
    float *scaled_sum; /* [n][groups] scale * sum of 32, for types with a min */
    float *half_sum; /* [n][2*groups] scale * sum of 16, for types with a min per half group; NULL when none is here */
    uint16_t *bhi, *blo; /* [n][cols rounded up to 2] bf16, and what it left over; blo of exact rows only */
};

/* -offset * sum per group (halves 1) or half group (halves 2): takes the offset of unsigned weights out again. */
struct init {
    int32_t offset, halves;
    int32_t *v; /* [n][groups*halves] */
};

/* Two tiles decoded for many rows: q [groups][8 quad vectors], scale and min [groups*halves][16]; or f32 [cols][16]. */
struct panel {
    uint8_t *q;
    float *scale, *min;
    const uint8_t *tile; /* bf16 is used as it is packed */
};

#define ATTEND_QUERIES 8 /* queries that share a kv head in one call: heads of a group times rows */
#define ATTEND_KEYS \
    256 /* positions in a chunk, aligned: partial results are made per chunk and merged in order, so that a
                            row's result depends on its own keys alone */

/* Some queries against one chunk of keys of one kv head: fresh partial softmax sums. Layout of the pages: attention.c. */
struct attend {
    ct_dtype type_k, type_v;
    int32_t d, n;                   /* head size; queries, n <= ATTEND_QUERIES */
    bool exact;                     /* bf16 caches: queries and probabilities as two bf16 planes instead of one */
    const float *q[ATTEND_QUERIES]; /* [d] each, already scaled */
    const uint8_t *k[ATTEND_KEYS / CT_KV_PAGE], *v[ATTEND_KEYS / CT_KV_PAGE]; /* this kv head's part of each page */
    int32_t lo[ATTEND_QUERIES], hi[ATTEND_QUERIES]; /* keys lo <= j < hi of the chunk are seen; may be empty */
    float *m, *l, *o;      /* out [n], [n], [n][d]: largest score, sum of exp(s - m), sum of exp(s - m) v */
    float *scores;         /* scratch [n][ATTEND_KEYS] */
    uint16_t *q_hi, *q_lo; /* scratch [n][d] */
    uint16_t *p_hi, *p_lo; /* scratch [n][ATTEND_KEYS] */
};

struct kernels {
    /* One row's planes: hi, lo (NULL for one plane), scale, sums, scaled sums. cols is a multiple of 32. */
    void (*quantize)(const float *x, int32_t cols, int8_t *hi, int8_t *lo, float *scale, int32_t *sum,
                     float *scaled_sum);
    void (*split_bf16)(const float *x, int32_t cols, uint16_t *hi, uint16_t *lo);

    /* Both by tile_type.kernel. out[n][16] = rows row..row+n-1 (n <= DOT_ROWS, all exact or all not) times the tile's 16 rows. */
    void (*dot[N_KERNELS])(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,
                           const struct init *init, int32_t row, int32_t n, bool exact, float *out);
    /* NULL where an instruction set has no use for panels: then dot serves any number of rows. */
    void (*unpack[N_KERNELS])(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p);
    /* out[2][n][16] for n <= GEMM_ROWS rows and one (b NULL) or two panels. */
    void (*gemm[3])(const struct tile_type *tt, const struct panel *a, const struct panel *b, const struct acts *x,
                    const struct init *init, int32_t row, int32_t n, bool exact, float *out);

    void (*rmsnorm)(float *y, const float *x, const float *w, int32_t n, float eps);
    void (*norm_add)(float *x, const float *y, const float *w, int32_t n, float eps);
    void (*rope)(float *x, const float *cs, int32_t d);
    void (*geglu)(float *y, const float *gate, const float *up, int32_t n);

    /* Attention over one chunk of keys, see attention.c: bf16, f16 and f32 caches; those where keys or values are quantised. */
    void (*attend)(const struct attend *t);
    void (*attend_quant)(const struct attend *t);
};

/* Each fills or overrides its part of a table. */
void ct_cpu_linear_c(struct kernels *k);
void ct_cpu_rows_c(struct kernels *k);
void ct_cpu_attend_c(struct kernels *k);
void ct_cpu_linear_avx2(struct kernels *k); /* calls the next */
void ct_cpu_gemm_avx2(struct kernels *k);
void ct_cpu_rows_avx2(struct kernels *k);
void ct_cpu_attend_avx2(struct kernels *k);
void ct_cpu_linear_avx512f(struct kernels *k); /* calls the next */
void ct_cpu_gemm_avx512f(struct kernels *k);
void ct_cpu_rows_avx512f(struct kernels *k);
void ct_cpu_attend_avx512f(struct kernels *k);
void ct_cpu_linear_avx512(struct kernels *k);
void ct_cpu_attend_avx512(struct kernels *k);
void ct_cpu_linear_neon(struct kernels *k); /* calls the next */
void ct_cpu_gemm_neon(struct kernels *k);
void ct_cpu_rows_neon(struct kernels *k);
void ct_cpu_attend_neon(struct kernels *k);
void ct_cpu_gemm_i8mm(struct kernels *k);

#endif
