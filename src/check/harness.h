/* What the checks of operations share: cases, guarded operands, fills, weights, verdicts. Private to this room.
 *
 * A case goes: ct_check_case; operands by ct_check_in/out/inout and ct_check_weight_load; the operation on the backend and on
 * ref; ct_check_guard on every operand; ct_check_value on every output. The memory around an operand, and between its rows, is
 * its guard: bytes that read as NaN in every float type, and must be untouched afterwards. */
#ifndef CT_CHECK_HARNESS_H
#define CT_CHECK_HARNESS_H

#include <math.h>

#include "check/check.h"

#define CT_EPS32 0x1p-24 /* half a unit in the last place of f32, of bf16, relative: what rounding once can cost */
#define CT_EPSBF16 0x1p-9

typedef enum ct_fill {
    CT_FILL_NORMAL,
    CT_FILL_OUTLIERS, /* normal, one in a hundred fifty times larger: what int8 groups suffer from   */
    CT_FILL_ZERO,
    CT_FILL_ONE_HOT,   /* one element per row                                                         */
    CT_FILL_LARGE,     /* 1e5: where Gemma's residual goes, past float16                              */
    CT_FILL_TINY,      /* from 1e-30 down into the subnormals                                         */
    CT_FILL_ALTERNATE, /* +0.7, -0.7, ...: sums cancel                                                */
    CT_FILL_CONSTANT,  /* 0.37 everywhere: errors of rounding all point one way                       */
    CT_FILL_COUNT
} ct_fill;

/* The pools that results must not depend on; the last one has the caller's number of threads. */
enum { CT_CHECK_POOLS = 5 };

typedef struct ct_check {
    const ct_backend *b, *ref_b;
    const ct_ops *ops, *ref;
    ct_pool *pools[CT_CHECK_POOLS];
    ct_arena scratch, ref_scratch, lent, ref_lent; /* blocks; what a context sees of them */
    ct_buffer mem, ref_mem;                        /* operands: the backend's, the oracle's */
    void *
        stream; /* of a backend whose memory is a device's: then mem.host is a copy that is sent before an op and fetched after */
    size_t mem_used, ref_used;
    uint64_t seed, draws;
    bool quick;
    int32_t misalign; /* of the next operands: bytes off a 64-byte boundary, a multiple of 4 */
    int32_t pad;      /* of the next operands: elements between rows                         */
    char label[96];   /* of the case */
    ct_check_result line;
    ct_check_fn *on_result;
    void *arg;
    ct_status status; /* why the harness itself cannot go on */
    ct_check_result first_failed;
    bool failed;
} ct_check;

/* An operand in both worlds. */
typedef struct ct_guarded {
    ct_view dev, ref;
    size_t slab, slab_bytes; /* the operand and its guards, in mem */
    bool out;                /* cells may change */
} ct_guarded;

typedef struct ct_check_weight {
    ct_weight dev, ref;
    uint8_t *src;
    float *f32; /* [rows, cols] decoded */
} ct_check_weight;

/* One check per row of ops.def; each reports its own lines. */
typedef void ct_check_op_fn(ct_check *t);
ct_check_op_fn ct_check_embed, ct_check_rope_table, ct_check_rmsnorm, ct_check_linear, ct_check_head_norm,
    ct_check_rope, ct_check_norm_rope, ct_check_kv_store, ct_check_attention, ct_check_geglu, ct_check_linear_geglu,
    ct_check_norm_add, ct_check_norm_add_norm, ct_check_softcap, ct_check_gather, ct_check_linear_top;

void ct_check_line_begin(ct_check *t, const char *op, const char *type);
void ct_check_line_end(ct_check *t);
void ct_check_line_skip(ct_check *t, const char *op, const char *type, const char *why);

/* Starts a case: operands of the one before are forgotten, placement of the next is drawn. */
void ct_check_case(ct_check *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

ct_guarded ct_check_in(ct_check *t, int32_t rows, int32_t cols, ct_fill fill, float sigma);
ct_guarded ct_check_out(ct_check *t, int32_t rows, int32_t cols);
ct_guarded ct_check_inout(ct_check *t, int32_t rows, int32_t cols, ct_fill fill, float sigma);
/* Poisons an output again, for another run. */
void ct_check_poison(ct_check *t, const ct_guarded *g);
int32_t *ct_check_ints(ct_check *t, size_t n);
/* Memory of a case that no operation sees. */
void *ct_check_temp(ct_check *t, size_t bytes);

/* sigma 0: all-zero blocks. Vectors are f32, 1 + 2 normal. false when memory is short (status is set). */
bool ct_check_weight_load(ct_check *t, ct_check_weight *w, const ct_dtype_info *type, ct_weight_use use, int32_t rows,
                          int32_t cols, float sigma);
void ct_check_weight_free(ct_check *t, ct_check_weight *w);

/* Contexts with as much scratch as the backend asked for at these limits, and not a byte more. */
ct_ctx ct_check_ctx(ct_check *t, int32_t pool, bool exact, ct_limits l);
ct_ctx ct_check_ref_ctx(ct_check *t, ct_limits l);

/* Around every call of the backend's table, with what the op is given: a device gets its operands, and gives them back. */
void ct_check_before(ct_check *t, ct_ctx *c, const ct_rows *rows, const ct_kv *kv, const int32_t *index,
                     int32_t n_index);
void ct_check_after(ct_check *t, ct_ctx *c);
/* A buffer beside the operands, filled with a byte; ct_check_pool_fetch before its host is read. False: no memory. */
bool ct_check_pool(ct_check *t, ct_buffer *b, size_t bytes, int fill);
void ct_check_pool_fetch(ct_check *t, ct_buffer *b);
void ct_check_pool_free(ct_check *t, ct_buffer *b);

/* Nothing but an output's cells may have changed. */
void ct_check_guard(ct_check *t, const ct_guarded *g, const char *what);
/* One output: NaN or infinity is beyond any budget. */
void ct_check_value(ct_check *t, const char *what, int32_t row, int32_t col, double got, double want, double budget);
/* Any share of any budget, with words. */
void ct_check_used(ct_check *t, double used, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Cells of row `row` of a against row `other` of b, bit for bit. */
void ct_check_same(ct_check *t, ct_view a, int32_t row, ct_view b, int32_t other, const char *what);

uint64_t ct_check_draw(ct_check *t, uint64_t below);
double ct_check_normal(ct_check *t);
const char *ct_fill_name(ct_fill f);

/* Row counts that kernels trip over: below, at and above tiles of 4, 8, 16 and 32. Terminated by 0. */
const int32_t *ct_check_counts(const ct_check *t);

#endif
