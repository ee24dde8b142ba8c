/* Folders of safetensors on a machine where every call of the system fails once: opened, looked at, and run for a token. */
#include "scenario.h"

#include "st_write.h"

static char folder[64];

struct run {
    struct digest digest;
    carat_model *m;
    carat_inspection *i;
};

static carat_status open_model(void *state, carat_error *err)
{
    struct run *k = state;
    carat_model_options o = carat_model_options_default();
    o.threads = 1;
    return carat_model_open(&k->m, folder, &o, err);
}

static carat_status inspect(void *state, carat_error *err)
{
    struct run *k = state;
    carat_status st = carat_inspect(&k->i, folder, err);
    if (st == CARAT_OK) {
        const carat_model_info *info = carat_inspection_info(k->i);
        digest_add(k, info->format, strlen(info->format));
        for (int32_t i = 0; i < info->n_warnings; i++)
            digest_add(k, info->warnings[i], strlen(info->warnings[i]));
    } else {
        assert_null(k->i);
    }
    return st;
}

static carat_status logits(void *state, carat_error *err)
{
    static const carat_token ids[] = {2, 7, 30, 200};
    struct run *k = state;
    carat_top top[3];
    double nll = 0;
    carat_status st = carat_logits(k->m, ids, 4, NULL, top, 3, &nll, err);
    for (size_t i = 0; i < 3 && st == CARAT_OK; i++)
        digest_add(k, &top[i].id, sizeof top[i].id);
    return st;
}

static void close_all(void *state)
{
    struct run *k = state;
    carat_inspection_free(k->i);
    carat_model_close(k->m);
}

static void opening(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_MAP, FAULT_OPEN, FAULT_STAT, FAULT_CLOSE};
    static const step steps[] = {{"inspect", inspect}, {"open", open_model}, {"logits", logits}};
    static const scenario sc = {"a folder", steps, N_OF(steps), 0, sizeof(struct run), close_all, NULL};
    scenario_all(&sc, kinds, N_OF(kinds), 60);
}

static int make(void **state)
{
    (void)state;
    ct_tensors *t;
    snprintf(folder, sizeof folder, "/tmp/carat-fault-XXXXXX");
    if (mkdtemp(folder) == NULL || ct_gguf_open(&t, TINY, NULL) != CT_OK)
        return -1;
    st_make_folder(t, folder, &(st_folder){.type = CT_BF16, .shards = 2, .vision = true}, NULL);
    ct_tensors_close(t);
    return 0;
}

static int removed(void **state)
{
    (void)state;
    return st_remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(opening)};
    return cmocka_run_group_tests(tests, make, removed);
}
