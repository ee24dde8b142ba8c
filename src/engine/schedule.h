/* A schedule: several timelines on one model, each with its own history and its own draws, advanced together.
 *
 * A timeline holds ids, of which the first have been read (are in the cache) and the others wait; each has the role (prompt or
 * decode) that its row takes. A step shares its rows out: a timeline that waits with its last id alone gets its row first, the
 * rows left go to those that have more to read, in the order given. Whoever reads its last id in a step has its next token chosen,
 * which then waits in its turn. So the last id always waits: a timeline may be copied, cut or asked in another way before it
 * goes on. The tokens are those of a session (session.h) with the same ids and options, bit for bit. One thread at a time; a step
 * allocates nothing. It does not know text, nor who asks. */
#ifndef CT_ENGINE_SCHEDULE_H
#define CT_ENGINE_SCHEDULE_H

#include "engine/kvcache.h"
#include "engine/sampler.h"

typedef struct ct_schedule ct_schedule;

typedef struct ct_schedule_options {
    int32_t sequences;      /* timelines */
    int32_t context;        /* positions of each; 0 = what the model was trained for, memory permitting */
    int32_t rows;           /* most rows in a step, at least `sequences`; 0 = the larger of CT_CHUNK and sequences */
    bool exact;             /* prompt rows take the exact path too */
    int32_t type_k, type_v; /* ct_dtype of the cache; -1 = the backend's default */
} ct_schedule_options;

/* Borrows model and pool for its life. EINVAL for options out of range; ENOMEM says what would fit. */
ct_status ct_schedule_create(ct_schedule **out, const ct_gemma *m, ct_pool *pool, const ct_schedule_options *opt,
                             ct_error *err);
void ct_schedule_free(ct_schedule *s);

/* Takes a free timeline, empty. ECONTEXT when all are in use. */
ct_status ct_schedule_add(ct_schedule *s, int32_t *seq, ct_error *err);
/* Takes a free timeline and makes it equal to `from`, what has been read included. ECONTEXT likewise. */
ct_status ct_schedule_copy(ct_schedule *s, int32_t from, int32_t *seq, ct_error *err);
void ct_schedule_remove(ct_schedule *s, int32_t seq);
bool ct_schedule_has(const ct_schedule *s, int32_t seq);

/* Appends ids that wait for their prompt rows (in the vocabulary: the caller looks). ECONTEXT, nothing changed, where they do
 * not fit. */
ct_status ct_schedule_feed(ct_schedule *s, int32_t seq, const int32_t *ids, size_t n, ct_error *err);
/* Keeps the first n ids. Where the sliding layers have moved on, all of them wait again, in the roles that they had. */
void ct_schedule_cut(ct_schedule *s, int32_t seq, int32_t n);

typedef struct ct_schedule_item {
    int32_t seq;            /* each at most once in a step */
    const ct_sampling *how; /* NULL: reads on, all but the last id, and chooses nothing */
    ct_status
        status; /* out: OK; EINVAL (options, or nothing to continue), ECONTEXT, ENUMERIC; a failed one stays as it was */
    int32_t token;  /* out: what was chosen, or -1 */
    double logprob; /* out: of the token, under the unmodified logits */
    ct_error *err;  /* nullable; filled where status is not OK */
} ct_schedule_item;

/* One forward. EINVAL before anything is changed for sequences that are not in use or named twice; what concerns one item is
 * said there, and the others go on. */
ct_status ct_schedule_step(ct_schedule *s, ct_schedule_item *items, int32_t n, ct_error *err);

int32_t ct_schedule_sequences(const ct_schedule *s);
int32_t ct_schedule_context(const ct_schedule *s);
int32_t ct_schedule_length(const ct_schedule *s, int32_t seq); /* ids, those that wait included */
int32_t ct_schedule_read(const ct_schedule *s, int32_t seq);   /* those in the cache */
const int32_t *ct_schedule_ids(const ct_schedule *s, int32_t seq);
size_t ct_schedule_bytes(const ct_schedule *s);
/* The cache, for those who look at its bytes. */
ct_kvcache *ct_schedule_cache(ct_schedule *s);

#endif
