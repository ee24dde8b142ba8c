/* Timelines: histories, who gets rows in a step, and the choice of tokens, a task for each sequence. The forward is batch.c's.
 *
 * Reading is lazy by one: the row of the last id runs when its successor is asked for, in a prompt as in decoding. That makes
 * both the same case, and nothing of a step (logits above all) has to outlive it. */
#include "engine/schedule.h"

#include <math.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/session.h"

struct timeline {
    bool used;
    int32_t n;      /* ids, read or waiting */
    int32_t *ids;   /* [context + 1]: a last token may be chosen that no longer fits, as in a session */
    uint8_t *roles; /* [context + 1] 1 = a decode row */
};

/* What a step works out for an item. */
struct share {
    int32_t rows;    /* given to it */
    bool chooses;    /* its last id is among them */
    int32_t logits;  /* then: which row of the logits */
    ct_status chose; /* what the sampler said */
    bool nan;        /* because the logits are no numbers */
    ct_error err;
};

struct ct_schedule {
    const ct_gemma *model;
    ct_pool *pool;
    ct_batch *batch;
    int32_t sequences, context, max_rows, chunk;
    struct timeline *timelines; /* [sequences] */
    int32_t *ids;               /* [sequences][context + 1] */
    uint8_t *roles;             /* likewise */
    struct share *shares;       /* [sequences] of the items of a step */
    int32_t *turn;              /* [sequences] the items that choose, in order of their logits */
    uint8_t *named;             /* [sequences] by an item of this step; zero between steps */
    ct_batch_row *rows;         /* [max_rows] */
    ct_sampler **samplers;      /* [threads] */
    int32_t n_samplers;
    size_t bytes;
};

/* ---- life ---- */

static ct_batch_options batch_options(const ct_schedule_options *o, int32_t context)
{
    int32_t rows = o->rows > 0 ? o->rows : o->sequences > CT_CHUNK ? o->sequences : CT_CHUNK;
    int32_t chunk = rows < CT_CHUNK ? rows : CT_CHUNK;
    return (ct_batch_options){.sequences = o->sequences,
                              .context = context,
                              .chunk = chunk < context ? chunk : context,
                              .max_rows = rows,
                              .max_out = o->sequences,
                              .exact = o->exact,
                              .type_k = o->type_k,
                              .type_v = o->type_v};
}

struct plan {
    const ct_gemma *model;
    const ct_schedule_options *opt;
    int32_t threads;
};

static size_t need(const void *arg, int32_t context)
{
    const struct plan *p = arg;
    ct_batch_options o = batch_options(p->opt, context);
    size_t each = ((size_t)context + 1) * (sizeof(int32_t) + 1) + sizeof(struct timeline) + sizeof(struct share) + 8;
    size_t batch = ct_batch_need(p->model, &o, p->threads, NULL, NULL, NULL), total;
    size_t own = sizeof(ct_schedule) + (size_t)o.sequences * each + (size_t)o.max_rows * sizeof(ct_batch_row) +
                 (size_t)p->threads * ct_sampler_bytes(p->model->cfg.vocab);
    return ct_add_ok(batch, own, &total) ? total : SIZE_MAX;
}

static ct_status allocate(ct_schedule *s, ct_error *err)
{
    size_t n = (size_t)s->sequences, each = (size_t)s->context + 1;
    s->timelines = ct_calloc(n, sizeof *s->timelines);
    s->shares = ct_calloc(n, sizeof *s->shares);
    s->turn = ct_calloc(n, sizeof *s->turn);
    s->named = ct_calloc(n, 1);
    s->rows = ct_calloc((size_t)s->max_rows, sizeof *s->rows);
    s->samplers = ct_calloc((size_t)ct_pool_threads(s->pool), sizeof(ct_sampler *));
    s->ids = ct_alloc(n * each * sizeof *s->ids); /* at most 4096 x 2^20: the batch has looked */
    s->roles = ct_alloc(n * each);
    if (!s->timelines || !s->shares || !s->turn || !s->named || !s->rows || !s->samplers || !s->ids || !s->roles)
        return ct_fail(err, CT_ENOMEM, NULL, "no memory for %d histories of %d tokens", s->sequences, s->context);
    for (size_t i = 0; i < n; i++)
        s->timelines[i] = (struct timeline){.ids = s->ids + i * each, .roles = s->roles + i * each};
    for (; s->n_samplers < ct_pool_threads(s->pool); s->n_samplers++) {
        ct_status st = ct_sampler_create(&s->samplers[s->n_samplers], s->model->cfg.vocab, err);
        if (st != CT_OK)
            return st;
    }
    return CT_OK;
}

ct_status ct_schedule_create(ct_schedule **out, const ct_gemma *m, ct_pool *pool, const ct_schedule_options *opt,
                             ct_error *err)
{
    *out = NULL;
    if (opt->sequences < 1 || opt->sequences > 4096)
        return ct_fail(err, CT_EINVAL, "sequences", "expected 1 to 4096 sequences, found %d", opt->sequences);
    if (opt->rows != 0 && (opt->rows < opt->sequences || opt->rows > 1 << 16))
        return ct_fail(err, CT_EINVAL, "rows",
                       "expected 0 or from %d (one for each sequence) to %d rows in a step, found %d", opt->sequences,
                       1 << 16, opt->rows);
    int32_t context = 0;
    struct plan plan = {m, opt, ct_pool_threads(pool)};
    ct_status st = ct_context_choose(&context, m, opt->context, need, &plan, err);
    if (st != CT_OK)
        return st;
    ct_batch_options o = batch_options(opt, context);
    ct_schedule *s = ct_calloc(1, sizeof *s);
    if (s == NULL)
        return ct_fail(err, CT_ENOMEM, NULL, "no memory for a batch");
    s->model = m;
    s->pool = pool;
    s->sequences = o.sequences;
    s->context = context;
    s->max_rows = o.max_rows;
    s->chunk = o.chunk;
    s->bytes = need(&plan, context);
    st = ct_batch_create(&s->batch, m, pool, &o, err);
    if (st == CT_OK)
        st = allocate(s, err);
    if (st == CT_OK)
        *out = s;
    else
        ct_schedule_free(s);
    return st;
}

void ct_schedule_free(ct_schedule *s)
{
    if (s == NULL)
        return;
    ct_batch_free(s->batch);
    for (int32_t i = 0; i < s->n_samplers; i++)
        ct_sampler_free(s->samplers[i]);
    ct_free(s->samplers);
    ct_free(s->timelines);
    ct_free(s->shares);
    ct_free(s->turn);
    ct_free(s->named);
    ct_free(s->rows);
    ct_free(s->ids);
    ct_free(s->roles);
    ct_free(s);
}

/* ---- timelines ---- */

ct_status ct_schedule_add(ct_schedule *s, int32_t *seq, ct_error *err)
{
    *seq = -1;
    for (int32_t i = 0; i < s->sequences && *seq < 0; i++)
        if (!s->timelines[i].used)
            *seq = i;
    if (*seq < 0)
        return ct_fail(err, CT_ECONTEXT, "batch",
                       "all of the batch's %d sequences are in use: remove one, or make the batch for more",
                       s->sequences);
    s->timelines[*seq].used = true;
    return CT_OK;
}

void ct_schedule_remove(ct_schedule *s, int32_t seq)
{
    ct_schedule_cut(s, seq, 0);
    s->timelines[seq].used = false;
}

ct_status ct_schedule_copy(ct_schedule *s, int32_t from, int32_t *seq, ct_error *err)
{
    ct_status st = ct_schedule_add(s, seq, err);
    if (st != CT_OK)
        return st;
    const struct timeline *a = &s->timelines[from];
    struct timeline *b = &s->timelines[*seq];
    b->n = a->n;
    memcpy(b->ids, a->ids, (size_t)a->n * sizeof *a->ids);
    memcpy(b->roles, a->roles, (size_t)a->n);
    ct_kvcache_copy(ct_batch_cache(s->batch), *seq, from);
    return CT_OK;
}

bool ct_schedule_has(const ct_schedule *s, int32_t seq)
{
    return seq >= 0 && seq < s->sequences && s->timelines[seq].used;
}

ct_status ct_schedule_feed(ct_schedule *s, int32_t seq, const int32_t *ids, size_t n, ct_error *err)
{
    struct timeline *t = &s->timelines[seq];
    if (t->n > s->context || n > (size_t)(s->context - t->n))
        return ct_fail(err, CT_ECONTEXT, "context",
                       "%zu tokens do not fit: sequence %d has a context of %d, of which %d are used; try a larger "
                       "context or a shorter prompt",
                       n, seq, s->context, t->n);
    memcpy(t->ids + t->n, ids, n * sizeof *ids);
    memset(t->roles + t->n, 0, n);
    t->n += (int32_t)n;
    return CT_OK;
}

void ct_schedule_cut(ct_schedule *s, int32_t seq, int32_t n)
{
    struct timeline *t = &s->timelines[seq];
    if (n < t->n)
        t->n = n;
    if (ct_batch_length(s->batch, seq) >= t->n)
        ct_batch_cut(s->batch, seq, t->n > 0 ? t->n - 1 : 0);
}

/* ---- a step ---- */

/* Can this item take part at all? */
static ct_status admit(const ct_schedule *s, const ct_schedule_item *item, ct_error *err)
{
    const struct timeline *t = &s->timelines[item->seq];
    if (item->how == NULL)
        return CT_OK;
    if (t->n == 0)
        return ct_fail(err, CT_EINVAL, "sequence", "there is nothing to continue in sequence %d: feed it ids first",
                       item->seq);
    if (t->n > s->context)
        return ct_fail(err, CT_ECONTEXT, "context", "the context of %d positions of sequence %d is full", s->context,
                       item->seq);
    return ct_sampling_check(item->how, s->model->cfg.vocab, err);
}

/* Rows that an item would like: those that wait, in one role; without the last id if nothing is to be chosen. */
static int32_t wanted(const ct_schedule *s, const ct_schedule_item *item)
{
    const struct timeline *t = &s->timelines[item->seq];
    int32_t from = ct_batch_length(s->batch, item->seq), end = item->how ? t->n : t->n - 1, n = 0;
    while (from + n < end && n < s->chunk && t->roles[from + n] == t->roles[from])
        n++;
    return n;
}

/* Who waits with one id alone does not wait for those who read: there is a row for each. */
static int32_t share_out(ct_schedule *s, const ct_schedule_item *items, int32_t n)
{
    int32_t left = s->max_rows;
    for (int32_t reading = 0; reading < 2; reading++)
        for (int32_t i = 0; i < n; i++) {
            int32_t want = items[i].status == CT_OK ? wanted(s, &items[i]) : 0;
            if ((want > 1) != (reading == 1))
                continue;
            s->shares[i].rows = want < left ? want : left;
            left -= s->shares[i].rows;
        }
    return s->max_rows - left;
}

/* The step's rows, those of prompts first, and who gets which logits. Returns how many choose. */
static int32_t lay_rows(ct_schedule *s, const ct_schedule_item *items, int32_t n)
{
    int32_t at = 0, choosing = 0;
    for (int32_t decode = 0; decode < 2; decode++)
        for (int32_t i = 0; i < n; i++) {
            struct share *share = &s->shares[i];
            const struct timeline *t = &s->timelines[items[i].seq];
            int32_t from = ct_batch_length(s->batch, items[i].seq);
            if (share->rows == 0 || t->roles[from] != decode)
                continue;
            for (int32_t k = 0; k < share->rows; k++)
                s->rows[at++] = (ct_batch_row){.seq = items[i].seq, .token = t->ids[from + k], .decode = decode};
            share->chooses = from + share->rows == t->n;
            if (share->chooses) {
                s->rows[at - 1].want = true;
                share->logits = choosing;
                s->turn[choosing++] = i;
            }
        }
    return choosing;
}

struct choosing {
    ct_schedule *s;
    ct_schedule_item *items;
};

/* A task of the pool: its own item, its own sampler, so any order gives the same. */
static void choose(void *arg, int32_t task, int32_t worker)
{
    const struct choosing *c = arg;
    ct_schedule_item *item = &c->items[c->s->turn[task]];
    struct share *share = &c->s->shares[c->s->turn[task]];
    const struct timeline *t = &c->s->timelines[item->seq];
    const float *logits = ct_batch_logits(c->s->batch, share->logits);
    share->chose = ct_sample(c->s->samplers[worker], logits, item->how, t->ids, (size_t)t->n, (uint64_t)t->n,
                             &item->token, &item->logprob, &share->err);
    share->nan = share->chose == CT_ENUMERIC && isnan(ct_logsumexp(logits, c->s->model->cfg.vocab));
}

/* The token waits in its turn; or the last id waits again, and what went wrong is said. */
static void settle(ct_schedule *s, ct_schedule_item *item, struct share *share)
{
    struct timeline *t = &s->timelines[item->seq];
    if (share->chose == CT_OK) {
        t->ids[t->n] = item->token;
        t->roles[t->n++] = 1;
        return;
    }
    item->status = share->chose;
    item->token = -1;
    if (share->nan)
        item->status = ct_batch_explain(s->batch, item->seq, t->ids[t->n - 1], t->roles[t->n - 1] != 0, &share->err);
    ct_batch_cut(s->batch, item->seq, t->n - 1);
}

static ct_status check_items(ct_schedule *s, const ct_schedule_item *items, int32_t n, ct_error *err)
{
    ct_status st = CT_OK;
    int32_t seen = 0;
    for (; seen < n && st == CT_OK; seen++) {
        int32_t seq = items[seen].seq;
        if (!ct_schedule_has(s, seq) || s->named[seq])
            st = ct_fail(err, CT_EINVAL, "batch", "item %d of a step names sequence %d, which %s", seen, seq,
                         ct_schedule_has(s, seq) ? "another item names too" : "is not in use");
        else
            s->named[seq] = 1;
    }
    for (int32_t i = 0; i < seen; i++)
        if (ct_schedule_has(s, items[i].seq))
            s->named[items[i].seq] = 0;
    return st;
}

ct_status ct_schedule_step(ct_schedule *s, ct_schedule_item *items, int32_t n, ct_error *err)
{
    if (n < 0 || n > s->sequences)
        return ct_fail(err, CT_EINVAL, "batch", "expected at most %d items in a step, found %d", s->sequences, n);
    ct_status st = check_items(s, items, n, err);
    if (st != CT_OK)
        return st;
    for (int32_t i = 0; i < n; i++) {
        s->shares[i] = (struct share){0};
        items[i].token = -1;
        items[i].logprob = 0;
        items[i].status = admit(s, &items[i], &s->shares[i].err);
    }
    int32_t rows = share_out(s, items, n), choosing = lay_rows(s, items, n);
    if (rows > 0)
        st = ct_batch_step(s->batch, s->rows, rows, NULL, NULL, err);
    if (st == CT_OK && choosing > 0 &&
        ct_batch_logits(s->batch, 0) == NULL) /* also fetches them, before threads look */
        st = ct_fail(err, CT_EIO, s->model->backend->name, "the logits could not be fetched from the device");
    if (st != CT_OK)
        return st;
    struct choosing c = {s, items};
    if (choosing > 0)
        ct_pool_run(s->pool, choosing, choose, &c);
    for (int32_t i = 0; i < choosing; i++)
        settle(s, &items[s->turn[i]], &s->shares[s->turn[i]]);
    for (int32_t i = 0; i < n; i++)
        if (items[i].err)
            *items[i].err = items[i].status == CT_OK ? (ct_error){0} : s->shares[i].err;
    return CT_OK;
}

int32_t ct_schedule_sequences(const ct_schedule *s) { return s->sequences; }
int32_t ct_schedule_context(const ct_schedule *s) { return s->context; }
int32_t ct_schedule_length(const ct_schedule *s, int32_t seq) { return s->timelines[seq].n; }
int32_t ct_schedule_read(const ct_schedule *s, int32_t seq) { return ct_batch_length(s->batch, seq); }
const int32_t *ct_schedule_ids(const ct_schedule *s, int32_t seq) { return s->timelines[seq].ids; }
size_t ct_schedule_bytes(const ct_schedule *s) { return s->bytes; }
ct_kvcache *ct_schedule_cache(ct_schedule *s) { return ct_batch_cache(s->batch); }
