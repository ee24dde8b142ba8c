/* Text out of a session: which model and sampling the options ask for, stop strings, and the figures of a text.
 *
 * Text that could be the beginning of a stop string is held back until it is clear that it is not. Where the prompt comes from,
 * and what follows, is the commands' (cmd_run.c, cmd_chat.c). */
#include "cli/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/system.h"

uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    FILE *f = fopen("/dev/urandom", "rb");
    if (f == NULL || fread(&seed, sizeof seed, 1, f) != 1)
        seed = ct_mix64(ct_now_ns() ^ (uint64_t)getpid() << 32);
    if (f)
        fclose(f);
    return seed >> 32; /* short enough to type again */
}

static void sampling(generation *g)
{
    const args *a = g->a;
    g->how = carat_sampling_default(g->m);
    g->how.seed = a->has_seed ? a->seed : fresh_seed();
    if (!isnan(a->temp))
        g->how.temperature = a->temp;
    if (a->top_k >= 0)
        g->how.top_k = a->top_k;
    if (!isnan(a->top_p))
        g->how.top_p = a->top_p;
    if (!isnan(a->min_p))
        g->how.min_p = a->min_p;
    if (!isnan(a->repeat_penalty))
        g->how.repeat_penalty = a->repeat_penalty;
    if (!isnan(a->presence_penalty))
        g->how.presence_penalty = a->presence_penalty;
    if (!isnan(a->frequency_penalty))
        g->how.frequency_penalty = a->frequency_penalty;
}

/* --logit-bias ID:B, and for --ignore-eos a bias that no logit outweighs on every token that ends a text. */
static int biases(generation *g)
{
    size_t ends = 0, n = 0;
    for (carat_token id = 0; g->a->ignore_eos && id < g->info.vocab; id++)
        ends += carat_is_end(g->m, id);
    g->bias = ct_calloc(ends + (size_t)g->a->bias.n + 1, sizeof *g->bias);
    if (g->bias == NULL)
        return fail(EXIT_FAILED, "out of memory for the biases of %zu tokens", ends);
    for (int32_t i = 0; i < g->a->bias.n; i++) {
        const char *spec = g->a->bias.at[i];
        char *end = NULL;
        long id = strtol(spec, &end, 10);
        double b = *end == ':' ? strtod(end + 1, &end) : NAN;
        if (end == spec || *end != '\0' || !isfinite(b) || fabs(b) > 1e9 || id < 0 || id >= g->info.vocab)
            return fail(EXIT_USAGE, "--logit-bias: expected ID:B with an id from 0 to %d, as in 818:-5, found '%s'",
                        g->info.vocab - 1, spec);
        g->bias[n++] = (carat_logit_bias){(carat_token)id, (float)b};
    }
    for (carat_token id = 0; g->a->ignore_eos && id < g->info.vocab; id++)
        if (carat_is_end(g->m, id))
            g->bias[n++] = (carat_logit_bias){id, -1e9f};
    g->how.bias = g->bias;
    g->how.n_bias = n;
    return -1;
}

int generation_check(const args *a)
{
    if (a->system && a->raw)
        return fail(EXIT_USAGE, "--system needs Gemma's turns, and --raw asks for none");
    for (int32_t i = 0; i < a->stop.n; i++)
        if (a->stop.at[i][0] == '\0')
            return fail(EXIT_USAGE, "--stop: the text is empty");
    return -1;
}

int generation_model(generation *g, const char *word)
{
    char path[4096];
    int status = model_path(g->a, word, path, sizeof path);
    if (status < 0)
        status = model_open(g->a, path, false, &g->m);
    if (status < 0)
        carat_model_get_info(g->m, &g->info);
    return status;
}

int generation_session(generation *g)
{
    carat_error e = {0};
    sampling(g);
    int status = biases(g);
    if (status >= 0)
        return status;
    g->piece = ct_alloc(g->info.text_max + 1);
    if (g->piece == NULL)
        return fail(EXIT_FAILED, "out of memory for a piece of text");
    carat_session_options o = carat_session_options_default();
    o.context = g->a->context;
    o.kv = g->a->kv;
    o.exact = g->a->exact;
    o.keep_going = keep_going;
    o.progress = progress_show;
    o.arg = &g->bar;
    progress_init(&g->bar, g->a);
    return carat_session_create(&g->s, g->m, &o, &e) == CARAT_OK ? -1 : fail_error(&e, false);
}

void generation_close(generation *g)
{
    carat_session_free(g->s);
    carat_model_close(g->m);
    ct_free(g->bias);
    ct_free(g->piece);
    buffer_free(&g->text);
    buffer_free(&g->id_list);
}

/* Where a stop string begins, or SIZE_MAX; *held: bytes at the end that may be the beginning of one. */
static size_t find_stop(const generation *g, size_t *held)
{
    const char *text = g->text.data ? g->text.data : "";
    size_t first = SIZE_MAX;
    *held = 0;
    for (int32_t i = 0; i < g->a->stop.n; i++) {
        const char *stop = g->a->stop.at[i];
        size_t n = strlen(stop);
        for (size_t at = g->shown; n > 0 && at + n <= g->text.n && at < first; at++)
            if (memcmp(text + at, stop, n) == 0)
                first = at;
        for (size_t k = n - 1; n > 0 && k > *held; k--)
            if (k <= g->text.n - g->shown && memcmp(text + g->text.n - k, stop, k) == 0)
                *held = k;
    }
    return first;
}

static int show(generation *g, size_t upto)
{
    size_t from = g->shown;
    if (upto <= from)
        return -1;
    g->shown = upto;
    return g->a->json ? -1 : print_now(g->text.data + from, upto - from);
}

/* What a token adds. Returns -1, or a status; sets g->stop at a stop string. */
static int add(generation *g, carat_token token)
{
    if (token >= 0 && g->tokens > 0)
        putf(&g->id_list, g->info.has_text || g->a->json ? ", %d" : " %d", token);
    else if (token >= 0)
        putf(&g->id_list, "%d", token);
    if (!g->info.has_text) {
        if (token < 0 || g->a->json)
            return -1;
        char text[16];
        int n = snprintf(text, sizeof text, g->tokens > 0 ? " %d" : "%d", token);
        return print_now(text, (size_t)n);
    }
    size_t held = 0, n = carat_session_text(g->s, token, g->piece, g->info.text_max);
    put(&g->text, g->piece, n);
    size_t stop = find_stop(g, &held);
    if (stop != SIZE_MAX) {
        g->stop = "stop";
        g->text.n = stop;
        return show(g, stop);
    }
    return show(g, g->text.n - (token >= 0 ? held : 0));
}

static void begin(generation *g)
{
    buffer_free(&g->text);
    buffer_free(&g->id_list);
    g->text = g->id_list = (buffer){0};
    g->shown = 0;
    g->tokens = 0;
    g->stop = NULL;
    g->ttft_s = g->tok_s = 0;
}

int generation_text(generation *g, int64_t most, uint64_t started)
{
    carat_error e = {0};
    uint64_t first = 0;
    int status = -1;
    begin(g);
    while (g->stop == NULL) {
        carat_token token = -1;
        if (most >= 0 && g->tokens >= most) {
            g->stop = "length";
            break;
        }
        carat_status st = carat_session_next(g->s, &g->how, &token, &e);
        if (st == CARAT_ECONTEXT || st == CARAT_EINTERRUPTED) {
            g->stop = st == CARAT_ECONTEXT ? "context" : "interrupted";
            break;
        }
        if (st != CARAT_OK)
            return fail_error(&e, false);
        if (first == 0)
            first = ct_now_ns();
        if (carat_is_end(g->m, token)) {
            g->stop = "end";
            break;
        }
        status = add(g, token);
        g->tokens++;
        if (status >= 0)
            return status;
    }
    if (strcmp(g->stop, "stop") != 0)
        status = add(g, -1);
    else
        carat_session_text(g->s, -1, g->piece, g->info.text_max); /* half a character must not reach the next text */
    int32_t steps = g->tokens - 1 + (strcmp(g->stop, "end") == 0);
    g->ttft_s = first ? (double)(first - started) * 1e-9 : 0;
    g->tok_s = first && steps > 0 ? steps / ct_seconds_since(first) : 0;
    if (status < 0 && g->text.failed)
        status = fail(EXIT_FAILED, "out of memory for the text");
    return status;
}

int generation_newline(const generation *g)
{
    if (g->a->json || g->stop == NULL || g->tokens == 0 || (g->text.n > 0 && g->text.data[g->text.n - 1] == '\n'))
        return -1;
    return print_now("\n", 1);
}

void generation_json(const generation *g, buffer *b)
{
    json_text(b, "text", g->text.data ? g->text.data : "", g->text.n);
    putz(b, ", \"ids\": [");
    put(b, g->id_list.data ? g->id_list.data : "", g->id_list.n);
    putz(b, "]");
    json_int(b, "prompt_tokens", g->prompt_tokens);
    json_int(b, "tokens", g->tokens);
    json_str(b, "stop", g->stop);
    json_real(b, "ttft_s", g->ttft_s);
    json_real(b, "tok_s", g->tok_s);
    json_uint(b, "seed", g->how.seed);
    json_real(b, "temperature", g->how.temperature);
    int64_t heads, scored;
    carat_session_heads(g->s, &heads, &scored);
    if (heads > 0)
        json_real(b, "head_rows", (double)scored / (double)heads);
    json_str(b, "model", g->info.path);
    json_str(b, "backend", g->info.backend);
    json_str(b, "isa", g->info.isa);
    json_int(b, "threads", g->info.threads);
    json_int(b, "context", carat_session_context(g->s));
    json_uint(b, "memory", ct_rss_peak_bytes());
}

void generation_stats(const generation *g)
{
    char rss[24], weights[24], session[24];
    fprintf(stderr, "prompt     %d tokens, first token after %.3f s (%.1f tok/s)\n", g->prompt_tokens, g->ttft_s,
            g->ttft_s > 0 ? g->prompt_tokens / g->ttft_s : 0);
    fprintf(stderr, "generated  %d tokens, %.1f tok/s, stopped: %s\n", g->tokens, g->tok_s, g->stop);
    int64_t heads, scored;
    carat_session_heads(g->s, &heads, &scored);
    if (heads > 0)
        fprintf(stderr, "head       %.0f of %d rows in full, %.1f %%\n", (double)scored / (double)heads, g->info.vocab,
                100.0 * (double)scored / (double)heads / g->info.vocab);
    fprintf(stderr, "memory     %s at most, weights %s, session %s reserved for a context of %d\n",
            human_bytes(rss, (double)ct_rss_peak_bytes()), human_bytes(weights, (double)g->info.weight_bytes),
            human_bytes(session, (double)carat_session_bytes(g->s)), carat_session_context(g->s));
    fprintf(stderr, "engine     %s (%s), %d threads, seed %llu\n", g->info.backend, g->info.isa, g->info.threads,
            (unsigned long long)g->how.seed);
}
