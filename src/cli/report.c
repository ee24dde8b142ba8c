/* See report.h. */
#include "cli/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const char *const stops[] = {"length", "end", "context"};

void records_free(records *r)
{
    for (int32_t i = 0; i < r->n_rows; i++) {
        ct_free(r->rows[i].samples);
        carat_bench_text_deinit(&r->rows[i].text);
    }
    ct_free(r->rows);
    *r = (records){0};
}

/* ---- the table ---- */

static const char *percent(char *out, size_t n, double share)
{
    if (share > 0)
        snprintf(out, n, "%.0f %%", 100 * share);
    else
        snprintf(out, n, "-");
    return out;
}

static void mib(char *out, size_t n, const carat_bench_text *t)
{
    snprintf(out, n, "%.0f/%.0f/%.0f", (double)t->rss_start / 1048576, (double)t->rss_middle / 1048576,
             (double)t->rss_end / 1048576);
}

static void loop_words(char *out, size_t n, const carat_bench_text *t)
{
    if (t->loops)
        snprintf(out, n, "every %d from %d", t->loop_period, t->loop_start);
    else
        snprintf(out, n, "no");
}

static void machine_words(buffer *b, const records *r)
{
    char bytes[24];
    const carat_machine *m = &r->machine;
    putf(b, "carat %s on %s, %d core%s, %d thread%s, %s", carat_version(), m->cpu, m->cores, m->cores == 1 ? "" : "s",
         m->threads, m->threads == 1 ? "" : "s", human_bytes(bytes, (double)m->memory));
    putf(b, "; reads %.1f GB/s", m->bandwidth * 1e-9);
    if (m->int8_rate > 0)
        putf(b, ", %.2f T int8 operations/s", m->int8_rate * 1e-12);
    putz(b, " (measured just now)");
}

static void model_words(buffer *b, const bench_model *m)
{
    char bytes[24], read[24];
    putz(b, m->path);
    putf(b, ": %s, %s%s%.1f M parameters, %s in memory, %s read per token, backend %s", m->format, m->size,
         m->size[0] ? ", " : "", (double)m->info.parameters * 1e-6, human_bytes(bytes, (double)m->info.weight_bytes),
         human_bytes(read, (double)m->info.decode_bytes), m->backend);
}

void report_head(const records *r, int32_t model, bool texts)
{
    buffer b = {0};
    const char *bold = r->color ? "\033[1m" : "", *plain = r->color ? "\033[0m" : "";
    if (model == 0) {
        machine_words(&b, r);
        putz(&b, "\n");
    }
    model_words(&b, &r->models[model]);
    putz(&b, "\n\n");
    putz(&b, bold);
    if (texts)
        putf(&b, "%-7s %5s %7s %7s %-8s %9s %8s %8s  %-15s %8s  %s", "prompt", "temp", "prompt", "tokens", "stopped",
             "first tok", "tok/s", "of bw", "MiB start/mid/end", "logprob", "loops");
    else
        putf(&b, "%-20s %10s %9s %12s", "test", "tok/s", "spread", "of machine");
    putz(&b, plain);
    putz(&b, "\n");
    buffer_print(&b);
    buffer_free(&b);
}

void report_live(const records *r, int32_t i)
{
    const row *w = &r->rows[i];
    const carat_bench_text *t = &w->text;
    buffer b = {0};
    char share[16], memory[48], loops[48];
    percent(share, sizeof share, w->share);
    if (w->is_text) {
        mib(memory, sizeof memory, t);
        loop_words(loops, sizeof loops, t);
        putf(&b, "%-7s %5g %7d %7d %-8s %6.0f ms %8.1f %8s  %-17s %8.3f  %s\n", t->name, t->temperature,
             t->prompt_tokens, t->tokens, stops[t->stop], t->ttft_s * 1e3, w->tok_s, share, memory, t->mean_logprob,
             loops);
    } else {
        putf(&b, "%-20s %10.1f %9.1f %12s\n", w->test, w->tok_s, w->spread, share);
    }
    buffer_print(&b);
    buffer_free(&b);
}

static bool greedy_loops(const records *r, int32_t model)
{
    for (int32_t i = 0; i < r->n_rows; i++)
        if (r->rows[i].model == model && r->rows[i].is_text && r->rows[i].text.loops &&
            r->rows[i].text.temperature <= 0)
            return true;
    return false;
}

static const char loop_note[] = "Greedy text of a small base model falls into loops: that is the model's doing, not "
                                "the engine's. How likely the exact path\n"
                                "finds each text (logprob, mean per token) is the check on the engine: garbage would "
                                "be unlikely, a loop is very likely.\n";

void report_tail(const records *r, int32_t model)
{
    const carat_perplexity *q = &r->models[model].quality;
    buffer b = {0};
    if (q->tokens > 0)
        putf(&b, "\nperplexity %.3f +- %.3f on the text that carat ships (%zu tokens scored, %.0f tok/s)\n", q->ppl,
             q->std_error, q->tokens, q->tok_s);
    if (greedy_loops(r, model))
        putz(&b, loop_note);
    buffer_print(&b);
    buffer_free(&b);
}

/* ---- JSON ---- */

static void json_model(buffer *b, const char *key, const bench_model *m)
{
    json_open(b, key, '{');
    json_str(b, "path", m->path);
    json_str(b, "format", m->format);
    json_str(b, "size", m->size);
    json_uint(b, "parameters", m->info.parameters);
    json_uint(b, "file_bytes", m->info.file_bytes);
    json_uint(b, "weight_bytes", m->info.weight_bytes);
    json_uint(b, "decode_bytes", m->info.decode_bytes);
    if (m->quality.tokens > 0) {
        json_real(b, "perplexity", m->quality.ppl);
        json_real(b, "perplexity_stderr", m->quality.std_error);
        json_int(b, "perplexity_tokens", (int64_t)m->quality.tokens);
    }
    json_close(b, '}');
}

static void json_row(buffer *b, const records *r, const row *w)
{
    const carat_bench_text *t = &w->text;
    json_open(b, NULL, '{');
    json_str(b, "test", w->test);
    json_str(b, "status", "ok");
    json_str(b, "model", r->models[w->model].path);
    json_real(b, "tok_s", w->tok_s);
    json_open(b, "samples", '[');
    for (int32_t i = 0; i < w->n_samples; i++)
        json_real(b, NULL, w->samples[i]);
    json_close(b, ']');
    json_real(b, "spread", w->spread);
    json_real(b, "share", w->share > 0 ? w->share : NAN); /* null: unknown */
    json_uint(b, "rss", w->rss);
    if (!w->is_text) {
        json_int(b, "prompt", w->fixed.prompt);
        json_int(b, "generate", w->fixed.generate);
        json_int(b, "depth", w->fixed.depth);
        json_int(b, "batch", w->fixed.batch);
        json_bool(b, "exact", w->fixed.exact);
        json_close(b, '}');
        return;
    }
    json_str(b, "name", t->name);
    json_str(b, "prompt", t->prompt);
    json_real(b, "temperature", t->temperature);
    json_uint(b, "seed", r->seed);
    json_int(b, "prompt_tokens", t->prompt_tokens);
    json_int(b, "tokens", t->tokens);
    json_str(b, "stop", stops[t->stop]);
    json_real(b, "ttft_s", t->ttft_s);
    json_uint(b, "rss_start", t->rss_start);
    json_uint(b, "rss_middle", t->rss_middle);
    json_uint(b, "rss_end", t->rss_end);
    json_real(b, "mean_logprob", t->mean_logprob);
    json_bool(b, "loops", t->loops);
    json_int(b, "loop_period", t->loop_period);
    json_int(b, "loop_start", t->loop_start);
    json_text(b, "text", t->text ? t->text : "", t->text_len);
    json_close(b, '}');
}

void report_json(buffer *b, const records *r)
{
    const bench_model *first = &r->models[0];
    json_open(b, NULL, '{');
    json_open(b, "machine", '{');
    json_str(b, "cpu", r->machine.cpu);
    json_int(b, "cores", r->machine.cores);
    json_int(b, "threads", r->machine.threads);
    json_uint(b, "memory", r->machine.memory);
    json_real(b, "bandwidth", r->machine.bandwidth > 0 ? r->machine.bandwidth : NAN);
    json_real(b, "int8_rate", r->machine.int8_rate > 0 ? r->machine.int8_rate : NAN);
    json_close(b, '}');
    json_open(b, "engine", '{');
    json_str(b, "name", "carat");
    json_str(b, "version", carat_version());
    json_str(b, "backend", first->backend_name);
    json_str(b, "isa", first->isa);
    json_close(b, '}');
    json_model(b, "model", first);
    json_open(b, "models", '[');
    for (int32_t i = 0; i < r->n_models; i++)
        json_model(b, NULL, &r->models[i]);
    json_close(b, ']');
    json_open(b, "runs", '[');
    for (int32_t i = 0; i < r->n_rows; i++)
        json_row(b, r, &r->rows[i]);
    json_close(b, ']');
    json_real(b, "perplexity", first->quality.tokens > 0 ? first->quality.ppl : NAN);
    json_real(b, "perplexity_stderr", first->quality.tokens > 0 ? first->quality.std_error : NAN);
    json_close(b, '}');
}

/* ---- CSV and Markdown ---- */

static void csv_field(buffer *b, const char *s)
{
    putz(b, "\"");
    for (; *s; s++)
        put(b, *s == '"' ? "\"\"" : s, *s == '"' ? 2 : 1);
    putz(b, "\"");
}

static void as_csv(buffer *b, const records *r)
{
    putz(b, "model,test,tok_s,spread,share,samples,prompt_tokens,tokens,stop,ttft_s,rss_start,rss_middle,rss_end,mean_"
            "logprob,loops,"
            "bandwidth\n");
    for (int32_t i = 0; i < r->n_rows; i++) {
        const row *w = &r->rows[i];
        const carat_bench_text *t = &w->text;
        csv_field(b, r->models[w->model].path);
        putf(b, ",%s,%.4f,%.4f,%.4f,%d,", w->test, w->tok_s, w->spread, w->share, w->n_samples);
        if (w->is_text)
            putf(b, "%d,%d,%s,%.6f,%zu,%zu,%zu,%.5f,%s,", t->prompt_tokens, t->tokens, stops[t->stop], t->ttft_s,
                 t->rss_start, t->rss_middle, t->rss_end, t->mean_logprob, t->loops ? "yes" : "no");
        else
            putf(b, "%d,%d,,,,,%zu,,,", w->fixed.prompt, w->fixed.generate, w->rss);
        putf(b, "%.0f\n", r->machine.bandwidth);
    }
}

static void as_markdown(buffer *b, const records *r)
{
    putz(b, "# carat bench\n\n");
    machine_words(b, r);
    putz(b, "\n");
    for (int32_t m = 0; m < r->n_models; m++) {
        const carat_perplexity *q = &r->models[m].quality;
        bool texts = q->tokens > 0, headed = false;
        putz(b, "\n");
        model_words(b, &r->models[m]);
        putz(b, "\n\n");
        for (int32_t i = 0; i < r->n_rows; i++) {
            const row *w = &r->rows[i];
            const carat_bench_text *t = &w->text;
            char share[16], memory[48], loops[48];
            if (w->model != m)
                continue;
            if (!headed)
                putz(b,
                     texts
                         ? "| prompt | temperature | prompt tokens | tokens | stopped | first token | tok/s | of the "
                           "bandwidth | MiB "
                           "start/middle/end | mean logprob | loops |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
                         : "| test | tok/s | spread | of the machine |\n|---|---|---|---|\n");
            headed = true;
            percent(share, sizeof share, w->share);
            mib(memory, sizeof memory, t);
            loop_words(loops, sizeof loops, t);
            if (w->is_text)
                putf(b, "| %s | %g | %d | %d | %s | %.0f ms | %.1f | %s | %s | %.3f | %s |\n", t->name, t->temperature,
                     t->prompt_tokens, t->tokens, stops[t->stop], t->ttft_s * 1e3, w->tok_s, share, memory,
                     t->mean_logprob, loops);
            else
                putf(b, "| %s | %.1f | %.1f | %s |\n", w->test, w->tok_s, w->spread, share);
        }
        if (texts)
            putf(b, "\nPerplexity %.3f +- %.3f on the text that carat ships (%zu tokens scored).\n", q->ppl,
                 q->std_error, q->tokens);
        if (greedy_loops(r, m)) {
            putz(b, "\n");
            putz(b, loop_note);
        }
    }
}

static const char *suffix(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    return dot && (slash == NULL || dot > slash) ? dot : "";
}

int report_form(const char *path)
{
    const char *s = suffix(path);
    if (strcmp(s, ".html") == 0)
        return fail(EXIT_USAGE, "-o %s: .html is not there yet; .json, .csv and .md are", path);
    if (strcmp(s, ".json") != 0 && strcmp(s, ".csv") != 0 && strcmp(s, ".md") != 0)
        return fail(EXIT_USAGE, "-o %s: expected a file name that ends with .json, .csv or .md", path);
    return -1;
}

int report_save(const records *r, const char *path)
{
    buffer b = {0};
    const char *s = suffix(path);
    if (strcmp(s, ".json") == 0)
        report_json(&b, r);
    else if (strcmp(s, ".csv") == 0)
        as_csv(&b, r);
    else
        as_markdown(&b, r);
    int status = buffer_save(&b, path);
    buffer_free(&b);
    return status;
}
