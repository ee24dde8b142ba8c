/* Folders of safetensors as models: every type, spelling of names and number of shards gives the logits of the same weights in a GGUF
 * file, to the bit. And float16: a residual beyond its range is none of ours. */
#include "model_fixture.h"

#include <math.h>
#include <unistd.h>

#include "st_write.h"

static char folder[64], twin_path[80];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/carat-folder-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int removed(void **state)
{
    (void)state;
    return st_remove_folder(folder);
}

/* Writes the fixture as a folder and as a GGUF file. */
static void write_twins(const st_folder *o)
{
    ct_error err;
    ct_tensors *t;
    gguf_writer w;
    assert_int_equal(st_remove_folder(folder), 0);
    assert_int_equal(mkdir(folder, 0777), 0);
    expect_ok(ct_gguf_open(&t, TINY, &err), &err);
    st_make_folder(t, folder, o, &w);
    ct_tensors_close(t);
    snprintf(twin_path, sizeof twin_path, "%s/twin.gguf", folder);
    assert_int_equal(gguf_save(&w, twin_path), 0);
    gguf_free(&w);
}

enum { N = 40 }; /* longer than the window of 16 */

static void logits_of(const char *path, const char *backend, float *out)
{
    ct_error err;
    loaded m;
    int32_t ids[N];
    expect_ok(load_model(&m, path, backend, 2, &err), &err);
    make_ids(ids, N, 7, m.gemma.cfg.vocab);
    ct_session *s = open_session(&m, 64, 8, 1, false);
    expect_ok(ct_session_feed(s, ids, N, false, NULL, NULL, NULL, &err), &err);
    memcpy(out, ct_session_logits(s), (size_t)m.gemma.cfg.vocab * sizeof *out);
    ct_session_free(s);
    unload_model(&m);
}

static void gives_the_logits_of_its_twin(void **state)
{
    (void)state;
    static const st_folder cases[] = {
        {.type = CT_BF16},
        {.type = CT_F16, .prefix = "language_model.model.", .shards = 3, .vision = true, .minimal = false},
        {.type = CT_F32, .prefix = "model.language_model.", .shards = 2},
        {.type = CT_BF16, .prefix = "", .odd = true},
        {.type = CT_F32, .prefix = "language_model.", .odd = true},
        {.type = CT_BF16, .prefix = "base_model.model.model.", .minimal = false},
        {.type = CT_BF16, .prefix = "model.language_model.model.", .minimal = true, .vision = true},
    };
    static float a[1024], b[1024];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_twins(&cases[i]);
        for (int k = 0; k < N_BACKENDS; k++) {
            if (i > 1 && strcmp(backends[k], "cpu") != 0)
                continue; /* slow, and the same for all */
            logits_of(folder, backends[k], a);
            logits_of(twin_path, backends[k], b);
            for (size_t v = 0; v < 661; v++)
                if (!(fabsf(a[v]) < 1e4f) || a[v] != b[v])
                    fail_msg("case %zu, %s, token %zu: %g in the folder, %g in its twin", i, backends[k], v,
                             (double)a[v], (double)b[v]);
        }
    }
}

/* ---- float16 ------------------------------------------------------------------------------------------------------- */

/* What a forward's residual was, and what to do to it. */
struct residual {
    bool halve; /* round it to float16 behind every layer, as an engine does that keeps it so */
    float peak;
};

static int look(void *arg, int32_t layer, ct_view x)
{
    struct residual *r = arg;
    (void)layer;
    for (int32_t i = 0; i < x.rows; i++) {
        float *row = ct_view_row(x, i);
        for (int32_t j = 0; j < x.cols; j++) {
            r->peak = fmaxf(r->peak, fabsf(row[j]));
            if (r->halve)
                row[j] = ct_f16_to_f32(ct_f32_to_f16(row[j]));
        }
    }
    return 0;
}

/* Logits of the last of N tokens. */
static void watched(const loaded *m, struct residual *r, float *logits)
{
    ct_error err;
    ct_step step;
    ct_kvcache kc;
    int32_t ids[N], pos[N], seq[N] = {0}, last = N - 1;
    make_ids(ids, N, 7, m->gemma.cfg.vocab);
    for (int32_t i = 0; i < N; i++)
        pos[i] = i;
    expect_ok(ct_step_create(&step, &m->gemma, N, 1, 64, ct_pool_threads(m->pool), &err), &err);
    expect_ok(ct_kvcache_create(&kc, &m->gemma, 1, 64, N, CT_F32, CT_F32, &err), &err);
    ct_ctx c = {.pool = m->pool, .scratch = &step.scratch, .ops = m->gemma.ops};
    ct_rows rows = {.n = N, .n_prompt = N, .token = ids, .pos = pos, .seq = seq};
    ct_forward(&m->gemma, &c, &step, &rows, kc.layers, &last, 1, look, r);
    memcpy(logits, ct_view_row(step.logits, 0), (size_t)m->gemma.cfg.vocab * sizeof *logits);
    ct_kvcache_free(&kc);
    ct_step_free(&step, &m->gemma);
}

/* A float16 checkpoint whose residual passes 65504, the largest half: rounded to float16 it gives NaN, ours does not. */
static void a_float16_residual_would_be_lost(void **state)
{
    (void)state;
    static float ours[1024], halved[1024];
    write_twins(&(st_folder){.type = CT_F16, .loud = 20000});
    for (int k = 0; k < N_HOST_BACKENDS; k++) {
        ct_error err;
        loaded m;
        struct residual whole = {.halve = false}, half = {.halve = true};
        expect_ok(load_model(&m, folder, backends[k], 2, &err), &err);
        watched(&m, &whole, ours);
        watched(&m, &half, halved);
        unload_model(&m);
        assert_true(whole.peak > 65504 && isfinite(whole.peak));
        for (size_t v = 0; v < 661; v++) {
            if (!isfinite(ours[v]))
                fail_msg("%s: the logit of token %zu is %g though the residual is kept in f32", backends[k], v,
                         (double)ours[v]);
            if (!isnan(halved[v]))
                fail_msg("%s: the logit of token %zu is %g though the residual was rounded to float16 at %g",
                         backends[k], v, (double)halved[v], (double)whole.peak);
        }
    }
}

enum { TEXT = 32 };

static void greedy(const char *path, const char *backend, int32_t *ids)
{
    ct_error err;
    loaded m;
    double logprob;
    const ct_sampling how = {.temperature = 0, .top_k = 1, .top_p = 1, .repeat_penalty = 1, .penalty_last = -1};
    expect_ok(load_model(&m, path, backend, 2, &err), &err);
    make_ids(ids, 8, 3, m.gemma.cfg.vocab);
    ct_session *s = open_session(&m, 64, 8, 1, false);
    expect_ok(ct_session_feed(s, ids, 8, false, NULL, NULL, NULL, &err), &err);
    for (int32_t i = 8; i < TEXT; i++) {
        expect_ok(ct_session_sample(s, &how, &ids[i], &logprob, &err), &err);
        expect_ok(ct_session_feed(s, &ids[i], 1, true, NULL, NULL, NULL, &err), &err);
    }
    ct_session_free(s);
    unload_model(&m);
}

/* The same numbers in both types give the same text, at ordinary sizes and where a float16 residual would be lost. */
static void float16_gives_the_text_of_its_twin(void **state)
{
    (void)state;
    static const float loud[] = {0, 20000};
    for (size_t i = 0; i < 2; i++)
        for (int k = 0; k < N_HOST_BACKENDS; k++) {
            int32_t half[TEXT], brain[TEXT];
            write_twins(&(st_folder){.type = CT_F16, .both = true, .loud = loud[i]});
            greedy(folder, backends[k], half);
            write_twins(&(st_folder){.type = CT_BF16, .both = true, .loud = loud[i]});
            greedy(folder, backends[k], brain);
            assert_memory_equal(half, brain, sizeof half);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives_the_logits_of_its_twin),
                                       cmocka_unit_test(a_float16_residual_would_be_lost),
                                       cmocka_unit_test(float16_gives_the_text_of_its_twin)};
    return cmocka_run_group_tests(tests, make, removed);
}
