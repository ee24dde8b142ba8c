/* Measuring: the machine, fixed lengths, whole texts, quality. Results are numbers in structs; nothing here formats for
 * people, and nothing here knows files or options. Everything runs on the calling thread and the pool it is given.
 *
 * Read roofline.c for the machine, measure.c for speed, eval.c for quality, loop.c for when a text loops. */
#ifndef CT_BENCH_BENCH_H
#define CT_BENCH_BENCH_H

#include "engine/session.h"
#include "model/model.h"
#include "text/vocab.h"

typedef struct ct_subject { /* what is measured; borrowed */
    const ct_gemma *model;
    const ct_vocab *vocab; /* NULL: a model without text */
    ct_pool *pool;
} ct_subject;

typedef struct ct_job { /* how a job talks while it runs; every field may be 0 */
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, const char *what, double done, double total);
    void *arg;
} ct_job;

ct_status ct_job_poll(const ct_job *job, ct_error *err); /* EINTERRUPTED when keep_going says no */
void ct_job_progress(const ct_job *job, const char *what, double done, double total);

/* ct_session_feed in slices, polling between them; the same result as one call. */
ct_status ct_feed_polled(ct_session *s, const int32_t *ids, size_t n, bool decode, ct_logits_fn *fn, void *arg,
                         const ct_job *job, ct_error *err);

/* Reads "f32" or "f32,bf16" (keys, values) into cache types; NULL means -1, -1: the backend's default. EINVAL names the types. */
ct_status ct_kv_types(const char *spec, int32_t *type_k, int32_t *type_v, ct_error *err);

/* ---- the machine (roofline.c) ---- */

/* Bytes per second of reading memory with all threads of the pool: the best of several passes in about `seconds` over a
 * buffer far larger than caches. 0 when memory for it cannot be had. */
double ct_read_bandwidth(ct_pool *pool, double seconds);

/* The same rate at this moment, in about 256 MiB of reading: for pairs of a speed and the bandwidth of the same seconds. create
 * is NULL when memory for it cannot be had; a reader is used by one thread at a time. */
typedef struct ct_reader ct_reader;
ct_reader *ct_reader_create(ct_pool *pool);
void ct_reader_free(ct_reader *d);
double ct_reader_now(ct_reader *d, ct_pool *pool);

/* ---- numbers (record.c) ---- */

double ct_median(const double *x, size_t n);             /* 0 for n == 0 */
double ct_quantile(const double *x, size_t n, double q); /* nearest rank, q in 0..1 */
double ct_spread(const double *x, size_t n);             /* sample standard deviation, 0 for n < 2 */

/* ---- loops (loop.c) ---- */

/* Does the text end in a loop? See loop.c for the rule. period and start (nullable) are set when it does. */
bool ct_find_loop(const int32_t *ids, size_t n, int32_t *period, int32_t *start);

/* ---- what a token costs (measure.c) ---- */

/* Bytes read to decode one token that attends to `positions` stored ones: weights once, caches as far as each layer looks. */
double ct_decode_bytes_at(const ct_gemma *m, int32_t type_k, int32_t type_v, int32_t positions);
/* Bytes that were not read of the head, where `heads` of them computed `scored` logits in full. */
double ct_head_saved(const ct_gemma *m, double heads, double scored);
/* Multiplications and additions of n prompt rows behind `depth` positions, the head for one row. */
double ct_prompt_ops(const ct_gemma *m, int32_t n, int32_t depth);

/* ---- fixed lengths (measure.c) ---- */

typedef struct ct_bench_case {
    int32_t prompt;   /* pp: tokens; 0 = a decode test */
    int32_t generate; /* tg: tokens, per sequence */
    int32_t depth;    /* positions stored before the clock starts */
    int32_t batch;    /* sequences at once */
    int32_t repeats;
    bool exact;
    int32_t type_k, type_v;
} ct_bench_case;

/* samples[repeats]: tokens per second of all sequences together, after an untimed warm-up. share[repeats] (nullable): of the int8
 * rate (prompts), or of the bandwidth (decode), which is then read again and again while the clock stands: see go(). 0 where
 * the argument says 0, unknown. Ids are a fixed pseudo-random stream. */
ct_status ct_bench_run(const ct_subject *who, double bandwidth, double int8_rate, const ct_bench_case *test,
                       const ct_job *job, double *samples, double *share, ct_error *err);

/* ---- the main job (measure.c) ---- */

typedef struct ct_bench_text {
    const char *name, *prompt;
    double temperature;
    int32_t prompt_tokens, tokens;
    int32_t stop; /* 0 length, 1 end, 2 context: the order of carat_stop */
    double ttft_s, tok_s, share;
    size_t rss_start, rss_middle, rss_end;
    double mean_logprob;
    bool loops;
    int32_t loop_period, loop_start;
    char *text; /* ct_free */
    size_t text_len;
} ct_bench_text;

size_t ct_bench_prompts(void);
/* how: top-k and the like; its temperature and seed are replaced. EINVAL for a model without text. */
ct_status ct_bench_prompt(const ct_subject *who, double bandwidth, size_t i, double temperature, int32_t max_tokens,
                          uint64_t seed, const ct_sampling *how, const ct_job *job, ct_bench_text *out, ct_error *err);

/* ---- quality (eval.c, quality_text.c) ---- */

const char *ct_quality_text(size_t *n);

/* Mean log-probability of ids[from..n) given their prefix, by the exact path (or the prompt path), from >= 1. weakest and nll
 * (sum of nats) may be NULL. top[n_top] (nullable): the likeliest successors of the last id. */
typedef struct ct_top {
    int32_t id;
    double logprob;
} ct_top;
ct_status ct_score(const ct_subject *who, const int32_t *ids, size_t n, size_t from, bool exact, int32_t type_k,
                   int32_t type_v, const ct_job *job, double *mean_logprob, size_t *weakest, double *nll, ct_top *top,
                   size_t n_top, ct_error *err);

typedef struct ct_eval_options {
    int32_t context, chunks; /* chunks: 0 = all */
    bool decode_path, exact;
    int32_t type_k, type_v;
} ct_eval_options;

typedef struct ct_perplexity {
    double ppl, std_error, seconds, tok_s;
    size_t tokens;
    int32_t chunks;
} ct_perplexity;

/* llama-perplexity's protocol, see carat_jobs.h. */
ct_status ct_eval_perplexity(const ct_subject *who, const char *text, size_t n, const ct_eval_options *opt,
                             const ct_job *job, ct_perplexity *out, ct_error *err);

typedef struct ct_kl {
    double kl_mean, kl_p99, top1_agree, top64_agree, ppl_base, ppl;
    double scored; /* logits per position that a screened head computed in full */
    size_t tokens;
} ct_kl;

/* KL(base || who) over the scored positions; base by its exact prompt path. */
ct_status ct_eval_kl(const ct_subject *base, const ct_subject *who, const char *text, size_t n,
                     const ct_eval_options *opt, const ct_job *job, ct_kl *out, ct_error *err);

#endif
