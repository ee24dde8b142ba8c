/* carat bench: what is measured, in which order. What a record looks like is in report.c. */
#include "cli/cli.h"
#include "cli/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/system.h"

enum { TOKENS = 500, QUICK_TOKENS = 100, REPEATS = 5, QUICK_REPEATS = 2 };
#define WARM 0.7 /* the other temperature of the main job */

static row *new_row(records *r)
{
    if (r->n_rows == r->room) {
        int32_t room = r->room * 2 + 16;
        row *grown = ct_realloc(r->rows, (size_t)room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        r->rows = grown;
        r->room = room;
    }
    r->rows[r->n_rows] = (row){.model = r->n_models - 1};
    return &r->rows[r->n_rows++];
}

static int out_of_memory(void) { return fail(EXIT_FAILED, "out of memory for the records"); }

/* ---- fixed lengths ---- */

static int fixed_one(records *r, carat_model *m, const carat_bench_case *test, carat_job *job, progress *p)
{
    carat_error e = {0};
    row *w = new_row(r);
    if (w == NULL)
        return out_of_memory();
    int n = snprintf(w->test, sizeof w->test, "%s%d", test->prompt ? "pp" : "tg",
                     test->prompt ? test->prompt : test->generate);
    if (test->depth > 0)
        n += snprintf(w->test + n, sizeof w->test - (size_t)n, "@d%d", test->depth);
    if (test->batch > 1)
        snprintf(w->test + n, sizeof w->test - (size_t)n, "@b%d", test->batch);
    snprintf(p->label, sizeof p->label, "%s", w->test);
    w->fixed = *test;
    w->samples = ct_calloc((size_t)test->repeats, sizeof *w->samples);
    double *share = ct_calloc((size_t)test->repeats, sizeof *share);
    if (w->samples == NULL || share == NULL) {
        ct_free(share);
        return out_of_memory();
    }
    carat_status st = carat_bench_run(m, &r->machine, test, job, w->samples, share, &e);
    progress_clear(p);
    if (st == CARAT_OK) {
        w->n_samples = test->repeats;
        w->tok_s = carat_median(w->samples, (size_t)test->repeats);
        w->spread = carat_spread(w->samples, (size_t)test->repeats);
        w->share = carat_median(share, (size_t)test->repeats);
        w->rss = ct_rss_bytes();
    }
    ct_free(share);
    return st == CARAT_OK ? -1 : fail_error(&e, false);
}

static int fixed(const args *a, records *r, carat_model *m, carat_job *job, progress *p)
{
    static const ints none = {{0}, 1}, one = {{1}, 1};
    const ints *depths = a->depth.n ? &a->depth : &none, *batches = a->batch.n ? &a->batch : &one;
    int status = -1;
    for (int32_t d = 0; d < depths->n; d++)
        for (int32_t b = 0; b < batches->n; b++)
            for (int32_t i = 0; i < a->pp.n + a->tg.n && status < 0; i++) {
                carat_bench_case test = {.depth = depths->at[d],
                                         .batch = batches->at[b],
                                         .exact = a->exact,
                                         .kv = a->kv,
                                         .repeats = a->repeats ? a->repeats
                                                    : a->quick ? QUICK_REPEATS
                                                               : REPEATS};
                if (i < a->pp.n)
                    test.prompt = a->pp.at[i];
                else
                    test.generate = a->tg.at[i - a->pp.n];
                status = fixed_one(r, m, &test, job, p);
                if (status < 0 && r->live)
                    report_live(r, r->n_rows - 1);
            }
    return status;
}

/* ---- the main job ---- */

static int text_one(const args *a, records *r, carat_model *m, size_t prompt, double temperature, carat_job *job,
                    progress *p)
{
    carat_error e = {0};
    const int32_t repeats = a->repeats ? a->repeats : 1;
    const int32_t tokens = a->max_tokens > 0 ? a->max_tokens : a->quick ? QUICK_TOKENS : TOKENS;
    row *w = new_row(r);
    double *ttft = ct_calloc((size_t)repeats, sizeof *ttft), *share = ct_calloc((size_t)repeats, sizeof *share);
    if (w == NULL || ttft == NULL || share == NULL ||
        (w->samples = ct_calloc((size_t)repeats, sizeof *w->samples)) == NULL) {
        ct_free(ttft);
        ct_free(share);
        return out_of_memory();
    }
    w->is_text = true;
    snprintf(p->label, sizeof p->label, "temperature %g", temperature);
    carat_status st = CARAT_OK;
    for (int32_t i = 0; i < repeats && st == CARAT_OK; i++) {
        carat_bench_text_deinit(&w->text);
        st = carat_bench_prompt(m, &r->machine, prompt, temperature, tokens, r->seed, job, &w->text, &e);
        w->samples[i] = w->text.tok_s;
        ttft[i] = w->text.ttft_s;
        share[i] = w->text.share;
    }
    progress_clear(p);
    if (st == CARAT_OK) {
        snprintf(w->test, sizeof w->test, "%s@t%g", w->text.name, temperature);
        w->n_samples = repeats;
        w->tok_s = carat_median(w->samples, (size_t)repeats);
        w->spread = carat_spread(w->samples, (size_t)repeats);
        w->text.ttft_s = carat_median(ttft, (size_t)repeats);
        w->share = carat_median(share, (size_t)repeats);
        w->rss = w->text.rss_end;
    }
    ct_free(ttft);
    ct_free(share);
    return st == CARAT_OK ? -1 : fail_error(&e, false);
}

static int texts(const args *a, records *r, carat_model *m, carat_job *job, progress *p)
{
    int status = -1;
    for (size_t i = 0; i < carat_bench_prompts(); i++)
        for (int warm = 0; warm < 2 && status < 0; warm++) {
            status = text_one(a, r, m, i, warm ? WARM : 0, job, p);
            if (status < 0 && r->live)
                report_live(r, r->n_rows - 1);
        }
    if (status >= 0)
        return status;
    carat_error e = {0};
    size_t n = 0;
    const char *text = carat_bench_quality_text(&n);
    p->label[0] = '\0';
    carat_status st = carat_eval_perplexity(m, text, n, NULL, job, &r->models[r->n_models - 1].quality, &e);
    progress_clear(p);
    return st == CARAT_OK ? -1 : fail_error(&e, false);
}

/* ---- models ---- */

static int one_model(const args *a, records *r, const char *word, progress *p)
{
    char path[4096];
    carat_model *m = NULL;
    carat_error e = {0};
    carat_job job = {keep_going, progress_show, p};
    const bool lengths = a->pp.n + a->tg.n > 0;
    bench_model *b = &r->models[r->n_models];
    int status = model_path(a, word, path, sizeof path);
    if (status < 0)
        status = model_open(a, path, false, &m);
    if (status >= 0)
        return status;
    carat_model_get_info(m, &b->info);
    snprintf(b->path, sizeof b->path, "%s", b->info.path);
    snprintf(b->format, sizeof b->format, "%s", b->info.format);
    snprintf(b->size, sizeof b->size, "%s", b->info.size);
    snprintf(b->backend, sizeof b->backend, "%s (%s)", b->info.backend, b->info.isa);
    snprintf(b->backend_name, sizeof b->backend_name, "%s", b->info.backend);
    snprintf(b->isa, sizeof b->isa, "%s", b->info.isa);
    if (!b->info.has_text && !lengths) {
        status = fail(EXIT_USAGE, "%s has no tokenizer: measure fixed lengths, as in --pp 512 --tg 128", path);
        goto done;
    }
    signals_polled();
    r->n_models++;
    if (r->n_models == 1 && carat_machine_measure(m, &r->machine, &e) != CARAT_OK)
        status = fail_error(&e, false);
    if (status < 0 && interrupted())
        status = EXIT_INTERRUPTED;
    if (status < 0 && r->live)
        report_head(r, r->n_models - 1, !lengths);
    if (status < 0)
        status = lengths ? fixed(a, r, m, &job, p) : texts(a, r, m, &job, p);
    if (status < 0 && r->live)
        report_tail(r, r->n_models - 1);
done:
    carat_model_close(m);
    b->info = (carat_model_info){.parameters = b->info.parameters,
                                 .file_bytes = b->info.file_bytes,
                                 .weight_bytes = b->info.weight_bytes,
                                 .decode_bytes = b->info.decode_bytes,
                                 .threads = b->info.threads,
                                 .has_text = b->info.has_text};
    return status;
}

int cmd_bench(args *a)
{
    records r = {.seed = a->has_seed ? a->seed : 1, .live = !a->json, .color = use_color(a, 1)};
    progress p;
    int status = -1;
    for (int32_t i = 0; i < a->output.n && status < 0; i++)
        status = report_form(a->output.at[i]);
    if (status < 0 && a->pp.n + a->tg.n == 0 && (a->depth.n || a->batch.n))
        status = fail(EXIT_USAGE, "--depth and --batch go with --pp or --tg");
    if (status < 0 && a->pp.n + a->tg.n > 0 && a->max_tokens != -2)
        status = fail(EXIT_USAGE, "-n goes with the three prompts; with --pp and --tg lengths are given there");
    if (status < 0 && a->max_tokens != -2 && a->max_tokens < 1)
        status = fail(EXIT_USAGE, "-n: expected 1 token or more for a benchmark");
    if (status < 0 && a->n_words > MAX_MODELS)
        status = fail(EXIT_USAGE, "at most %d models at once", MAX_MODELS);
    if (status >= 0)
        return status;
    progress_init(&p, a);
    if (a->n_words == 0)
        status = one_model(a, &r, NULL, &p);
    for (int32_t i = 0; i < a->n_words && status < 0; i++)
        status = one_model(a, &r, a->words[i], &p);
    if (status < 0 && a->json) {
        buffer b = {0};
        report_json(&b, &r);
        status = buffer_print(&b);
        buffer_free(&b);
    }
    for (int32_t i = 0; i < a->output.n && status < 0; i++)
        status = report_save(&r, a->output.at[i]);
    records_free(&r);
    return status < 0 ? EXIT_DONE : status;
}
