/* carat_batch: many timelines on one model, advanced together by one forward. For servers, sampling several answers, scoring.
 *
 *     carat_batch *b = NULL;
 *     carat_batch_options opt = carat_batch_options_default();
 *     opt.sequences = 2;
 *     opt.context = 512;
 *     carat_batch_create(&b, m, &opt, &err);
 *     carat_batch_item it[2] = {carat_batch_item_default(), carat_batch_item_default()};
 *     for (int i = 0; i < 2; i++) {
 *         carat_batch_add(b, &it[i].seq, &err);
 *         carat_batch_prompt(b, it[i].seq, prompt[i], SIZE_MAX, CARAT_AUTO, NULL, &err);
 *         it[i].how = &how;
 *     }
 *     while (carat_batch_step(b, it, 2, &err) == CARAT_OK && some_goes_on(it, 2))
 *         for (int i = 0; i < 2; i++)
 *             if (it[i].token >= 0)
 *                 keep(it[i].seq, it[i].token);
 *     carat_batch_free(b);
 *
 * examples/batch.c is a whole program. The conventions are carat.h's. A batch is used by one thread at a time; batches and sessions
 * of one model may be used by several, and take turns at its threads. A sequence gives the tokens and log-probabilities that a
 * carat_session with the same ids, sampling, kv and exact gives, bit for bit: whatever else is in the batch, whenever the others
 * begin and end, and for any number of threads. */
#ifndef CARAT_BATCH_H
#define CARAT_BATCH_H

#include "carat.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- batches: one thread at a time each; those of one model may be used by several, and take turns at its threads ---- */

typedef struct carat_batch carat_batch; /* many timelines; one thread at a time */

typedef struct carat_batch_options {
    uint32_t size;
    int32_t sequences; /* how many there can be at a time, 1 to 4096 */
    int32_t context;   /* positions of each; 0 = what the model was trained for, memory permitting */
    int32_t
        rows; /* most tokens that a step reads, of all sequences together and at least one of each; 0 = 512: more makes
                          prompts faster, fewer lets those who write wait less for those who read; no sequence reads more than
                          512 in a step */
    const char *kv; /* as in carat_session_options */
    bool exact;     /* prompts take the exact path too */
} carat_batch_options;

/* 8 sequences, the rest 0. */
CARAT_API carat_batch_options carat_batch_options_default(void);

/* opt NULL = defaults. You own *out (carat_batch_free); it borrows m until freed. Memory is reserved at once (carat_batch_bytes) and taken from the machine when a
 * sequence first grows into it. EINVAL for options out of range, ENOMEM with what would fit. */
CARAT_API carat_status carat_batch_create(carat_batch **out, carat_model *m, const carat_batch_options *opt,
                                          carat_error *err);
/* Gives back all that b owns, its sequences too; the model stays. */
CARAT_API void carat_batch_free(carat_batch *b);

/* ---- sequences: the thread that uses the batch ---- */

/* *seq: an empty sequence, yours until removed; -1 on failure. ECONTEXT when all are in use. */
CARAT_API carat_status carat_batch_add(carat_batch *b, int32_t *seq, carat_error *err);
/* *copy: a new sequence with all that `seq` has, read and waiting; nothing is computed. So one prompt can be answered several
 * times: feed it, step with how = NULL until nothing but its last id waits, copy, and go on with other seeds. ECONTEXT when all
 * are in use. */
CARAT_API carat_status carat_batch_copy(carat_batch *b, int32_t seq, int32_t *copy, carat_error *err);
/* Gives a sequence back: its number may be given out again. A sequence that is not in use is left alone. */
CARAT_API void carat_batch_remove(carat_batch *b, int32_t seq);

/* Tokenizes a prompt and puts it behind what is there, as carat_session_prompt does: it is read by the steps that follow. EINVAL
 * for an empty prompt or a model without text; ECONTEXT, nothing changed, when it does not fit. */
CARAT_API carat_status carat_batch_prompt(carat_batch *b, int32_t seq, const char *text, size_t n,
                                          carat_prompt_form form, const char *system, carat_error *err);
/* The same with ids[0..n), copied. EINVAL for one that is not in the vocabulary; ECONTEXT, nothing changed. */
CARAT_API carat_status carat_batch_feed(carat_batch *b, int32_t seq, const carat_token *ids, size_t n,
                                        carat_error *err);
/* Keeps the first n ids of a sequence (0: it is as new). Where the sliding layers have moved on too far, the steps that follow
 * read them again; the tokens are the same. EINVAL for more ids than there are. */
CARAT_API carat_status carat_batch_cut(carat_batch *b, int32_t seq, int32_t n, carat_error *err);

/* ---- steps: the thread that uses the batch ---- */

typedef struct carat_batch_item {
    uint32_t size;
    int32_t seq;
    const carat_sampling
        *how;            /* borrowed for the call; each item its own, or one for all. NULL: read on, choose nothing */
    carat_status status; /* out: OK; ECONTEXT (full), ENUMERIC (NaN), EINVAL (how, or an empty sequence) */
    carat_token token;   /* out: what was chosen; -1: nothing, because ids still wait, or because of status */
    double logprob;      /* out: its natural log-probability under the unmodified logits */
    bool end;            /* out: it is an end token (carat_is_end); the sequence would go on if asked to */
    carat_error *err;    /* nullable: the sentence, where status is not OK */
} carat_batch_item;

/* seq -1, everything else empty. */
CARAT_API carat_batch_item carat_batch_item_default(void);

/* One forward for the sequences named in items[0..n), in any mixture of reading and writing. One that has a single id to read (its
 * last token, mostly) always reads it; the rows left go to those with more, in the order of the items. Whoever has read its last
 * id gets a token, which is read in its next step: the last token of a text costs no forward. An item that fails says so in its
 * status, stays as it was, and takes no other down; the return value is OK then too. EINVAL, and nothing done, for sequences that
 * are not in use or named twice. Takes no memory. */
CARAT_API carat_status carat_batch_step(carat_batch *b, carat_batch_item *items, size_t n, carat_error *err);

/* The text that a sequence's token completes into the caller's text[cap], whole characters only; nothing if cap < the model's text_max. Call once per token,
 * in order. token -1 flushes. */
CARAT_API size_t carat_batch_text(carat_batch *b, int32_t seq, carat_token token, char *text, size_t cap);

/* Ids of a sequence, those that wait included; 0 if it is not in use. */
CARAT_API int32_t carat_batch_length(const carat_batch *b, int32_t seq);
/* Those that wait to be read: 0 for an empty sequence, else at least 1. */
CARAT_API int32_t carat_batch_waiting(const carat_batch *b, int32_t seq);
/* Its ids into the caller's ids[cap]; returns how many there are. */
CARAT_API size_t carat_batch_ids(const carat_batch *b, int32_t seq, carat_token *ids, size_t cap);
/* The most ids that a sequence can hold. */
CARAT_API int32_t carat_batch_context(const carat_batch *b);
/* Bytes of memory that it needs: cache, histories, activations. */
CARAT_API size_t carat_batch_bytes(const carat_batch *b);

#ifdef __cplusplus
}
#endif
#endif
