/* carat_session: a timeline. A chosen token is fed when the one after it is asked for, so the last one of a text costs no
 * forward. Sessions of one model share its pool: each call takes the model's turn for as long as it computes. */
#include <string.h>

#include "api/internal.h"

carat_session_options carat_session_options_default(void)
{
    return (carat_session_options){.size = sizeof(carat_session_options), .snapshots = -1};
}

carat_status carat_session_create(carat_session **out, carat_model *m, const carat_session_options *opt,
                                  carat_error *err)
{
    API_REQUIRE(out, "somewhere to put the session");
    *out = NULL;
    API_REQUIRE(m, "a model");
    API_REQUIRE(m->has_weights, "a model that was not opened with vocab_only");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_session_options_default()");
    API_REQUIRE(opt == NULL || opt->context >= 0, "a context of 0 or more");
    ct_error e = {0};
    ct_session_options o = {.type_k = -1, .type_v = -1, .snapshots = -1};
    carat_session *s = NULL;
    ct_status st = CT_OK;
    if (opt) {
        o.context = opt->context;
        o.exact = opt->exact;
        o.snapshots = opt->snapshots;
        st = ct_kv_types(opt->kv, &o.type_k, &o.type_v, &e);
    }
    if (st != CT_OK)
        goto done;
    s = ct_calloc(1, sizeof *s);
    if (s == NULL) {
        st = ct_fail(&e, CT_ENOMEM, NULL, "out of memory for a session");
        goto done;
    }
    s->model = m;
    if (opt) {
        s->keep_going = opt->keep_going;
        s->progress = opt->progress;
        s->arg = opt->arg;
    }
    st = ct_session_create(&s->s, &m->gemma, m->pool, &o, &e);
    if (st != CT_OK)
        goto done;
    *out = s;
    s = NULL;
done:
    carat_session_free(s);
    return ct_api_error(err, st, &e);
}

void carat_session_free(carat_session *s)
{
    if (s == NULL)
        return;
    ct_session_free(s->s);
    ct_free(s);
}

/* The forward of the token that next() chose last. */
static ct_status settle(carat_session *s, ct_error *err)
{
    if (!s->has_pending)
        return CT_OK;
    ct_status st = ct_session_decode(s->s, s->pending, err);
    if (st == CT_OK)
        s->has_pending = false;
    return st;
}

static ct_status feed(carat_session *s, const int32_t *ids, size_t n, ct_error *err)
{
    size_t used = (size_t)carat_session_length(s), context = (size_t)ct_session_context(s->s);
    if (n > context - used || used > context)
        return ct_fail(err, CT_ECONTEXT, "context",
                       "%zu tokens do not fit: the context has %zu, of which %zu are used; try a "
                       "larger context or a shorter prompt",
                       n, context, used);
    ct_job job = {.keep_going = s->keep_going, .progress = s->progress, .arg = s->arg};
    size_t chunk = (size_t)ct_session_chunk(s->s);
    ct_status st = settle(s, err);
    for (size_t at = 0, now; st == CT_OK && at < n; at += now) {
        now = n - at < chunk ? n - at : chunk;
        st = ct_feed_polled(s->s, ids + at, now, false, NULL, NULL, &job, err);
        ct_job_progress(&job, "reading the prompt", (double)(at + now), (double)n);
    }
    if (st == CT_OK)
        ct_session_mark(s->s); /* the next prompt is likely to differ from here on */
    return st;
}

/* In a talk that goes on, the answer's end of turn and the newline behind it are part of the model's input, but the model
 * itself never writes the newline. */
static ct_status close_turn(const ct_vocab *v, int32_t last, ct_ids *ids, ct_error *err)
{
    static const char end_of_turn[] = "<end_of_turn>";
    int32_t end = ct_vocab_find(v, end_of_turn, sizeof end_of_turn - 1), newline = ct_vocab_find(v, "\n", 1);
    ct_status st = CT_OK;
    if (last != end && end >= 0)
        st = ct_ids_push(ids, end, err);
    if (st == CT_OK && newline >= 0)
        st = ct_ids_push(ids, newline, err);
    return st;
}

ct_status ct_api_prompt(const carat_model *m, int32_t last, const char *text, size_t n, carat_prompt_form form,
                        const char *system, ct_ids *ids, ct_error *err)
{
    const ct_vocab *v = m->vocab;
    const bool fresh = last < 0;
    ct_status st = CT_OK;
    n = n == SIZE_MAX ? strlen(text) : n;
    if (form == CARAT_AUTO)
        form = ct_vocab_has_turns(v) ? CARAT_TURNS : CARAT_RAW;
    if (n == 0)
        return ct_fail(err, CT_EINVAL, "prompt", "the prompt is empty");
    if (system && system[0] && form == CARAT_RAW)
        return ct_fail(err, CT_EINVAL, "system", "a system text needs Gemma's turns, and this prompt is raw");
    if (form == CARAT_TURNS && !fresh)
        st = close_turn(v, last, ids, err);
    if (st == CT_OK)
        st = form == CARAT_TURNS ? ct_turn_user(v, system, text, n, fresh, ids, err)
                                 : ct_tokenize(v, text, n, fresh, false, ids, err);
    return st;
}

carat_status carat_session_prompt(carat_session *s, const char *text, size_t n, carat_prompt_form form,
                                  const char *system, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(text, "a text");
    API_REQUIRE(form == CARAT_AUTO || form == CARAT_RAW || form == CARAT_TURNS, "a prompt form");
    API_REQUIRE(s->model->vocab, "a model with a tokenizer (synthetic models have none: feed them ids)");
    ct_error e = {0};
    ct_ids ids = {0};
    int32_t stored = ct_session_length(s->s), last = stored > 0 ? ct_session_ids(s->s)[stored - 1] : -1;
    ct_status st = ct_api_prompt(s->model, s->has_pending ? s->pending : last, text, n, form, system, &ids, &e);
    if (st == CT_OK) {
        ct_api_lock(s->model);
        st = feed(s, ids.ids, ids.n, &e);
        ct_api_unlock(s->model);
    }
    ct_ids_deinit(&ids);
    return ct_api_error(err, st, &e);
}

ct_status ct_api_check_ids(const carat_model *m, const carat_token *ids, size_t n, ct_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->cfg.vocab)
            return ct_fail(err, CT_EINVAL, "ids", "id %d at place %zu is not in the vocabulary (0 to %d)", ids[i],
                           i + 1, m->cfg.vocab - 1);
    return CT_OK;
}

carat_status carat_session_feed(carat_session *s, const carat_token *ids, size_t n, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(ids && n > 0, "one or more ids");
    ct_error e = {0};
    ct_status st = ct_api_check_ids(s->model, ids, n, &e);
    if (st != CT_OK)
        return ct_api_error(err, st, &e);
    ct_api_lock(s->model);
    st = feed(s, ids, n, &e);
    ct_api_unlock(s->model);
    return ct_api_error(err, st, &e);
}

carat_status carat_session_sync(carat_session *s, const carat_token *ids, size_t n, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(ids && n > 0, "one or more ids");
    ct_error e = {0};
    ct_status st = ct_api_check_ids(s->model, ids, n, &e);
    if (st == CT_OK && n > (size_t)ct_session_context(s->s))
        st = ct_fail(&e, CT_ECONTEXT, "context", "%zu tokens do not fit a context of %d", n, ct_session_context(s->s));
    if (st != CT_OK)
        return ct_api_error(err, st, &e);
    s->has_pending = false; /* it is among the ids or not wanted */
    s->detok = (ct_detok){0};
    if (n == (size_t)ct_session_length(s->s) && ct_session_logits(s->s) &&
        memcmp(ids, ct_session_ids(s->s), n * sizeof *ids) == 0)
        return ct_api_error(err, CT_OK, NULL);
    ct_api_lock(s->model);
    size_t kept = (size_t)ct_session_keep(s->s, ids, n);
    st = feed(s, ids + kept, n - kept, &e);
    ct_api_unlock(s->model);
    return ct_api_error(err, st, &e);
}

/* What a file keeps of this object beside the engine's session. */
struct note {
    double logprob;
    int32_t has_pending, pending;
    ct_detok detok;
    uint8_t spare[CT_SESSION_NOTE - 16 - sizeof(ct_detok)];
};
_Static_assert(sizeof(struct note) == CT_SESSION_NOTE, "a note's size is the file's");

carat_status carat_session_save(carat_session *s, const char *path, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(path, "a path");
    ct_error e = {0};
    struct note note = {.logprob = s->logprob, .has_pending = s->has_pending, .pending = s->pending, .detok = s->detok};
    uint8_t bytes[CT_SESSION_NOTE];
    memcpy(bytes, &note, sizeof bytes);
    ct_api_lock(s->model);
    ct_status st = ct_session_save(s->s, path, bytes, &e);
    ct_api_unlock(s->model);
    return ct_api_error(err, st, &e);
}

carat_status carat_session_load(carat_session *s, const char *path, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(path, "a path");
    ct_error e = {0};
    struct note note;
    uint8_t bytes[CT_SESSION_NOTE];
    ct_api_lock(s->model);
    ct_status st = ct_session_load(s->s, path, bytes, &e);
    ct_api_unlock(s->model);
    if (st != CT_OK)
        return ct_api_error(err, st, &e);
    memcpy(&note, bytes, sizeof note);
    s->logprob = note.logprob;
    s->has_pending = note.has_pending == 1 && note.pending >= 0 && note.pending < s->model->cfg.vocab;
    s->pending = s->has_pending ? note.pending : 0;
    s->detok = ct_detok_sound(&note.detok) ? note.detok : (ct_detok){0};
    return ct_api_error(err, CT_OK, NULL);
}

ct_sampling ct_api_sampling(const carat_sampling *how)
{
    _Static_assert(sizeof(carat_logit_bias) == sizeof(ct_bias), "the two biases have the same shape");
    return (ct_sampling){.temperature = how->temperature,
                         .top_k = how->top_k,
                         .top_p = how->top_p,
                         .min_p = how->min_p,
                         .repeat_penalty = how->repeat_penalty,
                         .presence_penalty = how->presence_penalty,
                         .frequency_penalty = how->frequency_penalty,
                         .penalty_last = -1,
                         .seed = how->seed,
                         .bias = (const ct_bias *)(const void *)how->bias,
                         .n_bias = how->n_bias};
}

carat_status carat_session_next(carat_session *s, const carat_sampling *how, carat_token *token, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(how && how->size == sizeof *how, "sampling options from carat_sampling_default()");
    API_REQUIRE(token, "somewhere to put the token");
    API_REQUIRE(how->bias || how->n_bias == 0, "logit biases, or a count of 0");
    ct_error e = {0};
    ct_sampling o = ct_api_sampling(how);
    ct_status st = ct_sampling_check(&o, s->model->cfg.vocab, &e);
    ct_job job = {.keep_going = s->keep_going, .arg = s->arg};
    if (st == CT_OK)
        st = ct_job_poll(&job, &e);
    if (st == CT_OK && carat_session_length(s) == 0)
        st = ct_fail(&e, CT_EINVAL, "session", "there is nothing to continue: feed a prompt first");
    if (st != CT_OK)
        return ct_api_error(err, st, &e);
    ct_api_lock(s->model);
    ct_session_expect(s->s, &o);
    st = settle(s, &e);
    if (st == CT_OK)
        st = ct_session_sample(s->s, &o, &s->pending, &s->logprob, &e);
    ct_api_unlock(s->model);
    if (st == CT_OK) {
        s->has_pending = true;
        *token = s->pending;
    }
    return ct_api_error(err, st, &e);
}

void carat_session_heads(const carat_session *s, int64_t *heads, int64_t *scored)
{
    int64_t h = 0, n = 0;
    if (s)
        ct_session_heads(s->s, &h, &n);
    if (heads)
        *heads = h;
    if (scored)
        *scored = n;
}

double carat_session_logprob(const carat_session *s) { return s ? s->logprob : 0; }

size_t ct_api_text(const carat_model *m, ct_detok *d, carat_token token, char *text, size_t cap)
{
    if (m->vocab == NULL || text == NULL || cap < ct_detok_max(m->vocab))
        return 0;
    if (token < 0)
        return ct_detok_flush(d, text, cap);
    return token < ct_vocab_size(m->vocab) ? ct_detok_next(d, m->vocab, token, false, text, cap) : 0;
}

size_t carat_session_text(carat_session *s, carat_token token, char *text, size_t cap)
{
    return s ? ct_api_text(s->model, &s->detok, token, text, cap) : 0;
}

carat_status carat_session_logits(carat_session *s, const float **logits, carat_error *err)
{
    API_REQUIRE(s, "a session");
    API_REQUIRE(logits, "somewhere to put the logits");
    *logits = NULL;
    ct_error e = {0};
    ct_api_lock(s->model);
    ct_status st = settle(s, &e);
    ct_api_unlock(s->model);
    if (st == CT_OK && (*logits = ct_session_logits(s->s)) == NULL)
        st = ct_fail(&e, CT_EINVAL, "session", "there are no logits yet: feed a prompt first");
    return ct_api_error(err, st, &e);
}

int32_t carat_session_length(const carat_session *s)
{
    return s ? ct_session_length(s->s) + (s->has_pending ? 1 : 0) : 0;
}
size_t carat_session_ids(const carat_session *s, carat_token *ids, size_t cap)
{
    if (s == NULL)
        return 0;
    size_t stored = (size_t)ct_session_length(s->s), n = stored < cap ? stored : cap;
    if (ids && n > 0)
        memcpy(ids, ct_session_ids(s->s), n * sizeof *ids);
    if (ids && s->has_pending && stored < cap)
        ids[stored] = s->pending;
    return stored + (s->has_pending ? 1 : 0);
}

int32_t carat_session_context(const carat_session *s) { return s ? ct_session_context(s->s) : 0; }
size_t carat_session_bytes(const carat_session *s) { return s ? ct_session_bytes(s->s) : 0; }

void carat_session_reset(carat_session *s)
{
    if (s == NULL)
        return;
    ct_session_reset(s->s);
    s->has_pending = false;
    s->detok = (ct_detok){0};
}
