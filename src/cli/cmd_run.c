/* carat run: a prompt in, text out, as it comes.
 *
 * Text that could be the beginning of a stop string is held back until it is clear that it is not. The text always ends with
 * a newline. A prompt that is not UTF-8 is refused: it is more likely a wrong file than a wish. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/system.h"

enum { DEFAULT_TOKENS = 512 };

struct run {
    const args *a;
    carat_model *m;
    carat_session *s;
    carat_model_info info;
    carat_sampling how;
    carat_logit_bias *bias;
    size_t n_bias;
    char *prompt;
    size_t prompt_len;
    carat_token *ids;
    size_t n_ids;
    char *piece;    /* [text_max] */
    buffer text;    /* all of it */
    size_t shown;   /* bytes of it already printed */
    buffer id_list; /* "2, 818" for --json, or the output of a model without text */
    int32_t prompt_tokens, tokens;
    const char *stop; /* "length", "end", "context", "stop", "interrupted" */
    double ttft_s, tok_s;
};

static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    FILE *f = fopen("/dev/urandom", "rb");
    if (f == NULL || fread(&seed, sizeof seed, 1, f) != 1)
        seed = ct_mix64(ct_now_ns() ^ (uint64_t)getpid() << 32);
    if (f)
        fclose(f);
    return seed >> 32; /* short enough to type again */
}

static void sampling(struct run *r)
{
    const args *a = r->a;
    r->how = carat_sampling_default(r->m);
    r->how.seed = a->has_seed ? a->seed : fresh_seed();
    if (!isnan(a->temp))
        r->how.temperature = a->temp;
    if (a->top_k >= 0)
        r->how.top_k = a->top_k;
    if (!isnan(a->top_p))
        r->how.top_p = a->top_p;
    if (!isnan(a->min_p))
        r->how.min_p = a->min_p;
    if (!isnan(a->repeat_penalty))
        r->how.repeat_penalty = a->repeat_penalty;
    if (!isnan(a->presence_penalty))
        r->how.presence_penalty = a->presence_penalty;
    if (!isnan(a->frequency_penalty))
        r->how.frequency_penalty = a->frequency_penalty;
}

/* --logit-bias ID:B, and for --ignore-eos a bias that no logit outweighs on every token that ends a text. */
static int biases(struct run *r)
{
    size_t ends = 0, n = 0;
    for (carat_token id = 0; r->a->ignore_eos && id < r->info.vocab; id++)
        ends += carat_is_end(r->m, id);
    r->bias = ct_calloc(ends + (size_t)r->a->bias.n + 1, sizeof *r->bias);
    if (r->bias == NULL)
        return fail(EXIT_FAILED, "out of memory");
    for (int32_t i = 0; i < r->a->bias.n; i++) {
        const char *spec = r->a->bias.at[i];
        char *end = NULL;
        long id = strtol(spec, &end, 10);
        double b = *end == ':' ? strtod(end + 1, &end) : NAN;
        if (end == spec || *end != '\0' || !isfinite(b) || fabs(b) > 1e9 || id < 0 || id >= r->info.vocab)
            return fail(EXIT_USAGE, "--logit-bias: expected ID:B with an id from 0 to %d, as in 818:-5, found '%s'",
                        r->info.vocab - 1, spec);
        r->bias[n++] = (carat_logit_bias){(carat_token)id, (float)b};
    }
    for (carat_token id = 0; r->a->ignore_eos && id < r->info.vocab; id++)
        if (carat_is_end(r->m, id))
            r->bias[n++] = (carat_logit_bias){id, -1e9f};
    r->how.bias = r->bias;
    r->how.n_bias = n;
    return -1;
}

static int read_prompt(struct run *r, const char *word)
{
    const args *a = r->a;
    if (a->ids)
        return parse_ids(a->ids, &r->ids, &r->n_ids);
    int status = read_input(a->file, word, &r->prompt, &r->prompt_len);
    if (status >= 0)
        return status;
    bool from_file = a->file || (word && strcmp(word, "-") == 0);
    if (from_file && r->prompt_len > 0 && r->prompt[r->prompt_len - 1] == '\n')
        r->prompt_len -= r->prompt_len > 1 && r->prompt[r->prompt_len - 2] == '\r' ? 2 : 1;
    if (r->prompt_len == 0)
        return fail(EXIT_USAGE, "the prompt is empty");
    size_t sound = utf8_check(r->prompt, r->prompt_len);
    if (sound < r->prompt_len)
        return fail(EXIT_USAGE, "the prompt is not UTF-8: byte %zu is 0x%02x", sound, (unsigned char)r->prompt[sound]);
    return -1;
}

/* Where a stop string begins, or SIZE_MAX; *held: bytes at the end that may be the beginning of one. */
static size_t find_stop(const struct run *r, size_t *held)
{
    const char *text = r->text.data ? r->text.data : "";
    size_t first = SIZE_MAX;
    *held = 0;
    for (int32_t i = 0; i < r->a->stop.n; i++) {
        const char *stop = r->a->stop.at[i];
        size_t n = strlen(stop);
        for (size_t at = r->shown; n > 0 && at + n <= r->text.n && at < first; at++)
            if (memcmp(text + at, stop, n) == 0)
                first = at;
        for (size_t k = n - 1; n > 0 && k > *held; k--)
            if (k <= r->text.n - r->shown && memcmp(text + r->text.n - k, stop, k) == 0)
                *held = k;
    }
    return first;
}

static int show(struct run *r, size_t upto)
{
    size_t from = r->shown;
    if (upto <= from)
        return -1;
    r->shown = upto;
    return r->a->json ? -1 : print_now(r->text.data + from, upto - from);
}

/* What a token adds. Returns -1, or a status; sets r->stop at a stop string. */
static int add(struct run *r, carat_token token)
{
    if (token >= 0 && r->tokens > 0)
        putf(&r->id_list, r->info.has_text || r->a->json ? ", %d" : " %d", token);
    else if (token >= 0)
        putf(&r->id_list, "%d", token);
    if (!r->info.has_text) {
        if (token < 0 || r->a->json)
            return -1;
        char text[16];
        int n = snprintf(text, sizeof text, r->tokens > 0 ? " %d" : "%d", token);
        return print_now(text, (size_t)n);
    }
    size_t held = 0, n = carat_session_text(r->s, token, r->piece, r->info.text_max);
    put(&r->text, r->piece, n);
    size_t stop = find_stop(r, &held);
    if (stop != SIZE_MAX) {
        r->stop = "stop";
        r->text.n = stop;
        return show(r, stop);
    }
    return show(r, r->text.n - (token >= 0 ? held : 0));
}

static int feed(struct run *r, carat_error *e)
{
    carat_prompt_form form = r->a->chat ? CARAT_TURNS : r->a->raw ? CARAT_RAW : CARAT_AUTO;
    carat_status st = r->a->ids ? carat_session_feed(r->s, r->ids, r->n_ids, e)
                                : carat_session_prompt(r->s, r->prompt, r->prompt_len, form, r->a->system, e);
    return st == CARAT_OK ? -1 : fail_error(e, false);
}

static int generate(struct run *r)
{
    carat_error e = {0};
    int64_t most = r->a->max_tokens == -2 ? DEFAULT_TOKENS : r->a->max_tokens;
    uint64_t start = ct_now_ns(), first = 0;
    int status = feed(r, &e);
    if (status >= 0)
        return status;
    r->prompt_tokens = carat_session_length(r->s);
    while (r->stop == NULL) {
        carat_token token = -1;
        if (most >= 0 && r->tokens >= most) {
            r->stop = "length";
            break;
        }
        carat_status st = carat_session_next(r->s, &r->how, &token, &e);
        if (st == CARAT_ECONTEXT || st == CARAT_EINTERRUPTED) {
            r->stop = st == CARAT_ECONTEXT ? "context" : "interrupted";
            break;
        }
        if (st != CARAT_OK)
            return fail_error(&e, false);
        if (first == 0)
            first = ct_now_ns();
        if (carat_is_end(r->m, token)) {
            r->stop = "end";
            break;
        }
        status = add(r, token);
        r->tokens++;
        if (status >= 0)
            return status;
    }
    if (strcmp(r->stop, "stop") != 0)
        status = add(r, -1);
    int32_t steps = r->tokens - 1 + (strcmp(r->stop, "end") == 0);
    r->ttft_s = first ? (double)(first - start) * 1e-9 : 0;
    r->tok_s = first && steps > 0 ? steps / ct_seconds_since(first) : 0;
    return status;
}

static int report(struct run *r)
{
    buffer b = {0};
    json_open(&b, NULL, '{');
    json_text(&b, "text", r->text.data ? r->text.data : "", r->text.n);
    putz(&b, ", \"ids\": [");
    put(&b, r->id_list.data ? r->id_list.data : "", r->id_list.n);
    putz(&b, "]");
    json_int(&b, "prompt_tokens", r->prompt_tokens);
    json_int(&b, "tokens", r->tokens);
    json_str(&b, "stop", r->stop);
    json_real(&b, "ttft_s", r->ttft_s);
    json_real(&b, "tok_s", r->tok_s);
    json_uint(&b, "seed", r->how.seed);
    json_real(&b, "temperature", r->how.temperature);
    json_str(&b, "model", r->info.path);
    json_str(&b, "backend", r->info.backend);
    json_str(&b, "isa", r->info.isa);
    json_int(&b, "threads", r->info.threads);
    json_int(&b, "context", carat_session_context(r->s));
    json_uint(&b, "memory", ct_rss_peak_bytes());
    json_close(&b, '}');
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

static void stats(const struct run *r)
{
    char rss[24], weights[24], session[24];
    fprintf(stderr, "prompt     %d tokens, first token after %.3f s (%.1f tok/s)\n", r->prompt_tokens, r->ttft_s,
            r->ttft_s > 0 ? r->prompt_tokens / r->ttft_s : 0);
    fprintf(stderr, "generated  %d tokens, %.1f tok/s, stopped: %s\n", r->tokens, r->tok_s, r->stop);
    fprintf(stderr, "memory     %s at most, weights %s, session %s reserved for a context of %d\n",
            human_bytes(rss, (double)ct_rss_peak_bytes()), human_bytes(weights, (double)r->info.weight_bytes),
            human_bytes(session, (double)carat_session_bytes(r->s)), carat_session_context(r->s));
    fprintf(stderr, "engine     %s (%s), %d threads, seed %llu\n", r->info.backend, r->info.isa, r->info.threads,
            (unsigned long long)r->how.seed);
}

static int prepare(struct run *r, const char *model)
{
    char path[4096];
    carat_error e = {0};
    int status = model_path(r->a, model, path, sizeof path);
    if (status < 0)
        status = model_open(r->a, path, false, &r->m);
    if (status >= 0)
        return status;
    carat_model_get_info(r->m, &r->info);
    if (!r->info.has_text && r->a->ids == NULL)
        return fail(EXIT_USAGE, "%s has no tokenizer: give it ids, as in --ids \"2 818\"", r->info.path);
    if (!r->info.has_text && (r->a->stop.n > 0 || r->a->chat))
        return fail(EXIT_USAGE, "%s has no tokenizer: there is no text to stop at, and there are no turns",
                    r->info.path);
    sampling(r);
    status = biases(r);
    if (status >= 0)
        return status;
    r->piece = ct_alloc(r->info.text_max + 1);
    carat_session_options o = carat_session_options_default();
    o.context = r->a->context;
    o.kv = r->a->kv;
    o.exact = r->a->exact;
    o.keep_going = keep_going;
    if (r->piece == NULL)
        return fail(EXIT_FAILED, "out of memory");
    return carat_session_create(&r->s, r->m, &o, &e) == CARAT_OK ? -1 : fail_error(&e, false);
}

int cmd_run(args *a)
{
    struct run r = {.a = a};
    const char *model = NULL, *word = NULL;
    int status = -1;
    if (a->file && a->ids)
        return fail(EXIT_USAGE, "-f and --ids exclude each other");
    if (a->ids && (a->chat || a->system))
        return fail(EXIT_USAGE, "--chat and --system need a text, and --ids gives ids");
    if (a->system && a->raw)
        return fail(EXIT_USAGE, "--system needs Gemma's turns, and --raw asks for none");
    for (int32_t i = 0; i < a->stop.n; i++)
        if (a->stop.at[i][0] == '\0')
            return fail(EXIT_USAGE, "--stop: the text is empty");
    status = model_and_text(a, "prompt", a->file || a->ids, &model, &word);
    if (status < 0)
        status = read_prompt(&r, word); /* before the model is loaded: a wrong prompt is told at once */
    if (status < 0)
        status = prepare(&r, model);
    if (status >= 0)
        goto done;
    signals_polled();
    status = generate(&r);
    if (!a->json && r.stop && r.tokens > 0 && (r.text.n == 0 || r.text.data[r.text.n - 1] != '\n') && status < 0)
        status = print_now("\n", 1);
    if (status < 0 && r.text.failed)
        status = fail(EXIT_FAILED, "out of memory for the text");
    if (status < 0 && a->json)
        status = report(&r);
    if (status < 0 && a->stats)
        stats(&r);
    if (status < 0 && a->max_tokens == -2 && strcmp(r.stop, "length") == 0 && isatty(STDERR_FILENO))
        note(a, "stopped after %d tokens; -n asks for more, -n -1 for all there is", DEFAULT_TOKENS);
    if (status < 0 && strcmp(r.stop, "context") == 0)
        note(a, "the context of %d tokens is full: the text ends here; -c asks for a larger one",
             carat_session_context(r.s));
    if (status < 0)
        status = interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
done:
    carat_session_free(r.s);
    carat_model_close(r.m);
    ct_free(r.bias);
    ct_free(r.prompt);
    ct_free(r.ids);
    ct_free(r.piece);
    buffer_free(&r.text);
    buffer_free(&r.id_list);
    return status;
}
