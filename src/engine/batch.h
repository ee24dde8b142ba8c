/* A batch: several sequences on a model, advanced together by one forward over rows of any of them.
 *
 * Example: one step that reads a prompt into sequence 0 and decodes a token of sequence 1.
 *
 *     ct_batch_row rows[] = {{.seq = 0, .token = 2}, {.seq = 0, .token = 818, .want = true},
 *                            {.seq = 1, .token = 9, .decode = true, .want = true}};
 *     st = ct_batch_step(b, rows, 3, NULL, NULL, err);
 *     const float *of_seq_1 = ct_batch_logits(b, 1);
 *
 * The arithmetic of a row depends on its role (prompt or decode) alone: what else is in the batch changes nothing. It does not
 * know who asks, nor how tokens are chosen. One thread at a time; steps allocate nothing. */
#ifndef CT_ENGINE_BATCH_H
#define CT_ENGINE_BATCH_H

#include "engine/kvcache.h"

typedef struct ct_batch ct_batch;

typedef struct ct_batch_options {
    int32_t sequences;      /* timelines in the cache */
    int32_t context;        /* positions of each */
    int32_t chunk;          /* most rows of one sequence in a step */
    int32_t max_rows;       /* most rows of all sequences in a step; 0 = the larger of chunk and sequences */
    int32_t max_out;        /* rows of logits kept; 0 = sequences */
    bool exact;             /* prompt rows take the exact path too */
    int32_t type_k, type_v; /* ct_dtype of the cache; -1 = the backend's default */
} ct_batch_options;

typedef struct ct_batch_row {
    int32_t seq, token;
    bool decode; /* role: a prompt row, or a decode row */
    bool want;   /* its logits */
    ct_screen
        *screen; /* NULL: all of them; else those that it asks for, the rest roughly (ops.def, linear_top), if the model
                        * can: scored says. Rows whose heads are read together are screened if all of them may be */
} ct_batch_row;

/* Borrows model and pool for its life. EINVAL for options out of range, ENOMEM. */
ct_status ct_batch_create(ct_batch **out, const ct_gemma *m, ct_pool *pool, const ct_batch_options *opt, ct_error *err);
void ct_batch_free(ct_batch *b);
/* Bytes that create reserves; cache and step parts may be NULL. Reads only cfg, backend and ops of m. SIZE_MAX: too many. */
size_t ct_batch_need(const ct_gemma *m, const ct_batch_options *opt, int32_t threads, size_t *local, size_t *global,
                     size_t *step);

/* Advances sequences by the n rows: prompt rows first, then decode rows; rows of one sequence together, all of one role; each
 * takes the next position of its sequence. Without on_logits at most max_out rows may want logits, which stay valid until the
 * next step; with it, any number may: it is called for each wanted row in order, and a non-OK return ends the calls and is
 * returned. EINVAL (rows out of order, ids out of the vocabulary) and ECONTEXT before anything is changed. */
typedef ct_status ct_row_logits_fn(void *arg, int32_t row, const float *logits);
ct_status ct_batch_step(ct_batch *b, const ct_batch_row *rows, int32_t n, ct_row_logits_fn *on_logits, void *arg,
                        ct_error *err);
/* Logits [vocab] of the i-th wanted row of the last step (with on_logits: of the last ones only, so use i = -1 for the last
 * wanted row of all). NULL if there is none. */
const float *ct_batch_logits(ct_batch *b, int32_t i);

/* For logits that are no numbers: runs the last position of a sequence again, looks at the residual behind every layer, and
 * returns ENUMERIC with the first layer that is to blame. Stored keys stay as they are; logits are gone. */
ct_status ct_batch_explain(ct_batch *b, int32_t seq, int32_t token, bool decode, ct_error *err);

/* The logits that ct_batch_logits has, all of them, if they were screened. Only right behind the step. */
ct_status ct_batch_unscreen(ct_batch *b, ct_error *err);

/* Makes a sequence's rings again: runs n positions that are stored in the global layers, at, at + 1, ..., with the ids and
 * the role that they had (n <= chunk); only the rings are written. For ct_kvcache_rewind; the caller says what comes out of it. */
ct_status ct_batch_replay(ct_batch *b, int32_t seq, int32_t at, const int32_t *ids, int32_t n, bool decode,
                          ct_error *err);
/* Logits of the last position of a sequence, computed again: ct_batch_logits(b, 0). */
ct_status ct_batch_again(ct_batch *b, int32_t seq, int32_t token, bool decode, ct_error *err);
/* The cache, for those who move its bytes: snapshots, files. */
ct_kvcache *ct_batch_cache(ct_batch *b);

int32_t ct_batch_length(const ct_batch *b, int32_t seq);
int32_t ct_batch_context(const ct_batch *b);
/* Keeps the first n positions of a sequence, or none where the cache no longer has what they need; returns how many. */
int32_t ct_batch_cut(ct_batch *b, int32_t seq, int32_t n);
size_t ct_batch_bytes(const ct_batch *b);

#endif
