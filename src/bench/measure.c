/* Speed: fixed lengths (pp, tg) and whole texts as users generate them.
 *
 * Fixed lengths feed a fixed stream of ids, no sampling, one untimed warm-up. The stored depth is fed before the
 * clock starts; between samples the cache is cut back to it. Of a decode test the share is taken in pairs: a quarter of a second
 * of decoding, then, with the clock stopped, a look at the bandwidth. */
#include "bench/bench.h"

#include <string.h>

#include "base/rng.h"
#include "base/system.h"
#include "engine/batch.h"

enum { RSS_EVERY = 8 };

/* ---- what a token costs ---- */

static double layer_span(const ct_config *cfg, int32_t layer, int32_t positions)
{
    return !cfg->global[layer] && positions > cfg->window ? cfg->window : positions;
}

double ct_decode_bytes_at(const ct_gemma *m, int32_t type_k, int32_t type_v, int32_t positions)
{
    const ct_config *cfg = &m->cfg;
    ct_dtype k = type_k < 0 ? m->backend->default_kv : (ct_dtype)type_k;
    ct_dtype v = type_v < 0 ? m->backend->default_kv : (ct_dtype)type_v;
    double per_position = (double)m->backend->kv_page_bytes(k, v, cfg->kv_heads, cfg->head_dim) / CT_KV_PAGE;
    double bytes = (double)m->decode_bytes;
    for (int32_t i = 0; i < cfg->layers; i++)
        bytes += per_position * layer_span(cfg, i, positions);
    return bytes;
}

double ct_head_saved(const ct_gemma *m, double heads, double scored)
{
    if (m->rough.w.rows == 0 || heads * m->cfg.vocab <= scored)
        return 0;
    double head = (double)ct_head_of(m)->buf.bytes;
    double saved = heads * (head - (double)m->rough.w.buf.bytes) - scored / m->cfg.embed_rows * head;
    return saved > 0 ? saved : 0;
}

double ct_prompt_ops(const ct_gemma *m, int32_t n, int32_t depth)
{
    const ct_config *cfg = &m->cfg;
    double q = (double)cfg->heads * cfg->head_dim, kv = (double)cfg->kv_heads * cfg->head_dim, d = cfg->dim;
    double linear = d * (2 * q + 2 * kv + 3 * (double)cfg->ffn); /* per layer and row */
    double macs = (double)cfg->vocab * d;                        /* the head, for the last row */
    for (int32_t i = 0; i < cfg->layers; i++)
        macs += n * (linear + 2 * q * layer_span(cfg, i, depth + n / 2));
    return 2 * macs;
}

/* ---- fixed lengths ---- */

struct fixed {
    const ct_subject *who;
    const ct_bench_case *test;
    const ct_job *job;
    ct_batch *b;
    ct_batch_row *rows; /* [max_rows] */
    int32_t max_rows;
    ct_reader *reader; /* NULL: prompts, or nobody asks for shares, or: */
    double steady;     /* a device's own bandwidth, which does not wander as memory does that others share */
    ct_screen *screen; /* [batch] */
    ct_ids text;       /* a screened head's speed depends on what it reads, and after noise everything is likely */
    ct_error *err;
};

/* The fixed stream of ids, pseudo-random or a text: other ones for every sequence, so that no two rows are alike. */
static int32_t id_at(const struct fixed *f, int32_t seq, int32_t pos)
{
    if (f->text.n > 0)
        return f->text.ids[((size_t)seq * 61 + (size_t)pos) % f->text.n];
    return (int32_t)(ct_rng_u64(1, (uint64_t)seq, (uint64_t)pos) % (uint64_t)f->who->model->cfg.vocab);
}

/* Feeds every sequence as prompt rows up to length `to`, as many rows at a time as a step takes. */
static ct_status feed_all(struct fixed *f, int32_t to)
{
    int32_t n = 0;
    ct_status st = CT_OK;
    for (int32_t q = 0; q < f->test->batch; q++) {
        for (int32_t pos = ct_batch_length(f->b, q); pos < to && st == CT_OK; pos++) {
            f->rows[n++] = (ct_batch_row){.seq = q, .token = id_at(f, q, pos), .want = pos + 1 == to};
            if (n < ct_chunk_of(f->who->model))
                continue;
            st = ct_job_poll(f->job, f->err);
            if (st == CT_OK)
                st = ct_batch_step(f->b, f->rows, n, NULL, NULL, f->err);
            n = 0;
        }
        if (st != CT_OK)
            return st;
    }
    return n > 0 ? ct_batch_step(f->b, f->rows, n, NULL, NULL, f->err) : CT_OK;
}

/* Every sequence at the depth again: cut back where the rings still have what that needs, else fed anew. */
static ct_status prepare(struct fixed *f)
{
    for (int32_t q = 0; q < f->test->batch; q++)
        ct_batch_cut(f->b, q, f->test->depth);
    return feed_all(f, f->test->depth);
}

/* Bytes that step i of a decode test reads: the weights once and every sequence's cache. */
static double step_bytes(const struct fixed *f, int32_t i)
{
    const ct_bench_case *t = f->test;
    double weights = (double)f->who->model->decode_bytes;
    double one = ct_decode_bytes_at(f->who->model, t->type_k, t->type_v, t->depth + i + 1);
    return weights + t->batch * (one - weights);
}

#define SLICE_S 0.25 /* of decoding between two looks at the bandwidth, which take a tenth of that */

/* One sample: its seconds, and for decode the share of the bandwidth: bytes read over those that could have been read, by
 * the mean of the looks before and after each slice. */
static ct_status go(struct fixed *f, double *seconds, double *share)
{
    const ct_bench_case *t = f->test;
    ct_status st = CT_OK;
    double before = f->reader ? ct_reader_now(f->reader, f->who->pool) : 0, done = 0, bytes = 0, could = 0;
    *seconds = 0;
    uint64_t start = ct_now_ns();
    if (t->prompt > 0)
        st = feed_all(f, t->depth + t->prompt);
    for (int32_t i = 0; i < t->generate && st == CT_OK; i++) {
        for (int32_t q = 0; q < t->batch; q++) {
            f->screen[q] = (ct_screen){.top = CT_SCREEN_TOP};
            f->rows[q] = (ct_batch_row){.seq = q,
                                        .token = id_at(f, q, t->depth + i),
                                        .decode = true,
                                        .want = true,
                                        .screen = f->who->model->rough.w.rows > 0 ? &f->screen[q] : NULL};
        }
        st = ct_job_poll(f->job, f->err);
        if (st == CT_OK)
            st = ct_batch_step(f->b, f->rows, t->batch, NULL, NULL, f->err);
        double slice = f->reader ? ct_seconds_since(start) : 0;
        bytes += step_bytes(f, i) - (f->text.n > 0 ? ct_head_saved(f->who->model, 1, f->screen[0].scored) : 0);
        if (f->reader && (slice >= SLICE_S || i + 1 == t->generate)) {
            double after = ct_reader_now(f->reader, f->who->pool);
            could += slice * (before + after) / 2;
            done += slice;
            before = after;
            start = ct_now_ns();
        }
    }
    *seconds = f->reader ? done : ct_seconds_since(start);
    if (f->steady > 0)
        could = *seconds * f->steady;
    *share = could > 0 ? bytes / could : 0;
    return st;
}

static ct_status check_case(const ct_bench_case *t, ct_error *err)
{
    if (t->prompt < 0 || t->generate < 0 || (t->prompt == 0) == (t->generate == 0))
        return ct_fail(err, CT_EINVAL, "bench",
                       "expected a prompt length or a number of tokens to generate, found %d and %d", t->prompt,
                       t->generate);
    if (t->depth < 0 || t->batch < 1 || t->repeats < 1)
        return ct_fail(err, CT_EINVAL, "bench",
                       "expected a depth of 0 or more, a batch and repeats of 1 or more, found %d, %d, %d", t->depth,
                       t->batch, t->repeats);
    if (t->prompt > (1 << 24) || t->generate > (1 << 24) || t->depth > (1 << 24) || t->repeats > 10000 ||
        t->batch > 4096)
        return ct_fail(
            err, CT_EINVAL, "bench",
            "lengths beyond 16 million tokens, batches beyond 4096 and repeats beyond 10000 are not measured");
    return CT_OK;
}

ct_status ct_bench_run(const ct_subject *who, double bandwidth, double int8_rate, const ct_bench_case *test,
                       const ct_job *job, double *samples, double *share, ct_error *err)
{
    struct fixed f = {.who = who, .test = test, .job = job, .err = err};
    ct_status st = check_case(test, err);
    if (st != CT_OK)
        return st;
    const char *what = test->prompt > 0 ? "pp" : "tg";
    const int32_t each = test->prompt > 0 ? test->prompt : test->generate;
    if (test->generate > 0 && share && bandwidth > 0 && who->model->backend->read_rate)
        f.steady = bandwidth;
    else if (test->generate > 0 && share && bandwidth > 0)
        f.reader = ct_reader_create(who->pool);
    const int32_t chunk = ct_chunk_of(who->model);
    f.max_rows = test->batch > chunk ? test->batch : chunk;
    ct_batch_options o = {.sequences = test->batch,
                          .context = test->depth + each,
                          .chunk = chunk,
                          .max_rows = f.max_rows,
                          .exact = test->exact,
                          .type_k = test->type_k,
                          .type_v = test->type_v};
    st = ct_batch_create(&f.b, who->model, who->pool, &o, err);
    if (st != CT_OK)
        goto done;
    f.rows = ct_calloc((size_t)f.max_rows, sizeof *f.rows);
    f.screen = ct_calloc((size_t)test->batch, sizeof *f.screen);
    if (who->model->rough.w.rows > 0 && who->vocab) {
        size_t n;
        const char *text = ct_quality_text(&n);
        if ((st = ct_tokenize(who->vocab, text, n, true, false, &f.text, err)) != CT_OK)
            goto done;
    }
    if (f.rows == NULL || f.screen == NULL) {
        st = ct_fail(err, CT_ENOMEM, "bench", "out of memory for %d rows", f.max_rows);
        goto done;
    }
    for (int32_t r = 0; r <= test->repeats && st == CT_OK; r++) { /* 0 is the warm-up */
        double seconds = 0, part = 0;
        ct_job_progress(job, what, r, test->repeats + 1);
        st = prepare(&f);
        if (st == CT_OK)
            st = go(&f, &seconds, &part);
        if (st != CT_OK || r == 0)
            continue;
        samples[r - 1] = (double)test->batch * each / seconds;
        if (test->prompt > 0 && int8_rate > 0)
            part = test->batch * ct_prompt_ops(who->model, test->prompt, test->depth) / seconds / int8_rate;
        if (share)
            share[r - 1] = part;
    }
    if (st == CT_OK)
        ct_job_progress(job, what, test->repeats + 1, test->repeats + 1);
done:
    ct_reader_free(f.reader);
    ct_ids_deinit(&f.text);
    ct_free(f.screen);
    ct_free(f.rows);
    ct_batch_free(f.b);
    return st;
}

/* ---- the main job ---- */

static const struct {
    const char *name, *prompt;
} prompts[] = {
    {"short", "Write a haiku about artificial intelligence:"},
    {"medium", "Explain the water cycle:"},
    {"long", "Write a detailed step-by-step recipe for chocolate chip cookies:"},
};

size_t ct_bench_prompts(void) { return sizeof prompts / sizeof prompts[0]; }

struct text {
    char *data;
    size_t n, room;
};

static ct_status text_piece(struct text *t, ct_detok *d, const ct_vocab *v, int32_t id, ct_error *err)
{
    size_t most = ct_detok_max(v);
    if (t->room - t->n < most + 1) {
        size_t room = t->room * 2 + most + 1024;
        char *grown = ct_realloc(t->data, room);
        if (grown == NULL)
            return ct_fail(err, CT_ENOMEM, "text", "out of memory for a text of %zu bytes", room);
        t->data = grown;
        t->room = room;
    }
    t->n += id < 0 ? ct_detok_flush(d, t->data + t->n, t->room - t->n - 1)
                   : ct_detok_next(d, v, id, false, t->data + t->n, t->room - t->n - 1);
    t->data[t->n] = '\0';
    return CT_OK;
}

/* Tokenizes as `run` would: Gemma's turns where the model knows them, raw text elsewhere. */
static ct_status prompt_ids(const ct_subject *who, const char *prompt, ct_ids *ids, ct_error *err)
{
    if (ct_vocab_has_turns(who->vocab))
        return ct_turn_user(who->vocab, NULL, prompt, strlen(prompt), true, ids, err);
    return ct_tokenize(who->vocab, prompt, strlen(prompt), true, false, ids, err);
}

static ct_status generate(const ct_subject *who, double bandwidth, int32_t max_tokens, const ct_sampling *how,
                          const ct_job *job, ct_session *s, ct_ids *ids, size_t *rss, ct_bench_text *out, ct_error *err)
{
    double bytes = 0, chosen = 0;
    uint64_t start = ct_now_ns(), first = start;
    int32_t token = -1;
    ct_status st = prompt_ids(who, out->prompt, ids, err);
    if (st != CT_OK)
        return st;
    out->prompt_tokens = (int32_t)ids->n;
    st = ct_feed_polled(s, ids->ids, ids->n, false, NULL, NULL, job, err);
    out->stop = 0;
    for (int32_t i = 0; i < max_tokens && st == CT_OK; i++) {
        if (i > 0) { /* a token's forward runs when the one after it is wanted */
            if (ct_session_length(s) >= ct_session_context(s)) {
                out->stop = 2;
                break;
            }
            bytes += ct_decode_bytes_at(who->model, -1, -1, ct_session_length(s) + 1);
            ct_session_expect(s, how);
            st = ct_session_decode(s, token, err);
        }
        if (st == CT_OK)
            st = ct_session_sample(s, how, &token, &chosen, err);
        if (i == 0)
            first = ct_now_ns();
        if (st != CT_OK)
            break;
        if (i % RSS_EVERY == 0)
            rss[i / RSS_EVERY] = ct_rss_bytes();
        if (ct_vocab_is_end(who->vocab, token)) {
            out->stop = 1;
            break;
        }
        st = ct_ids_push(ids, token, err);
        out->tokens++;
        ct_job_progress(job, out->name, out->tokens, max_tokens);
        if (st == CT_OK)
            st = ct_job_poll(job, err);
    }
    if (st != CT_OK)
        return st;
    /* The token that ended the text took a step like the others, though it is not counted as text. */
    int32_t steps = out->tokens - 1 + (out->stop == 1);
    double seconds = ct_seconds_since(first);
    int64_t heads, scored;
    ct_session_heads(s, &heads, &scored);
    bytes -= ct_head_saved(who->model, (double)heads, (double)scored);
    out->ttft_s = (double)(first - start) * 1e-9;
    out->tok_s = steps > 0 ? steps / seconds : 0;
    out->share = steps > 0 && bandwidth > 0 ? bytes / seconds / bandwidth : 0;
    return CT_OK;
}

ct_status ct_bench_prompt(const ct_subject *who, double bandwidth, size_t i, double temperature, int32_t max_tokens,
                          uint64_t seed, const ct_sampling *how, const ct_job *job, ct_bench_text *out, ct_error *err)
{
    *out = (ct_bench_text){0};
    if (i >= ct_bench_prompts() || max_tokens < 1)
        return ct_fail(err, CT_EINVAL, "bench", "expected a prompt below %zu and 1 or more tokens, found %zu and %d",
                       ct_bench_prompts(), i, max_tokens);
    if (who->vocab == NULL)
        return ct_fail(err, CT_EINVAL, "model",
                       "the main job needs a model with a tokenizer; this one can be measured at fixed "
                       "lengths");
    out->name = prompts[i].name;
    out->prompt = prompts[i].prompt;
    out->temperature = temperature;
    ct_sampling sampling = *how;
    sampling.temperature = temperature;
    sampling.seed = seed;
    ct_ids ids = {0};
    ct_session *s = NULL;
    struct text text = {0};
    ct_detok detok = {0};
    size_t *rss = ct_calloc((size_t)max_tokens / RSS_EVERY + 1, sizeof *rss);
    ct_session_options o = {.type_k = -1, .type_v = -1};
    int64_t want = (int64_t)max_tokens + 256; /* the prompts are shorter than 64 tokens */
    o.context = want < who->model->cfg.context ? (int32_t)want : who->model->cfg.context;
    ct_status st = CT_OK;
    if (rss == NULL) {
        st = ct_fail(err, CT_ENOMEM, "bench", "out of memory for the figures of %d tokens", max_tokens);
        goto done;
    }
    st = ct_session_create(&s, who->model, who->pool, &o, err);
    if (st != CT_OK)
        goto done;
    out->rss_start = ct_rss_bytes();
    st = generate(who, bandwidth, max_tokens, &sampling, job, s, &ids, rss, out, err);
    if (st != CT_OK)
        goto done;
    out->rss_end = ct_rss_bytes();
    out->rss_middle = rss[out->tokens / 2 / RSS_EVERY];
    const int32_t *made = ids.ids + out->prompt_tokens;
    for (int32_t k = 0; k < out->tokens && st == CT_OK; k++)
        st = text_piece(&text, &detok, who->vocab, made[k], err);
    if (st == CT_OK)
        st = text_piece(&text, &detok, who->vocab, -1, err);
    if (st != CT_OK)
        goto done;
    out->loops = ct_find_loop(made, (size_t)out->tokens, &out->loop_period, &out->loop_start);
    ct_session_free(s); /* its cache goes before the scoring session's comes */
    s = NULL;
    if (out->tokens > 0)
        st = ct_score(who, ids.ids, ids.n, (size_t)out->prompt_tokens, true, -1, -1, job, &out->mean_logprob, NULL,
                      NULL, NULL, 0, err);
    if (st == CT_OK) {
        out->text = text.data;
        out->text_len = text.n;
        text.data = NULL;
    }
done:
    ct_session_free(s);
    ct_ids_deinit(&ids);
    ct_free(text.data);
    ct_free(rss);
    return st;
}
