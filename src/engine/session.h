/* A session: one timeline on a model. Feeds prompts in chunks, decodes token by token, keeps the history.
 *
 * One thread at a time; any number of sessions may share a model (each needs a pool of its own unless calls are serialised).
 * Decoding allocates nothing. Text, stop strings and printing are the callers'. */
#ifndef CT_ENGINE_SESSION_H
#define CT_ENGINE_SESSION_H

#include "engine/kvcache.h"
#include "engine/sampler.h"

#define CT_CHUNK \
    512 /* prompt rows per forward: enough to pay for unpacking weights, little enough for L2-sized activations */

typedef struct ct_session_options {
    int32_t context; /* 0 = what the model was trained for, memory permitting */
    int32_t chunk;   /* 0 = the backend's, or CT_CHUNK */
    int32_t max_out; /* rows of a chunk that can give logits at once; 0 = 1 */
    bool exact;
    int32_t type_k, type_v; /* ct_dtype, -1 = the backend's default */
    int32_t snapshots; /* of the rings, for ct_session_keep; 0 = none, -1 = ct_snapshots_plan's, memory permitting */
    bool screen_all;   /* feed gives on_logits screened ones: to measure what that costs in accuracy; wants max_out 1 */
} ct_session_options;

typedef struct ct_session ct_session;

/* The context that `wanted` (0 = what the model was trained for, memory permitting) comes to, where need(arg, context) bytes are
 * to be reserved for it. ENOMEM says how much was needed and what would fit; EINVAL beyond what the model was trained for. */
typedef size_t ct_need_fn(const void *arg, int32_t context);
ct_status ct_context_choose(int32_t *context, const ct_gemma *m, int32_t wanted, ct_need_fn *need, const void *arg,
                            ct_error *err);

/* Borrows model and pool for its life. ENOMEM says how much was needed and what would fit; EINVAL for a context beyond what
 * the model was trained for. */
ct_status ct_session_create(ct_session **out, const ct_gemma *m, ct_pool *pool, const ct_session_options *opt,
                            ct_error *err);
void ct_session_free(ct_session *s);
/* Bytes that a session of this context (> 0) reserves: cache of local and of global layers, everything else; parts may be
 * NULL. Reads only cfg, backend and ops of m, so it can be asked before weights are loaded. */
size_t ct_session_need(const ct_gemma *m, const ct_session_options *opt, int32_t context, int32_t threads,
                       size_t *local, size_t *global, size_t *rest);

/* Feeds n tokens as prompt rows (or, decode = true, one by one as decode rows: slow, for measuring accuracy), after what is
 * there. ECONTEXT, before anything is changed, when they do not fit. on_logits, if not NULL, gets the logits of every fed token
 * in order (position, logits[vocab] valid during the call); a non-OK return ends the feed, what its chunk stored stays. Feed
 * in parts where only some are wanted, and give options.max_out (64) so that the head runs on many rows at once. Afterwards
 * ct_session_logits holds those of the last token. EINVAL for n == 0 or ids out of the vocabulary.
 * stop, if not NULL, is polled between chunks: non-zero gives EINTERRUPTED with what was fed so far kept (without logits). */
typedef ct_status ct_logits_fn(void *arg, int32_t pos, const float *logits);
ct_status ct_session_feed(ct_session *s, const int32_t *ids, size_t n, bool decode, ct_logits_fn *on_logits, void *arg,
                          const volatile int *stop, ct_error *err);
/* Chooses the next token from the last logits, without feeding it: draw number = length, so the same seed and history give
 * the same token, however the history came about. ENUMERIC names the layer where the first NaN or infinity
 * appears (found by running the last row again under watch). */
ct_status ct_session_sample(ct_session *s, const ct_sampling *how, int32_t *token, double *logprob, ct_error *err);
/* The next tokens will be chosen like this (copied; its biases are borrowed until the next call; NULL: nobody knows): on a model
 * with a rough copy, decode then screens the head. Whatever sample is called with, it chooses as from the full head, and reads
 * that if need be. */
void ct_session_expect(ct_session *s, const ct_sampling *how);
/* Heads that decode has read (with screen_all: feed), and logits that they computed in full, in all. */
void ct_session_heads(const ct_session *s, int64_t *heads, int64_t *scored);
/* Feeds one token as a decode row and makes its logits. ECONTEXT when the context is full. */
ct_status ct_session_decode(ct_session *s, int32_t token, ct_error *err);

/* [vocab], all of them; NULL before the first feed, after one that was ended, and where the device would not. */
const float *ct_session_logits(ct_session *s);
int32_t ct_session_length(const ct_session *s);
int32_t ct_session_context(const ct_session *s);
static inline int32_t ct_chunk_of(const ct_gemma *m) { return m->backend->chunk > 0 ? m->backend->chunk : CT_CHUNK; }
int32_t ct_session_chunk(const ct_session *s);      /* prompt rows in a step */
const int32_t *ct_session_ids(const ct_session *s); /* the history, ct_session_length of them */
/* Keeps the longest common beginning of the history and ids[0..n), forgets the rest; returns its length, which is below n, so
 * that feeding ids from there on gives logits. The session then is, bit for bit, one that was fed exactly that beginning with
 * the roles its rows had. Where the rings no longer have what lies before the cut, they are made again by the next feed or
 * decode: from the latest snapshot, or by running sliding layers * (W-1) earlier positions again (a ring's keys depend on so
 * many tokens), whichever is less. */
int32_t ct_session_keep(ct_session *s, const int32_t *ids, size_t n);
/* How many positions the next feed will run again first; and runs a chunk of them, for those who want to be asked in between. */
int32_t ct_session_behind(const ct_session *s);
ct_status ct_session_catch_up(ct_session *s, ct_error *err);
/* Takes a snapshot of the rings here: later histories are likely to part from this one at this point. */
void ct_session_mark(ct_session *s);

/* The whole session to a file and back (docs/FORMATS.md): ids, roles, the pages in use; to go on is to go on as if nothing had
 * been. note[CT_SESSION_NOTE] is the caller's own. The file is written under another name, then renamed. load wants the same
 * model, backend, cache types and path (exact or not), else EUNSUPPORTED; EFORMAT for any damage; ECONTEXT where it does not
 * fit. Whatever fails, the session is as it was. */
#define CT_SESSION_NOTE 32
ct_status ct_session_save(ct_session *s, const char *path, const uint8_t *note, ct_error *err);
ct_status ct_session_load(ct_session *s, const char *path, uint8_t *note, ct_error *err);
/* Forgets everything, keeps the memory. */
void ct_session_reset(ct_session *s);
size_t ct_session_bytes(const ct_session *s); /* reserved: cache, activations, scratch */

#endif
