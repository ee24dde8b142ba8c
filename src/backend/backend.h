/* Backends: a checked table of coarse operations, and what those operate on.
 *
 * A backend fills the table and knows nothing of a model; the model calls the table and knows nothing of a backend. ref is
 * the oracle, cpu the product, cuda a plug-in, metal reserved. Read ops.def for the operations, backend.c for the registry,
 * which refuses a table with holes. */
#ifndef CT_BACKEND_BACKEND_H
#define CT_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "quant/dtype.h"

#define CT_SCREEN_TOP 64 /* columns that linear_top is asked for at least */
#define CT_SCREEN_ROWS 4 /* rows of activations that are screened together; more are computed in full (docs/SPEED.md) */
#define CT_SCREEN_MAX 1024 /* and at most; of `also` likewise */
/* Standard deviations that a rough logit may be off. Activations are not alike in all columns, so what was measured, over 42
 * million logits of the 270M model, has a deviation of 1.06 of what the lengths say: 6 times that. */
#define CT_SCREEN_SIGMAS 6.4f
#define CT_LINEAR_MAX 4 /* matrices in one linear call */
#define CT_KV_PAGE 64   /* positions in a page of the cache: a multiple of every kernel's tile (16) */

/* Memory where the backend computes: host is its address on the CPU, or NULL when that cannot touch it; then device is its
 * address over there, and the backend's read and write copy. */
typedef struct ct_buffer {
    void *host;
    void *device;
    size_t bytes;
    void *impl; /* the backend's own */
} ct_buffer;

/* A part of a buffer, which stays its owner's. */
static inline ct_buffer ct_buffer_part(const ct_buffer *b, size_t off, size_t bytes)
{
    return (ct_buffer){.host = b->host ? (uint8_t *)b->host + off : NULL,
                       .device = b->device ? (uint8_t *)b->device + off : NULL,
                       .bytes = bytes};
}

/* A matrix inside a buffer, never a bare pointer. stride is in elements. */
typedef struct ct_view {
    const ct_buffer *buf;
    size_t off; /* bytes */
    int32_t rows, cols;
    size_t stride;
    ct_dtype type;
} ct_view;

/* Host backends only: row i of an f32 view. */
static inline float *ct_view_row(ct_view v, int32_t i)
{
    return (float *)((char *)v.buf->host + v.off) + (size_t)i * v.stride;
}

typedef enum ct_weight_use {
    CT_WEIGHT_VECTOR, /* norm weights [cols], kept as f32                                  */
    CT_WEIGHT_MATRIX, /* linear [rows (out), cols (in)]                                    */
    CT_WEIGHT_EMBED   /* the same, and rows are gathered one by one: the tied embedding    */
} ct_weight_use;

/* A weight in the backend's packed form, at the file's bits per weight. */
typedef struct ct_weight {
    const ct_dtype_info *dtype;
    ct_weight_use use;
    int32_t rows, cols;
    ct_buffer buf;
    char name[64]; /* of the tensor, for error sentences */
} ct_weight;

/* The batch: n rows, each a token with its sequence and position. The first n_prompt rows are prompt rows, the others decode
 * rows; rows of one sequence stand together, in order of position. Arrays are the host's; a backend that computes elsewhere reads
 * the copies that its begin has made. */
typedef struct ct_rows {
    int32_t n, n_prompt;
    const int32_t *token; /* [n] */
    const int32_t *pos;   /* [n] */
    const int32_t *seq;   /* [n] index into the cache's page table */
} ct_rows;

typedef struct ct_rope {
    double theta, factor; /* angle = pos * theta^(-2j/d) / factor */
    int32_t head_dim;
} ct_rope;

typedef struct ct_attn {
    int32_t heads;  /* H */
    int32_t window; /* W, 0 = all positions */
    float scale;
} ct_attn;

/* One layer's cache for all sequences: pages of CT_KV_PAGE positions, found through a table. Position p of sequence s is in
 * page table[s * table_stride + (ring ? (p / CT_KV_PAGE) % ring : p / CT_KV_PAGE)], at byte off + page * page_bytes of pool.
 * A ring has at least ceil((W-1+chunk) / CT_KV_PAGE) + 1 pages, so a chunk never overwrites a key that it needs.
 * What is inside a page (K and V of all kv heads) is the backend's own layout. */
typedef struct ct_kv {
    ct_dtype type_k, type_v; /* bf16, f16, f32, or groups of 32 of a head: q8 (CT_Q8_0), q4 (CT_Q4_1) */
    int32_t kv_heads, head_dim;
    int32_t ring; /* pages in a sequence's ring; 0 = not a ring */
    int32_t table_stride, sequences;
    const int32_t *table; /* [sequences][table_stride], the host's, as ct_rows' arrays are */
    const ct_buffer *pool;
    size_t off, page_bytes;
    bool frozen; /* what is stored stays: the forward does not call kv_store */
} ct_kv;

/* A copy of the head at four bits, for linear_top: the weight itself, and how far its rows may be off. */
typedef struct ct_rough {
    ct_weight w;   /* as the head; rows 0 = there is none */
    float *spread; /* [rows] standard deviation of each logit, for activations of length 1 */
    float *most;   /* [ceil(rows/16)] the largest of 16 spreads */
} ct_rough;

/* Which of a row's logits must be right, and how many were computed in full: linear_top. */
typedef struct ct_screen {
    int32_t top;         /* 1..CT_SCREEN_MAX: this many of the largest */
    int32_t n_also;      /* 0..CT_SCREEN_MAX */
    const int32_t *also; /* [n_also] columns, in any order */
    int32_t scored;      /* out */
} ct_screen;

/* What an op is given besides its operands. One per session or batch; one thread at a time. */
typedef struct ct_ctx {
    ct_pool *pool;
    ct_arena *scratch;  /* for the duration of one op; sized by scratch_bytes */
    bool exact;         /* prompt rows take the exact path too */
    bool deterministic; /* a row's bits do not depend on its neighbours even where that costs time: always so on cpu */
    void *stream;       /* the backend's own */
    const struct ct_ops *ops; /* the table that is being called: must be set, ops find their kernels through it */
} ct_ctx;

/* The largest operands that a context will see. */
typedef struct ct_limits {
    int32_t rows;     /* n */
    int32_t max_cols; /* largest K of a linear */
    int32_t max_out;  /* largest N of a linear, the head excluded */
    int32_t head_out; /* N of a head that linear_top screens; 0 = it is not called */
    int32_t heads, kv_heads, head_dim;
    int32_t context; /* positions */
    int32_t threads;
} ct_limits;

typedef struct ct_ops {
    const char *isa;  /* "c", "avx2", "neon", ... */
    const void *impl; /* the backend's own: its kernels for this instruction set */
#define CT_OP(name, need, args) void(*name) args;
#include "backend/ops.def"
#undef CT_OP
} ct_ops;

typedef struct ct_backend {
    const char *name;
    ct_dtype default_kv;     /* type of the cache unless asked otherwise */
    int32_t chunk;           /* prompt rows in a forward unless asked otherwise; 0 = CT_CHUNK */
    const char *const *isas; /* NULL-terminated, best first: every instruction set built in */
    /* The table for an instruction set (NULL = the best of this machine); NULL when the machine lacks it. */
    const ct_ops *(*ops)(const char *isa);
    ct_status (*buffer_alloc)(ct_buffer *b, size_t bytes, ct_error *err); /* zeroed, committed when touched */
    void (*buffer_free)(ct_buffer *b);
    /* Bytes of w's packed form, from dtype, use, rows and cols; 0 = it is used in place. Rows add up: a matrix cut at multiples
     * of 256 rows takes as much as the whole. NULL = always in place. */
    size_t (*weight_bytes)(const ct_weight *w);
    /* Packs a tensor (row-major blocks of dtype, as in the file) into *w. w->dtype, use, rows, cols, name are set by the
     * caller; w->buf is empty, or names weight_bytes of zeroed memory inside a buffer of the caller's (impl NULL), which then
     * is used and stays the caller's. src may be forgotten afterwards unless *in_place is set: then w points into src.
     * ENUMERIC for NaN or infinity in the weights. */
    ct_status (*weight_load)(ct_weight *w, const void *src, ct_pool *pool, bool *in_place, ct_error *err);
    void (*weight_free)(ct_weight *w);
    bool (*supports)(const ct_dtype_info *t, ct_weight_use use);
    size_t (*kv_page_bytes)(ct_dtype type_k, ct_dtype type_v, int32_t kv_heads, int32_t head_dim);
    size_t (*scratch_bytes)(const ct_limits *l);
    /* Operations per second of the fastest int8 dot product on this machine, measured in about 50 ms; NULL = unknown. */
    double (*int8_rate)(ct_pool *pool);
    /* Bytes per second of reading the memory that weights lie in; NULL = measure the CPU's. */
    double (*read_rate)(void);

    /* Backends whose buffers the CPU cannot touch fill all of these, the others none. Their scratch is the stream's, not the
     * context's arena. */

    /* Bytes of the device's memory that can be had now. */
    size_t (*memory_free)(void);
    /* Copies, after all that was enqueued. Whatever the device has reported since somebody asked comes out of these and of
     * `end`, as EIO with the op's name. */
    ct_status (*read)(const ct_buffer *b, size_t off, void *dst, size_t bytes, ct_error *err);
    ct_status (*write)(const ct_buffer *b, size_t off, const void *src, size_t bytes, ct_error *err);
    /* What a context's stream is: the order of its work, scratch_bytes of memory, the copies of rows. */
    ct_status (*stream_create)(void **stream, const ct_limits *l, ct_error *err);
    void (*stream_free)(void *stream);
    /* Opens a run of ops on these rows: sends the rows' arrays, index[n_index] (what gather will be given) and what the rows'
     * sequences have in the page tables of kv[n_kv] to fixed places. With `repeats` the caller promises that the ops which follow
     * are the same for every run of as many rows, prompt rows and indexes with the same kv: then the backend may record them,
     * and next time run them by itself and answer false: the caller calls no op and goes on to `end`, which waits for it all. */
    bool (*begin)(ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv, const int32_t *index, int32_t n_index,
                  bool repeats);
    ct_status (*end)(ct_ctx *c, ct_error *err);
} ct_backend;

/* begin and end, for any backend. */
static inline bool ct_run_begin(const ct_backend *b, ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv,
                                const int32_t *index, int32_t n_index, bool repeats)
{
    return b->begin ? b->begin(c, rows, kv, n_kv, index, n_index, repeats) : true;
}

static inline ct_status ct_run_end(const ct_backend *b, ct_ctx *c, ct_error *err)
{
    return b->end ? b->end(c, err) : CT_OK;
}

/* read and write, for any backend. */
ct_status ct_buffer_read(const ct_backend *b, const ct_buffer *buf, size_t off, void *dst, size_t bytes, ct_error *err);
ct_status ct_buffer_write(const ct_backend *b, const ct_buffer *buf, size_t off, const void *src, size_t bytes,
                          ct_error *err);

/* The registry. get: by name, or "auto" for the fastest that is there; NULL when it is not (find says why). at: those that are
 * there, in order of speed, slowest first. */
const ct_backend *ct_backend_get(const char *name);
const ct_backend *ct_backend_at(size_t i);
/* get, with a sentence: ENOTFOUND for a name that nobody has, EUNSUPPORTED for a backend that this machine cannot run. */
ct_status ct_backend_find(const ct_backend **out, const char *name, ct_error *err);
/* Every REQUIRED slot filled? Otherwise EINTERNAL naming the backend and the op. */
ct_status ct_ops_check(const char *backend, const ct_ops *ops, ct_error *err);
/* Names of the ops in table order, NULL past the end; whether it is required. */
const char *ct_op_name(size_t i, bool *required);

/* The leaves, one function each; the registry is the only caller. */
const ct_backend *ct_ref_backend(void);
const ct_backend *ct_cpu_backend(void);
/* A plug-in: NULL, and the reason in err, where it cannot be used (plugin.c). */
ct_status ct_cuda_backend(const ct_backend **out, ct_error *err);

#endif
