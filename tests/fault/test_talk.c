/* A program's whole life with the library, on a machine where every call of the system fails once: open, text, prompt, decode,
 * reuse, save, load, free. */
#include "scenario.h"

#include <time.h>
#include <unistd.h>

enum { LONG = 700, CONTEXT = 1024 }; /* the rings of the fixture's window turn */

static char folder[64], saved[80];
static const char *model_path = TINY, *backend = "cpu";

static void new_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/carat-talk-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(saved, sizeof saved, "%s/session", folder);
}

struct talk {
    struct digest digest;
    carat_model *m;
    carat_session *s, *t;
    carat_token ids[LONG];
    bool has_saved;
};

static carat_status open_model(void *state, carat_error *err)
{
    struct talk *k = state;
    carat_model_options o = carat_model_options_default();
    carat_model_info info;
    o.backend = backend;
    o.threads = 2;
    carat_status st = carat_model_open(&k->m, model_path, &o, err);
    if (st != CARAT_OK) {
        assert_null(k->m);
        return st;
    }
    carat_model_get_info(k->m, &info);
    digest_add(k, &info.weight_bytes, sizeof info.weight_bytes);
    for (int32_t i = 0; i < LONG; i++)
        k->ids[i] = 5 + i * 37 % (info.vocab - 5);
    return st;
}

static carat_status tokenize(void *state, carat_error *err)
{
    struct talk *k = state;
    static const char text[] = "Once upon a time there was a \xc3\xa9t\xc3\xa9 of 1234 <end_of_turn> days.";
    carat_token ids[100];
    size_t n = 0;
    carat_status st = carat_tokenize(k->m, text, SIZE_MAX, true, true, ids, 100, &n, err);
    if (st == CARAT_OK)
        digest_add(k, ids, n * sizeof *ids);
    return st;
}

static carat_status detokenize(void *state, carat_error *err)
{
    struct talk *k = state;
    char text[4096];
    size_t n = 0;
    carat_status st = carat_detokenize(k->m, k->ids, 50, true, text, sizeof text, &n, err);
    if (st == CARAT_OK)
        digest_add(k, text, n < sizeof text ? n : sizeof text);
    return st;
}

static carat_status create(carat_session **s, struct talk *k, const char *kv, carat_error *err)
{
    carat_session_options o = carat_session_options_default();
    o.context = CONTEXT;
    o.snapshots = 3;
    o.kv = kv;
    carat_status st = carat_session_create(s, k->m, &o, err);
    if (st != CARAT_OK)
        assert_null(*s);
    return st;
}

static carat_status create_first(void *state, carat_error *err)
{
    struct talk *k = state;
    return create(&k->s, k, "q8,q4", err);
}

static carat_status create_second(void *state, carat_error *err)
{
    struct talk *k = state;
    return create(&k->t, k, "q8,q4", err);
}

static carat_status prompt(void *state, carat_error *err)
{
    struct talk *k = state;
    carat_session_reset(k->s);
    return carat_session_prompt(k->s, "Hello there", SIZE_MAX, CARAT_RAW, NULL, err);
}

static carat_status answer(void *state, carat_error *err)
{
    struct talk *k = state;
    return carat_session_prompt(k->s, "And then?", SIZE_MAX, CARAT_TURNS, NULL, err);
}

static carat_status next_of(struct talk *k, carat_session *s, carat_error *err)
{
    carat_sampling how = carat_sampling_default(k->m);
    carat_token token = -1;
    char text[4096];
    how.seed = 3;
    how.repeat_penalty = 1.1;
    carat_status st = carat_session_next(s, &how, &token, err);
    if (st != CARAT_OK)
        return st;
    size_t n = carat_session_text(s, token, text, sizeof text);
    double logprob = carat_session_logprob(s);
    digest_add(k, &token, sizeof token);
    digest_add(k, &logprob, sizeof logprob);
    digest_add(k, text, n);
    return st;
}

static carat_status next(void *state, carat_error *err) { return next_of(state, ((struct talk *)state)->s, err); }
static carat_status next_second(void *state, carat_error *err)
{
    return next_of(state, ((struct talk *)state)->t, err);
}

static carat_status logits(void *state, carat_error *err)
{
    struct talk *k = state;
    const float *row = NULL;
    carat_status st = carat_session_logits(k->s, &row, err);
    if (st == CARAT_OK)
        digest_add(k, row, 64 * sizeof *row);
    return st;
}

static carat_status sync_long(void *state, carat_error *err)
{
    struct talk *k = state;
    return carat_session_sync(k->s, k->ids, LONG, err);
}

/* Back behind what the rings still have: from a snapshot, or computed again. */
static carat_status sync_back(void *state, carat_error *err)
{
    struct talk *k = state;
    carat_token ids[LONG];
    memcpy(ids, k->ids, sizeof ids);
    ids[200] = 7;
    return carat_session_sync(k->s, ids, 210, err);
}

static carat_status save(void *state, carat_error *err)
{
    struct talk *k = state;
    carat_status st = carat_session_save(k->s, saved, err);
    if (st == CARAT_OK)
        k->has_saved = true;
    return st;
}

static carat_status load(void *state, carat_error *err)
{
    struct talk *k = state;
    carat_status st = carat_session_load(k->t, saved, err);
    if (st == CARAT_OK) {
        int32_t n = carat_session_length(k->t);
        digest_add(k, &n, sizeof n);
    }
    return st;
}

/* A save that fails leaves the file of the one before. */
static void check(const void *state)
{
    const struct talk *k = state;
    carat_error err;
    carat_session *s = NULL;
    struct talk copy = *k;
    if (!k->has_saved)
        return;
    assert_int_equal(create(&s, &copy, "q8,q4", &err), CARAT_OK);
    if (carat_session_load(s, saved, &err) != CARAT_OK)
        fail_msg("after a failure, what was saved before is lost: %s", err.text);
    carat_session_free(s);
}

static void close_all(void *state)
{
    struct talk *k = state;
    carat_session_free(k->s);
    carat_session_free(k->t);
    carat_model_close(k->m);
    fault_clear();
    unlink(saved);
    if (rmdir(folder) != 0) /* a temporary file was left */
        fail_msg("%s is not empty after the scenario", folder);
    new_folder();
}

static const step talk_steps[] = {
    {"open", open_model},
    {"tokenize", tokenize},
    {"detokenize", detokenize},
    {"create", create_first},
    {"create", create_second},
    {"prompt", prompt},
    {"next", next},
    {"next", next},
    {"next", next},
    {"answer", answer},
    {"next", next},
    {"save", save},
    {"save again", save},
    {"load", load},
    {"next of the copy", next_second},
    {"next", next},
    {"prompt", prompt},
    {"next", next},
};
static const scenario talk = {"talk", talk_steps, N_OF(talk_steps), 0, sizeof(struct talk), close_all, check};

static const step reuse_steps[] = {
    {"open", open_model},
    {"create", create_first},
    {"create", create_second},
    {"prompt", prompt},
    {"sync", sync_long},
    {"sync back", sync_back},
    {"logits", logits},
    {"next", next},
    {"save", save},
    {"load", load},
    {"next of the copy", next_second},
    {"sync again", sync_long},
};
static const scenario reuse = {"reuse", reuse_steps, N_OF(reuse_steps), 4, sizeof(struct talk), close_all, check};

static void memory(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_MAP, FAULT_LOCK, FAULT_THREAD};
    scenario_all(&talk, kinds, N_OF(kinds), 60);
    scenario_all(&reuse, kinds, N_OF(kinds), 1);
}

static void files(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_OPEN, FAULT_STAT, FAULT_READ, FAULT_SYNC, FAULT_CLOSE, FAULT_RENAME};
    scenario_all(&talk, kinds, N_OF(kinds), 8);
}

static void writing(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_WRITE};
    scenario_all(&talk, kinds, N_OF(kinds), 4);
    scenario_all(&reuse, kinds, N_OF(kinds), 4);
}

/* The oracle reads its weights in place: another life of the mapping. */
static void reference(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_MAP, FAULT_THREAD};
    static const scenario in_place = {"in place", talk_steps, 9, 0, sizeof(struct talk), close_all, NULL};
    backend = "ref";
    scenario_all(&in_place, kinds, N_OF(kinds), 40);
    backend = "cpu";
}

int main(void)
{
    new_folder();
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory), cmocka_unit_test(files), cmocka_unit_test(writing),
                                       cmocka_unit_test(reference)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
