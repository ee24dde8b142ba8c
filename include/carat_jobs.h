/* Jobs on models: evaluate, measure, inspect, check. Results are structs; nothing here formats for people.
 * Same conventions as carat.h. All run on the calling thread plus the model's pool, minutes long ones poll keep_going and then
 * fail with EINTERRUPTED. A job keeps the pool to itself from beginning to end: sessions of its model wait. */
#ifndef CARAT_JOBS_H
#define CARAT_JOBS_H

#include "carat.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct carat_job { /* how a job talks while it runs; every field may be 0 */
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, const char *what, double done, double total);
    void *arg;
} carat_job;

/* ---- logits: any thread ---- */

typedef struct carat_top {
    carat_token id;
    double logprob;
} carat_top;

/* The k likeliest tokens after ids[0..n), best first, ties by id, into the caller's top[k]; *nll (nullable): nats of ids 1..n-1
 * given their prefix, summed. Of opt only kv, exact, keep_going and arg count. EINVAL for an id that is not in the vocabulary, or
 * a model opened with vocab_only; ECONTEXT for more ids than the model was trained for; ENUMERIC for logits that are no numbers;
 * EINTERRUPTED. */
CARAT_API carat_status carat_logits(carat_model *m, const carat_token *ids, size_t n, const carat_session_options *opt,
                                    carat_top *top, size_t k, double *nll, carat_error *err);
/* Mean log-probability of ids[from..n) given their prefix, by the exact path; *weakest (nullable): index of the least likely one.
 * Errors as of carat_logits; EINVAL where from is not in 1..n-1. */
CARAT_API carat_status carat_score(carat_model *m, const carat_token *ids, size_t n, size_t from, double *mean_logprob,
                                   size_t *weakest, carat_error *err);

/* ---- eval: any thread ---- */

typedef struct carat_eval_options {
    uint32_t size;
    int32_t context;  /* 512 */
    int32_t chunks;   /* 0 = all */
    bool decode_path; /* kl: score with decode rows instead of prompt rows */
    bool exact;
    const char *kv;
} carat_eval_options;

/* A context of 512, everything else 0. */
CARAT_API carat_eval_options carat_eval_options_default(void);

typedef struct carat_perplexity {
    double ppl, std_error, seconds;
    size_t tokens; /* scored */
    int32_t chunks;
    double tok_s; /* processed, not only scored */
} carat_perplexity;

/* llama-perplexity's protocol: the text with <bos> in front is cut into chunks of c tokens, each chunk's first token becomes
 * <bos>, tokens c/2+1 .. c-1 of a chunk are scored. text[0..n) (n = SIZE_MAX: up to its NUL). EINVAL when the text is shorter than
 * two chunks, or the model has no tokenizer; ENUMERIC, EINTERRUPTED. */
CARAT_API carat_status carat_eval_perplexity(carat_model *m, const char *text, size_t n, const carat_eval_options *opt,
                                             const carat_job *job, carat_perplexity *out, carat_error *err);

typedef struct carat_kl {
    double kl_mean, kl_p99;
    double top1_agree,
        top64_agree; /* share of positions with the same first choice; with the same 64 in the same order */
    double ppl_base, ppl;
    double
        scored; /* logits per position that the model computed in full: all, unless it was opened with screened_head */
    size_t tokens;
} carat_kl;

/* KL(base || m) over the scored positions of the same protocol; base scores by its exact prompt path. Errors likewise, and EINVAL
 * for two models of different vocabularies. */
CARAT_API carat_status carat_eval_kl(carat_model *base, carat_model *m, const char *text, size_t n,
                                     const carat_eval_options *opt, const carat_job *job, carat_kl *out,
                                     carat_error *err);

/* ---- inspect: one thread at a time for each inspection ---- */

typedef struct carat_tensor_info {
    const char *name, *type;
    size_t ne[4], bytes;
    int32_t n_dims;
} carat_tensor_info;

typedef struct carat_inspection carat_inspection;
/* Reads directory and metadata, no weights. You own *out: carat_inspection_free. ENOTFOUND, EIO; EFORMAT where there is no
 * directory to be read; EUNSUPPORTED for a folder, or a version of the format that carat does not know. */
CARAT_API carat_status carat_inspect(carat_inspection **out, const char *path, carat_error *err);
/* Gives back all that i owns. */
CARAT_API void carat_inspection_free(carat_inspection *i);
/* What opening it would say of itself; borrowed from i, NULL for NULL. */
CARAT_API const carat_model_info *carat_inspection_info(const carat_inspection *i);
/* NULL when carat would run it, else the sentence that it would refuse with, borrowed from i. */
CARAT_API const char *carat_inspection_verdict(const carat_inspection *i);
/* How many tensors the directory has. */
CARAT_API size_t carat_inspection_tensors(const carat_inspection *i);
/* Tensor n of the directory (empty beyond its end); its name is borrowed until the next call. */
CARAT_API void carat_inspection_tensor(carat_inspection *i, size_t n, carat_tensor_info *t);
/* How many keys the metadata has. */
CARAT_API size_t carat_inspection_keys(const carat_inspection *i);
/* Key n and its value as text (arrays: count and the first few; empty beyond the end), borrowed until the next call. */
CARAT_API void carat_inspection_key(carat_inspection *i, size_t n, const char **key, const char **value);

typedef struct carat_memory { /* bytes: what opening the model and creating a session of this context reserve */
    size_t weights;           /* packed; of a synthetic model also the largest tensor, which is made in memory */
    size_t cache_local;       /* the sliding layers' rings */
    size_t cache_global;      /* the global layers' pages */
    size_t snapshots;         /* copies of the rings, as many as a session takes by itself */
    size_t activations;       /* work space: activations, logits, scratch, history, sampler */
    size_t total;
} carat_memory;
/* What a session of this context (0 = what the model was trained for) and type of cache would need. With the verdict's own code
 * where carat would not run the file; EINVAL for a context or type that no session has. */
CARAT_API carat_status carat_inspection_memory(const carat_inspection *i, int32_t context, const char *kv,
                                               carat_memory *out, carat_error *err);

/* ---- convert: any thread ---- */

typedef struct carat_convert_options {
    uint32_t size;
    const char *
        type; /* of a GGUF file: "q4_k_m", "q8_0", ... (llama.cpp's mixtures); of an MLX folder "mlx4", "mlx8"; of a Hugging
                         Face folder, or of a GGUF file where the name ends in .gguf, "bf16", "f16", "f32" */
    int32_t group;    /* of mlx types: weights per scale, 32, 64 or 128; 0: 64 */
    int32_t threads;  /* 0: the physical cores the process may use */
    bool force;       /* replace a file that is there */
    const char *text; /* calibrate: text[0..text_len) that says which inputs matter; NULL: no */
    size_t text_len;
    const char *imatrix; /* llama.cpp's importance matrix: a file to read or, with a text, to write; NULL: none */
} carat_convert_options;

/* No type, everything else 0: a type must be set. */
CARAT_API carat_convert_options carat_convert_options_default(void);

typedef struct carat_conversion {
    const char *format;         /* what was written: "GGUF", "Hugging Face", "MLX"; static */
    size_t bytes_in, bytes_out; /* of the tensors that were read; of all files that were written */
    size_t tensors, parameters; /* written; elements of the matrices among them */
    double bits_per_weight;     /* of those matrices */
    double seconds;
    int32_t n_notes; /* what the user should know, a sentence each: borrowed from the struct itself */
    char notes[8][240];
} carat_conversion;

/* Writes the model at `in` (whatever carat_model_open takes) to `out` with its matrices in another type, a few rows at a time: of a
 * model of any size no more than some megabytes are in memory. `out` has another name until it is whole. *result is the caller's
 * (nullable). EINVAL: no such type, or one that a file or folder of that name cannot have; EIO: `out` is there, is `in`, or cannot
 * be written, also for want of room; ENUMERIC: NaN or infinity in a weight; EINTERRUPTED; of `in` the errors of carat_model_open;
 * EFORMAT and the like of `imatrix`.
 * Whatever fails leaves nothing behind. */
CARAT_API carat_status carat_convert(const char *in, const char *out, const carat_convert_options *opt,
                                     const carat_job *job, carat_conversion *result, carat_error *err);

/* ---- check: any thread ---- */

typedef struct carat_check_result {
    const char *backend, *isa, *op, *type; /* type: of weight or cache, "" where it does not apply */
    int64_t cases;                         /* 0: skipped, detail says why */
    double budget_used;                    /* worst error as a share of its budget: 1 = at the limit */
    bool passed;
    char detail[160]; /* of the worst case: shape, seed, error */
} carat_check_result;

/* Every op, type and instruction set of a backend (NULL = all) against ref. on_result (nullable) is called per line, on
 * the calling thread; what r points at is borrowed for that call. quick: fewer shapes. ENUMERIC if one failed; ENOTFOUND for an
 * unknown backend. */
CARAT_API carat_status carat_check(const char *backend, int32_t threads, uint64_t seed, bool quick,
                                   void (*on_result)(void *arg, const carat_check_result *r), void *arg,
                                   carat_error *err);

/* ---- bench: any thread, one job at a time if the figures are to mean anything ---- */

typedef struct carat_machine {
    char cpu[96];
    int32_t cores, threads;
    size_t memory;
    double bandwidth; /* bytes/s of reading, measured now, with the model's threads */
    double int8_rate; /* operations/s of the int8 dot product, likewise; 0 = unknown */
} carat_machine;

/* Takes about a second. EINVAL for a model opened with vocab_only. */
CARAT_API carat_status carat_machine_measure(carat_model *m, carat_machine *out, carat_error *err);

typedef struct carat_bench_case { /* fixed lengths, no sampling */
    int32_t prompt;               /* pp: tokens; 0 = a decode test */
    int32_t generate;             /* tg: tokens */
    int32_t depth;                /* positions stored before the clock starts */
    int32_t batch;                /* sequences at once */
    int32_t repeats;
    bool exact;
    const char *kv;
} carat_bench_case;

/* samples[repeats]: tokens per second of all sequences together, one untimed warm-up before. share[repeats] (nullable): of the
 * machine: decode, bytes read (weights + cache) over bandwidth; prompts, int8 operations over the int8 rate; 0 without machine.
 * EINVAL for a test that makes no sense, ENOMEM where its context does not fit, EINTERRUPTED. */
CARAT_API carat_status carat_bench_run(carat_model *m, const carat_machine *machine, const carat_bench_case *test,
                                       const carat_job *job, double *samples, double *share, carat_error *err);

/* The median of n samples; 0 for none. */
CARAT_API double carat_median(const double *samples, size_t n);
/* Their sample standard deviation; 0 for fewer than two. */
CARAT_API double carat_spread(const double *samples, size_t n);

typedef enum carat_stop { CARAT_STOP_LENGTH, CARAT_STOP_END, CARAT_STOP_CONTEXT } carat_stop;

typedef struct carat_bench_text { /* one prompt of the main job */
    const char *name, *prompt;
    double temperature;
    int32_t prompt_tokens, tokens;
    carat_stop stop;
    double ttft_s, tok_s, share; /* share of measured bandwidth */
    size_t rss_start, rss_middle, rss_end;
    double mean_logprob; /* of its text, by the exact path, under the model's own distribution */
    bool loops;
    int32_t loop_period, loop_start; /* in tokens, where it loops */
    char *text;                      /* owned by the result; carat_bench_text_deinit */
    size_t text_len;
} carat_bench_text;

/* How many prompts the main job has: 3. */
CARAT_API size_t carat_bench_prompts(void);
/* Prompt i with up to max_tokens tokens at a temperature (0 = greedy), as users generate: sampled, stopped at the end. The text in
 * *out is yours: carat_bench_text_deinit. EINVAL for a prompt that is not there or a model without tokenizer; EINTERRUPTED. */
CARAT_API carat_status carat_bench_prompt(carat_model *m, const carat_machine *machine, size_t i, double temperature,
                                          int32_t max_tokens, uint64_t seed, const carat_job *job,
                                          carat_bench_text *out, carat_error *err);
/* Gives back what *t owns; t itself is the caller's. */
CARAT_API void carat_bench_text_deinit(carat_bench_text *t);
/* The short text that carat ships for quality figures, *n bytes. Static. */
CARAT_API const char *carat_bench_quality_text(size_t *n);

/* ---- pull: any thread, also several at once, in one process or more ---- */

typedef struct carat_pull_options {
    uint32_t size;
    const char *endpoint; /* address of the hub; NULL = https://huggingface.co */
    const char *revision; /* a branch, a tag or a commit; NULL = main */
    const char *file;     /* one GGUF file, with the further parts of a split one; NULL = a checkpoint of safetensors */
    const char *token;    /* what the hub knows you by; NULL = none. Sent to the endpoint alone */
    const char *cache; /* folder of the cache, as "~/.cache/huggingface/hub" is where nothing else was said: needed */
    int32_t timeout_s; /* without a byte for so long a try has failed; 30 */
    /* nullable: each file of the repository, before anything is fetched, on the calling thread; bytes UINT64_MAX: the hub does not
     * say. name is borrowed for that call. */
    void (*on_file)(void *arg, const char *name, uint64_t bytes, bool wanted);
    void *on_file_arg;
} carat_pull_options;

/* A timeout of 30 s, everything else 0. */
CARAT_API carat_pull_options carat_pull_options_default(void);

typedef struct carat_pulled {
    char *path;       /* the folder of the snapshot, or the file; owned by the result: carat_pulled_deinit */
    char commit[48];  /* what the revision is */
    uint64_t bytes;   /* of all its wanted files */
    uint64_t fetched; /* of these, what came through the net this time */
    size_t files;
} carat_pulled;

/* Fetches a model "OWNER/NAME" from a hub into a cache laid out as Hugging Face's own tools have it, so that they and carat find it;
 * what is there already is not fetched again, what was begun is gone on with. Sizes are checked, and SHA-256 where the hub has
 * it (all weights); nothing lies under its final name before. Certificates are verified. libcurl is loaded for it and reads its
 * environment (proxies). *out is yours: carat_pulled_deinit. EINVAL for names that are none; ENOTFOUND where the hub has no such
 * thing or does not show it to this token, with what to do; EIO for nets and disks, full ones said before; EFORMAT for
 * what came otherwise than listed; EUNSUPPORTED without libcurl; EINTERRUPTED: what came so far stays for the next time; ENOMEM. */
CARAT_API carat_status carat_pull(const char *repository, const carat_pull_options *opt, const carat_job *job,
                                  carat_pulled *out, carat_error *err);
/* Gives back what *p owns; p itself is the caller's. Any thread. */
CARAT_API void carat_pulled_deinit(carat_pulled *p);

#ifdef __cplusplus
}
#endif
#endif
