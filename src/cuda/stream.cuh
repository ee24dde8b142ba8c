/* The stream of the backend cuda: what is kept between the ops of a step and between steps. For stream.cu, which owns it, ops.cu,
 * whose ops leave things in it for the ones that follow, and plugin.cu, which hands both out. */
#ifndef CT_CUDA_STREAM_CUH
#define CT_CUDA_STREAM_CUH

#include "cuda/internal.cuh"
extern "C" {
#include "backend/plugin.h"
}

enum { TABLES = 4, GRAPHS = 16 };

struct table {
    const int32_t *host; /* the engine's */
    int32_t *mirror, *dev;
    size_t n;
};

struct graph {
    int n, n_index, bucket, times;
    const ct_kv *kv;
    bool exact, deterministic;
    cudaGraphExec_t exec;
};

struct packed { /* planes that hold what is at x */
    const float *x;
    size_t stride;
    int n, cols, kind;
    struct planes p;
};

struct rounded { /* rows of bf16 that hold what is at x; owed: x itself has not been written */
    ct_cu_mat x;
    ct_cu_mat16 h;
    bool owed;
};

struct pending { /* norm and rotation of k, then its store, wait for the same of q */
    bool k, store;
    ct_cu_mat km, vm, cs;
    const float *w;
    int heads, d;
    float eps;
    ct_cu_kv kv;
};

struct stream {
    cudaStream_t s;
    int rows, context, n, n_prompt, longest, bucket, error;
    int prompt_rows; /* of this step, where gemm.cu takes them */
    int32_t *mapped, *dev; /* [4][rows] token, pos, seq, index */
    struct table tables[TABLES];
    struct graph graphs[GRAPHS];
    struct graph *capturing, *replayed;
    ct_cu_run *runs;
    int n_runs, hint, turn; /* hint: kind of planes that the last product wanted; turn: which planes are free */
    uint8_t *scratch, *planes[2], *attention, *more;
    float *up;
    size_t planes_room[2], attention_bytes, more_bytes, up_stride;
    struct packed packed;
    struct rounded rounded; /* of prompt rows */
    uint16_t *half;         /* memory for it */
    struct pending pending;
    struct ct_cu_gemm *gemm;
    const char *op;
};

/* Floats (and halves) of a row of work space for cols columns. */
static inline size_t half_pitch(int cols) { return ((size_t)cols + 255) / 256 * 256; }

/* The stream of an op's context, as st. */
#define STREAM struct stream *st = (struct stream *)c->stream

/* An error of the device as a sentence. */
ct_status cu_failed(ct_error *err, int e, const char *what);
size_t cu_memory_free(void);

/* stream.cu: remembers the first error e (0: none) of a step, and by which op it was. In a debug build also waits for the op. */
void cu_note(struct stream *st, int e, const char *op);
size_t cu_scratch_bytes(const ct_limits *l);
ct_status cu_stream_create(void **stream, const ct_limits *l, ct_error *err);
void cu_stream_free(void *stream);
bool cu_begin(ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv, const int32_t *index, int32_t n_index, bool repeats);
ct_status cu_end(ct_ctx *c, ct_error *err);

/* ops.cu: the slots of the table; and what was put off until the next op is done now. */
void cu_ops_fill(ct_ops *table);
void cu_flush(struct stream *st);

#endif
