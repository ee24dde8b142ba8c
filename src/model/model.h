/* Gemma 3: weights on a backend, and the forward pass, written once over the table of operations.
 *
 * A model is immutable after loading and may be shared by threads. The forward takes rows of any number of sequences
 * (backend.h: ct_rows) and the caches of all layers; it does not know where rows come from or how a token is chosen. */
#ifndef CT_MODEL_MODEL_H
#define CT_MODEL_MODEL_H

#include "backend/backend.h"
#include "formats/tensors.h"
#include "model/config.h"

typedef struct ct_layer {
    ct_weight attn_norm, q, k, v, q_norm, k_norm, o,
        post_attn_norm;                                /* [D] [H*d,D] [K*d,D] [K*d,D] [d] [d] [D,H*d] [D] */
    ct_weight ffn_norm, gate, up, down, post_ffn_norm; /* [D] [F,D] [F,D] [D,F] [D] */
} ct_layer;

typedef struct ct_gemma {
    ct_config cfg;
    const ct_backend *backend;
    const ct_ops *ops;
    ct_weight embed;     /* [embed_rows, D], also the head unless head.rows > 0 */
    ct_weight head;      /* rare: an untied output matrix */
    ct_weight norm;      /* [D] */
    ct_rough rough;      /* of the head, where a screened one was asked for */
    ct_layer *layers;    /* [L] */
    ct_buffer block;     /* all packed weights, one after the other */
    size_t weight_bytes; /* packed, all of them */
    size_t decode_bytes; /* weight bytes that one decoded token reads (the embedding once, as the head) */
    uint64_t parameters; /* elements of all tensors that are used */
} ct_gemma;

/* How far a load is: done and total in bytes of the file's tensors. NULL fn: nobody wants to know. */
typedef struct ct_tell {
    void (*fn)(void *arg, const char *what, double done, double total);
    void *arg;
} ct_tell;

/* Loads all weights onto a backend (isa NULL = best). Tensors are packed one by one and their file pages given back; the
 * directory must outlive the model only if *needs_tensors is set. ENOTFOUND for a missing tensor, EFORMAT for a wrong shape,
 * EUNSUPPORTED for a weight type the backend lacks, ENUMERIC for NaN or infinity in a norm weight or a block scale. */
ct_status ct_gemma_load(ct_gemma *m, ct_tensors *t, const ct_backend *b, const char *isa, ct_pool *pool,
                        bool *needs_tensors, ct_error *err);
/* The same, telling after every tensor, on the calling thread. */
ct_status ct_gemma_load_told(ct_gemma *m, ct_tensors *t, const ct_backend *b, const char *isa, ct_pool *pool,
                             const ct_tell *tell, bool *needs_tensors, ct_error *err);
void ct_gemma_free(ct_gemma *m);
/* Makes m->rough of the tensor that gave the head; t is still open. Where it would be of no use it says so in the
 * configuration's warnings. ENOMEM; bytes: about what it takes, while it is made. */
ct_status ct_rough_make(ct_gemma *m, ct_tensors *t, ct_pool *pool, const ct_tell *tell, ct_error *err);
void ct_rough_free(ct_gemma *m);
size_t ct_rough_bytes(const ct_config *c);
/* Bytes of memory that loading t onto b takes, from the directory alone: packed weights, and the largest tensor where they are
 * made in memory. 0 for a backend that reads them in place; SIZE_MAX if that overflows. */
size_t ct_gemma_bytes(const ct_tensors *t, const ct_backend *b);

/* Memory of one step's activations for up to max_rows rows, of which max_out at a time give logits. The views point into
 * the struct itself: it must not be moved. */
typedef struct ct_step {
    ct_buffer buf;    /* activations; views into it */
    ct_arena scratch; /* the ops' */
    void *stream;     /* the same on a device, see backend.h */
    int32_t max_rows, max_out;
    ct_view x, h, q, k, v, att, gate, up, branch; /* [max_rows, D D H*d K*d K*d H*d F F D] */
    ct_view cs_global, cs_local;                  /* [max_rows, d] */
    ct_view sel;                                  /* [max_rows, D] the residual of the selected rows only */
    ct_view top;    /* after a forward: the last residual of the rows of `out`, in x or in sel */
    ct_view logits; /* [max_out, embed_rows]: read the first vocab columns only */
} ct_step;

/* bytes is exactly what create takes; it reads only cfg, backend, ops and the rough copy's rows of m, so it answers before any weight is loaded. */
ct_status ct_step_create(ct_step *s, const ct_gemma *m, int32_t max_rows, int32_t max_out, int32_t context,
                         int32_t threads, ct_error *err);
void ct_step_free(ct_step *s, const ct_gemma *m);
size_t ct_step_bytes(const ct_gemma *m, int32_t max_rows, int32_t max_out, int32_t context, int32_t threads);

/* One forward. kv: [L] caches. out: indices of the n_out rows (ascending) whose logits are wanted: s->logits[n_out, vocab],
 * in f32 (columns behind vocab are spare rows, never to be chosen), soft-capped if the model says so. n_out may be 0, and at most s->max_out. The head always
 * takes the exact path. Rows that nobody asked for skip what only they would need of the last layer.
 * watch, if not NULL, is called with the residual of all rows after the embedding (layer -1) and after each layer: checks and
 * the search for the layer where a NaN was born use it; a non-zero return ends the forward early. */
typedef int ct_watch_fn(void *arg, int32_t layer, ct_view x);
void ct_forward(const ct_gemma *m, ct_ctx *c, ct_step *s, const ct_rows *rows, const ct_kv *kv, const int32_t *out,
                int32_t n_out, ct_watch_fn *watch, void *watch_arg);

/* The same in two halves, for more wanted rows than logits fit: the layers (n_out up to max_rows), leaving s->top[n_out, D];
 * then the head on rows first .. first + n of it (n <= max_out), as often as needed: in full (how NULL), or screened for how[n]
 * (linear_top) if the model has a rough copy. layers returns false if watch ended it. */
bool ct_forward_layers(const ct_gemma *m, ct_ctx *c, ct_step *s, const ct_rows *rows, const ct_kv *kv,
                       const int32_t *out, int32_t n_out, ct_watch_fn *watch, void *watch_arg);
void ct_forward_head(const ct_gemma *m, ct_ctx *c, ct_step *s, int32_t first, int32_t n, ct_screen *const *how);

/* The matrix that gives logits: the head, or the embedding. */
static inline const ct_weight *ct_head_of(const ct_gemma *m) { return m->head.rows > 0 ? &m->head : &m->embed; }

#endif
