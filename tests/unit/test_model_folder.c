/* Folders of safetensors as models: every type, spelling of names and number of shards gives the logits of the same weights in a GGUF
 * file, to the bit. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives_the_logits_of_its_twin)};
    return cmocka_run_group_tests(tests, make, removed);
}
