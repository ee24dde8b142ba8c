/* carat eval perplexity, carat eval kl: quality as figures. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static int perplexity(const args *a, carat_model *m, const char *text, size_t n, const carat_eval_options *o,
                      const carat_job *job, progress *p)
{
    carat_error e = {0};
    carat_perplexity r;
    buffer b = {0};
    carat_status st = carat_eval_perplexity(m, text, n, o, job, &r, &e);
    progress_clear(p);
    if (st != CARAT_OK)
        return fail_error(&e, false);
    if (a->json) {
        json_open(&b, NULL, '{');
        json_real(&b, "ppl", r.ppl);
        json_real(&b, "stderr", r.std_error);
        json_int(&b, "tokens", (int64_t)r.tokens);
        json_int(&b, "chunks", r.chunks);
        json_int(&b, "context", o->context);
        json_real(&b, "seconds", r.seconds);
        json_real(&b, "tok_s", r.tok_s);
        json_close(&b, '}');
    } else {
        putf(&b, "perplexity %.4f +- %.4f over %zu tokens in %d chunks of %d (%.1f s, %.0f tok/s)\n", r.ppl,
             r.std_error, r.tokens, r.chunks, o->context, r.seconds, r.tok_s);
    }
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

static int divergence(const args *a, carat_model *base, carat_model *m, const char *text, size_t n,
                      const carat_eval_options *o, const carat_job *job, progress *p)
{
    carat_error e = {0};
    carat_kl r;
    buffer b = {0};
    carat_status st = carat_eval_kl(base, m, text, n, o, job, &r, &e);
    progress_clear(p);
    if (st != CARAT_OK)
        return fail_error(&e, false);
    if (a->json) {
        json_open(&b, NULL, '{');
        json_real(&b, "kl_mean", r.kl_mean);
        json_real(&b, "kl_p99", r.kl_p99);
        json_real(&b, "top1_agree", r.top1_agree);
        json_real(&b, "top64_agree", r.top64_agree);
        json_real(&b, "head_rows", r.scored);
        json_real(&b, "ppl_base", r.ppl_base);
        json_real(&b, "ppl", r.ppl);
        json_int(&b, "tokens", (int64_t)r.tokens);
        json_close(&b, '}');
    } else {
        putf(&b, "KL(base || model)  mean %.3e  99th percentile %.3e nats\n", r.kl_mean, r.kl_p99);
        putf(&b, "same first choice  %.2f %% of %zu positions\n", 100 * r.top1_agree, r.tokens);
        putf(&b, "same 64, in order  %.2f %%\n", 100 * r.top64_agree);
        putf(&b, "perplexity         %.4f (base %.4f)\n", r.ppl, r.ppl_base);
    }
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

static int open_base(const args *a, carat_model **base)
{
    char path[4096];
    args of_base = *a;
    of_base.model = a->base;
    of_base.backend = a->base_backend ? a->base_backend : a->backend;
    of_base.isa = a->base_backend ? NULL : a->isa;
    of_base.head = NULL;  /* the right logits, which the model is compared with */
    of_base.quiet = true; /* its warnings are the model's as well, or not what was asked about */
    int status = model_path(&of_base, NULL, path, sizeof path);
    return status >= 0 ? status : model_open(&of_base, path, false, base);
}

int cmd_eval(args *a)
{
    char path[4096];
    carat_model *m = NULL, *base = NULL;
    carat_model_info info;
    char *read = NULL;
    size_t n = 0;
    if (a->n_words == 0)
        return fail(EXIT_USAGE, "expected carat eval perplexity or carat eval kl");
    const char *what = a->words[0];
    const bool kl = strcmp(what, "kl") == 0;
    if (!kl && strcmp(what, "perplexity") != 0)
        return fail(EXIT_USAGE, "expected carat eval perplexity or carat eval kl, found '%s'", what);
    if (a->n_words > 2)
        return fail(EXIT_USAGE, "expected one model, found '%s' and '%s'%s", a->words[1], a->words[2],
                    kl ? "; the other one is named by --base" : "; the text is named by -f");
    if (kl && a->base == NULL)
        return fail(EXIT_USAGE, "carat eval kl compares with a base model: --base MODEL is missing");
    if (!kl && (a->base || a->base_backend))
        return fail(EXIT_USAGE, "--base and --base-backend are options of carat eval kl");
    const char *text = carat_bench_quality_text(&n);
    int status = a->file ? read_input(a->file, NULL, &read, &n) : -1;
    text = a->file ? read : text;
    if (status < 0)
        status = model_path(a, a->n_words > 1 ? a->words[1] : NULL, path, sizeof path);
    if (status < 0)
        status = model_open(a, path, false, &m);
    if (status < 0) {
        carat_model_get_info(m, &info);
        if (!info.has_text)
            status = fail(EXIT_USAGE, "%s has no tokenizer: its quality on a text cannot be measured", info.path);
    }
    if (status < 0 && kl)
        status = open_base(a, &base);
    if (status >= 0)
        goto done;
    signals_polled();
    progress p;
    progress_init(&p, a);
    carat_job job = {keep_going, progress_show, &p};
    carat_eval_options o = carat_eval_options_default();
    o.context = a->context ? a->context : o.context;
    o.chunks = a->chunks;
    o.decode_path = a->path && strcmp(a->path, "decode") == 0;
    o.exact = a->exact;
    o.kv = a->kv;
    status = kl ? divergence(a, base, m, text, n, &o, &job, &p) : perplexity(a, m, text, n, &o, &job, &p);
    if (status < 0)
        status = EXIT_DONE;
done:
    carat_model_close(base);
    carat_model_close(m);
    ct_free(read);
    return status;
}
