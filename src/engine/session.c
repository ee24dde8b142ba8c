/* A session is a batch of one sequence with its history and a sampler. See session.h; batch.c runs the forward.
 * It also decides how long a context this machine's memory permits, and finds the layer where a NaN was born. */
#include "engine/session.h"

#include <math.h>
#include <string.h>

#include "base/system.h"
#include "engine/session_state.h"

static ct_batch_options batch_options(const ct_gemma *m, const ct_session_options *opt, int32_t context)
{
    int32_t chunk = opt->chunk > 0 ? opt->chunk : ct_chunk_of(m);
    return (ct_batch_options){.sequences = 1,
                              .context = context,
                              .chunk = chunk < context ? chunk : context,
                              .max_out = opt->max_out,
                              .exact = opt->exact,
                              .type_k = opt->type_k,
                              .type_v = opt->type_v};
}

static size_t snapshot_bytes(const ct_gemma *m, const ct_batch_options *o, int32_t snapshots)
{
    size_t slot, bytes;
    int32_t k = o->type_k < 0 ? (int32_t)m->backend->default_kv : o->type_k;
    int32_t v = o->type_v < 0 ? (int32_t)m->backend->default_kv : o->type_v;
    ct_snapshots_plan(m, o->context, o->chunk, (ct_dtype)k, (ct_dtype)v, snapshots, &slot, &bytes);
    return bytes;
}

static size_t host_bytes(const ct_gemma *m, int32_t context, int32_t chunk)
{
    return (size_t)context * (sizeof(int32_t) + 1) + (size_t)chunk * sizeof(ct_batch_row) +
           ct_sampler_bytes(m->cfg.vocab) + sizeof(ct_session);
}

size_t ct_session_need(const ct_gemma *m, const ct_session_options *opt, int32_t context, int32_t threads,
                       size_t *local, size_t *global, size_t *rest)
{
    ct_batch_options o = batch_options(m, opt, context);
    size_t step, host = host_bytes(m, context, o.chunk) + snapshot_bytes(m, &o, opt->snapshots), total;
    total = ct_batch_need(m, &o, threads, local, global, &step);
    if (rest)
        *rest = step + host;
    return ct_add_ok(total, host, &total) ? total : SIZE_MAX;
}

/* The longest context, in whole pages, that needs at most `room` bytes; 0 if not even a page does. */
static int32_t longest_context(ct_need_fn *need, const void *arg, size_t room, int32_t most)
{
    int32_t lo = 0, hi = most / CT_KV_PAGE; /* lo fits, hi + 1 does not or is too long */
    while (lo < hi) {
        int32_t mid = lo + (hi - lo + 1) / 2;
        if (need(arg, mid * CT_KV_PAGE) <= room)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo * CT_KV_PAGE;
}

ct_status ct_context_choose(int32_t *context, const ct_gemma *m, int32_t wanted, ct_need_fn *need, const void *arg,
                            ct_error *err)
{
    int32_t trained = m->cfg.context, want = wanted > 0 ? wanted : trained;
    size_t room = m->backend->memory_free ? m->backend->memory_free() : ct_memory_available();
    if (wanted < 0 || wanted > trained)
        return ct_fail(err, CT_EINVAL, "context",
                       "expected a context of at most the %d positions the model was trained for, "
                       "found %d",
                       trained, wanted);
    if (wanted == 0)
        room -= room / 8; /* who did not ask for so much leaves something to others */
    size_t bytes = need(arg, want);
    *context = want;
    if (room == 0 || bytes <= room)
        return CT_OK;
    int32_t fits = longest_context(need, arg, room, want);
    if (wanted > 0 || fits == 0)
        return ct_fail(err, CT_ENOMEM, "context",
                       "a context of %d positions needs %.2f GB, but %.2f GB of memory are free: "
                       "%d positions would fit%s",
                       want, (double)bytes * 1e-9, (double)room * 1e-9, fits,
                       fits > 0 ? "; or take a smaller type of cache" : "");
    *context = fits;
    return CT_OK;
}

struct plan {
    const ct_gemma *model;
    const ct_session_options *opt;
    int32_t threads;
};

static size_t plan_need(const void *arg, int32_t context)
{
    const struct plan *p = arg;
    return ct_session_need(p->model, p->opt, context, p->threads, NULL, NULL, NULL);
}

ct_status ct_session_create(ct_session **out, const ct_gemma *m, ct_pool *pool, const ct_session_options *opt,
                            ct_error *err)
{
    ct_session_options o = opt ? *opt : (ct_session_options){.type_k = -1, .type_v = -1};
    int32_t context = 0;
    *out = NULL;
    struct plan plan = {m, &o, ct_pool_threads(pool)};
    ct_status st = ct_context_choose(&context, m, o.context, plan_need, &plan, err);
    if (st == CT_ENOMEM && o.snapshots < 0) { /* nobody asked for these: they only save time */
        o.snapshots = 0;
        st = ct_context_choose(&context, m, o.context, plan_need, &plan, err);
    }
    if (st != CT_OK)
        return st;
    ct_batch_options bo = batch_options(m, &o, context);
    ct_session *s = ct_calloc(1, sizeof *s);
    if (s == NULL)
        return ct_fail(err, CT_ENOMEM, NULL, "no memory for a session");
    s->model = m;
    s->context = context;
    s->chunk = bo.chunk;
    s->ids = ct_alloc((size_t)context * sizeof *s->ids);
    s->exact = o.exact;
    s->screen_all = o.screen_all;
    s->replay = -1;
    s->roles = ct_alloc((size_t)context);
    s->rows = ct_alloc((size_t)s->chunk * sizeof *s->rows);
    if (!s->ids || !s->roles || !s->rows) {
        st = ct_fail(err, CT_ENOMEM, NULL, "no memory for a history of %d tokens", context);
        goto done;
    }
    if ((st = ct_sampler_create(&s->sampler, m->cfg.vocab, err)) != CT_OK)
        goto done;
    st = ct_batch_create(&s->batch, m, pool, &bo, err);
    if (st == CT_OK)
        st = ct_snapshots_create(&s->snapshots, ct_batch_cache(s->batch), o.snapshots, err);
    s->bytes = st == CT_OK ? ct_batch_bytes(s->batch) + host_bytes(m, context, s->chunk) + s->snapshots.bytes : 0;
done:
    if (st == CT_OK)
        *out = s;
    else
        ct_session_free(s);
    return st;
}

void ct_session_free(ct_session *s)
{
    if (s == NULL)
        return;
    ct_snapshots_free(&s->snapshots);
    ct_batch_free(s->batch);
    ct_sampler_free(s->sampler);
    ct_free(s->ids);
    ct_free(s->roles);
    ct_free(s->rows);
    ct_free(s);
}

struct to_position {
    ct_logits_fn *fn;
    void *arg;
    int32_t start; /* position of the step's first row */
    ct_session *s;
};

static ct_status pass_on(void *arg, int32_t row, const float *logits)
{
    const struct to_position *p = arg;
    if (p->s->screen_all) {
        p->s->heads++;
        p->s->scored += p->s->screen.scored;
    }
    return p->fn(p->arg, p->start + row, logits);
}

ct_status ct_session_replay_some(ct_session *s, int32_t most, ct_error *err)
{
    int32_t to = ct_batch_length(s->batch, 0);
    while (s->replay >= 0 && s->replay < to && most > 0) {
        int32_t at = s->replay, n = 1;
        while (n < s->chunk && n < most && at + n < to && s->roles[at + n] == s->roles[at])
            n++;
        ct_status st = ct_batch_replay(s->batch, 0, at, s->ids + at, n, s->roles[at] != 0, err);
        if (st != CT_OK)
            return st;
        s->replay += n;
        most -= n;
    }
    if (s->replay >= to) {
        ct_kvcache_rebuilt(ct_batch_cache(s->batch), 0, s->replay_low);
        s->replay = -1;
        ct_session_mark(s); /* who came back here once may come again */
    }
    return CT_OK;
}

/* One step of n <= chunk rows. The history follows the cache, whatever the step returns. */
static ct_status step(ct_session *s, const int32_t *ids, int32_t n, bool decode, bool want_last,
                      ct_logits_fn *on_logits, void *arg, ct_screen *screen, ct_error *err)
{
    ct_status st = ct_session_replay_some(s, INT32_MAX, err);
    if (st != CT_OK)
        return st;
    struct to_position p = {on_logits, arg, ct_batch_length(s->batch, 0), s};
    for (int32_t i = 0; i < n; i++)
        s->rows[i] = (ct_batch_row){
            .token = ids[i], .decode = decode, .want = on_logits || (want_last && i == n - 1), .screen = screen};
    st = ct_batch_step(s->batch, s->rows, n, on_logits ? pass_on : NULL, &p, err);
    int32_t stored = ct_batch_length(s->batch, 0) - p.start;
    if (stored > 0) {
        memcpy(s->ids + p.start, ids, (size_t)stored * sizeof *ids);
        memset(s->roles + p.start, decode, (size_t)stored);
        int32_t even = (p.start + stored) / CT_SNAPSHOT_EVERY * CT_SNAPSHOT_EVERY;
        if (even > p.start)
            ct_snapshots_take(&s->snapshots, even);
        s->last_decoded = decode;
        s->has_logits = st == CT_OK && s->rows[n - 1].want;
        s->screened = screen != NULL;
    }
    return st;
}

ct_status ct_session_feed(ct_session *s, const int32_t *ids, size_t n, bool decode, ct_logits_fn *on_logits, void *arg,
                          const volatile int *stop, ct_error *err)
{
    int32_t used = ct_batch_length(s->batch, 0), vocab = s->model->cfg.vocab;
    if (n == 0)
        return ct_fail(err, CT_EINVAL, NULL, "expected at least one token to feed, found none");
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return ct_fail(err, CT_EINVAL, NULL, "expected token ids from 0 to %d, found %d at index %zu", vocab - 1,
                           ids[i], i);
    if (n > (size_t)(s->context - used))
        return ct_fail(err, CT_ECONTEXT, "context",
                       "%zu tokens do not fit: %d of the context's %d positions are used%s", n, used, s->context,
                       s->context < s->model->cfg.context ? "; try a longer context" : "");
    int32_t most = decode ? 1 : s->chunk;
    for (size_t done = 0; done < n;) {
        if (stop && *stop && done > 0)
            return ct_fail(err, CT_EINTERRUPTED, NULL, "stopped after %zu of %zu tokens", done, n);
        int32_t now = n - done < (size_t)most ? (int32_t)(n - done) : most;
        s->screen = (ct_screen){.top = CT_SCREEN_TOP};
        ct_status st = step(s, ids + done, now, decode, done + (size_t)now == n, on_logits, arg,
                            on_logits && s->screen_all ? &s->screen : NULL, err);
        if (st != CT_OK)
            return st;
        done += (size_t)now;
    }
    return CT_OK;
}

/* What the head must give for a choice after n tokens; false: everything. */
static bool reach(ct_session *s, const ct_sampling *how, int32_t n, ct_screen *o, int32_t *also)
{
    *o = (ct_screen){.also = also};
    bool some = ct_sample_reach(s->sampler, how, s->ids, (size_t)n, CT_SCREEN_MAX, &o->top, also, &o->n_also);
    o->top = o->top > CT_SCREEN_TOP ? o->top : CT_SCREEN_TOP;
    return some;
}

ct_status ct_session_decode(ct_session *s, int32_t token, ct_error *err)
{
    int32_t n = ct_batch_length(s->batch, 0);
    ct_screen *screen = NULL;
    if (s->expects && n < s->context) {
        s->ids[n] = token; /* the choice will see it in the history */
        if (reach(s, &s->expected, n + 1, &s->screen, s->also))
            screen = &s->screen;
    }
    ct_status st = step(s, &token, 1, true, true, NULL, NULL, screen, err);
    if (st == CT_OK) {
        s->heads++;
        s->scored += screen ? screen->scored : s->model->cfg.vocab;
    }
    return st;
}

void ct_session_expect(ct_session *s, const ct_sampling *how)
{
    s->expects = how != NULL && s->model->rough.w.rows > 0;
    if (how)
        s->expected = *how;
}

void ct_session_heads(const ct_session *s, int64_t *heads, int64_t *scored)
{
    *heads = s->heads;
    *scored = s->scored;
}

/* All logits, where some are rough. */
static ct_status unscreen(ct_session *s, ct_error *err)
{
    ct_status st = s->screened && s->has_logits ? ct_batch_unscreen(s->batch, err) : CT_OK;
    if (st == CT_OK && s->screened && s->has_logits)
        s->scored += s->model->cfg.vocab;
    s->screened = false;
    s->has_logits = s->has_logits && st == CT_OK;
    return st;
}

/* Do the logits serve a choice after n tokens? */
static bool serves(ct_session *s, const ct_sampling *how, int32_t n)
{
    ct_screen now;
    return !s->screened ||
           (reach(s, how, n, &now, s->other) && now.top <= s->screen.top && now.n_also == s->screen.n_also &&
            memcmp(s->other, s->also, (size_t)now.n_also * sizeof *s->also) == 0);
}

ct_status ct_session_sample(ct_session *s, const ct_sampling *how, int32_t *token, double *logprob, ct_error *err)
{
    int32_t n = ct_batch_length(s->batch, 0);
    if (s->has_logits && !serves(s, how, n)) {
        ct_status st = unscreen(s, err);
        if (st != CT_OK)
            return st;
    }
    const float *logits = s->has_logits ? ct_batch_logits(s->batch, -1) : NULL;
    if (!s->has_logits)
        return ct_fail(err, CT_EINVAL, NULL, "expected a prompt before the first token is chosen, found none");
    if (logits == NULL)
        return ct_fail(err, CT_EIO, s->model->backend->name, "the logits could not be fetched from the device");
    ct_status st = ct_sample(s->sampler, logits, how, s->ids, (size_t)n, (uint64_t)n, token, logprob, err);
    if (st == CT_ENUMERIC && isnan(ct_logsumexp(logits, s->model->cfg.vocab)))
        return ct_batch_explain(s->batch, 0, s->ids[n - 1], s->last_decoded, err);
    return st;
}

const float *ct_session_logits(ct_session *s)
{
    return unscreen(s, NULL) == CT_OK && s->has_logits ? ct_batch_logits(s->batch, -1) : NULL;
}
int32_t ct_session_length(const ct_session *s) { return ct_batch_length(s->batch, 0); }
int32_t ct_session_chunk(const ct_session *s) { return s->chunk; }
int32_t ct_session_context(const ct_session *s) { return s->context; }
const int32_t *ct_session_ids(const ct_session *s) { return s->ids; }
size_t ct_session_bytes(const ct_session *s) { return s->bytes; }

/* The history is cut to n positions whose window the rings have lost: from where must they be made again? */
static void rewind_to(ct_session *s, int32_t n)
{
    const ct_config *c = &s->model->cfg;
    int32_t locals = 0, back = n, snapshot = ct_snapshots_last(&s->snapshots, n);
    for (int32_t i = 0; i < c->layers; i++)
        locals += !c->global[i];
    if ((int64_t)locals * (c->window - 1) < n)
        back = locals * (c->window - 1);
    int32_t from = n - back;
    s->replay_low = from > 0 ? n - (c->window - 1) : 0;
    if (snapshot > from) {
        from = snapshot;
        s->replay_low = snapshot - (c->window - 1);
        if (!ct_snapshots_restore(&s->snapshots, snapshot)) /* the device is gone, as the next step will say */
            from = s->replay_low = 0;
    }
    ct_kvcache_rewind(ct_batch_cache(s->batch), 0, n);
    s->replay = from;
    if (from == n)
        ct_session_replay_some(s, 0, NULL); /* runs nothing: notes that nothing is due */
}

int32_t ct_session_keep(ct_session *s, const int32_t *ids, size_t n)
{
    int32_t common = 0, length = ct_session_length(s);
    ct_kvcache *kc = ct_batch_cache(s->batch);
    while (common < length && (size_t)common < n && s->ids[common] == ids[common])
        common++;
    if (n > 0 && (size_t)common == n)
        common--;
    s->has_logits = false; /* of another token now, or about to be */
    if (common == 0)
        ct_session_reset(s);
    if (common == length || common == 0)
        return common;
    ct_snapshots_cut(&s->snapshots, common);
    if (s->replay < 0 && ct_kvcache_whole(kc, 0, common))
        ct_kvcache_cut(kc, 0, common);
    else
        rewind_to(s, common);
    return common;
}

int32_t ct_session_behind(const ct_session *s) { return s->replay < 0 ? 0 : ct_session_length(s) - s->replay; }
ct_status ct_session_catch_up(ct_session *s, ct_error *err) { return ct_session_replay_some(s, s->chunk, err); }

void ct_session_mark(ct_session *s)
{
    if (s->replay < 0)
        ct_snapshots_take(&s->snapshots, ct_session_length(s));
}

void ct_session_reset(ct_session *s)
{
    ct_batch_cut(s->batch, 0, 0);
    ct_snapshots_cut(&s->snapshots, 0);
    s->replay = -1;
    s->has_logits = false;
}
