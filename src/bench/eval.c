/* Quality: log-probabilities of a text, perplexity, and the divergence of one model, type or path from another.
 *
 * Log-softmax is taken over the whole vocabulary in f64. The vocabulary is cut into fixed slices whose sums are added in
 * order, so figures do not depend on the number of threads. KL keeps the base's logits of one chunk's scored positions at a
 * time (255 x 262144 floats, 267 MB), never those of a whole text. */
#include "bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"

enum { SLICE = 8192, MAX_SLICES = 64, MAX_OUT = 64 };

/* ---- log-softmax with a pool ---- */

struct soft {
    const float *a, *b; /* [V]; b for KL only */
    int32_t v;
    int32_t slice;
    double za, zb; /* log-sum-exp of each */
    struct {
        double max_a, max_b, sum_a, sum_b;
        int32_t at_a, at_b;
    } part[MAX_SLICES];
};

static void slice_range(const struct soft *s, int32_t task, int32_t *from, int32_t *to)
{
    *from = task * s->slice;
    *to = *from + s->slice < s->v ? *from + s->slice : s->v;
}

static void slice_lse(const float *x, int32_t from, int32_t to, double *max, double *sum, int32_t *at)
{
    float m = x[from];
    int32_t best = from;
    bool sound = !isnan(m);
    for (int32_t i = from + 1; i < to; i++) {
        sound &= !isnan(x[i]);
        if (x[i] > m) {
            m = x[i];
            best = i;
        }
    }
    double total = 0;
    if (isinf(m) && m < 0)
        total = 0; /* every id of the slice is masked */
    else
        for (int32_t i = from; i < to; i++)
            total += exp((double)x[i] - (double)m);
    *max = m;
    *sum = sound ? total : NAN;
    *at = best;
}

static void lse_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    struct soft *s = arg;
    int32_t from, to;
    slice_range(s, task, &from, &to);
    slice_lse(s->a, from, to, &s->part[task].max_a, &s->part[task].sum_a, &s->part[task].at_a);
    if (s->b)
        slice_lse(s->b, from, to, &s->part[task].max_b, &s->part[task].sum_b, &s->part[task].at_b);
}

static void kl_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    struct soft *s = arg;
    int32_t from, to;
    slice_range(s, task, &from, &to);
    double sum = 0;
    for (int32_t i = from; i < to; i++) {
        double la = (double)s->a[i] - s->za, lb = (double)s->b[i] - s->zb;
        double p = exp(la);
        if (p > 0) /* ids that the base masks contribute nothing, whatever the other says */
            sum += p * (la - lb);
    }
    s->part[task].sum_a = sum;
}

static int32_t soft_init(struct soft *s, const float *a, const float *b, int32_t v)
{
    s->a = a;
    s->b = b;
    s->v = v;
    s->slice = SLICE;
    while ((v + s->slice - 1) / s->slice > MAX_SLICES)
        s->slice *= 2;
    return (v + s->slice - 1) / s->slice;
}

/* log-sum-exp and argmax of a (and b) in *s. */
static void soft_lse(struct soft *s, ct_pool *pool, const float *a, const float *b, int32_t v, int32_t *top_a,
                     int32_t *top_b)
{
    int32_t n = soft_init(s, a, b, v);
    ct_pool_run(pool, n, lse_task, s);
    double max_a = -INFINITY, max_b = -INFINITY, sum_a = 0, sum_b = 0;
    for (int32_t i = 0; i < n; i++) {
        if (s->part[i].max_a > max_a) {
            max_a = s->part[i].max_a;
            *top_a = s->part[i].at_a;
        }
        if (b && s->part[i].max_b > max_b) {
            max_b = s->part[i].max_b;
            *top_b = s->part[i].at_b;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        if (s->part[i].sum_a != 0)
            sum_a += s->part[i].sum_a * exp(s->part[i].max_a - max_a);
        if (b && s->part[i].sum_b != 0)
            sum_b += s->part[i].sum_b * exp(s->part[i].max_b - max_b);
    }
    s->za = max_a + log(sum_a);
    s->zb = b ? max_b + log(sum_b) : 0;
}

static ct_status not_a_number(ct_error *err, int32_t pos)
{
    return ct_fail(err, CT_ENUMERIC, "logits", "logits at position %d are not numbers: a weight holds NaN or infinity",
                   pos);
}

/* ---- walking a text in chunks ---- */

struct walk { /* collects log-probabilities of the text's own tokens */
    ct_pool *pool;
    const int32_t *ids; /* of the chunk */
    size_t n;
    int32_t v;
    double nll, nll2, worst;
    size_t scored, weakest;
    float *keep;       /* KL, base pass: [n][V] logits are stored here, else NULL */
    const float *base; /* KL, tested pass: what the base pass stored, else NULL */
    int32_t first;     /* position of row 0 of keep and base */
    double *kl;        /* KL, tested pass: one per position */
    size_t n_kl, agree, agree64;
    double nll_base;
    struct soft soft;
    ct_error *err;
};

static void count_nll(struct walk *w, double nll, size_t index)
{
    w->nll += nll;
    w->nll2 += nll * nll;
    if (w->scored == 0 || nll > w->worst) {
        w->worst = nll;
        w->weakest = index;
    }
    w->scored++;
}

static ct_status best_of(const float *logits, int32_t v, double z, ct_top *top, size_t n, ct_error *err);

/* The same likeliest tokens, as many as a screened head promises, in the same order? */
static bool same_top(const float *a, const float *b, int32_t v)
{
    ct_top x[CT_SCREEN_TOP], y[CT_SCREEN_TOP];
    bool same = best_of(a, v, 0, x, CT_SCREEN_TOP, NULL) == CT_OK && best_of(b, v, 0, y, CT_SCREEN_TOP, NULL) == CT_OK;
    for (int32_t i = 0; i < CT_SCREEN_TOP; i++)
        same = same && x[i].id == y[i].id;
    return same;
}

static ct_status on_logits(void *arg, int32_t pos, const float *logits)
{
    struct walk *w = arg;
    size_t next = (size_t)pos + 1;
    int32_t top = 0, top_base = 0;
    if (next >= w->n)
        return CT_OK;
    if (w->keep) {
        memcpy(w->keep + (size_t)(pos - w->first) * (size_t)w->v, logits, (size_t)w->v * sizeof *logits);
        return CT_OK;
    }
    if (w->base == NULL) {
        soft_lse(&w->soft, w->pool, logits, NULL, w->v, &top, &top_base);
        if (!isfinite(w->soft.za))
            return not_a_number(w->err, pos);
        count_nll(w, w->soft.za - (double)logits[w->ids[next]], next);
        return CT_OK;
    }
    const float *base = w->base + (size_t)(pos - w->first) * (size_t)w->v;
    soft_lse(&w->soft, w->pool, base, logits, w->v, &top_base, &top);
    if (!isfinite(w->soft.za) || !isfinite(w->soft.zb))
        return not_a_number(w->err, pos);
    int32_t n = soft_init(&w->soft, base, logits, w->v);
    ct_pool_run(w->pool, n, kl_task, &w->soft);
    double kl = 0;
    for (int32_t i = 0; i < n; i++)
        kl += w->soft.part[i].sum_a;
    w->kl[w->n_kl++] = kl > 0 ? kl : 0; /* rounding can leave -1e-16 */
    w->agree += top == top_base;
    w->agree64 += same_top(base, logits, w->v);
    w->nll_base += w->soft.za - (double)base[w->ids[next]];
    count_nll(w, w->soft.zb - (double)logits[w->ids[next]], next);
    return CT_OK;
}

static ct_status session_for(ct_session **s, const ct_subject *who, size_t context, bool exact, int32_t type_k,
                             int32_t type_v, bool screened, ct_error *err)
{
    int32_t longest = who->model->cfg.context;
    if (context > INT32_MAX / 2 || (longest > 0 && context > (size_t)longest)) {
        *s = NULL;
        return ct_fail(err, CT_ECONTEXT, "context", "%zu tokens are more than the %d this model was trained for",
                       context, longest);
    }
    ct_session_options o = {
        .context = (int32_t)context, .exact = exact, .type_k = type_k, .type_v = type_v, .max_out = MAX_OUT};
    if (screened) { /* more rows at once would be read in full */
        o.max_out = 1;
        o.screen_all = true;
    }
    return ct_session_create(s, who->model, who->pool, &o, err);
}

static ct_status check_ids(const ct_subject *who, const int32_t *ids, size_t n, ct_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= who->model->cfg.vocab)
            return ct_fail(err, CT_EINVAL, "ids", "id %d at place %zu is not in the vocabulary (0 to %d)", ids[i],
                           i + 1, who->model->cfg.vocab - 1);
    return CT_OK;
}

static int by_logprob(const void *a, const void *b)
{
    const ct_top *x = a, *y = b;
    return x->logprob != y->logprob ? (x->logprob < y->logprob) - (x->logprob > y->logprob)
                                    : (x->id > y->id) - (x->id < y->id);
}

/* The n likeliest, best first, ties by id: candidates are collected in top itself, which is kept a sorted prefix. Beyond
 * INSERT of them moving the tail costs more than sorting the whole vocabulary. */
static ct_status best_of(const float *logits, int32_t v, double z, ct_top *top, size_t n, ct_error *err)
{
    enum { INSERT = 256 };
    size_t have = 0;
    if (n > INSERT) {
        ct_top *all = ct_alloc((size_t)v * sizeof *all);
        if (all == NULL)
            return ct_fail(err, CT_ENOMEM, "top", "out of memory for the log-probabilities of %d tokens", v);
        for (int32_t id = 0; id < v; id++)
            all[id] = (ct_top){id, (double)logits[id] - z};
        qsort(all, (size_t)v, sizeof *all, by_logprob);
        have = n < (size_t)v ? n : (size_t)v;
        memcpy(top, all, have * sizeof *all);
        ct_free(all);
    } else {
        for (int32_t id = 0; id < v && n > 0; id++) {
            double lp = (double)logits[id] - z;
            if (have == n && lp <= top[n - 1].logprob)
                continue;
            size_t at = have < n ? have++ : n - 1;
            for (; at > 0 && top[at - 1].logprob < lp; at--)
                top[at] = top[at - 1];
            top[at] = (ct_top){id, lp};
        }
    }
    for (; have < n; have++)
        top[have] = (ct_top){-1, -INFINITY};
    return CT_OK;
}

ct_status ct_score(const ct_subject *who, const int32_t *ids, size_t n, size_t from, bool exact, int32_t type_k,
                   int32_t type_v, const ct_job *job, double *mean_logprob, size_t *weakest, double *nll, ct_top *top,
                   size_t n_top, ct_error *err)
{
    ct_session *s = NULL;
    const int32_t v = who->model->cfg.vocab;
    struct walk w = {.pool = who->pool, .ids = ids, .n = n, .v = v, .err = err};
    if (n == 0 || from < 1)
        return ct_fail(err, CT_EINVAL, "ids",
                       "expected at least one id and a first scored place of 1 or more, found %zu and %zu", n, from);
    ct_status st = check_ids(who, ids, n, err);
    if (st == CT_OK)
        st = session_for(&s, who, n, exact, type_k, type_v, false, err);
    if (st != CT_OK)
        goto done;
    size_t before = from - 1 < n ? from - 1 : n; /* ids whose successors are not scored */
    st = ct_feed_polled(s, ids, before, false, NULL, NULL, job, err);
    if (st == CT_OK)
        st = ct_feed_polled(s, ids + before, n - before, false, on_logits, &w, job, err);
    if (st != CT_OK)
        goto done;
    const float *last = ct_session_logits(s);
    int32_t best = 0;
    soft_lse(&w.soft, who->pool, last, NULL, v, &best, &best);
    if (!isfinite(w.soft.za)) {
        st = not_a_number(err, (int32_t)n - 1);
        goto done;
    }
    if (top && (st = best_of(last, v, w.soft.za, top, n_top, err)) != CT_OK)
        goto done;
    if (mean_logprob)
        *mean_logprob = w.scored ? -w.nll / (double)w.scored : 0;
    if (weakest)
        *weakest = w.weakest;
    if (nll)
        *nll = w.nll;
done:
    ct_session_free(s);
    return st;
}

/* Tokenizes and cuts: chunk i is ids[i * c .. (i + 1) * c), its first id replaced by <bos>. */
static ct_status cut(const ct_subject *who, const char *text, size_t n, const ct_eval_options *opt, ct_ids *ids,
                     int32_t *chunks, ct_error *err)
{
    const int32_t c = opt->context;
    if (who->vocab == NULL)
        return ct_fail(err, CT_EINVAL, "model", "quality needs a text, and this model has no tokenizer");
    if (c < 8 || c > who->model->cfg.context || opt->chunks < 0)
        return ct_fail(err, CT_EINVAL, "context", "expected a context of 8 to %d and 0 or more chunks, found %d and %d",
                       who->model->cfg.context, c, opt->chunks);
    ct_status st = ct_tokenize(who->vocab, text, n, true, false, ids, err);
    if (st != CT_OK)
        return st;
    size_t whole = ids->n / (size_t)c;
    if (whole < 2)
        return ct_fail(err, CT_EINVAL, "text",
                       "expected a text of at least %d tokens (two chunks of %d), found %zu; use a longer "
                       "text or a smaller -c",
                       2 * c, c, ids->n);
    *chunks = opt->chunks > 0 && (size_t)opt->chunks < whole ? opt->chunks : (int32_t)whole;
    for (int32_t i = 0; i < *chunks; i++)
        ids->ids[(size_t)i * (size_t)c] = ct_vocab_bos(who->vocab);
    return CT_OK;
}

/* One chunk: the first half without logits, the rest with them; the last id only as a target. */
static ct_status score_chunk(ct_session *s, struct walk *w, const int32_t *ids, int32_t c, bool decode,
                             const ct_job *job, ct_error *err)
{
    const size_t first = (size_t)c / 2;
    ct_session_reset(s);
    w->ids = ids;
    w->n = (size_t)c;
    w->first = (int32_t)first;
    ct_status st = ct_feed_polled(s, ids, first, decode, NULL, NULL, job, err);
    if (st == CT_OK)
        st = ct_feed_polled(s, ids + first, (size_t)c - 1 - first, decode, on_logits, w, job, err);
    return st;
}

ct_status ct_eval_perplexity(const ct_subject *who, const char *text, size_t n, const ct_eval_options *opt,
                             const ct_job *job, ct_perplexity *out, ct_error *err)
{
    *out = (ct_perplexity){0};
    ct_ids ids = {0};
    ct_session *s = NULL;
    int32_t chunks = 0;
    struct walk w = {.pool = who->pool, .v = who->model->cfg.vocab, .err = err};
    ct_status st = cut(who, text, n, opt, &ids, &chunks, err);
    if (st == CT_OK)
        st = session_for(&s, who, (size_t)opt->context, opt->exact, opt->type_k, opt->type_v, false, err);
    if (st != CT_OK)
        goto done;
    uint64_t start = ct_now_ns();
    for (int32_t i = 0; i < chunks && st == CT_OK; i++) {
        ct_job_progress(job, "perplexity", i, chunks);
        st = score_chunk(s, &w, ids.ids + (size_t)i * (size_t)opt->context, opt->context, opt->decode_path, job, err);
    }
    if (st != CT_OK)
        goto done;
    ct_job_progress(job, "perplexity", chunks, chunks);
    double count = (double)w.scored, mean = w.nll / count, variance = w.nll2 / count - mean * mean;
    out->seconds = ct_seconds_since(start);
    out->ppl = exp(mean);
    out->std_error = variance > 0 && w.scored > 1 ? sqrt(variance / (count - 1)) * out->ppl : 0;
    out->tokens = w.scored;
    out->chunks = chunks;
    out->tok_s = (double)chunks * (double)(opt->context - 1) / out->seconds;
done:
    ct_session_free(s);
    ct_ids_deinit(&ids);
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

ct_status ct_eval_kl(const ct_subject *base, const ct_subject *who, const char *text, size_t n,
                     const ct_eval_options *opt, const ct_job *job, ct_kl *out, ct_error *err)
{
    *out = (ct_kl){0};
    ct_ids ids = {0};
    ct_session *sb = NULL, *s = NULL;
    int32_t chunks = 0;
    size_t bytes = 0, rows = 0;
    float *keep = NULL;
    double *kl = NULL;
    const int32_t v = who->model->cfg.vocab, c = opt->context;
    ct_status st = CT_OK;
    if (base->model->cfg.vocab != v) {
        st = ct_fail(err, CT_EINVAL, "base",
                     "expected two models of one vocabulary, found %d tokens in the base and %d in the "
                     "model",
                     base->model->cfg.vocab, v);
        goto done;
    }
    st = cut(who, text, n, opt, &ids, &chunks, err);
    if (st != CT_OK)
        goto done;
    rows = (size_t)(c - 1 - c / 2);
    if (!ct_mul_ok(rows * sizeof(float), (size_t)v, &bytes) || (keep = ct_pages_alloc(bytes, true)) == NULL ||
        (kl = ct_alloc(rows * (size_t)chunks * sizeof *kl)) == NULL) {
        st = ct_fail(err, CT_ENOMEM, "kl",
                     "out of memory for the base's logits of one chunk (%zu bytes); try a smaller -c",
                     rows * (size_t)v * sizeof(float));
        goto done;
    }
    st = session_for(&sb, base, (size_t)c, true, -1, -1, false, err);
    if (st == CT_OK)
        st = session_for(&s, who, (size_t)c, opt->exact, opt->type_k, opt->type_v, who->model->rough.w.rows > 0, err);
    struct walk wb = {.pool = base->pool, .v = v, .keep = keep, .err = err};
    struct walk w = {.pool = who->pool, .v = v, .base = keep, .kl = kl, .err = err};
    for (int32_t i = 0; i < chunks && st == CT_OK; i++) {
        const int32_t *chunk = ids.ids + (size_t)i * (size_t)c;
        ct_job_progress(job, "kl", i, chunks);
        st = score_chunk(sb, &wb, chunk, c, false, job, err);
        if (st == CT_OK)
            st = score_chunk(s, &w, chunk, c, opt->decode_path, job, err);
    }
    if (st != CT_OK)
        goto done;
    ct_job_progress(job, "kl", chunks, chunks);
    double count = (double)w.n_kl, sum = 0;
    for (size_t i = 0; i < w.n_kl; i++)
        sum += kl[i];
    qsort(kl, w.n_kl, sizeof *kl, by_value);
    size_t rank = (size_t)ceil(0.99 * count);
    out->kl_mean = sum / count;
    out->kl_p99 = kl[rank > 0 ? rank - 1 : 0];
    out->top1_agree = (double)w.agree / count;
    out->top64_agree = (double)w.agree64 / count;
    int64_t heads, scored;
    ct_session_heads(s, &heads, &scored);
    out->scored = heads > 0 ? (double)scored / (double)heads : v;
    out->ppl_base = exp(w.nll_base / count);
    out->ppl = exp(w.nll / count);
    out->tokens = w.n_kl;
done:
    ct_session_free(s);
    ct_session_free(sb);
    if (keep)
        ct_pages_free(keep, bytes);
    ct_free(kl);
    ct_ids_deinit(&ids);
    return st;
}
