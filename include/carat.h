/* carat: Gemma 3, in process.
 *
 *     carat_model *m = NULL;
 *     carat_session *s = NULL;
 *     carat_error err;
 *     if (carat_model_open(&m, "gemma-3-270m-q4_k_m.gguf", NULL, &err) || carat_session_create(&s, m, NULL, &err))
 *         return complain(err.text);
 *     carat_sampling how = carat_sampling_default(m);
 *     carat_session_prompt(s, "The capital of France is", SIZE_MAX, CARAT_RAW, NULL, &err);
 *     while (carat_session_next(s, &how, &token, &err) == CARAT_OK && !carat_is_end(m, token))
 *         fwrite(text, 1, carat_session_text(s, token, text, sizeof text), stdout);
 *     carat_session_free(s);
 *     carat_model_close(m);
 *
 * Every function that can fail returns a carat_status and fills a nullable carat_error, last argument, with one sentence.
 * Each names below the errors that tell a caller something; EINVAL for a NULL or a struct of another size, ENOMEM and EINTERNAL
 * may come from any of them. Out-pointers come first and are NULL on failure; `T **out` means you own it now; free and close
 * accept NULL, and so does what only asks. Options structs are filled by their _default() function and start with their size.
 * What is passed in is borrowed for the call, unless it says otherwise. Headings of sections say which threads may call what.
 * The library never exits, aborts, prints or reads the environment; it installs no signal handlers. Many sequences at once are in
 * carat_batch.h, jobs (bench, eval, inspect, check) in carat_jobs.h. */
#ifndef CARAT_H
#define CARAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(CARAT_STATIC)
#define CARAT_API
#else
#define CARAT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CARAT_VERSION "0.1.0"

typedef int32_t carat_token;

typedef enum carat_status {
    CARAT_OK = 0,
    CARAT_EINVAL = -1,       /* arguments make no sense                               */
    CARAT_ENOMEM = -2,       /* memory could not be had                               */
    CARAT_EIO = -3,          /* the operating system refused                          */
    CARAT_EFORMAT = -4,      /* a file is damaged or lies about itself                */
    CARAT_EUNSUPPORTED = -5, /* a file or option is sound, but carat does not do it   */
    CARAT_ENUMERIC = -6,     /* NaN or infinity in weights or logits                  */
    CARAT_ECONTEXT = -7,     /* the context is full; the session stays usable         */
    CARAT_EINTERRUPTED = -8, /* the caller asked to stop; the session stays usable    */
    CARAT_ENOTFOUND = -9,    /* a named thing is not there                            */
    CARAT_EINTERNAL = -10    /* a fault of carat's own                                */
} carat_status;

typedef struct carat_error {
    int32_t code;
    char where[64];
    char text[240]; /* one sentence: what was expected, what was found, where, what to try */
} carat_error;

typedef struct carat_model carat_model;     /* immutable after open; share freely between threads */
typedef struct carat_session carat_session; /* one timeline; one thread at a time                 */

/* "0.1.0" of the library that runs, where CARAT_VERSION is what the caller was compiled with. Static text; any thread. */
CARAT_API const char *carat_version(void);

/* ---- models: any threads; one model may be used by several at once, closed by one when nobody uses it ---- */

typedef struct carat_model_options {
    uint32_t size;
    const char *backend; /* "auto", "cpu", "cuda", "ref" */
    const char *isa;     /* NULL = best of this machine; "c", "avx2", ...: for checks and measurements */
    int32_t threads;     /* 0 = physical cores this process may use */
    bool vocab_only;     /* no weights: for tokenize, detokenize, inspect */
    int32_t context;     /* of a session to come: open refuses where its memory would be missing; 0 = any */
    const char *kv;      /* its cache, as in carat_session_options: asked for with context, and else of no account */
    void (*progress)(void *arg, const char *what, double done,
                     double total); /* told of the load, by the calling thread */
    void *arg;                      /* progress's own */
    bool screened_head;             /* see carat_session_heads; costs 4.5 bits more for each weight of the head */
} carat_model_options;

/* backend "auto", the rest 0. Its strings are static. */
CARAT_API carat_model_options carat_model_options_default(void);

/* path: a GGUF file, a folder of safetensors with its config.json (also a model's folder in Hugging Face's cache), one .safetensors
 * file in such a folder, or "synthetic:SIZE[:TYPE]". opt NULL = defaults. You own *out: carat_model_close. The file is mapped while it
 * is read; weights are packed and the mapping dropped, so a file that changes afterwards does not matter. One that shrinks before
 * raises SIGBUS, for which the library installs no handler. ENOTFOUND: no such file or backend, or a key or tensor that Gemma 3
 * needs is missing; EIO: it cannot be read, or was written to meanwhile; EFORMAT: it is damaged; EUNSUPPORTED: it is another
 * model, or needs what this machine lacks; ENUMERIC: a weight is NaN; ENOMEM: weights and a session do not fit the memory
 * available (cgroup and ulimit respected; said before anything is loaded), or memory could not be had. */
CARAT_API carat_status carat_model_open(carat_model **out, const char *path, const carat_model_options *opt,
                                        carat_error *err);
/* Gives back all that m owns. Its sessions are freed before. */
CARAT_API void carat_model_close(carat_model *m);

typedef struct carat_model_info {
    const char *path, *format, *size; /* format "GGUF v3", "safetensors, 2 shards, bf16"; size "270m", "1b" ... or "" */
    const char *backend, *isa;
    int32_t threads;
    int32_t layers, dim, heads, kv_heads, head_dim, ffn, vocab, window, context;
    size_t file_bytes, weight_bytes; /* on disk; packed in memory */
    size_t decode_bytes;             /* weight bytes read for one token */
    uint64_t parameters;
    bool has_text, has_turns; /* a tokenizer; a chat template (instruction-tuned) */
    size_t text_max;          /* the most bytes that carat_session_text writes at once */
    int32_t n_warnings;
    const char *const *warnings; /* what was filled in, ignored or repaired */
} carat_model_info;

/* Fills *info (zeros for a NULL model). Strings are borrowed from m: valid until it is closed. */
CARAT_API void carat_model_get_info(const carat_model *m, carat_model_info *info);

/* ---- text: any threads, also on one model ---- */

/* Ids of text[0..n) (n = SIZE_MAX: up to its NUL) into the caller's ids[cap]; *count is how many there are in all, also where
 * fewer fit. special: control pieces in the text become their ids, else they are text. EINVAL for a model without tokenizer. */
CARAT_API carat_status carat_tokenize(const carat_model *m, const char *text, size_t n, bool bos, bool special,
                                      carat_token *ids, size_t cap, size_t *count, carat_error *err);
/* Text of ids into the caller's text[cap], not NUL-terminated; *count is how many bytes there are in all. EINVAL for a model
 * without tokenizer, or an id that is not in the vocabulary. */
CARAT_API carat_status carat_detokenize(const carat_model *m, const carat_token *ids, size_t n, bool special,
                                        char *text, size_t cap, size_t *count, carat_error *err);
/* Whether id ends an answer; false for a model without tokenizer. */
CARAT_API bool carat_is_end(const carat_model *m, carat_token id);
/* The id that opens every text; -1 for a model without tokenizer. */
CARAT_API carat_token carat_bos(const carat_model *m);

/* ---- sessions: one thread at a time each; sessions of one model may be used by several, and take turns at its threads ---- */

typedef struct carat_session_options {
    uint32_t size;
    int32_t context;               /* 0 = what the model was trained for, memory permitting */
    const char *kv;                /* NULL = the backend's default; bf16, f16, f32, q8, q4; or "q8,q4": keys, values */
    bool exact;                    /* prompts take the exact path too */
    bool (*keep_going)(void *arg); /* polled between chunks and tokens; false ends with EINTERRUPTED */
    void (*progress)(void *arg, const char *what, double done, double total); /* told of a prompt, every 512 tokens */
    void *arg;                                                                /* of both */
    int32_t snapshots; /* copies of the sliding layers for sync; -1 = up to half the cache's memory, if it is there */
} carat_session_options;

/* snapshots -1, the rest 0. */
CARAT_API carat_session_options carat_session_options_default(void);
/* opt NULL = defaults. You own *out (carat_session_free); it borrows m, and opt's arg, until freed. Memory for the whole context
 * is reserved here, none is taken later. EINVAL: options out of range, a model opened with vocab_only; EUNSUPPORTED: a type of
 * cache that the backend has not; ENOMEM, with what would fit. */
CARAT_API carat_status carat_session_create(carat_session **out, carat_model *m, const carat_session_options *opt,
                                            carat_error *err);
/* Gives back all that s owns; the model stays. */
CARAT_API void carat_session_free(carat_session *s);

typedef enum carat_prompt_form {
    CARAT_AUTO, /* turns where the model is instruction-tuned, else raw */
    CARAT_RAW,  /* <bos> and the text as it is */
    CARAT_TURNS /* Gemma's turns */
} carat_prompt_form;

/* Tokenizes and feeds a prompt after what is there. n = SIZE_MAX: up to its NUL. system may be NULL. EINVAL for an empty
 * prompt or a model without text; ECONTEXT, nothing changed, when it does not fit (both lengths in the sentence); EINTERRUPTED:
 * the session keeps what was fed so far. */
CARAT_API carat_status carat_session_prompt(carat_session *s, const char *text, size_t n, carat_prompt_form form,
                                            const char *system, carat_error *err);
/* Feeds ids after what is there. EINVAL for one that is not in the vocabulary; ECONTEXT and EINTERRUPTED as above. */
CARAT_API carat_status carat_session_feed(carat_session *s, const carat_token *ids, size_t n, carat_error *err);
/* Makes the session hold exactly these ids. What it has in common with them is kept as it is, token by token as it was fed; only
 * what differs is fed anew. Where the sliding layers have moved on, they are made again from a snapshot or, at worst, from
 * (sliding layers) x (window - 1) tokens before. Errors as of carat_session_feed. */
CARAT_API carat_status carat_session_sync(carat_session *s, const carat_token *ids, size_t n, carat_error *err);

typedef struct carat_logit_bias {
    carat_token id;
    float bias;
} carat_logit_bias;

typedef struct carat_sampling {
    uint32_t size;
    double temperature; /* 0 = greedy */
    int32_t top_k;      /* 0 = off */
    double top_p, min_p;
    double repeat_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
    const carat_logit_bias *bias; /* borrowed for the call */
    size_t n_bias;
} carat_sampling;

/* Gemma's own: temperature 1, top-k 64, top-p 0.95 (or what the model's file says; m may be NULL). seed 0. Any thread. */
CARAT_API carat_sampling carat_sampling_default(const carat_model *m);

/* Chooses the next token and feeds it lazily: the forward of a token runs when the one after it is asked for, so the last
 * token of a text costs none. EINVAL: options out of range, or no prompt yet; ECONTEXT: the context is full; ENUMERIC: names the
 * layer of the first NaN; EINTERRUPTED: nothing was chosen, and it may be asked again. */
CARAT_API carat_status carat_session_next(carat_session *s, const carat_sampling *how, carat_token *token,
                                          carat_error *err);
/* Heads that next has read, and logits that they computed in full, in all. On a model opened with screened_head a copy of the
 * last matrix at four bits is read for all logits, and the matrix itself for those that may be among the likeliest and those
 * that penalties and biases touch: next gives the same tokens. Options that hang on more logits (top_k 0 or above 1024,
 * penalties on as many tokens) get all of them. */
CARAT_API void carat_session_heads(const carat_session *s, int64_t *heads, int64_t *scored);
/* log-probability (natural) of the token last given by next, under the unmodified logits; 0 before. */
CARAT_API double carat_session_logprob(const carat_session *s);
/* The text that token completes into the caller's text[cap], whole characters only, and its length; nothing if cap < the model's
 * text_max. Call once per token, in order. token -1 flushes. */
CARAT_API size_t carat_session_text(carat_session *s, carat_token token, char *text, size_t cap);
/* Logits after the last token, [vocab] (runs its forward if it has not run). Borrowed until the next call on s. EINVAL before the
 * first prompt; ECONTEXT where the last token itself has no room. */
CARAT_API carat_status carat_session_logits(carat_session *s, const float **logits, carat_error *err);
/* The session to a file, written under another name, then renamed: path is whole or as it was. EINVAL for an empty session; EIO
 * where it cannot be written; EUNSUPPORTED for a backend that keeps its cache elsewhere. */
CARAT_API carat_status carat_session_save(carat_session *s, const char *path, carat_error *err);
/* And back, bit for bit, whatever the models' numbers of threads. Wants the same model, backend, kv and exact, else EUNSUPPORTED;
 * ENOTFOUND, EIO; EFORMAT for a damaged file; ECONTEXT where it does not fit; then the session is as it was. Seeds are the
 * caller's: with the same one, sampling goes on as if nothing had been. */
CARAT_API carat_status carat_session_load(carat_session *s, const char *path, carat_error *err);
/* Tokens in the session, the one that next gave last included. */
CARAT_API int32_t carat_session_length(const carat_session *s);
/* Their ids into the caller's ids[cap]; returns how many there are. */
CARAT_API size_t carat_session_ids(const carat_session *s, carat_token *ids, size_t cap);
/* The most tokens that it can hold. */
CARAT_API int32_t carat_session_context(const carat_session *s);
/* Bytes of memory that it needs: cache, snapshots, activations. */
CARAT_API size_t carat_session_bytes(const carat_session *s);
/* Empties it, snapshots included; its memory stays its own. */
CARAT_API void carat_session_reset(carat_session *s);

#ifdef __cplusplus
}
#endif
#endif
