/* The jobs of carat_jobs.h: check the arguments, take the model's turn, delegate to bench/, hand the numbers back. */
#include <string.h>

#include "api/internal.h"
#include "base/system.h"

#define REQUIRE_WEIGHTS(m) API_REQUIRE((m) && (m)->has_weights, "a model that was not opened with vocab_only")

carat_status carat_logits(carat_model *m, const carat_token *ids, size_t n, const carat_session_options *opt,
                          carat_top *top, size_t k, double *nll, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(ids && n > 0, "one or more ids");
    API_REQUIRE(top || k == 0, "room for the likeliest tokens, or a k of 0");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_session_options_default()");
    _Static_assert(sizeof(carat_top) == sizeof(ct_top), "the two have the same shape");
    ct_error e = {0};
    int32_t type_k = -1, type_v = -1;
    ct_subject who = ct_api_subject(m);
    ct_job job = opt ? (ct_job){.keep_going = opt->keep_going, .arg = opt->arg} : (ct_job){0};
    if (k > (size_t)m->cfg.vocab)
        k = (size_t)m->cfg.vocab;
    ct_status st = opt ? ct_kv_types(opt->kv, &type_k, &type_v, &e) : CT_OK;
    if (st == CT_OK) {
        ct_api_lock(m);
        st = ct_score(&who, ids, n, 1, opt && opt->exact, type_k, type_v, &job, NULL, NULL, nll, (ct_top *)(void *)top,
                      k, &e);
        ct_api_unlock(m);
    }
    return ct_api_error(err, st, &e);
}

carat_status carat_score(carat_model *m, const carat_token *ids, size_t n, size_t from, double *mean_logprob,
                         size_t *weakest, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(ids && n > 0, "one or more ids");
    API_REQUIRE(from >= 1 && from < n, "a first scored place of 1 or more, before the last id");
    ct_error e = {0};
    ct_subject who = ct_api_subject(m);
    ct_api_lock(m);
    ct_status st = ct_score(&who, ids, n, from, true, -1, -1, NULL, mean_logprob, weakest, NULL, NULL, 0, &e);
    ct_api_unlock(m);
    return ct_api_error(err, st, &e);
}

/* ---- eval ---- */

carat_eval_options carat_eval_options_default(void)
{
    return (carat_eval_options){.size = sizeof(carat_eval_options), .context = 512};
}

static ct_status eval_options(const carat_eval_options *opt, ct_eval_options *o, ct_error *e)
{
    carat_eval_options def = carat_eval_options_default();
    opt = opt ? opt : &def;
    *o = (ct_eval_options){
        .context = opt->context, .chunks = opt->chunks, .decode_path = opt->decode_path, .exact = opt->exact};
    return ct_kv_types(opt->kv, &o->type_k, &o->type_v, e);
}

carat_status carat_eval_perplexity(carat_model *m, const char *text, size_t n, const carat_eval_options *opt,
                                   const carat_job *job, carat_perplexity *out, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(text, "a text");
    API_REQUIRE(out, "somewhere to put the figures");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_eval_options_default()");
    *out = (carat_perplexity){0};
    ct_error e = {0};
    ct_eval_options o;
    ct_perplexity p = {0};
    ct_job j = ct_api_job(job);
    ct_subject who = ct_api_subject(m);
    ct_status st = eval_options(opt, &o, &e);
    if (st == CT_OK) {
        ct_api_lock(m);
        st = ct_eval_perplexity(&who, text, n == SIZE_MAX ? strlen(text) : n, &o, &j, &p, &e);
        ct_api_unlock(m);
    }
    if (st == CT_OK)
        *out = (carat_perplexity){.ppl = p.ppl,
                                  .std_error = p.std_error,
                                  .seconds = p.seconds,
                                  .tokens = p.tokens,
                                  .chunks = p.chunks,
                                  .tok_s = p.tok_s};
    return ct_api_error(err, st, &e);
}

carat_status carat_eval_kl(carat_model *base, carat_model *m, const char *text, size_t n, const carat_eval_options *opt,
                           const carat_job *job, carat_kl *out, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    REQUIRE_WEIGHTS(base);
    API_REQUIRE(text, "a text");
    API_REQUIRE(out, "somewhere to put the figures");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_eval_options_default()");
    *out = (carat_kl){0};
    ct_error e = {0};
    ct_eval_options o;
    ct_kl k = {0};
    ct_job j = ct_api_job(job);
    ct_subject who = ct_api_subject(m), from = ct_api_subject(base);
    carat_model *first = base < m ? base : m, *second = base < m ? m : base; /* one order for all: no deadlock */
    ct_status st = eval_options(opt, &o, &e);
    if (st == CT_OK) {
        ct_api_lock(first);
        if (second != first)
            ct_api_lock(second);
        st = ct_eval_kl(&from, &who, text, n == SIZE_MAX ? strlen(text) : n, &o, &j, &k, &e);
        if (second != first)
            ct_api_unlock(second);
        ct_api_unlock(first);
    }
    if (st == CT_OK)
        *out = (carat_kl){.kl_mean = k.kl_mean,
                          .kl_p99 = k.kl_p99,
                          .top1_agree = k.top1_agree,
                          .top64_agree = k.top64_agree,
                          .scored = k.scored,
                          .ppl_base = k.ppl_base,
                          .ppl = k.ppl,
                          .tokens = k.tokens};
    return ct_api_error(err, st, &e);
}

/* ---- bench ---- */

carat_status carat_machine_measure(carat_model *m, carat_machine *out, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(out, "somewhere to put the figures");
    *out = (carat_machine){0};
    ct_cpu_name(out->cpu, sizeof out->cpu);
    out->cores = ct_cores();
    out->threads = ct_pool_threads(m->pool);
    out->memory = ct_memory_total();
    ct_api_lock(m);
    const ct_backend *b = m->gemma.backend;
    out->bandwidth = b->read_rate ? b->read_rate() : ct_read_bandwidth(m->pool, 0.3);
    out->int8_rate = m->gemma.backend->int8_rate ? m->gemma.backend->int8_rate(m->pool) : 0;
    ct_api_unlock(m);
    return ct_api_error(err, CT_OK, NULL);
}

carat_status carat_bench_run(carat_model *m, const carat_machine *machine, const carat_bench_case *test,
                             const carat_job *job, double *samples, double *share, carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(test, "a test");
    API_REQUIRE(samples, "room for the samples");
    ct_error e = {0};
    ct_bench_case c = {.prompt = test->prompt,
                       .generate = test->generate,
                       .depth = test->depth,
                       .batch = test->batch,
                       .repeats = test->repeats,
                       .exact = test->exact};
    ct_job j = ct_api_job(job);
    ct_subject who = ct_api_subject(m);
    ct_status st = ct_kv_types(test->kv, &c.type_k, &c.type_v, &e);
    if (st == CT_OK) {
        ct_api_lock(m);
        st = ct_bench_run(&who, machine ? machine->bandwidth : 0, machine ? machine->int8_rate : 0, &c, &j, samples,
                          share, &e);
        ct_api_unlock(m);
    }
    return ct_api_error(err, st, &e);
}

double carat_median(const double *samples, size_t n) { return samples ? ct_median(samples, n) : 0; }
double carat_spread(const double *samples, size_t n) { return samples ? ct_spread(samples, n) : 0; }

size_t carat_bench_prompts(void) { return ct_bench_prompts(); }

carat_status carat_bench_prompt(carat_model *m, const carat_machine *machine, size_t i, double temperature,
                                int32_t max_tokens, uint64_t seed, const carat_job *job, carat_bench_text *out,
                                carat_error *err)
{
    REQUIRE_WEIGHTS(m);
    API_REQUIRE(out, "somewhere to put the figures");
    API_REQUIRE(temperature >= 0 && temperature <= 100, "a temperature of 0 to 100");
    *out = (carat_bench_text){0};
    ct_error e = {0};
    ct_bench_text t;
    ct_job j = ct_api_job(job);
    ct_subject who = ct_api_subject(m);
    ct_api_lock(m);
    ct_status st = ct_bench_prompt(&who, machine ? machine->bandwidth : 0, i, temperature, max_tokens, seed,
                                   &m->sampling, &j, &t, &e);
    ct_api_unlock(m);
    if (st == CT_OK)
        *out = (carat_bench_text){.name = t.name,
                                  .prompt = t.prompt,
                                  .temperature = t.temperature,
                                  .prompt_tokens = t.prompt_tokens,
                                  .tokens = t.tokens,
                                  .stop = (carat_stop)t.stop,
                                  .ttft_s = t.ttft_s,
                                  .tok_s = t.tok_s,
                                  .share = t.share,
                                  .rss_start = t.rss_start,
                                  .rss_middle = t.rss_middle,
                                  .rss_end = t.rss_end,
                                  .mean_logprob = t.mean_logprob,
                                  .loops = t.loops,
                                  .loop_period = t.loop_period,
                                  .loop_start = t.loop_start,
                                  .text = t.text,
                                  .text_len = t.text_len};
    return ct_api_error(err, st, &e);
}

void carat_bench_text_deinit(carat_bench_text *t)
{
    if (t == NULL)
        return;
    ct_free(t->text);
    *t = (carat_bench_text){0};
}

const char *carat_bench_quality_text(size_t *n)
{
    size_t len = 0;
    const char *text = ct_quality_text(&len);
    if (n)
        *n = len;
    return text;
}
