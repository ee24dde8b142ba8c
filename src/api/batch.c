/* carat_batch: a schedule, and for each sequence the state of its text. Items go in and out by copy: the engine's have no size.
 * A step takes the model's turn, as a session's calls do. */
#include <string.h>

#include "api/internal.h"
#include "carat_batch.h"
#include "engine/schedule.h"

struct carat_batch {
    carat_model *model;
    ct_schedule *s;
    ct_detok *detok;         /* [sequences] */
    ct_schedule_item *items; /* [sequences] of a step */
    ct_sampling *how;        /* likewise */
};

carat_batch_options carat_batch_options_default(void)
{
    return (carat_batch_options){.size = sizeof(carat_batch_options), .sequences = 8};
}

carat_batch_item carat_batch_item_default(void)
{
    return (carat_batch_item){.size = sizeof(carat_batch_item), .seq = -1, .token = -1};
}

carat_status carat_batch_create(carat_batch **out, carat_model *m, const carat_batch_options *opt, carat_error *err)
{
    API_REQUIRE(out, "somewhere to put the batch");
    *out = NULL;
    API_REQUIRE(m, "a model");
    API_REQUIRE(m->has_weights, "a model that was not opened with vocab_only");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_batch_options_default()");
    carat_batch_options given = opt ? *opt : carat_batch_options_default();
    ct_schedule_options o = {
        .sequences = given.sequences, .context = given.context, .rows = given.rows, .exact = given.exact};
    ct_error e = {0};
    carat_batch *b = NULL;
    ct_status st = ct_kv_types(given.kv, &o.type_k, &o.type_v, &e);
    if (st != CT_OK)
        goto done;
    b = ct_calloc(1, sizeof *b);
    if (b == NULL) {
        st = ct_fail(&e, CT_ENOMEM, NULL, "out of memory for a batch");
        goto done;
    }
    b->model = m;
    st = ct_schedule_create(&b->s, &m->gemma, m->pool, &o, &e);
    if (st != CT_OK)
        goto done;
    size_t n = (size_t)given.sequences;
    b->detok = ct_calloc(n, sizeof *b->detok);
    b->items = ct_calloc(n, sizeof *b->items);
    b->how = ct_calloc(n, sizeof *b->how);
    if (!b->detok || !b->items || !b->how) {
        st = ct_fail(&e, CT_ENOMEM, NULL, "out of memory for a batch of %d sequences", given.sequences);
        goto done;
    }
    *out = b;
    b = NULL;
done:
    carat_batch_free(b);
    return ct_api_error(err, st, &e);
}

void carat_batch_free(carat_batch *b)
{
    if (b == NULL)
        return;
    ct_schedule_free(b->s);
    ct_free(b->detok);
    ct_free(b->items);
    ct_free(b->how);
    ct_free(b);
}

static bool has(const carat_batch *b, int32_t seq) { return b && ct_schedule_has(b->s, seq); }

carat_status carat_batch_add(carat_batch *b, int32_t *seq, carat_error *err)
{
    API_REQUIRE(seq, "somewhere to put the sequence");
    *seq = -1;
    API_REQUIRE(b, "a batch");
    ct_error e = {0};
    ct_status st = ct_schedule_add(b->s, seq, &e);
    if (st == CT_OK)
        b->detok[*seq] = (ct_detok){0};
    return ct_api_error(err, st, &e);
}

carat_status carat_batch_copy(carat_batch *b, int32_t seq, int32_t *copy, carat_error *err)
{
    API_REQUIRE(copy, "somewhere to put the sequence");
    *copy = -1;
    API_REQUIRE(has(b, seq), "a batch and a sequence of it that is in use");
    ct_error e = {0};
    ct_status st = ct_schedule_copy(b->s, seq, copy, &e);
    if (st == CT_OK)
        b->detok[*copy] = b->detok[seq];
    return ct_api_error(err, st, &e);
}

void carat_batch_remove(carat_batch *b, int32_t seq)
{
    if (has(b, seq))
        ct_schedule_remove(b->s, seq);
}

carat_status carat_batch_prompt(carat_batch *b, int32_t seq, const char *text, size_t n, carat_prompt_form form,
                                const char *system, carat_error *err)
{
    API_REQUIRE(has(b, seq), "a batch and a sequence of it that is in use");
    API_REQUIRE(text, "a text");
    API_REQUIRE(form == CARAT_AUTO || form == CARAT_RAW || form == CARAT_TURNS, "a prompt form");
    API_REQUIRE(b->model->vocab, "a model with a tokenizer (synthetic models have none: feed them ids)");
    ct_error e = {0};
    ct_ids ids = {0};
    int32_t length = ct_schedule_length(b->s, seq), last = length > 0 ? ct_schedule_ids(b->s, seq)[length - 1] : -1;
    ct_status st = ct_api_prompt(b->model, last, text, n, form, system, &ids, &e);
    if (st == CT_OK)
        st = ct_schedule_feed(b->s, seq, ids.ids, ids.n, &e);
    ct_ids_deinit(&ids);
    return ct_api_error(err, st, &e);
}

carat_status carat_batch_feed(carat_batch *b, int32_t seq, const carat_token *ids, size_t n, carat_error *err)
{
    API_REQUIRE(has(b, seq), "a batch and a sequence of it that is in use");
    API_REQUIRE(ids && n > 0, "one or more ids");
    ct_error e = {0};
    ct_status st = ct_api_check_ids(b->model, ids, n, &e);
    if (st == CT_OK)
        st = ct_schedule_feed(b->s, seq, ids, n, &e);
    return ct_api_error(err, st, &e);
}

carat_status carat_batch_cut(carat_batch *b, int32_t seq, int32_t n, carat_error *err)
{
    API_REQUIRE(has(b, seq), "a batch and a sequence of it that is in use");
    API_REQUIRE(n >= 0 && n <= ct_schedule_length(b->s, seq), "from 0 ids to as many as the sequence has");
    if (n < ct_schedule_length(b->s, seq))
        b->detok[seq] = (ct_detok){0};
    ct_schedule_cut(b->s, seq, n);
    return ct_api_error(err, CT_OK, NULL);
}

/* An item's options the way the engine takes them. */
static ct_schedule_item inward(const carat_batch_item *it, ct_sampling *how)
{
    if (it->how)
        *how = ct_api_sampling(it->how);
    return (ct_schedule_item){.seq = it->seq, .how = it->how ? how : NULL};
}

carat_status carat_batch_step(carat_batch *b, carat_batch_item *items, size_t n, carat_error *err)
{
    API_REQUIRE(b, "a batch");
    API_REQUIRE(items && n > 0, "one or more items");
    API_REQUIRE(n <= (size_t)ct_schedule_sequences(b->s), "no more items than the batch has sequences");
    for (size_t i = 0; i < n; i++) {
        const carat_sampling *how = items[i].how;
        API_REQUIRE(items[i].size == sizeof items[i], "items from carat_batch_item_default()");
        API_REQUIRE(how == NULL || how->size == sizeof *how, "sampling options from carat_sampling_default()");
        API_REQUIRE(how == NULL || how->bias || how->n_bias == 0, "logit biases, or a count of 0");
    }
    _Static_assert(sizeof(carat_error) == sizeof(ct_error), "an item's error may be filled by the engine");
    ct_error e = {0};
    for (size_t i = 0; i < n; i++) {
        b->items[i] = inward(&items[i], &b->how[i]);
        b->items[i].err = (ct_error *)(void *)items[i].err;
    }
    ct_api_lock(b->model);
    ct_status st = ct_schedule_step(b->s, b->items, (int32_t)n, &e);
    ct_api_unlock(b->model);
    for (size_t i = 0; i < n && st == CT_OK; i++) {
        items[i].status = (carat_status)b->items[i].status;
        items[i].token = b->items[i].token;
        items[i].logprob = b->items[i].logprob;
        items[i].end = items[i].token >= 0 && carat_is_end(b->model, items[i].token);
    }
    return ct_api_error(err, st, &e);
}

size_t carat_batch_text(carat_batch *b, int32_t seq, carat_token token, char *text, size_t cap)
{
    return has(b, seq) ? ct_api_text(b->model, &b->detok[seq], token, text, cap) : 0;
}

int32_t carat_batch_length(const carat_batch *b, int32_t seq)
{
    return has(b, seq) ? ct_schedule_length(b->s, seq) : 0;
}

int32_t carat_batch_waiting(const carat_batch *b, int32_t seq)
{
    return has(b, seq) ? ct_schedule_length(b->s, seq) - ct_schedule_read(b->s, seq) : 0;
}

size_t carat_batch_ids(const carat_batch *b, int32_t seq, carat_token *ids, size_t cap)
{
    if (!has(b, seq))
        return 0;
    size_t all = (size_t)ct_schedule_length(b->s, seq), n = all < cap ? all : cap;
    if (ids && n > 0)
        memcpy(ids, ct_schedule_ids(b->s, seq), n * sizeof *ids);
    return all;
}

int32_t carat_batch_context(const carat_batch *b) { return b ? ct_schedule_context(b->s) : 0; }
size_t carat_batch_bytes(const carat_batch *b) { return b ? ct_schedule_bytes(b->s) : 0; }
